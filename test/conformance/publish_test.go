package conformance_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/broker"
)

func TestBasic(t *testing.T) { // Paho's: each QoS there and back, with each version at the other end
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		for _, other := range []bool{false, true} {
			topic := w.name()
			s, p := w.client(v5), w.client(other)
			s.sub(2, topic)
			for qos := range byte(3) {
				p.pub(topic, fmt.Sprint("qos ", qos), qos, 0)
				s.get(topic, fmt.Sprint("qos ", qos), qos, 0)
			}
			s.silent()
		}
	})
}

func TestQoSIsTheLowerOfBoth(t *testing.T) { // [MQTT-3.8.4-8]
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		s, p := w.client(v5), w.client(v5)
		for sq := range byte(3) {
			for pq := range byte(3) {
				topic := w.name()
				s.sub(sq, topic)
				p.pub(topic, "x", pq, 0)
				s.get(topic, "x", min(sq, pq), 0)
			}
		}
		s.silent()
	})
}

func TestPublishWithoutSubscribers(t *testing.T) {
	w := open(t)
	p := w.client(true)
	for qos := range byte(2) {
		if code := p.tryPub("nobody/listens", "x", qos+1, 0); code != 0 && code != 0x10 {
			t.Errorf("QoS %d: 0x%02x", qos+1, code)
		}
	}
}

func TestOrderOfAPublisher(t *testing.T) { // [MQTT-4.6.0-5], [MQTT-4.6.0-6]
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		const n = 1000
		topic := w.name()
		c := w.keeper(v5)
		p := w.client(v5)
		subs := []*peer{w.client(v5), w.client(!v5), w.dial(c)}
		for qos, s := range subs {
			s.sub(byte(qos%2)+byte(qos/2), topic)
		}
		var all []byte
		for i := range n {
			all = append(all, publish(v5, topic, fmt.Sprint(i), 1, uint16(i+1), 0)...)
		}
		go p.write(all)
		for i := range n {
			p.answer(PUBACK, uint16(i+1)) // [MQTT-4.6.0-2]: in order
			for _, s := range subs {
				k := s.next(PUBLISH)
				if k.payload != fmt.Sprint(i) || k.flags&dup != 0 && i <= n/2 {
					t.Fatalf("%v, want %d", k, i)
				}
				s.settle(k)
			}
			if i == n/2 {
				subs[2].leave()
				subs[2] = w.dial(c)
			}
		}
	})
}

// Some messages of a publisher wait for the disk, others need not: they do not overtake.
func TestOrderOfKeptAndUnkept(t *testing.T) { // [MQTT-4.6.0-6]
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		for qos := range byte(3) {
			topic := w.name()
			s, p := w.client(v5), w.client(v5)
			s.sub(2, topic)
			var all []byte
			n := 0
			add := func(flags byte, count int) {
				for range count {
					n++
					all = append(all, publish(v5, topic, fmt.Sprint(n), qos, uint16(n), flags)...)
				}
			}
			add(retain, 200) // more than one commit
			for range 100 {
				add(retain, 2)
				add(0, 2)
			}
			p.write(all)
			if qos == 2 {
				for i := range n {
					p.answer(PUBREC, uint16(i+1)) // [MQTT-4.6.0-3]
				}
			}
			for i := range n {
				s.get(topic, fmt.Sprint(i+1), qos, 0)
				if qos == 1 {
					p.answer(PUBACK, uint16(i+1))
				}
			}
			s.silent()
		}
	})
}

func TestTopicsOfAPublish(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		for _, topic := range []string{"a/+", "#", "a/#/b", "+", "", "a\x00b", "\xff", "a\xed\xa0\x80"} { // [MQTT-3.3.2-2], [MQTT-4.7.3-1], [MQTT-4.7.3-2], [MQTT-1.5.4-1]
			p := w.client(v5)
			p.write(publish(v5, topic, "x", 1, 1, 0))
			if code := p.ended(); v5 && (code < 0x81 || code > 0x94) {
				t.Errorf("%q: DISCONNECT 0x%02x", topic, code)
			}
		}
		p := w.client(v5)
		p.sub(0, "#")
		for _, topic := range []string{"/", "//", "a//b", " ", "ü/日本", "a b/c", strings.Repeat("x", 256), "$x/y"} { // [MQTT-4.7.3-4]
			p.pub(topic, "x", 1, 0)
			if topic[0] != '$' { // [MQTT-4.7.2-1]
				if k := p.next(PUBLISH); k.topic != topic {
					t.Errorf("%q came as %q", topic, k.topic)
				}
			}
		}
		p.sub(0, "\ufeffa") // [MQTT-1.5.4-3]: a BOM is part of the name
		p.pub("\ufeffa", "x", 0, 0)
		p.get("\ufeffa", "x", 0, 0)
		p.unsub("#")
		p.pub("a", "y", 0, 0)
		p.silent()
		p.leave()
	})
}

func TestBigAndEmptyPayloads(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		s, p := w.client(v5), w.client(v5)
		s.sub(2, "big")
		for _, n := range []int{0, 1, 127, 128, 16383, 16384, 131072} {
			for qos := range byte(3) {
				payload := strings.Repeat("x", n)
				p.pub("big", payload, qos, 0)
				s.get("big", payload, qos, 0)
			}
		}
		p.id++
		p.write(publish(v5, "big", strings.Repeat("x", 131073), 1, p.id, 0)) // spec/mqtt.md §4
		if code := p.ended(); v5 && code != 0x95 {
			t.Errorf("too large: 0x%02x", code)
		}
		s.silent()
		s.leave()
	})
}

// Packet ids belong to a direction: the same ones may be in use both ways at once (2.2.1).
func TestPacketIDsOfBothDirectionsAreApart(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		topic := w.name()
		p, other := w.client(v5), w.client(v5)
		p.sub(2, topic)
		for qos := byte(1); qos < 3; qos++ {
			other.pub(topic, "in", qos, 0)
			in := p.want(topic, "in", qos, 0)
			p.write(publish(v5, "out", "x", qos, in.id, 0)) // the server's id, in use
			p.write(publish(v5, "out", "x", 3-qos, in.id+1, 0))
			a, b := p.next(PUBACK+(qos-1)), p.next(PUBREC-(qos-1))
			if a.id != in.id || b.id != in.id+1 || a.code|b.code >= 0x80 {
				t.Errorf("%v, %v", a, b)
			}
			p.settle(in)
			rel := in.id
			if qos == 1 {
				rel++
			}
			p.write(ack(PUBREL, rel, 0))
			p.answer(PUBCOMP, rel)
		}
		p.silent()
	})
}

func TestStrayAcknowledgements(t *testing.T) {
	w := open(t)
	p := w.client(true)
	p.write(ack(PUBREL, 77, 0))
	if k := p.answer(PUBCOMP, 77); k.code != 0x92 { // 3.7.2.1
		t.Errorf("PUBCOMP 0x%02x", k.code)
	}
	p.write(ack(PUBREC, 77, 0))
	if k := p.answer(PUBREL, 77); k.code != 0x92 { // 3.6.2.1
		t.Errorf("PUBREL 0x%02x", k.code)
	}
	p.write(ack(PUBACK, 77, 0))
	p.write(ack(PUBCOMP, 77, 0))
	p.silent()
	p = w.client(false)
	p.write(ack(PUBREL, 77, 0))
	p.answer(PUBCOMP, 77) // 3.1.1 [MQTT-3.6.4-1]
	p.write(ack(PUBACK, 77, 0))
	p.silent()
}

func TestQoS2TakesAMessageOnce(t *testing.T) { // [MQTT-4.3.3-8] to -13
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		topic := w.name()
		s, c := w.client(v5), w.keeper(v5)
		s.sub(2, topic)
		p := w.dial(c)
		again := func(want byte) { // the same message, as often as it likes
			t.Helper()
			for range 2 {
				p.write(publish(v5, topic, "once", 2, 7, dup))
				if k := p.answer(PUBREC, 7); k.code != want {
					t.Errorf("PUBREC 0x%02x", k.code)
				}
			}
		}
		p.write(publish(v5, topic, "once", 2, 7, 0))
		p.answer(PUBREC, 7)
		s.get(topic, "once", 2, 0)
		again(0)
		p.cut()
		w.left(c.id)
		p = w.dial(c)
		again(0)
		for range 2 {
			w.restart()
			s, p = w.client(v5), w.dial(c)
			s.sub(2, topic)
			again(0)
			s.silent()
		}
		for range 2 {
			p.write(ack(PUBREL, 7, 0))
			p.answer(PUBCOMP, 7)
		}
		w.restart()
		s, p = w.client(v5), w.dial(c)
		s.sub(2, topic)
		p.write(ack(PUBREL, 7, 0))
		p.answer(PUBCOMP, 7)
		p.write(publish(v5, topic, "second", 2, 7, 0)) // the id is free again
		p.answer(PUBREC, 7)
		s.get(topic, "second", 2, 0)
	})
}

func TestQoS2GivesAMessageOnce(t *testing.T) { // [MQTT-4.3.3-1] to -7
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		topic := w.name()
		c := w.keeper(v5)
		s := w.dial(c)
		s.sub(2, topic)
		w.client(v5).pub(topic, "once", 2, 0)
		k := s.want(topic, "once", 2, 0)
		for i := range 3 {
			if i == 2 {
				w.restart()
			} else {
				s.cut()
				w.left(c.id)
			}
			s = w.dial(c)
			if again := s.want(topic, "once", 2, dup); again.id != k.id {
				t.Errorf("packet id %d, was %d", again.id, k.id)
			}
		}
		s.write(ack(PUBREC, k.id, 0))
		s.answer(PUBREL, k.id)
		for i := range 3 {
			if i == 2 {
				w.restart()
			} else {
				s.cut()
				w.left(c.id)
			}
			s = w.dial(c)
			s.answer(PUBREL, k.id) // [MQTT-4.3.3-6]: no PUBLISH any more
		}
		s.write(ack(PUBREC, k.id, 0)) // once more, as a client may that lost its way
		s.answer(PUBREL, k.id)
		s.write(ack(PUBCOMP, k.id, 0))
		s.silent()
		w.restart()
		s = w.dial(c)
		s.silent()
	})
}

func TestARefusalOfQoS2IsItsEnd(t *testing.T) { // [MQTT-4.3.3-4]: PUBREC ≥ 0x80
	w := open(t)
	c := w.keeper(true, num(receiveMaximum, 1))
	topic := w.name()
	s := w.dial(c)
	s.sub(2, topic)
	p := w.client(true)
	p.pub(topic, "a", 2, 0)
	p.pub(topic, "b", 2, 0)
	k := s.want(topic, "a", 2, 0)
	s.write(ack(PUBREC, k.id, 0x83))
	s.get(topic, "b", 2, 0)
	s.silent()
	s.leave()
	w.left(c.id)
	s = w.dial(c)
	s.silent()
}

func TestWhoMayNotPublishIsTold(t *testing.T) {
	w := open(t)
	s := w.client(true)
	s.sub(2, "#")
	p := w.client(true)
	for qos := byte(1); qos < 3; qos++ {
		if code := p.tryPub("nopublish", "x", qos, 0); code != 0x87 {
			t.Errorf("QoS %d: 0x%02x", qos, code)
		}
	}
	p.pub("fine", "x", 1, 0)
	s.get("fine", "x", 1, 0)
	s.silent()
	p.write(publish(true, "nopublish", "x", 0, 0, 0))
	if code := p.ended(); code != 0x87 {
		t.Errorf("QoS 0: 0x%02x", code)
	}
	p = w.client(false)
	p.write(publish(false, "nopublish", "x", 1, 1, 0))
	p.ended()
	p = w.client(true)
	p.sub(1, "noreceive") // allowed to ask, not to get
	p.pub("noreceive", "x", 1, 0)
	p.silent()
}

// Paho's payload format, user properties and publication expiry.
func TestPropertiesArePassedOn(t *testing.T) {
	w := open(t)
	ps := []prop{num(payloadFormat, 1), num(messageExpiry, 1000), text(contentType, "text/plain"), text(responseTopic, "answers/here"),
		text(correlation, "\x00\xff42"), user("a", "2"), user("c", "3"), user("a", "1"), user("", "")}
	c, v3 := w.keeper(true), w.client(false)
	topic := w.name()
	s := w.dial(c)
	s.sub(2, topic)
	v3.sub(2, topic)
	p := w.client(true)
	want := fmt.Sprint(ps)
	same := func(k packet) {
		t.Helper()
		if got := fmt.Sprint(k.props); got != want { // [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-18], [MQTT-3.3.2-20]
			t.Errorf("properties\n%s, want\n%s", got, want)
		}
	}
	for qos := range byte(3) {
		p.pub(topic, "x", qos, 0, ps...)
		same(s.get(topic, "x", qos, 0))
		v3.get(topic, "x", qos, 0)
	}
	p.pub(topic, "kept", 1, retain, ps...)
	same(s.get(topic, "kept", 1, 0))
	n := w.client(true)
	n.sub(1, topic)
	same(n.get(topic, "kept", 1, retain))
	s.leave()
	w.left(c.id)
	p.pub(topic, "queued", 2, 0, ps...)
	s = w.dial(c)
	same(s.get(topic, "queued", 2, 0))
	s.leave()
	w.left(c.id)
	p.pub(topic, "queued", 2, 0, ps[0], ps[5])
	w.restart()
	want = fmt.Sprint([]prop{ps[0], ps[5]})
	s = w.dial(c)
	same(s.get(topic, "queued", 2, 0))
}

func TestRequestAndResponse(t *testing.T) { // Paho's: 4.10
	w := open(t)
	asker, responder := w.client(true), w.client(true)
	asker.sub(0, "answers")
	responder.sub(1, "questions")
	asker.pub("questions", "how much?", 1, 0, text(responseTopic, "answers"), text(correlation, "334"))
	q := responder.get("questions", "how much?", 1, 0)
	to, _ := q.get(responseTopic)
	id, _ := q.get(correlation)
	responder.pub(to.s, "a lot", 1, 0, id)
	if got, _ := asker.get("answers", "a lot", 0, 0).get(correlation); got.s != "334" {
		t.Errorf("correlation %q", got.s)
	}
}

func TestMessagesExpire(t *testing.T) { // [MQTT-3.3.2-5], [MQTT-3.3.2-6]; 3.1.1 receivers as well, spec/mqtt.md §4
	w := openStill(t)
	both(t, w, func(t *testing.T, v5 bool) {
		c := w.keeper(v5)
		topic := w.name()
		s := w.dial(c)
		s.sub(2, topic)
		s.leave()
		w.left(c.id)
		p := w.client(true)
		for qos := byte(1); qos < 3; qos++ {
			p.pub(topic, "short", qos, 0, num(messageExpiry, 5))
			p.pub(topic, "long", qos, 0, num(messageExpiry, 100))
		}
		p.pub(topic+"/kept", "short", 1, retain, num(messageExpiry, 5))
		w.pass(8 * time.Second)
		s = w.dial(c)
		for qos := byte(1); qos < 3; qos++ {
			k := s.get(topic, "long", qos, 0)
			if left, ok := k.get(messageExpiry); v5 && (!ok || left.num > 93 || left.num < 90) {
				t.Errorf("expires in %d s after 8 s of 100", left.num)
			}
		}
		s.silent()
		s.sub(0, topic+"/#")
		s.silent()
		s.leave()
		p.leave()
	})
}

// What waits because the client acknowledges nothing expires as well.
func TestMessagesExpireBehindAFullWindow(t *testing.T) {
	w := openStill(t, func(c *broker.Config) { c.Limits.Outbound = 1 })
	for _, keep := range []bool{false, true} {
		for qos := byte(1); qos < 3; qos++ {
			c := connect{id: w.name(), v5: true, clean: true}
			if keep {
				c = w.keeper(true)
			}
			s, p := w.dial(c), w.client(true)
			s.sub(2, c.id)
			p.pub(c.id, "first", qos, 0)
			p.pub(c.id, "short", qos, 0, num(messageExpiry, 5))
			p.pub(c.id, "long", qos, 0, num(messageExpiry, 100))
			k := s.want(c.id, "first", qos, 0)
			w.pass(8 * time.Second)
			s.settle(k)
			k = s.get(c.id, "long", qos, 0)
			if left, _ := k.get(messageExpiry); left.num > 93 || left.num < 90 {
				t.Errorf("session kept %v, QoS %d: expires in %d s after 8 s of 100", keep, qos, left.num)
			}
			s.silent()
			s.leave()
			p.leave()
		}
	}
}

// TestTwoGatewaysInOneProcess publishes to one topic of two gateways in turn: what one of them has
// worked out for a topic used to reach the other with a read buffer that both had used.
func TestTwoGatewaysInOneProcess(t *testing.T) {
	var subs, pubs []*peer
	for range 2 {
		w := open(t)
		sub := w.client(true)
		sub.sub(0, "t")
		subs, pubs = append(subs, sub), append(pubs, w.client(true))
	}
	for i := range 100 {
		pubs[i%2].pub("t", fmt.Sprint(i), 0, 0)
		subs[i%2].get("t", fmt.Sprint(i), 0, 0)
	}
}
