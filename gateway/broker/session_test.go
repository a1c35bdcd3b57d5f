package broker_test

import (
	"fmt"
	"io"
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

// TestAWillIsJudgedByWhoeverKnows: who answers for a client whose rights are not known since
// the restart may let its will pass, and may not.
func TestAWillIsJudgedByWhoeverKnows(t *testing.T) {
	h := open(t)
	see := h.dial(rawmqtt.Options{ClientID: "see"})
	see.sub(1, "w/#")
	connect := func(id string) []byte {
		body := []byte{0, 4, 'M', 'Q', 'T', 'T', 4, 4 | 1<<3 | 2, 0, 60, 0, 1, id[0], 0, 3, 'w', '/', id[0], 0, 1, id[0]}
		return append([]byte{0x10, byte(len(body))}, body...)
	}
	for _, id := range []string{"a", "b"} {
		nc := h.raw()
		if _, err := nc.Write(connect(id)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(nc, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		h.auth.strict = true
		h.auth.lenient = id == "a"
		h.restart() // it was connected then
		see = h.dial(rawmqtt.Options{ClientID: "see"})
		if id == "a" {
			see.get("w/a", "a", 1, 0)
		}
		for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // until it has been judged
			if v, err := h.db.Get(store.KeySession + "w/" + id); err != nil || v == nil {
				break
			}
			if time.Now().After(end) {
				t.Fatal("the will is still on the disk")
			}
		}
		h.auth.strict = false
	}
	h.dial(rawmqtt.Options{ClientID: "p", Clean: true}).pub("w/end", "", 1, 0)
	see.get("w/end", "", 1, 0)
}
