package broker

import (
	"sync"
	"sync/atomic"

	"tidegate/gateway/broker/session"
	"tidegate/gateway/journal"
	"tidegate/gateway/mqtt"
)

// client is one client's state as it lives in memory: subscriptions, the window of
// messages sent and not acknowledged, and what waits behind it.
//
// QoS 1 and 2 reach a client from up to three places, in this order: what was in the
// window of an earlier connection, the queue in memory, and the journal. While there is
// nothing in the last (behind is false) Deliver adds to the window and the queue
// directly. Once the queue is full, or the client away, the session is behind: Deliver
// notes no more than the first number it left out, and the filler reads from there when
// there is room again, outside the lock, until it has caught up.
type client struct {
	b          *Broker
	id         string
	v5         bool
	persistent bool // outlives its connection

	conn         atomic.Pointer[Conn] // nil while away
	principal    atomic.Pointer[Principal]
	ending       atomic.Bool // is being taken off the disk: nothing of it is written any more
	wantsJournal atomic.Bool // not persistent, but its messages are journalled: it does not keep up

	mu   sync.Mutex // guards what follows; taken before a connection's output
	rec  session.Record
	gone bool // deleted, or replaced by a clean start

	groups []*group // shared subscriptions it is a member of

	limit     int // unacknowledged messages the client takes at once
	win       window
	queue     backlog
	counted   int             // bytes of it in the broker's total
	resend    uint64          // next place in the window to be sent again
	resendEnd uint64          // and where that ends
	ret       []retainedEntry // retained messages still to be sent
	debts     []*debt         // who of them and of those sent must be remembered
	paid      []*debt         // those of debts that need not any more
	out2      map[uint64]*outgoing
	byPID     map[uint16]*outgoing
	nextPID   uint16
	nextKey   uint64      // for out2, of what has no number
	done2     int         // entries of out2 that only wait for the cursor
	write2    []*outgoing // whose state must be on disk before anything more is sent
	freed     []handle    // messages that groups need not keep any more
	tidy2     bool        // finished exchanges can be forgotten on disk, too

	behind  bool
	pending bool   // there is something to read from pos on
	pos     uint64 // journal number
	skip    uint64 // numbers below it have been read already
	seen    uint64 // end of the last run left to the journal
	waits   waits  // what has been left to the journal and not been read
	filling bool
	reader  *journal.Reader
	left    *mqtt.Run // read and not sent to its end
	leftAt  uint64    // its first number
	asked   bool      // a cursor has been asked for
	cursor  *journal.Cursor
	pinned  uint64 // where the cursor is pinned, 0 when it floats

	gaps     []session.Gap // what it does not get any more, oldest first; never changed in place
	shedding bool          // it is being brought back to its quota
	shedTo   uint64        // where that ended last
	shedPos  uint64        // and what pos was then
	held     uint64        // the cursor may not pass it: a gap is being written, 0: it may

	in2mu sync.Mutex
	in2   map[uint16]inState // QoS 2 received and not yet released
}

func newSession(b *Broker, id string, v5 bool) *client {
	return &client{b: b, id: id, v5: v5}
}

// who gives whom the session belongs to.
func (s *client) who() Principal {
	if p := s.principal.Load(); p != nil {
		return *p
	}
	return nil
}

// enqueue takes in a run of QoS 1 or 2, in the session's own encoding and as it came, whose
// first message has journal number first; 0 when it is not in the journal.
func (s *client) enqueue(v, came *mqtt.Run, first uint64, ob *Outbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, k := len(v.Frames), 0
	if s.gone {
		return
	}
	if first != 0 {
		if first+uint64(n) <= s.skip {
			return
		}
		if first < s.skip {
			k = int(s.skip - first)
		}
		if s.behind {
			s.leave(first+uint64(k), first+uint64(n), lengthOf(v, k, n))
			return
		}
	}
	c := s.conn.Load()
	if s.behind || c == nil {
		if s.persistent || c != nil {
			s.remember(v, came, k, first)
		}
		return
	}
	if v.QoS == 1 && s.queue.empty() {
		k += s.sendRun(c, v, k, first, ob)
	}
	if k < n {
		switch over := s.queue.size()+len(v.Buf)-int(v.Frames[k].Start) > s.b.queueRoom(); {
		case over && first != 0 && s.cursor != nil:
			s.leave(first+uint64(k), first+uint64(n), lengthOf(v, k, n))
		case over:
			s.remember(v, came, k, first)
		default:
			s.queue.add(v, came, k, first, 0)
			s.countQueue()
		}
		if v.QoS == 2 || s.behind {
			s.pump(c, ob)
		}
	}
	s.settle()
}

// leave notes that messages from first to end, exclusively, are left to the journal, and how
// many bytes they have.
func (s *client) leave(first, end uint64, bytes int) {
	if !s.behind {
		s.behind = true
		s.b.stats.behind.Add(1)
	}
	if !s.pending {
		s.pending, s.pos = true, first
		s.settle()
	}
	s.seen = end
	s.waits.add(int(end-first), bytes)
	s.bound()
}

// remember keeps in memory what is not in the journal although it should be: it was
// published before the session was known to need it. Beyond four times the bound the
// client is cut off rather than anything dropped in silence.
func (s *client) remember(v, came *mqtt.Run, k int, first uint64) {
	after := uint64(0)
	if s.behind && first == 0 {
		after = s.seen
	}
	s.queue.add(v, came, k, first, after)
	s.countQueue()
	size := s.queue.size()
	c := s.conn.Load()
	if size > s.b.queueRoom() && !s.asked && s.cursor == nil {
		s.asked = true
		s.b.wg.Add(1)
		go s.askCursor()
	}
	if size > 4*s.b.cfg.SessionMemory && c != nil && !s.persistent {
		s.b.stats.cutOff.Add(1)
		go c.kick(errSlow)
	}
}

// settle keeps the cursor at the oldest message that is not acknowledged.
func (s *client) settle() {
	if s.cursor == nil {
		return
	}
	low := s.low()
	switch {
	case low == s.pinned:
		return
	case low == 0:
		s.cursor.Float()
	case s.pinned == 0:
		s.cursor.Pin(low)
	default:
		s.cursor.Move(low)
	}
	s.pinned = low
	s.tidy2 = s.tidy2 || s.done2 > 0
}

// low gives the number of the oldest message in the journal that the client has not
// acknowledged, 0 when there is none.
func (s *client) low() uint64 {
	low := s.win.low()
	min := func(seq uint64) {
		if seq != 0 && (low == 0 || seq < low) {
			low = seq
		}
	}
	min(s.queue.low())
	if s.pending {
		min(s.pos)
	}
	min(s.held)
	for _, o := range s.out2 {
		// Once PUBREC has come the message is not needed any more, but as long as that is not on
		// the disk a restart would need it.
		if o.share == "" && (o.state == session.Sent || o.state == session.Released && o.dirty) {
			min(o.seq)
		}
	}
	return low
}

// room gives how many more messages the client takes.
func (s *client) room() int {
	n := s.limit - s.win.len() - (len(s.out2) - s.done2)
	if s.done2 > maxDone2 {
		return 0 // the client has left an old message lying for a very long time
	}
	return n
}

// maxDone2 bounds the finished QoS 2 exchanges that are remembered because an older
// message has not been acknowledged yet.
const maxDone2 = 4096

// sendRun sends messages of a QoS 1 run from the k-th on, as many as there is room for.
func (s *client) sendRun(c *Conn, v *mqtt.Run, k int, first uint64, ob *Outbox) int {
	n := min(len(v.Frames)-k, s.room())
	if n <= 0 {
		return 0
	}
	seq := uint64(0)
	if first != 0 {
		seq = first + uint64(k)
	}
	return s.sendFrames(c, v.Buf, v.Frames[k:], n, seq, ob)
}

// sendFrames sends the first n of frames, which are QoS 1 and lie one behind the other in
// buf, and gives them places in the window. Their numbers are seq and following, or 0 when
// they have none. It gives the number sent, which is smaller when the output is full.
func (s *client) sendFrames(c *Conn, buf []byte, frames []mqtt.Frame, n int, seq uint64, ob *Outbox) int {
	if !c.lockOut() || c.full() {
		c.out.mu.Unlock()
		return 0
	}
	step := uint64(1)
	if seq == 0 {
		step = 0
	}
	if c.special == nil && (seq != 0 || !s.persistent) {
		start, end := frames[0].Start, uint32(len(buf))
		if n < len(frames) {
			end = frames[n].Start
		}
		for n > 1 && int(end-start) > c.b.cfg.ClientBuffer { // no more at once than fits twice
			n /= 2
			end = frames[n].Start
		}
		c.out.payload += payloads(buf[:end], frames[:n], n, 1, c.v5)
		base := len(c.out.buf) - int(start)
		c.out.buf = append(c.out.buf, buf[start:end]...)
		for _, f := range frames[:n] {
			at := base + int(f.ID)
			s.win.push(seq)
			id := s.win.lastID()
			c.out.buf[at], c.out.buf[at+1] = byte(id>>8), byte(id)
			seq += step
		}
	} else {
		for i := range n {
			end := uint32(len(buf))
			if i+1 < len(frames) {
				end = frames[i+1].Start
			}
			s.sendOne(c, buf[frames[i].Start:end], frames[i].ID-frames[i].Start, seq, handle{})
			seq += step
			if c.full() {
				n = i + 1
				break
			}
		}
	}
	c.unlockOut(ob)
	s.b.stats.sent.Add(int64(n))
	return n
}

// sendOne appends one QoS 1 frame and gives it a place in the window. The output is
// locked.
func (s *client) sendOne(c *Conn, f []byte, idAt uint32, seq uint64, h handle) {
	s.win.push(seq)
	id := s.win.lastID()
	if c.special != nil {
		if !c.sendSpecial(f, idAt, id, false) {
			s.win.ack(id) // too large for the client: done with
			s.b.stats.tooLarge.Add(1)
			s.pay(h.debt)
			if h.g != nil {
				go h.g.acked(h.id)
			}
			return
		}
	} else {
		at := len(c.out.buf) + int(idAt)
		c.out.buf = append(c.out.buf, f...)
		c.out.buf[at], c.out.buf[at+1] = byte(id>>8), byte(id)
	}
	c.out.payload += payload(f, idAt, 1, c.v5)
	if h.g != nil || s.persistent && seq == 0 {
		s.win.keep(append([]byte(nil), f...), idAt, h)
	}
}

// puback takes acknowledgements of QoS 1 messages.
func (s *client) puback(c *Conn, ids []uint16, ob *Outbox) {
	var done []handle
	s.mu.Lock()
	if s.conn.Load() == c {
		for _, id := range ids {
			k, ok := s.win.ack(id)
			if ok && k.h.g != nil {
				done = append(done, k.h)
			}
			s.pay(k.h.debt)
		}
		s.refill(c, ob)
	}
	groups := s.groups
	s.mu.Unlock()
	for _, h := range done {
		h.g.acked(h.id)
	}
	if len(done) == 0 {
		for _, g := range groups { // there is room, perhaps for theirs
			g.poke()
		}
	}
}

// refill uses the room that an acknowledgement has made. The caller holds mu.
func (s *client) refill(c *Conn, ob *Outbox) {
	if !s.queue.empty() {
		s.pump(c, ob)
	}
	s.settle()
	s.wake()
}

// wake starts the filler if there is something for it to do and room to do it.
func (s *client) wake() {
	if s.filling || s.conn.Load() == nil || s.gone {
		return
	}
	if s.resend < s.resendEnd || s.resend2() || len(s.write2) > 0 || s.tidy2 || len(s.paid) > 0 || len(s.freed) > 0 || s.room() > 0 && (s.behind || len(s.ret) > 0) {
		s.filling = true
		s.b.wg.Add(1)
		go s.fill()
	}
}

// roomAgain is called when the connection's output has shrunk.
func (c *Conn) roomAgain() {
	s := c.owner.Load()
	if s == nil {
		return
	}
	var ob Outbox
	s.mu.Lock()
	if s.conn.Load() == c {
		s.refill(c, &ob)
	}
	groups := s.groups
	s.mu.Unlock()
	for _, g := range groups {
		g.poke()
	}
	c.b.Flush(&ob)
}

// pump sends from the queue in memory what there is room for. While the session is behind
// only what came before the journal's next message goes. The caller holds mu.
func (s *client) pump(c *Conn, ob *Outbox) {
	if s.resend < s.resendEnd {
		return // first what was in the window before
	}
	q := &s.queue
	if q.empty() {
		return
	}
	defer s.countQueue()
	now := s.b.clk.Now().UnixMilli()
	for !q.empty() && s.room() > 0 {
		it := &q.items[q.at]
		if s.pending && it.after > s.pos {
			return
		}
		if it.expired(now) {
			q.pop(1)
			s.b.stats.expired.Add(1)
			s.settle()
			continue
		}
		if it.qos == 2 && c.clogged() {
			return
		}
		if it.qos == 2 {
			s.start2(q.fresh(q.at, s.v5, now), it.id-it.start, it.seq)
			q.pop(1)
			continue
		}
		n := q.alike(s.room(), s.pending, s.pos, now)
		m := s.sendQueued(c, n, now, ob)
		q.pop(m)
		if m < n {
			return
		}
	}
}

// sendQueued sends the first n messages of the queue, which are alike.
func (s *client) sendQueued(c *Conn, n int, now int64, ob *Outbox) int {
	q := &s.queue
	if !c.lockOut() || c.full() {
		c.out.mu.Unlock()
		return 0
	}
	sent := 0
	for ; sent < n && !c.full(); sent++ {
		it := &q.items[q.at+sent]
		s.sendOne(c, q.fresh(q.at+sent, s.v5, now), it.id-it.start, it.seq, handle{})
	}
	c.unlockOut(ob)
	s.b.stats.sent.Add(int64(sent))
	return sent
}
