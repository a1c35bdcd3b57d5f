// Package netline is a line of bytes over TCP: Modbus TCP devices, and serial servers
// that put a serial line on a port of the network.
//
//	l, err := netline.Dial(ctx, "192.168.1.20:502")
//	n, at, err := l.Read(ctx, buf) // ctx's error when nothing comes
//
// It has the same methods as a serial port of package serial. A peer that vanishes
// without a word is found by TCP keep-alive within about a minute and a half; who asks
// questions notices earlier. There is no encryption: these devices have none.
package netline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// ErrGone says that the connection is lost.
var ErrGone = errors.New("connection lost")

// Line is a connection. One goroutine may read while another writes.
type Line struct {
	conn net.Conn
	once sync.Once
	err  error
}

// dialer gives up on a host that does not answer, and on a peer that is gone.
var dialer = net.Dialer{Timeout: 5 * time.Second, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second,
	Interval: 15 * time.Second, Count: 4}}

// Dial connects to host:port within ctx and five seconds.
func Dial(ctx context.Context, address string) (*Line, error) {
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return &Line{conn: conn}, nil
}

// Read waits until at least one byte has come and returns how many are in b and when they
// arrived. It returns ctx's error when ctx ends first; ErrGone says that the connection is
// lost, os.ErrClosed that it was closed.
func (l *Line) Read(ctx context.Context, b []byte) (n int, at time.Time, err error) {
	err = l.do(ctx, l.conn.SetReadDeadline, func() error { n, err = l.conn.Read(b); return err })
	if n > 0 {
		return n, time.Now(), nil // an error comes again with the next read
	}
	return 0, at, err
}

// Write sends all of b; when ctx ends first part of it may have gone.
func (l *Line) Write(ctx context.Context, b []byte) error {
	return l.do(ctx, l.conn.SetWriteDeadline, func() error { _, err := l.conn.Write(b); return err })
}

// do runs f under a deadline that ctx's end brings forward.
func (l *Line) do(ctx context.Context, deadline func(time.Time) error, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	end, _ := ctx.Deadline() // the zero time, which is none, when there is none
	if err := deadline(end); err != nil {
		return l.explain(ctx, err)
	}
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { _ = deadline(time.Unix(1, 0)); close(over) }) // fails on a closed line alone
	err := f()
	if !stop() {
		<-over // or it would cut short the next call
	}
	return l.explain(ctx, err)
}

func (l *Line) explain(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, net.ErrClosed):
		return fmt.Errorf("connection to %s: %w", l.conn.RemoteAddr(), os.ErrClosed)
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return context.DeadlineExceeded // ctx's own timer is a moment behind
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: %s closed it", ErrGone, l.conn.RemoteAddr())
	}
	return fmt.Errorf("%w: %w", ErrGone, err)
}

// Discard throws away what has come and was not read.
func (l *Line) Discard() error {
	junk := make([]byte, 4096)
	for {
		if err := l.conn.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			return l.explain(context.Background(), err)
		}
		_, err := l.conn.Read(junk)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return l.explain(context.Background(), err)
		}
	}
}

// Close ends the connection; calls under way return. It may be called twice.
func (l *Line) Close() error {
	l.once.Do(func() { l.err = l.conn.Close() })
	return l.err
}
