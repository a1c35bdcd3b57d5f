// Package jobrunner carries out the jobs that are addressed to the gateway itself: it is
// to its own thing what a device's agent is to the device's.
//
// One job runs at a time. What a document asks for is looked up among the handlers; one
// that asks for something else is rejected. An execution is never run twice: one that is
// found in progress after a start was interrupted, and is given to its handler's Resume,
// or fails.
//
// A document names an operation, as {"operation":"reboot"}, or has one step as the
// managed templates of AWS do, whose handler reboot.sh and whose command it understands.
//
//	r := jobrunner.New("gateway", topics, map[string]jobrunner.Handler{
//		"reboot": jobrunner.Reboot{BootID: bootID, Reboot: reboot},
//		"run":    jobrunner.Run{Commands: cfg.Commands},
//	}, clk, log)
//	g.Restart("jobs of the gateway", r.Run)
package jobrunner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/jobs"
	"tidegate/gateway/logs"
)

// Queue is where the jobs come from; gateway/reserved has it.
type Queue interface {
	// Peek gives what is pending on a thing.
	Peek(thing string) (jobs.Lists, error)
	// Take puts what comes next in progress and gives it; nil when nothing is pending.
	Take(thing string) (*jobs.View, error)
	// Report changes the state of an execution.
	Report(thing, job string, req jobs.UpdateRequest) error
}

// Handler carries out one operation. It is called from one goroutine; when ctx ends the
// gateway stops, and whatever it then returns is not reported.
type Handler interface {
	// Do returns nil when the job has succeeded, ErrLater when Resume will tell after the
	// next start, ErrRejected in the chain when it will not do that, and any other error
	// when it has failed. What may be shown of an error is its fault.Message.
	Do(ctx context.Context, t *Task) error
}

// Resumer is a Handler that can tell what became of a job that a stop has interrupted.
// The others' jobs have failed.
type Resumer interface {
	Resume(ctx context.Context, t *Task) error
}

// What handlers return.
var (
	ErrLater    = errors.New("the end comes after a restart")
	ErrRejected = errors.New("rejected")
)

// Reject makes an error with ErrRejected in the chain.
func Reject(format string, args ...any) error {
	return fault.Wrap(fault.Invalid, ErrRejected, format, args...)
}

// Task is a job at work.
type Task struct {
	Job       string
	Number    int64
	Operation string
	Details   map[string]string // what was reported last; what Do adds is reported at its end
	document  []byte
	report    func(details map[string]string) error
}

// Into reads the document.
func (t *Task) Into(v any) error {
	if err := json.Unmarshal(t.document, v); err != nil {
		return Reject("the job document is not what %s expects", t.Operation)
	}
	return nil
}

// Set notes a detail: at most 1024 characters without control characters are kept.
func (t *Task) Set(name, text string) {
	if t.Details == nil {
		t.Details = map[string]string{}
	}
	if text = clean(text); text != "" {
		t.Details[name] = text
	}
}

// Report tells the details so far. When it returns they are on the disk.
func (t *Task) Report() error { return t.report(t.Details) }

// clean makes text fit for a detail; of a longer one the end is kept.
func clean(s string) string {
	s = strings.Map(func(c rune) rune {
		switch {
		case c == '\n' || c == '\t' || c == '\r':
			return ' '
		case c < ' ' || c >= 0x7f && c < 0xa0 || c == utf8.RuneError:
			return -1
		}
		return c
	}, s)
	s = strings.TrimSpace(s)
	if n := utf8.RuneCountInString(s); n > 1024 {
		for range n - 1024 {
			_, w := utf8.DecodeRuneInString(s)
			s = s[w:]
		}
	}
	return s
}

// Runner does the jobs of one thing.
type Runner struct {
	thing    string
	queue    Queue
	handlers map[string]Handler
	clk      clock.Clock
	log      *slog.Logger
	wake     chan struct{} // 1: look at the queue; full: it will be looked at
}

// New makes the runner for a thing. Handlers are by operation.
func New(thing string, q Queue, handlers map[string]Handler, clk clock.Clock, log *slog.Logger) *Runner {
	return &Runner{thing: thing, queue: q, handlers: handlers, clk: clk, log: log, wake: make(chan struct{}, 1)}
}

// Wake says that there may be something to do. It may be called from anywhere and does
// not block.
func (r *Runner) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// idle is how often the queue is looked at without being told to.
const idle = time.Minute

// Run does jobs until ctx ends.
func (r *Runner) Run(ctx context.Context, ready func()) error {
	ready()
	if err := r.interrupted(ctx); err != nil {
		return err
	}
	t := r.clk.NewTimer(idle)
	defer t.Stop()
	for {
		for ctx.Err() == nil {
			v, err := r.queue.Take(r.thing)
			if err != nil {
				return fmt.Errorf("take the next job: %w", err)
			}
			if v == nil {
				break
			}
			if later, err := r.do(ctx, v, false); err != nil || later {
				if err == nil {
					<-ctx.Done() // the restart it waits for
				}
				return err
			}
		}
		t.Reset(idle)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C():
		case <-r.wake:
		}
	}
}

// interrupted deals with what was in progress when the gateway stopped.
func (r *Runner) interrupted(ctx context.Context) error {
	for {
		l, err := r.queue.Peek(r.thing)
		if err != nil {
			return fmt.Errorf("look for interrupted jobs: %w", err)
		}
		if len(l.InProgress) == 0 || ctx.Err() != nil {
			return nil
		}
		v, err := r.queue.Take(r.thing)
		if err != nil || v == nil {
			return err
		}
		if later, err := r.do(ctx, v, true); err != nil || later {
			return err
		}
	}
}

// do carries out a job, or resumes it, and reports how it ended.
func (r *Runner) do(ctx context.Context, v *jobs.View, again bool) (later bool, err error) {
	op, doc := operation(v.Document)
	t := &Task{Job: v.Job, Number: v.Number, Operation: op, document: doc, Details: map[string]string{}, report: func(d map[string]string) error {
		return r.queue.Report(r.thing, v.Job, jobs.UpdateRequest{Status: jobs.InProgress, Number: v.Number, Details: d})
	}}
	for k, d := range v.Details {
		t.Details[k] = d
	}
	log := r.log.With(logs.Job, v.Job)
	log.Info("job for the gateway begins", "operation", op, "resumed", again)
	err = r.call(ctx, t, again)
	if errors.Is(err, ErrLater) {
		return true, nil
	}
	if ctx.Err() != nil {
		return false, nil // whether it has done its work nobody knows; the next start tells
	}
	status := jobs.Succeeded
	switch {
	case errors.Is(err, ErrRejected):
		status = jobs.Rejected
	case err != nil:
		status = jobs.Failed
	}
	if err != nil {
		t.Set("reason", fault.Message(err))
		log.Warn("job for the gateway did not succeed", "status", string(status), logs.Err(err))
	} else {
		log.Info("job for the gateway has succeeded")
	}
	err = r.queue.Report(r.thing, v.Job, jobs.UpdateRequest{Status: status, Number: v.Number, Details: t.Details})
	switch fault.Of(err) {
	case fault.NotFound, fault.Conflict, fault.Invalid: // cancelled or deleted meanwhile
		log.Warn("end of a job could not be reported", logs.Err(err))
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("report the end of job %s: %w", v.Job, err)
	}
	return false, nil
}

// call calls the handler. A panic is its failure, not the gateway's.
func (r *Runner) call(ctx context.Context, t *Task, again bool) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.Wrap(fault.Internal, fmt.Errorf("panic: %v", p), "the handler of %s has failed", t.Operation)
		}
	}()
	h := r.handlers[t.Operation]
	if h == nil {
		return Reject("this gateway does not know the operation %q", t.Operation)
	}
	if !again {
		return h.Do(ctx, t)
	}
	if res, ok := h.(Resumer); ok {
		return res.Resume(ctx, t)
	}
	return fault.New(fault.Unavailable, "the gateway was stopped in the middle of it")
}

// operation gives what a document asks for and what the handler gets to read.
func operation(document string) (string, []byte) {
	var own struct {
		Operation string `json:"operation"`
		Steps     []struct {
			Action struct {
				Type  string `json:"type"`
				Input struct {
					Handler string `json:"handler"`
					Command string `json:"command"`
				} `json:"input"`
			} `json:"action"`
		} `json:"steps"`
	}
	if json.Unmarshal([]byte(document), &own) != nil {
		return "", nil
	}
	if own.Operation != "" || len(own.Steps) != 1 {
		return own.Operation, []byte(document)
	}
	switch a := own.Steps[0].Action; {
	case a.Type == "runHandler" && a.Input.Handler == "reboot.sh":
		return "reboot", []byte(`{}`)
	case a.Type == "runCommand":
		doc, err := json.Marshal(map[string]string{"command": a.Input.Command})
		if err != nil {
			return "", nil
		}
		return "run", doc
	default:
		return a.Input.Handler, []byte(document)
	}
}
