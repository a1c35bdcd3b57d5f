package listen

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/gateway/logs"
	"tidegate/gateway/metrics"
)

// Bounds of an HTTP connection. A handler that takes longer than answerTime to answer
// (a long poll) moves its own deadline with http.ResponseController.
const (
	maxWeb      = 1024             // connections, each some 30 KB
	oneWeb      = 512              // of these from one address
	headerTime  = 10 * time.Second // for a request's head
	requestTime = 30 * time.Second // for a whole request
	answerTime  = 60 * time.Second // for the answer to be taken
	idleTime    = 2 * time.Minute  // between requests
	headerBytes = 16 << 10         // of a request's head
	goodbyeTime = 5 * time.Second  // for requests that are under way at the end
)

// Web serves HTTP/1.1 on connections that are handed to it. What a client can take of
// time and memory is bounded.
type Web struct {
	name  string
	srv   *http.Server
	share *share
	in    chan net.Conn // unbuffered: whoever hands over waits for the server, which is always there
	done  chan struct{} // closed when nothing is taken any more
	stop  sync.Once
	away  atomic.Uint64

	mu     sync.Mutex // guards what follows
	places map[net.Conn]*place
	fresh  map[net.Conn]bool // no whole request has come yet
}

// NewWeb makes a server for the port called name.
func NewWeb(name string, h http.Handler, log *slog.Logger) *Web {
	w := &Web{name: name, share: newShare(maxWeb, oneWeb, 0), in: make(chan net.Conn), done: make(chan struct{}), places: map[net.Conn]*place{}, fresh: map[net.Conn]bool{}}
	w.srv = &http.Server{Handler: h, ReadHeaderTimeout: headerTime, ReadTimeout: requestTime, WriteTimeout: answerTime, IdleTimeout: idleTime,
		MaxHeaderBytes: headerBytes, ConnState: w.state, ErrorLog: slog.NewLogLogger(log.With(logs.Port, name).Handler(), slog.LevelDebug)}
	w.srv.Protocols = new(http.Protocols)
	w.srv.Protocols.SetHTTP1(true)
	return w
}

// Serve takes over a connection and returns at once. Beyond the bounds, or when the
// server does not run, it is closed.
func (w *Web) Serve(nc net.Conn) {
	p, ok := w.share.try(addrOf(nc.RemoteAddr()))
	if !ok {
		w.away.Add(1)
		nc.Close()
		return
	}
	w.mu.Lock()
	w.places[nc] = p
	w.mu.Unlock()
	select {
	case w.in <- nc:
	case <-w.done:
		w.leave(nc)
		nc.Close()
	}
}

// state follows a connection to its end. One that became a WebSocket is the broker's.
func (w *Web) state(nc net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		w.mu.Lock()
		w.fresh[nc] = true
		w.mu.Unlock()
		select {
		case <-w.done: // hurry may have been before
			w.hurry()
		default:
		}
	case http.StateClosed, http.StateHijacked:
		w.leave(nc)
	default:
		w.mu.Lock()
		delete(w.fresh, nc)
		w.mu.Unlock()
	}
}

func (w *Web) leave(nc net.Conn) {
	w.mu.Lock()
	p := w.places[nc]
	delete(w.places, nc)
	delete(w.fresh, nc)
	w.mu.Unlock()
	if p != nil {
		p.give()
	}
}

// hurry ends connections without a request: Shutdown would wait for one. They are closed, as the server
// would put its own deadline over one set here.
func (w *Web) hurry() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for nc := range w.fresh {
		nc.Close()
	}
}

// Run is the task that serves. When ctx ends, requests under way get a moment to end.
func (w *Web) Run(ctx context.Context, ready func()) error {
	defer w.Close()
	ended := make(chan error, 1)
	go func() { ended <- w.srv.Serve(handed{w}) }()
	ready()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	w.Close()
	w.hurry()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTime)
	defer cancel()
	if err := w.srv.Shutdown(grace); err != nil {
		w.srv.Close()
	}
	<-ended
	return nil
}

// Cut ends the connections that which picks, at once: what is under way on them gets no
// answer. which must not block.
func (w *Web) Cut(which func(net.Conn) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for nc := range w.places {
		if which(nc) {
			if under, ok := nc.(interface{ NetConn() net.Conn }); ok {
				nc = under.NetConn() // TLS would wait to say goodbye
			}
			nc.Close()
		}
	}
}

// Close takes no more connections. It may be called twice, and before Run.
func (w *Web) Close() error { w.stop.Do(func() { close(w.done) }); return nil }

// Metrics registers the server's counters.
func (w *Web) Metrics(m *metrics.Set) {
	m.Gauge("tidegate_http_connections", "Connections that speak HTTP.", func() float64 { return float64(w.share.held()) }, "port", w.name)
	m.Counter("tidegate_http_turned_away_total", "Connections closed because there were too many.", func() float64 { return float64(w.away.Load()) }, "port", w.name)
}

// handed is the listener of connections that Serve takes.
type handed struct{ w *Web }

func (h handed) Accept() (net.Conn, error) {
	select {
	case nc := <-h.w.in:
		return nc, nil
	case <-h.w.done:
		return nil, net.ErrClosed
	}
}

func (h handed) Close() error   { return h.w.Close() }
func (h handed) Addr() net.Addr { return &net.TCPAddr{} }
