package jobs

import (
	"container/heap"
	"context"
	"strings"
	"time"

	"tidegate/gateway/fault"
)

// Commit makes a unit: build fills it and hands out what has to be told; it may run
// several times. Commit returns when all of it is on the disk, or with the error of build
// or of the store.
type Commit func(build func(tx Tx, tell func(Notice)) error) error

// alarm is an appointment. Its key is in the store as long as it holds.
type alarm struct {
	key   string
	at    int64 // milliseconds; later than the key says when it was put off
	force bool  // look even though the key is not stored
}

// alarms is a heap of appointments, the earliest first. Those that no longer hold stay
// in it until their time.
type alarms []alarm

func (a alarms) Len() int { return len(a) }
func (a alarms) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].key < a[j].key
}
func (a alarms) Swap(i, j int) { a[i], a[j] = a[j], a[i] }

// Push and Pop are for container/heap.
func (a *alarms) Push(x any) { *a = append(*a, x.(alarm)) }

// Pop takes the last one.
func (a *alarms) Pop() any {
	old := *a
	x := old[len(old)-1]
	old[len(old)-1] = alarm{}
	*a = old[:len(old)-1]
	return x
}

func (a *alarms) push(x alarm) { heap.Push(a, x) }

// execAtOnce is how many executions' timers share a unit, execs of one step of a job:
// what a unit causes has to stay within the messages that may go with it.
const execAtOnce = 16

// putOff is how long an appointment waits that cannot be kept now.
const putOff = 30 * time.Second

// Work does everything that is due: rollouts, starts and ends, timers, and what follows
// from things joining and leaving groups. It gives when there will be more, ok false when
// nothing is foreseen. One caller at a time.
func (r *Room) Work(ctx context.Context, commit Commit) (next time.Time, ok bool, err error) {
	r.mu.Lock()
	if now := r.Clock.Now(); now.Before(r.last.Add(-time.Minute)) {
		r.kick() // the date was set back
	}
	r.last = r.Clock.Now()
	r.mu.Unlock()
	for ctx.Err() == nil {
		if err := r.follow(ctx, commit); err != nil {
			return time.Time{}, false, err
		}
		batch, next, err := r.due()
		if err != nil {
			return time.Time{}, false, err
		}
		if len(batch) == 0 {
			return time.UnixMilli(next), next != 0, nil
		}
		if err := r.serve(batch, commit); err != nil {
			r.mu.Lock()
			for _, a := range batch {
				a.at = r.Clock.Now().Add(time.Second).UnixMilli()
				r.alarms.push(a)
			}
			r.mu.Unlock()
			return time.Time{}, false, err
		}
	}
	return time.Time{}, false, nil
}

// due takes the next appointments whose time has come: one of a job, or several of
// executions. With none, next is when the earliest one will be.
func (r *Room) due() (batch []alarm, next int64, err error) {
	now, trusted := r.Clock.Now(), r.Clock.Trusted()
	for {
		r.mu.Lock()
		if len(r.alarms) == 0 || r.alarms[0].at > now.UnixMilli() {
			if len(r.alarms) > 0 {
				next = r.alarms[0].at
			}
			r.mu.Unlock()
			return batch, next, nil
		}
		a := heap.Pop(&r.alarms).(alarm)
		kind, _, _ := a.parts()
		if kind == alarmExec && !trusted { // when a timer ends nobody knows without the date
			a.at = now.Add(putOff).UnixMilli()
			r.alarms.push(a)
			r.mu.Unlock()
			continue
		}
		if kind == alarmJob && len(batch) > 0 {
			r.alarms.push(a)
			r.mu.Unlock()
			return batch, 0, nil
		}
		r.mu.Unlock()
		if !a.force {
			b, err := r.Store.Get(a.key)
			if err != nil {
				return nil, 0, fault.Wrap(fault.Internal, err, "jobs cannot be read")
			}
			if b == nil {
				continue // called off
			}
		}
		if batch = append(batch, a); kind == alarmJob || len(batch) == execAtOnce {
			return batch, 0, nil
		}
	}
}

// parts takes an appointment's key apart.
func (a *alarm) parts() (kind, job, thing string) {
	rest := a.key[len(keyAlarm):]
	_, rest, _ = strings.Cut(rest, "/")
	kind, rest, _ = strings.Cut(rest, "/")
	job, thing, _ = strings.Cut(rest, "/")
	return kind, job, thing
}

// serve keeps appointments, in one unit. Of several that fail for a reason of their own
// each is tried alone, and what still fails is put off: one damaged record must not stop
// everything else.
func (r *Room) serve(batch []alarm, commit Commit) error {
	err := commit(func(tx Tx, tell func(Notice)) error {
		c := r.change(tx)
		for i := range batch {
			if err := c.keep(&batch[i]); err != nil {
				return err
			}
		}
		return c.finish(tell)
	})
	switch {
	case err == nil || fault.Of(err) != fault.Internal:
		return err
	case len(batch) > 1:
		for i := range batch {
			if err := r.serve(batch[i:i+1], commit); err != nil {
				return err
			}
		}
		return nil
	}
	_, job, thing := batch[0].parts()
	r.Log.Error("a job's appointment cannot be kept", "err", err, "job", job, "thing", thing)
	r.mu.Lock()
	batch[0].at = r.Clock.Now().Add(time.Hour).UnixMilli()
	r.alarms.push(batch[0])
	r.mu.Unlock()
	return nil
}

// keep does what an appointment was made for, if it still holds.
func (c *change) keep(a *alarm) error {
	kind, id, thing := a.parts()
	j, err := c.job(id)
	if err != nil {
		return err
	}
	if j == nil {
		if !a.force {
			c.del(a.key)
		}
		return nil
	}
	if kind == alarmJob {
		if a.force || j.st.Alarm != 0 && alarmKey(j.st.Alarm, alarmJob, id, "") == a.key {
			return c.advance(j)
		}
		return nil
	}
	t, err := c.thing(thing)
	if err != nil {
		return err
	}
	rec, err := c.record(t, id)
	if err != nil {
		return err
	}
	x := rec.latest()
	if x == nil || x.Alarm == 0 || alarmKey(x.Alarm, alarmExec, id, thing) != a.key {
		return nil
	}
	if c.overdue(x) {
		c.move(j, t, rec, x, TimedOut)
	}
	rec.dirty = true // a timer without a date gets one
	return nil
}

// overdue says whether the time of an execution is up.
func (c *change) overdue(x *Execution) bool {
	end := x.end()
	return c.trusted && end != 0 && end <= c.now && !x.undated()
}
