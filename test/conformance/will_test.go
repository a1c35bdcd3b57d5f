package conformance_test

import (
	"fmt"
	"testing"
	"time"

	"tidegate/gateway/broker"
)

func TestWillIsSentWhenTheConnectionIsLost(t *testing.T) { // [MQTT-3.1.2-8]
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		for qos := range byte(3) {
			topic := w.name()
			s := w.client(v5)
			s.sub(2, topic)
			c := connect{id: w.name(), v5: v5, clean: true, will: &will{topic: topic, payload: "gone", qos: qos, retain: qos == 1}}
			p := w.dial(c)
			p.cut()
			s.get(topic, "gone", qos, 0)
			late := w.client(v5)
			late.sub(2, topic)
			if qos == 1 { // [MQTT-3.1.2-15], [MQTT-3.1.2-14]
				late.get(topic, "gone", 1, retain)
			}
			late.silent()
			w.dial(c).leave() // [MQTT-3.14.4-3]
			w.left(c.id)
			p = w.dial(c)
			p.write([]byte{0xf0, 0}) // protocol error
			p.ended()
			s.get(topic, "gone", qos, 0)
			s.silent()
			c.will = nil // the will of one connection is not that of the next
			w.dial(c).cut()
			w.left(c.id)
			s.silent()
		}
	})
}

func TestWillAndTheWayItEnds(t *testing.T) {
	w := open(t)
	topic := w.name()
	s := w.client(true)
	s.sub(0, topic)
	for _, c := range []struct {
		code byte
		sent bool
	}{{0x00, false}, {0x04, true}, {0x80, true}, {0x81, true}, {0x98, true}} { // 3.1.2.5, [MQTT-3.14.4-3]
		for _, expiry := range []uint32{0, 100} {
			p := w.dial(connect{id: w.name(), v5: true, clean: true, will: &will{topic: topic, payload: fmt.Sprint(c.code)}, props: []prop{num(sessionExpiry, expiry)}})
			p.write(frame(DISCONNECT<<4, []byte{c.code}))
			p.ended()
			if c.sent {
				s.get(topic, fmt.Sprint(c.code), 0, 0)
			}
			s.silent()
		}
	}
}

func TestWillIsSentOnTakeOver(t *testing.T) { // 3.1.4, spec/mqtt.md §2
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		for _, clean := range []bool{true, false} {
			topic := w.name()
			s := w.client(v5)
			s.sub(1, topic)
			c := w.keeper(v5)
			c.clean, c.will = clean, &will{topic: topic, payload: "taken over", qos: 1}
			old := w.dial(c)
			c.will = nil
			p := w.dial(c)
			old.ended()
			s.get(topic, "taken over", 1, 0)
			p.cut()
			w.left(c.id)
			s.silent()
		}
	})
}

func TestWillDelay(t *testing.T) { // [MQTT-3.1.3-9], 3.1.3.2.2
	w := openStill(t)
	topic := w.name()
	s := w.client(true)
	s.sub(1, topic)
	c := connect{id: w.name(), v5: true, will: &will{topic: topic, payload: "late", qos: 1, props: []prop{num(willDelay, 10)}}, props: []prop{num(sessionExpiry, 100)}}
	p := w.dial(c)
	p.cut()
	w.left(c.id)
	w.pass(8 * time.Second)
	s.silent()
	p = w.dial(c) // in time
	p.silent()
	w.pass(10 * time.Second)
	s.silent()
	p.cut()
	w.left(c.id)
	w.pass(12 * time.Second)
	s.get(topic, "late", 1, 0)
	s.silent()

	p = w.dial(c)
	p.cut()
	w.left(c.id)
	c.clean = true // the session ends: so does the waiting
	w.dial(c)
	s.get(topic, "late", 1, 0)

	c.clean, c.props = false, []prop{num(sessionExpiry, 4)} // it ends before the delay does
	p = w.dial(c)
	p.cut()
	w.left(c.id)
	w.pass(2 * time.Second)
	s.silent()
	w.pass(4 * time.Second)
	s.get(topic, "late", 1, 0)

	c.props = nil // no session beyond the connection: at once
	p = w.dial(c)
	p.cut()
	s.get(topic, "late", 1, 0)

	c.props = []prop{num(sessionExpiry, 100)}
	old := w.dial(c)
	p = w.dial(c) // a take-over in which the session goes on withdraws it
	old.ended()
	w.pass(12 * time.Second)
	s.silent()
	p.write(frame(DISCONNECT<<4, []byte{0x04}))
	p.ended()
	w.left(c.id)
	w.pass(8 * time.Second)
	s.silent()
	w.pass(4 * time.Second)
	s.get(topic, "late", 1, 0)
	s.silent()
}

func TestWillProperties(t *testing.T) { // 3.1.3.2
	w := open(t)
	topic := w.name()
	s := w.client(true)
	s.sub(1, topic)
	ps := []prop{num(payloadFormat, 1), num(messageExpiry, 100), text(contentType, "c"), text(responseTopic, "r"), text(correlation, "x"), user("b", "2"), user("a", "1"), user("a", "0")}
	p := w.dial(connect{id: w.name(), v5: true, clean: true, will: &will{topic: topic, payload: "w", qos: 1, props: append([]prop{num(willDelay, 0)}, ps...)}})
	p.cut()
	if got, want := fmt.Sprint(s.get(topic, "w", 1, 0).props), fmt.Sprint(ps); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestWillsThatMayNotBe(t *testing.T) {
	w := open(t, func(c *broker.Config) { c.Limits.Payload = 1000 })
	big := make([]byte, 1001)
	for i := range big {
		big[i] = 'x'
	}
	both(t, w, func(t *testing.T, v5 bool) {
		for _, x := range []*will{{topic: "a/+", payload: "x"}, {topic: "#", payload: "x"}, {topic: "a\x00", payload: "x"}, {topic: "nopublish", payload: "x"}, {topic: "$SYS/x", payload: "x"},
			{topic: "big", payload: string(big)}, {topic: "$aws/things/x", payload: "x"}} {
			if code := w.refused(connect{id: w.name(), v5: v5, clean: true, will: x}); v5 && code < 0x80 || code == 0 {
				t.Errorf("%q: 0x%02x", x.topic, code)
			}
		}
	})
}

func TestWillSurvivesARestart(t *testing.T) {
	w := openStill(t)
	both(t, w, func(t *testing.T, v5 bool) {
		c := w.keeper(v5)
		topic := w.name()
		k := w.dial(c)
		k.sub(1, topic)
		k.leave()
		lost, back := w.keeper(v5), w.keeper(v5)
		lost.will = &will{topic: topic, payload: "lost", qos: 1}
		back.will = &will{topic: topic, payload: "back", qos: 1}
		if v5 {
			lost.will.props = []prop{num(willDelay, 30)}
			back.will.props = []prop{num(willDelay, 30)}
		}
		w.dial(lost)
		w.dial(back)
		w.restart()
		if v5 {
			w.dial(back).leave() // in time
			w.left(back.id)
			w.pass(28 * time.Second)
		}
		k = w.dial(c)
		if v5 {
			k.silent()
		}
		w.pass(5 * time.Second)
		got := map[string]bool{}
		got[k.next(PUBLISH).payload] = true
		if !v5 { // without a delay the gateway's end is a lost connection for both
			got[k.next(PUBLISH).payload] = true
		}
		if !got["lost"] || got["back"] == v5 {
			t.Errorf("%v", got)
		}
		k.leave()
	})
}
