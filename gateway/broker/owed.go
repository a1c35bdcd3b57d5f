package broker

import (
	"slices"
	"time"

	"tidegate/gateway/broker/session"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// Retained messages are not in the journal, from where a session is given again what it has
// not acknowledged. So the subscription of a persistent session notes on the disk that it
// is owed them, from SUBSCRIBE until the last is acknowledged. After a restart they are
// looked up and sent again; with QoS 2 all but those whose exchange has begun, which has a
// mark of its own.

// debt is the retained messages that one SUBSCRIBE of a persistent session asked for.
type debt struct {
	filter string
	owed   int64           // Sub.Owed; 0: the disk knows of nothing but marks
	left   int             // messages not acknowledged
	marks  []uint64        // on the disk: QoS 2 exchanges that are over
	begun  map[string]bool // topics of QoS 2 exchanges that a restart has found
	old    bool            // it was there at the start
}

// newDebt gives a number for Sub.Owed that none has had: the time, unix ns, or a little more.
func (b *Broker) newDebt() int64 {
	for {
		last := b.debts.Load()
		if n := max(b.clk.Now().UnixNano(), last+1); b.debts.CompareAndSwap(last, n) {
			return n
		}
	}
}

// owe makes the debt for list, which a subscription is to get. The caller holds mu.
func (s *client) owe(filter string, owed int64, list []retainedEntry) {
	if owed == 0 && len(list) == 0 {
		return
	}
	d := &debt{filter: filter, owed: owed, left: len(list)}
	for i := range list {
		list[i].debt = d
	}
	s.debts = append(s.debts, d)
	if d.left == 0 {
		s.paid = append(s.paid, d)
	}
}

// pay notes that one message of d, which may be nil, needs nothing more. The caller holds mu.
func (s *client) pay(d *debt) {
	if d == nil {
		return
	}
	if d.left--; d.left == 0 {
		s.paid = append(s.paid, d)
		s.wake()
	}
}

// settleDebts takes off the disk what is paid. The caller, the filler, holds mu, which is
// released meanwhile.
func (s *client) settleDebts() bool {
	paid := s.paid
	s.paid = nil
	s.mu.Unlock()
	err := s.b.db.Wait(func(u *store.Unit) error {
		u.Vital = true
		u.Lock(sessionLock(s.id))
		if s.ending.Load() {
			return nil
		}
		for _, d := range paid {
			for _, key := range d.marks {
				session.DelOut(u, s.id, key)
			}
			if d.owed == 0 {
				continue
			}
			if err := session.PaySub(u, s.id, d.filter, d.owed); err != nil {
				return err
			}
		}
		return nil
	})
	s.mu.Lock()
	if err != nil {
		s.paid = append(paid, s.paid...)
		return false
	}
	s.debts = slices.DeleteFunc(s.debts, func(d *debt) bool { return slices.Contains(paid, d) })
	subs := slices.Clone(s.rec.Subs) // lists of it are out
	for i := range subs {
		if slices.ContainsFunc(paid, func(d *debt) bool { return d.filter == subs[i].Filter && d.owed == subs[i].Owed }) {
			subs[i].Owed = 0
		}
	}
	s.rec.Subs = subs
	return true
}

// oldDebt gives the debt of a restored session's subscription.
func (s *client) oldDebt(filter string) *debt {
	for _, d := range s.debts {
		if d.filter == filter {
			return d
		}
	}
	d := &debt{filter: filter, begun: map[string]bool{}, old: true}
	if x := s.rec.Find(filter); x != nil {
		d.owed = x.Owed
	}
	s.debts = append(s.debts, d)
	return d
}

// restoreDebts looks up what the session is owed, once it is known what is retained.
func (s *client) restoreDebts() {
	for i := range s.rec.Subs {
		x := &s.rec.Subs[i]
		if x.Owed == 0 {
			continue
		}
		d := s.oldDebt(x.Filter)
		for _, e := range s.b.retained.match(x.Filter, s.b.retained.now(), grantOfSub(x)) {
			if !d.begun[e.topic] {
				e.debt = d
				d.left++
				s.ret = append(s.ret, e)
			}
		}
	}
	for _, d := range s.debts {
		if d.begun = nil; d.left == 0 {
			s.paid = append(s.paid, d)
		}
	}
}

// grantOfSub gives what a subscription alone gets.
func grantOfSub(x *session.Sub) grant {
	g := grant{qos: x.QoS}
	if x.ID > 0 {
		g.ids = []uint32{x.ID}
	}
	return g
}

// retainedAgain makes the frame of a retained message whose exchange began before a
// restart. It is nil when something else has been retained since, which the subscription
// has got as every message.
func (s *client) retainedAgain(o *outgoing, ids []uint32) (frame []byte, idAt uint32) {
	m, ok, err := session.Retained(s.b.db, o.topic)
	if err != nil || !ok || m.At.UnixMilli() != o.at {
		return nil, 0
	}
	wait := uint32(0)
	if d := s.b.clk.Now().Sub(m.At); d >= time.Second {
		wait = uint32(min(d/time.Second, 1<<31))
	}
	m.Retain = true
	var v mqtt.Run
	recode(&v, mqtt.NewRun(&m), s.v5, 2, true, ids, wait)
	return v.Buf, v.Frames[0].ID
}
