package broker

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tidegate/gateway/mqtt"
)

// readBuffer is what one read takes at most.
const readBuffer = 64 << 10

// desk is what a connection needs while it reads and not while it is idle. Desks are
// shared within a broker: a connection has one only while it holds part of a packet, or
// works. What the road noted in memo on one of them is so about no other broker's topics.
type desk struct {
	buf     []byte
	run     mqtt.Run
	memo    mqtt.Memo
	at      time.Time // of this read
	acks    []uint16
	rels    []uint16
	ob      Outbox
	scratch []byte
}

func newDesk() any { return &desk{buf: make([]byte, readBuffer)} }

// Conn is one client's connection.
//
// Its goroutine parks in loop with a small stack and no buffer. PUBLISH, the
// acknowledgements and PINGREQ are dealt with where they lie in the buffer; every other
// packet is handed to a goroutine of its own (control), whose deeper stack dies with it,
// and the reading goes on after that.
type Conn struct {
	b    *Broker
	t    *Transport
	via  Via
	sess *client // nil before CONNECT; the reader's own
	v5   bool
	info *connInfo

	principal string // its name

	owner atomic.Pointer[client] // sess, for others than the reader

	in  input
	out output

	keep    atomic.Int64 // nanoseconds without a packet that are allowed, 0: any
	last    atomic.Int64 // second of the last packet, or of progress with one
	half    atomic.Int64 // second since which the reader waits for the rest of a packet, 0 when it does not
	kicked  atomic.Pointer[Reason]
	held    atomic.Bool // the reader waits for room or for the disk
	refused atomic.Bool // a message was refused that MQTT 3.1.1 has no answer for: nothing more is read
	special *special    // what makes its output unlike others', nil in the common case

	uncommitted atomic.Int64    // bytes of QoS ≥ 1 handed to the road and not acknowledged
	pending     [2]atomic.Int32 // messages handed to the road and not answered yet: QoS 0, and those above
	unacked     atomic.Int32    // those of QoS ≥ 1 until they are acknowledged; QoS 2 counts until PUBCOMP

	readFn, writeFn func(uintptr) bool
}

// connInfo is what only CONNECT, DISCONNECT and listings look at.
type connInfo struct {
	remote    net.Addr
	listener  string
	since     time.Time
	session   string // sessionIdentifier of AWS's lifecycle events
	version   uint64 // versionNumber of the same
	principal Principal
	keepAlive time.Duration
	problem   bool // reason strings are welcome
}

// input is the reading half; it belongs to the reader.
type input struct {
	*desk // nil while idle
	rb    []byte
	r, w  int
	pass  []byte // a packet for control
	err   error  // why reading ended
	runAt int    // where the run being gathered begins
	end   int    // and ends
	calm  int    // QoS 0 messages of this read, negative when it had anything else

	topic    *Route // of the last run, for its topic
	allowGen uint64
	allowed  [2]bool
	judged   [2]bool

	connecting bool  // no CONNECT has come yet
	packets    int64 // taken in and not counted yet
	payload    int64 // bytes of payloads likewise
	held       int64 // bytes that holding has told of
	whole      bool  // a packet came since
	aliases    []string
	rate       *rate
	share      rate        // counted for limits.total_publish_rate
	enrich     *enrichment // nil when there is nothing to add to messages
}

// loop reads until there is a packet for control, or an end.
func (c *Conn) loop() {
	in := &c.in
	for in.err == nil && len(in.pass) == 0 {
		if c.mustHold() && !c.hold() {
			in.err = net.ErrClosed
			break
		}
		if in.desk != nil && c.parse() {
			continue
		}
		var err error
		if c.t.raw != nil {
			err = c.t.raw.Read(c.readFn)
		} else {
			err = c.readBlocking()
		}
		if err != nil && in.err == nil {
			in.err = err
		}
	}
	go c.control()
}

// readable runs inside RawConn.Read. False parks the goroutine until there is more to
// read; nothing is held meanwhile unless a packet is incomplete.
func (c *Conn) readable(fd uintptr) bool {
	in := &c.in
	for reads := 0; ; reads++ {
		often := reads >= manyReads
		if c.kicked.Load() != nil {
			in.err = errLost
			return true
		}
		c.needBuffer()
		space := in.rb[in.w:]
		var n int
		var err error
		if c.t.tls != nil {
			c.t.wire.fd, c.t.wire.often = int(fd), often
			if n, err = c.t.tls.Read(space); err == errWouldBlock {
				err = syscall.EAGAIN
			}
			if c.t.wire.pending() { // TLS itself has something to say
				c.flush()
			}
		} else {
			n, err = sysRead(int(fd), space, often)
		}
		if n <= 0 {
			c.endBatch()
			c.compact()
			c.freeBuffer(false)
			if err == syscall.EAGAIN {
				c.holding()
				return false
			}
			in.err = err
			return true
		}
		c.arrived(n)
		in.calm = 0
		if c.parse() {
			return true
		}
		c.endBatch()
		c.compact()
		if in.calm > 0 && c.b.flood.came(in.calm, in.at) && n < smallRead {
			c.freeBuffer(false)
			c.b.flood.rest()
			reads = -1
		}
		// Even after a short read the socket has to be asked once more: an end that came
		// together with the data is not told of again.
	}
}

// readBlocking is for transports that are not sockets.
func (c *Conn) readBlocking() error {
	in := &c.in
	c.endBatch()
	c.compact()
	if w, ok := c.t.nc.(Waiter); ok {
		c.freeBuffer(false)
		c.holding()
		if err := w.Wait(); err != nil {
			return err
		}
	}
	c.needBuffer()
	n, err := c.t.nc.Read(in.rb[in.w:])
	c.arrived(n)
	if n > 0 {
		c.parse()
	}
	return err
}

func (c *Conn) arrived(n int) {
	c.in.w += n
	c.in.at = c.b.clk.Now()
	if n >= minProgress && !c.in.connecting {
		c.last.Store(c.b.now.Load())
	}
	c.b.stats.bytesIn.Add(int64(n))
}

func (c *Conn) needBuffer() {
	in := &c.in
	if in.desk == nil {
		in.desk = c.b.desks.Get().(*desk)
		in.rb = in.buf
	} else if in.w == len(in.rb) { // a packet larger than the buffer
		nb := make([]byte, 2*len(in.rb))
		copy(nb, in.rb[:in.w])
		in.rb = nb
	}
}

// compact moves what is left to the front.
func (c *Conn) compact() {
	in := &c.in
	if in.r > 0 {
		in.w = copy(in.rb, in.rb[in.r:in.w])
		in.r = 0
	}
}

func (c *Conn) freeBuffer(force bool) {
	in := &c.in
	d := in.desk
	if d == nil || !force && (in.r != in.w || len(in.pass) > 0) {
		return
	}
	d.run.Buf = nil
	if cap(d.run.Frames) > readBuffer/8 {
		d.run.Frames = nil
	}
	in.desk, in.rb, in.r, in.w = nil, nil, 0, 0
	c.b.desks.Put(d)
	if force {
		c.holding()
	}
}

// endBatch flushes what the batch caused, before the goroutine may park.
func (c *Conn) endBatch() {
	if c.in.desk != nil && len(c.in.ob.conns) > 0 {
		c.b.flushSoon(&c.in.ob)
	}
}

// mustHold says whether reading has to wait: too much of this client's is not on disk
// yet, or it does not take what is sent to it.
func (c *Conn) mustHold() bool {
	return c.uncommitted.Load() > int64(c.b.cfg.Uncommitted) || c.refused.Load() || c.overfull()
}

// overfull looks whether the client leaves even acknowledgements lying.
func (c *Conn) overfull() bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return len(c.out.buf)+c.out.queued > 2*c.b.outputRoom()
}

// hold waits until mustHold is over; false means that the connection ended.
func (c *Conn) hold() bool {
	c.endBatch()
	c.held.Store(true)
	defer c.held.Store(false)
	c.b.stats.held.Add(1)
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.room == nil {
		o.room = sync.NewCond(&o.mu)
	}
	for !o.closed && (c.refused.Load() || c.uncommitted.Load() > int64(c.b.cfg.Uncommitted) || len(o.buf)+o.queued > c.b.outputRoom()) {
		o.room.Wait()
	}
	c.last.Store(c.b.now.Load())
	return !o.closed
}

// kick ends the connection from outside, for why. It does not wait.
func (c *Conn) kick(why *Reason) {
	if !c.kicked.CompareAndSwap(nil, why) {
		return
	}
	c.sayGoodbye(why)
	c.shut() // the reader finds its socket closed and does the rest
}
