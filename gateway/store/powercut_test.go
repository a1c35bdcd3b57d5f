package store_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"

	"tidegate/gateway/store"
	"tidegate/gateway/store/commitlog"
)

// disk is a disk with a volatile cache: what is written and not synced is lost in a power cut, page by page, in any
// combination.
type disk struct {
	mu    sync.Mutex
	rng   *rand.Rand
	left  int // operations until the power cut
	files []*cached
	off   bool
}

type cached struct {
	commitlog.File
	d       *disk
	pending []pageWrite
}

type pageWrite struct {
	p   []byte
	off int64
}

func (d *disk) wrap(_ string, f commitlog.File) commitlog.File {
	c := &cached{File: f, d: d}
	d.files = append(d.files, c)
	return c
}

// step counts an operation; at the cut a random part of what is pending reaches the disk.
func (d *disk) step() error {
	if d.off {
		return syscall.EIO
	}
	if d.left--; d.left > 0 {
		return nil
	}
	d.off = true
	for _, f := range d.files {
		for _, w := range f.pending {
			for at := 0; at < len(w.p); at += commitlog.PageSize {
				if d.rng.IntN(2) == 0 {
					f.File.WriteAt(w.p[at:min(at+commitlog.PageSize, len(w.p))], w.off+int64(at))
				}
			}
		}
	}
	return syscall.EIO
}

func (c *cached) WriteAt(p []byte, off int64) (int, error) {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	if c.d.off {
		return 0, syscall.EIO
	}
	c.pending = append(c.pending, pageWrite{append([]byte(nil), p...), off})
	if err := c.d.step(); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *cached) Sync() error {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	if err := c.d.step(); err != nil {
		return err
	}
	for _, w := range c.pending {
		if _, err := c.File.WriteAt(w.p, w.off); err != nil {
			return err
		}
	}
	c.pending = nil
	return c.File.Sync()
}

// cutPower runs producers on such a disk until the power goes and gives how many acknowledged units are missing then.
func cutPower(t *testing.T, dir string, seed uint64, noSync bool) (acked, missing int) {
	t.Helper()
	cfg := small(fmt.Sprintf("%s/%d", dir, seed))
	defer os.RemoveAll(cfg.Dir)
	open(t, cfg).Close() // the ring is made and filled
	d := &disk{rng: rand.New(rand.NewPCG(seed, 1)), left: 5 + int(seed*13%150)}
	cut := cfg
	cut.WrapLogFile = d.wrap
	cut.SyncDelay.Off = noSync
	cut.QueueBytes = 16 << 10 // small batches
	s := start(t, cut)
	var mu sync.Mutex
	last := map[int]int{}
	var wg sync.WaitGroup
	for p := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 1; ; n++ {
				err := s.Do(func(u *store.Unit) error {
					u.Append(store.Rec{Count: 1, Data: make([]byte, int(seed)*97%5000+n%50*100)})
					u.Put(fmt.Sprint("p", p), []byte(fmt.Sprint(n)))
					u.Put(fmt.Sprint("q", p), []byte(fmt.Sprint(n)))
					return nil
				}, func(_ []uint64, err error) {
					if err == nil {
						mu.Lock()
						last[p] = n
						acked++
						mu.Unlock()
					}
				})
				if err != nil {
					return
				}
			}
		}()
	}
	wg.Wait()
	s.Close()
	s = start(t, cfg)
	for p := range 4 {
		a, b := get(t, s, fmt.Sprint("p", p)), get(t, s, fmt.Sprint("q", p))
		if a != b && !noSync {
			t.Errorf("seed %d: two keys of a unit disagree: %s, %s", seed, a, b)
		}
		n := 0
		fmt.Sscan(a, &n)
		missing += max(0, last[p]-n)
	}
	if len(s.Damages()) > 0 && !noSync {
		t.Errorf("seed %d: a power cut is no damage: %v", seed, s.Damages())
	}
	appendRecs(t, s, 1, "goes on")
	s.Close()
	return acked, missing
}

func TestPowerCutsLoseNothingAcknowledged(t *testing.T) {
	total, dir := 0, tmpfs(t, 64) // whose syncs take no time: the disk is ours
	for seed := range uint64(30) {
		acked, missing := cutPower(t, dir, seed, false)
		if missing > 0 {
			t.Errorf("seed %d: %d acknowledged units are missing", seed, missing)
		}
		total += acked
	}
	if total < 1000 {
		t.Errorf("only %d units acknowledged", total)
	}
}

// TestPowerCutsCatchALeftOutSync is the negative control of the test above.
func TestPowerCutsCatchALeftOutSync(t *testing.T) {
	caught, dir := 0, tmpfs(t, 64)
	for seed := uint64(0); seed < 40 && caught < 5; seed++ { // a cut that finds nothing unwritten loses nothing
		if _, missing := cutPower(t, dir, seed, true); missing > 0 {
			caught++
		}
	}
	if caught < 5 {
		t.Errorf("only %d of 40 power cuts without syncs were caught", caught)
	}
}
