package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// residentOf is how many bytes of the files of one kind below dir are resident.
func residentOf(t *testing.T, dir, ext string) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	ours := false
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, "-") && strings.Contains(strings.Fields(line)[0], "-") {
			ours = strings.Contains(line, dir) && strings.HasSuffix(strings.TrimSpace(line), ext)
		}
		var kb int
		if c, _ := fmt.Sscanf(line, "Rss: %d kB", &kb); c == 1 && ours {
			n += kb << 10
		}
	}
	return n
}

// What the database has touched of its files leaves memory, and everything is still there, while others read.
func TestMappedFilesLeaveMemory(t *testing.T) {
	cfg := tiny(t)
	cfg.LogFileSize = 4 << 20
	s := mustOpen(t, cfg)
	s.Start()
	const units, values, size = 25, 64, 30 << 10
	value := func(i, k, n int) []byte { return bytes.Repeat([]byte{byte(i + 1), byte(k)}, n/2) }
	for i := range units {
		if err := s.Wait(func(u *Unit) error {
			for k := range values {
				u.Put(fmt.Sprintf("big/%02d/%02d", i, k), value(i, k, size))
				u.Put(fmt.Sprintf("small/%02d/%02d", i, k), value(i, k, 900))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	shed := func() {
		s.applyMu.Lock()
		s.shed = time.Time{}
		s.applyMu.Unlock()
		s.shedMapped()
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { // readers come and go meanwhile
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			seen := 0
			if err := s.Scan("big/", func(_ string, v []byte) bool { seen++; return v[0] != 0 }); err != nil || seen != units*values {
				done <- fmt.Errorf("%d values, %v", seen, err)
				return
			}
		}
	}()
	dir, err := filepath.EvalSymlinks(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		shed()
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	before, after := 0, 0
	for try := 0; before < mappedMost && try < 20; try++ { // the applier may come in between
		if err := s.Scan("big/", func(string, []byte) bool { return true }); err != nil { // all of it is in memory again
			t.Fatal(err)
		}
		before = residentOf(t, dir, ".vlog") + residentOf(t, dir, ".sst")
		shed()
		after = residentOf(t, dir, ".vlog") + residentOf(t, dir, ".sst")
	}
	if before < mappedMost || after > before/4 {
		t.Errorf("%d bytes were resident, %d are", before, after)
	}
	for i := range units {
		for k := range values {
			if v, err := s.Get(fmt.Sprintf("big/%02d/%02d", i, k)); err != nil || !bytes.Equal(v, value(i, k, size)) {
				t.Fatalf("value %d/%d has changed: %v", i, k, err)
			}
			if v, err := s.Get(fmt.Sprintf("small/%02d/%02d", i, k)); err != nil || !bytes.Equal(v, value(i, k, 900)) {
				t.Fatalf("small value %d/%d has changed: %v", i, k, err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
