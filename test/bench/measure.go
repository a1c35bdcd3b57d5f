package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tidegate/test/harness"
	"tidegate/test/rawmqtt"
)

// quiet is how long a broker is left alone before its memory is looked at: long enough for whoever cleans up behind a burst.
const quiet = 6 * time.Second

const settle = 500 * time.Millisecond // after the start of a load, before it is measured

// throughput measures deliveries per second of the broker's processor time.
func throughput(shape Shape) func(*Bench) Figures {
	return func(b *Bench) Figures {
		br := b.start(Start{})
		l := b.launch(br.Addr, shape)
		l.send()
		time.Sleep(settle)
		n0, c0, t0 := l.delivered.Load(), br.cpu(), time.Now()
		time.Sleep(b.Time)
		n, c, t := l.delivered.Load()-n0, br.cpu()-c0, time.Since(t0)
		if n == 0 {
			b.Fatalf("stands still: nothing was delivered in %v", b.Time)
		}
		return Figures{"value": float64(n) / c.Seconds() / 1000, "wall": float64(n) / t.Seconds() / 1000, "busy": c.Seconds() / t.Seconds(), "rss_mb": mb(br.memory("VmRSS"))}
	}
}

// acks measures acknowledgements a second, by the clock on the wall, while a persistent subscriber is away.
func acks(shape Shape, o Start) func(*Bench) Figures {
	shape.Subs, shape.Persistent, shape.Away, shape.ByAck = 1, true, true, true
	return func(b *Bench) Figures {
		br := b.start(o)
		l := b.launch(br.Addr, shape)
		l.send()
		time.Sleep(settle)
		n0, c0, t0 := l.acked.Load(), br.cpu(), time.Now()
		time.Sleep(b.Time)
		n, c, t := l.acked.Load()-n0, br.cpu()-c0, time.Since(t0)
		if n == 0 {
			b.Fatalf("stands still: nothing was acknowledged in %v", b.Time)
		}
		return Figures{"value": float64(n) / t.Seconds() / 1000, "per_core": float64(n) / c.Seconds() / 1000, "busy": c.Seconds() / t.Seconds(), "rss_mb": mb(br.memory("VmRSS"))}
	}
}

// oneInFlight is the wait of a lone publisher for each PUBACK, less what the disk alone takes (with a slowed disk: in all).
func oneInFlight(o Start) func(*Bench) Figures {
	return func(b *Bench) Figures {
		raw := b.rawSync()
		br := b.start(o)
		l := b.launch(br.Addr, Shape{Pubs: 1, Subs: 1, QoS: 1, Size: 256, Window: 1, Persistent: true, Away: true})
		l.stop() // it has only left the session behind
		c, _, err := rawmqtt.Dial(br.Addr, rawmqtt.Options{ClientID: "one", Clean: true})
		if err != nil {
			b.Fatalf("%v", err)
		}
		defer c.Close()
		var took []time.Duration
		payload := make([]byte, 256)
		var frame []byte
		for start := time.Now(); time.Since(start) < b.Time; {
			frame = rawmqtt.AppendPublish(frame[:0], false, "bench/0", payload, 1, uint16(len(took)%65535)+1, 0)
			t := time.Now()
			if _, err := c.Write(frame); err != nil {
				b.Fatalf("%v", err)
			}
			if _, err := c.Next(); err != nil {
				b.Fatalf("%v", err)
			}
			took = append(took, time.Since(t))
		}
		f := Figures{"p50": us(took, .5), "p99": us(took, .99), "raw_sync": us(raw, .5), "raw_sync_p99": us(raw, .99)}
		f["value"] = f["p50"] - f["raw_sync"]
		if o.SyncDelay > 0 {
			f["value"] = f["p50"]
		}
		return f
	}
}

// aboveSync subtracts the disk's own time for one sync. Its p99 stands beside it: what the disk, or the machine, does to one sync in a
// hundred it does to everybody.
func aboveSync(run func(*Bench) Figures) func(*Bench) Figures {
	return func(b *Bench) Figures {
		raw := b.rawSync()
		f := run(b)
		f["raw_sync"], f["raw_sync_p99"] = us(raw, .5), us(raw, .99)
		f["value"] -= f["raw_sync"]
		return f
	}
}

// rawSync is what the disk takes for 4 KiB into a file that has its space, and fdatasync: the floor under any PUBACK that
// means on disk.
func (b *Bench) rawSync() []time.Duration {
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatalf("%v", err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	const pages = 1024
	for range pages {
		f.Write(page)
	}
	f.Sync()
	var took []time.Duration
	for i := range pages {
		page[0]++
		t := time.Now()
		if _, err := f.WriteAt(page, int64(i)*4096); err != nil {
			b.Fatalf("%v", err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatalf("%v", err)
		}
		took = append(took, time.Since(t))
	}
	return took
}

// paced publishes at a steady rate and measures how long each PUBACK and each delivery takes.
func paced(pubs, rate int, persistent bool, o Start) func(*Bench) Figures {
	return func(b *Bench) Figures {
		br := b.start(o)
		t := b.pace(br, pubs, rate, persistent, false, settle+max(b.Time, 3*time.Second))
		if len(t.acks) == 0 {
			b.Fatalf("no PUBACK came")
		}
		return Figures{"value": us(t.acks, .99), "p50": us(t.acks, .5), "max": us(t.acks, 1), "delivery_p50": us(t.deliveries, .5), "delivery_p99": us(t.deliveries, .99),
			"late_p99": us(t.late, .99), "count": float64(len(t.acks))}
	}
}

// steadyHand keeps the client from collecting its garbage until the function it gives is called: what is waited for then would
// be taken for the broker's time. A paced load makes some MB a second.
func steadyHand() (again func()) {
	runtime.GC()
	was := debug.SetGCPercent(-1)
	return func() { debug.SetGCPercent(was) }
}

// times are what a paced load found. late is by how much a message left after it was due: that long nobody was measuring.
type times struct{ acks, deliveries, late []time.Duration }

// pace is one goroutine that sends for all publishers in turn, each message when it is due.
func (b *Bench) pace(br *Broker, pubs, rate int, persistent, away bool, d time.Duration) (t times) {
	defer steadyHand()()
	shape := Shape{Pubs: pubs, Subs: 1, QoS: 1, Size: 256, Window: 1, Persistent: persistent, Away: away}
	warm := time.Now().Add(settle)
	var mu sync.Mutex // guards the two results
	var wg sync.WaitGroup
	l := &load{b: b, shape: shape}
	type line struct {
		c    *rawmqtt.Conn
		sent [65536]atomic.Int64 // when, by packet id
		id   uint16
	}
	if c, _, err := rawmqtt.Dial(br.Addr, rawmqtt.Options{ClientID: "sub0", Clean: !(away || persistent && b.Name == product)}); err != nil {
		b.Fatalf("%v", err)
	} else if err := c.Subscribe(1, "bench/+"); err != nil {
		b.Fatalf("%v", err)
	} else if away {
		c.Close()
	} else {
		l.subs = append(l.subs, c)
		wg.Add(1)
		go func() {
			defer wg.Done()
			var out []byte
			for {
				p, err := c.Next()
				if err != nil {
					return
				}
				if p.Type != rawmqtt.Publish {
					continue
				}
				at := time.Unix(0, int64(binary.LittleEndian.Uint64(p.Payload)))
				if at.After(warm) {
					took := time.Since(at)
					mu.Lock()
					t.deliveries = append(t.deliveries, took)
					mu.Unlock()
				}
				out = rawmqtt.AppendAck(out, rawmqtt.Puback, p.ID)
				if !c.More() {
					c.Write(out)
					out = out[:0]
				}
			}
		}()
	}
	lines := make([]*line, pubs)
	for i := range lines {
		c, _, err := rawmqtt.Dial(br.Addr, rawmqtt.Options{ClientID: fmt.Sprintf("pub%d", i), Clean: true})
		if err != nil {
			b.Fatalf("%v", err)
		}
		ln := &line{c: c}
		lines[i] = ln
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				p, err := c.Next()
				if err != nil {
					return
				}
				if at := time.Unix(0, ln.sent[p.ID].Load()); p.Type == rawmqtt.Puback && at.After(warm) {
					took := time.Since(at)
					mu.Lock()
					t.acks = append(t.acks, took)
					mu.Unlock()
				}
			}
		}()
	}
	payload := make([]byte, shape.Size)
	var frame []byte
	start := time.Now()
	for i := 0; ; i++ {
		due := start.Add(time.Duration(float64(i) / float64(rate) * float64(time.Second)))
		if due.Sub(start) > d {
			break
		}
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
		}
		ln := lines[i%pubs]
		ln.id = ln.id%65535 + 1
		t.late = append(t.late, time.Since(due))
		now := time.Now().UnixNano()
		binary.LittleEndian.PutUint64(payload, uint64(now))
		ln.sent[ln.id].Store(now)
		frame = rawmqtt.AppendPublish(frame[:0], false, fmt.Sprintf("bench/%d", i%pubs), payload, 1, ln.id, 0)
		if _, err := ln.c.Write(frame); err != nil {
			b.Fatalf("%v", err)
		}
	}
	time.Sleep(settle) // for the last answers
	for _, ln := range lines {
		ln.c.Close()
	}
	for _, c := range l.subs {
		c.Close()
	}
	wg.Wait()
	return t
}

// bytesWritten is what the broker has had written to disk for each message, with everything it does later counted in.
func bytesWritten(rate int, d time.Duration, away bool) func(*Bench) Figures {
	return func(b *Bench) Figures {
		br := b.start(Start{SyncEach: true})
		time.Sleep(settle)
		exec.Command("sync").Run()
		w0 := br.written()
		t := b.pace(br, 1, rate, true, away, d)
		if br.g != nil {
			time.Sleep(11 * time.Second) // the applier comes by every 10 s
		}
		exec.Command("sync").Run()
		n := float64(rate) * d.Seconds()
		return Figures{"value": float64(br.written()-w0) / n, "acked": float64(len(t.acks))}
	}
}

// catchUp queues a million for a subscriber that is away and measures how fast it then gets them.
func catchUp(b *Bench) Figures {
	const queued = 1_000_000
	br := b.start(Start{})
	l := b.launch(br.Addr, Shape{Pubs: 4, Subs: 1, QoS: 1, Size: 256, Window: 256, Persistent: true, Away: true, ByAck: true})
	l.send()
	start := time.Now()
	for last := int64(-1); l.acked.Load() < queued; {
		if n := l.acked.Load(); n == last {
			b.Fatalf("stands still after %d acknowledged", n)
		} else {
			last = n
		}
		for wait := 0; wait < 20 && l.acked.Load() < queued; wait++ {
			time.Sleep(100 * time.Millisecond)
		}
	}
	filled := time.Since(start)
	l.stop()
	total := l.acked.Load()
	full := br.memory("VmRSS")
	c, present, err := rawmqtt.Dial(br.Addr, rawmqtt.Options{ClientID: "sub0", ReadBuffer: 256 << 10})
	if err != nil || !present {
		b.Fatalf("the session is not there: %v", err)
	}
	defer c.Close()
	var out []byte
	c0, t0 := br.cpu(), time.Now()
	n := int64(0)
	for n < total {
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		p, err := c.Next()
		if err != nil {
			b.Fatalf("after %d of %d: %v", n, total, err)
		}
		if p.Type != rawmqtt.Publish {
			continue
		}
		n++
		out = rawmqtt.AppendAck(out, rawmqtt.Puback, p.ID)
		if !c.More() {
			if _, err := c.Write(out); err != nil {
				b.Fatalf("%v", err)
			}
			out = out[:0]
		}
	}
	took := time.Since(t0)
	return Figures{"value": float64(n) / took.Seconds() / 1000, "per_core": float64(n) / (br.cpu() - c0).Seconds() / 1000,
		"queued": float64(total), "fill": float64(total) / filled.Seconds() / 1000, "rss_full_mb": mb(full), "rss_peak_mb": mb(br.memory("VmHWM"))}
}

func idleRSS(b *Bench) Figures {
	br := b.start(Start{})
	time.Sleep(quiet)
	return Figures{"value": mb(br.memory("VmRSS")), "anon_mb": mb(br.memory("RssAnon"))}
}

// idleConnections opens many connections that say nothing after CONNECT.
func idleConnections(b *Bench) Figures {
	const conns = 2000
	br := b.start(Start{})
	if c, _, err := rawmqtt.Dial(br.Addr, rawmqtt.Options{ClientID: "first", Clean: true, ReadBuffer: 512}); err != nil { // what is needed once
		b.Fatalf("%v", err)
	} else {
		c.Close()
	}
	time.Sleep(quiet)
	before := br.memory("VmRSS")
	for i := range conns {
		c, _, err := rawmqtt.Dial(br.Addr, rawmqtt.Options{ClientID: fmt.Sprintf("idle%d", i), Clean: true, ReadBuffer: 512})
		if err != nil {
			b.Fatalf("connection %d: %v", i, err)
		}
		defer c.Conn.Close()
	}
	time.Sleep(quiet)
	return Figures{"value": float64(br.memory("VmRSS")-before) / conns / 1024}
}

func binarySize(b *Bench) Figures {
	root := harness.Root(b)
	f := Figures{}
	for _, arch := range []string{"amd64", "arm64"} {
		out := filepath.Join(b.TempDir(), "tidegate")
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./cmd/tidegate")
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
		if o, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("build for %s: %v: %s", arch, err, o)
		}
		st, err := os.Stat(out)
		if err != nil {
			b.Fatalf("%v", err)
		}
		f[arch] = mb(st.Size())
	}
	f["value"] = max(f["amd64"], f["arm64"])
	return f
}

func mb(n int64) float64 { return float64(n) / 1e6 }

// us is a quantile in microseconds; it sorts d.
func us(d []time.Duration, q float64) float64 {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return float64(d[int(q*float64(len(d)-1))].Nanoseconds()) / 1000
}
