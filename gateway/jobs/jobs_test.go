package jobs_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/jobs"
)

func TestAJobGoesItsWay(t *testing.T) {
	h := newHouse(t)
	h.fleet.add("", "p1", "p2")
	h.events["JOB"], h.events["JOB_EXECUTION"] = true, true
	h.must(h.create(jobs.CreateInput{JobID: "j", Targets: []string{thing("p1"), thing("p2"), thing("p1")}}))
	h.hears("notify p1 j#1", "next p1 j#1 QUEUED", "notify p2 j#1", "next p2 j#1 QUEUED")
	if v := h.start("p1"); v.Version != 2 || v.Status != jobs.InProgress || v.Document != `{"op":"x"}` {
		t.Errorf("started %+v", v)
	}
	h.hears()
	h.end("p1", "j", jobs.Succeeded)
	h.hears("notify p1", "next p1", "event j p1 SUCCEEDED")
	h.end("p2", "j", jobs.Rejected) // without having been in progress
	h.hears("notify p2", "next p2", "event j p2 REJECTED", "event j completed")
	v := h.job("j")
	if v.Status != jobs.Completed || v.Completed == 0 || v.Process.Succeeded != 1 || v.Process.Rejected != 1 || v.Concurrent {
		t.Errorf("job %+v", v)
	}
	if h.start("p1") != nil {
		t.Error("something is pending")
	}
}

func TestEveryTransition(t *testing.T) {
	h := newHouse(t)
	h.fleet.add("", "p")
	all := []jobs.Status{jobs.Queued, jobs.InProgress, jobs.Succeeded, jobs.Failed, jobs.Rejected, jobs.TimedOut, jobs.Canceled, jobs.Removed}
	n := 0
	// reach makes a new job and takes its execution to a state.
	reach := func(s jobs.Status) string {
		n++
		id := fmt.Sprint("j", n)
		h.fleet.add("", "p")
		h.must(h.create(jobs.CreateInput{JobID: id, Targets: []string{thing("p")}, Settings: jobs.Settings{Timeout: &jobs.Timeout{Minutes: 1}}}))
		switch s {
		case jobs.Queued:
		case jobs.TimedOut:
			h.end("p", id, jobs.InProgress)
			h.pass(time.Minute)
		case jobs.Canceled:
			h.must(h.cancel(id, false))
		case jobs.Removed:
			h.fleet.drop("p")
			h.Changed("p")
			h.work()
		default:
			h.end("p", id, s)
		}
		h.is(id, "p", s)
		return id
	}
	for _, from := range all {
		for _, to := range all {
			id := reach(from)
			_, err := h.update("p", id, jobs.UpdateRequest{Status: to})
			pending := from == jobs.Queued || from == jobs.InProgress
			byDevice := to == jobs.InProgress || to == jobs.Succeeded || to == jobs.Failed || to == jobs.Rejected
			var stands *jobs.StateError
			switch {
			case pending && byDevice:
				h.must(err)
				h.is(id, "p", to)
			case !byDevice:
				h.refused(err, fault.Invalid)
			case !errors.As(err, &stands) || !errors.Is(err, jobs.ErrTransition) || stands.Now.Status != from:
				t.Errorf("%s to %s: %v", from, to, err)
			}
			h.must(h.remove(id, true))
		}
		for _, force := range []bool{false, true} {
			id := reach(from)
			err := h.commit(func(tx jobs.Tx, tell func(jobs.Notice)) error {
				return h.CancelExecution(tx, tell, id, "p", nil, nil, force)
			})
			if want := from == jobs.Queued || from == jobs.InProgress && force; want != (err == nil) || !want && !errors.Is(err, jobs.ErrTransition) {
				t.Errorf("cancel of %s, force %v: %v", from, force, err)
			}
			if err == nil && h.execution(id, "p").Forced != (from == jobs.InProgress) {
				t.Errorf("cancel of %s: forced is wrong", from)
			}
			h.must(h.remove(id, true))
		}
	}
}

func TestTimersRunAndStop(t *testing.T) {
	h := newHouse(t)
	h.fleet.add("", "p")
	h.must(h.create(jobs.CreateInput{JobID: "j", Targets: []string{thing("p")}, Settings: jobs.Settings{Timeout: &jobs.Timeout{Minutes: 20}}}))
	h.pass(time.Hour)
	h.is("j", "p", jobs.Queued)
	h.end("p", "j", jobs.InProgress) // 0:00
	left := func(want int64) {
		t.Helper()
		if v := h.execution("j", "p"); v.SecondsLeft == nil || *v.SecondsLeft != want {
			t.Errorf("%v s left, want %d", v.SecondsLeft, want)
		}
	}
	left(1200)
	step := func(n int) {
		_, err := h.update("p", "j", jobs.UpdateRequest{Status: jobs.InProgress, Step: n})
		h.must(err)
	}
	step(7)
	left(420)
	h.pass(6 * time.Minute) // 0:06
	step(0)
	left(60)
	step(-1)
	left(840)
	h.pass(7 * time.Minute) // 0:13
	step(9)                 // bounded by 0:20
	left(420)
	h.restart() // in the middle of it
	h.pass(7*time.Minute - 15*time.Second)
	h.is("j", "p", jobs.InProgress)
	h.heard()
	h.pass(15 * time.Second)
	h.is("j", "p", jobs.TimedOut)
	h.hears("notify p", "next p")
	if v := h.job("j"); v.Status != jobs.Completed || v.Process.TimedOut != 1 {
		t.Errorf("job %+v", v)
	}
}

func TestWhoseTimeIsUpHasTimedOutBeforeWorkComesToIt(t *testing.T) {
	h := newHouse(t)
	h.fleet.add("", "p")
	late := jobs.Settings{Timeout: &jobs.Timeout{Minutes: 1}}
	again := late
	again.Retry = &jobs.Retry{Criteria: []jobs.RetryCriterion{{Failure: "TIMED_OUT", Times: 1}}}
	h.must(h.create(jobs.CreateInput{JobID: "late", Targets: []string{thing("p")}, Settings: late}))
	h.must(h.create(jobs.CreateInput{JobID: "again", Targets: []string{thing("p")}, Settings: again}))
	h.must(h.create(jobs.CreateInput{JobID: "idle", Targets: []string{thing("p")}}))
	h.end("p", "late", jobs.InProgress)
	h.end("p", "again", jobs.InProgress)
	h.clk.Advance(time.Minute) // and nobody works
	_, err := h.update("p", "late", jobs.UpdateRequest{Status: jobs.Succeeded})
	var stands *jobs.StateError
	if !errors.As(err, &stands) || stands.Now.Status != jobs.TimedOut {
		t.Fatalf("updated after its end: %v", err)
	}
	h.heard()
	if v := h.start("p"); v.Job != "idle" || v.Status != jobs.InProgress {
		t.Fatalf("started %+v, want what waits longest", v)
	}
	h.hears("notify p +idle#1 again#2", "next p idle#1 IN_PROGRESS")
	h.is("late", "p", jobs.TimedOut)
	h.is("again", "p", jobs.Queued)
	h.work()
	h.hears()
}

func TestTimersWaitForTheDate(t *testing.T) {
	h := newHouse(t)
	h.fleet.add("", "p")
	h.clk.Set(time.Unix(1000, 0))
	h.clk.SetTrusted(false)
	h.must(h.create(jobs.CreateInput{JobID: "j", Targets: []string{thing("p")}, Settings: jobs.Settings{Timeout: &jobs.Timeout{Minutes: 5}}}))
	h.end("p", "j", jobs.InProgress)
	h.pass(time.Hour)
	h.is("j", "p", jobs.InProgress)
	h.restart()
	h.work()
	h.clk.SetTrusted(true)
	h.clk.Set(t0)
	h.pass(4 * time.Minute)
	h.is("j", "p", jobs.InProgress)
	h.pass(2 * time.Minute)
	h.is("j", "p", jobs.TimedOut)
}

func TestRetries(t *testing.T) {
	h := newHouse(t)
	h.fleet.add("", "p")
	h.events["JOB_EXECUTION"] = true
	h.must(h.create(jobs.CreateInput{JobID: "j", Targets: []string{thing("p")}, Settings: jobs.Settings{Timeout: &jobs.Timeout{Minutes: 1},
		Retry: &jobs.Retry{Criteria: []jobs.RetryCriterion{{Failure: "FAILED", Times: 1}, {Failure: "TIMED_OUT", Times: 2}}}}}))
	h.heard()
	h.end("p", "j", jobs.Failed)
	h.hears("notify p j#2", "next p j#2 QUEUED", "event j p FAILED")
	h.end("p", "j", jobs.InProgress)
	h.pass(time.Minute) // the second retry, which only a time-out has
	h.is("j", "p", jobs.Queued)
	h.end("p", "j", jobs.Failed)
	h.is("j", "p", jobs.Failed)
	items, _, err := h.ExecutionsOf(h.db, "p", "j", "", "", jobs.Page{})
	h.must(err)
	if len(items) != 3 || items[0].Summary.Retry != 2 || items[0].Summary.Number != 3 || items[2].Summary.Status != jobs.Failed || items[1].Summary.Status != jobs.TimedOut {
		t.Errorf("executions %+v", items)
	}
	if v := h.job("j"); v.Status != jobs.Completed || v.Process.Failed != 1 || v.Process.TimedOut != 0 {
		t.Errorf("things are counted more than once: %+v", v.Process)
	}
}

func TestEachKindOfFailureHasItsOwnRetries(t *testing.T) {
	both := []jobs.RetryCriterion{{Failure: "FAILED", Times: 1}, {Failure: "TIMED_OUT", Times: 1}}
	for ends, c := range map[string]struct {
		criteria []jobs.RetryCriterion
		tries    int // and every end after the last is not tried again
	}{
		"FAILED TIMED_OUT FAILED":              {both, 3},
		"TIMED_OUT FAILED TIMED_OUT":           {both, 3},
		"FAILED FAILED":                        {both, 2},
		"TIMED_OUT TIMED_OUT":                  {both, 2},
		"FAILED TIMED_OUT FAILED ":             {[]jobs.RetryCriterion{{Failure: "ALL", Times: 2}}, 3},
		"TIMED_OUT":                            {[]jobs.RetryCriterion{{Failure: "FAILED", Times: 2}}, 1},
		"REJECTED":                             {[]jobs.RetryCriterion{{Failure: "ALL", Times: 2}}, 1},
		"FAILED FAILED FAILED FAILED REJECTED": {[]jobs.RetryCriterion{{Failure: "FAILED", Times: 9}}, 5},
	} {
		h := newHouse(t)
		h.fleet.add("", "p")
		h.must(h.create(jobs.CreateInput{JobID: "j", Targets: []string{thing("p")}, Settings: jobs.Settings{Timeout: &jobs.Timeout{Minutes: 1}, Retry: &jobs.Retry{Criteria: c.criteria}}}))
		for _, end := range strings.Fields(ends) {
			h.is("j", "p", jobs.Queued)
			if end != "TIMED_OUT" {
				h.end("p", "j", jobs.Status(end))
				continue
			}
			h.end("p", "j", jobs.InProgress)
			h.pass(time.Minute)
		}
		items, _, err := h.ExecutionsOf(h.db, "p", "j", "", "", jobs.Page{})
		h.must(err)
		if s := h.job("j").Status; len(items) != c.tries || s != jobs.Completed {
			t.Errorf("%s: %d tries and the job is %s, want %d and COMPLETED", ends, len(items), s, c.tries)
		}
	}
}

func TestAbort(t *testing.T) {
	h := newHouse(t)
	var targets []string
	for i := range 10 {
		h.fleet.add("", fmt.Sprint("p", i))
		targets = append(targets, thing(fmt.Sprint("p", i)))
	}
	h.events["JOB"] = true
	h.must(h.create(jobs.CreateInput{JobID: "j", Targets: targets, Settings: jobs.Settings{Abort: &jobs.Abort{Criteria: []jobs.AbortCriterion{
		{Failure: "FAILED", Action: "CANCEL", Threshold: 50, Least: 4}, {Failure: "REJECTED", Action: "CANCEL", Threshold: 1, Least: 8}}}}}))
	h.end("p9", "j", jobs.InProgress)
	h.end("p0", "j", jobs.Failed)
	h.end("p1", "j", jobs.Failed)
	h.end("p2", "j", jobs.Succeeded)
	if s := h.job("j").Status; s != jobs.Active {
		t.Fatalf("aborted too early: %s", s)
	}
	h.heard()
	h.end("p3", "j", jobs.Succeeded)
	v := h.job("j")
	if v.Status != jobs.JobCanceled || v.Reason == "" || v.Comment == "" || v.Process.Canceled != 5 || v.Process.InProgress != 1 || v.Forced {
		t.Errorf("job %+v", v)
	}
	if s := strings.Join(h.heard(), "\n"); !strings.Contains(s, "event j cancellation_in_progress\nevent j canceled") {
		t.Errorf("told %s", s)
	}
	h.end("p9", "j", jobs.Succeeded) // goes on
	if v := h.job("j"); v.Status != jobs.JobCanceled || v.Process.Succeeded != 3 {
		t.Errorf("job %+v", v)
	}
}

func TestContinuousJobsFollowTheirGroups(t *testing.T) {
	h := newHouse(t)
	h.fleet.add("g", "p1")
	h.fleet.add("", "p2")
	h.must(h.create(jobs.CreateInput{JobID: "c", Targets: []string{group("g")}, TargetSelection: "CONTINUOUS"}))
	h.must(h.create(jobs.CreateInput{JobID: "s", Targets: []string{group("g")}}))
	h.heard()
	h.fleet.add("g", "p2")
	h.Changed("p2")
	h.work()
	h.hears("notify p2 c#1", "next p2 c#1 QUEUED")
	h.Changed("p2") // something else about it
	h.work()
	h.hears()
	h.end("p2", "c", jobs.Succeeded)
	h.heard()
	h.fleet.leave("g", "p1")
	h.Changed("p1")
	h.work()
	h.hears("notify p1 s#1", "next p1 s#1 QUEUED")
	h.is("c", "p1", jobs.Removed)
	h.fleet.leave("g", "p2")
	h.Changed("p2")
	h.work()
	h.hears()
	h.is("c", "p2", jobs.Succeeded)
	h.fleet.add("g", "p1", "p2") // and both come back, while the gateway is down
	h.restart()
	h.work()
	h.hears("notify p1 s#1 c#2", "notify p2 c#2", "next p2 c#2 QUEUED")
	h.fleet.drop("p1")
	h.Changed("p1")
	h.work()
	h.is("s", "p1", jobs.Removed)
	h.is("c", "p1", jobs.Removed)
	if v := h.job("s"); v.Status != jobs.Completed || v.Process.Removed != 1 {
		t.Errorf("job %+v", v)
	}
}

func TestDynamicGroupsAreLookedAtAgain(t *testing.T) {
	h := newHouse(t)
	h.fleet.add("", "p")
	h.fleet.groups["g"], h.fleet.dynamic["g"] = map[string]bool{}, true
	h.must(h.create(jobs.CreateInput{JobID: "c", Targets: []string{group("g")}, TargetSelection: "CONTINUOUS"}))
	h.fleet.add("g", "p") // in silence
	h.must(h.Recheck())
	h.work()
	h.is("c", "p", jobs.Queued)
}

func TestSchedules(t *testing.T) {
	h := newHouse(t)
	h.fleet.add("g", "p1", "p2")
	at := func(d time.Duration) string { return t0.Add(d).Format("2006-01-02 15:04") }
	in := jobs.CreateInput{JobID: "j", Targets: []string{group("g")}, Scheduling: &jobs.Scheduling{Start: at(time.Hour), End: at(3 * time.Hour)}}
	h.must(h.create(in))
	if v := h.job("j"); v.Status != jobs.Scheduled {
		t.Errorf("job %+v", v)
	}
	h.fleet.leave("g", "p2")
	h.pass(time.Hour - 15*time.Second)
	h.hears()
	h.restart()
	h.pass(15 * time.Second)
	h.hears("notify p1 j#1", "next p1 j#1 QUEUED")
	h.pass(2 * time.Hour)
	h.hears("notify p1", "next p1")
	if v := h.job("j"); v.Status != jobs.JobCanceled {
		t.Errorf("job %+v", v)
	}
	for behaviour, want := range map[string][3]string{"FORCE_CANCEL": {"CANCELED", "CANCELED", "CANCELED"}, "CANCEL": {"CANCELED", "CANCELED", "IN_PROGRESS"},
		"STOP_ROLLOUT": {"IN_PROGRESS", "QUEUED", "IN_PROGRESS"}} {
		h.fleet.add("g2", "a", "b")
		now := h.clk.Now()
		in := jobs.CreateInput{JobID: behaviour, Targets: []string{group("g2")}, TargetSelection: "CONTINUOUS", Scheduling: &jobs.Scheduling{
			End: now.Add(31 * time.Minute).UTC().Format(time.RFC3339), EndBehavior: behaviour}}
		h.must(h.create(in))
		h.end("b", behaviour, jobs.InProgress)
		h.pass(32 * time.Minute)
		got := [3]string{string(h.job(behaviour).Status), string(h.execution(behaviour, "a").Status), string(h.execution(behaviour, "b").Status)}
		if got != want {
			t.Errorf("%s: %v, want %v", behaviour, got, want)
		}
		if behaviour == "STOP_ROLLOUT" {
			h.fleet.add("g2", "late")
			h.Changed("late")
			h.work()
			h.end("a", behaviour, jobs.Failed)
			h.end("b", behaviour, jobs.Succeeded)
			if v := h.job(behaviour); v.Status != jobs.Completed || v.Process.Queued != 0 {
				t.Errorf("a stopped job does not end: %+v", v)
			}
		}
		h.must(h.remove(behaviour, true))
	}
}

func TestMaintenanceWindows(t *testing.T) {
	h := newHouse(t)
	h.fleet.add("g", "p1")
	h.must(h.create(jobs.CreateInput{JobID: "j", Targets: []string{group("g")}, TargetSelection: "CONTINUOUS",
		Scheduling: &jobs.Scheduling{Windows: []jobs.Window{{Start: "cron(0 18 ? * MON-FRI *)", Minutes: 60}}}}))
	h.pass(5 * time.Hour)
	h.hears()
	h.pass(time.Hour)
	h.hears("notify p1 j#1", "next p1 j#1 QUEUED")
	h.fleet.add("g", "p2")
	h.Changed("p2")
	h.work()
	h.hears("notify p2 j#1", "next p2 j#1 QUEUED")
	h.pass(61 * time.Minute)
	h.fleet.add("g", "p3")
	h.Changed("p3")
	h.work()
	h.Changed("p3")
	h.pass(time.Hour)
	h.restart()
	h.work()
	h.hears()
	h.pass(22 * time.Hour)
	h.hears("notify p3 j#1", "next p3 j#1 QUEUED")
}

func TestDeletion(t *testing.T) {
	h := newHouse(t)
	h.events["JOB"], h.events["JOB_EXECUTION"] = true, true
	var targets []string
	for i := range 100 {
		name := fmt.Sprintf("p%02d", i)
		h.fleet.add("g", name)
		targets = append(targets, name)
	}
	h.must(h.create(jobs.CreateInput{JobID: "j", Targets: []string{group("g")}, Settings: jobs.Settings{Timeout: &jobs.Timeout{Minutes: 1}}}))
	h.work()
	for _, n := range targets[:60] {
		h.end(n, "j", jobs.InProgress)
	}
	err := h.remove("j", false)
	if !errors.Is(err, jobs.ErrTransition) {
		t.Errorf("deleted without force: %v", err)
	}
	h.heard()
	h.must(h.remove("j", true))
	if v := h.job("j"); v.Status != jobs.Deleting {
		t.Errorf("job %+v", v)
	}
	h.restart() // in the middle of it
	h.work()
	_, _, err = h.Show(h.db, "j")
	h.refused(err, fault.NotFound)
	events := 0
	for _, s := range h.heard() {
		if strings.HasSuffix(s, "DELETED") {
			events++
		}
	}
	if events != 100 {
		t.Errorf("%d executions deleted, want 100", events)
	}
	left := 0
	h.must(h.db.Scan("job/", func(key string, _ []byte) bool { left++; t.Log("left: ", key); return true }))
	if left > 0 {
		t.Errorf("%d keys are left", left)
	}
	h.must(h.create(jobs.CreateInput{JobID: "j", Targets: []string{thing("p00")}})) // the id is free
	h.pass(2 * time.Minute)
	h.is("j", "p00", jobs.Queued)
}

func TestAnExecutionCanBeDeleted(t *testing.T) {
	h := newHouse(t)
	h.fleet.add("", "p")
	h.must(h.create(jobs.CreateInput{JobID: "j", Targets: []string{thing("p")}, Settings: jobs.Settings{Retry: &jobs.Retry{Criteria: []jobs.RetryCriterion{{Failure: "ALL", Times: 1}}}}}))
	h.end("p", "j", jobs.Failed)
	del := func(n int64, force bool) error {
		return h.commit(func(tx jobs.Tx, tell func(jobs.Notice)) error { return h.DeleteExecution(tx, tell, "j", "p", n, force) })
	}
	h.refused(del(3, true), fault.NotFound)
	h.refused(del(0, true), fault.Invalid)
	h.refused(del(2, false), fault.Conflict)
	h.must(del(1, false))
	h.heard()
	h.must(del(2, true))
	h.hears("notify p", "next p")
	if v := h.job("j"); v.Status != jobs.Completed || v.Process.Queued != 0 || v.Process.Failed != 0 {
		t.Errorf("job %+v", v)
	}
}

func TestNamespaces(t *testing.T) {
	h := newHouse(t)
	h.fleet.add("", "p")
	h.must(h.create(jobs.CreateInput{JobID: "a", Targets: []string{thing("p")}}))
	h.heard()
	h.must(h.create(jobs.CreateInput{JobID: "b", Targets: []string{thing("p")}, Namespace: "ns"}))
	if len(h.told) != 1 {
		t.Fatalf("told %v", h.told)
	}
	if n := h.told[0].(jobs.PendingNotice); n.Namespace != "ns" || len(n.Queued) != 1 || n.Queued[0].Job != "b" {
		t.Errorf("told %+v", n)
	}
}

func TestTemplatesAndParameters(t *testing.T) {
	h := newHouse(t)
	h.fleet.add("", "p")
	h.must(h.commit(func(tx jobs.Tx, _ func(jobs.Notice)) error {
		_, err := h.CreateTemplate(tx, jobs.TemplateInput{ID: "t", Document: `{"file":"${aws:iot:parameter:file}"}`,
			Settings: jobs.Settings{Description: "d", Timeout: &jobs.Timeout{Minutes: 5}}})
		return err
	}))
	from := jobs.CreateInput{JobID: "j", Targets: []string{thing("p")}, Template: h.TemplateARN("t")}
	h.refused(h.create(from), fault.Invalid) // a value is missing
	from.Parameters = map[string]string{"file": "a \"b\"\n"}
	h.must(h.create(from))
	v, def, err := h.Show(h.db, "j")
	h.must(err)
	if v.Timeout.Minutes != 5 || v.Description != "d" || def.DocumentText(false) != `{"file":"a \"b\"\n"}` || !strings.Contains(def.DocumentText(true), "parameter:file") {
		t.Errorf("job %+v %+v", v, def)
	}
	h.must(h.create(jobs.CreateInput{JobID: "m", Targets: []string{thing("p")}, Template: "arn:aws:iot:local-1::jobtemplate/AWS-Reboot:1.0"}))
	err = h.create(jobs.CreateInput{JobID: "m2", Targets: []string{thing("p")}, Template: "arn:aws:iot:local-1::jobtemplate/AWS-Run-Command:1.0"})
	h.refused(err, fault.Invalid)
	h.refused(h.create(jobs.CreateInput{JobID: "n", Targets: []string{thing("p")}, Template: h.TemplateARN("nope")}), fault.NotFound)
	h.must(h.commit(func(tx jobs.Tx, _ func(jobs.Notice)) error { return h.DeleteTemplate(tx, "t") }))
	_, err = h.ShowTemplate(h.db, "t")
	h.refused(err, fault.NotFound)
}

func TestWhatCannotBeAJobIsRefused(t *testing.T) {
	h := newHouse(t)
	h.fleet.add("g", "p")
	ok := func() jobs.CreateInput {
		return jobs.CreateInput{JobID: "j", Targets: []string{thing("p")}, Document: "{}"}
	}
	at := func(d time.Duration) string { return t0.Add(d).Format("2006-01-02 15:04") }
	for what, change := range map[string]func(*jobs.CreateInput){
		"id":             func(in *jobs.CreateInput) { in.JobID = "a b" },
		"long id":        func(in *jobs.CreateInput) { in.JobID = strings.Repeat("x", 65) },
		"no targets":     func(in *jobs.CreateInput) { in.Targets = nil },
		"foreign target": func(in *jobs.CreateInput) { in.Targets = []string{"arn:aws:iot:x:1:thing/p"} },
		"targets":        func(in *jobs.CreateInput) { in.Targets = make([]string, 101) },
		"no document":    func(in *jobs.CreateInput) { in.Document = "" },
		"two documents":  func(in *jobs.CreateInput) { in.DocumentSource = "https://s3.amazonaws.com/b/k" },
		"not JSON":       func(in *jobs.CreateInput) { in.Document = "{" },
		"large":          func(in *jobs.CreateInput) { in.Document = `"` + strings.Repeat("x", 32<<10) + `"` },
		"deep":           func(in *jobs.CreateInput) { in.Document = strings.Repeat("[", 16<<10) + strings.Repeat("]", 16<<10) },
		"selection":      func(in *jobs.CreateInput) { in.TargetSelection = "x" },
		"rate":           func(in *jobs.CreateInput) { in.Rollout = &jobs.Rollout{PerMinute: 1001} },
		"factor": func(in *jobs.CreateInput) {
			in.Rollout = &jobs.Rollout{Exponential: &jobs.Exponential{Base: 1, Factor: 1}}
		},
		"no increase": func(in *jobs.CreateInput) {
			in.Rollout = &jobs.Rollout{Exponential: &jobs.Exponential{Base: 1, Factor: 2}}
		},
		"timeout": func(in *jobs.CreateInput) { in.Timeout = &jobs.Timeout{Minutes: 10081} },
		"abort":   func(in *jobs.CreateInput) { in.Abort = &jobs.Abort{} },
		"abort action": func(in *jobs.CreateInput) {
			in.Abort = &jobs.Abort{Criteria: []jobs.AbortCriterion{{Failure: "FAILED", Action: "x", Threshold: 1, Least: 1}}}
		},
		"retry": func(in *jobs.CreateInput) {
			in.Retry = &jobs.Retry{Criteria: []jobs.RetryCriterion{{Failure: "FAILED", Times: 11}}}
		},
		"retry without time": func(in *jobs.CreateInput) {
			in.Retry = &jobs.Retry{Criteria: []jobs.RetryCriterion{{Failure: "TIMED_OUT", Times: 1}}}
		},
		"presign": func(in *jobs.CreateInput) { in.Presign = &jobs.Presign{Seconds: 59} },
		"start":   func(in *jobs.CreateInput) { in.Scheduling = &jobs.Scheduling{Start: at(29 * time.Minute)} },
		"end": func(in *jobs.CreateInput) {
			in.Scheduling = &jobs.Scheduling{Start: at(time.Hour), End: at(80 * time.Minute)}
		},
		"no end": func(in *jobs.CreateInput) { in.Scheduling = &jobs.Scheduling{EndBehavior: "CANCEL"} },
		"window of snapshot": func(in *jobs.CreateInput) {
			in.Scheduling = &jobs.Scheduling{Windows: []jobs.Window{{Start: "cron(0 0 * * ? *)", Minutes: 1}}}
		},
		"description": func(in *jobs.CreateInput) { in.Description = strings.Repeat("x", 2029) },
		"namespace":   func(in *jobs.CreateInput) { in.Namespace = "a/b" },
	} {
		in := ok()
		change(&in)
		if err := h.commit(func(tx jobs.Tx, tell func(jobs.Notice)) error { _, err := h.Create(tx, tell, in); return err }); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	in := ok()
	in.Targets = []string{thing("nobody")}
	h.refused(h.create(in), fault.NotFound)
	h.must(h.create(ok()))
	h.refused(h.create(ok()), fault.Exists)
	h.refused(h.cancel("nope", false), fault.NotFound)
	h.must(h.cancel("j", false))
	h.refused(h.cancel("j", false), fault.Invalid)
}

func TestSettingsCanChange(t *testing.T) {
	h := newHouse(t)
	h.fleet.add("g", "p1", "p2", "p3")
	h.must(h.create(jobs.CreateInput{JobID: "j", Targets: []string{group("g")}, Settings: jobs.Settings{Rollout: &jobs.Rollout{PerMinute: 1},
		Retry: &jobs.Retry{Criteria: []jobs.RetryCriterion{{Failure: "FAILED", Times: 3}}}}}))
	change := func(in jobs.UpdateInput) error {
		in.JobID = "j"
		return h.commit(func(tx jobs.Tx, tell func(jobs.Notice)) error { return h.Change(tx, tell, in) })
	}
	h.refused(change(jobs.UpdateInput{Retry: &jobs.Retry{Criteria: []jobs.RetryCriterion{{Failure: "FAILED", Times: 2}}}}), fault.Invalid)
	h.must(change(jobs.UpdateInput{Rollout: &jobs.Rollout{PerMinute: 10}, Retry: &jobs.Retry{Criteria: []jobs.RetryCriterion{{Failure: "FAILED", Times: 0}}}}))
	h.pass(time.Minute)
	if n := h.job("j").Process.Queued; n != 3 {
		t.Errorf("%d are queued", n)
	}
	h.end("p1", "j", jobs.Failed)
	h.is("j", "p1", jobs.Failed)
	h.must(h.cancel("j", true))
	h.refused(change(jobs.UpdateInput{}), fault.Invalid)
}

func TestMoreTargets(t *testing.T) {
	h := newHouse(t)
	h.fleet.add("g", "p1")
	h.fleet.add("", "p2")
	h.must(h.create(jobs.CreateInput{JobID: "c", Targets: []string{group("g")}, TargetSelection: "CONTINUOUS"}))
	h.must(h.create(jobs.CreateInput{JobID: "s", Targets: []string{group("g")}}))
	h.heard()
	more := func(id string) error {
		return h.commit(func(tx jobs.Tx, tell func(jobs.Notice)) error {
			_, err := h.Associate(tx, tell, id, []string{thing("p2"), group("g")}, "")
			return err
		})
	}
	h.must(more("c"))
	h.hears("notify p2 c#1", "next p2 c#1 QUEUED")
	h.refused(more("s"), fault.Invalid)
}

func TestListings(t *testing.T) {
	h := newHouse(t)
	h.fleet.add("g", "p1", "p2", "p3")
	for i := range 5 {
		h.must(h.create(jobs.CreateInput{JobID: fmt.Sprint("j", i), Targets: []string{group("g")}}))
	}
	h.must(h.cancel("j3", false))
	var got []string
	for p := (jobs.Page{Max: 2}); ; {
		items, next, err := h.List(h.db, jobs.JobFilter{Status: jobs.Active, Group: "g"}, p)
		h.must(err)
		for _, x := range items {
			got = append(got, x.ID)
		}
		if p.From = next; next == "" {
			break
		}
	}
	if s := strings.Join(got, " "); s != "j0 j1 j2 j4" {
		t.Errorf("listed %s", s)
	}
	items, next, err := h.Executions(h.db, "j0", jobs.Queued, jobs.Page{Max: 2})
	h.must(err)
	if len(items) != 2 || next == "" || items[0].ThingARN != thing("p1") {
		t.Errorf("%+v %q", items, next)
	}
	if _, _, err := h.List(h.db, jobs.JobFilter{}, jobs.Page{Max: 251}); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
	l := jobs.Lists{}
	h.must(h.commit(func(tx jobs.Tx, _ func(jobs.Notice)) (err error) { l, err = h.Pending(tx, "p1"); return err }))
	if len(l.Queued) != 4 || l.Queued[3].Job != "j4" {
		t.Errorf("pending %+v", l)
	}
}
