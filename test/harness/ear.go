package harness

import (
	"strings"
	"sync"
	"time"

	"tidegate/test/rawmqtt"
)

// Ear is a subscriber that acknowledges and remembers everything it hears, in order.
type Ear struct {
	tb   TB
	conn *rawmqtt.Conn
	end  chan struct{}

	mu    sync.Mutex // guards what follows
	heard []Heard
}

// Listen subscribes at QoS 1, in a clean session, to filters of the broker at addr.
func Listen(tb TB, addr string, filters ...string) *Ear {
	tb.Helper()
	return ListenAs(tb, addr, rawmqtt.Options{Clean: true}, filters...)
}

// ListenAs is Listen with a client of its own making. Without filters nothing is subscribed: a session that has its
// subscriptions already.
func ListenAs(tb TB, addr string, o rawmqtt.Options, filters ...string) *Ear {
	tb.Helper()
	o.ReadBuffer = max(o.ReadBuffer, 512<<10)
	c, _, err := rawmqtt.Dial(addr, o)
	if err == nil && len(filters) > 0 {
		_, err = c.Write(rawmqtt.AppendSubscribe(nil, c.V5, 1, 1, filters...))
	}
	if err != nil {
		tb.Fatalf("harness: listen to %s: %v", strings.Join(filters, " "), err)
	}
	e := &Ear{tb: tb, conn: c, end: make(chan struct{})}
	subscribed := make(chan byte, 1)
	go e.run(subscribed)
	tb.Cleanup(e.Close)
	if len(filters) > 0 {
		select {
		case code := <-subscribed:
			if code >= 0x80 {
				tb.Fatalf("harness: subscribe %s: refused with 0x%02x", strings.Join(filters, " "), code)
			}
		case <-time.After(Patience):
			tb.Fatalf("harness: no SUBACK for %s after %v", strings.Join(filters, " "), Patience)
		}
	}
	return e
}

func (e *Ear) run(subscribed chan<- byte) {
	defer close(e.end)
	var acks []byte
	for {
		p, err := e.conn.Next()
		if err != nil {
			return
		}
		switch p.Type {
		case rawmqtt.Suback:
			subscribed <- p.Code
		case rawmqtt.Publish:
			e.mu.Lock()
			e.heard = append(e.heard, Heard{Topic: string(p.Topic), Payload: string(p.Payload), QoS: int(p.QoS()), Retain: int(p.Flags & rawmqtt.Retain)})
			e.mu.Unlock()
			if p.QoS() == 1 {
				acks = rawmqtt.AppendAck(acks, rawmqtt.Puback, p.ID)
			}
		}
		if len(acks) > 0 && !e.conn.More() {
			if _, err := e.conn.Write(acks); err != nil {
				return
			}
			acks = acks[:0]
		}
	}
}

// All is what was heard so far.
func (e *Ear) All() []Heard {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]Heard(nil), e.heard...)
}

// Expect waits for the first message, heard already or to come, on topic for which ok holds (nil: any), and returns it.
func (e *Ear) Expect(topic string, ok func(payload string) bool) Heard {
	e.tb.Helper()
	var found Heard
	at := 0
	Until(e.tb, "a message as expected on "+topic, func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		for ; at < len(e.heard); at++ {
			if h := e.heard[at]; h.Topic == topic && (ok == nil || ok(h.Payload)) {
				found = h
				return true
			}
		}
		return false
	})
	return found
}

// Count waits until n messages were heard.
func (e *Ear) Count(n int) {
	e.tb.Helper()
	Until(e.tb, "enough messages heard", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.heard) >= n
	})
}

// Close disconnects and waits for the reader. It may be called twice.
func (e *Ear) Close() {
	e.conn.Close()
	<-e.end
}
