package crash_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tidegate/test/harness"
	"tidegate/test/rawmqtt"
	"tidegate/test/traffic"
)

// lodge is a gateway with everybody who relies on its memory of clients: publishers and subscribers with QoS 2, and one
// who subscribes, unsubscribes and retains.
type lodge struct {
	t         *testing.T
	g         *harness.Gateway
	gateway   traffic.Target
	tallies   []*traffic.Tally
	receivers []*traffic.Receiver
	senders   []*traffic.Sender
	keepsake  *traffic.Keepsake
}

const (
	onceSenders = 3
	onceSize    = 120
	keepTopics  = 7
	markTopic   = "keep-mark"
)

func newLodge(t *testing.T) *lodge {
	t.Helper()
	l := &lodge{t: t, g: harness.New(t, harness.Options{})}
	for i := range 2 {
		tally := traffic.NewTally(fmt.Sprintf("receiver %d", i), onceSenders, onceSize)
		tally.Once()
		l.tallies = append(l.tallies, tally)
		l.receivers = append(l.receivers, traffic.StartReceiver(&l.gateway, tally, traffic.KeeperOptions{ClientID: fmt.Sprintf("receiver-%d", i), Filter: "once/#", V5: i == 1,
			Stay: time.Duration(i) * 200 * time.Millisecond, Away: 50 * time.Millisecond}))
	}
	l.up()
	harness.MosquittoPub(t, l.g.MQTT, markTopic, "the end", "-r")
	for _, r := range l.receivers {
		if !r.Subscribed() {
			t.Fatal("no subscription at the gateway")
		}
	}
	for p := range onceSenders {
		l.senders = append(l.senders, traffic.StartSender(&l.gateway, traffic.SenderOptions{ClientID: fmt.Sprintf("sender-%d", p), Topic: fmt.Sprintf("once/%d", p), Publisher: p,
			Size: onceSize, Window: 1 + 7*p, Pace: 4 * time.Millisecond, V5: p == 1, Stay: time.Duration(p) * 150 * time.Millisecond, Away: 20 * time.Millisecond}, l.tallies[0].Blame))
	}
	l.keepsake = traffic.StartKeepsake(&l.gateway, "keepsake", "keep", keepTopics, time.Millisecond, l.tallies[0].Blame)
	return l
}

// up starts the gateway and lets everybody at it.
func (l *lodge) up() {
	l.t.Helper()
	l.g.Restart()
	l.gateway.Set(l.g.MQTT)
}

func (l *lodge) kill() {
	l.gateway.Set("")
	l.g.Kill()
}

// look asks the gateway, which nobody else is at, what it retains by topic and what the keepsake is subscribed to.
func (l *lodge) look() (kept map[string]string, subs map[string]bool, err error) {
	l.t.Helper()
	c, _, err := rawmqtt.Dial(l.g.MQTT, rawmqtt.Options{ClientID: "looker", Clean: true})
	if err != nil {
		l.t.Fatal(err)
	}
	defer c.Close()
	kept, subs = map[string]string{}, map[string]bool{}
	c.SetDeadline(time.Now().Add(harness.Patience))
	c.Write(rawmqtt.AppendSubscribe(nil, false, 1, 1, "keep/#", markTopic)) // the mark comes behind all others
	for kept[markTopic] == "" {
		p, err := c.Next()
		if err != nil {
			l.t.Fatalf("reading what is retained: %v; so far %v", err, kept)
		}
		if p.Type == rawmqtt.Publish {
			kept[string(p.Topic)] = string(p.Payload)
		}
	}
	if l.keepsake.Steps() == 0 {
		return kept, subs, nil // it may not have a session yet
	}
	var s struct{ Subscriptions []struct{ Filter string } }
	out, errText, code := l.g.CLI("session", "show", "keepsake", "--json")
	if code != 0 {
		return kept, subs, fmt.Errorf("the session of the keepsake: %s", errText)
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		l.t.Fatalf("%v: %s", err, out)
	}
	for _, f := range s.Subscriptions {
		subs[f.Filter] = true
	}
	return kept, subs, nil
}

// remembered compares what the gateway, just started and alone, holds with what it said before.
func (l *lodge) remembered() []string {
	l.t.Helper()
	kept, subs, err := l.look()
	if err != nil {
		return []string{err.Error()}
	}
	return l.keepsake.Check(kept, subs)
}

// wrong drains the senders and tells what is missing, came twice or out of order.
func (l *lodge) wrong() (bad []string) {
	l.t.Helper()
	var done []uint64
	for _, s := range l.senders {
		s.Drain()
		done = append(done, s.Done())
	}
	for i, r := range l.receivers {
		r.Steady()
		bad = append(bad, l.tallies[i].WaitFor(done, quiet)...)
		bad = append(bad, l.tallies[i].Bad()...)
	}
	return bad
}

func (l *lodge) end() {
	l.t.Helper()
	l.gateway.Set("")
	l.keepsake.Stop()
	for _, r := range l.receivers {
		r.Stop()
	}
	l.g.Stop()
}

// Sessions with their subscriptions, retained messages, and QoS 2 both ways, through kill -9 at random moments: what was
// answered is remembered, and every message comes exactly once.
func TestSessionsSurviveKills(t *testing.T) {
	l := newLodge(t)
	kills := pick(6, 120)
	for i := range kills {
		time.Sleep(rand.N(500 * time.Millisecond)) // the moment is the chance in this test
		l.kill()
		if i%4 == 3 { // in the middle of the start
			l.g.Launch()
			time.Sleep(rand.N(60 * time.Millisecond))
			l.g.Kill()
		}
		l.g.Restart()
		for _, line := range l.remembered() {
			t.Errorf("after kill %d: %s", i+1, line)
		}
		l.gateway.Set(l.g.MQTT)
	}
	for _, line := range l.wrong() {
		t.Error(line)
	}
	if losses := l.g.Ledger(); len(losses) > 0 {
		t.Errorf("the ledger speaks of losses: %+v", losses)
	}
	total := uint64(0)
	for _, s := range l.senders {
		total += s.Done()
	}
	if total == 0 || l.keepsake.Steps() == 0 {
		t.Error("nothing was done")
	}
	t.Logf("%d kills; %d messages of QoS 2, each once at %d subscribers; %d subscriptions and retained messages changed", kills, total, len(l.receivers), l.keepsake.Steps())
	l.end()
}

// The negative control: a gateway that has forgotten its last second must be found out, by each of the checks.
func TestAForgetfulGatewayIsFoundOut(t *testing.T) {
	l := newLodge(t)
	// One more receiver, away while much is sent: what it is given after the copy, it is given again out of the copy.
	var door traffic.Target
	tally := traffic.NewTally("the late one", onceSenders, onceSize)
	tally.Once()
	tally.StartAnywhere()
	late := traffic.StartReceiver(&door, tally, traffic.KeeperOptions{ClientID: "late", Filter: "once/#"})
	door.Set(l.g.MQTT)
	if !late.Subscribed() {
		t.Fatal("no subscription at the gateway")
	}
	l.kill()
	door.Set("")
	l.up()
	sent := l.senders[0].Done()
	harness.Until(t, "everybody is at work", func() bool { return l.senders[0].Done() > sent+20 && l.keepsake.Steps() > 20 })
	l.kill()
	old := t.TempDir()
	l.copy(l.g.Dir, old)

	l.g.Restart()
	kept, subs, err := l.look()
	if err != nil {
		t.Fatal(err)
	}
	given, _ := tally.Counts()
	door.Set(l.g.MQTT)
	l.gateway.Set(l.g.MQTT)
	harness.Until(t, "the late one is given what it is owed", func() bool { n, _ := tally.Counts(); return n > given+10 })
	l.kill()
	door.Set("")
	// The keepsake's doings come round: it is left at one at which the old state shows.
	shows := func() bool {
		lines := strings.Join(l.keepsake.Check(kept, subs), "\n")
		return strings.Contains(lines, "retains") && strings.Contains(lines, "subscribed is")
	}
	for deadline := time.Now().Add(harness.Patience); !shows(); {
		if time.Now().After(deadline) {
			t.Fatalf("the keepsake, at step %d, never differs from what it was", l.keepsake.Steps())
		}
		l.up()
		step := l.keepsake.Steps()
		harness.Until(t, "the keepsake goes on", func() bool { return l.keepsake.Steps() > step+3 })
		l.kill()
	}

	if err := os.RemoveAll(l.g.Dir); err != nil {
		t.Fatal(err)
	}
	l.copy(old, l.g.Dir)
	l.g.Restart()
	lines := strings.Join(l.remembered(), "\n")
	for _, want := range []string{"retains", "subscribed is"} {
		if !strings.Contains(lines, want) {
			t.Errorf("nothing was said of what it %s: %q", want, lines)
		}
	}
	door.Set(l.g.MQTT)
	harness.Until(t, "QoS 2 without a memory is found not to be exactly once", func() bool { return len(tally.Bad()) > 0 })
	late.Stop()
	l.end()
}

// copy copies a data folder as it lies there.
func (l *lodge) copy(from, to string) {
	l.t.Helper()
	if out, err := exec.Command("cp", "-a", from+"/.", to).CombinedOutput(); err != nil {
		if os.MkdirAll(to, 0o755) == nil {
			out, err = exec.Command("cp", "-a", from+"/.", to).CombinedOutput()
		}
		if err != nil {
			l.t.Fatalf("%v: %s", err, out)
		}
	}
}
