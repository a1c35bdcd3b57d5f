package faultnet_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"tidegate/test/faultnet"
)

// echo says everything back.
func echo(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); io.Copy(c, c) }()
		}
	}()
	return ln.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func say(t *testing.T, c net.Conn, word string, wait time.Duration) error {
	t.Helper()
	if _, err := c.Write([]byte(word)); err != nil {
		return err
	}
	return hear(c, word, wait)
}

func hear(c net.Conn, word string, wait time.Duration) error {
	c.SetReadDeadline(time.Now().Add(wait))
	b := make([]byte, len(word))
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if string(b) != word {
		return errors.New("heard " + string(b))
	}
	return nil
}

func TestForwardsBothWays(t *testing.T) {
	p := faultnet.New(t, echo(t))
	c := dial(t, p.Addr())
	if err := say(t, c, "hello", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if n, links := p.Passed(); n != 10 || links != 1 {
		t.Errorf("got %d bytes over %d links, want 10 over 1", n, links)
	}
}

func TestDelayHoldsBack(t *testing.T) {
	p := faultnet.New(t, echo(t))
	p.Delay(30 * time.Millisecond)
	c := dial(t, p.Addr())
	start := time.Now()
	if err := say(t, c, "hello", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < 60*time.Millisecond {
		t.Errorf("there and back in %v, want 60 ms at least", d)
	}
}

func TestABlackHoleIsSilentAndLetsGoAfterwards(t *testing.T) {
	p := faultnet.New(t, echo(t))
	c := dial(t, p.Addr())
	if err := say(t, c, "one", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	p.BlackHole(true)
	if err := say(t, c, "two", 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want silence", err)
	}
	late := dial(t, p.Addr())
	if err := say(t, late, "new", 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("new link: got %v, want silence", err)
	}
	p.BlackHole(false)
	if err := hear(c, "two", 5*time.Second); err != nil {
		t.Error(err)
	}
	if err := hear(late, "new", 5*time.Second); err != nil {
		t.Error(err)
	}
}

func TestCutResetsAndLetsNewOnesIn(t *testing.T) {
	p := faultnet.New(t, echo(t))
	c := dial(t, p.Addr())
	if err := say(t, c, "one", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	if err := say(t, c, "two", 5*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a broken connection", err)
	}
	if err := say(t, dial(t, p.Addr()), "three", 5*time.Second); err != nil {
		t.Error(err)
	}
}

func TestRefuseClosesNewOnesOnly(t *testing.T) {
	p := faultnet.New(t, echo(t))
	c := dial(t, p.Addr())
	if err := say(t, c, "one", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	p.Refuse(true)
	if err := say(t, dial(t, p.Addr()), "two", 5*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a closed connection", err)
	}
	if err := say(t, c, "one", 5*time.Second); err != nil {
		t.Error(err)
	}
}
