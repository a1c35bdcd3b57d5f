package netline_test

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"tidegate/hw/netline"
)

func pair(t *testing.T) (*netline.Line, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	l, err := netline.Dial(t.Context(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	return l, peer
}

func TestBytesGoBothWays(t *testing.T) {
	l, peer := pair(t)
	if err := l.Write(t.Context(), []byte("ask")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 8)
	if n, err := peer.Read(b); err != nil || string(b[:n]) != "ask" {
		t.Errorf("got %q, %v", b[:n], err)
	}
	peer.Write([]byte("answer"))
	if n, at, err := l.Read(t.Context(), b); err != nil || string(b[:n]) != "answer" || time.Since(at) > time.Minute {
		t.Errorf("got %q at %v, %v", b[:n], at, err)
	}
}

func TestAReadEndsWithItsContextAndTheNextIsNotHarmed(t *testing.T) {
	l, peer := pair(t)
	b := make([]byte, 8)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := l.Read(ctx, b); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, _, err := l.Read(ctx, b); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	peer.Write([]byte("x"))
	if n, _, err := l.Read(t.Context(), b); n != 1 || err != nil {
		t.Errorf("after it: %d, %v", n, err)
	}
}

func TestDiscardThrowsAwayWhatCame(t *testing.T) {
	l, peer := pair(t)
	b := make([]byte, 8)
	peer.Write([]byte("old"))
	if n, _, err := l.Read(t.Context(), b[:1]); n != 1 || err != nil {
		t.Fatal(err)
	}
	if err := l.Discard(); err != nil {
		t.Fatal(err)
	}
	peer.Write([]byte("new"))
	if n, _, err := l.Read(t.Context(), b); err != nil || string(b[:n]) != "new" {
		t.Errorf("got %q, %v", b[:n], err)
	}
}

func TestAPeerThatIsGoneAndALineThatWasClosed(t *testing.T) {
	l, peer := pair(t)
	peer.Close()
	if _, _, err := l.Read(t.Context(), make([]byte, 1)); !errors.Is(err, netline.ErrGone) {
		t.Errorf("gone: %v", err)
	}
	l.Close()
	if _, _, err := l.Read(t.Context(), make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if _, err := netline.Dial(t.Context(), "127.0.0.1:1"); err == nil {
		t.Error("connected to nobody")
	}
}
