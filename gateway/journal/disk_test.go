package journal_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tidegate/gateway/journal"
	"tidegate/gateway/store"
)

// Records are given up for a full disk only if that makes room enough. When somebody else has filled the disk, what
// cursors still want stays, and new work is refused until there is room.
func TestAFullDiskDropsOnlyWhatHelps(t *testing.T) {
	for _, c := range []struct {
		name    string
		records int // of 1,000 bytes
		lost    bool
	}{
		{"somebody else has filled it", 600, false},
		{"it is full of records", 16_000, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := syscall.Mount("tidegate-test", dir, "tmpfs", 0, "size=64m"); err != nil {
				t.Fatalf("mount a tmpfs (the tests of a full disk need root): %v", err)
			}
			t.Cleanup(func() {
				if err := syscall.Unmount(dir, 0); err != nil {
					t.Error(err)
				}
			})
			h := build(t, func(sc *store.Config, jc *journal.Config) {
				sc.Dir, sc.MemTable, sc.Reserve = filepath.Join(dir, "store"), 1<<20, 12<<20
				jc.WhenFull = journal.DropOldest
			})
			wants := h.cursor("wants")
			for left := c.records; left > 0; left -= 200 {
				h.publish(200, 1000)
				h.flush()
			}
			var st syscall.Statfs_t
			if err := syscall.Statfs(dir, &st); err != nil {
				t.Fatal(err)
			}
			const free = 8 << 20 // 4 MiB too little
			if err := os.WriteFile(filepath.Join(dir, "other"), make([]byte, int64(st.Bavail)*st.Bsize-free), 0o600); err != nil {
				t.Fatal(err)
			}
			h.publish(1, 1000)
			err := h.db.Flush()
			ledger := h.j.Ledger(time.Time{}, 0)
			if !c.lost {
				if err == nil || len(ledger) > 0 || wants.Pos() != 1 {
					t.Errorf("flush: %v, ledger %v, cursor at %d", err, ledger, wants.Pos())
				}
				if got, want := h.read(1), fmt.Sprintf("1-%d", c.records+1); got != want {
					t.Errorf("kept %s, want %s", got, want)
				}
				if err := os.Remove(filepath.Join(dir, "other")); err != nil {
					t.Fatal(err)
				}
				h.flush() // and goes on
				return
			}
			if err != nil || len(ledger) == 0 || !strings.Contains(ledger[0].Why, "disk") || wants.Pos() == 1 {
				t.Errorf("flush: %v, ledger %v, cursor at %d", err, ledger, wants.Pos())
			}
			if got, want := h.read(wants.Pos()), fmt.Sprintf("%d-%d", wants.Pos(), c.records+1); got != want {
				t.Errorf("kept %s, want %s", got, want)
			}
		})
	}
}
