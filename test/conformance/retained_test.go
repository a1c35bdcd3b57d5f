package conformance_test

import (
	"fmt"
	"testing"
	"time"

	"tidegate/gateway/broker"
)

// Paho's retained messages: one per topic and QoS, through a wildcard; an empty one deletes.
func TestRetainedMessages(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		base := w.name()
		p := w.client(v5)
		for qos := range byte(3) {
			p.pub(fmt.Sprint(base, "/", qos), fmt.Sprint("qos ", qos), qos, retain)
		}
		for i := range 2 {
			s := w.client(v5)
			s.sub(2, base+"/+")
			for range 3 {
				k := s.next(PUBLISH) // [MQTT-3.3.1-6], [MQTT-3.3.1-8]
				if k.payload != "qos "+k.topic[len(base)+1:] || k.flags != retain|k.qos()<<1 || fmt.Sprint("qos ", k.qos()) != k.payload {
					t.Errorf("%v", k)
				}
				s.settle(k)
			}
			s.silent()
			if i == 0 {
				s.leave()
				p.leave()
				w.restart()
				p = w.client(v5)
			}
		}
		s := w.client(v5)
		s.sub(2, "+/+")
		for range 3 {
			s.settle(s.next(PUBLISH))
		}
		for qos := range byte(3) {
			p.pub(fmt.Sprint(base, "/", qos), "", qos, retain) // [MQTT-3.3.1-6], [MQTT-3.3.1-7]
			s.get(fmt.Sprint(base, "/", qos), "", qos, 0)
		}
		s.silent()
		s = w.client(v5)
		s.sub(2, base+"/#")
		s.silent()
	})
}

func TestRetainedIsReplacedAndOthersDoNotTouchIt(t *testing.T) { // [MQTT-3.3.1-5], [MQTT-3.3.1-8]
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		topic := w.name()
		p := w.client(v5)
		live := w.client(v5)
		live.sub(0, topic)
		p.pub(topic, "old", 2, retain)
		p.pub(topic, "new", 0, retain)
		live.get(topic, "old", 0, 0)
		live.get(topic, "new", 0, 0) // QoS 0 has no other sign that it is done
		p.pub(topic, "not kept", 1, 0)
		p.pub(topic, "", 1, 0)
		s := w.client(v5)
		s.sub(2, topic+"/#") // a/# covers a
		s.get(topic, "new", 0, retain)
		s.silent()
		s.unsub(topic + "/#")
		s.sub(0, "#")
		for {
			k := s.next(PUBLISH)
			if k.flags&retain == 0 {
				t.Errorf("%v", k)
			}
			if k.topic == topic {
				break
			}
		}
	})
}

func TestRetainedOfDollarTopics(t *testing.T) { // spec/mqtt.md §6
	w := open(t)
	p := w.client(true)
	for _, topic := range []string{"$x/a", "$aws/things/a/shadow/update"} {
		if code := p.tryPub(topic, "{}", 1, retain); code < 0x80 {
			t.Errorf("%s: 0x%02x", topic, code)
		}
	}
	s := w.client(true)
	s.sub(0, "#", "+/a", "+/#")
	s.silent()
	p = w.client(false)
	p.write(publish(false, "$x/a", "x", 1, 1, retain))
	p.ended()
}

func TestRetainedExpires(t *testing.T) {
	w := openStill(t)
	p := w.client(true)
	topic := w.name()
	p.pub(topic+"/short", "x", 1, retain, num(messageExpiry, 5))
	p.pub(topic+"/long", "y", 1, retain, num(messageExpiry, 50))
	w.pass(20 * time.Second)
	for _, v5 := range []bool{false, true} {
		s := w.client(v5)
		s.sub(1, topic+"/#")
		if left, _ := s.get(topic+"/long", "y", 1, retain).get(messageExpiry); v5 && (left.num < 28 || left.num > 31) {
			t.Errorf("%d s left of 50 after 20", left.num)
		}
		s.silent()
	}
}

func TestRetainedToASmallWindow(t *testing.T) {
	w := open(t)
	p := w.client(true)
	const n = 200
	topic := w.name()
	for i := range n {
		p.pub(fmt.Sprint(topic, "/", i), fmt.Sprint(i), byte(1+i%2), retain)
	}
	s := w.dial(connect{id: w.name(), v5: true, clean: true, props: []prop{num(receiveMaximum, 2)}})
	s.sub(2, topic+"/+")
	seen := map[string]bool{}
	for range n {
		k := s.next(PUBLISH)
		if seen[k.topic] {
			t.Errorf("%s twice", k.topic)
		}
		seen[k.topic] = true
		s.settle(k)
	}
	s.silent()
}

func TestAWSRetainedWildcards(t *testing.T) { // spec/mqtt.md §6: only if the filter is the topic
	w := open(t, func(c *broker.Config) { c.RetainedWildcards = false })
	p := w.client(true)
	p.pub("r/a", "x", 1, retain)
	p.sub(1, "r/+", "r/#")
	p.silent()
	p.sub(1, "r/a")
	p.get("r/a", "x", 1, retain)
	p.silent()
}

func TestRetainedLimit(t *testing.T) { // spec/mqtt.md §6
	w := open(t, func(c *broker.Config) { c.Limits.Retained = 3 })
	p := w.client(true)
	for i := range 3 {
		p.pub(fmt.Sprint("r/", i), "x", 1, retain)
	}
	if code := p.tryPub("r/3", "x", 1, retain); code != 0x97 {
		t.Errorf("one too many: 0x%02x", code)
	}
	p.pub("r/2", "replaced", 1, retain)
	p.pub("r/2", "", 1, retain)
	p.pub("r/3", "x", 1, retain)
	p.pub("r/4", "", 1, retain) // deletes what is not there
}

// TestRetainedIsOwedAcrossRestarts [MQTT-4.4.0-1]: what a session has not acknowledged comes again, also when it is
// a retained message, which waits in no queue; and what it has acknowledged does not.
func TestRetainedIsOwedAcrossRestarts(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		base := w.name()
		pub := w.client(true)
		for i := range 6 {
			pub.pub(fmt.Sprint(base, "/", i), fmt.Sprint(i), byte(i%3), retain)
		}
		c := w.keeper(v5)
		p := w.dial(c)
		p.sub(2, base+"/+")
		seen := map[string]packet{}
		take := func(p *peer, n int) {
			t.Helper()
			for len(seen) < n {
				k := p.next(PUBLISH)
				if _, twice := seen[k.payload]; twice || k.topic != base+"/"+k.payload || k.flags&retain == 0 || fmt.Sprint(k.qos()) != fmt.Sprint(int(k.payload[0]-'0')%3) {
					t.Fatalf("%v after %v", k, seen)
				}
				seen[k.payload] = k
			}
		}
		take(p, 6)
		p.settle(seen["1"])
		p.settle(seen["2"])
		p.write(ack(PUBREC, seen["5"].id, 0))
		p.answer(PUBREL, seen["5"].id)
		released := seen["5"].id
		p.silent()
		w.restart()
		p = w.dial(c)
		clear(seen)
		if k := p.next(PUBREL); k.id != released { // [MQTT-4.3.3-7]
			t.Errorf("PUBREL %d, want %d", k.id, released)
		}
		p.write(ack(PUBCOMP, released, 0))
		for len(seen) < 2 { // 1 may come again, as its debt is not paid yet
			if k := p.next(PUBLISH); k.payload == "4" || k.payload == "1" {
				p.settle(k)
				seen[k.payload] = k
			} else {
				t.Fatalf("%v comes again", k)
			}
		}
		p.quiet()
		w.restart()
		p = w.dial(c)
		p.silent()
		p.quiet()
		pub = w.client(true)
		pub.pub(base+"/2", "new", 2, retain)
		p.get(base+"/2", "new", 2, 0)
		p.leave()
	})
}
