package crash_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidegate/test/harness"
	"tidegate/test/traffic"
)

// backlog makes a data folder with messages waiting for the upstream and for the absent subscriber, killed at work.
func backlog(t *testing.T) (dir string, acked []uint64) {
	t.Helper()
	s := newScene(t, harness.Options{})
	s.keep(traffic.KeeperOptions{})
	s.start()
	if !s.keeper.Subscribed() {
		t.Fatal("no subscription at the gateway")
	}
	s.keeper.Stop()
	s.net.BlackHole(true)
	s.publish(0, nil)
	harness.Until(t, "traffic", func() bool { return s.fleet.Total() > 4000 })
	s.kill() // what came until here is in Badger after the next start, what follows stands in the log alone
	s.start()
	harness.Until(t, "more traffic", func() bool { return s.fleet.Total() > 8000 })
	s.fleet.Abandon()
	acked = s.fleet.Acked()
	s.kill()
	if err := os.RemoveAll(filepath.Join(s.g.Dir, "run")); err != nil {
		t.Fatal(err)
	}
	return s.g.Dir, acked
}

// damaged starts a gateway on a folder that was harmed, waits for what is left of its messages and holds that against the
// ledger: what is missing must stand in it.
func damaged(t *testing.T, dir string, acked []uint64) (missing uint64, losses []harness.Loss, bad []string) {
	t.Helper()
	s := newScene(t, harness.Options{Dir: dir})
	defer s.up.Stop()
	s.above.AllowHoles()
	s.watch(nil)
	defer s.watcher.Stop()
	s.g.Launch()
	defer s.g.Kill()
	if err := s.g.WaitReady(); err != nil {
		return 0, nil, []string{err.Error()}
	}
	s.gateway.Set(s.g.MQTT)
	// It still takes and delivers: by then everything before has come.
	after := traffic.StartFleet(&s.gateway, traffic.FleetOptions{Publishers: 1, First: publishers, Size: size, Limit: 1, Topic: "crash"})
	defer after.Abandon()
	bad = append(bad, s.above.WaitFor([]uint64{0, 0, 0, 0, 1}, quiet)...)
	bad = append(bad, s.above.Bad()...)
	missing = s.above.Missed()
	for p, high := range s.above.High()[:publishers] {
		missing += max(acked[p], high) - high
	}
	losses = s.g.Ledger()
	var sum uint64
	unknown := false // a tail that is gone cannot be counted
	for _, l := range losses {
		sum += l.Count
		unknown = unknown || l.Count == 0 && l.Why != ""
	}
	if sum < missing && !unknown {
		bad = append(bad, fmt.Sprintf("%d messages are missing, the ledger accounts for %d", missing, sum))
	}
	return missing, losses, bad
}

// newest is the file below dir that was written last, of those that hold anything and whose path has the word in it.
func newest(t *testing.T, dir, word string) string {
	t.Helper()
	var name string
	var at time.Time
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.Contains(path, word) {
			return err
		}
		if st, err := d.Info(); err == nil && st.Size() > 0 && st.ModTime().After(at) {
			name, at = path, st.ModTime()
		}
		return nil
	})
	if name == "" {
		t.Fatalf("no file with %q in its path below %s", word, dir)
	}
	return name
}

func TestDamagedFiles(t *testing.T) {
	dir, acked := backlog(t)
	rnd := rand.New(rand.NewPCG(rand.Uint64(), 0))
	flip := func(word string) func(*testing.T, string) string {
		return func(t *testing.T, copied string) string {
			file := newest(t, filepath.Join(copied, "store"), word)
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			// A flip in the empty part proves nothing, and one in the very last entry of any log looks like an entry that was
			// never finished.
			used := len(strings.TrimRight(string(b), "\x00")) - 64<<10
			at := rnd.IntN(max(1, used))
			b[at] ^= 1 << rnd.IntN(8)
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			return file
		}
	}
	truncate := func(word string) func(*testing.T, string) string {
		return func(t *testing.T, copied string) string {
			file := newest(t, filepath.Join(copied, "store"), word)
			st, err := os.Stat(file)
			if err == nil {
				err = os.Truncate(file, rnd.Int64N(st.Size()))
			}
			if err != nil {
				t.Fatal(err)
			}
			return file
		}
	}
	for _, harm := range []struct {
		name   string
		rounds int
		do     func(t *testing.T, copied string) (file string)
	}{
		{"a bit flipped in the newest file", pick(3, 40), flip("")},
		{"a bit flipped in the newest log file", pick(3, 40), flip("/log")},
		{"a bit flipped in the newest value log", pick(2, 20), flip(".vlog")},
		{"the newest file truncated", pick(2, 20), truncate("")},
		{"the newest log file truncated", pick(2, 20), truncate("/log")},
		{"the newest value log truncated", pick(2, 20), truncate(".vlog")},
		{"the newest table truncated", pick(1, 10), truncate(".mem")},
		{"the manifest gone", 1, func(t *testing.T, copied string) string {
			file := newest(t, filepath.Join(copied, "store"), "MANIFEST")
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			return file
		}},
	} {
		t.Run(harm.name, func(t *testing.T) {
			for range harm.rounds {
				copied := filepath.Join(t.TempDir(), "data")
				if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				keepTimes(t, dir, copied)
				file := harm.do(t, copied)
				missing, losses, bad := damaged(t, copied, acked)
				rel, _ := filepath.Rel(copied, file)
				t.Logf("%s: %d missing, ledger %+v", rel, missing, losses)
				for _, line := range bad {
					t.Errorf("%s: %s", rel, line)
				}
			}
		})
	}
}

// keepTimes gives the files of a copy the times of the originals.
func keepTimes(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(from, path)
		return os.Chtimes(filepath.Join(to, rel), st.ModTime(), st.ModTime())
	})
	if err != nil {
		t.Fatal(err)
	}
}
