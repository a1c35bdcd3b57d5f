// Package blockrec records what a file system writes to its disk, in order and with the flushes between, and builds the
// disks that a power cut could have left. The disk is a file in a FUSE mount served by this process, with a loop device and
// ext4 on top, so everything above it is the real kernel; it needs root, /dev/fuse and a loop device. On demand it fails
// syncs or writes and slows syncs down.
//
//	base := blockrec.Format(t, 512<<20)
//	d := blockrec.Mount(t, base)
//	... work in d.Dir, noting d.Pos() at each acknowledgement ...
//	d.Unmount()
//	img := blockrec.Cut(base, d.Events(), at, blockrec.Subset, rnd)
//	blockrec.Mount(t, img) // as found after the cut
//
// What it cannot show: tears below 4 KiB, and a disk that reorders across a flush.
package blockrec

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// TB is what the package needs of a *testing.T.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Cleanup(func())
	TempDir() string
}

// Event is one thing the disk was told: a write, or a flush, which promises that the first Covers events are safe.
type Event struct {
	Off    int64
	Data   []byte // nil for a flush
	Flush  bool
	Covers int
	At     time.Time
}

// Disk is a mounted one. Its methods may be called from any goroutine but Unmount.
type Disk struct {
	Dir  string // where its file system is mounted
	tb   TB
	loop string
	fuse interface{ Unmount() error }
	once sync.Once

	mu        sync.Mutex // guards what follows
	img       *Image
	events    []Event
	failSync  bool
	failWrite bool
	delay     time.Duration
}

// Format makes an empty ext4 of size bytes.
func Format(tb TB, size int64) *Image {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "base.img")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		tb.Fatalf("blockrec: %v", err)
	}
	if err := os.Truncate(file, size); err != nil {
		tb.Fatalf("blockrec: %v", err)
	}
	// Nothing left to initialise in the background, which would fill the recording.
	run(tb, "mke2fs", "-q", "-t", "ext4", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-F", file)
	img, err := load(file, size)
	if err != nil {
		tb.Fatalf("blockrec: %v", err)
	}
	return img
}

// Mount serves a copy of img as a disk and mounts its file system; it is unmounted at the end of the test at the latest.
func Mount(tb TB, img *Image) *Disk {
	tb.Helper()
	d := &Disk{tb: tb, img: img.Clone()}
	work := tb.TempDir()
	under := filepath.Join(work, "under")
	d.Dir = filepath.Join(work, "disk")
	for _, dir := range []string{under, d.Dir} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			tb.Fatalf("blockrec: %v", err)
		}
	}
	var err error
	if d.fuse, err = serve(under, d); err != nil {
		tb.Fatalf("blockrec: FUSE mount (needs root and /dev/fuse): %v", err)
	}
	tb.Cleanup(d.Unmount)
	d.loop = strings.TrimSpace(run(tb, "losetup", "--direct-io=on", "-f", "--show", filepath.Join(under, "disk")))
	run(tb, "mount", "-t", "ext4", d.loop, d.Dir)
	return d
}

// Unmount takes everything down again. It may be called twice.
func (d *Disk) Unmount() {
	d.once.Do(func() {
		d.tb.Helper()
		d.FailSyncs(false)
		d.FailWrites(false)
		if out, err := exec.Command("umount", d.Dir).CombinedOutput(); err != nil && mounted(d.Dir) {
			d.tb.Logf("blockrec: umount: %s", out)
			exec.Command("umount", "-l", d.Dir).Run()
		}
		if d.loop != "" {
			exec.Command("losetup", "-d", d.loop).Run()
		}
		for range 100 { // the loop device lets go of its file a moment later
			if d.fuse.Unmount() == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		d.tb.Logf("blockrec: the FUSE mount under %s stays busy", d.Dir)
	})
}

// FailSyncs makes every flush answer EIO while it is on, FailWrites every write.
func (d *Disk) FailSyncs(on bool) { d.set(func() { d.failSync = on }) }

// FailWrites makes every write answer EIO while it is on.
func (d *Disk) FailWrites(on bool) { d.set(func() { d.failWrite = on }) }

// DelaySyncs makes every flush take that much longer.
func (d *Disk) DelaySyncs(by time.Duration) { d.set(func() { d.delay = by }) }

func (d *Disk) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// Pos is the number of events so far: what was safe when it was taken is safe in every cut at or behind it.
func (d *Disk) Pos() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.events)
}

// Events is everything recorded so far; the slice may be kept.
func (d *Disk) Events() []Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.events[:len(d.events):len(d.events)]
}

// Image is a copy of the disk as it is now.
func (d *Disk) Image() *Image {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.img.Clone()
}

// Mode says what a cut does to the writes that no flush had made safe.
type Mode int

const (
	Prefix    Mode = iota // all of them are there
	Flushed               // none is
	Subset                // some are, in any order, some of them torn at 4 KiB
	modeCount             // number of modes
)

// String names the mode.
func (m Mode) String() string { return [...]string{"prefix", "flushed", "subset"}[m] }

// Plan chooses n points at or behind from for cuts, and a mode for each: every other one where most was in flight, which is
// just before a flush that covers at least 4 writes.
func Plan(events []Event, from, n int, rnd *rand.Rand) (at []int, modes []Mode) {
	var wide []int
	run := 0
	for i, e := range events {
		switch {
		case !e.Flush:
			run++
		case run >= 4 && i >= from:
			wide = append(wide, i)
			run = 0
		default:
			run = 0
		}
	}
	for i := range n {
		k := from + rnd.IntN(len(events)-from+1)
		if i%2 == 1 && len(wide) > 0 {
			k = wide[rnd.IntN(len(wide))]
		}
		at, modes = append(at, k), append(modes, Mode(i/2)%modeCount)
	}
	return at, modes
}

// Cut is the disk that a power cut after the first at events could have left.
func Cut(base *Image, events []Event, at int, mode Mode, rnd *rand.Rand) *Image {
	img := base.Clone()
	safe := 0
	for _, e := range events[:at] {
		safe = max(safe, e.Covers)
	}
	for _, e := range events[:safe] {
		img.WriteAt(e.Data, e.Off)
	}
	tail := append([]Event(nil), events[safe:at]...)
	switch mode {
	case Flushed:
		tail = nil
	case Subset:
		rnd.Shuffle(len(tail), func(i, j int) { tail[i], tail[j] = tail[j], tail[i] })
		tail = tail[:(len(tail)+rnd.IntN(2))/2]
	}
	for _, e := range tail {
		data := e.Data
		if pages := len(data) / pageSize; mode == Subset && pages > 1 && rnd.IntN(3) == 0 {
			data = data[:pageSize*(1+rnd.IntN(pages-1))]
		}
		img.WriteAt(data, e.Off)
	}
	return img
}

func run(tb TB, argv ...string) string {
	tb.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		tb.Fatalf("blockrec: %s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

func mounted(dir string) bool {
	b, _ := os.ReadFile("/proc/mounts")
	return strings.Contains(string(b), fmt.Sprintf(" %s ", dir))
}
