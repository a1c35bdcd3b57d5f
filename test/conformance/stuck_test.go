package conformance_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/broker"
)

// An hour of simulated time beside subscribers with QoS 1 of which one reads nothing, and the others read and acknowledge
// nothing: who publishes and who listens properly does not notice, and memory stays flat. The figures are logged; with
// -long there are many times as many messages.
func TestAnHourBesideStuckSubscribers(t *testing.T) {
	perMinute := 20
	if *long {
		perMinute = 900 // all of it with packet ids that do not begin again
	}
	w := openStill(t, func(c *broker.Config) {
		c.SessionMemory, c.StallTimeout, c.Limits.KeepAliveMax = 64<<10, 24*time.Hour, 0
	})
	payload := strings.Repeat("x", 250)
	good, p := w.dial(w.keeper(true)), w.client(false) // of whom one is durable from the start: what is compared is on the disk before and after
	good.sub(1, "hour")
	sent := 0
	publish := func(n int) (times []time.Duration) {
		for range n {
			began := time.Now()
			p.pub("hour", fmt.Sprint(sent, payload), 1, 0)
			times = append(times, time.Since(began))
			good.get("hour", fmt.Sprint(sent, payload), 1, 0)
			sent++
		}
		return times
	}
	before := publish(10 * perMinute)

	deaf := w.dial(connect{id: "deaf", v5: true, props: []prop{num(sessionExpiry, 7200)}, small: true})
	deaf.sub(1, "hour")
	kept := []connect{w.keeper(true), w.keeper(false)}
	mute := []*peer{w.dial(connect{id: w.name(), clean: true}), w.dial(kept[0]), w.dial(kept[1])}
	for _, m := range mute {
		m.sub(1, "hour")
	}
	first := sent
	heard := make([]int, len(mute))
	listen := func() { // what has come up to now, of which nothing is acknowledged
		for i, m := range mute {
			m.silent2()
			for _, k := range m.aside {
				if k.typ != PUBLISH || !strings.HasPrefix(k.payload, fmt.Sprint(first+heard[i], "x")) {
					t.Fatalf("%v, want %d", k, first+heard[i])
				}
				heard[i]++
			}
			m.aside = nil
		}
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var beside []time.Duration
	var early uint64
	for minute := range 60 {
		beside = append(beside, publish(perMinute)...)
		listen()
		w.pass(time.Minute)
		if minute == 9 {
			early = heap()
		}
	}
	late := heap()
	at := func(times []time.Duration, q float64) time.Duration {
		slices.Sort(times)
		return times[int(q*float64(len(times)-1))].Round(time.Microsecond)
	}
	t.Logf("PUBACK with nobody stuck: p50 %v, p99 %v (%d); beside %d stuck for an hour: p50 %v, p99 %v (%d); heap after 10 minutes %d KiB, after 60 %d KiB",
		at(before, 0.5), at(before, 0.99), len(before), 1+len(mute), at(beside, 0.5), at(beside, 0.99), len(beside), early>>10, late>>10)
	if late > early+16<<20 {
		t.Errorf("the heap grew from %d to %d KiB", early>>10, late>>10)
	}
	for _, s := range w.br.Sessions() {
		if s.ClientID == "deaf" && (!s.Connected || s.QueuedBytes > 128<<10) {
			t.Errorf("the one that reads nothing: %+v", s)
		}
	}

	// Nothing was lost to those with a session: they come back, acknowledge, and get all of it, in order.
	for i, c := range kept {
		mute[1+i].cut()
		back := w.dial(c)
		for n := first; n < sent; n++ {
			k := back.next(PUBLISH)
			if !strings.HasPrefix(k.payload, fmt.Sprint(n, "x")) {
				t.Fatalf("%v, want %d", k, n)
			}
			back.settle(k)
		}
		back.silent()
	}
}
