package traffic

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/test/rawmqtt"
)

// FleetOptions for StartFleet.
type FleetOptions struct {
	Publishers int
	First      int     // number of the first publisher
	Window     int     // messages in flight of each; 0: 1
	Size       int     // bytes of a payload
	Rate       float64 // messages a second of each; 0: as fast as they are acknowledged
	Limit      uint64  // numbers each publisher sends; 0: until it is stopped
	Topic      string  // of publisher p: Topic/p
	V5         bool
	// Acked is told of each acknowledgement, from the publisher's goroutine.
	Acked func(p int, seq uint64)
}

// Fleet is a set of publishers at work.
type Fleet struct {
	o       FleetOptions
	target  *Target
	drain   chan struct{} // closed: send nothing new
	stop    chan struct{} // closed: go
	wg      sync.WaitGroup
	boats   []*boat
	refused atomic.Int64
	mu      sync.Mutex // guards bad
	bad     []string
}

type boat struct {
	n           int
	acked, sent atomic.Uint64
	mu          sync.Mutex // guards conn
	conn        *rawmqtt.Conn
}

// StartFleet starts publishers that follow the target. End it with Drain or Abandon.
func StartFleet(target *Target, o FleetOptions) *Fleet {
	o.Window = max(1, o.Window)
	f := &Fleet{o: o, target: target, drain: make(chan struct{}), stop: make(chan struct{})}
	for p := range o.Publishers {
		f.boats = append(f.boats, &boat{n: o.First + p})
	}
	f.wg.Add(len(f.boats))
	for _, b := range f.boats {
		go func() { defer f.wg.Done(); f.sail(b) }()
	}
	return f
}

// Acked is the last number acknowledged to each publisher, from First on.
func (f *Fleet) Acked() []uint64 {
	high := make([]uint64, len(f.boats))
	for i, b := range f.boats {
		high[i] = b.acked.Load()
	}
	return high
}

// Total is how many messages were acknowledged to all of them.
func (f *Fleet) Total() (n uint64) {
	for _, a := range f.Acked() {
		n += a
	}
	return n
}

// Refused counts acknowledgements with a reason code that means no; what they refused is sent again.
func (f *Fleet) Refused() int { return int(f.refused.Load()) }

// Bad is what the publishers found wrong, such as acknowledgements out of order.
func (f *Fleet) Bad() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.bad...)
}

// Drain sends nothing new, waits until all that was sent is acknowledged, and ends the fleet.
func (f *Fleet) Drain() {
	close(f.drain)
	f.wg.Wait()
}

// Wait waits until every publisher has sent its Limit and had it acknowledged.
func (f *Fleet) Wait() { f.wg.Wait() }

// Abandon ends the fleet where it is.
func (f *Fleet) Abandon() {
	close(f.stop)
	for _, b := range f.boats {
		b.mu.Lock()
		if b.conn != nil {
			b.conn.Conn.Close()
		}
		b.mu.Unlock()
	}
	f.wg.Wait()
}

func (f *Fleet) blame(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.bad) < 20 {
		f.bad = append(f.bad, fmt.Sprintf(format, args...))
	}
}

// sail connects again and again until there is nothing more to do.
func (f *Fleet) sail(b *boat) {
	for {
		addr := f.target.wait(f.stop)
		if addr == "" || f.finished(b) {
			return
		}
		// Every other one keeps its session and says DUP when it repeats itself.
		o := rawmqtt.Options{ClientID: fmt.Sprintf("boat-%s-%d", f.o.Topic, b.n), Clean: b.n%2 == 0, V5: f.o.V5}
		if !o.Clean {
			o.SessionExpiry = 3600
		}
		c, _, err := rawmqtt.Dial(addr, o)
		if err != nil {
			select {
			case <-f.stop:
				return
			case <-time.After(10 * time.Millisecond):
				continue
			}
		}
		b.mu.Lock()
		b.conn = c
		b.mu.Unlock()
		select {
		case <-f.stop: // it may have looked for the connection before it was there
		default:
			f.publish(b, c)
		}
		c.Conn.Close()
		if f.finished(b) {
			return
		}
	}
}

func (f *Fleet) finished(b *boat) bool {
	select {
	case <-f.stop:
		return true
	case <-f.drain:
		return b.acked.Load() == b.sent.Load()
	default:
		return f.o.Limit > 0 && b.acked.Load() == f.o.Limit
	}
}

// publish works on one connection until it breaks or nothing is left to do.
func (f *Fleet) publish(b *boat, c *rawmqtt.Conn) {
	var out, payload []byte
	topic := fmt.Sprintf("%s/%d", f.o.Topic, b.n)
	at := b.acked.Load() // last number sent on this connection
	started, first := time.Now(), at
	for {
		for at-b.acked.Load() < uint64(f.o.Window) && (f.o.Limit == 0 || at < f.o.Limit) {
			fresh := at == b.sent.Load()
			if fresh && f.draining() {
				break
			}
			if due := started.Add(time.Duration(float64(at-first) / max(f.o.Rate, 1e-9) * float64(time.Second))); fresh && f.o.Rate > 0 && time.Until(due) > 0 {
				if at > b.acked.Load() || len(out) > 0 {
					break // hear the acknowledgements first
				}
				select {
				case <-time.After(time.Until(due)):
				case <-f.stop:
					return
				}
			}
			at++
			flags := byte(0)
			if !fresh && b.n%2 == 1 {
				flags = rawmqtt.Dup
			}
			payload = Payload(payload, b.n, at, f.o.Size)
			out = rawmqtt.AppendPublish(out, c.V5, topic, payload, 1, id(at), flags)
			b.sent.Store(max(b.sent.Load(), at))
		}
		if len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
		if b.acked.Load() == at && (f.draining() || at == f.o.Limit && at > 0) {
			return
		}
		if !f.hear(b, c) {
			return
		}
	}
}

// hear takes the acknowledgements that are there, waiting for one; false ends the connection.
func (f *Fleet) hear(b *boat, c *rawmqtt.Conn) bool {
	for {
		p, err := c.Next()
		if err != nil || p.Type == rawmqtt.Disconnect {
			return false
		}
		if p.Type == rawmqtt.Puback {
			want := b.acked.Load() + 1
			switch {
			case p.ID != id(want):
				f.blame("publisher %d: PUBACK for packet %d where %d (number %d) is due", b.n, p.ID, id(want), want)
				return false
			case p.Code >= 0x80:
				f.refused.Add(1)
				time.Sleep(20 * time.Millisecond) // as a client would, before it tries again
				return false
			}
			b.acked.Store(want)
			if f.o.Acked != nil {
				f.o.Acked(b.n, want)
			}
		}
		if !c.More() {
			return true
		}
	}
}

func (f *Fleet) draining() bool {
	select {
	case <-f.drain:
		return true
	default:
		return false
	}
}

func id(seq uint64) uint16 { return uint16(seq%65535) + 1 }
