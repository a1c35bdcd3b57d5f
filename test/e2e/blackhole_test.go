package e2e_test

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"tidegate/test/faultnet"
	"tidegate/test/harness"
	"tidegate/test/traffic"
)

var long = flag.Bool("long", false, "the long form: a million messages through the black hole")

// The upstream takes everything and says nothing, as behind a router that lost its state, for as long as it takes to publish
// them all; then it is back. Nothing is missing, the order holds, memory stays flat, and a start with all of it waiting is
// quick.
func TestTheUpstreamIsABlackHole(t *testing.T) {
	const publishers, size = 8, 256
	messages := uint64(50_000)
	if *long {
		messages = 1_000_000
	}
	up := harness.StartMosquitto(t)
	net := faultnet.New(t, up.Addr)
	net.BlackHole(true)
	g := harness.Start(t, harness.Options{Config: fmt.Sprintf(`
upstreams:
  - name: cloud
    url: mqtt://%s
    up: [{filter: "run/#", topic: "up/{topic}"}]
    backoff_min: 10ms
    backoff_max: 500ms
`, net.Addr())})
	idle := g.RSS()
	var cloud, local traffic.Target
	cloud.Set(up.Addr)
	local.Set(g.MQTT)
	tally := traffic.NewTally("upstream", publishers, size)
	watcher := traffic.StartKeeper(&cloud, tally, traffic.KeeperOptions{ClientID: "watcher", Filter: "up/run/#"})
	defer watcher.Stop()
	if !watcher.Subscribed() {
		t.Fatal("no subscription at the upstream")
	}
	start, filling := time.Now(), g.WatchAnon()
	fleet := traffic.StartFleet(&local, traffic.FleetOptions{Publishers: publishers, Window: 128, Size: size, Limit: messages / publishers, Topic: "run"})
	fleet.Wait()
	took := time.Since(start)
	if total, _ := tally.Counts(); total > 0 {
		t.Fatalf("%d messages came through the black hole", total)
	}
	peak, fillAnon := g.PeakRSS(), filling()
	g.Kill()
	g.Restart()
	again := g.StartUp
	net.BlackHole(false)
	start = time.Now()
	draining := g.WatchAnon()
	for _, line := range append(tally.WaitFor(fleet.Acked(), 30*time.Second), append(tally.Bad(), fleet.Bad()...)...) {
		t.Error(line)
	}
	drained, drainAnon := time.Since(start), draining()
	total, repeats := tally.Counts()
	t.Logf("%d messages of %d B published in %v (%.0f/s), start with all of them waiting %v, drained in %v (%.0f/s, %d again); RSS idle %d MB, peak %d MB filling, %d MB draining, of that without mapped files %d MB and %d MB",
		fleet.Total(), size, took.Round(time.Millisecond), float64(messages)/took.Seconds(), again.Round(time.Millisecond),
		drained.Round(time.Millisecond), float64(total)/drained.Seconds(), repeats, idle>>20, peak>>20, g.PeakRSS()>>20, fillAnon>>20, drainAnon>>20)
	if again > 1500*time.Millisecond {
		t.Errorf("the start with %d messages waiting took %v, want 1.5 s at most", messages, again)
	}
	if limit := int64(128 << 20); fillAnon > limit || drainAnon > limit {
		t.Errorf("memory grew to %d MB filling and %d MB draining, mapped files left out", fillAnon>>20, drainAnon>>20)
	}
	g.Stop()
}
