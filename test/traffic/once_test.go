package traffic_test

import (
	"strings"
	"testing"
	"time"

	"tidegate/test/harness"
	"tidegate/test/rawmqtt"
	"tidegate/test/traffic"
)

// mosquitto keeps QoS 2 over lost connections while it runs: nothing may be found wrong with it.
func TestSendersAndReceiversAgreeWithMosquitto(t *testing.T) {
	m := harness.StartMosquitto(t)
	var target traffic.Target
	target.Set(m.Addr)
	tally := traffic.NewTally("receiver", 2, 60)
	tally.Once()
	r := traffic.StartReceiver(&target, tally, traffic.KeeperOptions{ClientID: "receiver", Filter: "once/#", Stay: 40 * time.Millisecond, Away: 10 * time.Millisecond})
	if !r.Subscribed() {
		t.Fatal("no subscription")
	}
	var senders []*traffic.Sender
	for p := range 2 {
		senders = append(senders, traffic.StartSender(&target, traffic.SenderOptions{ClientID: "sender-" + string(rune('a'+p)), Topic: "once/x", Publisher: p, Size: 60, Window: 1 + 4*p,
			Pace: time.Millisecond, V5: p == 1, Stay: 30 * time.Millisecond, Away: 5 * time.Millisecond}, tally.Blame))
	}
	harness.Until(t, "some hundred messages", func() bool { return senders[0].Done() > 150 && senders[1].Done() > 150 })
	var done []uint64
	for _, s := range senders {
		s.Drain()
		done = append(done, s.Done())
	}
	r.Steady()
	for _, line := range append(tally.WaitFor(done, 10*time.Second), tally.Bad()...) {
		t.Error(line)
	}
	r.Stop()
}

func TestATallyOfOnceSeesWhatComesAgain(t *testing.T) {
	tally := traffic.NewTally("t", 1, 40)
	tally.Once()
	for _, seq := range []uint64{1, 2, 2, 3} {
		tally.Take(traffic.Payload(nil, 0, seq, 40))
	}
	if bad := strings.Join(tally.Bad(), "\n"); !strings.Contains(bad, "publisher 0: 2 comes again") || strings.Contains(bad, "\n") {
		t.Errorf("%q", bad)
	}
}

func TestAKeepsakeKnowsWhatMustBeThere(t *testing.T) {
	m := harness.StartMosquitto(t)
	var target traffic.Target
	target.Set(m.Addr)
	const topics = 3
	k := traffic.StartKeepsake(&target, "k", "keep", topics, 20*time.Millisecond, t.Errorf)
	// Of its three turns a topic is given something in two and rid of it in the third: stop in the second.
	harness.Until(t, "each topic had its three turns", func() bool {
		n := k.Steps() % (2 * 3 * topics)
		return k.Steps() > 2*3*topics && n >= 2*topics && n <= 2*topics+2
	})
	k.Stop()
	c, _, err := rawmqtt.Dial(m.Addr, rawmqtt.Options{ClientID: "looker", Clean: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write(rawmqtt.AppendSubscribe(nil, false, 1, 0, "keep/#"))
	c.Write([]byte{rawmqtt.Pingreq << 4, 0}) // mosquitto sends what is retained before it looks at this
	kept := map[string]string{}
	for {
		p, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		if p.Type == rawmqtt.Pingresp {
			break
		}
		if p.Type == rawmqtt.Publish {
			kept[string(p.Topic)] = string(p.Payload)
		}
	}
	none := k.Check(kept, nil)
	for _, line := range none {
		if strings.Contains(line, "retains") {
			t.Error(line)
		}
	}
	if len(none) == 0 {
		t.Error("that there is no subscription is not seen")
	}
	if all := k.Check(nil, map[string]bool{"keep/0/sub": true, "keep/1/sub": true, "keep/2/sub": true}); len(all) == 0 || !strings.Contains(strings.Join(all, "\n"), "retains \"\"") {
		t.Errorf("that nothing is retained is not seen: %q", all)
	}
}
