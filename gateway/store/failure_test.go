package store_test

// One test for every row of the failure table in DESIGN.md.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/store"
	"tidegate/gateway/store/commitlog"
)

// crash copies the directory of a running store, in which nothing moves, as a kill would leave it.
func crash(t *testing.T, cfg store.Config) store.Config {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	cfg.Dir = dir
	return cfg
}

// flip changes bytes of a file.
func flip(t *testing.T, name string, at int64, n int) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] ^= 0x55
	}
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// find gives where text stands in one of the files that match pattern.
func find(t *testing.T, pattern, text string) (name string, at int64) {
	t.Helper()
	names, _ := filepath.Glob(pattern)
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(b, []byte(text)); at >= 0 {
			return name, int64(at)
		}
	}
	t.Fatalf("%q is in none of %v", text, names)
	return "", 0
}

func TestPowerCutDropsOnlyTheTornTail(t *testing.T) {
	cfg := small(t.TempDir())
	s := start(t, cfg)
	appendRecs(t, s, 3, "kept")
	appendRecs(t, s, 3, "torn")
	cfg = crash(t, cfg)
	name, at := find(t, cfg.Dir+"/log/log.*", "torn 2")
	flip(t, name, at, 6)
	s = start(t, cfg)
	recs, holes := readAll(t, s, 1)
	if len(recs) != 3 || holes != nil || len(s.Damages()) > 0 {
		t.Errorf("records %q, holes %q, damages %v", recs, holes, s.Damages())
	}
	if first := appendRecs(t, s, 1, "new"); first != 4 {
		t.Errorf("goes on at %d, want 4", first)
	}
}

func TestBitRotInsideTheLogIsToldAndTheRestKept(t *testing.T) {
	for _, key := range [][]byte{nil, []byte("0123456789abcdef")} {
		cfg := small(t.TempDir())
		cfg.Key = key
		s := start(t, cfg)
		appendRecs(t, s, 3, "before")
		appendRecs(t, s, 4, "rotten")
		appendRecs(t, s, 2, "behind")
		cfg = crash(t, cfg)
		flip(t, cfg.Dir+"/log/log.00", 2*4096+30, 1) // page 0 is the header, then one page an entry
		s = start(t, cfg)
		recs, holes := readAll(t, s, 1)
		if got, want := strings.Join(recs, " "), "1:before 0 2:before 1 3:before 2 8:behind 0 9:behind 1"; got != want {
			t.Errorf("kept %q, want %q", got, want)
		}
		if got, want := fmt.Sprint(holes), "[records 4 to 7 are not kept any more]"; got != want {
			t.Errorf("holes %v, want %v", got, want)
		}
		if ds := s.Damages(); len(ds) != 1 || ds[0].From != 4 || ds[0].To != 7 {
			t.Errorf("damages %+v", ds)
		}
		if err := s.Flush(); err != nil { // the hole survives the way into the database
			t.Fatal(err)
		}
		s.Close()
		cfg.RingBytes = 1
		s = start(t, cfg)
		if recs2, holes2 := readAll(t, s, 1); fmt.Sprint(recs2) != fmt.Sprint(recs) || fmt.Sprint(holes2) != fmt.Sprint(holes) {
			t.Errorf("from the database: %q, %q", recs2, holes2)
		}
		if len(s.Damages()) != 0 {
			t.Errorf("told again: %+v", s.Damages())
		}
	}
}

// failing is a log file whose operation fails from when on.
type failing struct {
	commitlog.File
	op   string
	when *atomic.Bool
}

func (f failing) WriteAt(p []byte, off int64) (int, error) {
	if f.when.Load() && f.op == "write" {
		return 0, syscall.EIO
	}
	if f.when.Load() && f.op == "short" {
		return f.File.WriteAt(p[:len(p)/2], off)
	}
	return f.File.WriteAt(p, off)
}

func (f failing) Sync() error {
	if f.when.Load() && f.op == "sync" {
		return syscall.EIO
	}
	return f.File.Sync()
}

func TestLogWriteOrSyncErrorStopsTheStore(t *testing.T) {
	for _, op := range []string{"write", "short", "sync"} {
		t.Run(op, func(t *testing.T) {
			var when atomic.Bool
			cfg := small(t.TempDir())
			cfg.WrapLogFile = func(_ string, f commitlog.File) commitlog.File { return failing{f, op, &when} }
			fatal := make(chan error, 2)
			cfg.OnFatal = func(err error) { fatal <- err }
			s := open(t, cfg)
			ready, ended := make(chan struct{}), make(chan error, 1)
			go func() { ended <- s.Run(t.Context(), func() { close(ready) }) }()
			<-ready
			appendRecs(t, s, 3, "acked")
			when.Store(true)
			var refused, acked atomic.Int64
			var wg sync.WaitGroup
			for range 20 {
				wg.Add(1)
				u := s.NewUnit()
				u.Append(store.Rec{Count: 1, Data: []byte("lost")})
				u.Done = func(_ []uint64, err error) {
					if err == nil {
						acked.Add(1)
					} else if fault.Is(err, fault.Unavailable) {
						refused.Add(1)
					}
					wg.Done()
				}
				if err := s.Submit(u); err != nil {
					refused.Add(1)
					wg.Done()
				}
			}
			wg.Wait()
			if acked.Load() != 0 || refused.Load() != 20 {
				t.Errorf("%d acknowledged, %d refused of 20", acked.Load(), refused.Load())
			}
			if err := <-ended; !errors.Is(err, syscall.EIO) && op != "short" || err == nil {
				t.Errorf("Run returns %v", err)
			}
			if err := <-fatal; err == nil {
				t.Error("OnFatal without an error")
			}
			when.Store(false) // the disk works again: the store does not believe it
			if err := s.Wait(func(u *store.Unit) error { u.Put("k", nil); return nil }); !fault.Is(err, fault.Unavailable) {
				t.Errorf("afterwards: %v", err)
			}
			s.Close()
			cfg.WrapLogFile, cfg.OnFatal = nil, nil
			s = start(t, cfg)
			if recs, _ := readAll(t, s, 1); len(recs) < 3 || recs[2] != "3:acked 2" {
				t.Errorf("after the restart: %q", recs)
			}
		})
	}
}

// gate is a keeper that keeps the applier waiting.
type gate struct {
	passing
	open chan struct{}
}

func (g gate) Settle(next uint64, _ func(string, []byte)) uint64 { <-g.open; return 0 }

// entered is a gate that tells that somebody stands before it.
type entered struct {
	gate
	in chan struct{}
}

func (e entered) Settle(next uint64, put func(string, []byte)) uint64 {
	e.in <- struct{}{}
	return e.gate.Settle(next, put)
}

func TestLogFullHoldsBackThenRefusesThenRecovers(t *testing.T) {
	cfg := small(t.TempDir())
	cfg.FullAfter = 50 * time.Millisecond
	cfg.QueueBytes = 64 << 10
	notices := make(chan string, 10)
	cfg.Notice = func(code, text string) { notices <- code + ":" + text }
	s := open(t, cfg)
	g := gate{open: make(chan struct{})}
	s.SetKeeper(g)
	s.Start()
	var acked atomic.Int64
	taken := int64(0)
	var refused error
	for refused == nil {
		u := s.NewUnit()
		u.Append(store.Rec{Count: 1, Data: make([]byte, 8000)})
		u.Done = func(_ []uint64, err error) {
			if err == nil {
				acked.Add(1)
			}
		}
		if refused = s.Submit(u); refused == nil {
			taken++
		}
	}
	if !fault.Is(refused, fault.Full) {
		t.Errorf("refused with %v", refused)
	}
	if n := <-notices; !strings.HasPrefix(n, "log-full:the commit log is full") {
		t.Errorf("notice %q", n)
	}
	for range 10 { // what helps to make room passes, and is on the disk before there is any
		v := s.NewUnit()
		v.Vital = true
		v.Put("vital", []byte("1"))
		done := make(chan error, 1)
		v.Done = func(_ []uint64, err error) { done <- err }
		if err := s.Submit(v); err != nil {
			t.Fatalf("vital unit: %v", err)
		}
		if err := <-done; err != nil {
			t.Fatalf("vital unit: %v", err)
		}
	}
	close(g.open)
	if err := s.Drain(); err != nil {
		t.Fatal(err)
	}
	if n := <-notices; n != "log-full:" {
		t.Errorf("notice %q", n)
	}
	if acked.Load() != taken {
		t.Errorf("%d of %d units taken were acknowledged", acked.Load(), taken)
	}
	appendRecs(t, s, 1, "again")
}

// tmpfs mounts a file system of so many MiB.
func tmpfs(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tidegate-test", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Fatalf("mount a tmpfs (the tests of a full disk need root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillDisk takes what is left of dir but so many bytes, and gives the file that does.
func fillDisk(t *testing.T, dir string, leave int64) string {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "somebody-elses")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-leave); err != nil {
		t.Fatal(err)
	}
	return name
}

func onTmpfs(t *testing.T) (store.Config, chan string) {
	cfg := small(filepath.Join(tmpfs(t, 48), "store"))
	cfg.MemTable, cfg.ValueFile = 1<<20, 1<<20
	cfg.Reserve, cfg.Ballast = 10<<20, 4<<20
	notices := make(chan string, 10)
	cfg.Notice = func(code, text string) { notices <- code + ":" + text }
	return cfg, notices
}

// Units that come alone take a page each: the log is full of them long before they amount to anything in bytes. Nobody
// may be left waiting behind it.
func TestALogFullOfLoneUnitsRefusesAndLetsVitalOnesPass(t *testing.T) {
	cfg := small(t.TempDir())
	cfg.FullAfter = 50 * time.Millisecond
	s := open(t, cfg)
	g := gate{open: make(chan struct{})}
	s.SetKeeper(g)
	s.Start()
	put := func(vital bool) error { // and wait, as a publisher does that has one message in flight
		u, done := s.NewUnit(), make(chan error, 1)
		u.Vital = vital
		u.Append(store.Rec{Count: 1, Data: []byte("small")})
		u.Done = func(_ []uint64, err error) { done <- err }
		if err := s.Submit(u); err != nil {
			return err
		}
		return <-done
	}
	n := 0
	for put(false) == nil {
		n++
	}
	if pages := int(cfg.LogFileSize) * cfg.LogFiles / 4096; n < pages/3 || n > pages-pages/cfg.LogFiles {
		t.Errorf("%d lone units were taken by a log of %d pages", n, pages)
	}
	for range 10 {
		if err := put(true); err != nil {
			t.Fatal(err)
		}
	}
	close(g.open)
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := put(false); err != nil {
		t.Errorf("once there is room: %v", err)
	}
}

// Large values that are written again and again must not pile up in value files.
func TestRewrittenValuesAreCollected(t *testing.T) {
	cfg := small(t.TempDir())
	cfg.MemTable, cfg.ValueFile = 1<<20, 1<<20
	cfg.LogFiles, cfg.LogFileSize = 4, 1<<20
	s := start(t, cfg)
	val := bytes.Repeat([]byte("shadow "), 300) // 2,100 bytes
	const keys = 100
	for range 300 {
		u := s.NewUnit()
		for k := range keys {
			u.Put(fmt.Sprintf("shadow/%d", k), val)
		}
		done := make(chan error, 1)
		u.Done = func(_ []uint64, err error) { done <- err }
		if err := s.Submit(u); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(cfg.Dir + "/db/*.vlog")
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, name := range files {
		st, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		size += st.Size()
	}
	if size > 8<<20 || s.Stats().Collected == 0 { // of 63 MB that were written
		t.Errorf("%d bytes in %d value files, %d were collected", size, len(files), s.Stats().Collected)
	}
	for k := range keys {
		if got := get(t, s, fmt.Sprintf("shadow/%d", k)); got != string(val) {
			t.Fatalf("key %d has %d bytes", k, len(got))
		}
	}
}

func TestDiskNearlyFullRefusesAndRecovers(t *testing.T) {
	cfg, notices := onTmpfs(t)
	s := start(t, cfg)
	appendRecs(t, s, 10, "early")
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	other := fillDisk(t, cfg.Dir, 9<<20)
	appendRecs(t, s, 10, "in the log") // which has its room
	if err := s.Flush(); err == nil {
		t.Error("applied to a full disk")
	}
	if n := <-notices; !strings.HasPrefix(n, "disk-full:the disk is nearly full") {
		t.Errorf("notice %q", n)
	}
	err := s.Do(func(u *store.Unit) error { u.Append(store.Rec{Count: 1, Data: []byte("x")}); return nil }, nil)
	if !fault.Is(err, fault.Full) || !strings.Contains(fault.Message(err), "make room") {
		t.Errorf("refused with %v", err)
	}
	if err := s.Wait(func(u *store.Unit) error { _, err := u.Get("k"); return err }); err != nil {
		t.Errorf("a unit that writes nothing: %v", err)
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	if n := <-notices; n != "disk-full:" { // the applier looks by itself
		t.Errorf("notice %q", n)
	}
	appendRecs(t, s, 1, "again")
	if err := s.Flush(); err != nil {
		t.Error(err)
	}
	if recs, holes := readAll(t, s, 1); len(recs) != 21 || holes != nil {
		t.Errorf("%d records, holes %q", len(recs), holes)
	}
}

func TestBadgerThatMetAFullDiskOpensAgain(t *testing.T) {
	cfg, notices := onTmpfs(t)
	s := start(t, cfg)
	appendRecs(t, s, 10, "early")
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	appendRecs(t, s, 10, "late")
	if st, err := os.Stat(cfg.Dir + "/ballast"); err != nil || st.Size() != cfg.Ballast {
		t.Fatalf("ballast: %v, %v", st, err)
	}
	dead := filepath.Join(filepath.Dir(cfg.Dir), "dead")
	if err := os.CopyFS(dead, os.DirFS(cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := os.RemoveAll(cfg.Dir); err != nil {
		t.Fatal(err)
	}
	for len(notices) > 0 {
		<-notices
	}
	cfg.Dir = dead
	other := fillDisk(t, dead, 0) // not a byte is left: a write into a mapped file would be SIGBUS
	s = start(t, cfg)
	if _, err := os.Stat(dead + "/ballast"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the ballast is still there: %v", err)
	}
	if recs, holes := readAll(t, s, 1); len(recs) != 20 || holes != nil {
		t.Errorf("%d records, holes %q", len(recs), holes)
	}
	if n := <-notices; !strings.HasPrefix(n, "disk-full:") {
		t.Errorf("notice %q", n)
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	if n := <-notices; n != "disk-full:" {
		t.Errorf("notice %q", n)
	}
	appendRecs(t, s, 1, "again")
}

func TestEmptyDatabaseFilesAreRemoved(t *testing.T) {
	cfg := small(t.TempDir())
	s := start(t, cfg)
	put(t, s, "a", "1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"00017.mem", "000023.vlog"} {
		if err := os.WriteFile(filepath.Join(cfg.Dir, "db", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = start(t, cfg)
	if got := get(t, s, "a"); got != "1" || len(s.Damages()) > 0 {
		t.Errorf("got %q, damages %v", got, s.Damages())
	}
}

// rewrite changes the payload of the entry in one page of log.00 so that its checksum is right and it is nonsense.
func rewrite(t *testing.T, dir string, page int64) {
	t.Helper()
	f, err := os.OpenFile(dir+"/log/log.00", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var head [4096]byte
	b := make([]byte, 4096)
	if _, err := f.ReadAt(head[:], 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(b, page*4096); err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint32(b)
	payload := b[16 : 16+n]
	for i := range payload {
		payload[i] = 0xff
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := append([]byte{}, head[8:16]...) // the file's number, the entry's, its length
	sum = append(append(sum, b[8:16]...), b[:4]...)
	binary.LittleEndian.PutUint32(b[4:], crc32.Update(crc32.Checksum(sum, table), table, payload))
	if _, err := f.WriteAt(b, page*4096); err != nil {
		t.Fatal(err)
	}
}

func TestOneDamagedEntryIsToldOnceWithWhatItHeld(t *testing.T) {
	for name, last := range map[string]bool{"in the middle": false, "at the end": true} {
		t.Run(name, func(t *testing.T) {
			cfg := small(t.TempDir())
			s := start(t, cfg)
			appendRecs(t, s, 3, "before")
			appendRecs(t, s, 4, "nonsense")
			if !last {
				appendRecs(t, s, 2, "behind")
			}
			cfg = crash(t, cfg)
			rewrite(t, cfg.Dir, 2)
			s = start(t, cfg)
			ds := s.Damages()
			if len(ds) != 1 || !strings.Contains(ds[0].What, "cannot be decoded") {
				t.Fatalf("damages %+v", ds)
			}
			if from, to := ds[0].From, ds[0].To; !last && (from != 4 || to != 7) || last && (from != 0 || to != 0) {
				t.Errorf("records %d to %d", from, to)
			}
		})
	}
}

func TestADamagedDatabaseIsSetAsideAndTheLogKept(t *testing.T) {
	for _, tc := range []struct {
		name string
		hit  func(db string)
	}{
		{"manifest flipped", func(db string) { flip(t, db+"/MANIFEST", 17, 2) }},
		{"manifest cut", func(db string) { os.Truncate(db+"/MANIFEST", 3) }},
		{"manifest gone", func(db string) { os.Remove(db + "/MANIFEST") }},
		{"table gone", func(db string) {
			names, _ := filepath.Glob(db + "/*.sst")
			for _, n := range names {
				os.Remove(n)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := small(t.TempDir())
			s := start(t, cfg)
			put(t, s, "a", "1")
			appendRecs(t, s, 3, "x")
			if err := s.Close(); err != nil { // makes a table
				t.Fatal(err)
			}
			s = start(t, cfg)
			appendRecs(t, s, 3, "y")
			s.Close()
			tc.hit(cfg.Dir + "/db")
			s = start(t, cfg)
			if _, err := os.Stat(cfg.Dir + "/db.damaged-1"); err != nil {
				t.Fatalf("not set aside: %v", err)
			}
			if ds := s.Damages(); len(ds) != 1 || !ds[0].Whole || ds[0].From != 0 || ds[0].To != 0 {
				t.Errorf("told of a loss where there is none: %+v", ds)
			}
			recs, _ := readAll(t, s, 1) // the log's files still had them
			if len(recs) != 6 || get(t, s, "a") != "1" || s.Next() != 7 {
				t.Errorf("salvaged %q, a=%q, next %d", recs, get(t, s, "a"), s.Next())
			}
		})
	}
}

func TestADamagedChunkIsAHoleAndTheNextOneIsRead(t *testing.T) {
	cfg := small(t.TempDir())
	cfg.RingBytes = 1
	s := start(t, cfg)
	pad := strings.Repeat("p", 3000)
	for i := range 4 { // some 64 KiB a chunk
		appendRecs(t, s, 30, fmt.Sprintf("%s block%d", pad, i))
		if err := s.Flush(); err != nil { // in order: Badger shuffles what is in one transaction
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	name, at := find(t, cfg.Dir+"/db/*.vlog", "block1 20")
	flip(t, name, at, 3)
	s = start(t, cfg)
	recs, holes := readAll(t, s, 1)
	total := len(recs)
	for _, h := range holes { // Badger gives up what stands behind the damage in its newest value file, too
		var from, to int
		if _, err := fmt.Sscanf(h, "records %d to %d", &from, &to); err != nil || !strings.Contains(h, "damaged") {
			t.Errorf("hole %q", h)
		}
		total += to - from + 1
	}
	if len(holes) == 0 || len(recs) == 0 || total != 120 {
		t.Errorf("%d records and the holes %q: not 120 together", len(recs), holes)
	}
}

func TestCloseGivesUpOnADatabaseThatHangs(t *testing.T) {
	cfg := small(t.TempDir())
	cfg.CloseTimeout = 50 * time.Millisecond
	s, err := store.Open(cfg, clock.System())
	if err != nil {
		t.Fatal(err)
	}
	g := gate{open: make(chan struct{})}
	s.SetKeeper(g)
	s.Start()
	appendRecs(t, s, 1, "x")
	if err := s.Close(); !errors.Is(err, store.ErrCloseHung) {
		t.Errorf("Close: %v", err)
	}
	if err := s.Close(); !errors.Is(err, store.ErrCloseHung) {
		t.Errorf("Close again: %v", err)
	}
	close(g.open)
	letGo(t, cfg)
}

// letGo waits until a store that was left behind has closed its files after all.
func letGo(t *testing.T, cfg store.Config) {
	t.Helper()
	cfg.WrapLogFile = nil
	for deadline := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		s, err := store.Open(cfg, clock.System())
		if err == nil {
			s.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// Whoever stops because the disk fails must not wait for that disk once more.
func TestCloseAfterAFailureDoesNotWait(t *testing.T) {
	cfg := small(t.TempDir())
	cfg.ApplyBytes = 1
	var broken atomic.Bool
	cfg.WrapLogFile = func(_ string, f commitlog.File) commitlog.File { return failing{f, "sync", &broken} }
	s, err := store.Open(cfg, clock.System())
	if err != nil {
		t.Fatal(err)
	}
	g := entered{gate{open: make(chan struct{})}, make(chan struct{}, 1)}
	s.SetKeeper(g)
	s.Start()
	appendRecs(t, s, 1, "x")
	<-g.in // there the applier hangs, as in Badger on a disk that is gone
	broken.Store(true)
	for s.Wait(func(u *store.Unit) error { u.Put("k", nil); return nil }) == nil {
	}
	began := time.Now()
	if err := s.Close(); !errors.Is(err, store.ErrCloseHung) {
		t.Errorf("Close: %v", err)
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("Close took %v", d)
	}
	close(g.open)
	letGo(t, cfg)
}

func TestProbeTellsAStuckGoroutineAndNotAWaitForRoom(t *testing.T) {
	cfg := small(t.TempDir())
	cfg.StuckAfter = 1
	s := start(t, cfg)
	appendRecs(t, s, 1, "x")
	hold, held := make(chan struct{}), make(chan struct{})
	u := s.NewUnit()
	u.Put("k", nil)
	u.Done = func([]uint64, error) { close(held); <-hold }
	if err := s.Submit(u); err != nil {
		t.Fatal(err)
	}
	<-held
	if err := s.Probe(); err == nil || !strings.HasPrefix(err.Error(), "telling what was committed has not ended for") {
		t.Errorf("stuck in a Done: %v", err)
	}
	close(hold)
	if err := s.Drain(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() { // the Done of Drain may be about to return
		if err := s.Probe(); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("going again: %v", err)
		}
	}
}

func TestALogBehindTheDatabaseIsToldAndNumbersGoOn(t *testing.T) {
	cfg := small(t.TempDir())
	s := start(t, cfg)
	appendRecs(t, s, 5, "x")
	epoch := s.Epoch()
	s.Close()
	if err := os.RemoveAll(cfg.Dir + "/log"); err != nil {
		t.Fatal(err)
	}
	s = start(t, cfg)
	if len(s.Damages()) != 1 || s.Epoch() == epoch {
		t.Errorf("damages %v, epoch %d was %d", s.Damages(), s.Epoch(), epoch)
	}
	if first := appendRecs(t, s, 2, "y"); first != 6 {
		t.Errorf("goes on at %d, want 6", first)
	}
	s.Close()
	s = start(t, cfg)
	if recs, holes := readAll(t, s, 1); len(recs) != 7 || holes != nil || len(s.Damages()) > 0 {
		t.Errorf("then: %q, %q, %v", recs, holes, s.Damages())
	}
}

func TestARestoredBackupStartsWithAnEmptyLogAndANewEpoch(t *testing.T) {
	cfg := small(t.TempDir())
	s := start(t, cfg)
	appendRecs(t, s, 5, "x")
	put(t, s, "a", "backed up")
	s.Close()
	backup := t.TempDir()
	if err := os.CopyFS(backup, os.DirFS(cfg.Dir+"/db")); err != nil {
		t.Fatal(err)
	}
	s = start(t, cfg)
	epoch := s.Epoch()
	put(t, s, "a", "later")
	appendRecs(t, s, 5, "later")
	s.Close()
	if err := errors.Join(os.RemoveAll(cfg.Dir+"/db"), os.CopyFS(cfg.Dir+"/db", os.DirFS(backup)),
		os.WriteFile(cfg.Dir+"/"+store.RestoredMark, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	s = start(t, cfg)
	if get(t, s, "a") != "backed up" || s.Next() != 6 || s.Epoch() == epoch || len(s.Damages()) > 0 {
		t.Errorf("a=%q, next %d, epoch %d was %d, damages %v", get(t, s, "a"), s.Next(), s.Epoch(), epoch, s.Damages())
	}
	if _, err := os.Stat(cfg.Dir + "/log.before-restore-1"); err != nil {
		t.Errorf("the old log: %v", err)
	}
	epoch = s.Epoch()
	s.Close()
	if s = start(t, cfg); s.Epoch() != epoch {
		t.Error("every start begins a new epoch")
	}
}

func TestAnotherProcessHasTheStore(t *testing.T) {
	cfg := small(t.TempDir())
	start(t, cfg)
	if _, err := store.Open(cfg, clock.System()); err == nil || !strings.Contains(err.Error(), "another gateway") {
		t.Errorf("opened twice: %v", err)
	}
}

func TestAWrongKeyMovesNothing(t *testing.T) {
	cfg := small(t.TempDir())
	cfg.Key = []byte("0123456789abcdef")
	s := start(t, cfg)
	put(t, s, "a", "1")
	s.Close()
	wrong := cfg
	wrong.Key = []byte("fedcba9876543210")
	if _, err := store.Open(wrong, clock.System()); err == nil {
		t.Fatal("opened with a wrong key")
	}
	s = start(t, cfg)
	if get(t, s, "a") != "1" || len(s.Damages()) > 0 {
		t.Errorf("a=%q, damages %v", get(t, s, "a"), s.Damages())
	}
}

func TestMoreStateThanATransactionHolds(t *testing.T) {
	cfg := small(t.TempDir())
	cfg.MemTable = 1 << 20
	s := start(t, cfg)
	const n = 4000
	for i := range n {
		if err := s.Do(func(u *store.Unit) error {
			u.Put(fmt.Sprintf("k/%d", i), bytes.Repeat([]byte{byte(i)}, 128))
			u.Append(store.Rec{Count: 1, Data: []byte("r")})
			return nil
		}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = start(t, cfg)
	count := 0
	if err := s.Scan("k/", func(key string, val []byte) bool { count++; return len(val) == 128 }); err != nil || count != n {
		t.Errorf("%d keys, %v", count, err)
	}
	if s.Stats().Replayed > 0 {
		t.Errorf("%d entries replayed after a clean end", s.Stats().Replayed)
	}
}

func TestTooLargeAUnitIsRefusedAtTheDoor(t *testing.T) {
	s := start(t, small(t.TempDir()))
	u := s.NewUnit()
	u.Append(store.Rec{Count: 1, Data: make([]byte, 200<<10)})
	told := false
	u.Then(func(_ uint64, err error) { told = err != nil })
	if err := s.Submit(u); !fault.Is(err, fault.TooLarge) || !told {
		t.Errorf("got %v, told %v", err, told)
	}
}
