package broker

import (
	"runtime"
	"sync"
	"syscall"
	"time"

	"tidegate/gateway/mqtt"
)

// bigOutput is how many bytes are not worth waiting for company before a flush.
const bigOutput = 4096

// keepOutput is the largest output buffer that goes back to the pool.
const keepOutput = 1 << 20

var outputs sync.Pool

func newOutput() []byte {
	if p, ok := outputs.Get().(*[]byte); ok {
		return (*p)[:0]
	}
	return nil
}

func freeOutput(b []byte) {
	if cap(b) > 0 && cap(b) <= keepOutput {
		b = b[:0]
		outputs.Put(&b)
	}
}

// Outbox gathers the connections that have got something to send, so that each gets
// one write for all of it. It belongs to one goroutine.
type Outbox struct{ conns []*Conn }

// Flush writes what the connections in ob have waiting. It never blocks.
func (b *Broker) Flush(ob *Outbox) {
	for i, c := range ob.conns {
		c.flush()
		ob.conns[i] = nil
	}
	ob.conns = ob.conns[:0]
}

// payload gives how many bytes of frame f are payload; the topic ends at idAt.
func payload(f []byte, idAt uint32, qos byte, v5 bool) int64 {
	at := int(idAt)
	if qos > 0 {
		at += 2
	}
	if v5 {
		at += propsLen(f[at:])
	}
	return int64(len(f) - at)
}

// payloads is payload for the first n of frames, which lie one behind the other in buf.
func payloads(buf []byte, frames []mqtt.Frame, n int, qos byte, v5 bool) (sum int64) {
	for i := range n {
		end := uint32(len(buf))
		if i+1 < len(frames) {
			end = frames[i+1].Start
		}
		start := frames[i].Start
		sum += payload(buf[start:end], frames[i].ID-start, qos, v5)
	}
	return sum
}

// propsLen gives what the properties of a well-formed packet take that begin with b, their length
// included.
func propsLen(b []byte) int {
	n := 0
	for i := range b {
		n |= int(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return n + i + 1
		}
	}
	return 0
}

// flushSoon is Flush for a goroutine that has just taken in a batch: what is large goes
// out at once, the rest after whoever else is ready to run could add to it.
func (b *Broker) flushSoon(ob *Outbox) {
	k := 0
	for _, c := range ob.conns {
		if c.waits() >= bigOutput {
			c.flush()
		} else {
			ob.conns[k] = c
			k++
		}
	}
	clear(ob.conns[k:])
	ob.conns = ob.conns[:k]
	if k > 0 {
		runtime.Gosched()
		b.Flush(ob)
	}
}

// output is the sending half of a connection. mu guards all of it. One goroutine
// writes at a time, the one that set writing; the others add to buf.
type output struct {
	mu      sync.Mutex
	buf     []byte
	queued  int   // bytes the writer has taken out of buf
	counted int   // bytes of ours in the broker's total
	payload int64 // bytes of payloads added since the last flush
	dirty   bool
	denied  bool // somebody was told that it is full, and wants to know when it is not
	writing bool
	corked  bool // nothing more is written before uncork
	closing bool // shut was called
	closed  bool
	since   int64 // second since which the writer waits for the socket, 0 when it does not
	room    *sync.Cond

	wbuf   []byte // of the write in progress
	wn     int
	werr   error
	wblock bool
}

// waits gives the bytes not yet written.
func (c *Conn) waits() int {
	c.out.mu.Lock()
	n := len(c.out.buf)
	c.out.mu.Unlock()
	return n
}

// lockOut takes the output and says whether anything can still be sent.
func (c *Conn) lockOut() bool {
	c.out.mu.Lock()
	if c.out.closed {
		return false
	}
	if c.out.buf == nil {
		c.out.buf = newOutput()
	}
	return true
}

// unlockOut gives the output back and puts the connection on ob.
func (c *Conn) unlockOut(ob *Outbox) {
	o := &c.out
	if !o.dirty && !o.closed {
		o.dirty = true
		ob.conns = append(ob.conns, c)
	}
	c.count()
	o.mu.Unlock()
}

// full says whether the client has so much waiting that no more should be added. The
// caller holds out.mu.
func (c *Conn) full() bool {
	if len(c.out.buf)+c.out.queued > c.b.outputRoom() {
		c.out.denied = true
		return true
	}
	return false
}

// outputRoom gives how many bytes may wait for one client: less when much waits for all.
func (b *Broker) outputRoom() int {
	n, total := b.backlog.Load(), int64(b.cfg.TotalBuffer)
	switch {
	case n <= total:
		return b.cfg.ClientBuffer
	case n <= 2*total:
		return min(b.cfg.ClientBuffer, 64<<10)
	}
	return min(b.cfg.ClientBuffer, countStep)
}

// countStep is how exactly the total is known.
const countStep = 16 << 10

// count keeps the broker's total up to date, in steps so that the common case is one
// comparison. The caller holds out.mu.
func (c *Conn) count() {
	n := len(c.out.buf) + c.out.queued
	if d := n - c.out.counted; d >= countStep || d <= -countStep || n == 0 && c.out.counted != 0 {
		c.b.backlog.Add(int64(d))
		c.out.counted = n
	}
}

// send adds p, a packet of the protocol's own, and puts the connection on ob. These
// are small and must not be dropped; a client that takes none of them is not read
// from any more (see Conn.hold).
func (c *Conn) send(p []byte, ob *Outbox) {
	if c.lockOut() {
		c.out.buf = append(c.out.buf, p...)
		c.b.stats.answers.Add(1)
	}
	c.unlockOut(ob)
}

// sendNow adds p and flushes.
func (c *Conn) sendNow(p []byte) {
	if c.lockOut() {
		c.out.buf = append(c.out.buf, p...)
		c.b.stats.answers.Add(1)
	}
	c.out.mu.Unlock()
	c.flush()
}

// cork keeps everything that is added from now on from being written, whoever flushes, until uncork. In between nothing may
// block.
func (c *Conn) cork() {
	c.out.mu.Lock()
	c.out.corked = true
	c.out.mu.Unlock()
}

// uncork puts the connection on ob, whose flush makes up for those that had no effect.
func (c *Conn) uncork(ob *Outbox) {
	o := &c.out
	o.mu.Lock()
	o.corked = false
	if !o.closed {
		o.dirty = true
		ob.conns = append(ob.conns, c)
	}
	o.mu.Unlock()
}

// offer adds a run of QoS 0 messages, or drops them when too much is waiting.
func (c *Conn) offer(v *mqtt.Run, ob *Outbox) {
	if !c.lockOut() {
		c.out.mu.Unlock()
		return
	}
	if c.full() {
		c.b.stats.droppedQoS0.Add(int64(v.Len()))
		c.out.mu.Unlock()
		return
	}
	if c.special == nil {
		c.out.buf = append(c.out.buf, v.Buf...)
		c.out.payload += payloads(v.Buf, v.Frames, len(v.Frames), 0, c.v5)
	} else {
		for i := range v.Frames {
			if f, idAt := v.Frame(i), v.Frames[i].ID-v.Frames[i].Start; c.sendSpecial(f, idAt, 0, false) {
				c.out.payload += payload(f, idAt, 0, c.v5)
			}
		}
	}
	c.unlockOut(ob)
	c.b.stats.sent.Add(int64(v.Len()))
}

// flush makes one attempt that does not block. What the socket does not take goes to a
// goroutine that lives until the backlog is gone.
func (c *Conn) flush() {
	o := &c.out
	o.mu.Lock()
	o.dirty = false
	for !o.writing && !o.corked && !o.closed && (len(o.buf) > 0 || c.t.wire != nil && c.t.wire.pending()) {
		b := o.buf
		o.buf, o.writing, o.queued = nil, true, len(b)
		pub := o.payload
		o.payload = 0
		o.mu.Unlock()
		if pub > 0 {
			c.b.stats.payloadOut.Add(pub)
		}
		b, err := c.seal(b)
		n := 0
		if err == nil && c.t.raw != nil {
			n, err = c.write(b, false)
		}
		if err == nil && n < len(b) {
			o.mu.Lock()
			o.since = c.b.now.Load()
			if o.closing && c.t.raw != nil {
				c.hangUp()
			}
			o.mu.Unlock()
			c.b.wg.Add(1)
			go c.drain(b, n)
			return
		}
		freeOutput(b)
		o.mu.Lock()
		o.writing, o.queued = false, 0
		if err != nil {
			c.broken()
			o.mu.Unlock()
			return
		}
		c.relieved()
		if o.dirty && !o.closing {
			break // it is on somebody else's list
		}
	}
	c.count()
	if o.closing && !o.writing && !o.corked {
		c.hangUp()
	}
	denied := o.denied && !o.writing
	o.denied = o.denied && o.writing
	o.mu.Unlock()
	if denied {
		c.roomAgain()
	}
}

// drain writes until nothing is left.
func (c *Conn) drain(b []byte, n int) {
	defer c.b.wg.Done()
	o := &c.out
	for {
		_, err := c.write(b[n:], true)
		freeOutput(b)
		o.mu.Lock()
		b, n = o.buf, 0
		corked := o.corked && err == nil && !o.closed // uncork goes on
		if corked || len(b) == 0 || err != nil || o.closed {
			if !corked {
				o.buf = nil
			}
			o.writing, o.queued, o.since = false, 0, 0
			if err != nil {
				c.broken()
			}
			c.count()
			c.relieved()
			if o.closing && !corked {
				c.hangUp()
			}
			o.mu.Unlock()
			c.roomAgain()
			return
		}
		o.buf, o.queued, o.since = nil, len(b), c.b.now.Load()
		c.count()
		c.relieved()
		o.mu.Unlock()
		if b, err = c.seal(b); err != nil {
			b = nil
		}
		c.roomAgain()
	}
}

// broken ends the connection after a failed write; its reader does the rest. The caller
// holds out.mu.
func (c *Conn) broken() {
	c.out.buf = nil
	c.out.writing = true // nobody writes any more
	c.hangUp()
}

// relieved wakes the reader if it waits for room. The caller holds out.mu.
func (c *Conn) relieved() {
	if c.out.room != nil {
		c.out.room.Broadcast()
	}
}

// seal encrypts b for TLS, and counts it. Only the holder of writing calls it.
func (c *Conn) seal(b []byte) ([]byte, error) {
	c.b.stats.bytesOut.Add(int64(len(b)))
	if c.t.tls == nil {
		return b, nil
	}
	w := c.t.wire
	w.mu.Lock()
	if w.out == nil {
		w.out = newOutput()
	}
	w.mu.Unlock()
	var err error
	if len(b) > 0 {
		_, err = c.t.tls.Write(b)
	}
	freeOutput(b)
	return w.take(), err
}

// write writes b to the socket, all of it when block is set.
func (c *Conn) write(b []byte, block bool) (int, error) {
	if c.t.raw == nil {
		return c.t.nc.Write(b)
	}
	o := &c.out
	o.wbuf, o.wn, o.werr, o.wblock = b, 0, nil, block
	err := c.t.raw.Write(c.writeFn)
	n := o.wn
	o.wbuf = nil
	if err == nil {
		err = o.werr
	}
	return n, err
}

// writable runs inside RawConn.Write: false waits until the socket takes more.
func (c *Conn) writable(fd uintptr) bool {
	o := &c.out
	for o.wn < len(o.wbuf) {
		n, err := sysWrite(int(fd), o.wbuf[o.wn:])
		if n > 0 {
			o.wn += n
		}
		switch {
		case err == syscall.EAGAIN:
			return !o.wblock
		case err != nil:
			o.werr = err
			return true
		case o.wn < len(o.wbuf) && !o.wblock:
			return true
		}
	}
	return true
}

// lastWords is how long a transport that is not a socket may take for what was still
// waiting when it was told to end.
const lastWords = 2 * time.Second

// shut ends the sending half after an attempt to get out what is waiting, and hangs up,
// upon which the reader comes to its end. A write that waits for the socket is not
// waited for.
func (c *Conn) shut() {
	o := &c.out
	o.mu.Lock()
	if o.closing {
		o.mu.Unlock()
		return
	}
	o.closing = true
	stuck := o.since != 0
	o.mu.Unlock()
	if c.t.raw == nil {
		c.t.nc.SetWriteDeadline(time.Now().Add(lastWords))
	}
	c.flush() // hangs up, unless another goroutine is writing this very moment and does it then
	if stuck && c.t.raw != nil {
		o.mu.Lock()
		c.hangUp()
		o.mu.Unlock()
	}
}

// hangUp ends the transport, once, without closing it: the descriptor is the reader's,
// who may be inside a read and in need of the lock. The caller holds out.mu.
func (c *Conn) hangUp() {
	o := &c.out
	if o.closed {
		return
	}
	o.closed = true
	if !o.writing {
		o.buf = nil
		if c.t.tls != nil { // close_notify, if the socket takes it
			o.writing = true
			c.t.tls.CloseWrite()
			c.write(c.t.wire.take(), false)
		}
	}
	c.count()
	c.relieved()
	c.t.hangUp()
}

// linger is how long a connection that was ended with a word to the client stays half open:
// a client that is still sending would otherwise be reset before it has read the word.
const linger = time.Second

// close is the end of the connection, called by the reader's side with no lock held.
func (c *Conn) close(why *Reason) {
	c.shut()
	o := &c.out
	o.mu.Lock()
	if o.room == nil {
		o.room = sync.NewCond(&o.mu)
	}
	for !o.closed && (o.since == 0 || c.t.raw == nil) {
		o.room.Wait()
	}
	o.mu.Unlock()
	if c.t.raw != nil && c.v5 && why.Code >= 0x80 && why != errLost && !c.b.closing.Load() {
		time.AfterFunc(linger, func() { c.t.Close() })
		return
	}
	c.t.Close()
}
