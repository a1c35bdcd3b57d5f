package conformance_test

import (
	"fmt"
	"net"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/broker"
	"tidegate/gateway/metrics"
)

// drip sends one byte a second, as long as the connection takes any, and lets the seconds go by.
func (w *world) drip(seconds int, conns []net.Conn, bytes []byte) {
	for i := range seconds {
		for _, nc := range conns {
			nc.SetWriteDeadline(time.Now().Add(patience))
			nc.Write(bytes[i : i+1]) // which may fail: it has been cut off
		}
		w.pass(time.Second)
	}
}

// A byte a second holds no place before CONNECT for longer than nothing at all does.
func TestABytePerSecondBeforeConnect(t *testing.T) {
	w := openStill(t)
	slow := []net.Conn{w.raw(), w.raw()}
	w.client(true).silent() // they were accepted before
	w.drip(12, slow, connect{id: strings.Repeat("x", 100), clean: true}.bytes())
	for _, nc := range slow {
		cutOff(t, nc)
	}
	w.chat(3)
}

// Nor does it count as a control packet within the keep-alive [MQTT-3.1.2-22]; a large packet on a slow line does.
func TestABytePerSecondAfterConnect(t *testing.T) {
	w := openStill(t)
	both(t, w, func(t *testing.T, v5 bool) {
		slow, large := w.dial(connect{id: w.name(), v5: v5, clean: true, keep: 10}), w.dial(connect{id: w.name(), v5: v5, clean: true, keep: 10})
		big := publish(v5, "a", strings.Repeat("x", 30_000), 1, 1, 0)
		for at := 0; at < len(big); at += 1000 {
			large.write(big[at:min(at+1000, len(big))])
			w.drip(1, []net.Conn{slow.Conn}, big[at/1000:])
			w.client(v5).silent() // what was sent has been read
		}
		if k := large.next(PUBACK); k.id != 1 {
			t.Errorf("%v", k)
		}
		if code := slow.ended(); v5 && code != 0x8d {
			t.Errorf("0x%02x", code)
		}
		large.leave()
	})
}

func TestConnectionsAreCounted(t *testing.T) {
	w := open(t, func(c *broker.Config) { c.Connections = 4 })
	both(t, w, func(t *testing.T, v5 bool) {
		var in []*peer
		for range 4 {
			in = append(in, w.dial(connect{id: w.name(), v5: v5, clean: true}))
		}
		want := byte(3) // MQTT 3.1.1: server unavailable; MQTT 5: quota exceeded
		if v5 {
			want = 0x97
		}
		for range 3 {
			if code := w.refused(connect{id: w.name(), v5: v5, clean: true}); code != want {
				t.Errorf("0x%02x, want 0x%02x", code, want)
			}
		}
		id := w.name()
		in[3].leave()
		w.eventually(func() bool { return w.br.Clients() == 3 })
		first := w.dial(connect{id: id, v5: v5, clean: true})
		second := w.dial(connect{id: id, v5: v5, clean: true}) // takes the place of its own
		first.ended()
		for _, p := range append(in[:3], second) {
			p.silent()
			p.leave()
		}
		w.eventually(func() bool { return w.br.Clients() == 0 })
	})
}

// eventually waits for what has no channel.
func (w *world) eventually(ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("it does not come to that")
		}
	}
}

// One network that opens connections and says nothing takes three quarters of the places at most.
func TestASilentNetworkKeepsNobodyOut(t *testing.T) {
	w := open(t, func(c *broker.Config) { c.Unconnected, c.ConnectTimeout = 8, time.Minute })
	for range 40 {
		w.raw()
	}
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	for range 5 {
		nc, err := dialer.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		p := &peer{t: t, Conn: nc, buf: make([]byte, 100)}
		p.write(connect{id: w.name(), clean: true}.bytes())
		p.next(CONNACK)
		p.leave()
	}
}

func TestConnectRate(t *testing.T) { // spec/mqtt.md §2: 1 a second of one client id, 500 in all
	w := openStill(t, func(c *broker.Config) { c.Limits.ClientConnectRate, c.Limits.ConnectRate = 1, 5 })
	both(t, w, func(t *testing.T, v5 bool) {
		w.pass(1100 * time.Millisecond)
		want := byte(3)
		if v5 {
			want = 0x9f // connection rate exceeded
		}
		id := w.name()
		p := w.dial(connect{id: id, v5: v5, clean: true})
		for range 20 { // the storm of one
			if code := w.refused(connect{id: id, v5: v5, clean: true}); code != want {
				t.Errorf("0x%02x, want 0x%02x", code, want)
			}
		}
		p.silent() // who is refused takes nothing over
		for range 4 {
			w.client(v5).silent()
		}
		if code := w.refused(connect{id: w.name(), v5: v5, clean: true}); code != want {
			t.Errorf("the sixth: 0x%02x, want 0x%02x", code, want)
		}
		w.pass(1100 * time.Millisecond)
		w.dial(connect{id: id, v5: v5, clean: true}).silent()
	})
}

// Clients that begin large packets and do not end them: together they hold no more than they may, the oldest go first.
func TestHalfSentPacketsHaveABoundInAll(t *testing.T) {
	w := openStill(t, func(c *broker.Config) { c.InputBuffer = 8 * 64 << 10 })
	big := publish(true, "a", strings.Repeat("x", 50_000), 1, 1, 0)
	gauges := metrics.New()
	w.br.Metrics(gauges)
	var all []*peer
	for range 3 {
		for range 8 {
			p := w.client(true)
			p.write(big[:20_000])
			all = append(all, p)
		}
		want := fmt.Sprintf("tidegate_broker_input_bytes %v\n", float64(len(all)*64<<10))
		for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // before time goes on, all has been read
			page := httptest.NewRecorder()
			gauges.Handler().ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
			if strings.Contains(page.Body.String(), want) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("not %q", want)
			}
		}
		w.pass(2 * time.Second)
	}
	w.pass(5 * time.Second)
	for i, p := range all[:16] {
		if code := p.ended(); code != 0x97 {
			t.Errorf("%d: 0x%02x", i, code)
		}
	}
	for _, p := range all[16:] {
		p.write(big[20_000:])
		if k := p.next(PUBACK); k.code != 0x10 && k.code != 0 {
			t.Errorf("%v", k)
		}
	}
	w.chat(3)
}

// A hundred subscribers who read nothing may each leave a mebibyte lying; together they may not leave a hundred.
func TestStuckSubscribersHaveABoundInAll(t *testing.T) {
	const stuck, size, total = 100, 60_000, 4 << 20
	w := open(t, func(c *broker.Config) { c.TotalBuffer = total })
	for i := range stuck {
		c := connect{id: w.name(), v5: true, clean: i%2 == 0, small: true}
		if i%2 == 1 {
			c.props = []prop{num(sessionExpiry, 3600)}
		}
		w.dial(c).sub(byte(i%3), "flood")
	}
	p := w.client(true)
	for i := range 100 {
		p.pub("flood", fmt.Sprintf("%0*d", size, i), byte(1+i%2), 0)
	}
	sum, queued := 0, 0
	for _, s := range w.br.Sessions() {
		sum, queued = sum+s.OutputBytes, queued+s.QueuedBytes
	}
	// Each may have had room for one more message when the bound was met.
	if most := 3*total + stuck*(size+16<<10); sum > most || queued > most {
		t.Errorf("%d KiB wait for sockets, %d KiB are queued; want at most %d", sum>>10, queued>>10, most>>10)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 120<<20 {
		t.Errorf("%d MiB of heap", m.HeapAlloc>>20)
	}
	w.chat(20)
}
