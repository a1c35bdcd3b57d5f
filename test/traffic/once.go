package traffic

import (
	"sync/atomic"
	"time"

	"tidegate/test/rawmqtt"
)

// Sender publishes numbered messages with QoS 2 in a session of its own, and does what the standard asks of one whose
// connection was lost: what has no PUBREC is sent again with DUP, what has one is released again (MQTT 5, 4.4).
type Sender struct {
	*visitor
	o        SenderOptions
	drain    chan struct{}
	done     atomic.Uint64 // last number whose exchange is over, with all before it
	next     uint64        // last number begun
	inflight []exchange    // in order
	last     time.Time     // when the last number was begun
}

// SenderOptions for StartSender.
type SenderOptions struct {
	ClientID, Topic string
	Publisher       int           // its number in payloads
	Size, Window    int           // bytes of a payload; exchanges at once
	Pace            time.Duration // between two messages, at least
	V5              bool
	Stay, Away      time.Duration // see KeeperOptions
}

type exchange struct {
	seq      uint64
	received bool // PUBREC has come
	over     bool // PUBCOMP has come
}

// StartSender starts one that follows the target. Complaints go to blame.
func StartSender(target *Target, o SenderOptions, blame func(format string, args ...any)) *Sender {
	s := &Sender{visitor: newVisitor(target, o.ClientID, o.V5, o.Stay, o.Away, blame), o: o, drain: make(chan struct{})}
	s.start(s.serve)
	return s
}

// Drain begins nothing new and waits until all exchanges are over.
func (s *Sender) Drain() {
	s.Steady()
	close(s.drain)
	s.wg.Wait()
}

// Done is the last number whose exchange is over, with all before it.
func (s *Sender) Done() uint64 { return s.done.Load() }

func (s *Sender) draining() bool {
	select {
	case <-s.drain:
		return true
	default:
		return false
	}
}

func (s *Sender) serve(c *rawmqtt.Conn, fresh bool) (settled, done bool) {
	var out, payload []byte
	publish := func(seq uint64, flags byte) {
		payload = Payload(payload, s.o.Publisher, seq, s.o.Size)
		out = rawmqtt.AppendPublish(out, s.o.V5, s.o.Topic, payload, 2, id(seq), flags)
	}
	for _, x := range s.inflight {
		switch {
		case x.over:
		case x.received:
			out = rawmqtt.AppendAck(out, rawmqtt.Pubrel, id(x.seq))
		default:
			publish(x.seq, rawmqtt.Dup)
		}
	}
	for {
		for len(s.inflight) < s.o.Window && !s.draining() {
			if wait := time.Until(s.last.Add(s.o.Pace)); wait > 0 {
				if len(s.inflight) > 0 {
					break // hear what comes first
				}
				if !s.pause(wait) {
					return true, true
				}
			}
			s.next++
			s.last = time.Now()
			s.inflight = append(s.inflight, exchange{seq: s.next})
			publish(s.next, 0)
		}
		if len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return true, false
			}
			out = out[:0]
		}
		if len(s.inflight) == 0 && s.draining() {
			return true, true
		}
		p, err := c.Next()
		if err != nil {
			return true, false
		}
		out = s.hear(p, out)
	}
}

// hear takes an answer and appends what it asks for.
func (s *Sender) hear(p rawmqtt.Packet, out []byte) []byte {
	if p.Type != rawmqtt.Pubrec && p.Type != rawmqtt.Pubcomp {
		return out
	}
	for i := range s.inflight {
		x := &s.inflight[i]
		if id(x.seq) != p.ID {
			continue
		}
		if p.Type == rawmqtt.Pubrec {
			if p.Code >= 0x80 {
				s.blame("%s: number %d was refused with 0x%02x", s.o.ClientID, x.seq, p.Code)
			}
			x.received = true
			return rawmqtt.AppendAck(out, rawmqtt.Pubrel, p.ID)
		}
		if !x.received {
			s.blame("%s: PUBCOMP for number %d, which was not released", s.o.ClientID, x.seq)
		}
		x.over = true
		for len(s.inflight) > 0 && s.inflight[0].over {
			s.done.Store(s.inflight[0].seq)
			s.inflight = s.inflight[1:]
		}
		return out
	}
	if p.Type == rawmqtt.Pubrec {
		return rawmqtt.AppendAck(out, rawmqtt.Pubrel, p.ID)
	}
	return out
}

// Receiver is a persistent subscriber with QoS 2. It remembers, as a client must, which packet ids it has and has not
// been told to release, and so should see each message once.
type Receiver struct {
	*visitor
	filter string
	tally  *Tally
	ready  chan struct{}
	held   map[uint16]string // what was received under a packet id that is not released
}

// StartReceiver starts one that follows the target, as o has it.
func StartReceiver(target *Target, tally *Tally, o KeeperOptions) *Receiver {
	r := &Receiver{visitor: newVisitor(target, o.ClientID, o.V5, o.Stay, o.Away, tally.Blame), filter: o.Filter, tally: tally, ready: make(chan struct{}), held: map[uint16]string{}}
	r.start(r.serve)
	return r
}

// Subscribed waits until the subscription stands; false when it does not within a minute.
func (r *Receiver) Subscribed() bool {
	select {
	case <-r.ready:
		return true
	case <-time.After(time.Minute):
		return false
	}
}

func (r *Receiver) serve(c *rawmqtt.Conn, fresh bool) (settled, done bool) {
	if fresh {
		if err := c.Subscribe(2, r.filter); err != nil {
			return false, false
		}
		close(r.ready)
	}
	var out []byte
	for {
		p, err := c.Next()
		if err != nil {
			return true, false
		}
		switch p.Type {
		case rawmqtt.Publish:
			mark := string(p.Payload[:min(len(p.Payload), 24)])
			if have, ok := r.held[p.ID]; !ok {
				r.held[p.ID] = mark
				r.tally.Take(p.Payload)
			} else if have != mark {
				r.tally.Blame("%s: packet id %d is used for %.20q while it is not released for %.20q", r.o.ClientID, p.ID, mark, have)
			}
			if p.QoS() != 2 {
				r.tally.Blame("%s: %.20q came with QoS %d", r.o.ClientID, mark, p.QoS())
			}
			out = rawmqtt.AppendAck(out, rawmqtt.Pubrec, p.ID)
		case rawmqtt.Pubrel:
			delete(r.held, p.ID)
			out = rawmqtt.AppendAck(out, rawmqtt.Pubcomp, p.ID)
		}
		if len(out) > 0 && !c.More() {
			if _, err := c.Write(out); err != nil {
				return true, false
			}
			out = out[:0]
		}
	}
}
