package journal_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/journal"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// house is a store and a journal in it.
type house struct {
	t   *testing.T
	cfg store.Config
	jc  journal.Config
	clk *clocktest.Manual
	db  *store.Store
	j   *journal.Journal
}

func build(t *testing.T, set func(*store.Config, *journal.Config)) *house {
	t.Helper()
	h := &house{t: t, cfg: store.DefaultConfig(t.TempDir()), jc: journal.DefaultConfig(),
		clk: clocktest.New(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))}
	h.cfg.LogFiles, h.cfg.LogFileSize = 4, 1<<20
	h.cfg.SegmentBytes, h.cfg.ValueFile = 256<<10, 1<<20
	h.cfg.ApplyEvery = time.Hour // tests say Flush
	h.cfg.Ballast, h.cfg.Reserve = -1, 1
	h.cfg.RingBytes = 1 // what is applied is read from the database
	if set != nil {
		set(&h.cfg, &h.jc)
	}
	h.open()
	t.Cleanup(func() { h.db.Close() })
	return h
}

func (h *house) open() {
	h.t.Helper()
	var err error
	if h.db, err = store.Open(h.cfg, h.clk); err != nil {
		h.t.Fatal(err)
	}
	if h.j, err = journal.Open(h.db, h.clk, nil, h.jc); err != nil {
		h.t.Fatal(err)
	}
	h.db.Start()
}

func (h *house) reopen() {
	h.t.Helper()
	if err := h.db.Close(); err != nil {
		h.t.Fatal(err)
	}
	h.open()
}

func (h *house) flush() {
	h.t.Helper()
	if err := h.db.Flush(); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) cursor(name string) *journal.Cursor {
	h.t.Helper()
	var c *journal.Cursor
	if err := h.db.Wait(func(u *store.Unit) error { c = h.j.Create(u, name); return nil }); err != nil {
		h.t.Fatal(err)
	}
	return c
}

// publish commits n messages of size bytes, one unit each, and gives the number of the first.
func (h *house) publish(n, size int) uint64 {
	h.t.Helper()
	first := h.j.Next()
	for i := range n {
		m := mqtt.Message{Topic: "dt/pump1/flow", QoS: 1, From: "pump1", At: h.clk.Now(),
			Payload: append(fmt.Appendf(nil, "%d ", first+uint64(i)), make([]byte, size)...)}
		if err := h.db.Do(func(u *store.Unit) error { u.Append(journal.Block(mqtt.NewRun(&m))); return nil }, nil); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := h.db.Drain(); err != nil {
		h.t.Fatal(err)
	}
	for h.db.Acked() < h.j.Next() { // is stored when the Dones of a batch have run, that of Drain among them
		time.Sleep(100 * time.Microsecond)
	}
	return first
}

// read reads to the head and gives the numbers in words: "1-5 gap 6-9 (why) 10-12".
func (h *house) read(from uint64) string {
	h.t.Helper()
	var out []string
	var a, b uint64
	end := func() {
		if a > 0 {
			out = append(out, fmt.Sprintf("%d-%d", a, b))
		}
		a = 0
	}
	r := h.j.Reader(from)
	for {
		first, run, ok, err := r.Next()
		var gap *journal.GapError
		if errors.As(err, &gap) {
			end()
			out = append(out, fmt.Sprintf("gap %d-%d (%s)", gap.From, gap.To, gap.Why))
			continue
		}
		if err != nil {
			h.t.Fatal(err)
		}
		if !ok {
			end()
			return strings.Join(out, " ")
		}
		for i := range run.Len() {
			n := first + uint64(i)
			if want := fmt.Sprintf("%d ", n); !strings.HasPrefix(string(run.Payload(i)), want) {
				h.t.Fatalf("record %d holds %.20q", n, run.Payload(i))
			}
			if a > 0 && b+1 != n {
				end()
			}
			if a == 0 {
				a = n
			}
			b = n
		}
	}
}

func TestARecordStaysUntilEveryCursorHasPassed(t *testing.T) {
	h := build(t, nil)
	up, other := h.cursor("uplink/a"), h.cursor("uplink/b")
	h.publish(100, 100)
	up.Move(101)
	h.flush()
	if got, want := h.read(other.Pos()), "1-100"; got != want {
		t.Errorf("behind: %s, want %s", got, want)
	}
	other.Move(61)
	h.reopen()
	up, _ = h.j.Cursor("uplink/a")
	other, _ = h.j.Cursor("uplink/b")
	if up.Pos() != 101 || other.Pos() != 61 {
		t.Errorf("cursors stand at %d and %d, want 101 and 61", up.Pos(), other.Pos())
	}
	if got, want := h.read(other.Pos()), "61-100"; got != want {
		t.Errorf("after the restart: %s, want %s", got, want)
	}
}

func TestRecordsBelowAllCursorsAreNeverWritten(t *testing.T) {
	h := build(t, nil)
	c := h.cursor("s")
	c.Float()
	h.publish(50, 100)
	c.Pin(41)
	h.flush()
	st := h.db.Stats()
	if st.Skipped != 40 {
		t.Errorf("%d records were not written, want 40", st.Skipped)
	}
	h.reopen()
	c, _ = h.j.Cursor("s")
	if got, want := h.read(c.Pos()), "41-50"; got != want {
		t.Errorf("kept %s, want %s", got, want)
	}
	if got, want := h.read(1), "gap 1-40 (no cursor wanted them any more) 41-50"; got != want {
		t.Errorf("looking back: %s, want %s", got, want)
	}
}

func TestAFloatingCursorStandsAtTheStartWhereItsOwnerMayNotHaveSeen(t *testing.T) {
	h := build(t, nil)
	c := h.cursor("s")
	h.publish(10, 10)
	c.Float()
	h.publish(10, 10)
	if c.Pos() != 21 {
		t.Errorf("floats at %d, want 21", c.Pos())
	}
	h.flush()
	h.publish(5, 10)
	h.reopen() // a clean end applies everything
	c, _ = h.j.Cursor("s")
	if seq, ok := c.Pinned(); !ok || seq != 26 {
		t.Errorf("stands at %d (%v), want 26", seq, ok)
	}
}

func TestABlockStandsForItsMessages(t *testing.T) {
	h := build(t, nil)
	h.cursor("c")
	run := &mqtt.Run{Topic: "a/b", QoS: 1, From: "x", Principal: "p", Origin: mqtt.Client, At: h.clk.Now()}
	for i := range 5 {
		run.Frames = append(run.Frames, mqtt.Frame{Start: uint32(len(run.Buf)), ID: uint32(len(run.Buf)) + 7})
		run.Buf = mqtt.AppendPublish(run.Buf, &mqtt.Message{Topic: "a/b", QoS: 1, Payload: fmt.Appendf(nil, "%d ", i+1)}, false, 9)
	}
	if err := h.db.Wait(func(u *store.Unit) error { u.Append(journal.Block(run)); return nil }); err != nil {
		t.Fatal(err)
	}
	if got, want := h.read(3), "3-5"; got != want {
		t.Errorf("from the middle: %s, want %s", got, want)
	}
	h.flush()
	h.reopen()
	if got, want := h.read(3), "3-5"; got != want {
		t.Errorf("from the database: %s, want %s", got, want)
	}
	first, got, ok, err := h.j.Reader(4).Next()
	if first != 4 || !ok || err != nil || got.Len() != 2 || got.Topic != "a/b" || got.From != "x" || got.Principal != "p" ||
		!got.At.Equal(run.At) || got.QoS != 1 || got.V5 {
		t.Errorf("read %d %+v %v %v", first, got, ok, err)
	}
}

func TestOverTheQuotaTheOldestGoIntoTheLedger(t *testing.T) {
	h := build(t, func(_ *store.Config, jc *journal.Config) { jc.MaxBytes = 512 << 10 })
	c := h.cursor("slow")
	for range 10 {
		h.publish(200, 1000)
		h.flush()
	}
	st := h.j.Stats()
	if st.Bytes > 512<<10 || st.Lost == 0 || st.Unexplained > 0 {
		t.Fatalf("stats %+v", st)
	}
	ls := h.j.Ledger(time.Time{}, 0)
	if len(ls) != 1 || ls[0].From != 1 || ls[0].Count != st.Lost || ls[0].Name != "journal" {
		t.Fatalf("ledger %+v", ls)
	}
	if got, want := h.read(1), fmt.Sprintf("gap 1-%d (the quota of 524288 bytes) %d-2000", st.Lost, st.Lost+1); got != want {
		t.Errorf("read %q, want %q", got, want)
	}
	if c.Pos() != st.Lost+1 {
		t.Errorf("cursor at %d, want %d", c.Pos(), st.Lost+1)
	}
	h.reopen()
	c, _ = h.j.Cursor("slow")
	if got := h.j.Ledger(time.Time{}, 0); len(got) != 1 || got[0].Count != ls[0].Count || c.Pos() != st.Lost+1 {
		t.Errorf("after a restart: ledger %+v, cursor %d", got, c.Pos())
	}
}

// TestASavedPositionGoesWithItsUnit looks at what a unit holds: a position that rides along later would not do for
// what rests on it, and one that came behind Drop would be a cursor without an owner, holding the journal for ever.
func TestASavedPositionGoesWithItsUnit(t *testing.T) {
	h := build(t, nil)
	c := h.cursor("c")
	key := store.KeyJournal + "c/c"
	wait := func(f func(u *store.Unit) error) {
		t.Helper()
		if err := h.db.Wait(f); err != nil {
			t.Fatal(err)
		}
	}
	c.Move(c.Pos() + 3)
	wait(func(u *store.Unit) error {
		before, err := u.Get(key)
		if err != nil {
			return err
		}
		c.Save(u)
		after, err := u.Get(key)
		if err == nil && (len(after) != 9 || binary.BigEndian.Uint64(after[1:]) != c.Pos()) {
			t.Errorf("% x became % x, want position %d", before, after, c.Pos())
		}
		return err
	})
	wait(func(u *store.Unit) error { h.j.Drop(u, "c"); return nil })
	wait(func(u *store.Unit) error { c.Save(u); return nil })
	if v, err := h.db.Get(key); v != nil || err != nil {
		t.Errorf("% x, %v after Drop", v, err)
	}
}
