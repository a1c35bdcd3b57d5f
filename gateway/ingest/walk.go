package ingest

import (
	"bytes"

	"tidegate/gateway/broker"
	"tidegate/gateway/broker/session"
	"tidegate/gateway/journal"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// trip is a run whose messages have to be looked at one by one, with all they cause.
type trip struct {
	r      *Road
	run    *mqtt.Run // a copy of ours: it is read again after the commit
	from   broker.Acker
	legs   []leg
	caused int   // messages beside those of run
	err    error // what went wrong with one of those
}

// leg is one run to deliver after the commit.
type leg struct {
	run  *mqtt.Run
	plan *plan
	rec  int // its record block in the unit, -1: not journalled
}

// walk sends a run down the road whose messages may cause something.
func (r *Road) walk(run *mqtt.Run, p *plan, from broker.Acker, ob *broker.Outbox) {
	for at := 0; at < len(run.Frames); at += perUnit {
		part := slice(run, at, min(at+perUnit, len(run.Frames)))
		part.Topic = p.topic
		t := &trip{r: r, run: part, from: from}
		if err := r.db.Do(func(u *store.Unit) error { return t.build(u, p) }, t.done); err != nil {
			r.refuse(part, err)
			from.Ack(part, err, ob)
		}
	}
}

// Commit gives a room a unit of its own: build fills it and hands what it has to say to emit, in order; the
// messages go down the road in the same unit. It serves requests that did not come as a message: REST, the command
// line, timers. build may run several times and must have no other effect; its error is returned, and done is
// then not called. done, which may be nil, runs in commit order when all of it is on disk, and must not block.
func (r *Road) Commit(build func(u *store.Unit, emit func(mqtt.Message)) error, done func(error)) error {
	t := &trip{r: r, run: &mqtt.Run{Origin: mqtt.Service, At: r.clk.Now()}, from: ackFunc(done)}
	return r.db.Do(func(u *store.Unit) error {
		t.reset()
		if err := build(u, func(m mqtt.Message) { t.cause(u, m) }); err != nil {
			return err
		}
		return t.err
	}, t.done)
}

// slice copies messages from up to to of run.
func slice(run *mqtt.Run, from, to int) *mqtt.Run {
	c := *run
	c.Memo = nil
	start, end := run.Frames[from].Start, uint32(len(run.Buf))
	if to < len(run.Frames) {
		end = run.Frames[to].Start
	}
	c.Buf = bytes.Clone(run.Buf[start:end])
	c.Frames = make([]mqtt.Frame, to-from)
	for i, f := range run.Frames[from:to] {
		c.Frames[i] = mqtt.Frame{Start: f.Start - start, ID: f.ID - start}
	}
	return &c
}

func (t *trip) reset() { t.legs, t.caused, t.err = t.legs[:0], 0, nil }

// build fills u with all that the trip's messages cause. It may run several times.
func (t *trip) build(u *store.Unit, p *plan) error {
	t.reset()
	t.add(u, t.run, p)
	if mark, ok := t.from.(broker.Stamper); ok {
		mark.Stamp(u, t.run)
	}
	for i := range t.run.Frames {
		m := t.run.Message(i)
		if err := t.follow(u, &m, p); err != nil {
			return err
		}
	}
	return nil
}

// add puts a run into u as far as somebody durable wants it, and notes it for delivery.
func (t *trip) add(u *store.Unit, run *mqtt.Run, p *plan) {
	l := leg{run: run, plan: p, rec: -1}
	if !p.private && run.To == "" && (p.kept || run.QoS > 0 && p.route.Durable) {
		l.rec = u.Append(journal.Block(run))
	}
	if !p.private {
		session.Retain(u, run)
	}
	t.legs = append(t.legs, l)
}

// follow adds what m causes: the answers of a reserved topic, the results of rules.
func (t *trip) follow(u *store.Unit, m *mqtt.Message, p *plan) error {
	if p.reserved {
		err := t.r.reserved.Handle(u, m, func(reply mqtt.Message) {
			reply.Origin, reply.Hops = mqtt.Service, m.Hops
			t.cause(u, reply)
		})
		if err != nil {
			return err
		}
	}
	if p.rules != nil && m.To == "" { // an answer is seen by nobody else, rules included
		for _, result := range p.rules.Eval(m) {
			t.cause(u, result)
		}
	}
	return t.err
}

// cause sends a message made on the road down the same road, in the same unit.
func (t *trip) cause(u *store.Unit, m mqtt.Message) {
	if t.caused++; t.caused > maxResults {
		t.r.cut.Add(1)
		return
	}
	if m.At.IsZero() {
		m.At = t.run.At
	}
	if err := m.Check(); err != nil { // rules check their topics themselves; nothing else can be wrong
		t.r.cut.Add(1)
		return
	}
	run := mqtt.NewRun(&m)
	p := t.r.planFor(run)
	t.add(u, run, p)
	if err := t.follow(u, &m, p); err != nil {
		t.err = err
	}
}

// done delivers everything in the order in which it was caused, then acknowledges.
func (t *trip) done(first []uint64, err error) {
	r := t.r
	if err == nil {
		for i := range t.legs {
			l := &t.legs[i]
			var n uint64
			if l.rec >= 0 {
				n = first[l.rec]
			}
			if !l.plan.private {
				r.br.Deliver(l.run, n, l.plan.route, &r.batch)
			}
		}
	}
	t.from.Ack(t.run, err, &r.batch)
}
