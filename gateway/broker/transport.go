package broker

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"syscall"
	"time"
)

// Transport is a byte stream a client is on: TCP, TLS over TCP, or anything else that
// is a net.Conn, such as a WebSocket. On the first two, and on a Waiter, an idle client
// costs no buffer.
type Transport struct {
	nc   net.Conn
	raw  syscall.RawConn // nil for what is not a socket
	tls  *tls.Conn
	wire *wire
}

// Waiter is a connection other than a socket that can wait without a buffer. Wait returns
// when Read has something to give, or when it never will.
type Waiter interface{ Wait() error }

// Plain takes nc as it is.
func Plain(nc net.Conn) *Transport {
	t := &Transport{nc: nc}
	if s, ok := nc.(syscall.Conn); ok {
		t.raw, _ = s.SyscallConn()
	}
	return t
}

// Handshake makes nc a TLS server connection, within ctx. The caller may look at State
// to see what was agreed on, and then either hand the Transport to Serve or use its
// NetConn for something else.
func Handshake(ctx context.Context, nc net.Conn, cfg *tls.Config) (*Transport, error) {
	t := Plain(nc)
	if t.raw == nil {
		tc := tls.Server(nc, cfg)
		t.nc = tc
		if err := tc.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		return t, nil
	}
	t.wire = &wire{Conn: nc}
	t.tls = tls.Server(t.wire, cfg)
	if err := t.tls.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

// State gives what TLS agreed on, nil without TLS.
func (t *Transport) State() *tls.ConnectionState {
	tc := t.tls
	if tc == nil {
		var ok bool
		if tc, ok = t.nc.(*tls.Conn); !ok {
			return nil
		}
	}
	s := tc.ConnectionState()
	return &s
}

// NetConn gives the stream as an ordinary connection. It and Serve exclude each other.
func (t *Transport) NetConn() net.Conn {
	if t.tls != nil {
		return t.tls
	}
	return t.nc
}

// Close ends it.
func (t *Transport) Close() error { return t.nc.Close() }

// hangUp tells the peer that nothing more comes, and wakes the reader, without waiting for
// anybody who reads or writes. Receiving is not shut down: a peer that still sends would be
// answered with a reset, which can cost it the last words.
func (t *Transport) hangUp() {
	if t.raw == nil {
		t.nc.Close()
		return
	}
	t.raw.Control(func(fd uintptr) { syscall.Shutdown(int(fd), syscall.SHUT_WR) })
	t.nc.SetReadDeadline(time.Unix(1, 0))
}

// own tells the wire that the broker reads and writes from now on.
func (t *Transport) own() {
	if t.wire != nil {
		t.wire.owned = true
	}
}

// wire stands below tls.Conn. Once owned it never blocks: reads take what the socket
// has, writes gather in memory until the broker takes them out with its own.
type wire struct {
	net.Conn
	fd    int  // of the read in progress
	often bool // and whether it is one of many
	owned bool

	mu  sync.Mutex
	out []byte
}

type wouldBlock struct{}

func (wouldBlock) Error() string   { return "would block" }
func (wouldBlock) Timeout() bool   { return true } // so that tls.Conn does not keep it as its last word
func (wouldBlock) Temporary() bool { return true }

var errWouldBlock net.Error = wouldBlock{}

func (w *wire) Read(p []byte) (int, error) {
	if !w.owned {
		return w.Conn.Read(p)
	}
	n, err := sysRead(w.fd, p, w.often)
	if err == syscall.EAGAIN {
		return 0, errWouldBlock
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	if !w.owned {
		return w.Conn.Write(p)
	}
	w.mu.Lock()
	w.out = append(w.out, p...)
	w.mu.Unlock()
	return len(p), nil
}

// take gives what has gathered.
func (w *wire) take() []byte {
	w.mu.Lock()
	b := w.out
	w.out = nil
	w.mu.Unlock()
	return b
}

// pending says whether something has gathered.
func (w *wire) pending() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.out) > 0
}
