package broker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/store"
	"tidegate/test/rawmqtt"
)

// TestASubscriptionCostsTheSameBesideMany: a session with many used to be written whole for each.
func TestASubscriptionCostsTheSameBesideMany(t *testing.T) {
	h := open(t, func(h *house) { h.cfg.Limits.Subscriptions, h.cfg.Limits.TopicBytes = 0, 0 })
	o := rawmqtt.Options{ClientID: "s"}
	s := h.dial(o)
	n := 0
	add := func(k int) (bytes uint64) {
		before, began := h.db.Stats().LogBytes, time.Now()
		for range k {
			s.sub(1, fmt.Sprintf("filter/%06d", n))
			n++
		}
		bytes = (h.db.Stats().LogBytes - before) / uint64(k)
		t.Logf("up to %d subscriptions: %d bytes and %v each", n, bytes, time.Since(began)/time.Duration(k))
		return bytes
	}
	few := add(50)
	add(950)
	if many := add(50); many > 2*few {
		t.Errorf("%d bytes for one of 50 subscriptions, %d for one of 1,050", few, many)
	}
	long := strings.Repeat("x", 2000)
	s.sub(1, long)
	h.restart()
	s = h.dial(o)
	if in, _ := h.br.Session("s"); len(in.Subscriptions) != n+1 {
		t.Errorf("%d subscriptions after a restart, want %d", len(in.Subscriptions), n+1)
	}
	h.dial(rawmqtt.Options{ClientID: "p", Clean: true}).pub(long, "1", 1, 0)
	s.get(long, "1", 1, 0)
}

// TestNobodysCursorsGo finds what a kill leaves behind: the place of a session that was not to
// outlive its connection, which would hold the journal for ever.
func TestNobodysCursorsGo(t *testing.T) {
	h := open(t)
	s := h.dial(rawmqtt.Options{ClientID: "s"})
	s.sub(1, "a")
	s.sub(1, "$share/g/b")
	err := h.db.Wait(func(u *store.Unit) error {
		h.jr.Create(u, "session/clean/1")
		h.jr.Create(u, "session/share/$share/nobody/x")
		h.jr.Create(u, "upstream/x")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	h.restart()
	if err := h.db.Wait(func(u *store.Unit) error { u.Put("test/x", nil); return nil }); err != nil { // what was asked for before is done
		t.Fatal(err)
	}
	n := 0
	for _, c := range h.jr.Cursors() {
		switch {
		case c.Name == "session/share/$share/g/b", c.Name == "upstream/x", strings.HasPrefix(c.Name, "session/s/s/"):
			n++
		default:
			t.Errorf("%q is still there", c.Name)
		}
	}
	if n != 3 {
		t.Errorf("%d cursors are left, want 3: %v", n, h.jr.Cursors())
	}
}
