// Package devicestest asks every driver the questions that package devices promises
// an answer to: a cancelled call returns within a second, a pulled cable is an error
// and not a hang, what is written is read back, Halt leaves the safe state, and no
// goroutine stays.
//
//	func TestConformance(t *testing.T) {
//		devicestest.Run(t, func(t *testing.T) devicestest.Rig { … })
//	}
//
// It knows no protocol: the driver's own tests ask about that.
package devicestest

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"tidegate/devices"
)

// Rig is one device on a bench, as a driver's test sets it up. Run opens a new one for
// every question; whatever it needs is given back by t.Cleanup.
type Rig struct {
	Driver devices.Driver
	// Unplug pulls the cable: the port is lost from now on.
	Unplug func()
	// Mute makes the device say nothing any more while the port stays.
	Mute func()
	// Values has two values for each writable point, to be written one after the other.
	Values map[string][2]devices.Value
	// Actual looks at the device itself, past the driver; nil when there is nothing to write.
	Actual func(point string) devices.Value
}

// Patience is how long anything but a cancelled call may take.
const Patience = 10 * time.Second

// Run asks all questions, each of a rig of its own.
func Run(t *testing.T, open func(t *testing.T) Rig) {
	t.Helper()
	ask := func(name string, f func(t *testing.T, r Rig)) {
		t.Run(name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			t.Cleanup(func() { noneLeft(t, before) }) // after the rig's own
			r := open(t)
			t.Cleanup(func() {
				if err := r.Driver.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			f(t, r)
		})
	}
	ask("points are well formed and stay the same", points)
	ask("every reading is of a point, dated and of its kind", readings)
	ask("a cancelled call returns within a second", cancelled)
	ask("a call with an ended context returns at once", ended)
	ask("a pulled cable is an error and not a hang", unplugged)
	ask("a mute device is an error of its own", mute)
	ask("what is written is read back", written)
	ask("what cannot be written is refused and not sent", refused)
	ask("halt leaves the safe state", halted)
	ask("a closed driver says so", closed)
}

func points(t *testing.T, r Rig) {
	ps := r.Driver.Points()
	seen := map[string]bool{}
	for _, p := range ps {
		if err := p.Check(); err != nil {
			t.Errorf("point %s: %v", p.Name, err)
		}
		if seen[p.Name] {
			t.Errorf("point %s is there twice", p.Name)
		}
		seen[p.Name] = true
	}
	for i, p := range r.Driver.Points() {
		if i < len(ps) && p.Name != ps[i].Name {
			t.Errorf("point %d was %s and is %s", i, ps[i].Name, p.Name)
		}
	}
}

func check(t *testing.T, d devices.Driver, got []devices.Reading) {
	t.Helper()
	kinds := map[string]devices.Kind{}
	for _, p := range d.Points() {
		kinds[p.Name] = p.Kind
	}
	for _, x := range got {
		kind, known := kinds[x.Point]
		switch {
		case !known:
			t.Errorf("reading of %s, which is no point", x.Point)
		case x.Quality == devices.Bad && x.Value.IsNone(): // a refusal
		case x.Value.Kind() != kind:
			t.Errorf("%s is %v of kind %v, want %v", x.Point, x.Value, x.Value.Kind(), kind)
		case x.Quality < devices.Good || x.Quality > devices.Bad:
			t.Errorf("%s has no quality", x.Point)
		}
		if age := time.Since(x.At); age < 0 || age > time.Minute {
			t.Errorf("%s is dated %v", x.Point, x.At)
		}
	}
}

func readings(t *testing.T, r Rig) {
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	if s, ok := r.Driver.(devices.Sampler); ok {
		got, err := s.Sample(ctx, nil)
		if err != nil {
			t.Fatalf("sample: %v", err)
		}
		check(t, r.Driver, got)
		count := map[string]int{}
		for _, x := range got {
			count[x.Point]++
		}
		for _, p := range r.Driver.Points() {
			if count[p.Name] != 1 {
				t.Errorf("%d readings of %s, want 1", count[p.Name], p.Name)
			}
		}
		if s, ok := r.Driver.(devices.PartSampler); ok {
			name := r.Driver.Points()[len(r.Driver.Points())-1].Name
			part, err := s.SampleOf(ctx, []string{name, "no_such_point"}, got)
			if err != nil || len(part) != len(got)+1 || part[len(got)].Point != name {
				t.Errorf("sample of %s: %v, %v", name, part[min(len(got), len(part)):], err)
			}
		}
	}
	if s, ok := r.Driver.(devices.Streamer); ok {
		var got []devices.Reading
		sctx, stop := context.WithCancel(ctx)
		defer stop()
		samples := 0
		var last time.Time
		err := s.Stream(sctx, func(sample []devices.Reading) {
			if len(sample) == 0 || !sample[0].At.After(last) {
				t.Errorf("sample %v is empty or not later than the one before", sample)
			}
			for _, x := range sample {
				if !x.At.Equal(sample[0].At) {
					t.Errorf("%s of one sample is dated %v, and %s %v", x.Point, x.At, sample[0].Point, sample[0].At)
				}
				last = x.At
			}
			got = append(got, sample...)
			if samples++; samples >= 3 {
				stop()
			}
		})
		if !errors.Is(err, context.Canceled) || samples < 3 {
			t.Errorf("stream: %v after %d samples, want 3 and the context's error", err, samples)
		}
		check(t, r.Driver, got)
	}
}

// calls gives every waiting call of the driver.
func calls(r Rig) map[string]func(ctx context.Context) error {
	cs := map[string]func(ctx context.Context) error{}
	if s, ok := r.Driver.(devices.Sampler); ok {
		cs["sample"] = func(ctx context.Context) error { _, err := s.Sample(ctx, nil); return err }
	}
	if s, ok := r.Driver.(devices.Streamer); ok {
		cs["stream"] = func(ctx context.Context) error { return s.Stream(ctx, func([]devices.Reading) {}) }
	}
	if w, ok := r.Driver.(devices.Writer); ok {
		for point, vs := range r.Values {
			cs["write"] = func(ctx context.Context) error { _, err := w.Write(ctx, point, vs[0]); return err }
		}
	}
	return cs
}

// within runs f and fails the test when it takes longer than limit.
func within(t *testing.T, what string, limit time.Duration, f func() error) error {
	t.Helper()
	began := time.Now()
	done := make(chan error, 1) // holds the one answer, also when nobody waits any more
	go func() { done <- f() }()
	select {
	case err := <-done:
		if took := time.Since(began); took > limit {
			t.Errorf("%s took %v, want at most %v", what, took, limit)
		}
		return err
	case <-time.After(limit + Patience):
		t.Fatalf("%s hangs", what)
		return nil
	}
}

func cancelled(t *testing.T, r Rig) {
	r.Mute()
	for name, call := range calls(r) {
		ctx, cancel := context.WithCancel(t.Context())
		asked := make(chan time.Time, 1) // the one time it was cancelled
		timer := time.AfterFunc(100*time.Millisecond, func() { asked <- time.Now(); cancel() })
		err := within(t, name, Patience, func() error { return call(ctx) })
		if timer.Stop() { // it gave up before it was cancelled, which is as good
			cancel()
			continue
		}
		if took := time.Since(<-asked); took > time.Second {
			t.Errorf("%s returned %v after it was cancelled", name, took)
		}
		if !errors.Is(err, context.Canceled) && !errors.Is(err, devices.ErrSilent) {
			t.Errorf("%s: %v, want the context's error", name, err)
		}
	}
}

func ended(t *testing.T, r Rig) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range calls(r) {
		if err := within(t, name, time.Second, func() error { return call(ctx) }); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want the context's error", name, err)
		}
	}
}

func unplugged(t *testing.T, r Rig) {
	r.Unplug()
	for name, call := range calls(r) {
		err := within(t, name, Patience, func() error { return call(t.Context()) })
		if !errors.Is(err, devices.ErrGone) {
			t.Errorf("%s: %v, want ErrGone", name, err)
		}
	}
}

func mute(t *testing.T, r Rig) {
	s, ok := r.Driver.(devices.Sampler)
	if !ok {
		return // of a stream silence is no error: whoever keeps the schedule judges it
	}
	r.Mute()
	err := within(t, "sample", Patience, func() error { _, err := s.Sample(t.Context(), nil); return err })
	if !errors.Is(err, devices.ErrSilent) {
		t.Errorf("sample: %v, want ErrSilent", err)
	}
}

func written(t *testing.T, r Rig) {
	w, ok := r.Driver.(devices.Writer)
	if !ok {
		return
	}
	if len(r.Values) == 0 {
		t.Fatal("the rig has no values for a driver that writes")
	}
	for point, vs := range r.Values {
		for _, v := range vs {
			got, err := w.Write(t.Context(), point, v)
			if err != nil || !got.Equal(v) {
				t.Errorf("%s set to %v reads back as %v, %v", point, v, got, err)
			}
			if now := r.Actual(point); !now.Equal(v) {
				t.Errorf("%s set to %v is %v at the device", point, v, now)
			}
		}
	}
}

func refused(t *testing.T, r Rig) {
	w, ok := r.Driver.(devices.Writer)
	if !ok {
		return
	}
	if _, err := w.Write(t.Context(), "no_such_point", devices.Int(1)); !errors.Is(err, devices.ErrPoint) {
		t.Errorf("unknown point: %v, want ErrPoint", err)
	}
	for _, p := range r.Driver.Points() {
		if !p.Writable {
			if _, err := w.Write(t.Context(), p.Name, devices.Int(1)); !errors.Is(err, devices.ErrPoint) {
				t.Errorf("%s, read only: %v, want ErrPoint", p.Name, err)
			}
			continue
		}
		var was devices.Value
		if r.Actual != nil {
			was = r.Actual(p.Name)
		}
		wrong := devices.Text("certainly not")
		if p.Kind == devices.String {
			wrong = devices.Bool(true)
		}
		if _, err := w.Write(t.Context(), p.Name, wrong); !errors.Is(err, devices.ErrValue) {
			t.Errorf("%s set to %v: %v, want ErrValue", p.Name, wrong, err)
		}
		if r.Actual != nil && !r.Actual(p.Name).Equal(was) {
			t.Errorf("%s was %v and is %v after a refused write", p.Name, was, r.Actual(p.Name))
		}
	}
}

func halted(t *testing.T, r Rig) {
	h, ok := r.Driver.(devices.Halter)
	if !ok {
		return
	}
	w, ok := r.Driver.(devices.Writer)
	if !ok {
		t.Fatal("a driver that halts but does not write")
	}
	for point, vs := range r.Values {
		for _, v := range vs {
			if _, err := w.Write(t.Context(), point, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := within(t, "halt", 3*time.Second, h.Halt); err != nil {
		t.Errorf("halt: %v", err)
	}
	for _, p := range r.Driver.Points() {
		if p.Writable && p.Safe != nil && r.Actual != nil {
			if got := r.Actual(p.Name); !got.Equal(*p.Safe) {
				t.Errorf("%s is %v after halt, want %v", p.Name, got, *p.Safe)
			}
		}
	}
}

func closed(t *testing.T, r Rig) {
	if err := r.Driver.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	for name, call := range calls(r) {
		if err := within(t, name, time.Second, func() error { return call(t.Context()) }); !errors.Is(err, devices.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
}

// noneLeft waits for the goroutines to be as many as they were.
func noneLeft(t *testing.T, before int) {
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<16)
			t.Errorf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
			return
		}
	}
}
