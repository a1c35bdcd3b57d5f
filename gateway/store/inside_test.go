package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
)

func tiny(t *testing.T) Config {
	c := DefaultConfig(t.TempDir())
	c.LogFiles, c.LogFileSize = 4, 256<<10
	c.ApplyEvery, c.Ballast, c.Reserve = time.Hour, -1, 1
	return c
}

func mustOpen(t *testing.T, c Config) *Store {
	t.Helper()
	s, err := Open(c, clock.System())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestApplyErrorStopsTheStoreAndTheLogKeepsAll(t *testing.T) {
	cfg := tiny(t)
	cfg.ApplyEvery = time.Millisecond
	s := mustOpen(t, cfg)
	s.db.Close() // whatever Badger may have: it cannot write any more
	s.Start()
	acked := 0
	for {
		err := s.Wait(func(u *Unit) error { u.Append(Rec{Count: 1, Data: []byte("x")}); return nil })
		if err != nil {
			if !fault.Is(err, fault.Unavailable) {
				t.Fatal(err)
			}
			break
		}
		acked++
	}
	<-s.fatal
	s.Close()
	cfg.ApplyEvery = time.Hour
	s = mustOpen(t, cfg)
	if s.Next() < uint64(acked)+1 {
		t.Errorf("next is %d after %d acknowledged records", s.Next(), acked)
	}
}

func TestChunksWithoutASegmentAreDroppedAtTheStart(t *testing.T) {
	cfg := tiny(t)
	s := mustOpen(t, cfg)
	var c chunker
	c.add(1, Rec{1, bytes.Repeat([]byte("x"), 2000)}, 100)
	chunk := c.take()
	if err := s.db.Update(func(txn *badger.Txn) error {
		return errors.Join(txn.Set(chunkKey(1, 1), chunk), txn.Set(chunkKey(500, 500), chunk), txn.Set(chunkKey(500, 501), chunk),
			txn.Set(segmentKey(500), segmentValue(&Segment{ID: 500, Last: 501, Bytes: 1})))
	}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = mustOpen(t, cfg)
	var keys []string
	if err := s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte(prefixChunk)})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			keys = append(keys, string(it.Item().KeyCopy(nil)))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(keys) != 2 || keys[0] != string(chunkKey(500, 500)) {
		t.Errorf("left: %q", keys)
	}
}

func TestMigrationsRunOnceInOrderAndNeverBack(t *testing.T) {
	s := mustOpen(t, tiny(t))
	var ran []int
	steps := []migration{
		func(txn *badger.Txn) error { ran = append(ran, 1); return txn.Set([]byte("k/a"), []byte("1")) },
		func(txn *badger.Txn) error { ran = append(ran, 2); return txn.Set([]byte("k/a"), []byte("2")) },
	}
	for range 2 {
		if err := migrate(s.db, 3, steps); err != nil {
			t.Fatal(err)
		}
	}
	if v, _ := s.Get("a"); len(ran) != 2 || ran[0] != 1 || string(v) != "2" {
		t.Errorf("ran %v, a=%q", ran, v)
	}
	if err := migrate(s.db, 2, steps); err == nil {
		t.Error("a newer schema was opened")
	}
	bad := errors.New("bad")
	if err := migrate(s.db, 4, append(steps, func(txn *badger.Txn) error { txn.Set([]byte("k/a"), nil); return bad })); !errors.Is(err, bad) {
		t.Errorf("failed step: %v", err)
	}
	if v, _ := s.Get("a"); string(v) != "2" {
		t.Errorf("a failed step left %q", v)
	}
	s.Close()
	if _, err := Open(s.cfg, clock.System()); err == nil {
		t.Error("a store of a newer release was opened")
	}
}

func TestASealedEntryOpensOnlyAtItsPlace(t *testing.T) {
	s, err := newSealer(bytes.Repeat([]byte("k"), 32))
	if err != nil {
		t.Fatal(err)
	}
	sealed := s.seal(nil, 7, []byte("hello"))
	if p, err := s.open(7, sealed); err != nil || string(p) != "hello" {
		t.Errorf("open: %q, %v", p, err)
	}
	if _, err := s.open(8, sealed); err == nil {
		t.Error("opened as another entry")
	}
	other, _ := newSealer(bytes.Repeat([]byte("k"), 32)) // the next start
	if bytes.Equal(other.seal(nil, 7, []byte("hello")), sealed) {
		t.Error("two starts use one key and nonce")
	}
	if p, err := other.open(7, sealed); err != nil || string(p) != "hello" {
		t.Errorf("the next start: %q, %v", p, err)
	}
	if _, err := newSealer([]byte("short")); err == nil {
		t.Error("took a short key")
	}
}

// What an entry holds for the ring must not change when the buffer it was written in is used for the next.
func TestEntriesShareADeskAndNothingElse(t *testing.T) {
	var d desk
	unit := func(fill byte, n int) *Unit {
		u := &Unit{}
		u.Append(Rec{1, bytes.Repeat([]byte{fill}, n)})
		u.Append(Rec{2, bytes.Repeat([]byte{fill + 1}, n/2)})
		u.Put("key", []byte{fill})
		return u
	}
	for _, n := range []int{1, 3000, 5000, deskBytes} { // small, larger than what is there, and too large for the desk
		first, second := &entry{index: 1, first: 1}, &entry{index: 2, first: 4}
		frame := encode(&d, first, []*Unit{unit('a', n)}, nil)
		if e, err := decode(1, bytes.Clone(frame[16:])); err != nil || len(e.recs) != 2 || !bytes.Equal(e.recs[1].Data, first.recs[1].Data) {
			t.Fatalf("%d bytes: %v, %v", n, e, err)
		}
		encode(&d, second, []*Unit{unit('x', n)}, nil)
		for i, r := range first.recs {
			if want := bytes.Repeat([]byte{'a' + byte(i)}, len(r.Data)); !bytes.Equal(r.Data, want) || len(r.Data) != []int{n, n / 2}[i] {
				t.Errorf("%d bytes: record block %d of the first entry has changed", n, i)
			}
		}
		if first.bytes < n {
			t.Errorf("an entry of %d bytes counts for %d", n, first.bytes)
		}
	}
	if cap(d.plain) > deskBytes {
		t.Errorf("the desk has grown to %d bytes", cap(d.plain))
	}
}

func FuzzDecodeEntry(f *testing.F) {
	u := &Unit{}
	u.Append(Rec{3, []byte("block")})
	u.Put("key", []byte("value"))
	u.Del("gone")
	e := &entry{index: 1, first: 9}
	f.Add(encode(new(desk), e, []*Unit{u}, []op{{key: "ride", val: []byte("1")}})[16:])
	f.Add([]byte{1, 1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decode(1, b)
		if err != nil {
			return
		}
		u := &Unit{recs: e.recs, ops: e.ops}
		for _, r := range e.recs {
			u.size += len(r.Data) + maxRecOverhead
		}
		for i := range e.ops {
			u.size += len(e.ops[i].key) + len(e.ops[i].val) + maxOpOverhead
		}
		e2 := &entry{index: 1, first: e.first}
		again, err := decode(1, encode(new(desk), e2, []*Unit{u}, nil)[16:])
		if err != nil || again.first != e.first || again.next != e.next || len(again.recs) != len(e.recs) || len(again.ops) != len(e.ops) {
			t.Fatalf("entry [%d,%d) becomes [%d,%d): %v", e.first, e.next, again.first, again.next, err)
		}
	})
}

func FuzzParseChunk(f *testing.F) {
	var c chunker
	c.add(5, Rec{2, []byte("ab")}, 10)
	c.add(7, Rec{1, []byte("c")}, 10)
	f.Add(c.take(), true)
	f.Add([]byte("junk"), true)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix && len(b) > 4 { // past the checksum
			c := chunker{buf: bytes.Clone(b[:len(b)-4])}
			b = c.take()
		}
		recs, first, next, err := parseChunk(b, nil)
		if err != nil {
			return
		}
		for _, r := range recs {
			first += uint64(r.Count)
		}
		if len(recs) == 0 || first != next {
			t.Fatalf("%d blocks end at %d, not %d", len(recs), first, next)
		}
	})
}

func FuzzNotesIn(f *testing.F) {
	seal := func(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)) }
	f.Add([]byte{trailVersion, 1, 'a', 2, 'h', 'i', 1, 'b', 0}, true)
	f.Add([]byte{trailVersion, 1, 'a', 255}, true)
	f.Add([]byte{trailVersion}, false)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix {
			b = seal(slices.Clone(b))
		}
		found, err := notesIn(b, "a", nil)
		size := 0
		for _, n := range found {
			size += len(n) + 3 // lengths and the key
		}
		if err == nil && size > len(b) {
			t.Errorf("%d bytes of notes out of %d", size, len(b))
		}
	})
}
