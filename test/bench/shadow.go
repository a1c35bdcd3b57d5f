package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/test/rawmqtt"
)

// perUpdate is the unit of the shadow cases: an update counts when its answer has come, which means that it is on the disk.
const perUpdate = "thousand updates/s"

// shadowCases are updates of 1 KB, each with other readings than the one before, over a thousand things. No peer has shadows.
var shadowCases = []Case{
	{Name: "shadow-updates", Title: "1,000 things, a connection each, every one waits for its accepted, on disk", Unit: perUpdate, Goal: Goal{"", 20}, Alone: true,
		Run: shadowUpdates(1000, 1, true)},
	{Name: "shadow-updates-fleet", Title: "20 connections for 50 things each, 50 in flight each, by PUBACK, on disk", Unit: perUpdate, Goal: Goal{"", 20}, Alone: true,
		Run: shadowUpdates(20, 50, false)},
	{Name: "shadow-p99", Title: "p99 of accepted at 1,000 updates/s, above the raw sync of the disk", Unit: "µs", Less: true, Goal: Goal{"", 1000}, Alone: true,
		Run: shadowPaced},
	{Name: "shadow-rss", Title: "memory that 100,000 shadows of 1 KB add", Unit: "MB", Less: true, Goal: Goal{"", 60}, Alone: true,
		Run: shadowCrowd},
}

// aboard is a client that keeps the shadows of some things up to date.
type aboard struct {
	*rawmqtt.Conn
	first, things int // the things it speaks for
	frame         []byte
	sent          int
	answered      atomic.Int64
}

// shadowClients connects clients for a thousand things, which hear of what was accepted if they listen.
func (b *Bench) shadowClients(addr string, n int, listen bool) []*aboard {
	const things = 1000
	clients := make([]*aboard, n)
	for i := range clients {
		c, _, err := rawmqtt.Dial(addr, rawmqtt.Options{ClientID: fmt.Sprintf("aboard%d", i), Clean: true, ReadBuffer: 16 << 10})
		a := &aboard{Conn: c, first: i * things / n, things: things / n}
		for k := 0; k < a.things && listen && err == nil; k++ {
			err = c.Subscribe(0, shadowTopic(a.first+k)+"/accepted")
		}
		if err != nil {
			b.Fatalf("client %d: %v", i, err)
		}
		b.Cleanup(func() { c.Conn.Close() })
		clients[i] = a
	}
	return clients
}

func shadowTopic(thing int) string { return fmt.Sprintf("$aws/things/thing%d/shadow/update", thing) }

// readings makes an update request of 1 KB: twenty sensors with three leaves each, and a token that tells when it was sent.
func readings(b []byte, n int, at int64) []byte {
	b = fmt.Appendf(b, `{"clientToken":"%016x","state":{"reported":{`, at)
	for i := 0; len(b) < 985; i++ {
		b = fmt.Appendf(b, `"sensor%02d":{"value":%d.%02d,"unit":"mbar","ok":true},`, i, 900+i, (n+i)%100)
	}
	return append(b[:len(b)-1], "}}}"...)
}

// update sends the next update.
func (a *aboard) update(at int64) error {
	thing := a.first + a.sent%a.things
	a.sent++
	var room [1100]byte
	a.frame = rawmqtt.AppendPublish(a.frame[:0], false, shadowTopic(thing), readings(room[:0], a.sent, at), 1, uint16(a.sent%65535)+1, 0)
	_, err := a.Write(a.frame)
	return err
}

// shadowUpdates has clients send updates as fast as they are answered, each with so many on their way.
func shadowUpdates(clients, window int, listen bool) func(*Bench) Figures {
	return func(b *Bench) Figures {
		br := b.start(Start{})
		var wg sync.WaitGroup
		var stopped atomic.Bool
		all := b.shadowClients(br.Addr, clients, listen)
		defer func() {
			stopped.Store(true)
			for _, a := range all {
				a.Conn.Close()
			}
			wg.Wait()
		}()
		answer := byte(rawmqtt.Puback)
		if listen {
			answer = rawmqtt.Publish
		}
		total := func() (n int64) {
			for _, a := range all {
				n += a.answered.Load()
			}
			return n
		}
		for _, a := range all {
			wg.Add(1)
			go func() {
				defer wg.Done()
				var err error
				for range window {
					err = a.update(1)
				}
				for err == nil {
					var p rawmqtt.Packet
					if p, err = a.Next(); err == nil && p.Type == answer {
						a.answered.Add(1)
						err = a.update(1)
					}
				}
				if !stopped.Load() {
					b.Errorf("%s: a connection was lost: %v", b.Case.Name, err)
				}
			}()
		}
		time.Sleep(2 * settle)
		n0, c0, t0 := total(), br.cpu(), time.Now()
		time.Sleep(b.Time)
		n, c, t := total()-n0, br.cpu()-c0, time.Since(t0)
		if n == 0 {
			b.Fatalf("stands still: nothing was answered in %v", b.Time)
		}
		return Figures{"value": float64(n) / t.Seconds() / 1000, "per_core": float64(n) / c.Seconds() / 1000, "busy": c.Seconds() / t.Seconds(), "rss_mb": mb(br.memory("VmRSS"))}
	}
}

// shadowPaced sends a thousand updates a second and measures how long accepted takes, less what the disk alone takes.
func shadowPaced(b *Bench) Figures {
	raw := b.rawSync()
	br := b.start(Start{})
	all := b.shadowClients(br.Addr, 50, true)
	var mu sync.Mutex // guards took
	var took []time.Duration
	var wg sync.WaitGroup
	warm := time.Now().Add(2 * settle)
	for _, a := range all {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				p, err := a.Next()
				if err != nil {
					return
				}
				if p.Type != rawmqtt.Publish {
					continue
				}
				if at := sentAt(p.Payload); at.After(warm) {
					d := time.Since(at)
					mu.Lock()
					took = append(took, d)
					mu.Unlock()
				}
			}
		}()
	}
	const rate = 1000
	defer steadyHand()()
	var late []time.Duration
	start := time.Now()
	for i := range int((2*settle + max(b.Time, 5*time.Second)).Seconds() * rate) {
		due := start.Add(time.Duration(i) * time.Second / rate)
		time.Sleep(time.Until(due))
		late = append(late, time.Since(due))
		if err := all[i%len(all)].update(time.Now().UnixNano()); err != nil {
			b.Fatalf("%v", err)
		}
	}
	time.Sleep(settle) // for the last answers
	for _, a := range all {
		a.Conn.Close()
	}
	wg.Wait()
	if len(took) == 0 {
		b.Fatalf("nothing was accepted")
	}
	f := Figures{"p50": us(took, .5), "p99": us(took, .99), "max": us(took, 1), "raw_sync": us(raw, .5), "raw_sync_p99": us(raw, .99), "late_p99": us(late, .99), "count": float64(len(took))}
	f["value"] = f["p99"] - f["raw_sync"]
	return f
}

// sentAt reads the token of an accepted document.
func sentAt(payload []byte) time.Time {
	const before = `"clientToken":"`
	var ns int64
	if i := len(payload) - len(before) - len(`0000000000000000"}`); i >= 0 && string(payload[i:i+len(before)]) == before {
		fmt.Sscanf(string(payload[i+len(before):]), "%016x", &ns)
	}
	return time.Unix(0, ns)
}

// shadowCrowd makes 100,000 shadows and tells what they cost, at once and after a start.
func shadowCrowd(b *Bench) Figures {
	const shadows = 100_000
	br := b.start(Start{})
	time.Sleep(3 * time.Second)
	empty := br.memory("VmRSS")
	c, _, err := rawmqtt.Dial(br.Addr, rawmqtt.Options{ClientID: "maker", Clean: true})
	if err != nil {
		b.Fatalf("%v", err)
	}
	defer c.Conn.Close()
	const window = 64
	var frame []byte
	for sent, acked := 0, 0; acked < shadows; {
		for ; sent < shadows && sent-acked < window; sent++ {
			frame = rawmqtt.AppendPublish(frame[:0], false, shadowTopic(sent), readings(nil, sent, 1), 1, uint16(sent%65535)+1, 0)
			if _, err := c.Write(frame); err != nil {
				b.Fatalf("%v", err)
			}
		}
		p, err := c.Next()
		if err != nil {
			b.Fatalf("%v", err)
		}
		if p.Type == rawmqtt.Puback {
			acked++
		}
	}
	peak := br.memory("VmHWM")
	c.Conn.Close()
	time.Sleep(15 * time.Second) // the applier comes by every 10 s
	full := br.memory("VmRSS")
	br.g.Stop()
	br.g.Restart()
	br.PID = br.g.PID()
	start := br.g.StartUp
	time.Sleep(3 * time.Second)
	again := br.memory("VmRSS")
	return Figures{"value": mb(max(full, again) - empty), "empty_mb": mb(empty), "full_mb": mb(full), "peak_mb": mb(peak), "restarted_mb": mb(again), "anon_mb": mb(br.memory("RssAnon")), "start_ms": float64(start.Milliseconds())}
}
