package crash_test

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"tidegate/test/faultnet"
	"tidegate/test/harness"
	"tidegate/test/traffic"
)

var long = flag.Bool("long", false, "the long form: at least 100 kills and 100 power cuts")

// pick gives the first number for the short form, the second for the long one.
func pick(short, longer int) int {
	if *long {
		return longer
	}
	return short
}

const (
	publishers = 4
	size       = 200
	quiet      = 10 * time.Second // nothing has come for so long: it will not come any more
)

// scene is a gateway between publishers, a persistent subscriber that comes and goes, and an upstream behind a network that
// can fail.
type scene struct {
	t       *testing.T
	config  string
	g       *harness.Gateway
	up      *harness.Mosquitto
	net     *faultnet.Proxy
	gateway traffic.Target // where publishers and keeper go
	cloud   traffic.Target // where the upstream's own subscriber goes
	above   *traffic.Tally // what arrives upstream
	beside  *traffic.Tally // what arrives at the persistent subscriber
	fleet   *traffic.Fleet
	keeper  *traffic.Keeper
	watcher *traffic.Keeper
}

// newScene starts the upstream and prepares, but does not start, the gateway. One more publisher number than publishers is
// known to the tallies, for the message after the storm.
func newScene(t *testing.T, o harness.Options) *scene {
	t.Helper()
	s := &scene{t: t, up: harness.StartMosquitto(t)}
	s.net = faultnet.New(t, s.up.Addr)
	s.above = traffic.NewTally("upstream", publishers+1, size)
	s.beside = traffic.NewTally("subscriber", publishers+1, size)
	s.config = fmt.Sprintf(`
upstreams:
  - name: cloud
    url: mqtt://%s
    up: [{filter: "crash/#", topic: "up/{topic}"}]
    backoff_min: 10ms
    backoff_max: 200ms
`, s.net.Addr())
	o.Config = s.config
	s.g = harness.New(t, o)
	s.cloud.Set(s.up.Addr)
	return s
}

// configure adds lines to the configuration, for the next start.
func (s *scene) configure(lines string) { s.g.SetConfig(s.config + lines + "\n") }

// watch starts the upstream's subscriber.
func (s *scene) watch(heard func([]byte)) {
	s.t.Helper()
	s.watcher = traffic.StartKeeper(&s.cloud, s.above, traffic.KeeperOptions{ClientID: fmt.Sprintf("watcher-%d", time.Now().UnixNano()), Filter: "up/crash/#", Heard: heard})
	if !s.watcher.Subscribed() {
		s.t.Fatal("no subscription at the upstream")
	}
}

// keep starts the persistent subscriber.
func (s *scene) keep(o traffic.KeeperOptions) {
	o.ClientID, o.Filter = "keeper", "crash/#"
	s.keeper = traffic.StartKeeper(&s.gateway, s.beside, o)
}

// publish starts the fleet.
func (s *scene) publish(rate float64, acked func(p int, seq uint64)) {
	s.fleet = traffic.StartFleet(&s.gateway, traffic.FleetOptions{Publishers: publishers, Window: 16, Size: size, Rate: rate, Topic: "crash", Acked: acked})
}

// up starts the gateway and lets everybody at it.
func (s *scene) start() {
	s.t.Helper()
	s.g.Restart()
	s.gateway.Set(s.g.MQTT)
}

// kill ends it the hard way.
func (s *scene) kill() {
	s.gateway.Set("")
	s.g.Kill()
}

// settle stops the publishers once all they sent is acknowledged and waits until all of it has arrived.
func (s *scene) settle() {
	s.t.Helper()
	s.fleet.Drain()
	s.keeper.Steady()
	s.arrive(s.fleet.Acked())
	for _, line := range s.fleet.Bad() {
		s.t.Error(line)
	}
}

// arrive waits for what was acknowledged and reports what is missing or wrong.
func (s *scene) arrive(acked []uint64) {
	s.t.Helper()
	for _, line := range s.wrong(acked, quiet) {
		s.t.Error(line)
	}
}

func (s *scene) wrong(acked []uint64, patience time.Duration) (bad []string) {
	for _, tally := range []*traffic.Tally{s.above, s.beside} {
		bad = append(bad, tally.WaitFor(acked, patience)...)
		bad = append(bad, tally.Bad()...)
	}
	return bad
}

// end stops everybody, the gateway last and cleanly.
func (s *scene) end() {
	s.t.Helper()
	s.gateway.Set("")
	s.keeper.Stop()
	s.watcher.Stop()
	s.g.Stop()
}

// tell logs what the scene has seen.
func (s *scene) tell(format string, args ...any) {
	s.t.Helper()
	total, repeats := s.above.Counts()
	total2, repeats2 := s.beside.Counts()
	s.t.Logf("%s: %d acknowledged; upstream %d (%d again), subscriber %d (%d again)", fmt.Sprintf(format, args...), s.fleet.Total(), total, repeats, total2, repeats2)
}

// lossless fails the test when the ledger holds anything.
func (s *scene) lossless() {
	s.t.Helper()
	if losses := s.g.Ledger(); len(losses) > 0 {
		s.t.Errorf("the ledger speaks of losses: %+v", losses)
	}
}
