package broker

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"tidegate/gateway/broker/session"
	"tidegate/gateway/journal"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// fill gives the client what is not in the session's memory: what was sent before on an
// earlier connection, retained messages, and what was left to the journal. It reads
// with no lock held and ends when nothing is left, the client takes no more, or is gone;
// wake starts it again. There is one at a time.
func (s *client) fill() {
	defer s.b.wg.Done()
	var ob Outbox
	for again := true; again; {
		s.mu.Lock()
		again = s.fillSome(&ob)
		if !again {
			s.filling = false
		}
		freed := s.freed
		s.freed = nil
		s.mu.Unlock()
		for _, h := range freed {
			h.g.acked(h.id)
		}
		if len(ob.conns) > 0 {
			s.b.Flush(&ob)
		}
	}
}

// fillSome does the next bit of work. The caller holds mu, which is released meanwhile.
func (s *client) fillSome(ob *Outbox) bool {
	c := s.conn.Load()
	if s.gone || s.b.closing.Load() {
		return false
	}
	if len(s.write2) > 0 || s.tidy2 {
		return s.flush2()
	}
	if len(s.paid) > 0 {
		return s.settleDebts()
	}
	if c == nil {
		s.reader, s.left = nil, nil
		return false
	}
	if s.resend < s.resendEnd {
		return s.resendSome(c, ob)
	}
	if s.resend2() {
		return s.resendSome2(c, ob)
	}
	if !s.queue.empty() {
		s.pump(c, ob)
	}
	if s.room() <= 0 {
		return false
	}
	if len(s.ret) > 0 {
		return s.sendRetained(c, ob)
	}
	if !s.behind {
		return false
	}
	if !s.pending {
		s.caughtUp(c, ob)
		return len(s.write2) > 0
	}
	return s.readSome(c, ob)
}

// caughtUp ends being behind.
func (s *client) caughtUp(c *Conn, ob *Outbox) {
	s.behind, s.pending = false, false
	s.reader, s.left, s.waits = nil, nil, waits{}
	s.b.stats.behind.Add(-1)
	s.pump(c, ob)
	s.settle()
}

// readSome reads one run of the journal and sends what of it is the client's.
func (s *client) readSome(c *Conn, ob *Outbox) bool {
	if s.left == nil {
		if s.reader == nil {
			s.reader = s.b.jr.Reader(s.pos)
		}
		r := s.reader
		s.mu.Unlock()
		first, run, ok, err := r.Next()
		s.mu.Lock()
		var gap *journal.GapError
		switch {
		case errors.As(err, &gap):
			s.missed(s.pos, gap)
			s.advance(max(s.pos, gap.To+1))
			return true
		case err != nil:
			s.b.log.Error("a session cannot read the journal", "client", s.id, "err", err)
			s.reader = nil
			s.b.after(time.Second, s.retry)
			return false
		case !ok:
			if s.pos = max(s.pos, r.Pos()); s.pos >= s.b.jr.Next() {
				s.skip = max(s.skip, s.pos)
				s.caughtUp(c, ob)
				return true
			}
			return true
		}
		s.left, s.leftAt = run, first
	}
	if s.conn.Load() != c {
		return true
	}
	return s.sendLeft(c, ob)
}

// retry starts the filler again after a failure.
func (s *client) retry() {
	s.mu.Lock()
	s.wake()
	s.mu.Unlock()
}

// advance sets the position in the journal.
func (s *client) advance(pos uint64) {
	s.pos = pos
	s.settle()
}

// sendLeft sends from the run read last, and says whether to go on.
func (s *client) sendLeft(c *Conn, ob *Outbox) bool {
	run, first := s.left, s.leftAt
	n := len(run.Frames)
	at, until := s.beyond(max(s.pos, first))
	k := int(min(at-first, uint64(n)))
	stop := n // where a gap begins
	if until != 0 && until < first+uint64(n) {
		stop = int(until - first)
	}
	var g *grant
	if k < n {
		g = s.grantOf(run, first)
	}
	if g == nil {
		s.left = nil
		s.advance(max(s.pos, first+uint64(n)))
		return true
	}
	if s.pump(c, ob); !s.queue.empty() && s.queue.items[s.queue.at].after <= s.pos {
		return s.room() > 0 && !c.clogged() // what came before it has not gone out
	}
	wait := uint32(0)
	if d := s.b.clk.Now().Sub(run.At); d >= time.Second {
		wait = uint32(min(d/time.Second, 1<<31))
	}
	f := newFan(run, wait)
	defer f.free()
	v := f.as(s.v5, min(run.QoS, g.qos), run.Retain && g.rap, g.ids)
	from := k
	for k < stop && s.room() > 0 {
		m := k // the stretch of messages that have not expired
		for m < stop && !expired(run, m, wait) {
			m++
		}
		switch {
		case m == k:
			k++
			s.b.stats.expired.Add(1)
		case v.QoS == 2 && c.clogged():
			s.waits.less(run, from, k)
			s.advance(first + uint64(k))
			return false // roomAgain wakes us
		case v.QoS == 2:
			start, end := v.Frames[k].Start, uint32(len(v.Buf))
			if k+1 < n {
				end = v.Frames[k+1].Start
			}
			s.start2(v.Buf[start:end], v.Frames[k].ID-start, first+uint64(k))
			k++
		default:
			part := *v
			if m < n {
				part.Buf, part.Frames = v.Buf[:v.Frames[m].Start], v.Frames[:m]
			}
			sent := s.sendRun(c, &part, k, first, ob)
			if k += sent; sent == 0 {
				s.waits.less(run, from, k)
				s.advance(first + uint64(k))
				return false // the output is full; roomAgain wakes us
			}
		}
	}
	if k == n {
		s.left = nil
	}
	s.waits.less(run, from, k)
	s.advance(first + uint64(k))
	return true
}

// clogged says whether the output takes no more messages.
func (c *Conn) clogged() bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.closed || c.full()
}

// grantOf gives what the session gets of a run in the journal, nil for nothing.
func (s *client) grantOf(run *mqtt.Run, first uint64) *grant {
	g := grant{none: true}
	own := run.Origin == mqtt.Client && run.From == s.id
	for i := range s.rec.Subs {
		x := &s.rec.Subs[i]
		if x.Shared() || x.Since > first || own && x.NoLocal || !mqtt.Match(x.Filter, run.Topic) {
			continue
		}
		g.add(subscription{qos: x.QoS, rap: x.RAP, id: x.ID})
	}
	if g.none || min(g.qos, run.QoS) == 0 || !s.b.az.MayReceive(s.who(), run.Topic) {
		return nil
	}
	return &g
}

// readOne reads message seq of the journal.
func (s *client) readOne(seq uint64) (*mqtt.Run, int) {
	r := s.b.jr.Reader(seq)
	first, run, ok, err := r.Next()
	if err != nil || !ok || first > seq || seq >= first+uint64(len(run.Frames)) {
		return nil, 0
	}
	return run, int(seq - first)
}

// encode gives message i of run as the session's client gets it.
func (s *client) encode(run *mqtt.Run, i int, first uint64, qos byte) (frame []byte, idAt uint32) {
	one := *run
	one.Buf, one.Frames = run.Frame(i), []mqtt.Frame{{ID: run.Frames[i].ID - run.Frames[i].Start}}
	g := s.grantOf(run, first)
	if g == nil { // unsubscribed since; what was sent before is finished nonetheless
		g = &grant{qos: qos}
	}
	var v mqtt.Run
	wait := uint32(0)
	if d := s.b.clk.Now().Sub(run.At); d >= time.Second {
		wait = uint32(min(d/time.Second, 1<<31))
	}
	recode(&v, &one, s.v5, qos, run.Retain && g.rap, g.ids, wait)
	return v.Buf, v.Frames[0].ID
}

// resendSome sends the next few messages of the window again, with their packet ids and
// DUP ([MQTT-4.4.0-1]).
func (s *client) resendSome(c *Conn, ob *Outbox) bool {
	s.resend = max(s.resend, s.win.head)
	if s.resend >= s.resendEnd {
		return true
	}
	i := s.resend
	if s.win.isAcked(i) {
		s.resend++
		return true
	}
	k, have := s.win.kept[i]
	frame, idAt := k.frame, k.idAt
	if !have {
		seq := s.win.seq(i)
		if seq != 0 {
			s.mu.Unlock()
			run, at := s.readOne(seq)
			s.mu.Lock()
			if s.conn.Load() != c || s.resend != i || i < s.win.head || s.win.isAcked(i) {
				return true
			}
			if run != nil {
				frame, idAt = s.encode(run, at, seq, 1)
			}
		}
	}
	if frame == nil { // the journal has lost it, and says so
		s.b.stats.gaps.Add(1)
		s.win.ack(s.win.id(i))
		s.resend++
		s.settle()
		return true
	}
	if !c.lockOut() || c.full() {
		c.out.mu.Unlock()
		return false
	}
	id := s.win.id(i)
	switch {
	case c.special != nil:
		if !c.sendSpecial(frame, idAt, id, true) {
			k, _ := s.win.ack(id)
			s.pay(k.h.debt)
		}
	default:
		at := len(c.out.buf)
		c.out.buf = append(c.out.buf, frame...)
		c.out.buf[at] |= 8
		binary.BigEndian.PutUint16(c.out.buf[at+int(idAt):], id)
	}
	c.unlockOut(ob)
	s.resend++
	return true
}

// resendSome2 goes on with the oldest QoS 2 exchange that waits.
func (s *client) resendSome2(c *Conn, ob *Outbox) bool {
	var due []*outgoing
	for _, o := range s.out2 {
		if o.again && !o.dirty {
			due = append(due, o)
		}
	}
	slices.SortFunc(due, func(a, b *outgoing) int {
		if a.key < b.key {
			return -1
		}
		return 1
	})
	for _, o := range due {
		if o.state == session.Sent && o.frame == nil && o.debt != nil {
			var ids []uint32
			if x := s.rec.Find(o.debt.filter); x != nil {
				ids = grantOfSub(x).ids
			}
			s.mu.Unlock()
			frame, idAt := s.retainedAgain(o, ids)
			s.mu.Lock()
			if s.conn.Load() != c || o.state != session.Sent {
				return true
			}
			if o.frame, o.idAt = frame, idAt; frame == nil {
				s.finish2(o)
				continue
			}
		}
		if o.state == session.Sent && o.frame == nil {
			s.mu.Unlock()
			run, at := s.readOne(o.seq)
			s.mu.Lock()
			if s.conn.Load() != c || o.state != session.Sent {
				return true
			}
			if run == nil {
				s.b.stats.gaps.Add(1)
				s.finish2(o)
				continue
			}
			o.frame, o.idAt = s.encode(run, at, o.seq, 2)
		}
		if o.again && !s.send2(c, o, ob) {
			return false
		}
	}
	return true
}

// askCursor gives a session that does not outlive its connection a cursor into the
// journal, because it does not keep up: from now on its messages are journalled, and it
// reads them there.
func (s *client) askCursor() {
	defer s.b.wg.Done()
	name := s.b.cursorName("clean")
	var cur *journal.Cursor
	err := s.b.db.Wait(func(u *store.Unit) error {
		cur = s.b.jr.Create(u, name)
		return nil
	})
	s.mu.Lock()
	if err != nil {
		s.asked = false
		s.mu.Unlock()
		return
	}
	if s.gone {
		s.mu.Unlock()
		s.b.dropCursor(name)
		return
	}
	s.cursor, s.rec.Cursor = cur, name
	filters := make([]string, 0, len(s.rec.Subs))
	for i := range s.rec.Subs {
		filters = append(filters, s.rec.Subs[i].Filter)
	}
	s.mu.Unlock()
	s.wantsJournal.Store(true)
	s.b.table.touched(filters)
}
