package jobs

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"tidegate/gateway/fault"
)

// perStep is how many executions one step of a job changes: each may cause three
// messages, and what goes with a unit is bounded.
const perStep = 50

// looksPerStep is how many things one step of a rollout looks at without telling them.
const looksPerStep = 500

// minute is the length of what a rate is about.
const minute = 60_000

// advance does what is due for a job and makes its next appointment.
func (c *change) advance(j *jobChange) error {
	j.st.Alarm, j.again, j.dirty = 0, true, true
	if j.st.Sweep != noSweep {
		return c.sweep(j)
	}
	start, end := j.times()
	if j.st.Status == Scheduled {
		if !c.trusted || c.now < start {
			j.at(start)
			return nil
		}
		if err := c.begin(j); err != nil {
			return err
		}
	}
	if j.st.Status != Active || j.st.Stopped {
		return nil
	}
	if end != 0 {
		if c.trusted && c.now >= end {
			return c.end(j)
		}
		j.at(end)
	}
	if j.st.Rolling {
		return c.rollout(j)
	}
	return nil
}

// begin starts a job: from here on it has things to come to.
func (c *change) begin(j *jobChange) error {
	var names []string
	for _, arn := range j.Targets {
		name, group, _ := c.r.target(arn)
		if group {
			names = append(names, c.r.Fleet.Members(name)...)
		} else {
			names = append(names, name)
		}
	}
	j.st.Status, j.st.Updated = Active, c.now
	c.comeTo(j, names)
	return nil
}

// comeTo adds things to a rollout.
func (c *change) comeTo(j *jobChange, names []string) {
	seen := make(map[string]bool, len(names))
	fresh := names[:0:0]
	for _, n := range names {
		if !seen[n] {
			seen[n] = true
			fresh = append(fresh, n)
		}
	}
	for part := range slices.Chunk(fresh, perChunk) {
		c.put(chunkKey(j.ID, j.st.Chunks), []byte(strings.Join(part, "\n")))
		j.st.Chunks++
	}
	j.st.Rolling, j.dirty = j.st.Chunk < j.st.Chunks, true
}

// rollout comes to as many things as the rate and a unit allow.
func (c *change) rollout(j *jobChange) error {
	if open, until := j.open(c); !open {
		j.at(until)
		return nil
	}
	if st := &j.st; st.Minute == 0 || c.now >= st.Minute+minute || st.Minute > c.now {
		st.Minute, st.InMinute, st.Rate = c.now, 0, j.rate()
	}
	room := min(perStep, int(j.st.Rate)-j.st.InMinute)
	for looks := 0; room > 0 && looks < looksPerStep && j.st.Chunk < j.st.Chunks; {
		names, err := chunk(c, j.ID, j.st.Chunk)
		if err != nil {
			return err
		}
		for ; j.st.Offset < len(names) && room > 0 && looks < looksPerStep; j.st.Offset++ {
			looks++
			told, err := c.tellFirst(j, names[j.st.Offset])
			if err != nil {
				return err
			}
			if told {
				room--
				j.st.InMinute++
				j.st.Notified++
			}
		}
		if j.st.Offset >= len(names) {
			c.del(chunkKey(j.ID, j.st.Chunk))
			j.st.Chunk++
			j.st.Offset = 0
		}
	}
	switch {
	case j.st.Chunk >= j.st.Chunks:
		j.st.Rolling = false
		j.st.Updated = c.now
	case int(j.st.Rate)-j.st.InMinute <= 0:
		j.at(j.st.Minute + minute)
	default:
		j.at(c.now)
	}
	return nil
}

// tellFirst queues the job for a thing that a rollout has come to, unless it is gone or
// has had it already.
func (c *change) tellFirst(j *jobChange, name string) (told bool, err error) {
	if !c.r.Fleet.Thing(name) || j.Continuous && !c.r.inTargets(j.Job, name) {
		return false, nil
	}
	t, err := c.thing(name)
	if err != nil {
		return false, err
	}
	rec, err := c.record(t, j.ID)
	if err != nil || rec.exists() && !rec.Left {
		return false, err
	}
	c.enqueue(j, t, rec, 0, 0)
	return true, nil
}

// inTargets says whether a thing is, now, among the targets of a job.
func (r *Room) inTargets(j *Job, thing string) bool {
	return slices.ContainsFunc(j.Targets, func(arn string) bool {
		name, group, _ := r.target(arn)
		return group && r.Fleet.Within(thing, name) || !group && name == thing
	})
}

// rate gives how many things a minute may be told from now on (spec/jobs.md §2). It is
// fixed for a minute at its beginning, or a rate that grows with the number of things
// told would run away within one.
func (j *jobChange) rate() float64 {
	top := float64(maxRate)
	r := j.Rollout
	if r == nil {
		return top
	}
	if r.PerMinute > 0 {
		top = float64(r.PerMinute)
	}
	e := r.Exponential
	if e == nil {
		return top
	}
	steps := int64(0)
	if n := e.Increase.Notified; n > 0 {
		steps = j.st.Notified / int64(n)
	} else if n := e.Increase.Succeeded; n > 0 {
		steps = j.st.Counts.Succeeded / int64(n)
	}
	return max(1, min(top, float64(e.Base)*math.Pow(e.Factor, float64(min(steps, 1000)))))
}

// end does what a job's end time asks for.
func (c *change) end(j *jobChange) error {
	switch j.Scheduling.EndBehavior {
	case "STOP_ROLLOUT":
		j.st.Stopped, j.st.Rolling, j.st.Updated = true, false, c.now
		c.dropChunks(j)
		return nil
	case "FORCE_CANCEL":
		return c.cancel(j, true)
	}
	return c.cancel(j, false)
}

func (c *change) dropChunks(j *jobChange) {
	for ; j.st.Chunk < j.st.Chunks; j.st.Chunk++ {
		c.del(chunkKey(j.ID, j.st.Chunk))
	}
	j.st.Offset = 0
}

// cancel ends a job: what is queued, with force also what is in progress, is cancelled.
func (c *change) cancel(j *jobChange, force bool) error {
	j.st.Status, j.st.Forced, j.st.Updated = JobCanceled, force, c.now
	j.st.Rolling, j.dirty = false, true
	c.dropChunks(j)
	c.happened(j, "cancellation_in_progress")
	j.st.Sweep, j.st.SweepAfter = sweepCancel, ""
	if force {
		j.st.Sweep = sweepForce
	}
	return c.sweep(j)
}

// remove deletes a job with everything that belongs to it.
func (c *change) remove(j *jobChange) error {
	j.st.Status, j.st.Updated, j.st.Rolling, j.dirty = Deleting, c.now, false, true
	c.dropChunks(j)
	c.happened(j, "deletion_in_progress")
	j.st.Sweep, j.st.SweepAfter = sweepDelete, ""
	return c.sweep(j)
}

// sweep does to some executions of a job what has to be done to all.
func (c *change) sweep(j *jobChange) error {
	j.dirty = true
	names, more, err := c.sweepNext(j)
	if err != nil {
		return err
	}
	for _, name := range names {
		t, err := c.thing(name)
		if err != nil {
			return err
		}
		rec, err := c.record(t, j.ID)
		if err != nil {
			return err
		}
		c.sweepRecord(j, t, rec)
		j.st.SweepAfter = name
	}
	if more {
		j.at(c.now)
		return nil
	}
	done := j.st.Sweep
	j.st.Sweep, j.st.SweepAfter = noSweep, ""
	if done == sweepDelete {
		j.gone = true
		c.happened(j, "deleted")
	} else {
		c.happened(j, "canceled")
	}
	return nil
}

func (c *change) sweepRecord(j *jobChange, t *thingChange, rec *recordChange) {
	if j.st.Sweep == sweepDelete {
		for len(rec.Runs) > 0 {
			c.erase(j, t, rec, len(rec.Runs)-1)
		}
		rec.gone, rec.dirty = true, true
		return
	}
	x := rec.latest()
	if x == nil {
		return
	}
	who := service
	if j.st.Sweep == sweepForce {
		who = force
	}
	if may(who, x.Status, Canceled) {
		x.Forced = x.Status == InProgress
		c.move(j, t, rec, x, Canceled)
	}
}

// erase deletes an execution for good.
func (c *change) erase(j *jobChange, t *thingChange, rec *recordChange, i int) {
	x := &rec.Runs[i]
	c.ended(j, t.name, x, "DELETED")
	t.queue = slices.DeleteFunc(t.queue, func(p pending) bool { return p.Job == j.ID && p.Number == x.Number })
	if x.Alarm != 0 {
		c.del(alarmKey(x.Alarm, alarmExec, j.ID, t.name))
	}
	latest := i == len(rec.Runs)-1
	if latest {
		*j.st.Counts.of(x.Status)--
	}
	rec.Runs = slices.Delete(rec.Runs, i, i+1)
	if prev := rec.latest(); latest && prev != nil {
		*j.st.Counts.of(prev.Status)++
	}
	rec.dirty, j.dirty, j.judging = true, true, true
}

// sweepNext gives the next things a sweep has to look at, and whether there are more. All
// executions of a job are written under its lock, so the store has seen them.
func (c *change) sweepNext(j *jobChange) (names []string, more bool, err error) {
	const atOnce = 5000
	r, after := c.r, j.st.SweepAfter
	var list []string
	rescanned := false
	if after != "" { // before the first step is committed others may still add to it
		r.mu.Lock()
		list = r.sweeps[j.ID]
		r.mu.Unlock()
	}
	if i, _ := slices.BinarySearch(list, after+"\x00"); i < len(list) {
		list = list[i:]
	} else {
		prefix := recordKey(j.ID, "")
		list, rescanned = nil, true
		err := r.Store.Scan(prefix, func(key string, _ []byte) bool {
			if name := key[len(prefix):]; name > after {
				list = append(list, name)
			}
			return len(list) < atOnce
		})
		if err != nil {
			return nil, false, fault.Wrap(fault.Internal, err, "jobs cannot be read")
		}
	}
	if len(list) == 0 {
		return nil, false, nil
	}
	if len(list) <= perStep { // a next step looks whether the list was cut off here
		return list, !rescanned, nil
	}
	id := j.ID
	c.then(func() {
		r.mu.Lock()
		r.sweeps[id] = list
		r.mu.Unlock()
	})
	return list[:perStep], true, nil
}

// abortedBy gives the criterion that cancels the job now, nil when none does.
func (j *jobChange) abortedBy() *AbortCriterion {
	if j.Abort == nil {
		return nil
	}
	for i := range j.Abort.Criteria {
		a := &j.Abort.Criteria[i]
		done := j.st.Counts.executed()
		if done >= a.Least && 100*float64(j.st.Counts.failures(a.Failure)) >= a.Threshold*float64(done) {
			return a
		}
	}
	return nil
}

func abortComment(a *AbortCriterion, n *Counts) string {
	return fmt.Sprintf("%d of %d executions ended with %s: at least %g percent of no fewer than %d", n.failures(a.Failure), n.executed(), a.Failure, a.Threshold, a.Least)
}
