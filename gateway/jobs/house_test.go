package jobs_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/jobs"
	"tidegate/gateway/store"
)

const base = "arn:aws:iot:local-1:000000000000:"

// t0 is a Monday, 12:00 UTC.
var t0 = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// house is the room on a real store.
type house struct {
	t     testing.TB
	dir   string
	clk   *clocktest.Manual
	fleet *fleet
	db    *store.Store
	*jobs.Room
	events map[string]bool

	told  []jobs.Notice // since the last heard
	units int
}

func newHouse(t testing.TB) *house {
	h := &house{t: t, dir: t.TempDir(), clk: clocktest.New(t0), fleet: newFleet(), events: map[string]bool{}}
	h.up()
	t.Cleanup(func() { _ = h.db.Close() })
	return h
}

func (h *house) up() {
	h.t.Helper()
	cfg := store.DefaultConfig(h.dir)
	cfg.Ballast, cfg.LogFiles, cfg.LogFileSize = -1, 3, 1<<20
	cfg.SyncDelay.Off = true
	db, err := store.Open(cfg, h.clk)
	if err != nil {
		h.t.Fatal(err)
	}
	db.Start()
	h.db = db
	h.Room, err = jobs.Open(jobs.Deps{Store: db, Clock: h.clk, Fleet: h.fleet, Base: base, Limits: jobs.DefaultLimits(),
		Events: func(kind string) bool { return h.events[kind] }})
	if err != nil {
		h.t.Fatal(err)
	}
}

// restart closes the store and opens everything again.
func (h *house) restart() {
	h.t.Helper()
	if err := h.db.Close(); err != nil {
		h.t.Fatal(err)
	}
	h.up()
}

// commit makes a unit and remembers what was told.
func (h *house) commit(build func(tx jobs.Tx, tell func(jobs.Notice)) error) error {
	var told []jobs.Notice
	err := h.db.Wait(func(u *store.Unit) error {
		told = nil
		return build(u, func(n jobs.Notice) { told = append(told, n) })
	})
	if err == nil {
		h.units++
		h.told = append(h.told, told...)
	}
	return err
}

// work does what is due.
func (h *house) work() {
	h.t.Helper()
	if _, _, err := h.Work(context.Background(), h.commit); err != nil {
		h.t.Fatal(err)
	}
}

// pass moves the clock in steps of a quarter of a minute and does what is due on the way.
func (h *house) pass(d time.Duration) {
	h.t.Helper()
	for ; d > 0; d -= 15 * time.Second {
		h.clk.Advance(min(d, 15*time.Second))
		h.work()
	}
}

// heard gives what was told since it was called last, one short line each.
func (h *house) heard() []string {
	out := []string{}
	for _, n := range h.told {
		switch n := n.(type) {
		case jobs.PendingNotice:
			s := "notify " + n.Thing
			for _, x := range n.InProgress {
				s += fmt.Sprintf(" +%s#%d", x.Job, x.Number)
			}
			for _, x := range n.Queued {
				s += fmt.Sprintf(" %s#%d", x.Job, x.Number)
			}
			out = append(out, s)
		case jobs.NextNotice:
			s := "next " + n.Thing
			if n.Next != nil {
				s += fmt.Sprintf(" %s#%d %s", n.Next.Job, n.Next.Number, n.Next.Status)
			}
			out = append(out, s)
		case jobs.ExecutionEvent:
			out = append(out, "event "+n.Job+" "+n.ThingARN[len(base+"thing/"):]+" "+n.What)
		case jobs.JobEvent:
			out = append(out, "event "+n.View.ID+" "+n.What)
		}
	}
	h.told = nil
	return out
}

func (h *house) hears(want ...string) {
	h.t.Helper()
	if got := h.heard(); !slices.Equal(got, append([]string{}, want...)) {
		h.t.Errorf("told:\n%q\nwant\n%q", got, want)
	}
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) refused(err error, code fault.Code) {
	h.t.Helper()
	if !fault.Is(err, code) {
		h.t.Errorf("got %v, want %v", err, code)
	}
}

// thing and group make targets.
func thing(name string) string { return base + "thing/" + name }
func group(name string) string { return base + "thinggroup/" + name }

func (h *house) create(in jobs.CreateInput) (err error) {
	if in.Document == "" && in.DocumentSource == "" && in.Template == "" {
		in.Document = `{"op":"x"}`
	}
	return h.commit(func(tx jobs.Tx, tell func(jobs.Notice)) error { _, err = h.Create(tx, tell, in); return err })
}

func (h *house) start(name string) (v *jobs.View) {
	h.t.Helper()
	h.must(h.commit(func(tx jobs.Tx, tell func(jobs.Notice)) (err error) {
		v, err = h.Start(tx, tell, name, jobs.StartRequest{})
		return err
	}))
	return v
}

func (h *house) update(name, job string, req jobs.UpdateRequest) (up jobs.Updated, err error) {
	err = h.commit(func(tx jobs.Tx, tell func(jobs.Notice)) (err error) {
		up, err = h.Update(tx, tell, name, job, req)
		return err
	})
	return up, err
}

func (h *house) end(name, job string, s jobs.Status) {
	h.t.Helper()
	_, err := h.update(name, job, jobs.UpdateRequest{Status: s})
	h.must(err)
}

func (h *house) cancel(job string, force bool) error {
	return h.commit(func(tx jobs.Tx, tell func(jobs.Notice)) error {
		_, err := h.Cancel(tx, tell, job, "", "", force)
		return err
	})
}

func (h *house) remove(job string, force bool) error {
	return h.commit(func(tx jobs.Tx, tell func(jobs.Notice)) error { return h.Delete(tx, tell, job, force) })
}

func (h *house) job(id string) jobs.JobView {
	h.t.Helper()
	v, _, err := h.Show(h.db, id)
	h.must(err)
	return v
}

func (h *house) execution(job, name string) jobs.ExecutionView {
	h.t.Helper()
	v, err := h.ShowExecution(h.db, job, name, 0)
	h.must(err)
	return v
}

// is checks the state of the newest execution.
func (h *house) is(job, name string, want jobs.Status) {
	h.t.Helper()
	if got := h.execution(job, name).Status; got != want {
		h.t.Errorf("%s on %s is %s, want %s", job, name, got, want)
	}
}

// fleet is things and groups without a registry.
type fleet struct {
	mu      sync.Mutex
	things  map[string]bool
	groups  map[string]map[string]bool
	dynamic map[string]bool
}

func newFleet(things ...string) *fleet {
	f := &fleet{things: map[string]bool{}, groups: map[string]map[string]bool{}, dynamic: map[string]bool{}}
	for _, n := range things {
		f.things[n] = true
	}
	return f
}

func (f *fleet) Thing(name string) bool { f.mu.Lock(); defer f.mu.Unlock(); return f.things[name] }

func (f *fleet) Group(name string) (bool, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.groups[name]
	return f.dynamic[name], ok
}

func (f *fleet) Members(group string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for n := range f.groups[group] {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (f *fleet) Within(thing, group string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.groups[group][thing]
}

// add registers things and puts them in a group, "" for none.
func (f *fleet) add(group string, things ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if group != "" && f.groups[group] == nil {
		f.groups[group] = map[string]bool{}
	}
	for _, n := range things {
		f.things[n] = true
		if group != "" {
			f.groups[group][n] = true
		}
	}
}

func (f *fleet) leave(group, thing string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.groups[group], thing)
}

func (f *fleet) drop(thing string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.things, thing)
	for _, g := range f.groups {
		delete(g, thing)
	}
}

func clockAt(at time.Time) *clocktest.Manual { return clocktest.New(at) }
