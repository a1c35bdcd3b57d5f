package uplink_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/health"
	"tidegate/gateway/journal"
	"tidegate/gateway/logs"
	"tidegate/gateway/metrics"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqttclient"
	"tidegate/gateway/store"
	"tidegate/sync/uplink"
	"tidegate/test/faultnet"
	"tidegate/test/harness"
)

// house is what an uplink stands on: a store and a journal on a disk.
type house struct {
	t   *testing.T
	dir string
	db  *store.Store
	jr  *journal.Journal
	hp  *health.Health

	mu   sync.Mutex
	came []mqtt.Message            // down
	say  func(*mqtt.Message) error // what the road says to it
}

func newHouse(t *testing.T) *house {
	h := &house{t: t, dir: t.TempDir(), hp: health.New(clock.System())}
	h.open()
	t.Cleanup(func() { h.db.Close() })
	return h
}

func (h *house) open() {
	h.t.Helper()
	var err error
	if h.db, err = store.Open(store.DefaultConfig(h.dir), clock.System()); err != nil {
		h.t.Fatal(err)
	}
	if h.jr, err = journal.Open(h.db, clock.System(), nil, journal.DefaultConfig()); err != nil {
		h.t.Fatal(err)
	}
	h.db.Start()
}

// run starts an uplink; the returned function stops it.
func (h *house) run(cfg uplink.Config) (*uplink.Uplink, func()) {
	h.t.Helper()
	if cfg.Name == "" {
		cfg.Name = "up"
	}
	cfg.ClientID = "gateway"
	cfg.BackoffMin, cfg.BackoffMax = 10*time.Millisecond, 50*time.Millisecond
	u, err := uplink.New(cfg, uplink.Deps{Log: logs.Discard(), Clock: clock.System(), Health: h.hp, Store: h.db, Journal: h.jr, Submit: h.submit,
		Env: func(string) string { return "" }})
	if err != nil {
		h.t.Fatal(err)
	}
	if err := u.Create(); err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan error, 1)
	go func() { done <- u.Run(ctx, func() {}) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Errorf("the uplink ends with %v", err)
		}
	})
	h.t.Cleanup(stop)
	return u, stop
}

func (h *house) submit(m mqtt.Message, done func(error)) {
	h.mu.Lock()
	h.came = append(h.came, m)
	say := h.say
	h.mu.Unlock()
	var err error
	if say != nil {
		err = say(&m)
	}
	go done(err) // from another goroutine, as the road does
}

func (h *house) down() []mqtt.Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.came)
}

// put commits messages, each a record of its own.
func (h *house) put(ms ...mqtt.Message) {
	h.t.Helper()
	if err := h.db.Wait(func(u *store.Unit) error {
		for i := range ms {
			u.Append(journal.Block(mqtt.NewRun(&ms[i])))
		}
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
}

func numbered(topic string, from, n int) (ms []mqtt.Message) {
	for i := range n {
		ms = append(ms, mqtt.Message{Topic: topic, Payload: []byte(strconv.Itoa(from + i)), QoS: 1, From: "dev", At: time.Now()})
	}
	return ms
}

// ear listens at the upstream.
type ear struct {
	t   *testing.T
	in  chan *mqttclient.Message
	got map[string][]string
}

func listen(t *testing.T, url string) *ear {
	t.Helper()
	e := &ear{t: t, in: make(chan *mqttclient.Message, 100_000), got: map[string][]string{}}
	c, err := mqttclient.Connect(t.Context(), mqttclient.Config{URL: url, ClientID: "ear", OnMessage: func(m *mqttclient.Message) { e.in <- m; m.Ack() }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Subscribe(t.Context(), map[string]byte{"#": 1}); err != nil {
		t.Fatal(err)
	}
	return e
}

// until hears until topic has brought payload.
func (e *ear) until(topic, payload string) {
	e.t.Helper()
	patience := time.After(30 * time.Second)
	for !slices.Contains(e.got[topic], payload) {
		select {
		case m := <-e.in:
			e.got[m.Topic] = append(e.got[m.Topic], string(m.Payload))
		case <-patience:
			e.t.Fatalf("%s has not brought %s; it has brought %d messages, the last %q", topic, payload, len(e.got[topic]), e.last(topic))
		}
	}
}

func (e *ear) last(topic string) string {
	if l := e.got[topic]; len(l) > 0 {
		return l[len(l)-1]
	}
	return ""
}

// check asks that the numbers 0 to n-1 have come, each first after its predecessor.
func (e *ear) check(topic string, n int) (again int) {
	e.t.Helper()
	next := 0
	for _, s := range e.got[topic] {
		switch v, _ := strconv.Atoi(s); {
		case v == next:
			next++
		case v > next:
			e.t.Fatalf("%s brought %d where %d was due", topic, v, next)
		default:
			again++
		}
	}
	if next != n {
		e.t.Fatalf("%s brought %d messages, want %d", topic, next, n)
	}
	return again
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not yet: %s", what)
		}
	}
}

func TestMessagesGoUpByTheirRoutes(t *testing.T) {
	m := harness.StartMosquitto(t)
	e := listen(t, "mqtt://"+m.Addr)
	h := newHouse(t)
	zero := byte(0)
	u, stop := h.run(uplink.Config{URL: "mqtt://" + m.Addr, Up: []uplink.Route{
		{Filter: "dt/+/flow", Topic: "flow/{1}"}, {Filter: "dt/#", Topic: "site7/{rest}", QoS: &zero}}})
	h.put(mqtt.Message{Topic: "dt/p1/flow", Payload: []byte("a"), QoS: 1}, mqtt.Message{Topic: "private", Payload: []byte("b"), QoS: 1},
		mqtt.Message{Topic: "dt/p1/level", Payload: []byte("c")}, mqtt.Message{Topic: "dt/back", From: "up", Origin: mqtt.Cloud, Payload: []byte("d")},
		mqtt.Message{Topic: "dt/on", From: "other", Origin: mqtt.Cloud, Payload: []byte("e")})
	e.until("site7/on", "e")
	if len(e.got) != 3 || e.last("flow/p1") != "a" || e.last("site7/p1/level") != "c" {
		t.Errorf("came: %v", e.got)
	}
	until(t, "the cursor is at the end", func() bool { return u.Status().Lag == 0 })
	s := u.Status()
	if s.State != uplink.Up || s.Sent != 3 || s.Connects != 1 || s.BytesOut == 0 || s.InFlight != 0 || len(h.hp.Warnings()) != 0 {
		t.Errorf("status %+v, warnings %v", s, h.hp.Warnings())
	}
	u.Metrics(metrics.New())
	stop()
}

func TestNothingIsLostOnABadLink(t *testing.T) {
	const n, publishers = 1500, 3
	m := harness.StartMosquitto(t)
	e := listen(t, "mqtt://"+m.Addr)
	p := faultnet.New(t, m.Addr)
	h := newHouse(t)
	u, _ := h.run(uplink.Config{URL: "mqtt://" + p.Addr(), Up: []uplink.Route{{Filter: "#"}}, Window: 16})
	for i := 0; i < n; i += 50 {
		sent := u.Status().Sent
		for k := range publishers {
			h.put(numbered(fmt.Sprint("p", k), i, 50)...)
		}
		if i%250 == 0 {
			until(t, "some more are sent", func() bool { return u.Status().Sent > sent })
			p.Cut()
		}
	}
	again := 0
	for k := range publishers {
		topic := fmt.Sprint("p", k)
		e.until(topic, strconv.Itoa(n-1))
		again += e.check(topic, n)
	}
	s := u.Status()
	t.Logf("%d messages over %d connections, %d twice", publishers*n, s.Connects, again)
	if s.Connects < 4 || s.Lost != 0 {
		t.Errorf("status %+v", s)
	}
}

func TestAnUpstreamThatIsAwayGetsEverythingLater(t *testing.T) {
	m := harness.StartMosquitto(t)
	p := faultnet.New(t, m.Addr)
	h := newHouse(t)
	cfg := uplink.Config{URL: "mqtt://" + p.Addr(), Up: []uplink.Route{{Filter: "#"}}}
	u, stop := h.run(cfg)
	until(t, "it is up", func() bool { return u.Status().State == uplink.Up })
	p.Refuse(true) // so that the ear is the first to be back
	m.Stop()
	h.put(numbered("p", 0, 200)...)
	until(t, "there is a warning", func() bool { return len(h.hp.Warnings()) == 1 })
	if w := h.hp.Warnings()[0]; w.Code != "upstream-down/up" || !strings.Contains(w.Text, p.Addr()) {
		t.Errorf("warning %+v", w)
	}
	if s := u.Status(); s.Lag < 200 || s.State == uplink.Up || s.Err == nil {
		t.Errorf("status %+v", s)
	}

	stop() // and the gateway restarts meanwhile
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	h.open()
	u, _ = h.run(cfg)
	h.put(numbered("p", 200, 100)...)
	m.Start()
	e := listen(t, "mqtt://"+m.Addr)
	p.Refuse(false)
	e.until("p", "299")
	e.check("p", 300)
	until(t, "the warning is gone", func() bool { return len(h.hp.Warnings()) == 0 })
	if s := u.Status(); s.Lost != 0 {
		t.Errorf("status %+v", s)
	}
}

func TestABlackHoleIsNoticed(t *testing.T) {
	m := harness.StartMosquitto(t)
	e := listen(t, "mqtt://"+m.Addr)
	p := faultnet.New(t, m.Addr)
	h := newHouse(t)
	u, _ := h.run(uplink.Config{URL: "mqtt://" + p.Addr(), Up: []uplink.Route{{Filter: "#"}}, AckTimeout: time.Second, Window: 8})
	until(t, "it is up", func() bool { return u.Status().State == uplink.Up })
	p.BlackHole(true)
	h.put(numbered("p", 0, 100)...)
	until(t, "it is noticed", func() bool { return len(h.hp.Warnings()) == 1 })
	if s := u.Status(); s.InFlight > 8 || s.Sent != 0 {
		t.Errorf("status %+v", s)
	}
	p.Cut() // what was held back must not come through late
	p.BlackHole(false)
	e.until("p", "99")
	e.check("p", 100)
}

// A handshake that takes longer than the longest pause is not a session that was of
// use: the pauses must go on growing. (They once began anew after every such attempt.)
func TestSlowFailuresBackOffLikeQuickOnes(t *testing.T) {
	h := newHouse(t)
	clk := clocktest.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	dials := 0
	u, err := uplink.New(uplink.Config{Name: "up", URL: "mqtt://h", Up: []uplink.Route{{Filter: "#"}}}, uplink.Deps{
		Log: logs.New(&log, logs.DefaultConfig()), Clock: clk, Health: h.hp, Store: h.db, Journal: h.jr, Submit: h.submit,
		Jitter: func() float64 { return 0 },
		Dial: func(context.Context, string, string) (net.Conn, error) {
			clk.Advance(2 * time.Minute)
			if dials++; dials == 5 {
				cancel()
			}
			return nil, errors.New("no answer")
		}})
	if err != nil {
		t.Fatal(err)
	}
	var pauses sync.WaitGroup
	pauses.Go(func() { // ends every pause soon after it has begun
		for ; ctx.Err() == nil; time.Sleep(time.Millisecond) {
			if clk.Waiting() > 0 {
				clk.Advance(2 * time.Minute)
			}
		}
	})
	err = u.Run(ctx, func() {})
	cancel()
	pauses.Wait()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"attempt=1\n", "attempt=2\n", "attempt=4\n"} {
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("%q is not there once in\n%s", want, log.String())
		}
	}
}

func TestMessagesComeDownAndAreKeptBeforeTheyAreAcknowledged(t *testing.T) {
	m := harness.StartMosquitto(t)
	h := newHouse(t)
	full := true
	h.say = func(m *mqtt.Message) error { // called one at a time
		switch string(m.Payload) {
		case "2":
			if full {
				full = false
				return fault.New(fault.Full, "the disk is full")
			}
		case "3":
			return errors.New("no such thing")
		}
		return nil
	}
	cfg := uplink.Config{URL: "mqtt://" + m.Addr, Down: []uplink.Route{{Filter: "cmd/site7/#", Topic: "cmd/{rest}"}}}
	u, stop := h.run(cfg)
	until(t, "it is up", func() bool { return u.Status().State == uplink.Up })
	for i := range 5 {
		harness.MosquittoPub(t, m.Addr, "cmd/site7/valve", strconv.Itoa(i))
	}
	arrived := func() string {
		var s []string
		for _, m := range h.down() {
			s = append(s, string(m.Payload))
		}
		return strings.Join(s, "")
	}
	until(t, "all have come", func() bool { return strings.HasSuffix(arrived(), "4") })
	if s := arrived(); !strings.HasPrefix(s, "012") || !strings.Contains(s[3:], "2") {
		t.Errorf("came %s: what could not be taken must come again", s)
	}
	if got := h.down()[0]; got.Topic != "cmd/valve" || got.From != "up" || got.Origin != mqtt.Cloud || got.QoS != 1 {
		t.Errorf("came %+v", got)
	}
	if s := u.Status(); s.Dropped == 0 || s.Connects < 2 {
		t.Errorf("status %+v", s)
	}
	stop()
	harness.MosquittoPub(t, m.Addr, "cmd/site7/valve", "while away")
	h.run(cfg)
	until(t, "what was sent while away has come", func() bool { return strings.HasSuffix(arrived(), "while away") })
}
