package supervise_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/logs"
	"tidegate/gateway/supervise"
)

// diary notes what happened in which order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, s)
}

func (d *diary) list() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.lines)
}

func (d *diary) Raise(code, text string) { d.add("raise " + code) }
func (d *diary) Clear(code string)       { d.add("clear " + code) }

// good is a task that needs a moment to get ready and ends when told to.
func (d *diary) good(name string) supervise.Task {
	return func(ctx context.Context, ready func()) error {
		time.Sleep(time.Second)
		d.add("up " + name)
		ready()
		<-ctx.Done()
		d.add("down " + name)
		return ctx.Err()
	}
}

func newGroup() *supervise.Group { return supervise.New(logs.Discard(), clock.System()) }

func TestTasksStartInOrderAndStopInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		g := newGroup()
		g.OnStop("store", func() error { d.add("close store"); return nil })
		g.Add("one", d.good("one"))
		g.OnStop("middle", func() error { d.add("close middle"); return nil })
		g.Add("two", d.good("two"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- g.Run(ctx) }()
		synctest.Wait()
		if g.Ready() {
			t.Error("ready before anything is up")
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if !g.Ready() {
			t.Error("not ready with everything up")
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("clean end gives %v", err)
		}
		want := []string{"up one", "up two", "down two", "close middle", "down one", "close store"}
		if got := d.list(); !slices.Equal(got, want) {
			t.Errorf("order %q, want %q", got, want)
		}
		if g.Ready() {
			t.Error("still ready after the end")
		}
	})
}

func TestATaskThatMustNotFailStopsTheHouse(t *testing.T) {
	for name, c := range map[string]struct {
		task supervise.Task
		want string
	}{
		"error":            {func(context.Context, func()) error { return errors.New("disk gone") }, "bad: disk gone"},
		"silent end":       {func(context.Context, func()) error { return nil }, "bad: ended before"},
		"panic":            {func(context.Context, func()) error { panic("BUG: x") }, "bad: panic: BUG: x"},
		"error when ready": {func(_ context.Context, ready func()) error { ready(); ready(); return errors.New("late") }, "bad: late"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d diary
				g := newGroup()
				g.OnStop("store", func() error { d.add("close store"); return errors.New("half written") })
				g.Add("first", d.good("first"))
				g.Add("bad", c.task)
				err := g.Run(t.Context())
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "stop store: half written") {
					t.Errorf("got %v, want %q", err, c.want)
				}
				if got, want := d.list(), []string{"up first", "down first", "close store"}; !slices.Equal(got, want) {
					t.Errorf("order %q, want %q", got, want)
				}
			})
		})
	}
}

func TestAFailureWhileStoppingIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		g.Add("x", func(ctx context.Context, ready func()) error { ready(); <-ctx.Done(); return errors.New("drain") })
		g.OnStop("y", func() error { return errors.New("flush") })
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := g.Run(ctx); err == nil || err.Error() != "stop y: flush\nstop x: drain" {
			t.Errorf("got %v", err)
		}
	})
}

func TestATaskThatDoesNotListenHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		deaf := make(chan struct{})
		g := newGroup()
		g.OnStop("store", func() error { d.add("close store"); return nil })
		g.Add("deaf", func(_ context.Context, ready func()) error { ready(); <-deaf; return nil })
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		err := g.Run(ctx)
		if err == nil || !strings.Contains(err.Error(), "deaf: did not stop within 10s") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != 11*time.Second {
			t.Errorf("took %v", took)
		}
		if !slices.Equal(d.list(), []string{"close store"}) {
			t.Errorf("order %q", d.list())
		}
		close(deaf)
	})
}

func TestATaskThatNeverGetsReadyFailsTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		g.StartAfter = time.Minute
		g.Add("slow", func(ctx context.Context, _ func()) error { <-ctx.Done(); return nil })
		if err := g.Run(t.Context()); err == nil || err.Error() != "slow: not ready after 1m0s" {
			t.Errorf("got %v", err)
		}
	})
}

func TestAnEndDuringTheStartIsAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		g := newGroup()
		g.Add("slow", func(ctx context.Context, _ func()) error { <-ctx.Done(); d.add("down slow"); return nil })
		g.Add("never", d.good("never"))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := g.Run(ctx); err != nil {
			t.Errorf("got %v", err)
		}
		if !slices.Equal(d.list(), []string{"down slow"}) {
			t.Errorf("order %q", d.list())
		}
	})
}

func TestARestartedTaskBacksOffAndTellsHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		var starts []time.Duration
		began := time.Now()
		g := newGroup()
		g.Report(&d)
		g.Restart("uplink", func(ctx context.Context, ready func()) error {
			starts = append(starts, time.Since(began))
			if len(starts) <= 10 {
				if len(starts) == 2 {
					panic("nil map")
				}
				return errors.New("no")
			}
			ready()
			<-ctx.Done()
			return nil
		})
		g.Add("after", d.good("after")) // comes up although the one before it is down
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if err := g.Run(ctx); err != nil {
			t.Errorf("got %v", err)
		}
		for i := 1; i < len(starts); i++ {
			want := min(250*time.Millisecond<<(i-1), time.Minute)
			if got := starts[i] - starts[i-1]; got != want {
				t.Errorf("pause %d is %v, want %v", i, got, want)
			}
		}
		got := strings.Join(d.list(), ",")
		if strings.Count(got, "raise task/uplink") != 10 || !strings.Contains(got, "up after") || !strings.HasSuffix(got, "clear task/uplink") {
			t.Errorf("story %q", got)
		}
	})
}

func TestAbortOnClosesWhatAFailedBuildHadOpened(t *testing.T) {
	var d diary
	build := func() (err error) {
		g := newGroup()
		defer g.AbortOn(&err)
		g.OnStop("a", func() error { d.add("a"); return nil })
		g.Add("task", d.good("task"))
		g.OnStop("b", func() error { d.add("b"); return nil })
		return errors.New("no port")
	}
	if err := build(); err == nil || err.Error() != "no port" {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(d.list(), []string{"b", "a"}) {
		t.Errorf("order %q", d.list())
	}
}
