package e2e_test

import (
	"fmt"
	"testing"

	"tidegate/test/harness"
	"tidegate/test/rawmqtt"
)

// A persistent subscriber that was away gets all it missed, in order: over a clean restart, over kill -9, and what was
// published between the two.
func TestAnAbsentSubscriberMissesNothing(t *testing.T) {
	g := harness.Start(t, harness.Options{})
	away := rawmqtt.Options{ClientID: "absent"}
	harness.ListenAs(t, g.MQTT, away, "news/#").Close()
	n := 0
	publish := func(count int) {
		t.Helper()
		c, _, err := rawmqtt.Dial(g.MQTT, rawmqtt.Options{ClientID: "reporter", Clean: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range count {
			n++
			c.Write(rawmqtt.AppendPublish(nil, false, fmt.Sprintf("news/%d", n%3), fmt.Appendf(nil, "item %d", n), 1, uint16(n), 0))
			if p, err := c.Next(); err != nil || p.Type != rawmqtt.Puback || p.ID != uint16(n) {
				t.Fatalf("publish %d: %+v, %v", n, p, err)
			}
		}
	}
	publish(100)
	g.Stop()
	g.Restart()
	publish(100)
	g.Kill()
	g.Restart()
	publish(100)
	ear := harness.ListenAs(t, g.MQTT, away)
	ear.Count(n)
	for i, h := range ear.All() {
		if want := (harness.Heard{Topic: fmt.Sprintf("news/%d", (i+1)%3), Payload: fmt.Sprintf("item %d", i+1), QoS: 1}); h != want {
			t.Fatalf("message %d: got %+v, want %+v", i+1, h, want)
		}
	}
	g.Stop()
}

// A retained message outlives kill -9 and is replaced and removed as the standard says.
func TestRetainedMessagesSurvive(t *testing.T) {
	g := harness.Start(t, harness.Options{})
	harness.MosquittoPub(t, g.MQTT, "state/a", "old", "-r")
	harness.MosquittoPub(t, g.MQTT, "state/a", "new", "-r")
	harness.MosquittoPub(t, g.MQTT, "state/b", "gone", "-r")
	harness.MosquittoPub(t, g.MQTT, "state/b", "", "-r")
	g.Kill()
	g.Restart()
	sub := harness.StartMosquittoSub(t, g.MQTT, "state/#")
	if got, want := sub.Next(), (harness.Heard{Topic: "state/a", Payload: "new", QoS: 1, Retain: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	harness.MosquittoPub(t, g.MQTT, "state/b", "live")
	if got, want := sub.Next(), (harness.Heard{Topic: "state/b", Payload: "live", QoS: 1}); got != want {
		t.Errorf("after the removal: got %+v, want %+v", got, want)
	}
}
