package journal_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/journal"
	"tidegate/gateway/metrics"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

func TestRefuseNewHoldsTheQuotaAndLetsGoWhenCursorsMove(t *testing.T) {
	h := build(t, func(_ *store.Config, jc *journal.Config) { jc.MaxBytes, jc.WhenFull = 700<<10, journal.RefuseNew })
	c := h.cursor("slow")
	for range 4 {
		h.publish(200, 1000)
		h.flush()
	}
	m := mqtt.Message{Topic: "a", QoS: 1, Payload: []byte("x")}
	try := func() error {
		return h.db.Wait(func(u *store.Unit) error { u.Append(journal.Block(mqtt.NewRun(&m))); return nil })
	}
	if err := try(); !fault.Is(err, fault.Full) || !strings.Contains(fault.Message(err), "journal is full") {
		t.Fatalf("over the quota: %v", err)
	}
	if err := h.db.Wait(func(u *store.Unit) error { u.Put("sess/x", []byte("1")); return nil }); err != nil {
		t.Errorf("a write of state: %v", err)
	}
	if st := h.j.Stats(); !st.Full || st.Lost > 0 {
		t.Errorf("stats %+v", st)
	}
	if got, want := h.read(1), "1-800"; got != want {
		t.Errorf("kept %s, want %s", got, want)
	}
	c.Move(801)
	h.flush()
	if err := try(); err != nil {
		t.Errorf("after the cursor has moved: %v", err)
	}
}

func TestACursorTooFarBehindJumps(t *testing.T) {
	h := build(t, nil)
	slow, ok := h.cursor("sess/slow"), h.cursor("uplink")
	slow.SetMaxLag(600 << 10)
	for range 8 {
		h.publish(200, 1000)
		h.flush()
	}
	pos := slow.Pos()
	ls := h.j.Ledger(time.Time{}, 0)
	if pos == 1 || len(ls) != 1 || ls[0].Name != "sess/slow" || ls[0].From != 1 || ls[0].To != pos-1 || ls[0].Count != pos-1 {
		t.Fatalf("stands at %d, ledger %+v", pos, ls)
	}
	if got, want := h.read(ok.Pos()), "1-1600"; got != want { // the other one loses nothing
		t.Errorf("read %s, want %s", got, want)
	}
}

func TestOldRecordsGoWhenTheClockCanBeTrusted(t *testing.T) {
	h := build(t, func(_ *store.Config, jc *journal.Config) { jc.MaxAge = time.Hour })
	h.cursor("slow")
	for range 3 {
		h.publish(300, 1000)
		h.flush()
	}
	h.clk.SetTrusted(false)
	h.clk.Advance(50 * 365 * 24 * time.Hour) // from 1970, or a dead battery
	h.flush()
	if st := h.j.Stats(); st.Lost > 0 {
		t.Errorf("a clock that is not trusted has cost %d records", st.Lost)
	}
	h.clk.SetTrusted(true)
	h.publish(1, 10)
	h.flush()
	st, ls := h.j.Stats(), h.j.Ledger(time.Time{}, 0)
	if st.Lost == 0 || len(ls) != 1 || ls[0].Why != "older than 1h0m0s" {
		t.Errorf("lost %d, ledger %+v", st.Lost, ls)
	}
}

func TestHistoryStaysForLookingBack(t *testing.T) {
	h := build(t, func(_ *store.Config, jc *journal.Config) { jc.HistoryBytes = 600 << 10 })
	c := h.cursor("fast")
	for range 10 {
		n := h.publish(200, 1000)
		c.Move(n + 200)
		h.flush()
	}
	st := h.j.Stats()
	if st.Bytes < 200<<10 || st.Bytes > 600<<10 || st.Lost > 0 {
		t.Errorf("%d bytes kept, %d lost", st.Bytes, st.Lost)
	}
	oldest := h.j.Oldest()
	if got, want := h.read(0), fmt.Sprintf("%d-2000", oldest); got != want || oldest < 1000 {
		t.Errorf("read %s, want %s", got, want)
	}
	h.reopen()
	if h.j.Oldest() != oldest {
		t.Errorf("after a restart the oldest is %d, was %d", h.j.Oldest(), oldest)
	}
}

func TestLosesAreJoinedWhenTheLedgerIsFull(t *testing.T) {
	h := build(t, func(_ *store.Config, jc *journal.Config) { jc.Ledger, jc.MaxBytes = 10, 256<<10 })
	h.cursor("slow")
	for range 20 {
		h.publish(300, 1000)
		h.flush()
		h.clk.Advance(2 * time.Hour) // no two losses are joined for being close
	}
	lost := h.j.Stats().Lost
	if n := len(h.j.Ledger(time.Time{}, 0)); n > 11 {
		t.Errorf("%d entries", n)
	}
	h.reopen()
	ls, sum := h.j.Ledger(time.Time{}, 0), uint64(0)
	for _, l := range ls {
		sum += l.Count
	}
	if len(ls) > 11 || sum != lost || h.j.Stats().Lost != lost || ls[0].From != 1 {
		t.Errorf("after a restart: %d entries with %d records, want %d: %+v", len(ls), sum, lost, ls[0])
	}
	if got := h.j.Ledger(time.Time{}, 2); len(got) != 2 || got[1] != ls[len(ls)-1] {
		t.Errorf("the newest two: %+v", got)
	}
}

func TestWhatCouldNotBeTakenIsOneEntryThatGrows(t *testing.T) {
	h := build(t, nil)
	h.db.Refuse("disk-full", fault.New(fault.Full, "the disk is nearly full"))
	for range 3 {
		h.j.Miss("qos0", 2, "the disk is nearly full")
		h.j.Miss("readings", 1, "the disk is nearly full")
	}
	want := "qos0 6 readings 3 "
	told := func() (s string) {
		for _, l := range h.j.Ledger(time.Time{}, 0) {
			s += fmt.Sprintf("%s %d ", l.Name, l.Count)
			if l.Why != "the disk is nearly full" || l.At.IsZero() || l.From != 0 {
				t.Errorf("entry %+v", l)
			}
		}
		return s
	}
	if got := told(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	h.j.Miss("readings", 1, "the disk is nearly full")
	h.reopen() // an orderly end writes what has grown
	if got, want := told(), "qos0 6 readings 4 "; got != want {
		t.Errorf("after a restart %q, want %q", got, want)
	}
	if st := h.j.Stats(); st.Lost != 10 {
		t.Errorf("%d lost, want 10", st.Lost)
	}
}

func TestDamageOfTheStoreIsInTheLedger(t *testing.T) {
	h := build(t, nil)
	h.cursor("c") // entry 1
	h.publish(1, 10)
	h.publish(1, 10)
	h.publish(1, 10)
	dir := snapshot(t, h.cfg.Dir)
	f, err := os.OpenFile(dir+"/log/log.00", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var page [4096]byte
	for at := int64(4096); at < 10*4096; at += 4096 { // the entry of record 2
		f.ReadAt(page[:], at)
		if strings.Contains(string(page[:]), "pump1/flow") && strings.Contains(string(page[:]), "2 \x00") {
			f.WriteAt([]byte{0xff}, at+20)
		}
	}
	f.Close()
	h.db.Close()
	h.cfg.Dir = dir
	h.open()
	if err := h.db.Drain(); err != nil {
		t.Fatal(err)
	}
	ls := h.j.Ledger(time.Time{}, 0)
	if len(ls) != 1 || ls[0].From != 2 || ls[0].To != 2 || ls[0].Count != 1 {
		t.Fatalf("ledger %+v", ls)
	}
	if got := h.read(1); !strings.HasPrefix(got, "1-1 gap 2-2 (entries ") || !strings.HasSuffix(got, "cannot be read) 3-3") {
		t.Errorf("read %q", got)
	}
	if st := h.j.Stats(); st.Unexplained > 0 {
		t.Errorf("%d unexplained", st.Unexplained)
	}
}

func TestDroppedCursorsHoldNothing(t *testing.T) {
	h := build(t, nil)
	h.cursor("old")
	h.publish(10, 10)
	if err := h.db.Wait(func(u *store.Unit) error { h.j.Drop(u, "old"); return nil }); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.j.Cursor("old"); ok {
		t.Error("still there")
	}
	h.flush()
	if st := h.db.Stats(); st.Skipped != 10 {
		t.Errorf("%d records were not written, want 10", st.Skipped)
	}
	h.publish(5, 10)
	c := h.cursor("old") // of the same name, later
	if c.Pos() != 16 {
		t.Errorf("stands at %d, want 16", c.Pos())
	}
	h.reopen()
	if c, ok := h.j.Cursor("old"); !ok || c.Pos() != 16 {
		t.Errorf("after a restart: %v", c)
	}
}

func TestACursorOfAUnitThatFailedIsNotThere(t *testing.T) {
	h := build(t, nil)
	boom := fault.New(fault.Invalid, "no")
	if err := h.db.Do(func(u *store.Unit) error { h.j.Create(u, "x"); return boom }, nil); err != boom {
		t.Fatal(err)
	}
	if _, ok := h.j.Cursor("x"); ok || len(h.j.Cursors()) > 0 {
		t.Error("there")
	}
}

// TestCrashBetweenPinAndApply is the case that needs two keys for a cursor: the log says "floats", written before
// the pin; the database says "stands at 3", written with the apply; the log is replayed over it.
func TestCrashBetweenPinAndApply(t *testing.T) {
	h := build(t, nil)
	c := h.cursor("away")
	h.publish(2, 10)
	c.Float()
	pinned := make(chan struct{})
	m := mqtt.Message{Topic: "dt/pump1/flow", QoS: 1, Payload: []byte("3 ")}
	if err := h.db.Do(func(u *store.Unit) error { u.Append(journal.Block(mqtt.NewRun(&m))); return nil },
		func(first []uint64, err error) { c.Pin(first[0]); close(pinned) }); err != nil {
		t.Fatal(err)
	}
	<-pinned
	h.flush()
	dir := snapshot(t, h.cfg.Dir)
	h.db.Close()
	h.cfg.Dir = dir
	h.open()
	c, _ = h.j.Cursor("away")
	if got, want := h.read(c.Pos()), "3-3"; got != want {
		t.Errorf("stands at %d, reads %q, want %q", c.Pos(), got, want)
	}
}

func TestWatchTellsOfNewRecords(t *testing.T) {
	h := build(t, nil)
	ch, cancel := h.j.Watch()
	h.publish(3, 10)
	<-ch
	cancel()
	for len(ch) > 0 {
		<-ch
	}
	h.publish(1, 10)
	if len(ch) > 0 {
		t.Error("a token after cancel")
	}
}

func TestClockJumpsHurtNothing(t *testing.T) {
	h := build(t, nil)
	h.cursor("c")
	h.publish(5, 10)
	h.clk.Set(time.Unix(0, 0))
	h.publish(5, 10)
	h.flush()
	h.clk.Set(time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC))
	h.publish(5, 10)
	h.reopen()
	if got, want := h.read(1), "1-15"; got != want {
		t.Errorf("read %s, want %s", got, want)
	}
}

func TestMetricsCanBeRegistered(t *testing.T) {
	h := build(t, nil)
	h.j.Metrics(metrics.New())
}

func FuzzBlock(f *testing.F) {
	run := mqtt.NewRun(&mqtt.Message{Topic: "a/b", QoS: 1, Payload: []byte("x"), From: "me"})
	f.Add(journal.Block(run).Data, uint32(1))
	run.Topic = "elsewhere"
	f.Add(journal.Block(run).Data, uint32(1))
	f.Add([]byte{1, 0, 0, 0}, uint32(1))
	f.Fuzz(func(t *testing.T, data []byte, count uint32) {
		run, err := journal.ParseBlock(store.Rec{Count: count, Data: data})
		if err != nil {
			return
		}
		for i := range run.Len() {
			if w, total := mqtt.Header(run.Frame(i)); w <= 0 || total != len(run.Frame(i)) {
				t.Fatalf("frame %d of %d bytes says %d", i, len(run.Frame(i)), total)
			}
		}
		again, err := journal.ParseBlock(journal.Block(run))
		if err != nil || again.Topic != run.Topic || again.From != run.From || again.Len() != run.Len() || !again.At.Equal(run.At) {
			t.Fatalf("%+v becomes %+v: %v", run, again, err)
		}
	})
}
