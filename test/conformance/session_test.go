package conformance_test

import (
	"fmt"
	"testing"
	"time"
)

// keeper is a client whose session outlives its connection.
func (w *world) keeper(v5 bool, more ...prop) connect {
	return connect{id: w.name(), v5: v5, props: append([]prop{num(sessionExpiry, 3600)}, more...)}
}

func TestSessionIsKept(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		c := w.keeper(v5)
		topic := w.name()
		p := w.dial(c)
		if p.hello.present {
			t.Error("a session before the first connection") // [MQTT-3.2.2-3]
		}
		p.sub(1, topic)
		p.leave()
		pub := w.client(!v5)
		pub.pub(topic, "1", 1, 0)
		pub.pub(topic, "2", 2, 0)
		pub.pub(topic, "not kept", 0, 0)
		p = w.dial(c)
		if !p.hello.present { // [MQTT-3.2.2-2], [MQTT-3.1.2-5]
			t.Error("no session present")
		}
		p.get(topic, "1", 1, 0)
		p.get(topic, "2", 1, 0)
		p.silent()
		pub.pub(topic, "3", 0, 0)
		p.get(topic, "3", 0, 0)
		p.leave()
		c.clean = true
		if p = w.dial(c); p.hello.present { // [MQTT-3.1.2-4]
			t.Error("clean start found a session")
		}
		pub.pub(topic, "4", 1, 0)
		p.silent()
	})
}

// Paho's offline message queueing: each QoS, through a wildcard, in order.
func TestOfflineMessagesAreQueued(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		c := w.keeper(v5)
		topic := w.name()
		p := w.dial(c)
		p.sub(2, topic+"/#")
		p.leave()
		pub := w.client(v5)
		for qos := range byte(3) {
			pub.pub(fmt.Sprint(topic, "/", qos), fmt.Sprint("qos ", qos), qos, 0)
		}
		p = w.dial(c)
		p.get(topic+"/1", "qos 1", 1, 0)
		p.get(topic+"/2", "qos 2", 2, 0)
		p.silent()
	})
}

func TestSessionOfAnotherVersionIsNotResumed(t *testing.T) { // spec/mqtt.md §3
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		c := w.keeper(v5)
		p := w.dial(c)
		p.sub(1, "a")
		p.leave()
		c.v5 = !v5
		if p = w.dial(c); p.hello.present {
			t.Error("resumed")
		}
		w.client(v5).pub("a", "x", 1, 0)
		p.silent()
	})
}

func TestSessionExpires(t *testing.T) {
	w := openStill(t)
	both(t, w, func(t *testing.T, v5 bool) {
		c := w.keeper(v5)
		life := 7 * 24 * time.Hour
		if v5 {
			c.props, life = []prop{num(sessionExpiry, 5)}, 5*time.Second
		}
		p := w.dial(c)
		p.sub(1, c.id)
		p.cut()
		w.left(c.id)
		w.man.Advance(life - 2*time.Second)
		if p = w.dial(c); !p.hello.present {
			t.Error("gone too early")
		}
		p.leave()
		w.left(c.id)
		w.client(v5).pub(c.id, "x", 1, 0)
		w.man.Advance(life - 2*time.Second)
		w.pass(4 * time.Second)
		w.forgotten(c.id)
		if p = w.dial(c); p.hello.present { // [MQTT-3.1.2-23]
			t.Error("still there")
		}
		w.client(v5).pub(c.id, "y", 1, 0)
		p.silent()
		p.leave()
	})
}

// left waits until the server has noticed the end of a client's connection.
func (w *world) left(id string) {
	w.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if s, ok := w.br.Session(id); !ok || !s.Connected && !s.Since.IsZero() {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s is still connected", id)
		}
	}
}

// forgotten waits until a client has no session.
func (w *world) forgotten(id string) {
	w.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if _, ok := w.br.Session(id); !ok {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s still has a session", id)
		}
	}
}

func TestSessionExpiryChangesAtDisconnect(t *testing.T) {
	w := openStill(t)
	bye := func(sec uint32) []byte {
		return frame(DISCONNECT<<4, appendProps([]byte{0}, []prop{num(sessionExpiry, sec)}))
	}
	c := w.keeper(true)
	p := w.dial(c)
	p.write(bye(0)) // ends the session at once
	p.ended()
	if p = w.dial(c); p.hello.present {
		t.Error("present after expiry 0 at DISCONNECT")
	}
	p.write(bye(10))
	p.ended()
	w.left(c.id)
	w.pass(8 * time.Second)
	if p = w.dial(c); !p.hello.present {
		t.Error("gone before its 10 s")
	}
	p.write(bye(10))
	p.ended()
	w.left(c.id)
	w.pass(12 * time.Second)
	w.forgotten(c.id)
	if p = w.dial(c); p.hello.present {
		t.Error("present after 12 s of 10")
	}
	p.leave()
	p = w.client(true)
	p.write(bye(10))
	if code := p.ended(); code != 0x82 { // 3.14.2.2.2
		t.Errorf("0 raised at DISCONNECT: 0x%02x", code)
	}
}

func TestLongSessionExpiryIsLoweredAndSaidSo(t *testing.T) {
	w := open(t)
	c := connect{id: w.name(), v5: true, props: []prop{num(sessionExpiry, 0xffffffff)}}
	p := w.dial(c)
	if got, _ := p.hello.get(sessionExpiry); got.num != 7*24*3600 { // [MQTT-3.2.2-17], spec/mqtt.md §3
		t.Errorf("%d", got.num)
	}
}

func TestCleanStartWithExpiryMakesASessionThatLasts(t *testing.T) {
	w := open(t)
	c := w.keeper(true)
	c.clean = true
	p := w.dial(c)
	p.sub(1, "k")
	p.leave()
	c.clean = false
	if p = w.dial(c); !p.hello.present {
		t.Error("no session present")
	}
	p.leave()
	c.props = nil // expiry 0: it ends with this connection
	if p = w.dial(c); !p.hello.present {
		t.Error("no session present for a last time")
	}
	p.leave()
	w.left(c.id)
	if p = w.dial(c); p.hello.present {
		t.Error("session present after an expiry of 0")
	}
}

func TestTakeOver(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		for _, clean := range []bool{true, false} {
			c := w.keeper(v5)
			c.clean = clean
			topic := w.name()
			old := w.dial(c)
			old.sub(1, topic)
			old.write(publish(v5, topic, "mine", 1, 9, 0))
			first, second := old.next(PUBLISH), old.next(PUBACK)
			_ = second
			p := w.dial(c)
			if code := old.ended(); v5 && code != 0x8e { // [MQTT-3.1.4-3]
				t.Errorf("DISCONNECT 0x%02x", code)
			}
			if p.hello.present == clean {
				t.Errorf("clean %v: session present %v", clean, p.hello.present)
			}
			if !clean {
				if k := p.get(topic, "mine", 1, dup); k.id != first.id { // [MQTT-4.4.0-1]
					t.Errorf("packet id %d, was %d", k.id, first.id)
				}
			}
			p.silent()
			p.pub(topic, "new", 0, 0)
			if !clean {
				p.get(topic, "new", 0, 0)
			}
			p.silent()
		}
	})
}

func TestAnotherPrincipalDoesNotGetTheSession(t *testing.T) { // stack.md §1.3: sessions are bound to who made them
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		c := w.keeper(v5)
		c.user = "alice"
		p := w.dial(c)
		p.sub(1, c.id)
		p.leave()
		w.client(v5).pub(c.id, "secret", 1, 0)
		c.user = "eve"
		p = w.dial(c)
		if p.hello.present {
			t.Error("resumed")
		}
		p.silent()
	})
}

func TestRedeliveryOnReconnect(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		c := w.keeper(v5)
		topic := w.name()
		p := w.dial(c)
		p.sub(2, topic)
		pub := w.client(v5)
		for i := range 6 {
			pub.pub(topic, fmt.Sprint(i), byte(1+i%2), 0)
		}
		ids := map[string]packet{}
		for range 6 {
			k := p.next(PUBLISH)
			if k.flags&dup != 0 { // [MQTT-3.3.1-1]
				t.Errorf("first delivery with DUP: %v", k)
			}
			ids[k.payload] = k
		}
		p.write(ack(PUBACK, ids["2"].id, 0))
		p.settle(ids["3"])
		p.write(ack(PUBREC, ids["5"].id, 0))
		p.answer(PUBREL, ids["5"].id)
		p.cut()
		w.left(c.id)
		p = w.dial(c)
		var order, released []string
		for range 4 { // 0, 4 with QoS 1; 1 with QoS 2; the release of 5. [MQTT-4.4.0-1]
			switch k, err := p.read(); {
			case err != nil:
				t.Fatal(err)
			case k.typ == PUBREL:
				if k.id != ids["5"].id {
					t.Errorf("PUBREL %d, want %d", k.id, ids["5"].id)
				}
				released = append(released, "5")
			case k.typ == PUBLISH:
				if k.id != ids[k.payload].id || k.flags&dup == 0 {
					t.Errorf("again: %v, was %v", k, ids[k.payload])
				}
				order = append(order, k.payload)
			default:
				t.Errorf("%v", k)
			}
		}
		p.silent()
		if len(released) != 1 || len(order) != 3 {
			t.Errorf("came again: %v, released %v", order, released)
		}
	})
}
