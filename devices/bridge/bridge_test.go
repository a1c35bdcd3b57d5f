package bridge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/devices/bridge"
	"tidegate/devices/drivers/modbus"
	"tidegate/devices/drivers/serialline"
	"tidegate/devices/manager"
	"tidegate/devices/profile"
	"tidegate/gateway/broker"
	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/health"
	"tidegate/gateway/ingest"
	"tidegate/gateway/journal"
	"tidegate/gateway/logs"
	"tidegate/gateway/metrics"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/reserved"
	"tidegate/gateway/rules"
	"tidegate/gateway/shadow"
	"tidegate/gateway/store"
	"tidegate/hw/board/simboard"
)

// everybody is a broker.Authorizer for a broker without clients.
type everybody struct{}

func (everybody) Connect(*broker.ConnectRequest) (broker.Principal, error) { return anybody{}, nil }
func (everybody) Restore(string, string) broker.Principal                  { return anybody{} }
func (everybody) MayPublish(broker.Principal, string, bool) bool           { return true }
func (everybody) MaySubscribe(broker.Principal, string) bool               { return true }
func (everybody) MayReceive(broker.Principal, string) bool                 { return true }

type anybody struct{}

func (anybody) Name() string { return "anybody" }

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// house is the simulated field bus, the manager, the bridge and the road over real rooms.
type house struct {
	t       *testing.T
	said    *lines // what the bridge has logged
	board   *simboard.Board
	health  *health.Health
	db      *store.Store
	jr      *journal.Journal
	shadows *shadow.Room
	road    *ingest.Road
	full    atomic.Bool // the road takes nothing
	got     chan mqtt.Message
}

func open(t *testing.T, silentAfter time.Duration, before func(h *house)) *house {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	clk, log := clock.System(), logs.Discard()
	h := &house{t: t, said: &lines{}, health: health.New(clk), got: make(chan mqtt.Message, 10000)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	run := func(f func(context.Context, func()) error) {
		wg.Go(func() {
			if err := f(ctx, func() {}); err != nil {
				t.Error(err)
			}
		})
	}
	var err error
	sc := store.DefaultConfig(t.TempDir())
	sc.Ballast = 0
	h.db, err = store.Open(sc, clk)
	must(err)
	h.jr, err = journal.Open(h.db, clk, log, journal.DefaultConfig())
	must(err)
	br, err := broker.Open(broker.DefaultConfig(), broker.Deps{Store: h.db, Journal: h.jr, Clock: clk, Log: log, Auth: everybody{}})
	must(err)
	h.shadows = shadow.New(clk, shadow.DefaultLimits())
	topics := reserved.New()
	topics.Serve(awstopic.Shadow, reserved.NewShadows(h.shadows, clk, log).Handle)
	eng, err := rules.New(nil, rules.Deps{Clock: clk, Log: log, Account: "000000000000"})
	must(err)
	h.road = ingest.New(h.db, h.jr, br, eng, topics, clk, log)
	br.OnPublish(h.road)
	h.board, err = simboard.Open(clk)
	must(err)
	c := manager.SimulatedConfig()
	c.Buses = c.Buses[1:]
	c.Buses[1].Timeout, c.Buses[1].Devices[0].Every, c.Buses[1].Devices[0].SilentAfter = 50*time.Millisecond, 100*time.Millisecond, silentAfter
	dm, err := manager.New(map[string]profile.Attach{profile.Modbus: modbus.Attach, profile.JSON: serialline.Attach}, manager.Host{Resolve: h.board.Resolve},
		h.health, clk, log, c)
	must(err)
	cfg := bridge.DefaultConfig()
	must(cfg.Validate())
	b := bridge.New(bridge.Deps{Devices: dm, Submit: h.submit, Watch: br.Watch, Health: h.health, Clock: clk, Log: slog.New(slog.NewTextHandler(h.said, nil)),
		Miss: func(n uint64, why string) { h.jr.Miss("readings", n, why) },
		Shadow: func(thing string) (shadow.Document, bool, error) {
			return h.shadows.Load(h.db, shadow.ID{Thing: thing})
		}}, cfg)
	b.Metrics(metrics.New())
	br.Watch("#", h.keep)
	br.Watch(awstopic.Prefix+"#", h.keep)
	run(h.db.Run)
	run(br.Run)
	run(h.board.Run)
	if before != nil {
		before(h)
	}
	run(b.Run)
	run(dm.Run)
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		h.board.Close()
		if err := h.db.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *house) submit(m mqtt.Message, done func(error)) {
	if h.full.Load() {
		done(fault.New(fault.Full, "the disk is full"))
		return
	}
	h.road.Submit(m, done)
}

func (h *house) keep(run *mqtt.Run) {
	for i := range run.Len() {
		m := run.Message(i)
		m.Payload = append([]byte(nil), m.Payload...)
		select {
		case h.got <- m:
		default:
		}
	}
}

// until gives the first message on topic that ok says was waited for.
func (h *house) until(topic string, ok func(text string) bool) mqtt.Message {
	h.t.Helper()
	patience := time.After(20 * time.Second)
	for {
		select {
		case m := <-h.got:
			if m.Topic == topic && ok(string(m.Payload)) {
				return m
			}
		case <-patience:
			h.t.Fatalf("nothing came on %s; health %v", topic, h.health.Warnings())
		}
	}
}

func holds(parts ...string) func(string) bool {
	return func(text string) bool {
		for _, p := range parts {
			if !strings.Contains(text, p) {
				return false
			}
		}
		return true
	}
}

const shadowTopic = awstopic.Prefix + "things/pump1/shadow/"

// desire changes the shadow as a client would.
func (h *house) desire(format string, args ...any) {
	h.t.Helper()
	done := make(chan error, 1)
	h.road.Submit(mqtt.Message{Topic: shadowTopic + "update", Payload: fmt.Appendf(nil, `{"state":{"desired":`+format+`}}`, args...), QoS: 1, From: "app",
		Origin: mqtt.Client, At: time.Now()}, func(err error) { done <- err })
	if err := <-done; err != nil {
		h.t.Fatal(err)
	}
}

// settled waits for the shadow to have no delta and reported to hold parts.
func (h *house) settled(parts ...string) {
	h.t.Helper()
	h.until(shadowTopic+"update/documents", func(string) bool {
		d, ok, err := h.shadows.Load(h.db, shadow.ID{Thing: "pump1"})
		if err != nil || !ok {
			return false
		}
		_, open := d.Delta()
		return !open && holds(parts...)(document(d))
	})
}

func document(d shadow.Document) string {
	text := ""
	for _, m := range d.Reported.Kids() {
		text += m.Key + "=" + m.Value.Text() + " "
	}
	return text
}

func TestReadingsBecomeMessages(t *testing.T) {
	t.Parallel()
	h := open(t, 0, nil)
	m := h.until("dt/pump1/process", holds("pressure"))
	var doc struct {
		Time   time.Time
		TS     int64
		Thing  string
		Points map[string]struct {
			Value   any
			Unit    string
			Quality string
		}
	}
	dec := json.NewDecoder(strings.NewReader(string(m.Payload)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		t.Fatalf("%v: %s", err, m.Payload)
	}
	p := doc.Points["pressure"]
	if doc.Thing != "pump1" || len(doc.Points) != 4 || p.Value != 1.2 || p.Unit != "bar" || p.Quality != "good" ||
		doc.Time.UnixMilli() != doc.TS || time.Since(doc.Time) > time.Minute || m.QoS != 1 || m.Origin != mqtt.Device || m.From != "pump1" {
		t.Errorf("message %+v\n%s", m, m.Payload)
	}
	h.until("dt/weather/air", holds(`"temperature"`, `"unit":"°C"`))
}

func TestWhatIsDesiredIsWrittenAndReported(t *testing.T) {
	t.Parallel()
	h := open(t, 0, nil)
	h.settled("pump=false", "setpoint=45") // what the device has is reported by itself
	h.desire(`{"pump":true,"setpoint":50.5,"other":{"x":1}}`)
	h.until(shadowTopic+"update/documents", holds(`"reported":{"pump":true,"setpoint":50.5}`))
	if !h.board.Coil(0) || h.board.Holding(0) != 505 {
		t.Errorf("coil %v, register %d", h.board.Coil(0), h.board.Holding(0))
	}
	h.desire(`{"other":null}`)
	h.board.SetCoil(0, false) // by hand: told, and not fought over
	h.until(shadowTopic+"update/documents", holds(`"current":{"state":{"desired":{"pump":true,"setpoint":50.5},"reported":{"pump":false,"setpoint":50.5}}`))
	h.until("dt/pump1/process", holds("flow"))
	if h.board.Coil(0) {
		t.Error("what was switched by hand was switched back")
	}
	said := time.Now().Unix() // shadows date to the second
	h.until("dt/pump1/process", func(string) bool { return time.Now().Unix() > said })
	h.desire(`{"pump":true}`) // said again, it counts again
	h.settled("pump=true")
}

func TestAValueTheDeviceCannotTakeIsToldOnceAndNotTriedAgain(t *testing.T) {
	t.Parallel()
	h := open(t, 0, nil)
	h.settled("pump=false", "setpoint=45")
	h.desire(`{"setpoint":99,"pump":"on"}`)
	for _, want := range [][]string{{`"point":"pump"`, `"desired":"on"`, `"value":false`, `"error":"invalid"`, "expected true or false"},
		{`"point":"setpoint"`, `"desired":99`, `"value":45`, `"error":"invalid"`, "expected 5 to 80"}} {
		m := h.until("dt/pump1/errors", func(string) bool { return true })
		if !holds(want...)(string(m.Payload)) || !json.Valid(m.Payload) {
			t.Errorf("got %s, want %q", m.Payload, want)
		}
	}
	// The line in the log once said its reason twice.
	if said := h.said.String(); strings.Count(said, "expected 5 to 80") != 1 || strings.Count(said, "expected true or false") != 1 {
		t.Errorf("logged %s", said)
	}
	ws := h.health.Warnings()
	if len(ws) != 2 || ws[0].Code != "desired-refused/pump1.pump" || ws[1].Code != "desired-refused/pump1.setpoint" || !ws[0].Minor {
		t.Errorf("warnings %v", ws)
	}
	rounds := 0
	for rounds < 10 { // a second of readings
		select {
		case m := <-h.got:
			switch {
			case m.Topic == "dt/pump1/process":
				rounds++
			case m.Topic == "dt/pump1/errors", m.Topic == shadowTopic+"update" && m.From == "pump1":
				t.Errorf("more is said: %s %s", m.Topic, m.Payload)
			}
		case <-t.Context().Done():
			t.Fatal("no readings")
		}
	}
	h.desire(`{"setpoint":60,"pump":null}`)
	h.settled("setpoint=60", "pump=false")
	if ws := h.health.Warnings(); len(ws) != 0 {
		t.Errorf("warnings %v", ws)
	}
}

func TestADeviceThatComesBackGetsWhatIsDesired(t *testing.T) {
	t.Parallel()
	h := open(t, 500*time.Millisecond, func(h *house) {
		h.desire(`{"pump":true}`) // before anything runs
	})
	h.settled("pump=true")
	h.board.Unplug("sim:plc")
	h.until("dt/pump1/control", holds(`"quality":"stale"`))
	h.desire(`{"pump":true,"setpoint":33}`)
	h.desire(`{"setpoint":44}`)
	h.board.SetCoil(0, false) // it lost its memory with its power
	if err := h.board.Plug("sim:plc"); err != nil {
		t.Fatal(err)
	}
	h.settled("pump=true", "setpoint=44")
	if !h.board.Coil(0) || h.board.Holding(0) != 440 {
		t.Errorf("coil %v, register %d", h.board.Coil(0), h.board.Holding(0))
	}
}

func TestWhileTheRoadTakesNothingTheNewestWaits(t *testing.T) {
	t.Parallel()
	h := open(t, 0, nil)
	h.until("dt/pump1/process", holds("flow"))
	h.full.Store(true)
	for end := time.After(20 * time.Second); len(h.health.Warnings()) == 0 || len(h.jr.Ledger(time.Time{}, 0)) == 0; {
		select {
		case <-h.got:
		case <-time.After(20 * time.Millisecond):
		case <-end:
			t.Fatal("no warning")
		}
	}
	if w := h.health.Warnings()[0]; w.Code != "readings-refused" || !strings.Contains(w.Text, "the disk is full") {
		t.Errorf("warning %+v", w)
	}
	h.full.Store(false)
	h.until("dt/pump1/process", holds("flow"))
	h.until("dt/weather/air", holds("temperature"))
	if ws := h.health.Warnings(); len(ws) != 0 {
		t.Errorf("warnings %v", ws)
	}
	if ls := h.jr.Ledger(time.Time{}, 0); len(ls) != 1 || ls[0].Name != "readings" || ls[0].Count == 0 || ls[0].Why != "the disk is full" {
		t.Errorf("what was not kept is not in the ledger: %+v", ls)
	}
}

func TestConfigIsCheckedAsAWhole(t *testing.T) {
	for _, c := range []struct {
		change func(c *bridge.Config)
		says   string
	}{
		{func(c *bridge.Config) { c.Topic = "dt/{thing}/{group}" }, "topic: has {group}, expected {thing}, {point-group}, {device}"},
		{func(c *bridge.Config) { c.Topic = "dt/{thing}/#" }, "topic: is "},
		{func(c *bridge.Config) { c.Topic = "dt/{thing" }, "topic: is "},
		{func(c *bridge.Config) { c.Topic = awstopic.Prefix + "things/{thing}/shadow/update/accepted" }, "which is reserved"},
		{func(c *bridge.Config) { c.Errors = "" }, "errors: is "},
		{func(c *bridge.Config) { c.Time = "iso" }, "time: is \"iso\""},
		{func(c *bridge.Config) { c.InFlight = 0 }, "in_flight: is 0"},
	} {
		cfg := bridge.DefaultConfig()
		c.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v, want %q", err, c.says)
		}
	}
	cfg := bridge.DefaultConfig()
	cfg.Topic = awstopic.Prefix + "rules/filter/dt/{device}"
	if err := cfg.Validate(); err != nil {
		t.Errorf("basic ingest: %v", err)
	}
}

var _ bridge.Devices = (*manager.Manager)(nil)
