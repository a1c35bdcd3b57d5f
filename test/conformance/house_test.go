package conformance_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/broker"
	"tidegate/gateway/clock"
	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/ingest"
	"tidegate/gateway/journal"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/reserved"
	"tidegate/gateway/rules"
	"tidegate/gateway/shadow"
	"tidegate/gateway/store"
)

// house is a broker with everything it stands on, listening on a port of 127.0.0.1.
type house struct {
	dir string
	cfg broker.Config
	clk clock.Clock

	db   *store.Store
	br   *broker.Broker
	ln   net.Listener
	addr string
	stop context.CancelFunc
	done chan struct{} // closed when broker and lifecycle events have ended
}

func newHouse(dir string) *house {
	return &house{dir: dir, cfg: broker.DefaultConfig(), clk: clock.System()}
}

func (h *house) up() error {
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("CONFORMANCE_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	sc := store.DefaultConfig(h.dir)
	sc.Ballast, sc.Log = -1, log
	db, err := store.Open(sc, h.clk)
	if err != nil {
		return err
	}
	jr, err := journal.Open(db, h.clk, log, journal.DefaultConfig())
	if err != nil {
		return err
	}
	br, err := broker.Open(h.cfg, broker.Deps{Store: db, Journal: jr, Clock: h.clk, Log: log, Auth: guard{}})
	if err != nil {
		return err
	}
	engine, err := rules.New(rules.DefaultConfig(), rules.Deps{Clock: h.clk, Log: log, Account: "000000000000"})
	if err != nil {
		return err
	}
	topics := reserved.New()
	topics.Serve(awstopic.Shadow, reserved.NewShadows(shadow.New(h.clk, shadow.DefaultLimits()), h.clk, log).Handle)
	road := ingest.New(db, jr, br, engine, topics, h.clk, log)
	br.OnPublish(road)
	events := reserved.NewLifecycle(road.Submit)
	br.OnEvent(events.Note)
	db.Start()
	ctx, stop := context.WithCancel(context.Background())
	h.db, h.br, h.stop, h.done = db, br, stop, make(chan struct{})
	told := make(chan struct{})
	go func() { events.Run(ctx, func() {}); close(told) }()
	ready := make(chan struct{})
	go func() { br.Run(ctx, func() { close(ready) }); <-told; close(h.done) }()
	<-ready
	if h.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	h.addr = h.ln.Addr().String()
	go func(ln net.Listener) {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			br.Serve(broker.Plain(nc), broker.Via{Listener: "mqtt"})
		}
	}(h.ln)
	return nil
}

func (h *house) down() error {
	if h.ln == nil {
		return nil
	}
	h.ln.Close()
	h.ln = nil
	h.stop()
	<-h.done
	return h.db.Close()
}

// guard lets everybody do everything but what has a telling name. The user is the principal.
type guard struct{}

type principal string

func (p principal) Name() string { return string(p) }

func (guard) Connect(r *broker.ConnectRequest) (broker.Principal, error) {
	switch {
	case r.Username == "stranger":
		return nil, fault.New(fault.Unauthorized, "who are you")
	case r.Username == "banned":
		return nil, fault.New(fault.Forbidden, "not you")
	}
	return principal("user:" + r.Username), nil
}
func (guard) Restore(name, _ string) broker.Principal { return principal(name) }
func (guard) MayPublish(_ broker.Principal, topic string, _ bool) bool {
	return !strings.Contains(topic, "nopublish")
}
func (guard) MaySubscribe(_ broker.Principal, f string) bool {
	return !strings.Contains(f, "nosubscribe")
}
func (guard) MayReceive(_ broker.Principal, topic string) bool {
	return !strings.Contains(topic, "noreceive")
}

// world is a house for one test.
type world struct {
	*house
	t   *testing.T
	man *clocktest.Manual // nil: the house runs on real time
	seq int
}

func open(t *testing.T, change ...func(*broker.Config)) *world {
	t.Helper()
	return start(t, nil, change...)
}

// openStill is open with a clock that only pass moves.
func openStill(t *testing.T, change ...func(*broker.Config)) *world {
	t.Helper()
	return start(t, clocktest.New(time.Now()), change...)
}

func start(t *testing.T, man *clocktest.Manual, change ...func(*broker.Config)) *world {
	t.Helper()
	w := &world{house: newHouse(t.TempDir()), t: t, man: man}
	if man != nil {
		w.clk = man
	}
	for _, f := range change {
		f(&w.cfg)
	}
	if err := w.up(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.down(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) restart() {
	w.t.Helper()
	if err := w.down(); err != nil {
		w.t.Fatal(err)
	}
	if err := w.up(); err != nil {
		w.t.Fatal(err)
	}
}

// pass lets time go by, second by second, so that whoever counts seconds sees each.
func (w *world) pass(d time.Duration) {
	for end := w.man.Now().Add(d); ; {
		waiting := w.man.Waiting()
		w.man.Advance(min(time.Second, end.Sub(w.man.Now())))
		for i := 0; i < 2000 && w.man.Waiting() < waiting; i++ { // until those who woke have made their next appointments
			time.Sleep(100 * time.Microsecond)
		}
		if !w.man.Now().Before(end) {
			return
		}
	}
}

// both runs a test for each version, in one house. Names made with name do not meet.
func both(t *testing.T, w *world, f func(t *testing.T, v5 bool)) {
	t.Helper()
	for _, v5 := range []bool{false, true} {
		version := "3.1.1"
		if v5 {
			version = "5"
		}
		t.Run(version, func(t *testing.T) {
			outer := w.t
			w.t = t
			defer func() { w.t = outer }()
			f(t, v5)
		})
	}
}

// name gives a client id or topic that no one has had.
func (w *world) name() string { w.seq++; return fmt.Sprint("n", w.seq) }

func (w *world) raw() net.Conn {
	w.t.Helper()
	nc, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { nc.Close() })
	return nc
}

// cutOff makes sure the server ends nc, and gives what it sent before.
func cutOff(t *testing.T, nc net.Conn) []byte {
	t.Helper()
	nc.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(nc)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Errorf("the connection is still open after % x", b)
	}
	return b
}
