package jobs

import (
	"slices"
	"strings"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/store"
)

// change is what one unit does to jobs and things. Everything is read once, changed in
// memory, and written by finish, which also works out what has to be told: so a thing
// hears once of all that happened to it.
type change struct {
	r       *Room
	tx      Tx
	now     int64 // milliseconds
	trusted bool
	jobs    []*jobChange
	things  []*thingChange
	facts   []Notice // events, in order

	// What finish writes when nothing can fail any more, so that a refusal leaves the unit
	// as it was and can itself be committed.
	writes []write
	thens  []func()
}

type write struct {
	key string
	val []byte
	del bool
}

func (c *change) put(key string, val []byte) { c.writes = append(c.writes, write{key: key, val: val}) }

func (c *change) del(key string) { c.writes = append(c.writes, write{key: key, del: true}) }

// then has f called when the unit is on the disk.
func (c *change) then(f func()) { c.thens = append(c.thens, f) }

// Get reads what will be stored.
func (c *change) Get(key string) ([]byte, error) {
	for i := len(c.writes) - 1; i >= 0; i-- {
		if w := &c.writes[i]; w.key == key {
			return w.val, nil
		}
	}
	return c.tx.Get(key)
}

// jobChange is a job within a change.
type jobChange struct {
	*Job
	st      state
	was     int64 // its alarm, as stored
	dirty   bool
	define  bool // the definition is new
	gone    bool
	judging bool // some execution has ended
	again   bool // its appointment was kept: the next one is new even if at the same time
}

// thingChange is a thing within a change.
type thingChange struct {
	name   string
	queue  []pending
	before []pending
	recs   map[string]*recordChange // by job
}

type recordChange struct {
	record
	dirty, fresh, gone bool
}

func (r *Room) change(tx Tx) *change {
	return &change{r: r, tx: tx, now: r.Clock.Now().UnixMilli(), trusted: r.Clock.Trusted()}
}

// job locks and reads a job, nil when there is none.
func (c *change) job(id string) (*jobChange, error) {
	for _, j := range c.jobs {
		if j.ID == id {
			if j.gone {
				return nil, nil
			}
			return j, nil
		}
	}
	if !named(id) {
		return nil, nil
	}
	c.tx.Lock(keyState + id)
	j := &jobChange{}
	ok, err := get(c, keyState+id, &j.st)
	if !ok || err != nil {
		return nil, err
	}
	raw, err := c.Get(keyJob + id)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "jobs cannot be read")
	}
	if j.Job, err = c.r.parseJob(id, raw); err != nil {
		return nil, err
	}
	j.was = j.st.Alarm
	c.jobs = append(c.jobs, j)
	return j, nil
}

// must is job for one that is asked for by name.
func (c *change) must(id string) (*jobChange, error) {
	j, err := c.job(id)
	if err == nil && j == nil {
		err = fault.New(fault.NotFound, "Job %s does not exist", id)
	}
	return j, err
}

// thing locks a thing and reads what is pending there.
func (c *change) thing(name string) (*thingChange, error) {
	for _, t := range c.things {
		if t.name == name {
			return t, nil
		}
	}
	c.tx.Lock(keyPending + name)
	t := &thingChange{name: name, recs: map[string]*recordChange{}}
	if _, err := get(c, keyPending+name, &t.queue); err != nil {
		return nil, err
	}
	t.before = slices.Clone(t.queue)
	c.things = append(c.things, t)
	return t, nil
}

// record reads the executions of a job on t; one without any is made where there is none.
// To change it the job must be locked, too.
func (c *change) record(t *thingChange, job string) (*recordChange, error) {
	if rec := t.recs[job]; rec != nil {
		return rec, nil
	}
	rec := &recordChange{}
	ok, err := get(c, recordKey(job, t.name), &rec.record)
	if err != nil {
		return nil, err
	}
	rec.fresh = !ok
	t.recs[job] = rec
	return rec, nil
}

// exists says whether the job has, or had, an execution there.
func (rec *recordChange) exists() bool { return !rec.fresh || rec.dirty }

// enqueue makes a new execution: the retry-th try again, after so many time-outs.
func (c *change) enqueue(j *jobChange, t *thingChange, rec *recordChange, retry, timeouts int) {
	if x := rec.latest(); x != nil {
		*j.st.Counts.of(x.Status)--
	}
	rec.Last++
	rec.Left, rec.dirty = false, true
	rec.Runs = append(rec.Runs, Execution{Number: rec.Last, Status: Queued, Queued: c.now, Updated: c.now, Version: 1, Retry: retry, Timeouts: timeouts})
	j.st.Counts.Queued++
	j.dirty = true
	t.queue = append(t.queue, pending{Job: j.ID, Number: rec.Last, Namespace: j.Namespace})
}

// move takes an execution to another state; whether that is allowed has been asked. A
// failure may be followed by a retry.
func (c *change) move(j *jobChange, t *thingChange, rec *recordChange, x *Execution, to Status) {
	from := x.Status
	latest := x.Number == rec.Runs[len(rec.Runs)-1].Number
	x.Status, x.Updated = to, c.now
	x.Version++
	rec.dirty = true
	if from == to {
		return
	}
	if latest {
		*j.st.Counts.of(from)--
		*j.st.Counts.of(to)++
		j.dirty = true
	}
	at := slices.IndexFunc(t.queue, func(p pending) bool { return p.Job == j.ID && p.Number == x.Number })
	if to == InProgress {
		x.Started = c.now
		if j.Timeout != nil {
			x.RunMinutes = j.Timeout.Minutes
		}
		if at >= 0 {
			t.queue[at].Started = true
		}
		return
	}
	if at >= 0 {
		t.queue = slices.Delete(t.queue, at, at+1)
	}
	j.judging = true
	c.ended(j, t.name, x, string(to))
	if latest && j.st.Status == Active && j.Retry.again(x) {
		timeouts := x.Timeouts
		if to == TimedOut {
			timeouts++
		}
		c.enqueue(j, t, rec, x.Retry+1, timeouts) // x is no longer valid
	}
}

// ended notes the event that an execution is over.
func (c *change) ended(j *jobChange, thing string, x *Execution, what string) {
	if j.Signer != "" || c.wants("JOB_EXECUTION") {
		c.facts = append(c.facts, ExecutionEvent{Job: j.ID, ThingARN: c.r.ThingARN(thing), What: what, Details: x.Details, At: c.now})
	}
}

func (c *change) wants(kind string) bool { return c.r.Events != nil && c.r.Events(kind) }

// finish judges the jobs that executions have ended of, writes everything, and tells.
func (c *change) finish(tell func(Notice)) error {
	for i := 0; i < len(c.jobs); i++ {
		if err := c.judge(c.jobs[i]); err != nil {
			return err
		}
	}
	for _, t := range c.things {
		if err := c.writeThing(t); err != nil {
			return err
		}
	}
	for _, j := range c.jobs {
		c.writeJob(j)
	}
	var told []Notice
	for _, t := range c.things {
		if err := c.tellThing(t, func(n Notice) { told = append(told, n) }); err != nil {
			return err
		}
	}
	for _, w := range c.writes {
		if w.del {
			c.tx.Del(w.key)
		} else {
			c.tx.Put(w.key, w.val)
		}
	}
	for _, f := range c.thens {
		c.tx.Then(func(_ uint64, err error) {
			if err == nil {
				f()
			}
		})
	}
	for _, n := range append(told, c.facts...) {
		tell(n)
	}
	return nil
}

// judge holds a job against its abort criteria and sees whether it is complete.
func (c *change) judge(j *jobChange) error {
	if j.gone || !j.dirty || j.st.Status != Active {
		return nil
	}
	if j.judging {
		j.judging = false
		if a := j.abortedBy(); a != nil {
			j.st.Reason = "ABORT_CRITERIA_MET"
			j.st.Comment = abortComment(a, &j.st.Counts)
			if err := c.cancel(j, false); err != nil {
				return err
			}
			return nil
		}
	}
	if (!j.Continuous || j.st.Stopped) && !j.st.Rolling && j.st.Counts.pending() == 0 {
		c.complete(j)
	}
	return nil
}

func (c *change) complete(j *jobChange) {
	j.st.Status, j.st.Completed, j.st.Updated = Completed, c.now, c.now
	j.dirty = true
	c.happened(j, "completed")
}

// happened notes an event of a job.
func (c *change) happened(j *jobChange, what string) {
	if j.Signer != "" || c.wants("JOB") {
		c.facts = append(c.facts, JobEvent{What: what, View: c.r.view(j.Job, &j.st), At: c.now})
	}
}

// writeThing writes the pending list, the records that changed, and their appointments.
func (c *change) writeThing(t *thingChange) error {
	if !slices.Equal(t.queue, t.before) {
		if len(t.queue) == 0 {
			c.del(keyPending + t.name)
		} else {
			c.put(keyPending+t.name, store.JSON(t.queue))
		}
	}
	jobs := make([]string, 0, len(t.recs))
	for id, rec := range t.recs {
		if rec.dirty {
			jobs = append(jobs, id)
		}
	}
	slices.Sort(jobs) // a unit that is built again must not depend on the order of a map
	for _, id := range jobs {
		rec := t.recs[id]
		key := recordKey(id, t.name)
		for i := range rec.Runs {
			c.appoint(id, t.name, &rec.Runs[i])
		}
		if rec.gone {
			c.del(key)
			c.del(keyByThing + t.name + "/" + id)
			continue
		}
		c.put(key, store.JSON(&rec.record))
		if rec.fresh {
			c.put(keyByThing+t.name+"/"+id, nil)
		}
	}
	return nil
}

// appoint brings an execution's appointment in line with its timers.
func (c *change) appoint(job, thing string, x *Execution) {
	if c.trusted && x.Status == InProgress {
		x.date(c.now)
	}
	want := x.end()
	if want == 0 && x.undated() {
		want = -1
	}
	if want == x.Alarm {
		return
	}
	if x.Alarm != 0 {
		c.del(alarmKey(x.Alarm, alarmExec, job, thing))
	}
	if x.Alarm = want; want != 0 {
		c.alarm(alarmKey(want, alarmExec, job, thing))
	}
}

// alarm makes an appointment that holds once the unit is on the disk.
func (c *change) alarm(key string) {
	c.put(key, nil)
	r := c.r
	c.then(func() {
		r.mu.Lock()
		r.alarms.push(alarm{key: key, at: alarmAt(key)})
		r.mu.Unlock()
		r.awake()
	})
}

// at has a job looked at no later than at.
func (j *jobChange) at(at int64) {
	if j.st.Alarm == 0 || at < j.st.Alarm {
		j.st.Alarm = at
	}
	j.dirty = true
}

func (c *change) writeJob(j *jobChange) {
	if !j.dirty && !j.gone && !j.define {
		return
	}
	id := j.ID
	if j.was != 0 && (j.gone || j.was != j.st.Alarm) {
		c.del(alarmKey(j.was, alarmJob, id, ""))
	}
	r := c.r
	if j.gone {
		c.del(keyState + id)
		c.del(keyJob + id)
		c.then(func() {
			r.mu.Lock()
			delete(r.live, id)
			delete(r.sweeps, id)
			r.mu.Unlock()
			r.defs.Delete(id)
		})
		return
	}
	if j.define {
		j.raw = store.JSON(j.Job)
		c.put(keyJob+id, j.raw)
	}
	if j.st.Alarm != 0 && (j.was != j.st.Alarm || j.again) {
		c.alarm(alarmKey(j.st.Alarm, alarmJob, id, ""))
	}
	c.put(keyState+id, store.JSON(&j.st))
	job, on := j.Job, j.st.Status.active()
	c.then(func() {
		r.mu.Lock()
		if on {
			r.live[id] = r.liveOf(job)
		} else {
			delete(r.live, id)
		}
		r.mu.Unlock()
	})
}

// head gives the place that comes next: what is in progress before what is queued, each
// in the order in which it was queued (spec/jobs.md §1.3); -1 when nothing is pending.
func head(queue []pending) int {
	if i := slices.IndexFunc(queue, func(p pending) bool { return p.Started }); i >= 0 {
		return i
	}
	return min(0, len(queue)-1)
}

// same says whether two places are of the same execution.
func (p pending) same(q pending) bool { return p.Job == q.Job && p.Number == q.Number }

// tellThing works out what a thing has to hear (spec/jobs.md §3.3): the list when its
// members have changed, the next one when another comes next.
func (c *change) tellThing(t *thingChange, tell func(Notice)) error {
	var spaces []string
	for _, list := range [2][2][]pending{{t.before, t.queue}, {t.queue, t.before}} {
		for _, p := range list[0] {
			if !slices.ContainsFunc(list[1], p.same) && !slices.Contains(spaces, p.Namespace) {
				spaces = append(spaces, p.Namespace)
			}
		}
	}
	slices.Sort(spaces)
	for _, ns := range spaces {
		n, err := c.list(t, ns, true)
		if err != nil {
			return err
		}
		tell(PendingNotice{Thing: t.name, Namespace: ns, Lists: n, At: c.now})
	}
	a, b := head(t.before), head(t.queue)
	if a < 0 && b < 0 || a >= 0 && b >= 0 && t.before[a].same(t.queue[b]) {
		return nil
	}
	n := NextNotice{Thing: t.name, At: c.now}
	if b >= 0 {
		v, err := c.view(t, t.queue[b].Job, t.queue[b].Number, true)
		if err != nil {
			return err
		}
		n.Next = v
	}
	tell(n)
	return nil
}

// list gives what is pending on a thing, for a notification only as much as that may
// hold, and only what is in namespace ns.
func (c *change) list(t *thingChange, ns string, notice bool) (Lists, error) {
	l := Lists{InProgress: []Summary{}, Queued: []Summary{}}
	n := 0
	for _, started := range []bool{true, false} {
		for _, p := range t.queue {
			if p.Started != started || notice && p.Namespace != ns {
				continue
			}
			if n++; notice && c.r.Limits.Notified > 0 && n > c.r.Limits.Notified {
				return l, nil
			}
			rec, err := c.record(t, p.Job)
			if err != nil {
				return l, err
			}
			x := rec.find(p.Number)
			if x == nil {
				return l, fault.New(fault.Internal, "a pending execution is missing")
			}
			s := Summary{Job: p.Job, Number: x.Number, Version: x.Version, Queued: x.Queued, Started: x.Started, Updated: x.Updated}
			if started {
				l.InProgress = append(l.InProgress, s)
			} else {
				l.Queued = append(l.Queued, s)
			}
		}
	}
	return l, nil
}

// view gives an execution as its thing sees it.
func (c *change) view(t *thingChange, job string, number int64, document bool) (*View, error) {
	rec, err := c.record(t, job)
	if err != nil {
		return nil, err
	}
	x := rec.find(number)
	if x == nil {
		return nil, fault.New(fault.Internal, "a pending execution is missing")
	}
	v := &View{Job: job, Thing: t.name, Execution: *x, SecondsLeft: -1}
	if end := x.end(); end != 0 {
		v.SecondsLeft = max(0, (end-c.now+999)/1000)
	}
	if document {
		v.Document, err = c.document(job, t.name)
	}
	return v, err
}

// document gives a job's document as a thing gets it.
func (c *change) document(job, thing string) (string, error) {
	raw, err := c.Get(keyJob + job)
	if err != nil {
		return "", fault.Wrap(fault.Internal, err, "jobs cannot be read")
	}
	for _, j := range c.jobs { // one that is made in this unit is not stored yet
		if j.ID == job {
			raw = j.raw
		}
	}
	j, err := c.r.parseJob(job, raw)
	if err != nil {
		return "", err
	}
	if c.r.Presign == nil || !strings.Contains(j.Document, "${aws:iot:s3-presigned-url") {
		return j.Document, nil
	}
	valid := time.Hour
	if j.Presign != nil && j.Presign.Seconds > 0 {
		valid = time.Duration(j.Presign.Seconds) * time.Second
	}
	return presign(j.Document, func(source string) (string, error) { return c.r.Presign(thing, source, valid) })
}
