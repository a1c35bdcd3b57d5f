package blockrec_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"tidegate/test/crash/blockrec"
)

// work appends lines to a file, each made safe before the next unless sync is left out, and notes where each was.
func work(t *testing.T, d *blockrec.Disk, lines int, sync bool) (acked []int) {
	t.Helper()
	f, err := os.Create(filepath.Join(d.Dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range lines {
		fmt.Fprintf(f, "%04000d\n", i)
		if sync {
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		acked = append(acked, d.Pos())
	}
	return acked
}

// survived is how many whole lines stand at the start of the file.
func survived(d *blockrec.Disk) int {
	b, _ := os.ReadFile(filepath.Join(d.Dir, "log"))
	n := 0
	for ; len(b) >= 4001 && string(b[:4001]) == fmt.Sprintf("%04000d\n", n); n++ {
		b = b[4001:]
	}
	return n
}

// lost runs cuts over a recording and counts those that miss a line that was safe before them.
func lost(t *testing.T, cuts int, sync bool) (bad int) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	base := blockrec.Format(t, 32<<20)
	d := blockrec.Mount(t, base)
	acked := work(t, d, 50, sync)
	events := d.Events()
	d.Unmount()
	at, modes := blockrec.Plan(events, acked[0], cuts, rnd)
	for i := range at {
		after := blockrec.Mount(t, blockrec.Cut(base, events, at[i], modes[i], rnd))
		want := 0
		for want < len(acked) && acked[want] <= at[i] {
			want++
		}
		if got := survived(after); got < want {
			bad++
			if sync {
				t.Errorf("cut at %d of %d (%v): %d lines there, %d were safe", at[i], len(events), modes[i], got, want)
			}
		}
		after.Unmount()
	}
	return bad
}

func TestWhatWasSyncedSurvivesEveryCut(t *testing.T) { lost(t, 12, true) }

func TestAMissingSyncIsSeen(t *testing.T) {
	if bad := lost(t, 6, false); bad < 3 {
		t.Errorf("%d of 6 cuts lost a line though nothing was synced; the rig does not see what it is for", bad)
	}
}

func TestTheRecordingIsTheDisk(t *testing.T) {
	base := blockrec.Format(t, 32<<20)
	d := blockrec.Mount(t, base)
	work(t, d, 20, true)
	d.Unmount()
	events := d.Events()
	replayed := blockrec.Cut(base, events, len(events), blockrec.Prefix, nil)
	if !replayed.Equal(d.Image()) {
		t.Error("replaying all that was recorded does not give the disk")
	}
	if replayed.Equal(base) {
		t.Error("nothing was recorded")
	}
}

func TestSyncsFailAndSlowDown(t *testing.T) {
	d := blockrec.Mount(t, blockrec.Format(t, 32<<20))
	f, err := os.Create(filepath.Join(d.Dir, "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write := func() error {
		if _, err := f.Write([]byte("x")); err != nil {
			return err
		}
		return f.Sync()
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	d.DelaySyncs(30 * time.Millisecond)
	start := time.Now()
	if err := write(); err != nil || time.Since(start) < 30*time.Millisecond {
		t.Errorf("slowed by 30 ms: %v after %v", err, time.Since(start))
	}
	d.DelaySyncs(0)
	d.FailSyncs(true)
	if err := write(); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v, want EIO", err)
	}
}
