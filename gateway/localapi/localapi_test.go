package localapi_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/health"
	"tidegate/gateway/localapi"
	"tidegate/gateway/localapi/localclient"
	"tidegate/gateway/logs"
	"tidegate/gateway/metrics"
	"tidegate/gateway/mqtt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// house answers for the rooms.
type house struct {
	hp  *health.Health
	clk *clocktest.Manual

	mu        sync.Mutex
	submitted []mqtt.Message
	refuse    error
	follow    map[int]func(*mqtt.Run)
	kept      []mqtt.Message // in the journal
}

func (h *house) deliver(m mqtt.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, fn := range h.follow {
		fn(mqtt.NewRun(&m))
	}
}

func (h *house) deps() localapi.Deps {
	return localapi.Deps{
		Log: logs.Discard(), Clock: h.clk, Health: h.hp,
		Status: func() localclient.Status { return localclient.Status{Data: "here", Clients: 3} },
		Submit: func(m mqtt.Message, done func(error)) {
			h.mu.Lock()
			defer h.mu.Unlock()
			err := m.Check()
			if err == nil {
				err = h.refuse
			}
			if err == nil {
				h.submitted = append(h.submitted, m)
			}
			done(err)
		},
		Follow: func(filter string, fn func(*mqtt.Run)) (func(), error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			id := len(h.follow)
			h.follow[id] = func(r *mqtt.Run) {
				if mqtt.Match(filter, r.Topic) {
					fn(r)
				}
			}
			return func() { h.mu.Lock(); delete(h.follow, id); h.mu.Unlock() }, nil
		},
		History: func(fn func(*mqtt.Run, uint64) bool) error {
			if !fn(nil, 7) {
				return nil
			}
			for _, m := range h.kept {
				if !fn(mqtt.NewRun(&m), 0) {
					return nil
				}
			}
			return nil
		},
		Devices: func() []localclient.Device { return []localclient.Device{{Name: "gps", State: "good"}} },
		TestDevice: func(_ context.Context, name string) ([]localclient.Reading, error) {
			if name != "gps/1 x" {
				return nil, fault.New(fault.NotFound, "no device is called %q", name)
			}
			return []localclient.Reading{{Point: "lat", Value: []byte("47.5"), Unit: "deg", Quality: "good", At: noon}}, nil
		},
		Upstreams: func() []localclient.Upstream { return []localclient.Upstream{{Name: "cloud", State: "up"}} },
		ForgetUpstream: func(name string) error {
			if name == "cloud" {
				return fault.New(fault.Conflict, "upstream cloud is configured")
			}
			return nil
		},
		Ledger: func(since time.Time, max int) []localclient.Loss {
			return []localclient.Loss{{Queue: "journal", From: 1, To: 9, Count: 9, At: since, Why: "quota"}}[:min(max, 1)]
		},
	}
}

// start serves the API; dir is the data folder.
func start(t *testing.T, dir string) (h *house, c *localclient.Client, metricsURL string) {
	t.Helper()
	h = &house{hp: health.New(clocktest.New(noon)), clk: clocktest.New(noon), follow: map[int]func(*mqtt.Run){}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	up, done := make(chan struct{}), make(chan error, 1)
	task := localapi.New(h.deps()).Run(filepath.Join(dir, localclient.Socket), ln, metrics.New().Handler())
	go func() { done <- task(ctx, func() { close(up) }) }()
	select {
	case <-up:
	case err := <-done:
		t.Fatal(err)
	}
	c = localclient.New(dir)
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the API ends with %v", err)
		}
		if _, err := os.Stat(filepath.Join(dir, localclient.Socket)); err == nil {
			t.Error("the socket is left behind")
		}
	})
	return h, c, "http://" + ln.Addr().String()
}

func TestStatusJudgesHealth(t *testing.T) {
	h, c, url := start(t, t.TempDir())
	get := func(path string) (int, string) {
		t.Helper()
		res, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		http.DefaultClient.CloseIdleConnections()
		return res.StatusCode, string(b)
	}
	for _, step := range []struct {
		name                  string
		do                    func()
		healthy, ready, alive bool
	}{
		{"starting", func() {}, false, false, true},
		{"ready", func() { h.hp.SetReady(true) }, true, true, true},
		{"warned", func() { h.hp.Raise("disk-low", "3 MB left") }, false, true, true},
		{"noted", func() { h.hp.Clear("disk-low"); h.hp.Note("desired-refused/pump.on", "expected true or false") }, true, true, true},
		{"over", func() { h.hp.Clear("disk-low") }, true, true, true},
		{"dead", func() {
			h.hp.Probe("store", func() error { return fault.New(fault.Unavailable, "no commit for a minute") })
		}, false, true, false},
	} {
		step.do()
		s, err := c.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.Healthy != step.healthy || s.Ready != step.ready || (s.Dead == "") != step.alive || s.Clients != 3 || s.PID != os.Getpid() || len(s.Devices) != 1 || len(s.Upstreams) != 1 {
			t.Errorf("%s: %+v", step.name, s)
		}
		if code, body := get("/healthz"); (code == 200) != step.alive {
			t.Errorf("%s: healthz %d %s", step.name, code, body)
		}
		if code, body := get("/readyz"); (code == 200) != step.ready {
			t.Errorf("%s: readyz %d %s", step.name, code, body)
		}
	}
	if code, body := get("/metrics"); code != 200 || !strings.Contains(body, "process_resident_memory_bytes") {
		t.Errorf("metrics %d", code)
	}
	if code, _ := get("/v1/status"); code != 404 {
		t.Errorf("what belongs to the socket is on the metrics port: %d", code)
	}
}

func TestPublish(t *testing.T) {
	h, c, _ := start(t, t.TempDir())
	if err := c.Publish(t.Context(), "a b/c", 1, true, []byte{0, 1, 2}); err != nil {
		t.Fatal(err)
	}
	m := h.submitted[0]
	if m.Topic != "a b/c" || m.QoS != 1 || !m.Retain || string(m.Payload) != "\x00\x01\x02" || m.Origin != mqtt.REST || !m.At.Equal(noon) {
		t.Errorf("submitted %+v", m)
	}
	for name, call := range map[string]struct {
		topic string
		size  int
		road  error
		want  fault.Code
	}{
		"wildcard in the topic": {"a/#", 1, nil, fault.Invalid},
		"too large":             {"a", 128<<10 + 1, nil, fault.TooLarge},
		"no room":               {"a", 1, fault.New(fault.Full, "the journal is full"), fault.Full},
		"a defect":              {"a", 1, errors.New("password"), fault.Internal},
	} {
		h.refuse = call.road
		err := c.Publish(t.Context(), call.topic, 0, false, make([]byte, call.size))
		if fault.Of(err) != call.want || err == nil || strings.Contains(err.Error(), "password") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTailTellsThePastAndThePresent(t *testing.T) {
	h, c, _ := start(t, t.TempDir())
	for i, topic := range []string{"dt/old", "dt/kept", "other"} {
		h.kept = append(h.kept, mqtt.Message{Topic: topic, Payload: []byte("x"), At: noon.Add(time.Duration(i-1) * time.Minute)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	err := c.Tail(ctx, "dt/#", noon, func(m localclient.Message) error {
		switch {
		case m.Lost > 0:
			got = append(got, "lost")
		default:
			got = append(got, m.Topic+"="+string(m.Bytes()))
		}
		switch len(got) {
		case 2:
			h.deliver(mqtt.Message{Topic: "no/dt", Payload: []byte("y")})
			h.deliver(mqtt.Message{Topic: "dt/new", Payload: []byte("\xff")})
		case 3:
			cancel()
		}
		return nil
	})
	if want := []string{"lost", "dt/kept=x", "dt/new=\xff"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if err := c.Tail(t.Context(), "a/#/b", time.Time{}, nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("a bad filter gives %v", err)
	}
	stop := errors.New("enough")
	if err := c.Tail(t.Context(), "dt/#", noon, func(localclient.Message) error { return stop }); err != stop {
		t.Errorf("got %v", err)
	}
}

// A message that is committed and delivered while history is told is in both; two that only look alike are two.
func TestTailTellsAMessageOnceAtTheChange(t *testing.T) {
	h, c, _ := start(t, t.TempDir())
	now := noon.Add(123456789) // the journal keeps microseconds of it
	both := mqtt.Message{Topic: "dt/both", Payload: []byte("x"), From: "a", At: now}
	kept := both
	kept.At = now.Truncate(time.Microsecond)
	h.kept = append(h.kept, kept, kept)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	err := c.Tail(ctx, "dt/#", noon, func(m localclient.Message) error {
		switch {
		case m.Topic == "dt/both":
			n++
		case m.Topic == "dt/end":
			cancel()
		case m.Lost > 0: // history has begun, and with it the subscription
			for range 3 {
				h.deliver(both)
			}
			h.deliver(mqtt.Message{Topic: "dt/end", At: now})
		}
		return nil
	})
	if err != nil || n != 3 {
		t.Errorf("three messages, two of them in the journal, were told %d times: %v", n, err)
	}
}

func TestAReaderThatIsSlowIsToldWhatItMissed(t *testing.T) {
	h, c, _ := start(t, t.TempDir())
	const n = 10_000
	var lost, got uint64
	payload := []byte(strings.Repeat("x", 1024))
	enough := errors.New("enough")
	err := c.Tail(t.Context(), "#", noon, func(m localclient.Message) error {
		if m.Topic == "" && lost+got == 0 { // the gap in the past: the subscription stands
			lost -= m.Lost
			for range n { // more than sockets and buffers hold while we do not read
				h.deliver(mqtt.Message{Topic: "t", Payload: payload})
			}
			go h.deliver(mqtt.Message{Topic: "t"})
		}
		if lost += m.Lost; m.Topic != "" {
			got++
		}
		if lost+got >= n {
			return enough
		}
		return nil
	})
	if err != enough || lost == 0 || got < 4096 {
		t.Errorf("%v, %d came, %d lost", err, got, lost)
	}
}

func TestListsAndErrors(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("a-long-name-", 12)) // beyond what a socket address holds
	_, c, _ := start(t, long)
	if ds, err := c.Devices(t.Context()); err != nil || len(ds) != 1 || ds[0].Name != "gps" {
		t.Errorf("%v, %v", ds, err)
	}
	if us, err := c.Upstreams(t.Context()); err != nil || len(us) != 1 {
		t.Errorf("%v, %v", us, err)
	}
	if err := c.ForgetUpstream(t.Context(), "cloud"); !fault.Is(err, fault.Conflict) {
		t.Errorf("got %v", err)
	}
	if err := c.ForgetUpstream(t.Context(), "old"); err != nil {
		t.Error(err)
	}
	if ls, err := c.Ledger(t.Context(), noon, 5); err != nil || len(ls) != 1 || !ls[0].At.Equal(noon) {
		t.Errorf("%v, %v", ls, err)
	}
	if _, err := c.Ledger(t.Context(), noon, 0); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
	if rs, err := c.TestDevice(t.Context(), "gps/1 x"); err != nil || len(rs) != 1 || string(rs[0].Value) != "47.5" {
		t.Errorf("%v, %v", rs, err)
	}
	if _, err := c.TestDevice(t.Context(), "nope"); !fault.Is(err, fault.NotFound) || err.Error() != `no device is called "nope"` {
		t.Errorf("got %v", err)
	}
	fi, err := os.Stat(filepath.Join(long, localclient.Socket))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket %v, %v", fi, err)
	}
	empty := t.TempDir()
	if _, err := localclient.New(empty).Status(t.Context()); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "no gateway is running on the data folder "+empty) {
		t.Errorf("got %v", err)
	}
}
