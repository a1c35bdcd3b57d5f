// Package store keeps every durable fact of the gateway: a commit log in front, Badger behind.
//
// What belongs together is put into a Unit: records of the journal and writes of state. A unit is on the
// disk as a whole before its Done runs, Dones run in the order of commits, and whoever reads through Get
// sees what was submitted before. Many units share one sync. An applier moves what was committed into Badger
// in large batches, where it drops what nobody needs any more: a record that every cursor has passed by then
// is never written there.
//
// The store does not know what records and keys mean. What of the records must last, a Keeper says
// (gateway/journal). There is no retry after a failed write: the store refuses everything, Run returns the
// error, and the next start recovers. DESIGN.md has the data flow, the invariants and the failure table.
//
//	db, err := store.Open(store.DefaultConfig(dir), clock.System())
//	go db.Run(ctx, func() {})
//	err = db.Do(func(u *store.Unit) error {
//		u.Lock("shadow/pump1")
//		doc, err := u.Get("shadow/pump1")
//		…
//		u.Put("shadow/pump1", doc)
//		return err
//	}, func(_ []uint64, err error) { /* it is on the disk: acknowledge */ })
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/store/commitlog"
)

// Store is an open store. Its methods may be called concurrently.
type Store struct {
	cfg   Config
	clk   clock.Clock
	log   *slog.Logger
	lock  *os.File
	wal   *commitlog.Log
	db    *badger.DB
	seal  *sealer // nil: not encrypted
	epoch uint64
	bare  bool // the log is behind what was applied

	keeper   Keeper
	onBatch  []func()
	damages  []Damage
	earliest earliest

	locks [lockStripes]sync.Mutex
	units sync.Pool

	queue   queue
	pause   *pause // the committer's
	overlay overlay
	refusal refusals

	mu      sync.Mutex // guards what follows
	space   *sync.Cond // the applier has made room, or the store has failed
	ring    []*entry   // committed, ascending; what is above applied is always there
	ringB   int
	pendB   int          // bytes of entries above applied
	pending atomic.Int64 // pendB, to be read without mu
	applied uint64
	index   uint64        // of the next entry
	next    uint64        // the next record number
	acked   uint64        // greatest index whose Dones have run
	ackedTo atomic.Uint64 // the number behind the last record whose Done has run; read without mu
	segs    []Segment
	trail   trail

	closing   sync.RWMutex  // held, for reading, while an iterator closes
	dbDir     string        // where Badger's files are, as the kernel calls it
	applyMu   sync.Mutex    // one writer of Badger; guards what follows
	stale     int64         // bytes of large values of state written since value files were looked at
	vain      bool          // giving up records has not made room on the disk
	shed      time.Time     // when mapped files were last taken out of memory
	lastApply atomic.Int64  // unix nanoseconds
	kick      chan struct{} // 1: the applier has something to do; full: it knows
	fatal     chan struct{} // closed with the first failure
	failOnce  sync.Once
	started   atomic.Bool
	full      atomic.Bool // the log has no room and new units are refused for it
	closeOnce sync.Once
	closeErr  error
	stop      chan struct{}  // closed: the applier ends
	wg        sync.WaitGroup // committer
	watch     [tasks]work    // what the store's goroutines are at
	applierWG sync.WaitGroup
	stats     counters
}

// Keeper says what of the records must last. Its methods are called by the store, never concurrently with
// themselves, and must neither block nor call back into the store, but for RefuseRecords.
type Keeper interface {
	// Ride may add writes that go along in the entry that is being committed. The keys are the keeper's alone; Get does
	// not see such a write before it is applied. all asks for everything that waits: a quiet moment, or the end.
	Ride(all bool, put func(key string, val []byte))
	// Restless says whether Ride has something that should not wait for the next commit for long.
	Restless() bool
	// Settle is called before records up to, not with, next are applied; all their Dones have run. Records below
	// the floor it returns are not kept. put writes straight to Badger in the transaction that makes the apply
	// count; its keys must be others than those of units and Ride.
	Settle(next uint64, put func(key string, val []byte)) (floor uint64)
	// Trim says below which number records may go, as far as that has been made durable by Settle or is made so by
	// put now. need is how many bytes the disk is short of, 0 when there is room, or when giving up records has not made
	// any.
	Trim(segs []Segment, need int64, put func(key string, val []byte)) (below uint64)
}

// Segment is a stretch of records in Badger that goes as a whole.
type Segment struct {
	ID    uint64    // the first number in it
	Last  uint64    // the last number in it
	Bytes int64     // of chunks
	At    time.Time // when it was last written to
}

// Damage is something that Open found wrong and has survived.
type Damage struct {
	From, To uint64 // record numbers that may be lost; 0, 0 when none is known to be
	What     string // for an operator
	Whole    bool   // nothing is lost: something is broken, but all of it was to be had elsewhere
}

// Open opens the store in cfg.Dir, recovers what a crash left, and replays the log. Nothing is committed
// before Start or Run. What was found wrong, Damages tells.
func Open(cfg Config, clk clock.Clock) (*Store, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, clk: clk, log: cfg.Log, kick: make(chan struct{}, 1), fatal: make(chan struct{}), stop: make(chan struct{})}
	s.space = sync.NewCond(&s.mu)
	s.queue.init()
	s.pause = newPause()
	s.overlay.m = map[string]overlaid{}
	s.units.New = func() any { return new(Unit) }
	if err := s.open(); err != nil {
		s.closeFiles()
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, nil
}

func (s *Store) open() (err error) {
	if len(s.cfg.Key) > 0 {
		if s.seal, err = newSealer(s.cfg.Key); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return err
	}
	if s.lock, err = lockDir(s.cfg.path("lock")); err != nil {
		return err
	}
	s.clearBallast()
	aside, err := s.openBadger()
	if err != nil {
		return err
	}
	if s.dbDir, err = filepath.EvalSymlinks(s.cfg.path("db")); err == nil {
		s.dbDir, err = filepath.Abs(s.dbDir)
	}
	if err != nil {
		return err
	}
	restored, err := s.readMeta()
	if err != nil {
		return err
	}
	logCfg := commitlog.Config{Dir: s.cfg.path("log"), Files: s.cfg.LogFiles, FileSize: s.cfg.LogFileSize,
		Delay: s.cfg.SyncDelay.Delay, NoSync: s.cfg.SyncDelay.Off, Wrap: s.cfg.WrapLogFile}
	if s.wal, err = commitlog.Open(logCfg); err != nil {
		return err
	}
	if err := s.replay(aside != "", restored); err != nil {
		return err
	}
	if err := errors.Join(syncDir(s.cfg.Dir), syncDir(filepath.Dir(s.cfg.Dir))); err != nil { // what is in them has names now
		return err
	}
	if aside != "" {
		s.damage(setAside(aside, s.earliest))
	}
	return nil
}

// replay brings what was committed but not applied back into memory.
func (s *Store) replay(emptied, restored bool) error {
	lost := map[uint64]Damage{} // by the entry behind the hole
	undecoded := ""             // what was wrong with entries since the last good one
	whole := true               // nothing is missing before the first entry
	fresh := s.applied == 0 && !emptied
	rep, err := s.wal.Replay(s.applied, func(index uint64, payload []byte) error {
		var e *entry
		var err error
		if s.seal != nil {
			if payload, err = s.seal.open(index, payload); err == nil {
				e, err = decode(index, payload)
			}
		} else {
			e, err = decode(index, append([]byte(nil), payload...))
		}
		if err != nil {
			undecoded = fmt.Sprintf("entry %d of the commit log cannot be decoded: %v", index, err)
			return nil
		}
		if s.stats.replayed.Add(1) == 1 {
			whole = index == 1
			s.earliest = earliest{entry: index, record: e.first}
		}
		switch {
		case e.first > s.next:
			lost[index-1] = Damage{From: s.next, To: e.first - 1, What: undecoded}
		case undecoded != "":
			s.damage(Damage{What: undecoded})
		}
		undecoded = ""
		s.index, s.next = index+1, e.next
		s.queue.ticket++
		e.ticket = s.queue.ticket
		s.push(e)
		s.overlay.set(e.ops, e.ticket)
		s.acked = index
		if s.pendB > 2*s.cfg.ApplyBytes {
			if err := s.applyAll(); err != nil && !errors.Is(err, errNoRoom) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	holes := slices.ContainsFunc(rep.Damage, func(d commitlog.Damage) bool { return d.To > 0 })
	for _, d := range rep.Damage {
		if d.Pages && holes { // one damage, told once
			continue
		}
		hole := lost[d.To]
		delete(lost, d.To)
		if emptied && d.From == 1 && !whole {
			continue // what the log does not hold any more is told together with the database that had it
		}
		s.damage(Damage{From: hole.From, To: hole.To, What: d.What})
	}
	for _, d := range lost {
		if d.What == "" {
			d.What = "records are missing from the commit log"
		}
		s.damage(d)
	}
	if undecoded != "" {
		s.damage(Damage{What: undecoded})
	}
	switch {
	case rep.Last < s.applied && !restored:
		s.damage(Damage{What: fmt.Sprintf("the commit log ends at entry %d, but %d was applied: it was lost or replaced, and what it held beyond that is gone", rep.Last, s.applied)})
		if err := s.newEpoch(); err != nil { // its numbers may be in use elsewhere already
			return err
		}
	case fresh && rep.First > 1:
		s.damage(Damage{What: "the database is empty, but the commit log is not"})
	}
	s.bare = rep.Last < s.applied
	s.index = max(s.index, rep.Last+1)
	s.acked = s.index - 1
	s.ackedTo.Store(s.next)
	return nil
}

func (s *Store) firstInRing() uint64 {
	if len(s.ring) > 0 {
		return s.ring[0].first
	}
	return s.next
}

// earliest is the first entry that a replay found, and the first record from there on; zero: none.
type earliest struct{ entry, record uint64 }

// setAside tells of a database that was set aside, and what the log could not give back of it.
func setAside(name string, e earliest) Damage {
	d := Damage{What: "the database could not be opened; it was set aside as " + name}
	switch {
	case e.entry == 1:
		d.Whole = true
		d.What += ", and all that it held was in the commit log as well"
	case e.entry == 0:
		d.What += ", and the commit log held nothing of it"
	default:
		d.What += fmt.Sprintf(" and the store starts again from entry %d of the commit log", e.entry)
		if e.record > 1 {
			d.From, d.To = 1, e.record-1
		}
	}
	return d
}

func (s *Store) damage(d Damage) {
	s.damages = append(s.damages, d)
	s.log.Error("store is damaged", "what", d.What, "from", d.From, "to", d.To)
}

// Damages gives what Open found wrong and survived.
func (s *Store) Damages() []Damage { return s.damages }

// Epoch tells two lives of the store apart that may have given the same number to different records: it
// changes when a backup was restored or the log was lost. (Epoch, number) is never used twice.
func (s *Store) Epoch() uint64 { return s.epoch }

// SetKeeper names who says what must last. It must be called before Start; without a keeper every record is
// kept for ever.
func (s *Store) SetKeeper(k Keeper) { s.keeper = k }

// OnBatch adds a function that is called on the goroutine that runs Dones when the Dones of one commit have
// run. It must be called before Start, and f must not block.
func (s *Store) OnBatch(f func()) { s.onBatch = append(s.onBatch, f) }

// Start starts to commit and to apply. It may be called twice.
func (s *Store) Start() {
	if s.started.Swap(true) {
		return
	}
	s.wg.Add(1)
	s.applierWG.Add(1)
	go s.commitLoop()
	go s.applyLoop()
	if s.bare { // an entry, so that the next start does not take the log for lost
		s.ride()
	}
	free, err := freeBytes(s.cfg.Dir)
	if s.pending.Load() > 0 || err != nil || free < s.cfg.Reserve {
		s.poke() // what was replayed becomes durable elsewhere before anybody relies on it twice
	} else {
		s.lastApply.Store(time.Now().UnixNano())
		s.makeBallast(free)
	}
}

// Run starts the store, calls ready, and returns when ctx ends (nil, everything submitted is committed) or with
// the failure after which nothing can be committed any more; then the process should end.
func (s *Store) Run(ctx context.Context, ready func()) error {
	s.Start()
	ready()
	select {
	case <-ctx.Done():
		err := s.Drain()
		if s.failed() == nil {
			return nil
		}
		return err
	case <-s.fatal:
		return s.failed()
	}
}

// Next gives the number that the next record will get.
func (s *Store) Next() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

// Acked gives the number below which the Dones of all records have run.
func (s *Store) Acked() uint64 { return s.ackedTo.Load() }

// Drain returns when everything submitted before is on the disk and its Dones have run. It must not be called from a
// Done.
func (s *Store) Drain() error {
	u := s.NewUnit()
	u.Vital = true
	ch := make(chan error, 1)
	u.Done = func(_ []uint64, err error) { ch <- err }
	if err := s.Submit(u); err != nil {
		return err
	}
	return <-ch
}

// Flush applies everything that was submitted before to Badger.
func (s *Store) Flush() error {
	if err := s.Drain(); err != nil {
		return err
	}
	return s.applyAll()
}

// fail stops the store for good: what the disk holds is unknown from here on.
func (s *Store) fail(err error) {
	s.failOnce.Do(func() {
		s.queue.fail(fault.Wrap(fault.Unavailable, err, "the store has failed; the gateway is restarting"))
		close(s.fatal)
		s.log.Error("store has failed", "err", err)
		if s.cfg.OnFatal != nil {
			go s.cfg.OnFatal(err)
		}
	})
	s.mu.Lock()
	s.space.Broadcast()
	s.mu.Unlock()
}

// failed gives what stopped the store, or nil.
func (s *Store) failed() error { return s.queue.failure() }

// hopeless is how long Close waits for a database whose store has failed already.
const hopeless = 250 * time.Millisecond

// Close commits what was submitted, applies what was committed and closes the files. Badger can hang for ever on a
// disk that fails: then Close gives up after Config.CloseTimeout, at once when the store has failed before, and returns
// ErrCloseHung, and the process should end; nothing is lost. Close may be called twice.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		done := make(chan error, 1)
		go func() { done <- s.close() }()
		patience := s.cfg.CloseTimeout
		if s.failed() != nil {
			patience = min(patience, hopeless)
		}
		t := time.NewTimer(patience)
		defer t.Stop()
		select {
		case s.closeErr = <-done:
		case <-t.C:
			s.closeErr = ErrCloseHung
		}
	})
	return s.closeErr
}

// ErrCloseHung says that Close has given up.
var ErrCloseHung = errors.New("store: the database does not close; leaving it as it is")

func (s *Store) close() error {
	if s.started.Load() && s.keeper != nil && s.keeper.Restless() && s.failed() == nil {
		s.ride()
	}
	s.queue.close()
	var err error
	if s.started.Load() {
		s.wg.Wait() // the committer may need the applier to make room
		close(s.stop)
		s.applierWG.Wait()
		if s.failed() == nil {
			err = s.applyAll()
		}
	} else {
		s.queue.refuseAll(fault.New(fault.Unavailable, "the store was closed"))
	}
	return errors.Join(err, s.closeFiles())
}

func (s *Store) closeFiles() error {
	var err error
	s.pause.close()
	if s.db != nil {
		err = s.db.Close()
	}
	if s.wal != nil {
		err = errors.Join(err, s.wal.Close())
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}
