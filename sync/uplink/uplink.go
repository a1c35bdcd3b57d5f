// Package uplink keeps a session to an upstream: it sends what the journal holds for
// it, in order, and brings down what the upstream has for us.
//
// An upstream has a cursor in the journal. Messages are read from there, published
// with up to Window of them unacknowledged, and the cursor moves only over what the
// upstream has acknowledged. Whatever happens to the link, the client is thrown away
// and a new one begins at the cursor: nothing is lost, a few messages come twice, and
// those of one publisher keep their order. Nothing else waits for an upstream, and
// what one holds in memory is bounded by its window.
//
//	up, err := uplink.New(cfg, uplink.Deps{Store: db, Journal: jr, Submit: road.Submit, …})
//	road.Keep(up.Name(), up.Filters()) // journal what it wants
//	err = up.Create()                  // its cursor, before anything is accepted
//	g.Restart("uplink/"+up.Name(), up.Run)
//
// What comes down is acknowledged to the upstream once it is on disk here; if the
// upstream keeps our session nothing is lost on that way either. A message is never
// sent back to the upstream it came from. An upstream that subscribes us to what we
// publish there sends it down once more, as MQTT 3.1.1 has no means against it.
//
// The kind there is now is an MQTT 3.1.1 broker.
package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/journal"
	"tidegate/gateway/logs"
	"tidegate/gateway/metrics"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// Deps are what an uplink needs of its surroundings.
type Deps struct {
	Log     *slog.Logger
	Clock   clock.Clock
	Health  Warner
	Store   *store.Store
	Journal *journal.Journal
	// Submit sends what comes down on the road; done is called once, from any
	// goroutine.
	Submit func(m mqtt.Message, done func(error))
	// Dial opens connections; nil for the system's.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Identity gives the certificate in a file, "" for the usual one, with the gateway's
	// own key; for upstreams whose key is mqttclient.OwnKey.
	Identity func(file string) (*tls.Certificate, error)
	// Env looks up variables that hold secrets.
	Env func(string) string
	// Jitter gives a number from 0 to 1 for pauses; nil for a random one.
	Jitter func() float64
}

// Warner hears of an upstream that is down. *health.Health is one.
type Warner interface {
	Raise(code, text string)
	Clear(code string)
}

// CursorPrefix begins the name of every uplink's cursor; the upstream's follows.
const CursorPrefix = "uplink/"

// The states of an uplink.
const (
	Connecting = "connecting" // trying
	Up         = "up"
	Waiting    = "waiting" // until the next try
)

// Status is a snapshot.
type Status struct {
	Name, URL string
	State     string    // Connecting, Up or Waiting
	Since     time.Time // of State
	Err       error     // why it is not up
	Lag       uint64    // messages in the journal from its cursor on
	InFlight  int
	Counts
}

// Counts are numbers since the process has started.
type Counts struct {
	Sent     uint64 // acknowledged by the upstream
	Received uint64 // came down
	Dropped  uint64 // came down and were refused here, or fit no route
	Lost     uint64 // gone from the journal before they could be sent
	Connects uint64
	BytesOut uint64 // of finished and present connections
	BytesIn  uint64
}

// Uplink is the session to one upstream.
type Uplink struct {
	Deps
	cfg      Config
	up, down routes
	cursor   *journal.Cursor // set by Create

	sent, received, dropped, lost, connects, bytesOut, bytesIn atomic.Uint64
	inFlight                                                   atomic.Int64

	mu    sync.Mutex // guards what follows
	state string
	since time.Time
	err   error
	conn  interface{ Bytes() (in, out uint64) } // the present connection, nil when there is none
}

// New makes an uplink of a valid configuration. It opens nothing.
func New(cfg Config, d Deps) (*Uplink, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	u := &Uplink{Deps: d, cfg: cfg, state: Waiting, since: d.Clock.Now()}
	u.Log = d.Log.With(logs.Upstream, cfg.Name)
	if u.Jitter == nil {
		u.Jitter = rand.Float64
	}
	for _, side := range []struct {
		from []Route
		to   *routes
	}{{cfg.Up, &u.up}, {cfg.Down, &u.down}} {
		for _, r := range side.from {
			rt, err := r.compile()
			if err != nil {
				return nil, err
			}
			*side.to = append(*side.to, rt)
		}
	}
	return u, nil
}

// Name gives the upstream's name.
func (u *Uplink) Name() string { return u.cfg.Name }

// Filters gives the local filters of what it sends.
func (u *Uplink) Filters() []string {
	fs := make([]string, len(u.up))
	for i, r := range u.up {
		fs[i] = r.filter
	}
	return fs
}

// Create makes the upstream's cursor unless it is there. The store must be running.
func (u *Uplink) Create() error {
	return u.Store.Wait(func(un *store.Unit) error {
		u.cursor = u.Journal.Create(un, CursorPrefix+u.cfg.Name)
		return nil
	})
}

// Run keeps the session until ctx ends. It is a supervise.Task that is ready at once:
// an upstream that cannot be reached is no failure but what it is there for.
func (u *Uplink) Run(ctx context.Context, ready func()) error {
	if u.cursor == nil {
		if err := u.Create(); err != nil {
			return fmt.Errorf("create cursor: %w", err)
		}
	}
	ready()
	code := "upstream-down/" + u.cfg.Name
	defer u.Health.Clear(code)
	for failures := 0; ; {
		var upAt time.Time // when this session came up
		sentBefore := u.sent.Load()
		u.set(Connecting, nil)
		err := u.session(ctx, func() {
			u.Health.Clear(code)
			u.Log.Info("upstream is up", logs.Attempt, failures+1, "lag", u.lag())
			u.set(Up, nil)
			upAt = u.Clock.Now()
		})
		if ctx.Err() != nil {
			u.set(Waiting, nil)
			return nil
		}
		if u.sent.Load() > sentBefore || !upAt.IsZero() && u.Clock.Now().Sub(upAt) > u.cfg.BackoffMax {
			failures = 0 // it has been of use, so this is not the same trouble going on
		}
		failures++
		if failures&(failures-1) == 0 { // on change and then rarely; health shows what lasts
			u.Log.Warn("upstream is down", logs.Err(err), logs.Attempt, failures)
		}
		u.Health.Raise(code, fmt.Sprintf("upstream %s (%s) is down: %s; %d messages wait for it", u.cfg.Name, u.cfg.URL, fault.Message(visible(err)), u.lag()))
		u.set(Waiting, err)
		pause := time.Duration(u.Jitter() * float64(u.limit(failures)))
		t := u.Clock.NewTimer(pause)
		select {
		case <-t.C():
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}

// limit is what the pause after so many failures is drawn below.
func (u *Uplink) limit(failures int) time.Duration {
	d := u.cfg.BackoffMin
	for ; failures > 1 && d < u.cfg.BackoffMax; failures-- {
		d *= 2
	}
	return min(d, u.cfg.BackoffMax)
}

// visible makes err one whose text may be shown: what the link itself says is no
// secret of ours.
func visible(err error) error {
	var f *fault.Error
	if errors.As(err, &f) {
		return fault.New(f.Code, "%s", f.Error())
	}
	return fault.New(fault.Unavailable, "%v", err)
}

func (u *Uplink) set(state string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.state != state {
		u.state, u.since = state, u.Clock.Now()
	}
	if err != nil || state == Up {
		u.err = err
	}
}

func (u *Uplink) lag() uint64 {
	if u.cursor == nil {
		return 0
	}
	pos, next := u.cursor.Pos(), u.Journal.Next()
	return next - min(pos, next)
}

// Status gives a snapshot. It may be called at any time once Create has returned.
func (u *Uplink) Status() Status {
	s := Status{Name: u.cfg.Name, URL: u.cfg.URL, Lag: u.lag(), InFlight: int(u.inFlight.Load()), Counts: Counts{
		Sent: u.sent.Load(), Received: u.received.Load(), Dropped: u.dropped.Load(), Lost: u.lost.Load(), Connects: u.connects.Load()}}
	u.mu.Lock()
	defer u.mu.Unlock()
	s.State, s.Since, s.Err = u.state, u.since, u.err
	s.BytesIn, s.BytesOut = u.bytesIn.Load(), u.bytesOut.Load()
	if u.conn != nil {
		in, out := u.conn.Bytes()
		s.BytesIn, s.BytesOut = s.BytesIn+in, s.BytesOut+out
	}
	return s
}

// Metrics registers the uplink's numbers.
func (u *Uplink) Metrics(m *metrics.Set) {
	for _, c := range []struct {
		name, help string
		read       func(Status) uint64
	}{
		{"tidegate_uplink_sent_total", "Messages the upstream has acknowledged.", func(s Status) uint64 { return s.Sent }},
		{"tidegate_uplink_received_total", "Messages that came down.", func(s Status) uint64 { return s.Received }},
		{"tidegate_uplink_dropped_total", "Messages that came down and could not be taken.", func(s Status) uint64 { return s.Dropped }},
		{"tidegate_uplink_lost_total", "Messages gone from the journal before they could be sent.", func(s Status) uint64 { return s.Lost }},
		{"tidegate_uplink_connects_total", "Connections that came about.", func(s Status) uint64 { return s.Connects }},
		{"tidegate_uplink_sent_bytes_total", "Bytes written to the upstream, without TLS.", func(s Status) uint64 { return s.BytesOut }},
		{"tidegate_uplink_received_bytes_total", "Bytes read from the upstream, without TLS.", func(s Status) uint64 { return s.BytesIn }},
	} {
		m.Counter(c.name, c.help, func() float64 { return float64(c.read(u.Status())) }, "upstream", u.cfg.Name)
	}
	m.Gauge("tidegate_uplink_lag_messages", "Messages in the journal the upstream is not done with.",
		func() float64 { return float64(u.lag()) }, "upstream", u.cfg.Name)
	m.Gauge("tidegate_uplink_up", "1 while the session is up.", func() float64 {
		if u.Status().State == Up {
			return 1
		}
		return 0
	}, "upstream", u.cfg.Name)
}
