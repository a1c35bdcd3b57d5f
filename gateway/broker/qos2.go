package broker

import (
	"encoding/binary"
	"slices"

	"tidegate/gateway/broker/session"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// Exactly once across restarts (MQTT 5, 4.3.3) takes marks on disk on both sides.
//
// In: the packet id is committed together with the message, before PUBREC; it is removed
// before PUBCOMP, so that the client can use it again.
//
// Out: number and packet id are committed before PUBLISH is sent, since a client knows a
// message by its packet id only; the release is committed before PUBREL is sent,
// since PUBLISH must not follow it. What is finished is remembered until the session's
// cursor has passed it.

type inState byte

const (
	inReceived  inState = iota // on its way to the disk
	inCommitted                // PUBREC was sent
	inReleasing                // PUBREL was received; the mark is being removed

	inAgain inState = 8 // with inReceived and inReleasing: another connection asks, and is answered, too
)

// receive2 says whether the QoS 2 PUBLISH with packet id is new. One that is known and
// committed is answered again.
func (s *client) receive2(id uint16, c *Conn) bool {
	s.in2mu.Lock()
	defer s.in2mu.Unlock()
	st, known := s.in2[id]
	if s.conn.Load() != c {
		return false // taken over: the client sends it again there
	}
	if !known {
		if s.in2 == nil {
			s.in2 = map[uint16]inState{}
		}
		s.in2[id] = inReceived
		return true
	}
	if st == inReceived {
		s.in2[id] = inReceived | inAgain
	}
	if st == inCommitted {
		c.send([]byte{mqtt.PUBREC << 4, 2, byte(id >> 8), byte(id)}, &c.in.ob)
	}
	return false
}

// received2 notes that the messages of run, which came from c, are committed. Its
// answers are c's to give, except where the client has moved to another connection.
func (s *client) received2(run *mqtt.Run, c *Conn, ob *Outbox) {
	s.in2mu.Lock()
	defer s.in2mu.Unlock()
	for _, f := range run.Frames {
		id := binary.BigEndian.Uint16(run.Buf[f.ID:])
		st, known := s.in2[id]
		if !known {
			continue
		}
		s.in2[id] = inCommitted
		if now := s.conn.Load(); st&inAgain != 0 && now != nil && now != c {
			now.send([]byte{mqtt.PUBREC << 4, 2, byte(id >> 8), byte(id)}, ob)
		}
	}
}

// forget2 notes that the messages of run, which came from c, were refused for why. A client
// that has moved to another connection, and waits there for an answer, begins again.
func (s *client) forget2(run *mqtt.Run, c *Conn, why *Reason) {
	s.in2mu.Lock()
	defer s.in2mu.Unlock()
	for _, f := range run.Frames {
		id := binary.BigEndian.Uint16(run.Buf[f.ID:])
		if now := s.conn.Load(); s.in2[id]&inAgain != 0 && now != nil && now != c {
			now.kick(why)
		}
		delete(s.in2, id)
	}
}

// Stamp adds to the unit that commits a QoS 2 run what its session must remember with
// it. The road calls it for every run of QoS 2 whose Acker has it; Stamped says before
// whether there is anything to add, which makes the run durable.
func (c *Conn) Stamp(u *store.Unit, run *mqtt.Run) {
	if !c.Stamped(run) {
		return
	}
	u.Lock(sessionLock(c.sess.id))
	if c.sess.ending.Load() {
		return
	}
	for _, f := range run.Frames {
		session.PutIn(u, c.sess.id, binary.BigEndian.Uint16(run.Buf[f.ID:]))
	}
}

// Stamped says whether run must be committed even when nobody durable wants it.
func (c *Conn) Stamped(run *mqtt.Run) bool { return run.QoS == 2 && c.sess.persistent }

// released2 takes PUBRELs.
func (s *client) released2(c *Conn, ids []uint16, ob *Outbox) {
	var known []uint16
	s.in2mu.Lock()
	for _, id := range ids {
		switch st, ok := s.in2[id]; {
		case ok && st == inCommitted:
			known = append(known, id)
			s.in2[id] = inReleasing
		case ok && st&^inAgain == inReleasing: // PUBCOMP is on its way
			s.in2[id] = inReleasing | inAgain
		default:
			c.pubcompUnknown(id, ob)
		}
	}
	s.in2mu.Unlock()
	if len(known) == 0 {
		return
	}
	if !s.persistent {
		s.complete2(c, known, ob)
		return
	}
	err := s.b.db.Do(func(u *store.Unit) error {
		u.Vital = true
		u.Lock(sessionLock(s.id))
		if s.ending.Load() { // the marks are gone, and those of the same name are the next session's
			return nil
		}
		for _, id := range known {
			session.DelIn(u, s.id, id)
		}
		return nil
	}, func(_ []uint64, err error) {
		if err == nil {
			var ob Outbox
			s.complete2(c, known, &ob)
			s.b.Flush(&ob)
		}
	})
	if err != nil {
		c.in.err = errServer
	}
}

func (s *client) complete2(c *Conn, ids []uint16, ob *Outbox) {
	s.in2mu.Lock()
	for _, id := range ids {
		if now := s.conn.Load(); s.in2[id]&inAgain != 0 && now != nil && now != c {
			now.send([]byte{mqtt.PUBCOMP << 4, 2, byte(id >> 8), byte(id)}, ob)
		}
		delete(s.in2, id)
	}
	s.in2mu.Unlock()
	if c.lockOut() {
		for _, id := range ids {
			c.out.buf = append(c.out.buf, mqtt.PUBCOMP<<4, 2, byte(id>>8), byte(id))
		}
		c.b.stats.answers.Add(int64(len(ids)))
	}
	c.unlockOut(ob)
	for range ids {
		if c.unacked.Add(-1) < 0 { // it began on an earlier connection
			c.unacked.Add(1)
		}
	}
}

func (c *Conn) pubcompUnknown(id uint16, ob *Outbox) {
	if c.v5 {
		c.send([]byte{mqtt.PUBCOMP << 4, 3, byte(id >> 8), byte(id), codePacketIDNotFound}, ob)
	} else {
		c.send([]byte{mqtt.PUBCOMP << 4, 2, byte(id >> 8), byte(id)}, ob)
	}
}

// outgoing is one QoS 2 message on its way to the client.
type outgoing struct {
	seq   uint64 // journal number, 0 when it is not there
	key   uint64 // in session.out2, and on the disk
	pid   uint16
	state session.State
	dirty bool   // state is not on disk yet; nothing is sent before it is
	again bool   // it must be sent once more on this connection
	dup   bool   // it may have been sent before
	frame []byte // until PUBREC; nil when it has to be read from the journal
	idAt  uint32

	debt  *debt // of a retained message of a persistent session
	topic string
	at    int64

	share string // the shared subscription it came from, if its group outlives a restart
	h     handle // there; g is nil once the group need not keep the message any more
}

// onDisk says whether the state of o outlives a restart.
func (s *client) onDisk(o *outgoing) bool { return s.persistent && (o.seq != 0 || o.debt != nil) }

// start2 takes frame into the window. The caller holds mu and has looked for room.
func (s *client) start2(frame []byte, idAt uint32, seq uint64) {
	if seq != 0 && s.out2[seq] != nil {
		return // known from before a restart
	}
	s.begin2(&outgoing{seq: seq, key: seq, frame: append([]byte(nil), frame...), idAt: idAt})
}

// letGo tells the group of o, if it has one, that it need not keep the message. The filler
// does it, without mu.
func (s *client) letGo(o *outgoing) {
	if o.h.g != nil {
		s.freed = append(s.freed, o.h)
		o.h.g = nil
	}
}

// begin2 gives o a packet id and takes it into the window.
func (s *client) begin2(o *outgoing) {
	if s.out2 == nil {
		s.out2, s.byPID = map[uint64]*outgoing{}, map[uint16]*outgoing{}
	}
	for s.nextPID++; s.nextPID <= ids1 || s.byPID[s.nextPID] != nil; s.nextPID++ {
		if s.nextPID <= ids1 {
			s.nextPID = ids1
		}
	}
	o.pid, o.state = s.nextPID, session.Sent
	if o.key == 0 {
		s.nextKey++
		o.key = ackedBit | s.nextKey
	}
	s.out2[o.key], s.byPID[o.pid] = o, o
	s.commit2(o)
}

// commit2 sees to it that o's state is written, if it has to be, and then acted upon.
func (s *client) commit2(o *outgoing) {
	if s.onDisk(o) || o.share != "" && o.state == session.Sent {
		if !o.dirty {
			o.dirty = true
			s.write2 = append(s.write2, o)
		}
		s.wake()
		return
	}
	if o.state != session.Sent {
		s.letGo(o)
	}
	o.again = true
	s.wake()
}

// resend2 says whether some exchange waits to be taken up.
func (s *client) resend2() bool {
	for _, o := range s.out2 {
		if o.again && !o.dirty {
			return true
		}
	}
	return false
}

// pubrec takes PUBREC: the client has the message.
func (s *client) pubrec(c *Conn, id uint16, code byte, ob *Outbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn.Load() != c {
		return
	}
	o := s.byPID[id]
	switch {
	case o == nil && c.v5:
		c.send([]byte{mqtt.PUBREL<<4 | 2, 3, byte(id >> 8), byte(id), codePacketIDNotFound}, ob)
	case o == nil:
		c.send([]byte{mqtt.PUBREL<<4 | 2, 2, byte(id >> 8), byte(id)}, ob)
	case code >= 0x80: // it wants none of it
		s.finish2(o)
	case o.state == session.Sent:
		o.state, o.frame, o.again = session.Released, nil, false
		s.commit2(o)
		s.settle()
	case !o.dirty:
		o.again = true
		s.wake()
	}
	s.refill(c, ob)
}

// pubcomp takes PUBCOMP: the exchange is over.
func (s *client) pubcomp(c *Conn, id uint16, ob *Outbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.byPID[id]; o != nil && s.conn.Load() == c {
		s.finish2(o)
		s.refill(c, ob)
	}
}

// finish2 forgets o, except that the journal must not be read for it again.
func (s *client) finish2(o *outgoing) {
	delete(s.byPID, o.pid)
	if !s.onDisk(o) {
		s.letGo(o)
		delete(s.out2, o.key)
		s.wake()
		return
	}
	o.state, o.frame, o.again = session.Done, nil, false
	s.done2++
	if !o.dirty {
		o.dirty = true
		s.write2 = append(s.write2, o)
	}
	s.wake()
}

// flush2 writes the states that wait, without mu, and gives what has been written. It
// runs in the filler.
func (s *client) flush2() bool {
	batch := s.write2
	s.write2 = nil
	s.settle()
	s.tidy2 = false
	cursor := s.cursor
	low := uint64(0) // what is done with for good as soon as this unit is on the disk
	if cursor != nil {
		low = cursor.Pos()
	}
	var groups []*group
	states := make([]session.Out, len(batch))
	for i, o := range batch {
		states[i] = session.Out{Seq: o.key, PID: o.pid, State: o.state}
		switch {
		case o.debt != nil:
			states[i].Topic, states[i].At, states[i].Filter = o.topic, o.at, o.debt.filter
		case o.share != "":
			states[i].At, states[i].Filter = int64(o.seq), o.share
			if g := o.h.g; g != nil && !slices.Contains(groups, g) {
				groups = append(groups, g)
			}
		}
	}
	var past []uint64
	for _, o := range s.out2 {
		if o.state == session.Done && o.seq != 0 && o.share == "" && o.seq < low {
			past = append(past, o.seq)
		}
	}
	if len(batch)+len(past) == 0 {
		return true
	}
	s.mu.Unlock()
	err := s.b.db.Wait(func(u *store.Unit) error {
		u.Vital = true
		u.Lock(sessionLock(s.id))
		if s.ending.Load() {
			return nil
		}
		for _, o := range states {
			shared := o.Filter != "" && o.Topic == ""
			switch {
			case shared && o.State == session.Done: // the group's note does
				session.DelOut(u, s.id, o.Seq)
				continue
			case shared && o.State == session.Sent:
				session.PutGiven(u, session.Given{Filter: o.Filter, Seq: uint64(o.At)})
			}
			if s.persistent {
				session.PutOut(u, s.id, o)
			}
		}
		for _, seq := range past {
			session.DelOut(u, s.id, seq)
		}
		if len(past) > 0 {
			cursor.Save(u)
		}
		return nil
	})
	for _, g := range groups {
		g.tidy()
	}
	s.mu.Lock()
	if err != nil {
		s.write2 = append(batch, s.write2...)
		return false
	}
	for i, o := range batch {
		switch {
		case o.state == states[i].State:
			o.dirty = false
			o.again = o.state != session.Done
			if o.state != session.Sent {
				s.letGo(o)
			}
			if o.share != "" && o.state == session.Done && s.out2[o.key] == o {
				delete(s.out2, o.key)
				s.done2--
			}
			if o.debt != nil && o.state == session.Done && s.out2[o.key] == o {
				delete(s.out2, o.key)
				s.done2--
				o.debt.marks = append(o.debt.marks, o.key)
				s.pay(o.debt)
			}
		default: // it went on meanwhile
			s.write2 = append(s.write2, o)
		}
	}
	s.settle()
	for _, seq := range past {
		if o := s.out2[seq]; o != nil && o.state == session.Done && !o.dirty {
			delete(s.out2, seq)
			s.done2--
		}
	}
	return true
}

// sessionLock names the lock of a store's unit that writes or ends a session.
func sessionLock(id string) string { return "session/" + id }

// send2 sends what is due of o on c. The caller holds mu. False: the output is full, or the
// frame has to be read first.
func (s *client) send2(c *Conn, o *outgoing, ob *Outbox) bool {
	if o.state == session.Released {
		o.again = false
		c.send([]byte{mqtt.PUBREL<<4 | 2, 2, byte(o.pid >> 8), byte(o.pid)}, ob)
		return true
	}
	if o.frame == nil || !c.lockOut() || c.full() {
		if o.frame != nil {
			c.out.mu.Unlock()
		}
		return false
	}
	o.again = false
	sent := true
	if c.special != nil {
		sent = c.sendSpecial(o.frame, o.idAt, o.pid, o.dup)
	} else {
		at := len(c.out.buf)
		c.out.buf = append(c.out.buf, o.frame...)
		binary.BigEndian.PutUint16(c.out.buf[at+int(o.idAt):], o.pid)
		if o.dup {
			c.out.buf[at] |= 8
		}
	}
	if o.dup = true; sent {
		c.out.payload += payload(o.frame, o.idAt, 2, c.v5)
	}
	c.unlockOut(ob)
	if !sent {
		s.b.stats.tooLarge.Add(1)
		s.finish2(o)
	} else {
		s.b.stats.sent.Add(1)
		if o.seq != 0 { // the journal has it, should it be wanted again
			o.frame = nil
		}
	}
	return true
}
