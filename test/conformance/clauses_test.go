package conformance_test

import (
	"fmt"
	"testing"
)

// What the specification says of answers, beside what they answer.

// The first packet of the server is CONNACK, there is one, and after one that refuses nothing of the client's is
// looked at any more and nothing is said ([MQTT-3.2.0-1], [MQTT-3.2.0-2], [MQTT-3.2.2-7], [MQTT-3.1.4-6], [MQTT-3.14.0-1]).
func TestNothingHappensBehindARefusedConnect(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		topic := w.name()
		s := w.client(v5)
		s.sub(0, topic)
		c := connect{id: w.name(), clean: true, v5: v5, user: "banned", pass: "p", will: &will{topic: topic, payload: "will"}}
		all := append(c.bytes(), publish(v5, topic, "x", 0, 0, 0)...)
		all = append(all, subscribe(v5, 1, nil, filter{topic, 1})...)
		all = append(all, publish(v5, topic, "x", 1, 2, 0)...)
		nc := w.raw()
		nc.Write(all)
		got := cutOff(t, nc)
		if want := map[bool]string{false: "20 02 00 05", true: "20"}[v5]; fmt.Sprintf("% x", got[:min(len(got), len(want)/3+1)]) != want {
			t.Fatalf("answered with % x", got)
		}
		if n := 2 + int(got[1]); len(got) != n || v5 && got[3] != 0x87 {
			t.Errorf("answered with % x", got)
		}
		s.silent()
	})
}

// A client that is let in has its answers in the order of what it sent at once, CONNACK before all ([MQTT-3.1.4-5], [MQTT-4.6.0-2]).
func TestWhatIsSentBehindConnectWaitsForIt(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		topic := w.name()
		c := connect{id: w.name(), clean: true, v5: v5}
		all := append(c.bytes(), subscribe(v5, 1, nil, filter{topic, 1}, filter{"nosubscribe", 1}, filter{topic + "/b", 2})...)
		all = append(all, publish(v5, topic, "x", 1, 2, 0)...)
		all = append(all, PINGREQ<<4, 0)
		p := &peer{t: t, Conn: w.raw(), v5: v5, buf: make([]byte, 4096)}
		p.write(all)
		if k := p.next(CONNACK); k.code != 0 || k.present {
			t.Fatalf("%v", k)
		}
		k := p.next(SUBACK) // [MQTT-3.8.4-1], [MQTT-3.9.3-1]: a code for each filter, in their order
		if want := map[bool]string{false: "01 80 02", true: "01 87 02"}[v5]; k.id != 1 || fmt.Sprintf("% x", k.codes) != want {
			t.Errorf("%v, want %s", k, want)
		}
		seen := map[byte]int{}
		for range 3 {
			k, err := p.read()
			if err != nil {
				t.Fatal(err)
			}
			seen[k.typ]++
		}
		if seen[PUBLISH] != 1 || seen[PUBACK] != 1 || seen[PINGRESP] != 1 {
			t.Errorf("packet types %v", seen)
		}
	})
}

// Words come only where the client has room for them ([MQTT-3.2.2-19], [MQTT-3.4.2-2], [MQTT-3.5.2-2], [MQTT-3.14.2-3]).
func TestReasonsAreNoLongerThanTheClientTakes(t *testing.T) {
	w := open(t)
	words := map[string]int{}
	for most := uint32(8); most <= 64; most++ {
		check := func(what string, k packet, code byte) {
			t.Helper()
			if k.code != code || k.size > int(most) {
				t.Errorf("%s to a client that takes %d bytes: %v of %d bytes", what, most, k, k.size)
			}
			if _, ok := k.get(reasonString); ok {
				words[what]++
			} else if most == 64 {
				t.Errorf("%s without a reason: %v", what, k)
			}
		}
		limit := num(maximumPacket, most)
		p := begin(t, w.addr, connect{id: "x", v5: true, clean: true, user: "stranger", pass: "p", props: []prop{limit}})
		check("CONNACK", p.next(CONNACK), 0x86)
		p.cut()
		p = w.dial(connect{id: w.name(), v5: true, clean: true, props: []prop{limit}})
		p.write(publish(true, "nopublish", "x", 1, 1, 0))
		check("PUBACK", p.answer(PUBACK, 1), 0x87)
		p.write(publish(true, "nopublish", "x", 2, 2, 0))
		check("PUBREC", p.answer(PUBREC, 2), 0x87)
		p.write(publish(true, "a/#", "x", 0, 0, 0))
		check("DISCONNECT", p.next(DISCONNECT), 0x90)
		p.cut()
	}
	for what, n := range words {
		if n == 57 {
			t.Errorf("%s came with words however little room there was", what)
		}
	}
}

// With the window full only PUBLISH of QoS 1 and 2 waits: everything else is answered (4.9, [MQTT-3.3.4-8]).
func TestAFullWindowHoldsUpNothingElse(t *testing.T) {
	w := open(t)
	topic := w.name()
	s := w.dial(connect{id: w.name(), v5: true, clean: true, props: []prop{num(receiveMaximum, 1)}})
	s.sub(2, topic)
	p := w.client(true)
	p.pub(topic, "first", 1, 0)
	first := s.want(topic, "first", 1, 0)
	p.pub(topic, "second", 2, 0)
	s.silent()
	s.sub(1, topic+"/b")
	for qos := range byte(3) {
		s.pub(topic+"/c", "of its own", qos, 0)
	}
	p.pub(topic, "zero", 0, 0)
	s.get(topic, "zero", 0, 0)
	if codes := s.unsub(topic + "/b"); codes[0] != 0 {
		t.Errorf("UNSUBACK 0x%02x", codes[0])
	}
	s.settle(first)
	s.get(topic, "second", 2, 0)
	s.silent()
}

// A will is published once, and is no part of the session's state any more ([MQTT-3.1.2-10]).
func TestAWillIsGoneOnceItIsPublished(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		topic := w.name()
		s := w.client(v5)
		s.sub(1, topic)
		c := w.keeper(v5)
		mortal := c
		mortal.will = &will{topic: topic, payload: "gone", qos: 1}
		w.dial(mortal).cut()
		s.get(topic, "gone", 1, 0)
		w.dial(c).cut() // the same session, and no will
		w.left(c.id)
		s.silent()
		w.restart()
		s = w.client(v5)
		s.sub(1, topic)
		w.dial(c).cut()
		w.left(c.id)
		s.silent()
	})
}
