package crash_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/test/crash/blockrec"
	"tidegate/test/harness"
	"tidegate/test/traffic"
)

const diskSize = 768 << 20

// note is a number of a publisher that was acknowledged or delivered, and when.
type note struct {
	p   int
	seq uint64
	pos int // of the disk's record
	at  time.Time
}

// notes are kept by several goroutines.
type notes struct {
	mu   sync.Mutex
	list []note
}

func (n *notes) add(d *blockrec.Disk, p int, seq uint64) {
	one := note{p, seq, d.Pos(), time.Now()}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, one)
}

// high is the last number of each publisher among the notes that count.
func (n *notes) high(counts func(note) bool) []uint64 {
	high := make([]uint64, publishers)
	for _, e := range n.list {
		if counts(e) {
			high[e.p] = max(high[e.p], e.seq)
		}
	}
	return high
}

// recording is a run of the gateway on a disk whose every write is known.
type recording struct {
	base                 *blockrec.Image
	events               []blockrec.Event
	from                 int    // position from which on cuts make sense: the subscription stands
	acked, above, beside *notes // acknowledged; delivered upstream; delivered to the subscriber
}

// record runs a gateway for a while. With linked, upstream and subscriber are there and read; otherwise both are away and
// everything piles up.
func record(t *testing.T, linked bool, d time.Duration, wrap []string) *recording {
	t.Helper()
	r := &recording{base: blockrec.Format(t, diskSize), acked: new(notes), above: new(notes), beside: new(notes)}
	disk := blockrec.Mount(t, r.base)
	s := newScene(t, harness.Options{Dir: filepath.Join(disk.Dir, "data"), Wrap: wrap})
	hear := func(n *notes) func([]byte) {
		return func(b []byte) {
			var p int
			var seq uint64
			if _, err := fmt.Sscan(string(b[:min(len(b), 24)]), &p, &seq); err == nil {
				n.add(disk, p, seq)
			}
		}
	}
	s.watch(hear(r.above))
	o := traffic.KeeperOptions{Heard: hear(r.beside)}
	if linked {
		o.Stay, o.Away = 300*time.Millisecond, 100*time.Millisecond
	}
	s.keep(o)
	s.start()
	if !s.keeper.Subscribed() {
		t.Fatal("no subscription at the gateway")
	}
	if !linked {
		s.keeper.Stop()
		s.net.BlackHole(true)
	}
	r.from = disk.Pos()
	s.publish(150, func(p int, seq uint64) { r.acked.add(disk, p, seq) })
	time.Sleep(d)
	s.fleet.Abandon()
	s.kill()
	s.watcher.Stop()
	if linked {
		s.keeper.Stop()
	}
	r.events = disk.Events()
	disk.Unmount()
	if n := s.fleet.Total(); n < 100 {
		t.Fatalf("only %d messages were acknowledged in the recording", n)
	}
	return r
}

// cut mounts the disk as a power cut left it, starts a gateway on it and returns what is wrong.
func (r *recording) cut(t *testing.T, at int, mode blockrec.Mode, rnd *rand.Rand, patience time.Duration) (bad []string) {
	disk := blockrec.Mount(t, blockrec.Cut(r.base, r.events, at, mode, rnd))
	defer disk.Unmount()
	s := newScene(t, harness.Options{Dir: filepath.Join(disk.Dir, "data")})
	defer s.up.Stop()
	s.above.StartAnywhere()
	s.beside.StartAnywhere()
	s.watch(nil)
	defer s.watcher.Stop()
	s.g.Launch()
	defer s.g.Kill()
	if err := s.g.WaitReady(); err != nil {
		return []string{err.Error()}
	}
	s.keep(traffic.KeeperOptions{Resume: true})
	defer s.keeper.Stop()
	s.gateway.Set(s.g.MQTT)
	// One message after the storm, by a publisher of its own: the gateway still takes and delivers.
	after := traffic.StartFleet(&s.gateway, traffic.FleetOptions{Publishers: 1, First: publishers, Size: size, Limit: 1, Topic: "crash"})
	defer after.Abandon()

	acked := r.acked.high(func(n note) bool { return n.pos <= at })
	when := time.Time{}
	if at > 0 {
		when = r.events[at-1].At
	}
	// What was read before the cut need not come again. The upstream has acknowledged to the gateway a little before our
	// subscriber there heard of it.
	read := map[*traffic.Tally][]uint64{
		s.above:  r.above.high(func(n note) bool { return n.at.Before(when.Add(500 * time.Millisecond)) }),
		s.beside: r.beside.high(func(n note) bool { return n.pos <= at }),
	}
	for tally, done := range read {
		want := append([]uint64(nil), acked...)
		for p := range want {
			if done[p] >= want[p] {
				want[p] = 0 // nothing has to come; what comes must be in order
			}
		}
		bad = append(bad, tally.WaitFor(append(want, 1), patience)...)
		bad = append(bad, tally.Bad()...)
		for p, first := range tally.First() {
			if p < publishers && first > done[p]+1 {
				bad = append(bad, fmt.Sprintf("%s: publisher %d starts at %d, was read up to %d", tally, p, first, done[p]))
			}
		}
	}
	return bad
}

func (r *recording) cuts(t *testing.T, n int) {
	t.Helper()
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	writes, flushes := 0, 0
	for _, e := range r.events {
		if e.Flush {
			flushes++
		} else {
			writes++
		}
	}
	at, modes := blockrec.Plan(r.events, r.from, n, rnd)
	failed := 0
	for i := range at {
		if bad := r.cut(t, at[i], modes[i], rnd, quiet); len(bad) > 0 {
			failed++
			t.Errorf("cut at %d of %d (%v, seed %d):\n  %s", at[i], len(r.events), modes[i], seed, strings.Join(bad, "\n  "))
		}
	}
	t.Logf("%d cuts, %d bad; recorded %d writes, %d flushes, %d acknowledgements", n, failed, writes, flushes, len(r.acked.list))
}

func TestPowerCutsWhileEverythingPilesUp(t *testing.T) {
	record(t, false, 2*time.Second, nil).cuts(t, pick(8, 80))
}

func TestPowerCutsWhileEverybodyReads(t *testing.T) {
	record(t, true, 3*time.Second, nil).cuts(t, pick(8, 80))
}

// The negative control: with the syncs left out, the same cuts must find losses, or they prove nothing.
func TestPowerCutsSeeAMissingSync(t *testing.T) {
	r := record(t, false, 2*time.Second, noSync())
	n := pick(4, 20)
	rnd := rand.New(rand.NewPCG(rand.Uint64(), 0))
	found := 0
	for range n {
		// In the last tenth of the recording, where much was acknowledged.
		at := len(r.events) - rnd.IntN(max(1, (len(r.events)-r.from)/10))
		if bad := r.cut(t, at, blockrec.Flushed, rnd, time.Second); len(bad) > 0 {
			found++
		}
	}
	t.Logf("%d of %d cuts lost something", found, n)
	if found < n/2 {
		t.Errorf("without a single sync only %d of %d cuts lost anything: the rig does not see what it is for", found, n)
	}
}
