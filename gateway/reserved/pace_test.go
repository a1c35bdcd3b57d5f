package reserved_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

func TestRequestsAboutAThingAreBounded(t *testing.T) {
	h := newHouse(t)
	h.shadows.Limit(2)
	get := func(topic string, origin mqtt.Origin) string {
		return h.send(mqtt.Message{Topic: topic, Payload: []byte(`{"clientToken":"k"}`), Origin: origin})
	}
	const x = "$aws/things/x/shadow/get"
	if err := h.shadows.Admit("x"); err != nil { // one by another door
		t.Error(err)
	}
	dropped := errors.New("the unit comes to nothing")
	err := h.db.Wait(func(u *store.Unit) error { // and one that did not happen
		h.topics.Handle(u, &mqtt.Message{Topic: x}, func(mqtt.Message) {})
		return dropped
	})
	if err != dropped {
		t.Error(err)
	}
	if got := get(x, mqtt.Client); !strings.Contains(got, `"code":404`) {
		t.Errorf("the second: %s", got)
	}
	for _, origin := range []mqtt.Origin{mqtt.Client, mqtt.REST} {
		if got, want := get(x, origin), `get/rejected {"code":429,"message":"Too many requests: 2 a second are taken for one thing","timestamp":1700000000,"clientToken":"k"}`; got != want {
			t.Errorf("beyond the limit: %s\nwant %s", got, want)
		}
	}
	if err := h.shadows.Admit("x"); !fault.Is(err, fault.Throttled) {
		t.Errorf("another door: %v", err)
	}
	for _, origin := range []mqtt.Origin{mqtt.Device, mqtt.Cloud, mqtt.Rule} { // what is no client's is not counted
		if got := get(x, origin); !strings.Contains(got, `"code":404`) {
			t.Errorf("%v: %s", origin, got)
		}
	}
	if got := get("$aws/things/y/shadow/get", mqtt.Client); !strings.Contains(got, `"code":404`) {
		t.Errorf("another thing: %s", got)
	}
	h.clk.Advance(time.Second)
	if got := get(x, mqtt.Client); !strings.Contains(got, `"code":404`) {
		t.Errorf("a second later: %s", got)
	}
}

func TestRequestsOfAThingAboutItsJobsAreBounded(t *testing.T) {
	o := newOffice(t)
	o.thing("p")
	o.jobs.Limit(1)
	for range 2 {
		o.send("$aws/things/p/jobs/get", `{"clientToken":"k"}`)
	}
	o.hears(`
me get/accepted {"inProgressJobs":[],"queuedJobs":[],"timestamp":T,"clientToken":"k"}
me get/rejected {"code":"RequestThrottled","message":"Too many requests: 1 a second are taken for one thing","timestamp":T,"clientToken":"k"}`)
	if err := o.jobs.Admit("p"); !fault.Is(err, fault.Throttled) {
		t.Errorf("another door: %v", err)
	}
}
