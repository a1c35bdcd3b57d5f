package supervise

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// Pauses between two starts of a restartable task: they double from minPause to
// maxPause, and start over once the task has kept up for steady.
const (
	minPause = 250 * time.Millisecond
	maxPause = time.Minute
	steady   = time.Minute
)

// keepUp runs a restartable task again and again until ctx ends.
func (g *Group) keepUp(ctx context.Context, p *part) {
	defer close(p.done)
	code := "task/" + p.name
	pause := minPause
	for attempt := 1; ; attempt++ {
		began := g.clk.Now()
		err := g.call(ctx, p, func() { g.clear(code) })
		if ctx.Err() != nil {
			g.clear(code)
			return
		}
		if err == nil {
			err = errors.New("ended before it was told to")
		}
		if g.clk.Now().Sub(began) >= steady {
			pause, attempt = minPause, 1
		}
		// Logged on change and then rarely; health shows what lasts.
		if attempt&(attempt-1) == 0 {
			g.log.Warn("part failed, starting it again", "part", p.name, "err", err, "attempt", attempt, "dur", pause)
		}
		if g.report != nil {
			g.report.Raise(code, fmt.Sprintf("%s is down and will be tried again: %v", p.name, err))
		}
		t := g.clk.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			g.clear(code)
			return
		case <-t.C():
		}
		pause = min(2*pause, maxPause)
	}
}

func (g *Group) clear(code string) {
	if g.report != nil {
		g.report.Clear(code)
	}
}

// call runs the task once; a panic comes back as its error.
func (g *Group) call(ctx context.Context, p *part, ready func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			g.log.Error("part panicked", "part", p.name, "err", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	told := false
	return p.task(ctx, func() {
		if !told {
			told = true
			ready()
		}
	})
}

// isEnd says whether err is only the echo of ctx having ended.
func isEnd(ctx context.Context, err error) bool {
	return err == nil || errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))
}
