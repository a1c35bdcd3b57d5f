package store

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"tidegate/gateway/store/commitlog"
)

// Config says where the store is and how much it may take. Zero values mean the defaults of DefaultConfig.
type Config struct {
	Dir string // made when missing; holds log/, db/, ballast and lock
	Key []byte // 16, 24 or 32 bytes encrypt everything; nil does not

	LogFiles    int       // files of the commit log, at least 3
	LogFileSize int64     // bytes each; one unit must fit into half of one
	SyncDelay   SyncDelay // added to every sync of the log

	ApplyBytes int           // so many bytes of commits wake the applier
	ApplyEvery time.Duration // what was committed is applied at the latest after this time
	RingBytes  int           // commits that are applied already stay in memory up to so many bytes, for readers close behind
	QueueBytes int           // units that wait for their commit; more make Submit wait
	FullAfter  time.Duration // Submit that has waited so long because nothing is applied refuses with fault.Full

	SegmentBytes int64 // records are dropped in portions of about so many bytes
	TrailBytes   int64 // of notes that are kept for looking back (the past of shadows), the oldest going first; negative: none

	MemTable  int64 // bytes of one of Badger's two tables in memory
	ValueFile int64 // bytes of one of Badger's value files
	Reserve   int64 // free bytes on the disk below which nothing more is applied; at least what Badger needs to live
	Ballast   int64 // bytes of a file that is given up at the start when the disk is full; negative: none

	CloseTimeout time.Duration
	StuckAfter   time.Duration // what takes longer than this does not come to an end: see Store.Probe

	Log     *slog.Logger            // nil: silent
	OnFatal func(err error)         // called once, in a goroutine of its own, when the store has failed
	Notice  func(code, text string) // a lasting condition: text for an operator, empty when it is over

	// WrapLogFile, when set, wraps every file of the commit log: the seam for injected I/O errors.
	WrapLogFile func(name string, f commitlog.File) commitlog.File
}

// SyncDelay slows the syncs of the commit log down, to stand for a slower disk.
type SyncDelay struct {
	Delay time.Duration
	Off   bool // no sync at all: the negative control of crash tests, which must then find lost data
}

// ParseSyncDelay reads a duration such as "5ms", or "off" for no syncs at all. Empty is no delay.
func ParseSyncDelay(text string) (SyncDelay, error) {
	switch text {
	case "":
		return SyncDelay{}, nil
	case "off":
		return SyncDelay{Off: true}, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > 10*time.Second {
		return SyncDelay{}, fmt.Errorf("sync delay %q: want a duration from 0s to 10s, or off", text)
	}
	return SyncDelay{Delay: d}, nil
}

// DefaultConfig gives the defaults for a small board.
func DefaultConfig(dir string) Config {
	return Config{
		Dir:          dir,
		LogFiles:     8,
		LogFileSize:  4 << 20,
		ApplyBytes:   4 << 20,
		ApplyEvery:   10 * time.Second,
		RingBytes:    4 << 20,
		QueueBytes:   4 << 20,
		FullAfter:    5 * time.Second,
		SegmentBytes: 8 << 20,
		TrailBytes:   64 << 20,
		MemTable:     4 << 20,
		ValueFile:    32 << 20,
		Ballast:      32 << 20,
		CloseTimeout: 5 * time.Second,
		StuckAfter:   time.Minute,
	}
}

// Validate says what is impossible about c.
func (c Config) Validate() error { return c.setDefaults() }

func (c *Config) setDefaults() error {
	d := DefaultConfig(c.Dir)
	orInt(&c.LogFiles, d.LogFiles)
	orInt(&c.LogFileSize, d.LogFileSize)
	orInt(&c.ApplyEvery, d.ApplyEvery)
	orInt(&c.RingBytes, d.RingBytes)
	orInt(&c.QueueBytes, d.QueueBytes)
	orInt(&c.FullAfter, d.FullAfter)
	orInt(&c.SegmentBytes, d.SegmentBytes)
	orInt(&c.TrailBytes, d.TrailBytes)
	orInt(&c.MemTable, d.MemTable)
	orInt(&c.ValueFile, d.ValueFile)
	orInt(&c.Ballast, d.Ballast)
	orInt(&c.CloseTimeout, d.CloseTimeout)
	orInt(&c.StuckAfter, d.StuckAfter)
	orInt(&c.ApplyBytes, d.ApplyBytes)
	orInt(&c.Reserve, 2*c.ValueFile+2*c.MemTable+64<<20)
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	switch {
	case c.Dir == "":
		return fmt.Errorf("store: no directory")
	case c.LogFiles < 3 || c.LogFiles > 100 || c.LogFileSize < 64<<10 || c.LogFileSize > 1<<30 || c.LogFileSize%commitlog.PageSize != 0:
		return fmt.Errorf("store: %d log files of %d bytes: want 3 to 100 of 64 KiB to 1 GiB in pages of %d", c.LogFiles, c.LogFileSize, commitlog.PageSize)
	case c.MemTable < 1<<20 || c.ValueFile < 1<<20 || c.ValueFile >= 2<<30:
		return fmt.Errorf("store: memory table of %d and value files of %d bytes: want at least 1 MiB each, and less than 2 GiB", c.MemTable, c.ValueFile)
	case c.ApplyBytes < 0 || c.RingBytes < 0 || c.QueueBytes < 0 || c.Reserve < 0 || c.ApplyEvery < 0 || c.FullAfter < 0:
		return fmt.Errorf("store: sizes and times must not be negative")
	}
	// The applier must wake long before the committer has to wait for it.
	c.ApplyBytes = min(c.ApplyBytes, c.maxPending()/2)
	return nil
}

func orInt[T ~int | ~int64](p *T, v T) {
	if *p == 0 {
		*p = v
	}
}

// maxUnit is the largest unit in bytes: half a file.
func (c *Config) maxUnit() int { return int(c.LogFileSize/2) - commitlog.PageSize - sealOverhead }

// maxBatch is how many bytes of units share a commit.
func (c *Config) maxBatch() int { return min(1<<20, c.maxUnit()) }

// maxPending is how many bytes may be committed but not applied: with an entry on top they take at most half
// the log, so that the other half can hold what padding and unused ends of files take.
func (c *Config) maxPending() int {
	return int(int64(c.LogFiles)*c.LogFileSize/2) - c.maxUnit()
}

// leastFree is how many free bytes it takes to drop something: a table in memory written out and half a value file
// written again.
func (c *Config) leastFree() int64 { return 2*c.MemTable + c.ValueFile/2 }

func (c *Config) path(name string) string { return filepath.Join(c.Dir, name) }
