// Package jobs keeps jobs and what becomes of them on each thing: definitions, rollouts,
// the state machine of executions, timers, retries, aborts, schedules and templates
// (spec/jobs.md).
//
// A call works on a unit of the store and only reads and fills it, so that a change, the
// messages that tell of it and whatever else it causes are committed together, and a unit
// may be built again. What others have to hear of a change is handed out as Notices; the
// room sends nothing and spells no topic. What happens by itself (a rollout going on, a
// timer, a thing that joins a group) is done by Work, in units of its own: appointments
// are keys of the store, so that a restart forgets none, and a step of a rollout is one
// unit, so that none is done twice.
//
// The room does not know who may ask for what, and does not keep things and groups: it
// asks a Fleet.
//
//	room, err := jobs.Open(jobs.Deps{Store: db, Clock: clk, Fleet: fleet, Base: "arn:aws:iot:local-1:000000000000:"})
//	err = db.Wait(func(u *store.Unit) error {
//		_, err := room.Create(u, tell, jobs.CreateInput{JobID: "fw-7", Targets: []string{room.ThingARN("pump1")}, Document: `{"op":"fw"}`})
//		return err
//	})
package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
)

// What a code alone does not say; doors turn these into exception names and the codes of
// spec/jobs.md §3.4.
var (
	ErrTransition = errors.New("invalid state transition") // InvalidStateTransition
	ErrVersion    = errors.New("version mismatch")         // VersionMismatch
	ErrTerminal   = errors.New("terminal state reached")   // TerminalStateReached
	ErrJSON       = errors.New("not JSON")                 // InvalidJson
)

// StateError is in the chain of a refused update: how the execution stands.
type StateError struct {
	Err error // ErrTransition or ErrVersion
	Now ExecutionState
}

func (e *StateError) Error() string { return e.Err.Error() }

// Unwrap gives the kind of refusal.
func (e *StateError) Unwrap() error { return e.Err }

// Tx is what the room needs of a *store.Unit.
type Tx interface {
	Get(key string) ([]byte, error)
	Put(key string, val []byte)
	Del(key string)
	Lock(name string)
	Then(func(number uint64, err error))
}

// Reader is what listings need of a *store.Store.
type Reader interface {
	Get(key string) ([]byte, error)
	Scan(prefix string, fn func(key string, val []byte) bool) error
}

// Fleet knows things and groups. It may be asked at any time, from any goroutine, and
// must not call back into the room.
type Fleet interface {
	// Thing says whether a thing is registered.
	Thing(name string) bool
	// Group says whether a group exists, and whether its members may change without
	// Changed being called: those of a dynamic group follow from a query.
	Group(name string) (dynamic, ok bool)
	// Members gives the things of a group and of those below it, in order.
	Members(group string) []string
	// Within says whether a thing is in a group or in one below it.
	Within(thing, group string) bool
}

// Limits are the numbers a client can see (spec/jobs.md §8). A limit of 0 is off.
type Limits struct {
	Document int // bytes of a job document
	Targets  int // of a job
	Details  int // pairs of status details
	Notified int // executions listed in a notification
	Active   int // jobs that are scheduled or in progress
	// Requests is how many requests about one thing devices may make within a second. AWS IoT Core has none of a thing, but
	// 200 of each operation in an account; here it is off.
	Requests int
}

// DefaultLimits gives the limits of AWS IoT Core.
func DefaultLimits() Limits {
	return Limits{Document: 32 << 10, Targets: 100, Details: 10, Notified: 15, Active: 1000}
}

// Deps are what the room stands on.
type Deps struct {
	Store  Reader
	Clock  clock.Clock
	Fleet  Fleet
	Log    *slog.Logger // nil: nothing is logged
	Base   string       // "arn:aws:iot:REGION:ACCOUNT:"
	Limits Limits

	// Events says whether events of a kind, "JOB" or "JOB_EXECUTION", are wanted; nil: none
	// are.
	Events func(kind string) bool
	// Presign gives a URL under which a thing can fetch what a placeholder in a document
	// names, for as long as valid. It fails for what cannot be the URL of an object, whether
	// or not there is one, and then a job is refused. nil: placeholders stay as they are.
	Presign func(thing, source string, valid time.Duration) (string, error)
	// Source reads the job document at an S3 URL. nil: there is nothing to read.
	Source func(url string) ([]byte, error)
}

// Room is the jobs service. Its methods may be called concurrently.
type Room struct {
	Deps
	defs sync.Map // job id → *Job, valid as long as its raw form is the stored one

	mu      sync.Mutex // guards what follows
	alarms  alarms
	live    map[string]*live    // jobs that are scheduled or in progress
	changed map[string]struct{} // things that joined or left something, or came or went
	sweeps  map[string][]string // things of a job that a sweep has still to look at
	last    time.Time           // when Work last looked at the clock
	wake    chan struct{}       // 1: there is work; full: Run knows
}

// live is what is remembered of a job that is not over.
type live struct {
	continuous bool
	groups     []string
	things     []string
}

// Open makes the room over what the store holds.
func Open(d Deps) (*Room, error) {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	r := &Room{Deps: d, live: map[string]*live{}, changed: map[string]struct{}{}, sweeps: map[string][]string{}, wake: make(chan struct{}, 1)}
	if err := r.load(); err != nil {
		return nil, fmt.Errorf("open jobs: %w", err)
	}
	return r, nil
}

// load reads appointments and what is remembered of jobs that are not over.
func (r *Room) load() error {
	err := r.Store.Scan(keyAlarm, func(key string, _ []byte) bool {
		r.alarms.push(alarm{key: key, at: alarmAt(key)})
		return true
	})
	if err != nil {
		return err
	}
	var ids []string
	err = r.Store.Scan(keyState, func(key string, val []byte) bool {
		var st state
		if unpack(val, &st) == nil && st.Status.active() {
			ids = append(ids, key[len(keyState):])
		}
		return true
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		raw, err := r.Store.Get(keyJob + id)
		if err != nil {
			return err
		}
		j, err := r.parseJob(id, raw)
		if err != nil {
			r.Log.Error("job is damaged", "job", id, "err", err)
			continue
		}
		r.live[id] = r.liveOf(j)
	}
	r.kick()
	return r.recheck(false)
}

func (r *Room) liveOf(j *Job) *live {
	l := &live{continuous: j.Continuous}
	for _, arn := range j.Targets {
		if name, group, ok := r.target(arn); ok && group {
			l.groups = append(l.groups, name)
		} else if ok {
			l.things = append(l.things, name)
		}
	}
	return l
}

// kick has every job that is not over looked at again, whatever its appointment: the
// clock was not what it is now when that was made.
func (r *Room) kick() {
	now := r.Clock.Now().UnixMilli()
	for id := range r.live {
		r.alarms.push(alarm{key: alarmKey(now, alarmJob, id, ""), at: now, force: true})
	}
}

// Run does the room's work until ctx ends. commit makes a unit: see Work.
func (r *Room) Run(ctx context.Context, commit Commit) error {
	const look = time.Minute // the date may jump, and members of dynamic groups change in silence
	t := r.Clock.NewTimer(0)
	defer t.Stop()
	rechecked := r.Clock.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C():
		case <-r.wake:
		}
		if now := r.Clock.Now(); now.Sub(rechecked) >= look || now.Before(rechecked) {
			rechecked = now
			if err := r.recheck(true); err != nil {
				return err
			}
		}
		wait := look
		switch next, ok, err := r.Work(ctx, commit); {
		case err != nil && fault.Of(err) == fault.Internal:
			return err
		case err != nil: // no room, or the end: both pass
			r.Log.Warn("jobs wait for the store", "err", err)
			wait = 5 * time.Second
		case ok:
			wait = min(look, max(0, next.Sub(r.Clock.Now())))
		}
		t.Reset(wait)
	}
}

func (r *Room) awake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// ThingARN makes the ARN of a thing.
func (r *Room) ThingARN(name string) string { return r.Base + "thing/" + name }

// JobARN makes the ARN of a job.
func (r *Room) JobARN(id string) string { return r.Base + "job/" + id }
