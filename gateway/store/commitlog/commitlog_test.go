package commitlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"tidegate/gateway/store/commitlog"
)

const fileSize = 64 << 10

func cfg(t *testing.T) commitlog.Config {
	return commitlog.Config{Dir: t.TempDir(), Files: 4, FileSize: fileSize}
}

// payload is what entry index holds: of a length that varies, and different everywhere.
func payload(index uint64) []byte {
	r := rand.New(rand.NewPCG(index, 7))
	p := make([]byte, 50+r.IntN(6000))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

func appendTo(l *commitlog.Log, index uint64) error {
	p := payload(index)
	return l.Append(index, append(make([]byte, commitlog.FrameHeader, commitlog.FrameHeader+len(p)+int(index%2)*commitlog.PageSize), p...))
}

// open opens the log and gives the entries above from; wrong content fails the test.
func open(t *testing.T, c commitlog.Config, from uint64) (*commitlog.Log, []uint64, commitlog.Report) {
	t.Helper()
	l, err := commitlog.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var got []uint64
	rep, err := l.Replay(from, func(index uint64, p []byte) error {
		if !bytes.Equal(p, payload(index)) {
			t.Errorf("entry %d has other bytes than were appended", index)
		}
		got = append(got, index)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, got, rep
}

func fill(t *testing.T, l *commitlog.Log, from, to uint64) {
	t.Helper()
	for i := from; i <= to; i++ {
		if err := appendTo(l, i); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
}

func upTo(from, to uint64) (list []uint64) {
	for ; from <= to; from++ {
		list = append(list, from)
	}
	return list
}

func same(a, b []uint64) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

func TestWhatWasAppendedIsReplayed(t *testing.T) {
	c := cfg(t)
	l, got, _ := open(t, c, 0)
	if got != nil {
		t.Fatalf("a new log holds %v", got)
	}
	fill(t, l, 1, 12)
	l.Close()
	l, got, rep := open(t, c, 0)
	if !same(got, upTo(1, 12)) || rep.First != 1 || rep.Last != 12 || len(rep.Damage) > 0 {
		t.Fatalf("replayed %v, report %+v", got, rep)
	}
	fill(t, l, 13, 15)
	l.Close()
	_, got, rep = open(t, c, 9)
	if !same(got, upTo(10, 15)) || len(rep.Damage) > 0 {
		t.Fatalf("from 9: replayed %v, report %+v", got, rep)
	}
}

func TestFilesAreUsedAgainOnceReleased(t *testing.T) {
	c := cfg(t)
	l, _, _ := open(t, c, 0)
	index, freed := uint64(1), uint64(0)
	for round := 0; round < 300; round++ {
		err := appendTo(l, index)
		if errors.Is(err, commitlog.ErrFull) {
			if l.Room(len(payload(index))) {
				t.Fatal("Room says yes, Append says full")
			}
			freed = index - 1 - uint64(rand.IntN(5))
			l.Free(freed)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		index++
	}
	names, _ := filepath.Glob(c.Dir + "/*")
	if len(names) != 4 {
		t.Errorf("files: %v", names)
	}
	l.Close()
	_, got, rep := open(t, c, freed)
	if !same(got, upTo(freed+1, index-1)) || len(rep.Damage) > 0 {
		t.Errorf("replayed %v, want %d to %d; %+v", got, freed+1, index-1, rep)
	}
}

func TestNothingIsWrittenOverBeforeItIsReleased(t *testing.T) {
	c := cfg(t)
	l, _, _ := open(t, c, 0)
	n := uint64(1)
	for ; ; n++ {
		if err := appendTo(l, n); errors.Is(err, commitlog.ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := appendTo(l, n); !errors.Is(err, commitlog.ErrFull) {
		t.Fatalf("full log: %v", err)
	}
	l.Close()
	l, got, _ := open(t, c, 0)
	if !same(got, upTo(1, n-1)) {
		t.Fatalf("replayed %d entries, want %d", len(got), n-1)
	}
	l.Free(n - 1)
	fill(t, l, n, n+2)
}

// TestATornTailIsDropped cuts the last append at every page: all earlier entries stay, and it is no damage.
func TestATornTailIsDropped(t *testing.T) {
	c := cfg(t)
	l, _, _ := open(t, c, 0)
	fill(t, l, 1, 3)
	before := snapshot(t, c.Dir)
	fill(t, l, 4, 4)
	l.Close()
	after := snapshot(t, c.Dir)
	for name := range after {
		for at := 0; at < len(after[name]); at += commitlog.PageSize {
			if bytes.Equal(before[name][at:at+commitlog.PageSize], after[name][at:at+commitlog.PageSize]) {
				continue
			}
			b := bytes.Clone(after[name])
			copy(b[at:], before[name][at:at+commitlog.PageSize])
			restore(t, c.Dir, name, b)
			l, got, rep := open(t, c, 0)
			if !same(got, upTo(1, 3)) || len(rep.Damage) > 0 {
				t.Errorf("torn at %d: replayed %v, %+v", at, got, rep)
			}
			fill(t, l, 4, 6) // goes on, in a fresh file
			l.Close()
			l, got, rep = open(t, c, 0)
			if !same(got, upTo(1, 6)) || len(rep.Damage) > 0 {
				t.Errorf("torn at %d, then three more: replayed %v, %+v", at, got, rep)
			}
			l.Close()
			for n, b := range after {
				restore(t, c.Dir, n, b)
			}
		}
	}
}

func snapshot(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	names, _ := filepath.Glob(dir + "/log.*")
	m := map[string][]byte{}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		m[filepath.Base(n)] = b
	}
	return m
}

func restore(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAFlippedBitIsNeverSilent flips 200 bits, one at a time, all over a log of several files: what is missing is
// reported exactly, what is given out is right. Only in the very last entry damage looks like a torn tail.
func TestAFlippedBitIsNeverSilent(t *testing.T) {
	c := cfg(t)
	l, _, _ := open(t, c, 0)
	fill(t, l, 1, 40)
	l.Close()
	whole := snapshot(t, c.Dir)
	names := []string{"log.00", "log.01", "log.02", "log.03"}
	r := rand.New(rand.NewPCG(1, 2))
	harmless, reported := 0, 0
	for range 200 {
		name := names[r.IntN(4)]
		b := bytes.Clone(whole[name])
		at := r.IntN(len(b))
		if r.IntN(8) == 0 {
			at = r.IntN(64) // the header often
		}
		b[at] ^= 1 << r.IntN(8)
		restore(t, c.Dir, name, b)
		l, got, rep := open(t, c, 0)
		missing := map[uint64]bool{}
		for _, i := range upTo(1, 40) {
			missing[i] = true
		}
		for _, i := range got {
			delete(missing, i)
		}
		for _, d := range rep.Damage {
			for i := d.From; d.From > 0 && i <= d.To; i++ {
				if !missing[i] {
					t.Errorf("%s byte %d: entry %d is reported but there", name, at, i)
				}
				delete(missing, i)
			}
		}
		delete(missing, 40)
		if len(missing) > 0 {
			t.Errorf("%s byte %d: %v missing without a word", name, at, missing)
		}
		if len(rep.Damage) > 0 {
			reported++
		} else if len(got) == 40 {
			harmless++
		}
		l.Free(40)
		if err := appendTo(l, 41); err != nil {
			t.Errorf("%s byte %d: append afterwards: %v", name, at, err)
		}
		l.Close()
		for n, b := range whole {
			restore(t, c.Dir, n, b)
		}
	}
	if reported == 0 || harmless == 0 {
		t.Errorf("%d reported, %d harmless: the flips do not hit what they should", reported, harmless)
	}
	t.Logf("200 flips: %d reported, %d in padding or one of two headers", reported, harmless)
}

func TestAHeaderThatCannotBeRead(t *testing.T) {
	for _, tc := range []struct {
		name   string
		hit    func(b []byte)
		file   string
		damage bool
	}{
		{"first copy", func(b []byte) { b[9] ^= 1 }, "log.01", false},
		{"second copy", func(b []byte) { b[2048+9] ^= 1 }, "log.01", false},
		{"both copies", func(b []byte) { b[9] ^= 1; b[2048+9] ^= 1 }, "log.01", true},
		{"the page is zeros", func(b []byte) { clear(b[:4096]) }, "log.01", true},
		{"both copies of the newest", func(b []byte) { b[9] ^= 1; b[2048+9] ^= 1 }, "log.02", true},
		{"both copies of the oldest", func(b []byte) { b[9] ^= 1; b[2048+9] ^= 1 }, "log.00", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := cfg(t)
			l, _, _ := open(t, c, 0)
			n := uint64(0)
			for l.Room(6500) { // into the third file
				n++
				fill(t, l, n, n)
				if b, _ := os.ReadFile(c.Dir + "/log.02"); b[0] != 0 {
					break
				}
			}
			l.Close()
			b, _ := os.ReadFile(filepath.Join(c.Dir, tc.file))
			tc.hit(b)
			restore(t, c.Dir, tc.file, b)
			l, got, rep := open(t, c, 0)
			if !same(got, upTo(1, n)) || len(rep.Damage) > 0 != tc.damage {
				t.Errorf("replayed %v of %d, %+v", got, n, rep)
			}
			for i := n + 1; l.Room(6500); i++ { // never reused while it may hold something
				fill(t, l, i, i)
				n = i
			}
			l.Close()
			if _, got, _ = open(t, c, 0); !same(got, upTo(1, n)) {
				t.Errorf("after filling up: replayed %v of %d", got, n)
			}
		})
	}
}

func TestAFileThatWasCutShort(t *testing.T) {
	for _, size := range []int64{0, 100, 4096, 20000, fileSize - 1} {
		for _, file := range []string{"log.00", "log.02"} {
			t.Run(fmt.Sprintf("%s at %d", file, size), func(t *testing.T) {
				c := cfg(t)
				l, _, _ := open(t, c, 0)
				fill(t, l, 1, 36)
				l.Close()
				if err := os.Truncate(filepath.Join(c.Dir, file), size); err != nil {
					t.Fatal(err)
				}
				l, got, rep := open(t, c, 0)
				if len(rep.Damage) == 0 {
					t.Fatalf("nothing reported; replayed %v", got)
				}
				missing := 36 - len(got)
				for _, d := range rep.Damage {
					if d.From > 0 {
						missing -= int(d.To - d.From + 1)
					}
				}
				if missing > 0 && rep.Last == 36 {
					t.Errorf("%d entries are missing without a word: %v, %+v", missing, got, rep)
				}
				l.Free(36)
				fill(t, l, 37, 39)
				l.Close()
				if _, got, _ := open(t, c, 36); !same(got, upTo(37, 39)) {
					t.Errorf("after the repair: %v", got)
				}
			})
		}
	}
}

// broken is a file that fails when told to.
type broken struct {
	commitlog.File
	at *atomic.Int64 // writes and syncs until the failure; negative: none
	op string
}

func (b broken) fails(op string) bool { return b.op == op && b.at.Add(-1) == 0 }

func (b broken) WriteAt(p []byte, off int64) (int, error) {
	if b.fails("short") {
		n, _ := b.File.WriteAt(p[:len(p)/2], off)
		return n, nil
	}
	if b.fails("write") {
		return 0, syscall.EIO
	}
	if b.fails("nospace") {
		return 0, syscall.ENOSPC
	}
	return b.File.WriteAt(p, off)
}

func (b broken) Sync() error {
	if b.fails("sync") {
		return syscall.EIO
	}
	return b.File.Sync()
}

func TestAFailedWriteOrSyncIsFinal(t *testing.T) {
	for op, want := range map[string]error{"write": syscall.EIO, "sync": syscall.EIO, "nospace": syscall.ENOSPC, "short": nil} {
		t.Run(op, func(t *testing.T) {
			c := cfg(t)
			var at atomic.Int64
			at.Store(-1)
			c.Wrap = func(_ string, f commitlog.File) commitlog.File { return broken{f, &at, op} }
			l, _, _ := open(t, c, 0)
			fill(t, l, 1, 5)
			at.Store(1)
			err := appendTo(l, 6)
			if err == nil || want != nil && !errors.Is(err, want) {
				t.Fatalf("append: %v, want %v", err, want)
			}
			at.Store(-1) // the disk works again, but what it holds is unknown
			if again := appendTo(l, 6); again == nil || again.Error() != err.Error() {
				t.Errorf("append afterwards: %v, want %v", again, err)
			}
			l.Close()
			_, got, rep := open(t, c, 0)
			if len(got) < 5 || !same(got[:5], upTo(1, 5)) || len(rep.Damage) > 0 {
				t.Errorf("replayed %v, %+v", got, rep)
			}
		})
	}
}

type unreadable struct {
	commitlog.File
	from, to int64
}

func (u unreadable) ReadAt(p []byte, off int64) (int, error) {
	if off < u.to && off+int64(len(p)) > u.from {
		return 0, syscall.EIO
	}
	return u.File.ReadAt(p, off)
}

func TestAPageThatCannotBeReadIsDamageLikeAnyOther(t *testing.T) {
	c := cfg(t)
	l, _, _ := open(t, c, 0)
	fill(t, l, 1, 20)
	l.Close()
	c.Wrap = func(name string, f commitlog.File) commitlog.File {
		if name == "log.00" {
			return unreadable{f, 8192, 12288}
		}
		return f
	}
	_, got, rep := open(t, c, 0)
	if len(got) != 19 || len(rep.Damage) < 2 {
		t.Errorf("replayed %v, %+v", got, rep)
	}
	text := fmt.Sprint(rep.Damage)
	if !strings.Contains(text, "cannot be read") {
		t.Errorf("report %s", text)
	}
}

func TestTheSizeOfTheRingMayChange(t *testing.T) {
	c := cfg(t)
	l, _, _ := open(t, c, 0)
	fill(t, l, 1, 10)
	l.Close()
	c.Files, c.FileSize = 6, 2*fileSize
	l, got, rep := open(t, c, 0)
	if !same(got, upTo(1, 10)) || len(rep.Damage) > 0 || l.Size() != 6*2*fileSize {
		t.Fatalf("larger: replayed %v, %+v, %d bytes", got, rep, l.Size())
	}
	fill(t, l, 11, 80)
	l.Close()
	c.Files, c.FileSize = 4, fileSize
	l, got, rep = open(t, c, 0)
	if !same(got, upTo(1, 80)) || len(rep.Damage) > 0 {
		t.Fatalf("smaller: replayed %v, %+v", got, rep)
	}
	fill(t, l, 81, 85)
}

func TestImpossibleSizesAreRefused(t *testing.T) {
	for _, c := range []commitlog.Config{{Files: 2}, {FileSize: 5000}, {FileSize: 4096}} {
		c.Dir = t.TempDir()
		if _, err := commitlog.Open(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}
