package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"tidegate/gateway/broker"
	"tidegate/gateway/logs"
	"tidegate/gateway/metrics"
)

// Bounds of connections that have not shown yet who they are. A connection that has not
// sent a byte costs little; one in its handshake some 40 KB.
const (
	maxSilent     = 4096             // connections before and in their handshake
	maxHandshakes = 256              // of these in it
	oneHandshakes = 128              // of these from one address
	slowHandshake = 2 * time.Second  // what a handshake may take while others wait
	tlsTimeout    = 10 * time.Second // from accept to the end of the handshake
)

// Protocol is what a client may ask for by ALPN, and the door for it.
type Protocol struct {
	Name string
	Door func(*broker.Transport)
}

// Secure is a door behind TLS that leads on to others. The name a client gives for the
// server (SNI) does not matter; client certificates are whatever its configuration asks
// for, and judged further on.
type Secure struct {
	name      string
	cfg       *tls.Config
	protocols []Protocol
	other     func(*broker.Transport)
	log       *slog.Logger
	timeout   time.Duration

	ctx    context.Context // ends handshakes at Close
	cancel context.CancelFunc
	gate   *share
	silent atomic.Int32

	done, failed, resumed, away atomic.Uint64
}

// NewSecure makes a door for the port called name. protocols are in the order of
// preference; a client that asks for none of them, or for nothing, is led to other.
func NewSecure(name string, cfg *tls.Config, log *slog.Logger, protocols []Protocol, other func(*broker.Transport)) *Secure {
	s := &Secure{name: name, cfg: cfg.Clone(), protocols: protocols, other: other, log: log, timeout: tlsTimeout, gate: newShare(maxHandshakes, oneHandshakes, slowHandshake)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for _, p := range protocols {
		s.cfg.NextProtos = append(s.cfg.NextProtos, p.Name)
	}
	plain := s.cfg.Clone()
	plain.NextProtos = nil
	s.cfg.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		for _, p := range h.SupportedProtos {
			if slices.Contains(s.cfg.NextProtos, p) {
				return nil, nil
			}
		}
		return plain, nil // RFC 7301 would have us hang up on a client that asks for something else
	}
	return s
}

// Close ends all handshakes. It may be called twice.
func (s *Secure) Close() error { s.cancel(); return nil }

// Serve takes a connection through its handshake and to its door. It returns when the
// door does.
func (s *Secure) Serve(nc net.Conn) {
	if s.silent.Add(1) > maxSilent {
		s.silent.Add(-1)
		s.away.Add(1)
		nc.Close()
		return
	}
	t, err := s.handshake(nc)
	s.silent.Add(-1)
	if err != nil {
		s.failed.Add(1)
		s.log.Debug("no TLS connection", logs.Port, s.name, logs.Addr, nc.RemoteAddr().String(), logs.Err(err))
		nc.Close()
		return
	}
	s.done.Add(1)
	state := t.State()
	if state.DidResume {
		s.resumed.Add(1)
	}
	for _, p := range s.protocols {
		if p.Name == state.NegotiatedProtocol {
			p.Door(t)
			return
		}
	}
	s.other(t)
}

func (s *Secure) handshake(nc net.Conn) (*broker.Transport, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.timeout)
	defer cancel()
	over := func() { nc.SetDeadline(time.Unix(1, 0)) }
	stop := context.AfterFunc(ctx, over)
	if err := firstByte(nc); err != nil {
		return nil, err
	}
	p, err := s.gate.wait(ctx, addrOf(nc.RemoteAddr()), over)
	if err != nil {
		return nil, err
	}
	t, err := broker.Handshake(ctx, nc, s.cfg)
	p.give()
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = nc.SetDeadline(time.Time{}) // of an unlucky cut
	}
	return t, err
}

var errNotTLS = errors.New("the client does not speak TLS")

// firstByte waits until the client says something, at no cost but the goroutine, and
// looks whether it can be the beginning of TLS.
func firstByte(nc net.Conn) error {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	var n int
	var fail error
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, _, fail = syscall.Recvfrom(int(fd), b, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			if fail != syscall.EINTR {
				return fail != syscall.EAGAIN
			}
		}
	})
	const handshake = 0x16 // RFC 8446, 5.1
	switch {
	case err != nil:
		return err
	case fail != nil:
		return fail
	case n == 0:
		return net.ErrClosed
	case b[0] >= 'A' && b[0] <= 'Z': // a line of HTTP
		nc.SetWriteDeadline(time.Now().Add(time.Second))
		nc.Write([]byte("HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nThis port speaks TLS: use https.\n")) //nolint:errcheck // it goes away either way
		return errNotTLS
	case b[0] != handshake:
		return errNotTLS
	}
	return nil
}

// Metrics registers the door's counters.
func (s *Secure) Metrics(m *metrics.Set) {
	for _, c := range []struct {
		name, help string
		read       func() uint64
	}{
		{"tidegate_tls_handshakes_total", "TLS handshakes that were completed.", s.done.Load},
		{"tidegate_tls_resumed_total", "Those of them that resumed an earlier session.", s.resumed.Load},
		{"tidegate_tls_failed_total", "Connections that ended before their handshake did.", s.failed.Load},
		{"tidegate_tls_turned_away_total", "Connections closed because too many had not shown who they are.", s.away.Load},
		{"tidegate_tls_hurried_total", "Handshakes cut short because others waited.", s.gate.hurried},
	} {
		m.Counter(c.name, c.help, func() float64 { return float64(c.read()) }, "port", s.name)
	}
	m.Gauge("tidegate_tls_pending", "Connections before and in their handshake.", func() float64 { return float64(s.silent.Load()) }, "port", s.name)
}
