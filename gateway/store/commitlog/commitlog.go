// Package commitlog keeps what was committed last: entries, written and synced one
// after the other into a ring of files that were filled with zeros beforehand and
// are used again for ever.
//
// It promises that an entry whose Append returned nil is on the disk, that a full
// disk cannot refuse an entry, that what was appended is never written over before
// Free has released it, and that damage is found, kept local and reported. After one
// failed write or sync the log refuses everything: what the disk holds is then
// unknown, and starting again is the only way to find out.
//
// It does not know what entries mean, when they may go, or how they are encrypted.
// FORMAT.md beside this file shows the bytes.
//
//	log, err := commitlog.Open(commitlog.Config{Dir: dir})
//	report, err := log.Replay(applied, func(index uint64, payload []byte) error { … })
//	buf := append(make([]byte, commitlog.FrameHeader, 4096), payload...)
//	err = log.Append(report.Last+1, buf) // nil: it is on the disk
//	log.Free(index)                      // entries up to index are not needed any more
package commitlog

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// FrameHeader is the room that Append wants in front of a payload.
const FrameHeader = 16

// PageSize is what frames are padded to, so that no page that holds acknowledged bytes is
// ever written again: a torn page cannot hurt them.
const PageSize = 4096

// ErrFull says that no file is free: what was appended has not been released yet.
var ErrFull = errors.New("commit log: no free file")

// Config says where the log is and how large. Zero values mean the defaults.
type Config struct {
	Dir      string        // made when missing
	Files    int           // files in the ring, at least 3; default 8
	FileSize int64         // bytes each, a multiple of PageSize, at least 64 KiB; default 4 MiB
	Delay    time.Duration // added to every sync, to stand for a slower disk
	NoSync   bool          // leaves the syncs out: the negative control of crash tests, nothing else

	// Wrap, when set, is given every file that is opened and returns what to use instead: the
	// seam at which tests inject I/O errors.
	Wrap func(name string, f File) File
}

// File is what the log needs of a file. Sync returns when what was written is on the disk.
type File interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Sync() error
	Close() error
}

func (c *Config) setDefaults() error {
	if c.Files == 0 {
		c.Files = 8
	}
	if c.FileSize == 0 {
		c.FileSize = 4 << 20
	}
	if c.Files < 3 || c.FileSize < 64<<10 || c.FileSize%PageSize != 0 {
		return fmt.Errorf("commit log: %d files of %d bytes: at least 3 of 64 KiB, in whole pages of %d", c.Files, c.FileSize, PageSize)
	}
	return nil
}

// Log is an open commit log. Free, Left, Size and LastSync may be called at any time; the other methods
// belong to one goroutine.
type Log struct {
	cfg      Config
	ring     []*segment
	sync     *syncer
	number   uint64 // of the next file
	left     atomic.Int64
	lastSync atomic.Int64
	failed   error

	mu    sync.Mutex // guards what follows, and what segments say of themselves but their names
	cur   *segment   // nil: the next Append begins a file
	off   int64      // where the next frame goes in cur
	freed uint64
}

// segment is one file of the ring.
type segment struct {
	name   string
	f      File
	size   int64  // bytes that may be used
	number uint64 // 0: never used
	last   uint64 // greatest index in it
	broken bool   // both header copies unreadable
	short  int64  // bytes by which the file was cut short
}

// Open opens the files in cfg.Dir and makes those that are missing. Nothing can be appended
// before Replay.
func Open(cfg Config) (*Log, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	l := &Log{cfg: cfg, number: 1, sync: newSyncer()}
	if err := l.openRing(); err != nil {
		return nil, errors.Join(fmt.Errorf("commit log: %w", err), l.Close())
	}
	return l, nil
}

// MaxPayload is the largest payload an entry can have.
func (l *Log) MaxPayload() int {
	least := l.cfg.FileSize
	for _, s := range l.ring {
		least = min(least, s.size)
	}
	return int(least) - PageSize - FrameHeader
}

// Size is what all files together hold, in bytes.
func (l *Log) Size() int64 {
	var n int64
	for _, s := range l.ring {
		n += s.size
	}
	return n
}

// LastSync says how long the last sync took.
func (l *Log) LastSync() time.Duration { return time.Duration(l.lastSync.Load()) }

// Free releases entries up to and with index: their files may be used again. The caller has made
// durable elsewhere whatever it wants to keep of them.
func (l *Log) Free(index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.freed = max(l.freed, index)
	l.reckon()
}

// Left gives how many bytes can still be appended before something has to be released, padding included. An entry
// that does not fit into what is left of a file wastes that.
func (l *Log) Left() int64 { return l.left.Load() }

// reckon brings left up to date; l.mu is held.
func (l *Log) reckon() {
	var n int64
	for _, s := range l.ring {
		switch {
		case s == l.cur:
			n += s.size - l.off
		case l.isFree(s):
			n += max(0, s.size-PageSize)
		}
	}
	l.left.Store(n)
}

func (l *Log) isFree(s *segment) bool { return s.number == 0 && !s.broken || s.last <= l.freed }

// Room says whether a payload of n bytes can be appended now.
func (l *Log) Room(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	need := frameSize(n)
	return l.cur != nil && l.off+need <= l.cur.size || l.pick(need) != nil
}

// pick gives the free file that was used longest ago, or nil; l.mu is held.
func (l *Log) pick(need int64) (best *segment) {
	for _, s := range l.ring {
		if s != l.cur && l.isFree(s) && PageSize+need <= s.size && (best == nil || s.number < best.number) {
			best = s
		}
	}
	return best
}

// Append writes the payload frame[FrameHeader:] as entry index, which must be greater than every
// index before, and returns once it is on the disk. It fills in the header and, where frame has
// the capacity, the padding. ErrFull changes nothing and may be tried again after Free; any other
// error is final: the entry may or may not be found by the next Replay.
func (l *Log) Append(index uint64, frame []byte) error {
	if l.failed != nil {
		return l.failed
	}
	n := len(frame)
	need := frameSize(n - FrameHeader)
	if n == FrameHeader {
		return errors.New("commit log: empty entry")
	}
	fresh, err := l.place(need)
	if err != nil {
		return err
	}
	putFrame(frame, l.cur.number, index)
	if int64(cap(frame)) >= need {
		frame = frame[:need]
		clear(frame[n:])
	}
	if err := l.write(frame, index, fresh); err != nil {
		l.failed = fmt.Errorf("commit log: %w", err)
		return l.failed
	}
	l.mu.Lock()
	l.cur.last = index
	l.off += need
	l.reckon()
	l.mu.Unlock()
	return nil
}

// place sees to it that cur has room for need bytes; fresh says that they begin a file.
func (l *Log) place(need int64) (fresh bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cur != nil && l.off+need <= l.cur.size {
		return false, nil
	}
	s := l.pick(need)
	if s == nil {
		return false, ErrFull
	}
	s.number, s.broken, s.short = l.number, false, 0
	l.number++
	l.cur, l.off = s, PageSize
	return true, nil
}

func (l *Log) write(frame []byte, index uint64, fresh bool) error {
	s := l.cur
	if fresh { // the header may reach the disk before or after the frame: neither counts without the other
		if err := writeFull(s.f, header(s.number, index, s.size), 0); err != nil {
			return err
		}
	}
	if err := writeFull(s.f, frame, l.off); err != nil {
		return err
	}
	began := time.Now()
	if l.cfg.Delay > 0 {
		time.Sleep(l.cfg.Delay)
	}
	if !l.cfg.NoSync {
		if err := s.f.Sync(); err != nil {
			return err
		}
	}
	l.lastSync.Store(int64(time.Since(began)))
	return nil
}

// Close closes the files. It may be called twice.
func (l *Log) Close() error {
	var all error
	for _, s := range l.ring {
		all = errors.Join(all, s.f.Close())
	}
	l.ring, l.cur = nil, nil
	l.sync.close()
	if l.failed == nil {
		l.failed = errors.New("commit log: closed")
	}
	return all
}
