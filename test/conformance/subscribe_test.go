package conformance_test

import (
	"fmt"
	"slices"
	"testing"

	"tidegate/gateway/broker"
)

func TestFiltersAndTopics(t *testing.T) { // [MQTT-4.7.1-1] to -3, [MQTT-4.7.2-1], [MQTT-4.7.3-4]
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		p := w.client(v5)
		for _, c := range []struct {
			filter string
			yes    []string
			no     []string
		}{
			{"sport/tennis/player1/#", []string{"sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/score/x"}, []string{"sport/tennis/player11", "sport/tennis"}},
			{"sport/tennis/+", []string{"sport/tennis/player1", "sport/tennis/"}, []string{"sport/tennis/player1/ranking", "sport/tennis"}},
			{"+", []string{"sport"}, []string{"/finance", "$x"}},
			{"+/+", []string{"/finance", "a/b"}, []string{"finance", "a/b/c", "$x/y"}},
			{"/+", []string{"/finance"}, []string{"finance", "/a/b"}},
			{"#", []string{"a", "/", "a/b"}, []string{"$x", "$x/y"}},
			{"+/x/#", []string{"a/x", "a/x/y", "/x"}, []string{"$x/x", "x"}},
			{"$x/#", []string{"$x", "$x/y"}, []string{"x", "$xx"}},
			{"$x/+", []string{"$x/y", "$x/"}, []string{"$x", "$x/y/z"}},
			{"Accounts", []string{"Accounts"}, []string{"ACCOUNTS", "Accounts/"}},
		} {
			p.sub(1, c.filter)
			for _, topic := range c.yes {
				p.pub(topic, c.filter, 0, 0)
				p.get(topic, c.filter, 0, 0)
			}
			for _, topic := range c.no {
				p.pub(topic, c.filter, 0, 0)
				p.silent()
			}
			p.unsub(c.filter)
		}
	})
}

func TestFiltersThatAreNone(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		want := byte(0x80)
		if v5 {
			want = 0x8f
		}
		p := w.client(v5)
		for _, f := range []string{"a/#/b", "a#", "#/a", "a+", "+a/b", "a/b+/c", "$share/g", "$share//a", "$share/g+/a", "$share/#/a", "$share/g/"} { // [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.8.2-1], [MQTT-4.8.2-2]
			codes := p.trySub(nil, filter{"good", 1}, filter{f, 0}, filter{"also/good", 2}) // [MQTT-3.8.4-5]
			if codes[0] != 1 || codes[1] != want || codes[2] != 2 {
				t.Errorf("%q: % x", f, codes)
			}
		}
		for _, f := range []string{"", "a\x00", "\xff"} { // [MQTT-4.7.3-1], [MQTT-4.7.3-2], [MQTT-1.5.4-1]
			p := w.client(v5)
			p.write(subscribe(v5, 1, nil, filter{f, 0}))
			if k, err := p.read(); err == nil && !(k.typ == SUBACK && k.codes[0] == want) && k.typ != DISCONNECT {
				t.Errorf("%q: %v", f, k)
			}
		}
	})
}

func TestSubscribeFailure(t *testing.T) { // Paho's: SUBACK 0x80, and 0x87 with MQTT 5
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		p := w.client(v5)
		want := byte(0x80)
		if v5 {
			want = 0x87
		}
		if codes := p.trySub(nil, filter{"a", 1}, filter{"nosubscribe", 2}); codes[0] != 1 || codes[1] != want {
			t.Errorf("% x", codes)
		}
	})
}

func TestSubscriptionIsReplaced(t *testing.T) { // [MQTT-3.8.4-3]
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		p := w.client(v5)
		topic := w.name()
		p.pub(topic, "kept", 1, retain)
		for _, qos := range []byte{0, 2, 1} {
			p.sub(qos, topic)
			p.get(topic, "kept", min(qos, 1), retain) // [MQTT-3.8.4-4]
			p.pub(topic, "x", 2, 0)
			p.get(topic, "x", qos, 0)
		}
		p.silent()
	})
}

func TestUnsubscribe(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		p, c := w.client(v5), w.keeper(v5)
		topic := w.name()
		s := w.dial(c)
		s.sub(2, topic+"/a", topic+"/b", topic+"/+/c")
		codes := s.unsub(topic+"/a", topic+"/none", topic+"/+/c", topic+"/#/x") // [MQTT-3.10.4-1], [MQTT-3.10.4-4] to -6
		if v5 && fmt.Sprintf("% x", codes) != "00 11 00 8f" {
			t.Errorf("% x", codes)
		}
		for _, x := range []string{"/a", "/b", "/x/c"} {
			p.pub(topic+x, "y", 1, 0)
		}
		s.get(topic+"/b", "y", 1, 0)
		s.silent()
		s.leave()
		w.left(c.id)
		p.pub(topic+"/a", "y", 1, 0)
		p.pub(topic+"/b", "z", 1, 0)
		w.restart()
		s = w.dial(c)
		s.get(topic+"/b", "z", 1, 0)
		s.silent()
	})
}

// What is on its way when UNSUBSCRIBE comes is carried to its end ([MQTT-3.10.4-3]).
func TestUnsubscribeFinishesWhatWasSent(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		p, c := w.client(v5), w.keeper(v5)
		topic := w.name()
		s := w.dial(c)
		s.sub(2, topic)
		p.pub(topic, "1", 1, 0)
		p.pub(topic, "2", 2, 0)
		one, two := s.want(topic, "1", 1, 0), s.want(topic, "2", 2, 0)
		s.unsub(topic)
		s.cut()
		w.left(c.id)
		s = w.dial(c)
		for range 2 {
			k := s.next(PUBLISH)
			if k.id != one.id && k.id != two.id || k.flags&dup == 0 {
				t.Errorf("%v", k)
			}
			s.settle(k)
		}
		p.pub(topic, "3", 1, 0)
		s.silent()
	})
}

func TestOverlappingSubscriptions(t *testing.T) { // [MQTT-3.3.4-2], [MQTT-3.3.4-3]: one copy, the highest QoS, every identifier
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		c := w.keeper(v5)
		s, p := w.dial(c), w.client(v5)
		ids := func(n uint32) []prop {
			if !v5 {
				return nil
			}
			return []prop{num(subscriptionID, n)}
		}
		s.subscribe(ids(1), filter{c.id + "/#", 2})
		s.subscribe(ids(268_435_455), filter{c.id + "/+", 1})
		s.subscribe(nil, filter{c.id + "/x", 0})
		check := func(k packet) {
			t.Helper()
			got := k.all(subscriptionID)
			slices.Sort(got)
			if v5 && !slices.Equal(got, []uint32{1, 268_435_455}) || !v5 && len(got) > 0 { // [MQTT-3.3.4-4], [MQTT-3.3.4-5]
				t.Errorf("subscription identifiers %v", got)
			}
		}
		for qos := range byte(3) {
			p.pub(c.id+"/x", "live", qos, 0)
			check(s.get(c.id+"/x", "live", qos, 0))
		}
		s.silent()
		s.leave()
		w.left(c.id)
		p.pub(c.id+"/x", "queued", 2, 0)
		w.restart()
		s = w.dial(c)
		check(s.get(c.id+"/x", "queued", 2, 0))
		s.silent()
	})
}

func TestSubscriptionIdentifiers(t *testing.T) { // Paho's
	w := open(t)
	a, b := w.client(true), w.client(true)
	topic := w.name()
	a.subscribe([]prop{num(subscriptionID, 456789)}, filter{topic, 2})
	b.subscribe([]prop{num(subscriptionID, 2)}, filter{topic, 2})
	b.subscribe([]prop{num(subscriptionID, 3)}, filter{topic + "/#", 2})
	b.pub(topic, "x", 1, retain)
	if got := a.get(topic, "x", 1, 0).all(subscriptionID); !slices.Equal(got, []uint32{456789}) {
		t.Errorf("%v", got)
	}
	if got := b.get(topic, "x", 1, 0).all(subscriptionID); len(got) != 2 || got[0]+got[1] != 5 {
		t.Errorf("%v", got)
	}
	a.subscribe([]prop{num(subscriptionID, 5)}, filter{topic, 0}) // replaces the other
	if got := a.get(topic, "x", 0, retain).all(subscriptionID); !slices.Equal(got, []uint32{5}) {
		t.Errorf("retained: %v", got)
	}
	a.subscribe(nil, filter{topic, 0 | noRetain})
	a.pub(topic, "y", 0, 0)
	if got := a.get(topic, "y", 0, 0).all(subscriptionID); len(got) > 0 {
		t.Errorf("taken away: %v", got)
	}
	a.write(subscribe(true, 9, []prop{num(subscriptionID, 0)}, filter{"a", 0})) // 3.8.2.1.2
	if code := a.ended(); code != 0x82 {
		t.Errorf("identifier 0: 0x%02x", code)
	}
	b.write(publish(true, topic, "x", 1, 99, 0, num(subscriptionID, 1))) // [MQTT-3.3.4-6]
	if code := b.ended(); code != 0x82 {
		t.Errorf("identifier in PUBLISH of a client: 0x%02x", code)
	}
}

func TestNoLocal(t *testing.T) { // [MQTT-3.8.3-3]
	w := open(t)
	c := w.keeper(true)
	p, other := w.dial(c), w.client(true)
	p.subscribe(nil, filter{c.id, 2 | noLocal})
	for qos := range byte(3) {
		p.pub(c.id, "mine", qos, 0)
		other.pub(c.id, "other's", qos, 0)
		p.get(c.id, "other's", qos, 0)
	}
	p.silent()
	p.write(publish(true, c.id, "mine", 1, 500, 0)) // seen again from the journal
	p.cut()
	w.left(c.id)
	p = w.dial(c)
	p.silent()
	p.subscribe(nil, filter{c.id, 2})
	p.pub(c.id, "mine", 0, 0)
	p.get(c.id, "mine", 0, 0)
	p.write(subscribe(true, 501, nil, filter{"$share/g/x", 1 | noLocal})) // [MQTT-3.8.3-4]
	if code := p.ended(); code != 0x82 {
		t.Errorf("No Local with a shared subscription: 0x%02x", code)
	}
}

func TestRetainAsPublished(t *testing.T) { // [MQTT-3.3.1-12], [MQTT-3.3.1-13]
	w := open(t)
	c := w.keeper(true)
	p, s := w.client(true), w.dial(c)
	s.subscribe(nil, filter{c.id + "/+", 1 | asPublish}, filter{c.id + "/a/b", 1})
	p.pub(c.id+"/a", "1", 1, retain)
	s.get(c.id+"/a", "1", 1, retain)
	p.pub(c.id+"/a", "2", 0, 0)
	s.get(c.id+"/a", "2", 0, 0)
	p.pub(c.id+"/a/b", "3", 0, retain)
	s.get(c.id+"/a/b", "3", 0, 0)
	s.leave()
	w.left(c.id)
	p.pub(c.id+"/a", "4", 1, retain)
	w.restart()
	s = w.dial(c)
	s.get(c.id+"/a", "4", 1, retain)
	s.silent()
}

func TestRetainHandling(t *testing.T) { // [MQTT-3.3.1-9] to -11
	w := open(t)
	p := w.client(true)
	topic := w.name()
	p.pub(topic, "kept", 1, retain)
	s := w.client(true)
	for _, c := range []struct {
		opts  byte
		comes bool
	}{{ifNew, true}, {ifNew, false}, {noRetain, false}, {0, true}, {0, true}, {ifNew, false}} {
		s.subscribe(nil, filter{topic, 1 | c.opts})
		if c.comes {
			s.get(topic, "kept", 1, retain)
		}
		s.silent()
	}
	s.unsub(topic)
	s.subscribe(nil, filter{topic, 1 | noRetain})
	s.silent()
	s.unsub(topic)
	s.subscribe(nil, filter{topic, 1 | ifNew})
	s.get(topic, "kept", 1, retain)
	c := w.keeper(true) // a session that goes on has its subscriptions
	s = w.dial(c)
	s.subscribe(nil, filter{topic, 1 | ifNew})
	s.get(topic, "kept", 1, retain)
	s.leave()
	s = w.dial(c)
	s.subscribe(nil, filter{topic, 1 | ifNew})
	s.silent()
}

func TestDollarTopics(t *testing.T) { // [MQTT-4.7.2-1]
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		p := w.client(v5)
		p.sub(1, "#", "+/a", "+/#")
		p.pub("$dollar/a", "x", 1, 0)
		p.silent()
		p.sub(1, "$dollar/#")
		p.pub("$dollar/a", "y", 1, 0)
		p.get("$dollar/a", "y", 1, 0)
		p.silent()
	})
}

func TestFullSubscribe(t *testing.T) { // spec/mqtt.md §5
	w := open(t, func(c *broker.Config) { c.Limits.Subscriptions, c.Limits.Filters = 4, 3 })
	both(t, w, func(t *testing.T, v5 bool) {
		want := byte(0x80)
		if v5 {
			want = 0x97
		}
		p := w.client(v5)
		for _, code := range p.trySub(nil, filter{"a", 0}, filter{"b", 0}, filter{"c", 0}, filter{"d", 0}) {
			if code != want {
				t.Errorf("too many filters in one packet: 0x%02x", code)
			}
		}
		p.sub(0, "a", "b", "c")
		if codes := p.trySub(nil, filter{"d", 0}, filter{"e", 0}, filter{"a", 1}); codes[0] != 0 || codes[1] != want || codes[2] != 1 {
			t.Errorf("too many subscriptions: % x", codes)
		}
		p.unsub("b")
		p.sub(0, "e")
		p.pub("d", "x", 0, 0)
		p.get("d", "x", 0, 0)
	})
}
