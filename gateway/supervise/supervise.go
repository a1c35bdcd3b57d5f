// Package supervise starts the parts of a process in order, restarts or fails
// them, and stops them in reverse.
//
// A part is a Task. One added with Add must not fail: when it ends before it was
// told to, everything is stopped and Run returns its error, and whoever started
// the process starts it again. One added with Restart may fail: it is started
// again after a pause that grows, and while it is down a Reporter is told.
// OnStop puts a closing step at its place in the same order.
//
//	g := supervise.New(log, clk)
//	g.OnStop("store", db.Close)   // last to go
//	g.Add("broker", br.Run)
//	g.Restart("uplink", ups.Run)  // first to go
//	err := g.Run(ctx)
//
// A panic ends only the task it happened in and counts as its failure. The
// package keeps no task's state and cannot end a goroutine that does not listen
// to its context: it waits StopAfter for each and then goes on without it.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"tidegate/gateway/clock"
)

// Task is a part that runs until ctx ends. It calls ready once it can do its
// work (further calls do nothing) and returns nil or ctx's error when ctx has
// ended; any other return is a failure. It returns only after every goroutine it
// started has ended.
type Task func(ctx context.Context, ready func()) error

// Reporter hears of tasks that are down. *health.Health is one.
type Reporter interface {
	Raise(code, text string)
	Clear(code string)
}

// Group is a set of tasks and closing steps in the order they were added. Add,
// Restart, OnStop and Report are called before Run, from one goroutine.
type Group struct {
	// StopAfter is how long each task and each closing step may take to end
	// before the group goes on without it; 10 s unless set.
	StopAfter time.Duration
	// StartAfter is how long a task that must not fail may take to get ready;
	// 0, the default, waits for ever.
	StartAfter time.Duration

	log    *slog.Logger
	clk    clock.Clock
	report Reporter
	parts  []*part
	ready  atomic.Bool
	closed bool // by AbortOn or Run: the closing steps are taken once
}

type part struct {
	name    string
	task    Task         // nil for a closing step
	close   func() error // nil for a task
	restart bool

	cancel context.CancelFunc
	done   chan struct{} // closed when the task has ended for good or the step is taken
	err    error         // what went wrong while it stopped; written before done is closed
}

// New makes an empty group.
func New(log *slog.Logger, clk clock.Clock) *Group {
	return &Group{StopAfter: 10 * time.Second, log: log, clk: clk}
}

// Report tells r, from now on, about every restartable task that is down, under
// the code "task/NAME".
func (g *Group) Report(r Reporter) { g.report = r }

// Add appends a task that must not fail. Run starts it once the parts before it
// are ready and waits until it is ready itself.
func (g *Group) Add(name string, t Task) { g.parts = append(g.parts, &part{name: name, task: t}) }

// Restart appends a task that may fail. Nothing waits for it to become ready,
// as nothing may depend on it.
func (g *Group) Restart(name string, t Task) {
	g.parts = append(g.parts, &part{name: name, task: t, restart: true})
}

// OnStop appends a closing step, taken after every part added later has ended.
func (g *Group) OnStop(name string, close func() error) {
	g.parts = append(g.parts, &part{name: name, close: close})
}

// AbortOn takes the closing steps, in reverse, when *err is not nil. Deferred in
// the function that builds the group it leaves nothing open behind a failure.
func (g *Group) AbortOn(err *error) {
	if *err != nil {
		*err = errors.Join(*err, g.stop())
	}
}

// Ready says whether every task that must not fail is up and none has ended.
func (g *Group) Ready() bool { return g.ready.Load() }

// Run starts the tasks in order, returns when ctx has ended or a task that must
// not fail has failed, and has by then stopped everything in reverse. The error
// is that failure, joined with what the closing steps had to say; nil after a
// clean end.
func (g *Group) Run(ctx context.Context) error {
	failed := make(chan error, len(g.parts)) // one place for each, so that no task waits to report
	err := g.start(ctx, failed)
	if err == nil && ctx.Err() == nil {
		g.ready.Store(true)
		select {
		case <-ctx.Done():
		case err = <-failed:
		}
	}
	g.ready.Store(false)
	return errors.Join(err, g.stop())
}

// start brings the tasks up one by one. It returns early, with nil, when ctx ends.
func (g *Group) start(ctx context.Context, failed chan error) error {
	for _, p := range g.parts {
		if p.task == nil {
			continue
		}
		// A task does not inherit the end of ctx: it is told to stop when its turn comes.
		var own context.Context
		own, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
		p.done = make(chan struct{})
		if p.restart {
			go g.keepUp(own, p)
			continue
		}
		up := make(chan struct{})
		go g.runOnce(own, p, up, failed)
		var late <-chan time.Time
		if g.StartAfter > 0 {
			t := g.clk.NewTimer(g.StartAfter)
			defer t.Stop()
			late = t.C()
		}
		select {
		case <-up:
			g.log.Debug("part is up", "part", p.name)
		case err := <-failed:
			return err
		case <-late:
			return fmt.Errorf("%s: not ready after %v", p.name, g.StartAfter)
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// runOnce runs a task that must not fail.
func (g *Group) runOnce(ctx context.Context, p *part, up chan struct{}, failed chan<- error) {
	defer close(p.done)
	err := g.call(ctx, p, func() { close(up) })
	switch {
	case ctx.Err() == nil && err == nil:
		failed <- fmt.Errorf("%s: ended before it was told to", p.name)
	case ctx.Err() == nil:
		failed <- fmt.Errorf("%s: %w", p.name, err)
	case !isEnd(ctx, err):
		p.err = err
	}
}

// stop ends all parts in reverse order, each with its deadline.
func (g *Group) stop() error {
	if g.closed {
		return nil
	}
	g.closed = true
	var errs []error
	for i := len(g.parts) - 1; i >= 0; i-- {
		p := g.parts[i]
		switch {
		case p.close != nil:
			p.done = make(chan struct{})
			go func() {
				defer close(p.done)
				p.err = p.close()
			}()
		case p.cancel != nil:
			p.cancel()
		default:
			continue // a task that was never started
		}
		if !g.wait(p.done) {
			errs = append(errs, fmt.Errorf("%s: did not stop within %v", p.name, g.StopAfter))
			continue
		}
		if p.err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", p.name, p.err))
		}
		g.log.Debug("part has stopped", "part", p.name)
	}
	return errors.Join(errs...)
}

// wait waits for done, at most StopAfter.
func (g *Group) wait(done <-chan struct{}) bool {
	t := g.clk.NewTimer(g.StopAfter)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C():
		return false
	}
}
