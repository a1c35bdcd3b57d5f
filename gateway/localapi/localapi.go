// Package localapi is the door for whoever sits at the machine: a unix socket for the
// command line, and metrics and health over HTTP. localclient describes the interface.
//
// It keeps nothing; every answer is asked of the rooms through Deps. The socket is
// made with mode 0600: being able to open it is the permission.
package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/health"
	"tidegate/gateway/localapi/localclient"
	"tidegate/gateway/mqtt"
)

// maxPayload is the largest message the socket takes, in bytes: AWS IoT's limit.
const maxPayload = 128 << 10

// Deps are the rooms it asks. All functions may be called concurrently.
type Deps struct {
	Log    *slog.Logger
	Clock  clock.Clock
	Health *health.Health
	// Status fills in everything but health.
	Status func() localclient.Status
	// Submit sends a message down the road; done is called once.
	Submit func(m mqtt.Message, done func(error))
	// Follow calls fn for every run that is delivered; fn must not block or keep it.
	Follow func(filter string, fn func(*mqtt.Run)) (cancel func(), err error)
	// History calls fn for what the journal keeps, oldest first, until fn returns
	// false or the end is reached. A gap has no run and lost > 0.
	History    func(fn func(run *mqtt.Run, lost uint64) bool) error
	Devices    func() []localclient.Device
	TestDevice func(ctx context.Context, name string) ([]localclient.Reading, error)
	Upstreams  func() []localclient.Upstream
	// ForgetUpstream drops the place in the journal of an upstream that is no longer
	// configured.
	ForgetUpstream func(name string) error
	Ledger         func(since time.Time, max int) []localclient.Loss
	Rules          func() []localclient.Rule
	Sessions       func() []localclient.Session
	// EndSession disconnects a client and forgets its session; it says whether there
	// was one.
	EndSession func(client string) bool
	Operators  Operators
	Shadows    Shadows
	Work       Work
	// IoT is the control plane for whoever Caller names.
	IoT http.Handler
}

// Operators are the people who may administer the gateway.
type Operators interface {
	List() []localclient.Operator
	Create(name, role string) (localclient.Key, error)
	SetRole(name, role string) error
	Remove(name string) error
	// Rotate makes another key, with now in place of those there are.
	Rotate(name string, now bool) (localclient.Key, error)
	Revoke(name, id string) error
}

// API serves the socket and the HTTP listener.
type API struct {
	Deps
	began time.Time
	bye   chan struct{} // closed when Run is told to stop: ends the tails
}

// New makes the API; Run serves it.
func New(d Deps) *API { return &API{Deps: d, began: d.Clock.Now(), bye: make(chan struct{})} }

// Run serves the socket at path, and the listener metrics unless it is nil, until ctx
// ends. It is called once.
func (a *API) Run(path string, metricsLn net.Listener, metrics http.Handler) func(context.Context, func()) error {
	return func(ctx context.Context, ready func()) error {
		sock, err := openSocket(path)
		if err != nil {
			return err
		}
		var servers []*http.Server
		failed := make(chan error, 2) // one place for each server
		serve := func(ln net.Listener, h http.Handler) {
			s := &http.Server{Handler: h, ConnContext: withCaller, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
				ErrorLog: slog.NewLogLogger(a.Log.Handler(), slog.LevelDebug)}
			servers = append(servers, s)
			go func() { failed <- s.Serve(ln) }()
		}
		serve(sock, a.socket())
		if metricsLn != nil {
			serve(metricsLn, a.openMux(metrics))
		}
		ready()
		select {
		case <-ctx.Done():
		case err = <-failed:
			failed <- nil
		}
		close(a.bye)
		down, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		for _, s := range servers {
			if s.Shutdown(down) != nil {
				s.Close()
			}
		}
		for range servers {
			<-failed
		}
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
}

// openSocket listens at path. What a killed gateway has left there is removed: the
// store's lock has made sure that no other one is running.
func openSocket(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	short, done, err := localclient.ShortPath(path)
	if err != nil {
		return nil, err
	}
	defer done()
	ln, err := net.Listen("unix", short)
	if err != nil {
		return nil, err
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // by a path that may not be good any more
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, err
	}
	return &socket{ln, path}, nil
}

type socket struct {
	net.Listener
	path string
}

func (s *socket) Close() error {
	os.Remove(s.path)
	return s.Listener.Close()
}

// openMux is what anybody may ask who reaches the metrics port.
func (a *API) openMux(metrics http.Handler) http.Handler {
	m := http.NewServeMux()
	m.Handle("GET /metrics", metrics)
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := a.Health.Alive(); err != nil {
			http.Error(w, fault.Message(err), http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "ok\n")
	})
	m.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !a.Health.Ready() {
			http.Error(w, "starting or stopping", http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "ok\n")
	})
	return m
}

// socketMux is what the command line may ask.
func (a *API) socketMux() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.status()) })
	m.HandleFunc("GET /v1/devices", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.Devices()) })
	m.HandleFunc("POST /v1/devices/{name}/test", func(w http.ResponseWriter, r *http.Request) {
		rs, err := a.TestDevice(r.Context(), r.PathValue("name"))
		if err != nil {
			refuse(w, err)
			return
		}
		answer(w, rs)
	})
	m.HandleFunc("GET /v1/upstreams", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.Upstreams()) })
	m.HandleFunc("DELETE /v1/upstreams/{name}", func(w http.ResponseWriter, r *http.Request) {
		if err := a.ForgetUpstream(r.PathValue("name")); err != nil {
			refuse(w, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	m.HandleFunc("GET /v1/rules", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.Rules()) })
	m.HandleFunc("GET /v1/ledger", a.ledger)
	m.HandleFunc("POST /v1/publish", a.publish)
	m.HandleFunc("GET /v1/tail", a.tail)
	a.access(m)
	a.shadows(m)
	a.work(m)
	return m
}

func (a *API) status() localclient.Status {
	s := a.Status()
	s.PID, s.Started, s.Now, s.Clock = os.Getpid(), a.began, a.Clock.Now(), a.Clock.Trusted()
	s.Devices, s.Upstreams = a.Devices(), a.Upstreams()
	s.Warnings = []localclient.Warning{}
	unwell := false
	for _, w := range a.Health.Warnings() {
		s.Warnings = append(s.Warnings, localclient.Warning(w))
		unwell = unwell || !w.Minor
	}
	if err := a.Health.Alive(); err != nil {
		s.Dead = err.Error()
	}
	s.Ready = a.Health.Ready()
	s.Healthy = s.Ready && s.Dead == "" && !unwell
	return s
}

func (a *API) ledger(w http.ResponseWriter, r *http.Request) {
	since, err := timeParam(r, "since")
	max, numErr := strconv.Atoi(r.FormValue("max"))
	if err != nil || numErr != nil || max < 1 {
		refuse(w, fault.New(fault.Invalid, "since must be a time as RFC 3339 has it, max a number above 0"))
		return
	}
	answer(w, a.Ledger(since, min(max, 100_000)))
}

func (a *API) publish(w http.ResponseWriter, r *http.Request) {
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayload))
	if err != nil {
		refuse(w, fault.New(fault.TooLarge, "the payload is larger than %d bytes", maxPayload))
		return
	}
	qos, err := strconv.Atoi(r.FormValue("qos"))
	if err != nil || qos < 0 || qos > 2 {
		refuse(w, fault.New(fault.Invalid, "the QoS must be 0, 1 or 2"))
		return
	}
	m := mqtt.Message{Topic: r.FormValue("topic"), Payload: payload, QoS: byte(qos), Retain: r.FormValue("retain") == "true",
		From: "local", Origin: mqtt.REST, At: a.Clock.Now()}
	done := make(chan error, 1) // one answer
	a.Submit(m, func(err error) { done <- err })
	select {
	case err := <-done:
		if err != nil {
			refuse(w, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	case <-r.Context().Done():
	}
}

func timeParam(r *http.Request, name string) (time.Time, error) {
	if r.FormValue(name) == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339Nano, r.FormValue(name))
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statuses[fault.Of(err)])
	json.NewEncoder(w).Encode(localclient.Error{Code: fault.Of(err).String(), Message: fault.Message(err)})
}

// statuses is the HTTP status of every code.
var statuses = map[fault.Code]int{
	fault.Internal:      http.StatusInternalServerError,
	fault.Invalid:       http.StatusBadRequest,
	fault.Unauthorized:  http.StatusUnauthorized,
	fault.Forbidden:     http.StatusForbidden,
	fault.NotFound:      http.StatusNotFound,
	fault.Conflict:      http.StatusConflict,
	fault.Exists:        http.StatusConflict,
	fault.TooLarge:      http.StatusRequestEntityTooLarge,
	fault.Unsupported:   http.StatusNotImplemented,
	fault.Throttled:     http.StatusTooManyRequests,
	fault.LimitExceeded: http.StatusTooManyRequests,
	fault.Full:          http.StatusInsufficientStorage,
	fault.Unavailable:   http.StatusServiceUnavailable,
	fault.Timeout:       http.StatusGatewayTimeout,
}
