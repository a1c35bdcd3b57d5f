package conformance_test

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The model knows what was published, what was acknowledged to whom, and who was subscribed
// meanwhile. From that follows what each subscriber must get, what it may get, and in
// which order. A message is named by its publisher, topic and QoS, and counted from 0
// within these three, which is what has an order (4.6).

type messageKey struct {
	from  string
	topic int
	qos   byte
}

type message struct {
	messageKey
	n int
}

func (m message) String() string { return fmt.Sprintf("%s %d %d %d", m.from, m.topic, m.qos, m.n) }

// sending is what a publisher remembers of a message until its exchange is over.
type sending struct {
	message
	pid      uint16
	received bool // PUBREC has come: PUBREL is next
	released bool // PUBREL was sent on this connection
	since    map[*modelSub]int
}

type modelPub struct {
	id    string
	v5    bool
	peer  *peer
	known bool // the server has promised to keep its session
	pid   uint16
	open  []*sending
	next  map[messageKey]int
}

type modelSub struct {
	id      string
	v5      bool
	clean   bool
	qos     byte
	peer    *peer
	known   bool
	since   int // grows with every end of the subscription, odd while there is one
	joined  int // step at which it began
	began   int // step at which the connection did
	held    map[uint16]message
	must    map[message]bool
	seen    map[message]int
	last    map[messageKey]int
	settled map[message]bool // acknowledged, and the server has shown that it knows
	fresh   []message        // acknowledged since the last answer of the server
	unsure  map[message]bool // received, and not known to be acknowledged
}

type model struct {
	p     *process
	base  string
	step  int
	pubs  []*modelPub
	subs  []*modelSub
	sent  map[message]int // step at which it was sent first
	again map[message]bool
}

func (m *model) filter() string         { return m.base + "/+" }
func (m *model) topic(x message) string { return fmt.Sprint(m.base, "/", x.topic) }

func (m *model) dial(t *rapid.T, c connect) *peer {
	t.Helper()
	p := begin(t, m.p.addr, c)
	p.hello = p.next(CONNACK)
	if p.hello.code != 0 {
		t.Fatalf("%s: CONNACK 0x%02x", c.id, p.hello.code)
	}
	return p
}

func (m *model) connectPub(t *rapid.T, x *modelPub) {
	old := x.peer
	c := connect{id: x.id, v5: x.v5}
	if x.v5 {
		c.props = []prop{num(sessionExpiry, 10000)}
	}
	x.peer = m.dial(t, c)
	if old != nil {
		old.cut()
	}
	if x.known && !x.peer.hello.present {
		t.Fatalf("%s: its session is lost", x.id)
	}
	x.known = true
	for _, s := range x.open { // [MQTT-4.4.0-1]
		s.released = s.received
		if s.received {
			x.peer.write(ack(PUBREL, s.pid, 0))
		} else {
			x.peer.write(publish(x.v5, m.topic(s.message), s.String(), s.qos, s.pid, dup))
			m.again[s.message] = true
		}
	}
}

func (m *model) publish(t *rapid.T, x *modelPub, topic int, qos byte) {
	key := messageKey{x.id, topic, qos}
	s := &sending{message: message{key, x.next[key]}, since: map[*modelSub]int{}}
	x.next[key]++
	m.sent[s.message] = m.step
	if qos > 0 {
		if x.pid++; x.pid == 0 {
			x.pid = 1
		}
		s.pid = x.pid
		for _, sub := range m.subs {
			if sub.since%2 == 1 {
				s.since[sub] = sub.since
			}
		}
		x.open = append(x.open, s)
	}
	x.peer.write(publish(x.v5, m.topic(s.message), s.String(), qos, s.pid, 0))
}

// owed notes who must get s: it has been acknowledged.
func (m *model) owed(s *sending) {
	for sub, since := range s.since {
		if sub.since == since {
			sub.must[s.message] = true
		}
	}
	clear(s.since)
}

// readPub takes what a publisher has been answered.
func (m *model) readPub(t *rapid.T, x *modelPub, release bool) {
	x.peer.write([]byte{PINGREQ << 4, 0})
	for {
		k, err := x.peer.read()
		if err != nil {
			t.Fatalf("%s: %v", x.id, err)
		}
		if k.typ == PINGRESP {
			break
		}
		i := slices.IndexFunc(x.open, func(s *sending) bool { return s.pid == k.id })
		if i < 0 || k.code >= 0x80 && (k.typ != PUBCOMP || k.code != 0x92) { // 0x92: it was over already, and the answer lost
			t.Fatalf("%s: %v", x.id, k)
		}
		s := x.open[i]
		m.owed(s)
		switch k.typ {
		case PUBACK, PUBCOMP:
			if (k.typ == PUBACK) != (s.qos == 1) || k.typ == PUBCOMP && !s.received {
				t.Fatalf("%s: %v for %v", x.id, k, s)
			}
			x.open = slices.Delete(x.open, i, i+1)
		case PUBREC:
			s.received = true
		default:
			t.Fatalf("%s: %v", x.id, k)
		}
	}
	if release {
		for _, s := range x.open {
			if s.received && !s.released {
				s.released = true
				x.peer.write(ack(PUBREL, s.pid, 0))
			}
		}
	}
}

func (m *model) connectSub(t *rapid.T, x *modelSub) {
	old := x.peer
	c := connect{id: x.id, v5: x.v5, clean: x.clean}
	if x.v5 && !x.clean {
		c.props = []prop{num(sessionExpiry, 10000), num(receiveMaximum, 5)}
	}
	m.lost(x)
	x.peer = m.dial(t, c)
	x.began = m.step
	if old != nil {
		old.cut()
	}
	if x.known && x.peer.hello.present == x.clean {
		t.Fatalf("%s: session present %v", x.id, x.peer.hello.present)
	}
	if !x.known || x.clean {
		m.subscribe(t, x)
	}
	x.known = true
}

func (m *model) subscribe(t *rapid.T, x *modelSub) {
	x.peer.id++
	x.peer.write(subscribe(x.v5, x.peer.id, nil, filter{m.filter(), x.qos}))
	for {
		k, err := x.peer.read()
		if err != nil {
			t.Fatalf("%s: %v", x.id, err)
		}
		if k.typ == SUBACK {
			break
		}
		m.take(t, x, k, true)
	}
	if x.since%2 == 0 {
		x.since++
		x.joined = m.step
	}
}

func (m *model) unsubscribe(t *rapid.T, x *modelSub) {
	if x.since%2 == 1 {
		x.since++
	}
	clear(x.must) // what has not been sent need not be any more, [MQTT-3.10.4-3]
	x.peer.id++
	x.peer.write(unsubscribe(x.v5, x.peer.id, m.filter()))
	for {
		k, err := x.peer.read()
		if err != nil {
			t.Fatalf("%s: %v", x.id, err)
		}
		if k.typ == UNSUBACK {
			return
		}
		m.take(t, x, k, true)
	}
}

// lost is the end of a subscriber's connection; with a clean session all it was owed ends, too.
func (m *model) lost(x *modelSub) {
	x.fresh = nil
	if x.clean {
		if x.since%2 == 1 {
			x.since++
		}
		clear(x.must)
		clear(x.held)
	}
}

// take deals with one packet for a subscriber, and judges it.
func (m *model) take(t *rapid.T, x *modelSub, k packet, answer bool) {
	switch k.typ {
	case PUBREL:
		delete(x.held, k.id)
		if answer {
			x.peer.write(ack(PUBCOMP, k.id, 0))
		}
		return
	case PUBLISH:
	default:
		t.Fatalf("%s: %v", x.id, k)
	}
	var g message
	fmt.Sscan(k.payload, &g.from, &g.topic, &g.qos, &g.n)
	at, sent := m.sent[g]
	if !sent || k.qos() != min(g.qos, x.qos) || k.topic != m.topic(g) {
		t.Fatalf("%s: nobody published %v", x.id, k)
	}
	if k.flags&dup != 0 && at > x.began {
		t.Fatalf("%s: DUP on the first delivery of %v, published at step %d, connected at %d", x.id, g, at, x.began)
	}
	if k.qos() == 2 {
		was, known := x.held[k.id]
		switch {
		case known && was != g:
			t.Fatalf("%s: packet id %d is %v's and not released, and comes with %v", x.id, k.id, was, g)
		case !known && x.seen[g] > 0:
			t.Fatalf("%s: %v with QoS 2 comes twice", x.id, g)
		}
		x.held[k.id] = g
		if answer {
			x.peer.write(ack(PUBREC, k.id, 0))
		}
		if known {
			return
		}
	}
	if x.settled[g] && !m.again[g] {
		t.Fatalf("%s: %v comes again although it is acknowledged", x.id, g)
	}
	// What was published before the subscription may come late, when its publisher sends it again.
	if last, any := x.last[g.messageKey]; x.seen[g] == 0 && any && g.n < last && at > x.joined {
		t.Fatalf("%s: %v comes after %d", x.id, g, last)
	}
	x.seen[g]++
	x.last[g.messageKey] = max(x.last[g.messageKey], g.n)
	if k.qos() == 1 {
		x.unsure[g] = true
		if answer {
			x.peer.write(ack(PUBACK, k.id, 0))
			x.fresh = append(x.fresh, g)
		}
	}
}

func (m *model) readSub(t *rapid.T, x *modelSub, answer bool) {
	x.peer.write([]byte{PINGREQ << 4, 0})
	for {
		k, err := x.peer.read()
		if err != nil {
			t.Fatalf("%s: %v", x.id, err)
		}
		if k.typ == PINGRESP {
			return
		}
		m.take(t, x, k, answer)
	}
}

// confirm makes sure the server has seen what a subscriber acknowledged.
func (m *model) confirm(t *rapid.T, x *modelSub) {
	done := x.fresh
	m.readSub(t, x, false)
	for _, g := range done {
		x.settled[g] = true
		delete(x.unsure, g)
	}
	x.fresh = nil
}

// TestModel plays random histories: publishers and subscribers connect, drop, are taken over,
// answer or do not, and the gateway is stopped or killed.
func TestModel(t *testing.T) {
	checks, steps := "40", "60"
	if *long {
		checks, steps = "3000", "200"
	}
	flag.Set("rapid.checks", checks)
	flag.Set("rapid.steps", steps)
	flag.Set("rapid.nofailfile", "true")
	p := &process{dir: t.TempDir()}
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		play(t, p, fmt.Sprint("r", run))
	})
}

func play(t *rapid.T, p *process, base string) {
	m := &model{p: p, base: base, sent: map[message]int{}, again: map[message]bool{}}
	for i := range 2 {
		x := &modelPub{id: fmt.Sprint(base, "-pub", i), v5: i == 1, next: map[messageKey]int{}}
		m.connectPub(t, x)
		m.pubs = append(m.pubs, x)
	}
	for i, o := range []modelSub{{qos: 2}, {qos: 2, v5: true}, {qos: 1, v5: true}, {qos: 2, clean: true}} {
		x := &o
		x.id, x.held, x.must, x.seen = fmt.Sprint(base, "-sub", i), map[uint16]message{}, map[message]bool{}, map[message]int{}
		x.last, x.settled, x.unsure = map[messageKey]int{}, map[message]bool{}, map[message]bool{}
		m.connectSub(t, x)
		m.subs = append(m.subs, x)
	}
	anyPub, anySub := rapid.IntRange(0, len(m.pubs)-1), rapid.IntRange(0, len(m.subs)-1)
	pub := func(t *rapid.T) *modelPub {
		x := m.pubs[anyPub.Draw(t, "publisher")]
		if x.peer != nil {
			x.peer.t = t
		}
		return x
	}
	sub := func(t *rapid.T) *modelSub {
		x := m.subs[anySub.Draw(t, "subscriber")]
		if x.peer != nil {
			x.peer.t = t
		}
		return x
	}
	ended := func(killed bool) {
		for _, x := range m.pubs {
			if x.peer != nil {
				x.peer.cut()
			}
			x.peer = nil
		}
		for _, x := range m.subs {
			if x.peer != nil {
				x.peer.cut()
			}
			x.peer = nil
			m.lost(x)
			// What was acknowledged last need not be on the disk after a kill. Otherwise what comes behind the
			// first message that is not acknowledged may come again; with QoS 2 that can be one not seen yet.
			if killed || x.qos == 2 || len(x.unsure) > 0 {
				clear(x.settled)
			}
			clear(x.unsure)
		}
		if err := p.start(); err != nil {
			t.Fatalf("%v", err)
		}
	}
	publishSome := func(t *rapid.T) {
		x := pub(t)
		topic, qos := rapid.IntRange(0, 1).Draw(t, "topic"), byte(rapid.IntRange(0, 2).Draw(t, "qos"))
		n := rapid.IntRange(1, 12).Draw(t, "n")
		if x.peer == nil || len(x.open) > 500 {
			return
		}
		for range n {
			m.publish(t, x, topic, qos)
		}
	}
	actions := map[string]func(*rapid.T){
		"publish":      publishSome,
		"publish more": publishSome,
		"answers": func(t *rapid.T) {
			if x, release := pub(t), rapid.Bool().Draw(t, "release"); x.peer != nil {
				m.readPub(t, x, release)
			}
		},
		"read": func(t *rapid.T) {
			if x, answer := sub(t), rapid.Bool().Draw(t, "answer"); x.peer != nil {
				m.readSub(t, x, answer)
			}
		},
		"acknowledge": func(t *rapid.T) {
			if x := sub(t); x.peer != nil {
				m.readSub(t, x, true)
				m.confirm(t, x)
			}
		},
		"drop publisher": func(t *rapid.T) {
			if x := pub(t); x.peer != nil {
				x.peer.cut()
				x.peer = nil
			}
		},
		"drop subscriber": func(t *rapid.T) {
			if x := sub(t); x.peer != nil {
				x.peer.cut()
				x.peer = nil
				m.lost(x)
			}
		},
		"connect publisher":  func(t *rapid.T) { m.connectPub(t, pub(t)) }, // or take it over
		"connect subscriber": func(t *rapid.T) { m.connectSub(t, sub(t)) },
		"subscribe": func(t *rapid.T) {
			x := sub(t)
			switch {
			case x.peer == nil:
			case x.since%2 == 0:
				m.subscribe(t, x)
			case rapid.IntRange(0, 3).Draw(t, "leave") == 0:
				m.unsubscribe(t, x)
			}
		},
		"gateway": func(t *rapid.T) {
			switch rapid.IntRange(0, 7).Draw(t, "fate") {
			case 0, 1:
				p.kill()
				ended(true)
			case 2:
				if err := p.stop(); err != nil {
					t.Fatalf("%v", err)
				}
				ended(false)
			}
		},
		"": func(*rapid.T) { m.step++ },
	}
	t.Repeat(actions)
	m.finish(t)
}

// finish brings everybody back, lets everything be carried to its end and looks what is missing.
func (m *model) finish(t *rapid.T) {
	m.step++
	deadline := time.Now().Add(2 * patience)
	for _, x := range m.pubs {
		m.connectPub(t, x)
		for len(x.open) > 0 {
			m.readPub(t, x, true)
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v is not answered", x.id, x.open)
			}
		}
	}
	for _, x := range m.subs {
		if !x.clean {
			m.connectSub(t, x)
		} else if x.peer == nil {
			continue
		}
		x.peer.t = t
		for id := range x.held { // what has not been answered on this connection is not sent again
			x.peer.write(ack(PUBREC, id, 0))
		}
		for {
			m.readSub(t, x, true)
			missing := []message{}
			for g := range x.must {
				if x.seen[g] == 0 {
					missing = append(missing, g)
				}
			}
			if len(missing) == 0 && len(x.held) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s has not got %v, holds %v", x.id, missing, x.held)
			}
		}
	}
	for _, x := range m.subs { // their sessions end here
		if x.peer != nil {
			x.peer.cut()
		}
		m.dial(t, connect{id: x.id, v5: x.v5, clean: true}).cut()
	}
	for _, x := range m.pubs {
		x.peer.cut()
		m.dial(t, connect{id: x.id, v5: x.v5, clean: true}).cut()
	}
}
