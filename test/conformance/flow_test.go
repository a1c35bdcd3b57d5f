package conformance_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tidegate/gateway/broker"
)

// Paho's flow control 1: the server keeps to the client's Receive Maximum ([MQTT-3.3.4-9]).
func TestReceiveMaximumOfTheClient(t *testing.T) {
	w := open(t)
	for _, keep := range []bool{false, true} {
		const most, n = 3, 60
		c := connect{id: w.name(), v5: true, clean: true, props: []prop{num(receiveMaximum, most)}}
		if keep {
			c = w.keeper(true, num(receiveMaximum, most))
		}
		s, p := w.dial(c), w.client(true)
		s.sub(2, c.id)
		for i := range n {
			p.pub(c.id, fmt.Sprint(i), byte(1+i%2), 0)
		}
		p.pub(c.id, "QoS 0 does not count", 0, 0)
		zero := false
		var open []packet
		for got := 0; got < n; {
			k, err := s.read()
			if err != nil {
				t.Fatalf("after %d: %v", got, err)
			}
			if k.qos() == 0 {
				zero = true
				continue
			}
			got++
			if open = append(open, k); len(open) > most {
				t.Fatalf("%d unacknowledged", len(open))
			}
			if len(open) == most {
				s.write([]byte{PINGREQ << 4, 0})
				for {
					k, err := s.fetch()
					if err != nil || k.typ == PUBLISH && k.qos() > 0 {
						t.Fatalf("beyond the window: %v, %v", k, err)
					}
					zero = zero || k.typ == PUBLISH
					if k.typ == PINGRESP {
						break
					}
				}
				i := slices.IndexFunc(open, func(k packet) bool { return k.qos() == byte(1+got%2) }) // each QoS in its order, [MQTT-4.6.0-2]
				i = max(i, 0)
				k := open[i]
				open = slices.Delete(open, i, i+1)
				s.settle(k)
			}
		}
		if !zero {
			t.Error("QoS 0 waited for the window")
		}
	}
}

// A QoS 2 message holds its place until PUBCOMP; PUBREC with an error gives it up (4.9).
func TestReceiveMaximumCountsToTheEndOfQoS2(t *testing.T) {
	w := open(t)
	c := w.keeper(true, num(receiveMaximum, 1))
	s, p := w.dial(c), w.client(true)
	s.sub(2, c.id)
	for i := range 3 {
		p.pub(c.id, fmt.Sprint(i), 2, 0)
	}
	k := s.want(c.id, "0", 2, 0)
	s.silent()
	s.write(ack(PUBREC, k.id, 0))
	s.answer(PUBREL, k.id)
	s.silent()
	s.write(ack(PUBCOMP, k.id, 0))
	k = s.want(c.id, "1", 2, 0)
	s.cut()
	w.left(c.id)
	s = w.dial(c) // the window is the session's: one is in it
	k = s.want(c.id, "1", 2, dup)
	s.silent()
	s.settle(k)
	s.get(c.id, "2", 2, 0)
}

// Paho's flow control 2: the client must keep to the server's ([MQTT-3.3.4-7], 0x93).
func TestReceiveMaximumOfTheServer(t *testing.T) {
	w := open(t, func(c *broker.Config) { c.Limits.Inbound = 10 })
	p := w.client(true)
	most, _ := p.hello.get(receiveMaximum)
	if most.num != 10 {
		t.Fatalf("Receive Maximum %d", most.num)
	}
	for i := range 10 {
		p.write(publish(true, "a", "x", 2, uint16(i+1), 0))
		p.answer(PUBREC, uint16(i+1))
	}
	p.write(publish(true, "a", "x", 0, 0, 0))
	p.write(publish(true, "a", "x", 2, 3, dup)) // one of the ten again
	p.answer(PUBREC, 3)
	p.write(ack(PUBREL, 3, 0))
	p.answer(PUBCOMP, 3)
	p.write(publish(true, "a", "x", 2, 3, 0))
	p.answer(PUBREC, 3)
	p.write(publish(true, "a", "x", 2, 11, 0))
	if code := p.ended(); code != 0x93 {
		t.Errorf("the eleventh: DISCONNECT 0x%02x", code)
	}
	p = w.client(true)
	for i := range 1000 { // QoS 1 that is acknowledged as it comes does not run into it
		p.write(publish(true, "a", "x", 1, uint16(i+1), 0))
		p.answer(PUBACK, uint16(i+1))
	}
}

func TestMaximumPacketSizeOfTheClient(t *testing.T) { // [MQTT-3.1.2-24], [MQTT-3.1.2-25]
	w := open(t)
	for _, keep := range []bool{false, true} {
		const most = 100
		c := connect{id: w.name(), v5: true, clean: true, props: []prop{num(maximumPacket, most)}}
		if keep {
			c = w.keeper(true, num(maximumPacket, most))
		}
		s, p := w.dial(c), w.client(true)
		s.sub(2, c.id)
		for qos := range byte(3) {
			fits := strings.Repeat("x", most-2-2-len(c.id)-1-2*int(min(qos, 1)))
			p.pub(c.id, fits+"x", qos, 0) // as if it had been delivered
			p.pub(c.id, "x", qos, 0, user("k", strings.Repeat("v", most)))
			p.pub(c.id, fits, qos, 0)
			if k := s.get(c.id, fits, qos, 0); k.size != most {
				t.Errorf("%d bytes", k.size)
			}
			s.silent()
		}
		p.pub(c.id, strings.Repeat("x", most), 1, retain)
		s.sub(1, c.id)
		s.silent()
		if keep {
			s.leave()
			w.left(c.id)
			for qos := byte(1); qos < 3; qos++ {
				p.pub(c.id, strings.Repeat("x", most), qos, 0)
				p.pub(c.id, "fits", qos, 0)
			}
			s = w.dial(c)
			for range 2 {
				k := s.next(PUBLISH)
				if k.payload != "fits" {
					t.Errorf("%v", k)
				}
				s.settle(k)
			}
			s.silent()
		}
	}
}

func TestTopicAliasesOfTheClient(t *testing.T) { // Paho's: [MQTT-3.3.2-7] to -14
	w := open(t)
	s, p := w.client(true), w.client(true)
	a, b := w.name(), w.name()
	s.sub(2, a, b)
	send := func(topic, payload string, qos byte, alias uint32) {
		t.Helper()
		p.pub(topic, payload, qos, 0, num(topicAlias, alias), user("with", "alias"))
	}
	for qos := range byte(3) {
		send(a, "sets", qos, 1)
		send("", "uses", qos, 1)
		send(b, "other", qos, 8)
		send("", "uses", qos, 8)
		send(b, "sets anew", qos, 1)
		send("", "uses", qos, 1)
		for _, want := range [][2]string{{a, "sets"}, {a, "uses"}, {b, "other"}, {b, "uses"}, {b, "sets anew"}, {b, "uses"}} {
			if k := s.get(want[0], want[1], qos, 0); len(k.all(topicAlias)) > 0 || fmt.Sprint(k.props) != fmt.Sprint([]prop{user("with", "alias")}) {
				t.Errorf("%v", k)
			}
		}
	}
	for _, c := range []struct {
		topic string
		alias uint32
		code  byte
	}{{a, 0, 0x94}, {a, 9, 0x94}, {"", 5, 0x82}} {
		p := w.client(true)
		p.write(publish(true, c.topic, "x", 1, 1, 0, num(topicAlias, c.alias)))
		if code := p.ended(); code != c.code && code != 0x94 {
			t.Errorf("alias %d of %q: 0x%02x", c.alias, c.topic, code)
		}
	}
	p = w.client(true) // a connection's aliases end with it
	p.write(publish(true, "", "x", 1, 1, 0, num(topicAlias, 1)))
	if code := p.ended(); code != 0x94 && code != 0x82 {
		t.Errorf("alias of another connection: 0x%02x", code)
	}
	p = w.client(true)
	p.write(publish(true, "", "x", 1, 1, 0))
	if code := p.ended(); code != 0x82 {
		t.Errorf("neither topic nor alias: 0x%02x", code)
	}
	p = w.client(true)
	p.write(publish(true, "nopublish", "x", 1, 1, 0, num(topicAlias, 1)))
	if k := p.answer(PUBACK, 1); k.code != 0x87 {
		t.Errorf("not allowed by its name: 0x%02x", k.code)
	}
	p.write(publish(true, "", "x", 1, 2, 0, num(topicAlias, 1)))
	if k := p.answer(PUBACK, 2); k.code != 0x87 {
		t.Errorf("not allowed by its alias: 0x%02x", k.code)
	}
}

func TestTopicAliasesOfTheServer(t *testing.T) { // Paho's: [MQTT-3.1.2-26], [MQTT-3.1.2-27]
	w := open(t)
	for _, keep := range []bool{false, true} {
		c := connect{id: w.name(), v5: true, clean: true, props: []prop{num(aliasMaximum, 2)}}
		if keep {
			c = w.keeper(true, num(aliasMaximum, 2))
		}
		s, p := w.dial(c), w.client(true)
		s.sub(2, c.id+"/+")
		known := map[uint32]string{}
		used := 0
		read := func(topic string) {
			t.Helper()
			k := s.next(PUBLISH)
			if a := k.all(topicAlias); len(a) > 0 {
				if a[0] == 0 || a[0] > 2 || len(a) > 1 {
					t.Fatalf("%v", k)
				}
				if k.topic == "" {
					k.topic = known[a[0]]
					used++
				}
				known[a[0]] = k.topic
			}
			if k.topic != topic {
				t.Fatalf("%v is for %q, want %q", k, k.topic, topic)
			}
			s.settle(k)
		}
		for i := range 12 {
			topic := fmt.Sprint(c.id, "/", i%3)
			p.pub(topic, "x", byte(i/3%3), 0)
			read(topic)
		}
		if used == 0 {
			t.Error("no alias was used")
		}
		if keep { // a new connection knows none of the old one's
			p.pub(c.id+"/0", "y", 1, 0)
			k := s.next(PUBLISH)
			s.cut()
			w.left(c.id)
			_ = k
			clear(known)
			s = w.dial(c)
			read(c.id + "/0")
			p.pub(c.id+"/0", "z", 0, 0)
			read(c.id + "/0")
		}
	}
	s, p := w.client(true), w.client(true)
	topic := w.name()
	s.sub(0, topic)
	for range 3 {
		p.pub(topic, "x", 0, 0)
		if k := s.get(topic, "x", 0, 0); len(k.props) > 0 { // [MQTT-3.1.2-27]
			t.Errorf("%v", k)
		}
	}
}
