package conformance_test

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/gateway/broker"
)

// chat makes sure that two clients who do no harm get on: n messages of QoS 1, one at a time.
func (w *world) chat(n int) {
	w.t.Helper()
	topic := w.name()
	s, p := w.client(true), w.client(false)
	defer s.cut()
	defer p.cut()
	s.sub(1, topic)
	for i := range n {
		p.pub(topic, fmt.Sprint(i), 1, 0)
		s.get(topic, fmt.Sprint(i), 1, 0)
	}
}

func TestStuckSubscribersHarmNobody(t *testing.T) {
	w := open(t, func(c *broker.Config) { c.ClientBuffer, c.SessionMemory = 64<<10, 64<<10 })
	payload := strings.Repeat("x", 4000)
	topic := w.name()
	var keeper connect // the last of them, with QoS 2
	for qos := range byte(3) {
		for _, c := range []connect{{id: w.name(), v5: true, clean: true}, w.keeper(true), w.keeper(false)} {
			keeper = c
			c.small = true
			w.dial(c).sub(qos, topic)
		}
	}
	good, p := w.client(true), w.client(true)
	good.sub(1, topic)
	const n = 1500
	for i := range n {
		p.pub(topic, fmt.Sprint(i, payload), byte(1+i%2), 0) // its answer comes although nine do not read
		good.get(topic, fmt.Sprint(i, payload), 1, 0)
	}
	w.chat(10)
	kept := w.dial(keeper) // it catches up from where it stopped
	next := [3]int{0, 0, 1}
	for range n {
		k := kept.next(PUBLISH)
		if i := next[k.qos()]; !strings.HasPrefix(k.payload, fmt.Sprint(i, "x")) {
			t.Fatalf("%v, want %d", k, i)
		}
		next[k.qos()] += 2
		kept.settle(k)
	}
	kept.silent()
}

// A client that publishes without end and reads nothing is held, and nobody else.
func TestFloodingPublisherHarmsNobody(t *testing.T) {
	w := open(t, func(c *broker.Config) { c.ClientBuffer = 64 << 10 })
	var flood []byte
	for i := range 2000 {
		flood = append(flood, publish(false, "flood", "x", byte(i%2), uint16(i+1), 0)...)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		p := w.dial(connect{id: w.name(), clean: true, small: true})
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				p.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // it will be held
				if _, err := p.Write(flood); err != nil {
					if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
						return
					}
				}
			}
		}()
	}
	w.chat(200)
	close(stop)
	wg.Wait()
}

func TestSilentConnectionsHarmNobody(t *testing.T) {
	w := openStill(t)
	const n = 500
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i] = w.raw()
		if i%2 == 0 { // 256 MiB, says the length
			conns[i].Write([]byte{0x10, 0xff, 0xff, 0xff, 0x7f})
		}
	}
	w.chat(20)
	for i := 0; i < n; i += 2 { // these are told at once that it is too much
		cutOff(t, conns[i])
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 200<<20 {
		t.Errorf("%d MiB of heap", m.HeapAlloc>>20)
	}
	w.pass(12 * time.Second)
	for i := 1; i < n; i += 2 {
		cutOff(t, conns[i])
	}
	w.chat(5)
}

func TestGiantPacketsOfConnectedClients(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		for first, wants := range map[byte]byte{0x30: 0x95, 0x82: 0x95, 0x40: 0x95, 0xe0: 0x95} {
			p := w.client(v5)
			p.write([]byte{first, 0xff, 0xff, 0xff, 0x7f})
			if code := p.ended(); v5 && code != wants && code != 0x81 {
				t.Errorf("type %d: 0x%02x", first>>4, code)
			}
		}
	})
	w.chat(5)
}

// One client id, again and again, from all sides.
func TestReconnectingClientsHarmNobody(t *testing.T) {
	w := open(t)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	c := connect{id: "restless", will: &will{topic: "w", payload: "x", qos: 1}}.bytes()
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				nc, err := net.Dial("tcp", w.addr)
				if err != nil {
					continue
				}
				nc.Write(append(c, subscribe(false, 1, nil, filter{"w", 1})...))
				nc.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				nc.Read(make([]byte, 10))
				nc.Close()
			}
		}()
	}
	w.chat(300)
	close(stop)
	wg.Wait()
	p := w.dial(connect{id: "restless"})
	if !p.hello.present {
		t.Error("its session is lost")
	}
}

func TestHalfOpenAndHalfSentHarmNobody(t *testing.T) {
	w := openStill(t)
	both(t, w, func(t *testing.T, v5 bool) {
		watch := w.client(v5)
		watch.sub(0, "gone/#")
		var all []*peer
		for i := range 5 {
			p := w.dial(connect{id: w.name(), v5: v5, clean: true, keep: 10, will: &will{topic: fmt.Sprint("gone/", i), payload: "x"}})
			big := publish(v5, "a", strings.Repeat("x", 100_000), 1, 1, 0)
			p.write(big[:len(big)*i/5+1])
			all = append(all, p)
		}
		all[0].Conn.(*net.TCPConn).CloseWrite() // says it sends no more, and stays
		watch.get("gone/0", "x", 0, 0)
		w.chat(5)
		for range 10 {
			w.pass(2 * time.Second)
			watch.silent2()
		}
		seen := map[string]bool{}
		for range 4 {
			seen[watch.next(PUBLISH).topic] = true
		}
		if len(seen) != 4 {
			t.Errorf("%v", seen)
		}
		watch.leave()
	})
}

// silent2 pings, and leaves messages for later.
func (p *peer) silent2() {
	p.t.Helper()
	p.write([]byte{PINGREQ << 4, 0})
	for {
		k, err := p.fetch()
		if err != nil {
			p.t.Fatalf("%v", err)
		}
		if k.typ == PINGRESP {
			return
		}
		p.aside = append(p.aside, k)
	}
}

func TestManySubscriptionsAndGarbageAmongThem(t *testing.T) {
	w := open(t, func(c *broker.Config) { c.Limits.Subscriptions = 0 })
	p := w.client(true)
	for i := range 300 {
		p.trySub(nil, filter{fmt.Sprint("+/", strings.Repeat("+/", i%7), i), byte(i % 3)}, filter{"#/#", 1}, filter{fmt.Sprint("a/", i, "/#"), 2})
	}
	w.chat(20)
	p.cut()
	w.chat(5)
}

// Thousands of messages wait in the window of one who answers nothing for an hour; those who publish do not notice.
func TestAnHourWithoutAcknowledgements(t *testing.T) {
	w := openStill(t, func(c *broker.Config) { c.SessionMemory = 32 << 10 })
	stuck, p := w.dial(connect{id: w.name(), clean: true, v5: true}), w.client(true)
	kept := w.dial(w.keeper(true))
	stuck.sub(1, "hour")
	kept.sub(2, "hour")
	n := 0
	for range 60 {
		for range 30 {
			p.pub("hour", fmt.Sprint(n), 1, 0)
			n++
		}
		w.man.Advance(time.Minute)
		w.pass(time.Second)
		for _, s := range []*peer{stuck, kept} {
			s.silent2()
		}
	}
	for _, s := range []*peer{stuck, kept} {
		for i := range n {
			if k := s.next(PUBLISH); k.payload != fmt.Sprint(i) || k.flags&dup != 0 {
				t.Fatalf("%v, want %d", k, i)
			} else {
				s.settle(k)
			}
		}
		s.silent()
	}
}
