package store

import (
	"fmt"
	"sync/atomic"
	"time"
)

// The store's goroutines, as Probe knows them.
const (
	committing = iota
	acknowledging
	applying
	tasks
)

var taskNames = [tasks]string{"a commit", "telling what was committed", "moving commits to the database"}

// work is when a goroutine began what it is at, in time since start of the process; 0: it waits for something to do.
type work struct{ since atomic.Int64 }

var processStart = time.Now()

func (w *work) begin() { w.since.Store(int64(max(1, time.Since(processStart)))) }
func (w *work) end()   { w.since.Store(0) }

// Probe gives an error when one of the store's goroutines has been at the same piece of work for longer than
// Config.StuckAfter: then only a restart can help, which loses nothing. Waiting for room on the disk or in the log is
// not being stuck. It may be called at any time and never waits.
func (s *Store) Probe() error {
	now := time.Since(processStart)
	for i := range s.watch {
		since := time.Duration(s.watch[i].since.Load())
		if since == 0 {
			continue
		}
		if d := now - since; d > s.cfg.StuckAfter {
			return fmt.Errorf("%s has not ended for %v", taskNames[i], d.Round(time.Second))
		}
	}
	return nil
}
