package commitlog

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

func TestSyncerSyncsWithAndWithoutTheKernelsHelp(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := newSyncer()
	defer s.close()
	for i := range 50 {
		if i == 25 {
			s.end() // as where there is no asynchronous sync
		}
		if _, err := f.WriteAt([]byte("page"), int64(i)*PageSize); err != nil {
			t.Fatal(err)
		}
		if err := s.sync(f); err != nil {
			t.Fatalf("sync %d: %v", i, err)
		}
	}
}

// A pipe cannot be synced by either way: the first one is given up, the second one's answer counts.
func TestSyncerTellsWhatCannotBeSynced(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	s := newSyncer()
	defer s.close()
	for range 2 {
		if err := s.sync(w); !errors.Is(err, syscall.EINVAL) {
			t.Fatalf("sync of a pipe: %v, want EINVAL", err)
		}
	}
}

// Closing the eventfd under a sync that is waiting for it must not leave open whether the file is on the disk.
func TestSyncerClosedMeanwhileStillKnows(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 20 {
		s := newSyncer()
		f.WriteAt(make([]byte, 1<<20), 0)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.sync(f); err != nil {
				t.Errorf("sync: %v", err)
			}
		})
		s.done.Close()
		wg.Wait()
		s.end()
	}
}
