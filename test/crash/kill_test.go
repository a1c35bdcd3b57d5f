package crash_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"tidegate/test/harness"
	"tidegate/test/traffic"
)

// kill -9 at random moments: while it works, while it starts, while the upstream is away.
func TestKilledAtRandomMoments(t *testing.T) {
	kills := pick(8, 120)
	s := newScene(t, harness.Options{})
	s.watch(nil)
	s.keep(traffic.KeeperOptions{Stay: 150 * time.Millisecond, Away: 100 * time.Millisecond})
	s.start()
	if !s.keeper.Subscribed() {
		t.Fatal("no subscription at the gateway")
	}
	s.publish(500, nil)
	var slowest time.Duration
	early := 0
	for i := range kills {
		switch i % 4 {
		case 1: // a burst of work behind a dead link
			s.net.BlackHole(true)
		case 2:
			s.net.BlackHole(false)
		case 3:
			s.net.Cut()
		}
		time.Sleep(rand.N(600 * time.Millisecond))
		s.kill()
		if i%5 == 4 { // in the middle of the start
			s.g.Launch()
			time.Sleep(rand.N(60 * time.Millisecond))
			s.g.Kill()
			early++
		}
		s.start()
		slowest = max(slowest, s.g.StartUp)
	}
	s.net.BlackHole(false)
	s.settle()
	s.lossless()
	s.tell("%d kills, %d more during the start, slowest start %v", kills, early, slowest.Round(time.Millisecond))
	s.end()
}
