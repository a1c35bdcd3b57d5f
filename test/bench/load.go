package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/test/rawmqtt"
)

// Shape is who sends what to whom.
type Shape struct {
	Pubs, Subs int
	Pairs      bool // publisher i to subscriber i; otherwise everybody to everybody
	QoS        byte
	Size       int // bytes of payload
	Window     int // messages of a publisher on their way
	OneByOne   bool
	ByAck      bool // the window is one of PUBACKs alone, not of deliveries
	Persistent bool // subscribers keep their sessions, so that QoS 1 must be on disk before its PUBACK
	Away       bool // and have gone before it starts
}

// load is a shape at work.
type load struct {
	b         *Bench
	shape     Shape
	boats     []*boat
	subs      []*rawmqtt.Conn
	delivered atomic.Int64
	acked     atomic.Int64
	wg        sync.WaitGroup
	stopped   atomic.Bool
}

// boat is a publisher. Its window is kept by what has been acknowledged and delivered of what it sent.
type boat struct {
	n         int
	conn      *rawmqtt.Conn
	frames    []byte // Window frames, one behind the other, all of one size
	frame     int    // size of one
	id        int    // offset of the packet id in a frame
	sent      int64
	acked     atomic.Int64
	delivered atomic.Int64 // deliveries, times the subscribers each message goes to
	wake      chan struct{}
	lost      int64 // given up waiting for
}

// launch connects everybody. Nothing is sent yet.
func (b *Bench) launch(addr string, shape Shape) *load {
	l := &load{b: b, shape: shape}
	for i := range shape.Subs {
		o := rawmqtt.Options{ClientID: fmt.Sprintf("sub%d", i), Clean: !shape.Persistent || b.Name != product, ReadBuffer: 256 << 10}
		if shape.Away {
			o.Clean = false
		}
		c, _, err := rawmqtt.Dial(addr, o)
		filter := "bench/+"
		if shape.Pairs {
			filter = fmt.Sprintf("bench/%d", i)
		}
		if err == nil {
			err = c.Subscribe(shape.QoS, filter)
		}
		if err != nil {
			b.Fatalf("subscriber %d: %v", i, err)
		}
		if shape.Away {
			c.Close()
			continue
		}
		l.subs = append(l.subs, c)
	}
	for i := range shape.Pubs {
		c, _, err := rawmqtt.Dial(addr, rawmqtt.Options{ClientID: fmt.Sprintf("pub%d", i), Clean: true, ReadBuffer: 64 << 10})
		if err != nil {
			b.Fatalf("publisher %d: %v", i, err)
		}
		t := &boat{n: i, conn: c, wake: make(chan struct{}, 1)}
		topic := fmt.Sprintf("bench/%d", i)
		for range shape.Window {
			t.frames = rawmqtt.AppendPublish(t.frames, false, topic, make([]byte, shape.Size), shape.QoS, 1, 0)
		}
		t.frame = len(t.frames) / shape.Window
		t.id = t.frame - shape.Size - 2
		l.boats = append(l.boats, t)
	}
	b.Cleanup(l.stop)
	for _, c := range l.subs {
		l.wg.Add(1)
		go func() { defer l.wg.Done(); l.receive(c) }()
	}
	for _, t := range l.boats {
		l.wg.Add(1)
		go func() { defer l.wg.Done(); l.acks(t) }()
	}
	return l
}

// send starts the publishers.
func (l *load) send() {
	for _, t := range l.boats {
		l.wg.Add(1)
		go func() { defer l.wg.Done(); l.publish(t) }()
	}
}

func (l *load) stop() {
	if l.stopped.Swap(true) {
		return
	}
	for _, c := range l.subs {
		c.Conn.Close()
	}
	for _, t := range l.boats {
		t.conn.Conn.Close()
	}
	l.wg.Wait()
}

// room is how many messages the window of t still lets out.
func (l *load) room(t *boat) int {
	out := int64(0)
	if !l.shape.ByAck {
		per := int64(l.shape.Subs)
		if l.shape.Pairs {
			per = 1
		}
		if per > 0 && !l.shape.Away {
			out = t.sent - t.delivered.Load()/per
		}
	}
	if l.shape.QoS > 0 {
		out = max(out, t.sent-t.acked.Load())
	}
	return l.shape.Window - int(out-t.lost)
}

func (l *load) publish(t *boat) {
	least := max(1, l.shape.Window/4) // not worth a write before
	at := 0                           // next frame of t.frames
	for {
		n := l.room(t)
		for n < least {
			select {
			case <-t.wake:
			case <-time.After(300 * time.Millisecond):
				if l.stopped.Load() {
					return
				}
				// Brokers that drop would keep the window shut for ever.
				if n2 := l.room(t); n2 == n && l.shape.QoS == 0 {
					t.lost += int64(l.shape.Window - n)
				}
			}
			if l.stopped.Load() {
				return
			}
			n = l.room(t)
		}
		n = min(n, l.shape.Window-at)
		if l.shape.OneByOne {
			n = 1
		}
		chunk := t.frames[at*t.frame : (at+n)*t.frame]
		if l.shape.QoS > 0 {
			for i := range n {
				id := uint16((t.sent+int64(i))%65535) + 1
				chunk[i*t.frame+t.id], chunk[i*t.frame+t.id+1] = byte(id>>8), byte(id)
			}
		}
		t.sent += int64(n)
		if _, err := t.conn.Write(chunk); err != nil {
			return
		}
		if at += n; at == l.shape.Window {
			at = 0
		}
	}
}

func (t *boat) more() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// acks hears a publisher's PUBACKs.
func (l *load) acks(t *boat) {
	for {
		p, err := t.conn.Next()
		if err != nil {
			l.gone(err)
			return
		}
		if p.Type != rawmqtt.Puback {
			continue
		}
		n := int64(1)
		for t.conn.More() {
			if p, err := t.conn.Next(); err == nil && p.Type == rawmqtt.Puback {
				n++
			}
		}
		t.acked.Add(n)
		l.acked.Add(n)
		t.more()
	}
}

// receive hears a subscriber's messages.
func (l *load) receive(c *rawmqtt.Conn) {
	var acks []byte
	count := make([]int64, len(l.boats)) // since the last time it told
	total := int64(0)
	for {
		p, err := c.Next()
		if err != nil {
			l.gone(err)
			return
		}
		if p.Type == rawmqtt.Publish {
			n := 0
			for _, d := range p.Topic[len("bench/"):] {
				n = n*10 + int(d-'0')
			}
			count[n]++
			total++
			if p.QoS() > 0 {
				acks = rawmqtt.AppendAck(acks, rawmqtt.Puback, p.ID)
			}
		}
		if c.More() && total < 4096 {
			continue
		}
		if len(acks) > 0 {
			if _, err := c.Write(acks); err != nil {
				return
			}
			acks = acks[:0]
		}
		l.delivered.Add(total)
		total = 0
		for i, n := range count {
			if n > 0 {
				l.boats[i].delivered.Add(n)
				l.boats[i].more()
				count[i] = 0
			}
		}
	}
}

func (l *load) gone(err error) {
	if !l.stopped.Load() {
		l.b.Errorf("%s %s: a connection was lost: %v", l.b.Case.Name, l.b.Name, err)
	}
}
