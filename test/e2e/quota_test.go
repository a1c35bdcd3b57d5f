package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"tidegate/test/harness"
	"tidegate/test/rawmqtt"
)

// A subscriber that stays away past the quota of a session has a gap. The session, the ledger and a metric tell of it, over
// a kill -9, and what is left comes in order.
func TestASessionPastItsQuotaTells(t *testing.T) {
	g := harness.Start(t, harness.Options{Config: "broker: {session_messages: 160}\n"})
	away := rawmqtt.Options{ClientID: "absent"}
	harness.ListenAs(t, g.MQTT, away, "news/#").Close()
	c, _, err := rawmqtt.Dial(g.MQTT, rawmqtt.Options{ClientID: "reporter", Clean: true})
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 500; n++ {
		c.Write(rawmqtt.AppendPublish(nil, false, "news/a", fmt.Appendf(nil, "item %d", n), 1, uint16(n), 0))
		if p, err := c.Next(); err != nil || p.Type != rawmqtt.Puback {
			t.Fatalf("publish %d: %+v, %v", n, p, err)
		}
	}
	c.Close()
	type gap struct {
		From, To, Count uint64
		Why             string
	}
	var lost uint64
	tell := func() (s struct {
		Lost uint64
		Gaps []gap
	}) {
		t.Helper()
		harness.Until(t, "the session is within its quota, and the ledger knows", func() bool {
			out, _, _ := g.CLI("session", "show", "absent", "--json")
			s.Gaps = nil
			if err := json.Unmarshal([]byte(out), &s); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for _, l := range g.Ledger() {
				if l.Queue == "session/absent" && len(s.Gaps) == 1 && l.Count == s.Lost && l.From == s.Gaps[0].From && l.To == s.Gaps[0].To {
					return s.Lost >= 340
				}
			}
			return false
		})
		return s
	}
	s := tell()
	if lost = s.Lost; lost > 350 || s.Gaps[0].Count != lost || s.Gaps[0].To-s.Gaps[0].From+1 != lost || s.Gaps[0].Why != "the session's quota of 160 messages" {
		t.Fatalf("%+v", s)
	}
	if n, ok := g.Metric("tidegate_broker_dropped_total", `reason="session quota"`); !ok || uint64(n) != lost {
		t.Errorf("the metric says %v", n)
	}
	g.Kill()
	g.Restart()
	if again := tell(); again.Lost != lost {
		t.Fatalf("%d before the kill, %d after", lost, again.Lost)
	}
	for _, args := range []string{"session ls", "session show absent", "ledger"} {
		out, _, code := g.CLI(strings.Fields(args)...)
		if code != 0 || !strings.Contains(out, fmt.Sprint(lost)) || !strings.Contains(out, "absent") {
			t.Errorf("%s: %d\n%s", args, code, out)
		}
	}
	ear := harness.ListenAs(t, g.MQTT, away)
	ear.Count(500 - int(lost))
	for i, h := range ear.All() {
		if want := fmt.Sprintf("item %d", i+1+int(lost)); h.Payload != want {
			t.Fatalf("message %d: got %q, want %q", i+1, h.Payload, want)
		}
	}
	g.Stop()
}
