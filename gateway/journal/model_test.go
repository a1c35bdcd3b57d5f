package journal_test

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"testing"

	"tidegate/gateway/journal"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// owner is a session in the model: it wants every nth record and acknowledges them one by one, in order.
type owner struct {
	name    string
	every   uint64
	pending []uint64
	done    uint64 // everything below has been acknowledged or was not wanted, as the owner knows
	c       *journal.Cursor
}

func (o *owner) wants(n uint64) bool { return n%o.every == 0 }

// TestCrashesLoseNothingThatIsPending drives a journal with sessions at random: publish, acknowledge, apply, restart, and
// crash (the files as they are). After a restart everything that was pending is above its cursor and can be read, and
// what was acknowledged before an orderly restart is not given out again.
func TestCrashesLoseNothingThatIsPending(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { crashes(t, rand.New(rand.NewPCG(seed, 5)), 60) })
	}
}

func crashes(t *testing.T, rng *rand.Rand, steps int) {
	h := build(t, func(sc *store.Config, _ *journal.Config) {
		sc.SegmentBytes, sc.LogFiles, sc.LogFileSize = 16<<10, 8, 1<<20 // so large that nobody applies while files are copied
		if rng.IntN(2) == 0 {
			sc.Key = []byte("0123456789abcdef")
		}
		if rng.IntN(2) == 0 {
			sc.RingBytes = 1 << 20
		}
	})
	var owners []*owner
	var log []string
	defer func() {
		if t.Failed() {
			t.Log(log)
		}
	}()
	add := func() {
		o := &owner{name: fmt.Sprint("s", len(owners)), every: 1 + uint64(rng.IntN(5))}
		o.c = h.cursor(o.name)
		o.done = o.c.Pos()
		o.c.Float()
		owners = append(owners, o)
	}
	add()
	for step := range steps {
		op := rng.IntN(12)
		log = append(log, fmt.Sprint(step, ":", op))
		switch {
		case op == 0 && len(owners) < 5:
			add()
		case op <= 4:
			for range 1 + rng.IntN(20) {
				n := h.j.Next()
				m := mqtt.Message{Topic: "t", QoS: 1, Payload: append(fmt.Appendf(nil, "%d ", n), make([]byte, rng.IntN(2000))...)}
				if err := h.db.Do(func(u *store.Unit) error { u.Append(journal.Block(mqtt.NewRun(&m))); return nil },
					func(first []uint64, err error) {
						for _, o := range owners {
							if o.wants(first[0]) {
								o.pending = append(o.pending, first[0])
								o.c.Pin(first[0])
							}
						}
					}); err != nil {
					t.Fatal(err)
				}
				if err := h.db.Drain(); err != nil {
					t.Fatal(err)
				}
			}
		case op <= 7:
			o := owners[rng.IntN(len(owners))]
			if n := len(o.pending); n > 0 {
				k := 1 + rng.IntN(n)
				o.done = o.pending[k-1] + 1
				if o.pending = o.pending[k:]; len(o.pending) > 0 {
					o.c.Move(o.pending[0])
				} else {
					o.c.Float()
				}
			}
		case op <= 9:
			h.flush()
		default:
			crash := op == 11
			if crash {
				dir := snapshot(t, h.cfg.Dir)
				h.db.Close()
				h.cfg.Dir = dir
				h.open()
			} else {
				h.reopen()
			}
			if ds := h.db.Damages(); len(ds) > 0 {
				t.Fatalf("step %d: damages %v", step, ds)
			}
			for _, o := range owners {
				c, ok := h.j.Cursor(o.name)
				if !ok {
					t.Fatalf("step %d: cursor %s is gone", step, o.name)
				}
				o.c = c
				if len(o.pending) > 0 && c.Pos() > o.pending[0] {
					t.Fatalf("step %d: %s stands at %d, but %d is pending", step, o.name, c.Pos(), o.pending[0])
				}
				if !crash && len(o.pending) > 0 && c.Pos() < o.done {
					t.Errorf("step %d: %s stands at %d after an orderly end, %d was acknowledged", step, o.name, c.Pos(), o.done-1)
				}
				o.done = c.Pos()
				// The owner looks what touches it, as the contract has it.
				o.pending = o.pending[:0]
				r := h.j.Reader(c.Pos())
				next := c.Pos()
				for {
					first, run, ok, err := r.Next()
					if err != nil {
						t.Fatalf("step %d: %s reads from %d: %v", step, o.name, c.Pos(), err)
					}
					if !ok {
						break
					}
					if first != next {
						t.Fatalf("step %d: record %d where %d should be", step, first, next)
					}
					for range run.Len() {
						if o.wants(next) {
							o.pending = append(o.pending, next)
						}
						next++
					}
				}
				if next != h.j.Next() {
					t.Fatalf("step %d: read to %d of %d", step, next, h.j.Next())
				}
				if len(o.pending) > 0 {
					c.Move(o.pending[0])
				} else {
					c.Float()
				}
			}
		}
	}
}

// snapshot copies a store's directory as a kill would leave it: again, when the database
// wrote in the meantime: a copy takes its files one behind the other.
func snapshot(t *testing.T, from string) string {
	t.Helper()
	state := func() string {
		entries, err := os.ReadDir(from + "/db")
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, e := range entries {
			content, err := os.ReadFile(from + "/db/" + e.Name())
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			text += fmt.Sprint(e.Name(), " ", len(content), " ", crc32.ChecksumIEEE(content), "\n")
		}
		return text
	}
	for {
		dir, before := t.TempDir(), state()
		err := os.CopyFS(dir, os.DirFS(from))
		if before == state() && err == nil {
			return dir
		}
	}
}
