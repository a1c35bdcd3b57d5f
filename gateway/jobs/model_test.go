package jobs_test

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidegate/gateway/jobs"
)

// model is spec/jobs.md §1 and §6 on plain lists, as short as it can be said.
type model struct {
	jobs    []*modelJob
	queue   map[string][]*modelRun // by thing, in the order of queueing
	members map[string]bool
	now     int64 // minutes
}

type modelJob struct {
	id         string
	status     jobs.JobStatus
	continuous bool
	onGroup    bool
	timeout    int64
	retries    map[jobs.Status]int
	runs       map[string][]*modelRun // by thing, oldest first
	left       map[string]bool
	forced     bool
}

type modelRun struct {
	job      *modelJob
	thing    string
	number   int64
	status   jobs.Status
	version  int64
	retry    int
	deadline int64 // 0: none
}

func (m *model) push(j *modelJob, thing string, retry int) {
	x := &modelRun{job: j, thing: thing, number: int64(len(j.runs[thing]) + 1), status: jobs.Queued, version: 1, retry: retry}
	j.runs[thing] = append(j.runs[thing], x)
	j.left[thing] = false
	m.queue[thing] = append(m.queue[thing], x)
}

func (m *model) latest(j *modelJob, thing string) *modelRun {
	if l := j.runs[thing]; len(l) > 0 {
		return l[len(l)-1]
	}
	return nil
}

func (m *model) next(thing string) *modelRun {
	for _, x := range m.queue[thing] {
		if x.status == jobs.InProgress {
			return x
		}
	}
	if q := m.queue[thing]; len(q) > 0 {
		return q[0]
	}
	return nil
}

func (m *model) to(x *modelRun, s jobs.Status) {
	was := x.status
	x.status = s
	x.version++
	if s == jobs.InProgress {
		if was == jobs.Queued && x.job.timeout > 0 {
			x.deadline = m.now + x.job.timeout
		}
		return
	}
	m.queue[x.thing] = slices.DeleteFunc(m.queue[x.thing], func(y *modelRun) bool { return x == y })
	if x.job.status == jobs.Active && x.retry < x.job.retries[s] {
		m.push(x.job, x.thing, x.retry+1)
	}
	m.complete(x.job)
}

func (m *model) complete(j *modelJob) {
	if j.status != jobs.Active || j.continuous {
		return
	}
	for _, l := range j.runs {
		if s := l[len(l)-1].status; s == jobs.Queued || s == jobs.InProgress {
			return
		}
	}
	j.status = jobs.Completed
}

// pass lets a minute go by.
func (m *model) pass() {
	m.now++
	var due []*modelRun
	for _, q := range m.queue {
		for _, x := range q {
			if x.status == jobs.InProgress && x.deadline != 0 && x.deadline <= m.now {
				due = append(due, x)
			}
		}
	}
	sort.Slice(due, func(a, b int) bool {
		if due[a].job.id != due[b].job.id {
			return due[a].job.id < due[b].job.id
		}
		return due[a].thing < due[b].thing
	})
	for _, x := range due {
		m.to(x, jobs.TimedOut)
	}
}

func (m *model) counts(j *modelJob) (p jobs.ProcessDetails) {
	for _, l := range j.runs {
		switch l[len(l)-1].status {
		case jobs.Queued:
			p.Queued++
		case jobs.InProgress:
			p.InProgress++
		case jobs.Succeeded:
			p.Succeeded++
		case jobs.Failed:
			p.Failed++
		case jobs.Rejected:
			p.Rejected++
		case jobs.TimedOut:
			p.TimedOut++
		case jobs.Canceled:
			p.Canceled++
		case jobs.Removed:
			p.Removed++
		}
	}
	return p
}

func TestTheRoomAgreesWithASmallModel(t *testing.T) {
	h := newHouse(t)
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		m := &model{queue: map[string][]*modelRun{}, members: map[string]bool{}}
		var things []string
		g := fmt.Sprint("g", round)
		for i := range 3 {
			name := fmt.Sprintf("r%d-%d", round, i)
			things = append(things, name)
			h.fleet.add(g, name)
			m.members[name] = true
		}
		for n := range rapid.IntRange(1, 40).Draw(t, "steps") {
			modelStep(t, h, m, things, g, fmt.Sprintf("r%d-j%02d", round, n))
			h.work()
			compare(t, h, m, things)
		}
		for _, j := range m.jobs {
			if err := h.remove(j.id, true); err != nil {
				t.Fatal(err)
			}
		}
		m.jobs, m.queue = nil, map[string][]*modelRun{}
		compare(t, h, m, things)
	})
}

func modelStep(t *rapid.T, h *house, m *model, things []string, g, id string) {
	name := rapid.SampledFrom(things).Draw(t, "thing")
	op := rapid.IntRange(0, 12).Draw(t, "op")
	if op == 0 || len(m.jobs) == 0 {
		j := &modelJob{id: id, status: jobs.Active, runs: map[string][]*modelRun{}, left: map[string]bool{}, retries: map[jobs.Status]int{}}
		j.continuous, j.onGroup = rapid.Bool().Draw(t, "continuous"), rapid.Bool().Draw(t, "group")
		in := jobs.CreateInput{JobID: id, Targets: []string{thing(name)}}
		targets := []string{name}
		if j.onGroup {
			in.Targets, targets = []string{group(g)}, nil
			for _, n := range things {
				if m.members[n] {
					targets = append(targets, n)
				}
			}
		}
		if j.continuous {
			in.TargetSelection = "CONTINUOUS"
		}
		if rapid.Bool().Draw(t, "timeout") {
			j.timeout = int64(rapid.IntRange(1, 4).Draw(t, "minutes"))
			in.Timeout = &jobs.Timeout{Minutes: int(j.timeout)}
			j.retries[jobs.TimedOut] = rapid.IntRange(0, 2).Draw(t, "again")
			in.Retry = &jobs.Retry{Criteria: []jobs.RetryCriterion{{Failure: "TIMED_OUT", Times: j.retries[jobs.TimedOut]}}}
		} else if n := rapid.IntRange(0, 2).Draw(t, "retries"); n > 0 {
			j.retries[jobs.Failed] = n
			in.Retry = &jobs.Retry{Criteria: []jobs.RetryCriterion{{Failure: "FAILED", Times: n}}}
		}
		if err := h.create(in); err != nil {
			t.Fatal(err)
		}
		m.jobs = append(m.jobs, j)
		for _, n := range targets {
			m.push(j, n, 0)
		}
		m.complete(j)
		return
	}
	j := rapid.SampledFrom(m.jobs).Draw(t, "job")
	force := rapid.Bool().Draw(t, "force")
	x := m.latest(j, name)
	switch {
	case op <= 3:
		v := h.start(name)
		want := m.next(name)
		if want != nil && want.status == jobs.Queued {
			m.to(want, jobs.InProgress)
		}
		if (v == nil) != (want == nil) || v != nil && (v.Job != want.job.id || v.Number != want.number || v.Version != want.version) {
			t.Fatalf("started %+v, want %+v", v, want)
		}
	case op <= 6:
		s := rapid.SampledFrom([]jobs.Status{jobs.InProgress, jobs.Succeeded, jobs.Failed, jobs.Failed, jobs.Rejected}).Draw(t, "status")
		req := jobs.UpdateRequest{Status: s, State: true}
		if x != nil && rapid.IntRange(0, 3).Draw(t, "lock") == 0 {
			req.Expected = new(x.version + int64(rapid.IntRange(-1, 1).Draw(t, "off")))
		}
		up, err := h.update(name, j.id, req)
		switch {
		case x == nil:
			if err == nil {
				t.Fatal("updated what is not there")
			}
		case x.status != jobs.Queued && x.status != jobs.InProgress:
			if !errors.Is(err, jobs.ErrTransition) {
				t.Fatalf("%s became %s: %v", x.status, s, err)
			}
		case req.Expected != nil && *req.Expected != x.version:
			if !errors.Is(err, jobs.ErrVersion) {
				t.Fatal(err)
			}
		default:
			m.to(x, s)
			if err != nil || up.State.Version != x.version || up.State.Status != s {
				t.Fatalf("%+v, %v, want %+v", up, err, x)
			}
		}
	case op == 7:
		ok := j.status == jobs.Active || j.status == jobs.JobCanceled && force && !j.forced
		if err := h.cancel(j.id, force); ok != (err == nil) {
			t.Fatalf("cancel of %s: %v", j.status, err)
		}
		if !ok {
			return
		}
		j.status, j.forced = jobs.JobCanceled, force
		for _, n := range things {
			if x := m.latest(j, n); x != nil && (x.status == jobs.Queued || x.status == jobs.InProgress && force) {
				m.to(x, jobs.Canceled)
			}
		}
	case op == 8:
		err := h.commit(func(tx jobs.Tx, tell func(jobs.Notice)) error {
			return h.CancelExecution(tx, tell, j.id, name, nil, nil, force)
		})
		ok := x != nil && (x.status == jobs.Queued || x.status == jobs.InProgress && force)
		if ok != (err == nil) {
			t.Fatalf("cancel of %+v: %v", x, err)
		}
		if ok {
			m.to(x, jobs.Canceled)
		}
	case op == 9 && force:
		if err := h.remove(j.id, true); err != nil {
			t.Fatal(err)
		}
		m.jobs = slices.DeleteFunc(m.jobs, func(k *modelJob) bool { return j == k })
		for n := range m.queue {
			m.queue[n] = slices.DeleteFunc(m.queue[n], func(x *modelRun) bool { return x.job == j })
		}
	case op == 10:
		m.members[name] = !m.members[name]
		if m.members[name] {
			h.fleet.add(g, name)
		} else {
			h.fleet.leave(g, name)
		}
		h.Changed(name)
		for _, j := range m.jobs { // in the order of their ids
			if !j.continuous || !j.onGroup || j.status != jobs.Active {
				continue
			}
			x := m.latest(j, name)
			switch {
			case m.members[name] && (x == nil || j.left[name]):
				m.push(j, name, 0)
			case !m.members[name] && x != nil:
				j.left[name] = true
				if x.status == jobs.Queued || x.status == jobs.InProgress {
					m.to(x, jobs.Removed)
				}
			}
		}
	default:
		h.clk.Advance(time.Minute)
		m.pass()
	}
}

func compare(t *rapid.T, h *house, m *model, things []string) {
	for _, name := range things {
		var l jobs.Lists
		err := h.commit(func(tx jobs.Tx, _ func(jobs.Notice)) (err error) { l, err = h.Pending(tx, name); return err })
		if err != nil {
			t.Fatal(err)
		}
		var got, want []string
		for _, list := range [][]jobs.Summary{l.InProgress, l.Queued} {
			for _, s := range list {
				got = append(got, fmt.Sprint(s.Job, " ", s.Number, " ", s.Version))
			}
		}
		for _, s := range []jobs.Status{jobs.InProgress, jobs.Queued} {
			for _, x := range m.queue[name] {
				if x.status == s {
					want = append(want, fmt.Sprint(x.job.id, " ", x.number, " ", x.version))
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("pending on %s:\n%q\nwant\n%q", name, got, want)
		}
	}
	for _, j := range m.jobs {
		v, _, err := h.Show(h.db, j.id)
		if err != nil {
			t.Fatal(err)
		}
		v.Process.Targets = nil
		if v.Status != j.status || v.Forced != j.forced || fmt.Sprint(v.Process) != fmt.Sprint(m.counts(j)) {
			t.Fatalf("%s: %s %+v, want %s %+v", j.id, v.Status, v.Process, j.status, m.counts(j))
		}
		for n := range j.runs {
			x := m.latest(j, n)
			if e, err := h.ShowExecution(h.db, j.id, n, 0); err != nil || e.Status != x.status || e.Version != x.version || e.Number != x.number {
				t.Fatalf("%+v, %v, want %+v", e, err, x)
			}
		}
	}
}
