package traffic_test

import (
	"strings"
	"testing"
	"time"

	"tidegate/test/harness"
	"tidegate/test/traffic"
)

func TestATallySeesWhatIsWrong(t *testing.T) {
	msg := func(p int, seq uint64) []byte { return traffic.Payload(nil, p, seq, 40) }
	broken := msg(0, 2)
	broken[39] ^= 1
	tests := []struct {
		name string
		seen [][]byte
		want string // part of the only complaint; "" for none
	}{
		{"in order", [][]byte{msg(0, 1), msg(1, 1), msg(0, 2)}, ""},
		{"repeated from an earlier one on", [][]byte{msg(0, 1), msg(0, 2), msg(0, 3), msg(0, 2), msg(0, 3), msg(0, 4)}, ""},
		{"a hole", [][]byte{msg(0, 1), msg(0, 3)}, "publisher 0: 3 comes after 1"},
		{"two swapped", [][]byte{msg(0, 2), msg(0, 1)}, "publisher 0: 2 comes after 0"},
		{"damaged", [][]byte{msg(0, 1), broken}, "not what was sent"},
		{"unheard of", [][]byte{msg(7, 1)}, "nobody sent"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tally := traffic.NewTally("t", 2, 40)
			for _, b := range test.seen {
				tally.Take(b)
			}
			bad := strings.Join(tally.Bad(), "\n")
			if test.want == "" && bad != "" || !strings.Contains(bad, test.want) || strings.Count(bad, "\n") > 0 {
				t.Errorf("got %q, want %q", bad, test.want)
			}
		})
	}
	tally := traffic.NewTally("t", 1, 40)
	tally.Take(msg(0, 1))
	if missing := tally.WaitFor([]uint64{2}, time.Millisecond); len(missing) != 1 || !strings.Contains(missing[0], "up to 2, arrived up to 1") {
		t.Errorf("missing: got %q", missing)
	}
}

// Against a broker that keeps nothing: as long as it stands all is well; once it is killed, the loss is seen.
func TestALossIsSeen(t *testing.T) {
	m := harness.StartMosquitto(t)
	var target traffic.Target
	tally := traffic.NewTally("keeper", 3, 100)
	k := traffic.StartKeeper(&target, tally, traffic.KeeperOptions{ClientID: "k", Filter: "x/#", Stay: 30 * time.Millisecond, Away: 20 * time.Millisecond})
	target.Set(m.Addr)
	if !k.Subscribed() {
		t.Fatal("no subscription")
	}
	f := traffic.StartFleet(&target, traffic.FleetOptions{Publishers: 3, Window: 8, Size: 100, Rate: 2000, Topic: "x"})
	harness.Until(t, "some traffic", func() bool { return f.Total() > 1000 })
	f.Drain()
	k.Steady()
	if bad := append(append(tally.WaitFor(f.Acked(), 5*time.Second), tally.Bad()...), f.Bad()...); len(bad) > 0 {
		t.Fatalf("with a broker that stands: %q", bad)
	}
	k.Stop()

	f = traffic.StartFleet(&target, traffic.FleetOptions{Publishers: 3, Window: 8, Size: 100, Topic: "x"})
	harness.Until(t, "some traffic", func() bool { return f.Total() > 1000 })
	f.Abandon()
	m.Stop()
	m.Start()
	target.Set(m.Addr)
	tally = traffic.NewTally("keeper", 3, 100)
	k = traffic.StartKeeper(&target, tally, traffic.KeeperOptions{ClientID: "k", Filter: "x/#", Resume: true})
	defer k.Stop()
	if missing := tally.WaitFor(f.Acked(), 200*time.Millisecond); len(missing) != 3 {
		t.Errorf("a broker that forgets: got %q, want all three publishers' messages missed", missing)
	}
	if bad := tally.Bad(); len(bad) != 1 || !strings.Contains(bad[0], "the session of k is gone") {
		t.Errorf("a broker that forgets: got %q, want the session missed", bad)
	}
}
