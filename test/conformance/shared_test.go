package conformance_test

import (
	"fmt"
	"testing"

	"tidegate/gateway/broker"
)

// drain reads what has come up to now, acknowledges it and gives the payloads.
func (p *peer) drain() (list []string) {
	p.t.Helper()
	p.write([]byte{PINGREQ << 4, 0})
	for {
		k, err := p.read()
		if err != nil {
			p.t.Fatalf("%v", err)
		}
		switch k.typ {
		case PINGRESP:
			return list
		case PUBLISH:
			list = append(list, k.payload)
			if k.qos() == 2 {
				p.write(ack(PUBREC, k.id, 0))
			} else {
				p.settle(k)
			}
		case PUBREL:
			p.write(ack(PUBCOMP, k.id, 0))
		default:
			p.t.Fatalf("%v", k)
		}
	}
}

func TestSharedSubscription(t *testing.T) { // Paho's: 4.8.2
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		topic := w.name()
		share := "$share/consumers/" + topic + "/#"
		a, b, alone, p := w.client(v5), w.client(!v5), w.client(v5), w.client(v5)
		p.pub(topic+"/kept", "kept", 1, retain)
		a.sub(2, share)
		b.sub(2, share)
		alone.sub(2, "$share/others/"+topic+"/#")
		both := w.client(v5) // one's own subscription is apart from the group's
		both.sub(0, topic+"/+")
		both.get(topic+"/kept", "kept", 0, retain)
		for _, x := range []*peer{a, b, alone} { // [MQTT-4.8.2-?] 3.8.3.1: nothing retained
			x.silent()
		}
		const n = 30
		for i := range n {
			p.pub(fmt.Sprint(topic, "/", i), fmt.Sprint(i), byte(i%3), 0)
			alone.get(fmt.Sprint(topic, "/", i), fmt.Sprint(i), byte(i%3), 0)
			both.get(fmt.Sprint(topic, "/", i), fmt.Sprint(i), 0, 0)
		}
		of := [][]string{a.drain(), b.drain()}
		seen := map[string]int{}
		for i, list := range of {
			if len(list) == 0 {
				t.Errorf("member %d got nothing", i)
			}
			for _, x := range list {
				seen[x]++
			}
		}
		for i := range n {
			if seen[fmt.Sprint(i)] != 1 {
				t.Errorf("%d came %d times", i, seen[fmt.Sprint(i)])
			}
		}
		p.pub(topic+"/live", "flag", 1, retain)
		if got := append(a.drain(), b.drain()...); len(got) != 1 {
			t.Errorf("a live message with RETAIN came to %d members", len(got))
		}
		if codes := a.unsub(share, share[:len(share)-1]+"x"); v5 && (codes[0] != 0 || codes[1] != 0x11) {
			t.Errorf("% x", codes)
		}
		for i := range 5 {
			p.pub(topic, fmt.Sprint(i), 1, 0)
		}
		a.silent()
		if got := b.drain(); len(got) != 5 {
			t.Errorf("the member that stayed got %v", got)
		}
	})
}

func TestSharedMessagesGoToAnotherMember(t *testing.T) { // 4.8.2: QoS 1 may, QoS 2 must wait for its member
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		topic := w.name()
		c := w.keeper(v5)
		a, p := w.dial(c), w.client(v5)
		a.sub(2, "$share/g/"+topic)
		for i := range 4 {
			p.pub(topic, fmt.Sprint(i), byte(1+i%2), 0)
		}
		for range 4 {
			a.next(PUBLISH)
		}
		a.cut()
		w.left(c.id)
		b := w.client(v5)
		b.sub(2, "$share/g/"+topic)
		b.get(topic, "0", 1, 0)
		b.get(topic, "2", 1, 0)
		b.silent()
		b.leave()
		a = w.dial(c)
		a.get(topic, "1", 2, dup) // [MQTT-4.8.2-4]
		a.get(topic, "3", 2, dup)
		a.silent()
	})
}

// A member that goes into its receive window leaves the rest to the others.
func TestSharedSubscriptionPrefersThoseWithRoom(t *testing.T) {
	w := open(t)
	topic := w.name()
	lazy := w.dial(connect{id: w.name(), v5: true, clean: true, props: []prop{num(receiveMaximum, 2)}})
	busy, p := w.client(true), w.client(true)
	lazy.sub(1, "$share/g/"+topic)
	busy.sub(1, "$share/g/"+topic)
	for i := range 40 {
		p.pub(topic, fmt.Sprint(i), 1, 0)
	}
	if got := busy.drain(); len(got) != 38 {
		t.Errorf("the member with room got %d of 38", len(got))
	}
	lazy.next(PUBLISH)
	lazy.next(PUBLISH)
	lazy.silent()
}

func TestSharedSubscriptionOfSessions(t *testing.T) { // spec/mqtt.md §5: queued for the group
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		topic := w.name()
		share := "$share/g/" + topic
		ca, cb := w.keeper(v5), w.keeper(v5)
		a, b, p := w.dial(ca), w.dial(cb), w.client(v5)
		a.sub(2, share)
		b.sub(2, share)
		a.leave()
		b.leave()
		w.left(ca.id)
		w.left(cb.id)
		const n = 20
		for i := range n {
			p.pub(topic, fmt.Sprint(i), 1, 0)
		}
		p.pub(topic, "QoS 0 is not kept", 0, 0)
		w.restart()
		b = w.dial(cb)
		for i := range n {
			b.get(topic, fmt.Sprint(i), 1, 0)
		}
		b.silent()
		a = w.dial(ca)
		a.silent()
		a.unsub(share)
		b.unsub(share)
		p = w.client(v5)
		p.pub(topic, "nobody's", 1, 0)
		a.sub(1, share) // a new group, which has no past
		a.silent()
	})
}

func TestSharedSubscriptionAndRights(t *testing.T) {
	w := open(t, func(c *broker.Config) { c.Limits.TopicSlashes = 3 })
	p := w.client(true)
	if codes := p.trySub(nil, filter{"$share/g/nosubscribe", 1}, filter{"$share/g/a/b/c/d", 1}, filter{"$share/g/a/b/c/d/e", 1}); codes[0] != 0x87 || codes[1] != 1 || codes[2] != 0x8f {
		t.Errorf("% x", codes)
	}
	p.subscribe([]prop{num(subscriptionID, 7)}, filter{"$share/g/ids", 1})
	p.pub("ids", "x", 1, 0)
	if k := p.get("ids", "x", 1, 0); fmt.Sprint(k.all(subscriptionID)) != "[7]" {
		t.Errorf("%v", k)
	}
	p.sub(1, "$share/g/noreceive")
	p.pub("noreceive", "x", 1, 0)
	p.silent()
	p.write(publish(true, "$share/g/ids", "x", 1, 99, 0))
	if k := p.answer(PUBACK, 99); k.code < 0x80 {
		t.Errorf("a PUBLISH to a group: 0x%02x", k.code)
	}
}

// A session may be subscribed by itself and a member: each is a subscription of its own.
func TestSharedBesideOnesOwn(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		topic := w.name()
		p := w.dial(w.keeper(v5))
		p.subscribe(nil, filter{topic, 2}, filter{"$share/g/" + topic, 2})
		w.client(v5).pub(topic, "1", 2, 0)
		first := p.want(topic, "1", 2, 0)
		second := p.want(topic, "1", 2, 0)
		if first.id == second.id {
			t.Errorf("packet id %d twice", first.id)
		}
		p.settle(first)
		p.settle(second)
		p.silent()
	})
}
