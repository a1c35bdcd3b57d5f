package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/store"
)

// small is a configuration that keeps tests quick.
func small(dir string) store.Config {
	c := store.DefaultConfig(dir)
	c.LogFiles, c.LogFileSize = 4, 256<<10
	c.ApplyEvery = time.Hour // tests say Flush
	c.Ballast, c.Reserve = -1, 1
	return c
}

func open(t *testing.T, cfg store.Config) *store.Store {
	t.Helper()
	released(t, cfg.Dir)
	s, err := store.Open(cfg, clock.System())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		released(t, cfg.Dir)
	})
	return s
}

// released waits until nobody holds the data folder: Close leaves the database of a store that has failed alone when that
// takes long, since its process ends then, but this one goes on.
func released(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return // there was none
	}
	defer f.Close()
	for deadline := time.Now().Add(30 * time.Second); syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s is still locked", dir)
		}
	}
}

func start(t *testing.T, cfg store.Config) *store.Store {
	t.Helper()
	s := open(t, cfg)
	s.Start()
	return s
}

func put(t *testing.T, s *store.Store, kv ...string) {
	t.Helper()
	if err := s.Wait(func(u *store.Unit) error {
		for i := 0; i < len(kv); i += 2 {
			u.Put(kv[i], []byte(kv[i+1]))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, s *store.Store, key string) string {
	t.Helper()
	v, err := s.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	if v == nil {
		return "-"
	}
	return string(v)
}

// appendRecs commits n blocks of one record each and gives the first number.
func appendRecs(t *testing.T, s *store.Store, n int, text string) (first uint64) {
	t.Helper()
	ch := make(chan error, 1)
	if err := s.Do(func(u *store.Unit) error {
		for i := range n {
			u.Append(store.Rec{Count: 1, Data: fmt.Appendf(nil, "%s %d", text, i)})
		}
		return nil
	}, func(f []uint64, err error) {
		if err == nil {
			first = f[0]
		}
		ch <- err
	}); err != nil {
		t.Fatal(err)
	}
	if err := <-ch; err != nil {
		t.Fatal(err)
	}
	return first
}

// readAll reads every block from number from on and gives the blocks' texts and the holes.
func readAll(t *testing.T, s *store.Store, from uint64) (recs, holes []string) {
	t.Helper()
	r := s.Records(from)
	for {
		first, rec, ok, err := r.Next()
		if err != nil {
			holes = append(holes, err.Error())
			continue
		}
		if !ok {
			return recs, holes
		}
		recs = append(recs, fmt.Sprintf("%d:%s", first, rec.Data))
	}
}

func TestWhatWasCommittedIsThereAfterARestart(t *testing.T) {
	for _, flush := range []bool{false, true} {
		for _, key := range [][]byte{nil, []byte("0123456789abcdef0123456789abcdef")} {
			t.Run(fmt.Sprintf("flush %v, encrypted %v", flush, key != nil), func(t *testing.T) {
				cfg := small(t.TempDir())
				cfg.Key = key
				s := start(t, cfg)
				put(t, s, "a", "1", "b", "2", "c", "")
				put(t, s, "a", "3")
				appendRecs(t, s, 3, "x")
				if flush {
					if err := s.Flush(); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.Wait(func(u *store.Unit) error { u.Del("b"); return nil }); err != nil {
					t.Fatal(err)
				}
				appendRecs(t, s, 2, "y")
				epoch := s.Epoch()
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = start(t, cfg)
				if got := get(t, s, "a") + get(t, s, "b") + get(t, s, "c"); got != "3-" {
					t.Errorf("state %q", got)
				}
				recs, holes := readAll(t, s, 1)
				if got, want := strings.Join(recs, " "), "1:x 0 2:x 1 3:x 2 4:y 0 5:y 1"; got != want || holes != nil {
					t.Errorf("records %q, want %q; holes %q", got, want, holes)
				}
				if s.Next() != 6 || s.Epoch() != epoch || len(s.Damages()) > 0 {
					t.Errorf("next %d, epoch %d (was %d), damages %v", s.Next(), s.Epoch(), epoch, s.Damages())
				}
			})
		}
	}
}

func TestDonesRunInTheOrderOfSubmits(t *testing.T) {
	s := start(t, small(t.TempDir()))
	var mu sync.Mutex
	var got []int
	var wg sync.WaitGroup
	for i := range 2000 {
		wg.Add(1)
		u := s.NewUnit()
		if i%3 > 0 { // every third writes nothing and must wait its turn all the same
			u.Append(store.Rec{Count: 1, Data: []byte("x")})
		}
		u.Done = func([]uint64, error) { mu.Lock(); got = append(got, i); mu.Unlock(); wg.Done() }
		if err := s.Submit(u); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	for i, g := range got {
		if g != i {
			t.Fatalf("done %d came at place %d", g, i)
		}
	}
	if st := s.Stats(); st.Commits == 0 || st.Commits > 1500 {
		t.Errorf("%d commits for %d units", st.Commits, st.Units)
	}
}

func TestAReadSeesWhatWasSubmittedBefore(t *testing.T) {
	s := open(t, small(t.TempDir()))
	u := s.NewUnit()
	u.Put("k/1", []byte("new"))
	u.Del("k/2")
	if err := s.Submit(u); err != nil { // not started: nothing is committed
		t.Fatal(err)
	}
	if got := get(t, s, "k/1"); got != "new" {
		t.Errorf("got %q", got)
	}
	u2 := s.NewUnit()
	u2.Put("k/3", []byte("own"))
	v, _ := u2.Get("k/3")
	w, _ := u2.Get("k/1")
	if string(v) != "own" || string(w) != "new" {
		t.Errorf("own write %q, submitted write %q", v, w)
	}
}

func TestScanAfterBeginsBehindAKey(t *testing.T) {
	s := start(t, small(t.TempDir()))
	put(t, s, "o", "x", "p/a", "1", "p/c", "3", "p/e", "5", "q", "x")
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	put(t, s, "p/b", "2", "p/d", "4", "p/e", "6")
	for after, want := range map[string]string{"": "p/a=1 p/b=2 p/c=3 p/d=4 p/e=6", "o": "p/a=1 p/b=2 p/c=3 p/d=4 p/e=6", "p/": "p/a=1 p/b=2 p/c=3 p/d=4 p/e=6", "p/a": "p/b=2 p/c=3 p/d=4 p/e=6",
		"p/b": "p/c=3 p/d=4 p/e=6", "p/bb": "p/c=3 p/d=4 p/e=6", "p/d": "p/e=6", "p/e": "", "p/z": "", "q": ""} {
		var got []string
		if err := s.ScanAfter("p/", after, func(k string, v []byte) bool { got = append(got, k+"="+string(v)); return true }); err != nil || strings.Join(got, " ") != want {
			t.Errorf("after %q: %q, %v, want %q", after, got, err, want)
		}
	}
}

func TestScanMergesSubmittedAndApplied(t *testing.T) {
	s := start(t, small(t.TempDir()))
	put(t, s, "p/a", "1", "p/c", "1", "p/e", "1", "q/x", "1")
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	put(t, s, "p/b", "2", "p/c", "2", "p/f", "2", "o/x", "2")
	if err := s.Wait(func(u *store.Unit) error { u.Del("p/e"); return nil }); err != nil {
		t.Fatal(err)
	}
	var got []string
	scan := func(max int) string {
		got = nil
		if err := s.Scan("p/", func(k string, v []byte) bool { got = append(got, k+"="+string(v)); return len(got) < max }); err != nil {
			t.Fatal(err)
		}
		return strings.Join(got, " ")
	}
	if got, want := scan(100), "p/a=1 p/b=2 p/c=2 p/f=2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := scan(2), "p/a=1 p/b=2"; got != want {
		t.Errorf("stopped after two: got %q, want %q", got, want)
	}
}

func TestLocksInAnyOrderNeitherLoseUpdatesNorDeadlock(t *testing.T) {
	s := start(t, small(t.TempDir()))
	names := []string{"a", "b", "c", "d", "e"}
	var wg sync.WaitGroup
	const rounds = 300
	for g := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range rounds {
				x, y := names[(g+i)%5], names[(g*3+i*2+1)%5]
				if err := s.Do(func(u *store.Unit) error {
					for _, n := range []string{x, y} {
						u.Lock(n)
						v, err := u.Get("n/" + n)
						if err != nil {
							return err
						}
						u.Put("n/"+n, append([]byte(nil), append(v, '.')...))
					}
					return nil
				}, nil); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, n := range names {
		total += len(get(t, s, "n/"+n))
	}
	if want := 8 * rounds * 2; total != want {
		t.Errorf("%d updates kept, want %d", total, want)
	}
}

func TestWhatTheStoreTakesUpIsCounted(t *testing.T) {
	cfg := small(t.TempDir())
	s := start(t, cfg)
	before := s.DiskBytes()
	if least := int64(cfg.LogFiles) * cfg.LogFileSize; before < least {
		t.Errorf("%d bytes, but the log alone has %d", before, least)
	}
	if err := os.WriteFile(filepath.Join(cfg.Dir, "more"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := s.DiskBytes() - before; got < 1<<20 {
		t.Errorf("another MiB is %d bytes", got)
	}
}
