package broker

import (
	"tidegate/gateway/mqtt"
)

// Deliver gives a committed run to everybody who subscribes to its topic. It is called
// in the order of commits, first being the journal number of the run's first message, 0
// when it is not in the journal. It does not block; what became ready to be written is
// in ob.
func (b *Broker) Deliver(run *mqtt.Run, first uint64, r *Route, ob *Outbox) {
	if run.Retain {
		m := run.Message(len(run.Frames) - 1)
		b.retained.note(&m)
	}
	if run.To != "" {
		b.deliverTo(run, ob)
		return
	}
	if r == nil || r.stale.Load() {
		r = b.Route(run.Topic)
	}
	if r.Targets == 0 {
		return
	}
	f := newFan(run, 0)
	for i := range r.to {
		t := &r.to[i]
		g := t.grantFor(run)
		if g.none {
			continue
		}
		qos := min(run.QoS, g.qos)
		v := f.as(t.s.v5, qos, run.Retain && g.rap, g.ids)
		if qos > 0 {
			t.s.enqueue(v, run, first, ob)
		} else if c := t.s.conn.Load(); c != nil {
			c.offer(v, ob)
		}
	}
	for _, g := range r.groups {
		g.deliver(run, first, ob)
	}
	f.free()
	for _, w := range r.watch {
		w.fn(run)
	}
}

// follower is an in-process subscriber.
type follower struct{ fn func(*mqtt.Run) }

// Watch calls fn for every run whose topic filter covers, in the order of commits, until
// cancel. fn must not block, and must copy what it keeps of the run.
func (b *Broker) Watch(filter string, fn func(run *mqtt.Run)) (cancel func()) {
	f := &follower{fn}
	t := &b.table
	t.mu.Lock()
	if _, err := t.watchers.Add(filter, f, struct{}{}); err == nil {
		t.changed(filter)
	}
	t.mu.Unlock()
	return func() {
		t.mu.Lock()
		if t.watchers.Remove(filter, f) {
			t.changed(filter)
		}
		t.mu.Unlock()
	}
}
