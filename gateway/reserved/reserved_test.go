package reserved_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/reserved"
	"tidegate/gateway/shadow"
	"tidegate/gateway/store"
)

const t0 = 1_700_000_000

type house struct {
	t       *testing.T
	topics  *reserved.Topics
	shadows *reserved.Shadows
	db      *store.Store
	clk     *clocktest.Manual
}

func newHouse(t *testing.T) *house {
	clk := clocktest.New(time.Unix(t0, 0))
	cfg := store.DefaultConfig(t.TempDir())
	cfg.Ballast = -1
	db, err := store.Open(cfg, clk)
	if err != nil {
		t.Fatal(err)
	}
	db.Start()
	t.Cleanup(func() { _ = db.Close() })
	topics := reserved.New()
	shadows := reserved.NewShadows(shadow.New(clk, shadow.DefaultLimits()), clk, slog.New(slog.DiscardHandler))
	topics.Serve(awstopic.Shadow, shadows.Handle)
	return &house{t, topics, shadows, db, clk}
}

// send has m handled and gives what it caused, as "topic payload" lines.
func (h *house) send(m mqtt.Message) string {
	h.t.Helper()
	var out []string
	err := h.db.Wait(func(u *store.Unit) error {
		out = nil
		return h.topics.Handle(u, &m, func(r mqtt.Message) {
			if r.QoS != 1 || r.Retain || r.Origin != mqtt.Service {
				h.t.Errorf("reply with wrong flags: %+v", r)
			}
			if h.topics.Handles(r.Topic) {
				h.t.Errorf("a reply is a request: %s", r.Topic)
			}
			out = append(out, strings.TrimPrefix(r.Topic, "$aws/things/x/shadow/")+" "+string(r.Payload))
		})
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.Join(out, "\n")
}

func TestShadowRequestsAreAnswered(t *testing.T) {
	h := newHouse(t)
	for _, step := range []struct{ topic, payload, want string }{
		{"get", "", `get/rejected {"code":404,"message":"No shadow exists with name: 'x'","timestamp":T}`},
		{"name/cfg/get", `{"clientToken":"k"}`, `name/cfg/get/rejected {"code":404,"message":"No shadow exists with name: 'cfg'","timestamp":T,"clientToken":"k"}`},
		{"delete", "", `delete/rejected {"code":404,"message":"No shadow exists with name: 'x'","timestamp":T}`},
		{"update", `{"state":{"desired":{"a":1}},"clientToken":"\"q\""}`, `
update/delta {"state":{"a":1},"metadata":{"a":{"timestamp":T}},"version":1,"timestamp":T,"clientToken":"\"q\""}
update/documents {"previous":null,"current":{"state":{"desired":{"a":1}},"metadata":{"desired":{"a":{"timestamp":T}}},"version":1},"timestamp":T,"clientToken":"\"q\""}
update/accepted {"state":{"desired":{"a":1}},"metadata":{"desired":{"a":{"timestamp":T}}},"version":1,"timestamp":T,"clientToken":"\"q\""}`},
		{"update", `{"state":{"reported":{"a":1}}}`, `
update/documents {"previous":{"state":{"desired":{"a":1}},"metadata":{"desired":{"a":{"timestamp":T}}},"version":1},"current":{"state":{"desired":{"a":1},"reported":{"a":1}},"metadata":{"desired":{"a":{"timestamp":T}},"reported":{"a":{"timestamp":T}}},"version":2},"timestamp":T}
update/accepted {"state":{"reported":{"a":1}},"metadata":{"reported":{"a":{"timestamp":T}}},"version":2,"timestamp":T}`},
		{"update", `{"state":{"reported":{"a":2}},"version":1,"clientToken":"z"}`, `update/rejected {"code":409,"message":"Version conflict","timestamp":T,"clientToken":"z"}`},
		{"update", "\xff", `update/rejected {"code":415,"message":"Unsupported documented encoding; supported encoding is UTF-8","timestamp":T}`},
		{"update", strings.Repeat("x", 131073), `update/rejected {"code":413,"message":"The payload exceeds the maximum size allowed","timestamp":T}`},
		{"get", "{", `get/rejected {"code":400,"message":"Invalid JSON","timestamp":T}`},
		{"get", `{"clientToken":"g"}`, `get/accepted {"state":{"desired":{"a":1},"reported":{"a":1}},"metadata":{"desired":{"a":{"timestamp":T}},"reported":{"a":{"timestamp":T}}},"version":2,"timestamp":T,"clientToken":"g"}`},
		{"name/cfg/update", `{"state":null}`, `
name/cfg/update/documents {"previous":null,"current":{"state":{},"metadata":{},"version":1},"timestamp":T}
name/cfg/update/accepted {"state":null,"metadata":{"timestamp":T},"version":1,"timestamp":T}`},
		{"delete", `{"clientToken":"d"}`, `delete/accepted {"version":2,"timestamp":T,"clientToken":"d"}`},
		{"name/bad name/get", `{"clientToken":""}`, `name/bad name/get/rejected {"code":400,"message":"Invalid shadow name","timestamp":T,"clientToken":""}`},
	} {
		topic := "$aws/things/x/shadow/" + step.topic
		if !h.topics.Handles(topic) {
			t.Errorf("%s is not handled", topic)
		}
		want := strings.TrimPrefix(strings.ReplaceAll(step.want, ":T", fmt.Sprint(":", t0)), "\n")
		if got := h.send(mqtt.Message{Topic: topic, Payload: []byte(step.payload)}); got != want {
			t.Errorf("%s %.80s:\n got %s\nwant %s", step.topic, step.payload, got, want)
		}
	}
}

func TestWhatNobodyWantsIsNotMade(t *testing.T) {
	h := newHouse(t)
	h.shadows.Wanted = func(topic string) bool { return strings.HasSuffix(topic, "/delta") }
	got := h.send(mqtt.Message{Topic: "$aws/things/x/shadow/update", Payload: []byte(`{"state":{"desired":{"a":1}}}`)})
	if !strings.Contains(got, "update/delta ") || strings.Contains(got, "accepted") || strings.Contains(got, "documents") {
		t.Errorf("got %s", got)
	}
}

func TestAWillIsNoShadowRequest(t *testing.T) {
	h := newHouse(t)
	m := mqtt.Message{Topic: "$aws/things/x/shadow/update", Payload: []byte(`{"state":{"reported":{"connected":false}}}`), Origin: mqtt.Will}
	if got := h.send(m); got != "" {
		t.Errorf("a will was processed: %s", got)
	}
	m.Origin = mqtt.Rule // what a rule republishes is
	if got := h.send(m); !strings.Contains(got, "update/accepted") {
		t.Errorf("a rule's message was not processed: %s", got)
	}
}

func TestWhatIsHandled(t *testing.T) {
	h := newHouse(t)
	for topic, want := range map[string]bool{
		"$aws/things/x/shadow/get": true, "$aws/things/x/shadow/name/y/delete": true, "$aws/things/x/shadow/get/accepted": false,
		"$aws/things/x/shadow/update/delta": false, "$aws/things/x/jobs/get": false, "$aws/rules/r/a": false, "things/x/shadow/get": false, "$aws/nonsense": false,
	} {
		if got := h.topics.Handles(topic); got != want {
			t.Errorf("%s: %v", topic, got)
		}
	}
	if got := h.send(mqtt.Message{Topic: "$aws/things/x/jobs/get"}); got != "" {
		t.Errorf("a topic without a service is answered: %s", got)
	}
}

func TestWhoChangesAShadowIsTold(t *testing.T) {
	h := newHouse(t)
	var out []mqtt.Message
	commit := func(build func(u *store.Unit, emit func(mqtt.Message)) error, done func(error)) error {
		return h.db.Do(func(u *store.Unit) error {
			out = nil
			return build(u, func(m mqtt.Message) { out = append(out, m) })
		}, func(_ []uint64, err error) { done(err) })
	}
	ask := reserved.Ask{ID: shadow.ID{Thing: "x"}, Request: []byte(`{"state":{"desired":{"a":1}}}`), Who: shadow.Who{By: "uid:7", From: "shell"}}
	for _, del := range []bool{false, true} {
		ask.Delete = del
		accepted, err := h.shadows.Do(commit, ask)
		if err != nil || len(accepted) == 0 || len(out) == 0 {
			t.Fatalf("%s, %v", accepted, err)
		}
		for _, m := range out {
			if m.Principal != "uid:7" || m.From != "shell" {
				t.Errorf("%s is in the name of %q from %q", m.Topic, m.Principal, m.From)
			}
		}
	}
	if _, err := h.shadows.Do(commit, ask); err == nil {
		t.Error("deleted twice")
	}
	m := mqtt.Message{Topic: "$aws/things/x/shadow/update", Payload: ask.Request, From: "c1", Principal: "p1"}
	err := h.db.Wait(func(u *store.Unit) error {
		return h.topics.Handle(u, &m, func(r mqtt.Message) {
			if r.From != "c1" || r.Principal != "p1" {
				t.Errorf("%s is in the name of %q from %q", r.Topic, r.Principal, r.From)
			}
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}
