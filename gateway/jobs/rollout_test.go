package jobs_test

import (
	"fmt"
	"math/rand"
	"testing"
	"time"

	"tidegate/gateway/jobs"
)

// exponential is a rate that grows with every n things told.
func exponential(base int, factor float64, n int) *jobs.Rollout {
	e := &jobs.Exponential{Base: base, Factor: factor}
	e.Increase.Notified = n
	return &jobs.Rollout{PerMinute: 1000, Exponential: e}
}

func TestRatesHold(t *testing.T) {
	for name, c := range map[string]struct {
		rollout *jobs.Rollout
		want    []int64 // told in all at the end of each minute
	}{
		"default":     {nil, []int64{300, 300}},
		"constant":    {&jobs.Rollout{PerMinute: 70}, []int64{70, 140, 210, 280, 300}},
		"exponential": {exponential(20, 2, 50), []int64{20, 40, 60, 100, 180, 300}},
		"slow":        {&jobs.Rollout{PerMinute: 1}, []int64{1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			for i := range 300 {
				h.fleet.add("g", fmt.Sprintf("p%03d", i))
			}
			h.must(h.create(jobs.CreateInput{JobID: "j", Targets: []string{group("g")}, Settings: jobs.Settings{Rollout: c.rollout}}))
			h.work()
			for i, want := range c.want {
				if i > 0 {
					h.pass(15 * time.Second)
				}
				if i == 2 {
					h.restart()
				}
				if got := h.job("j").Process.Queued; got != want {
					t.Fatalf("minute %d: %d told, want %d", i, got, want)
				}
				h.pass(45 * time.Second)
			}
		})
	}
}

func TestARateGrowsWithSuccess(t *testing.T) {
	h := newHouse(t)
	for i := range 20 {
		h.fleet.add("g", fmt.Sprintf("p%03d", i))
	}
	r := &jobs.Rollout{Exponential: &jobs.Exponential{Base: 2, Factor: 5}}
	r.Exponential.Increase.Succeeded = 2
	h.must(h.create(jobs.CreateInput{JobID: "j", Targets: []string{group("g")}, Settings: jobs.Settings{Rollout: r}}))
	h.pass(time.Minute)
	if n := h.job("j").Process.Queued; n != 4 {
		t.Errorf("%d told, want 4", n)
	}
	h.end("p000", "j", jobs.Succeeded)
	h.end("p001", "j", jobs.Succeeded)
	h.pass(time.Minute)
	if n := h.job("j").Process.Queued; n != 12 {
		t.Errorf("%d pending, want 12", n)
	}
}

// A thousand things that behave as things do: most succeed, some fail or are refused,
// some fall silent and time out; failures are tried again.
func TestAThousandThings(t *testing.T) {
	h := newHouse(t)
	rnd := rand.New(rand.NewSource(1))
	const things = 1000
	for i := range things {
		h.fleet.add("fleet", fmt.Sprintf("p%04d", i))
	}
	h.must(h.create(jobs.CreateInput{JobID: "fw", Targets: []string{group("fleet")}, TargetSelection: "CONTINUOUS", Settings: jobs.Settings{
		Rollout: exponential(10, 1.7, 50), Timeout: &jobs.Timeout{Minutes: 5},
		Retry: &jobs.Retry{Criteria: []jobs.RetryCriterion{{Failure: "FAILED", Times: 2}, {Failure: "TIMED_OUT", Times: 1}}},
		Abort: &jobs.Abort{Criteria: []jobs.AbortCriterion{{Failure: "ALL", Action: "CANCEL", Threshold: 30, Least: 100}}}}}))
	began := time.Now()
	ran := map[string]map[int64]bool{} // which executions a thing was given to run
	minutes := 0
	for ; minutes < 240; minutes++ {
		if minutes == 7 || minutes == 11 {
			h.restart()
		}
		h.work()
		for i := range things {
			name := fmt.Sprintf("p%04d", i)
			if rnd.Intn(3) == 0 {
				continue
			}
			v := h.start(name)
			if v == nil {
				continue
			}
			if ran[name] == nil {
				ran[name] = map[int64]bool{}
			}
			ran[name][v.Number] = true
			switch n := rnd.Intn(100); {
			case n < 70:
				h.end(name, "fw", jobs.Succeeded)
			case n < 80:
				h.end(name, "fw", jobs.Failed)
			case n < 83:
				h.end(name, "fw", jobs.Rejected)
			}
		}
		h.pass(time.Minute)
		if p := h.job("fw").Process; p.Queued+p.InProgress == 0 && p.Succeeded+p.Failed+p.Rejected+p.TimedOut == things {
			break
		}
	}
	v := h.job("fw")
	p := v.Process
	t.Logf("%d minutes in %v, %d units: %+v", minutes, time.Since(began).Round(time.Millisecond), h.units, p)
	if v.Status != jobs.Active || v.Concurrent || p.Succeeded < 900 || p.Succeeded+p.Failed+p.Rejected+p.TimedOut != things {
		t.Errorf("job %+v", v)
	}
	for name, numbers := range ran { // 1, 2, … and none that was not retried for a reason
		items, _, err := h.ExecutionsOf(h.db, name, "fw", "", "", jobs.Page{})
		h.must(err)
		for i, x := range items {
			if want := len(items) - i; x.Summary.Number != int64(want) || i > 0 && x.Summary.Status != jobs.Failed && x.Summary.Status != jobs.TimedOut {
				t.Errorf("%s: %+v", name, items)
			}
			if x.Summary.Status == jobs.Succeeded && !numbers[x.Summary.Number] {
				t.Errorf("%s succeeded in what it was not given", name)
			}
		}
	}
	// One that joins is told at once, whatever the rate.
	h.heard()
	h.fleet.add("fleet", "late")
	h.Changed("late")
	h.work()
	h.hears("notify late fw#1", "next late fw#1 QUEUED")
}

func TestAThousandThingsAreSpared(t *testing.T) {
	h := newHouse(t)
	for i := range 1000 {
		h.fleet.add("fleet", fmt.Sprintf("p%04d", i))
	}
	h.must(h.create(jobs.CreateInput{JobID: "bad", Targets: []string{group("fleet")}, TargetSelection: "CONTINUOUS", Settings: jobs.Settings{
		Rollout: &jobs.Rollout{PerMinute: 400}, Abort: &jobs.Abort{Criteria: []jobs.AbortCriterion{{Failure: "FAILED", Action: "CANCEL", Threshold: 20.5, Least: 10}}}}}))
	h.work()
	for i := range 10 {
		s := jobs.Succeeded
		if i%3 == 0 {
			s = jobs.Failed
		}
		h.end(fmt.Sprintf("p%04d", i), "bad", s)
	}
	v := h.start("p0399") // the sweep has not come this far: it is not run any more
	if v != nil {
		t.Errorf("started %+v", v)
	}
	h.restart() // in the middle of the sweep
	h.pass(10 * time.Minute)
	if p := h.job("bad").Process; p.Failed != 4 || p.Succeeded != 6 || p.Canceled != 390 || p.Queued != 0 {
		t.Errorf("things %+v", p)
	}
	if v := h.job("bad"); v.Status != jobs.JobCanceled || v.Concurrent {
		t.Errorf("job %+v", v)
	}
}

// BenchmarkRun is what one execution costs without the sync: queued, started, ended.
func BenchmarkRun(b *testing.B) {
	h := newHouse(b)
	for i := range 1000 {
		h.fleet.add("", fmt.Sprintf("p%04d", i))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		name, id := fmt.Sprintf("p%04d", i%1000), fmt.Sprint("j", i)
		h.must(h.create(jobs.CreateInput{JobID: id, Targets: []string{thing(name)}}))
		h.start(name)
		h.end(name, id, jobs.Succeeded)
		h.told = nil
	}
}
