// Package journal is the one log of messages: what has a durable interest is a record in it, and sessions that
// are away, upstreams, pull consumers and rule actions are cursors on it.
//
// It promises that a record stays until every cursor has passed it, or until a quota says otherwise, and that
// whatever is lost before its time (by quota, by damage) stands in the loss ledger: which numbers, when, why.
// Reading is not deleting. A record that every cursor has passed before the store's applier comes is never
// written to the database.
//
// It does not know subscriptions, upstreams or acknowledgements on the wire, and it commits nothing itself:
// records travel in store.Units of their owners. DESIGN.md tells how it works.
//
//	j, err := journal.Open(db, clk, log, journal.DefaultConfig())
//	err = db.Do(func(u *store.Unit) error { u.Append(journal.Block(run)); return nil }, done)
//
//	cur, _ := j.Cursor("uplink/aws")
//	r := j.Reader(cur.Pos())
//	for {
//		first, run, ok, err := r.Next() // send it …
//	}
//	cur.Move(next) // … and when it was acknowledged
package journal

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/store"
)

// Policy says what happens when the journal is full.
type Policy string

// The policies.
const (
	DropOldest Policy = "drop-oldest" // the oldest records go, with an entry in the ledger; on a full disk only if that makes room enough
	RefuseNew  Policy = "refuse-new"  // new messages are refused until cursors have moved on
)

// Config bounds the journal.
type Config struct {
	MaxBytes     int64         // of records on the disk; at least a few of the store's segments
	MaxAge       time.Duration // older records go; 0: they stay
	WhenFull     Policy        // what happens beyond MaxBytes, or on a full disk
	MaxLag       int64         // bytes that one cursor may be behind before it has to jump; 0: no bound
	HistoryBytes int64         // records kept for looking back although every cursor has passed them; 0: see HistoryAge
	HistoryAge   time.Duration // likewise by age; both 0: none are kept
	Ledger       int           // entries of the ledger before the oldest are joined
}

// DefaultConfig gives the defaults for a small board.
func DefaultConfig() Config {
	return Config{MaxBytes: 1 << 30, WhenFull: DropOldest, Ledger: 4096}
}

// Validate says what is impossible about c.
func (c Config) Validate() error {
	if c.WhenFull != "" && c.WhenFull != DropOldest && c.WhenFull != RefuseNew {
		return fmt.Errorf("journal: %q when full: want %s or %s", c.WhenFull, DropOldest, RefuseNew)
	}
	if c.MaxBytes < 0 || c.MaxAge < 0 || c.MaxLag < 0 || c.HistoryBytes < 0 || c.HistoryAge < 0 || c.Ledger < 0 {
		return fmt.Errorf("journal: sizes and times must not be negative")
	}
	return nil
}

// The journal's keys. Cursors have two, since two hands write them in no common order: what goes through the
// log, and what the applier writes along with an apply. A position never goes back, so the greater one counts.
const (
	keyCursor  = store.KeyJournal + "c/" // + name: through the log
	keyApplied = store.KeyJournal + "a/" // + name: with an apply
	keyFloat   = store.KeyJournal + "f"  // where floating cursors stood at the last apply
	keyLoss    = store.KeyJournal + "l/" // + number in 16 hex digits: an entry of the ledger
)

// Journal is the log of messages. Its methods may be called concurrently.
type Journal struct {
	db  *store.Store
	clk clock.Clock
	log *slog.Logger
	cfg Config

	mu       sync.Mutex // guards what follows, and the words "created" and "settled" of cursors
	cursors  map[string]*Cursor
	riding   []*Cursor // changed since they last rode along
	lastRide time.Time
	settled  uint64 // keyFloat as written
	floor    uint64 // greatest number below which records were not kept
	history  uint64 // records from here on are kept for looking back
	losses   []Loss
	lossKeys []uint64 // of losses
	nextLoss uint64
	misses   map[string]*miss // by name; the running ones

	watchMu  sync.Mutex
	watchers map[chan struct{}]struct{}
	told     uint64 // what Next was when watchers were last told

	lost, unexplained atomic.Uint64
	full              atomic.Bool
}

// Open opens the journal in db, which must not be started yet, and makes itself its keeper. What db found damaged goes
// into the ledger. Cursors stand where they stood; those that floated stand at the first record that their
// owner may not have seen, and their owners must look from there on what touches them, then Pin, Move or
// Float. log may be nil.
func Open(db *store.Store, clk clock.Clock, log *slog.Logger, cfg Config) (*Journal, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := DefaultConfig()
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = d.MaxBytes
	}
	if cfg.WhenFull == "" {
		cfg.WhenFull = d.WhenFull
	}
	if cfg.Ledger == 0 {
		cfg.Ledger = d.Ledger
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	j := &Journal{db: db, clk: clk, log: log, cfg: cfg, cursors: map[string]*Cursor{}, watchers: map[chan struct{}]struct{}{}, misses: map[string]*miss{}, nextLoss: 1}
	if err := j.load(); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := j.enterDamages(); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j.told = db.Next()
	db.SetKeeper(keeper{j})
	db.OnBatch(j.tell)
	return j, nil
}

// load reads cursors and ledger.
func (j *Journal) load() error {
	var bad error
	applied := map[string]uint64{}
	appliedFloats := map[string]bool{}
	err := j.db.Scan(store.KeyJournal, func(key string, val []byte) bool {
		switch {
		case key == keyFloat && len(val) == 8:
			j.settled = binary.BigEndian.Uint64(val)
		case len(key) > len(keyCursor) && key[:len(keyCursor)] == keyCursor && len(val) == 9:
			c := &Cursor{j: j, name: key[len(keyCursor):], committed: true}
			c.word.Store(binary.BigEndian.Uint64(val[1:]) << 1)
			j.cursors[c.name] = c
		case len(key) > len(keyApplied) && key[:len(keyApplied)] == keyApplied && len(val) == 9:
			name := key[len(keyApplied):]
			applied[name], appliedFloats[name] = binary.BigEndian.Uint64(val[1:]), val[0] == 1
		case len(key) == len(keyLoss)+16 && key[:len(keyLoss)] == keyLoss:
			if err := j.loadLoss(key[len(keyLoss):], val); err != nil {
				bad = err
			}
		default:
			j.log.Warn("journal has a key it does not know", "key", key)
		}
		return true
	})
	if err != nil {
		return err
	}
	if bad != nil {
		return bad
	}
	next := j.db.Next()
	for name, pos := range applied {
		c := j.cursors[name]
		if c == nil {
			continue // dropped
		}
		if appliedFloats[name] {
			pos = j.settled
		}
		c.word.Store(max(c.word.Load(), pos<<1))
	}
	j.floor = next
	for _, c := range j.cursors {
		if c.pos() > next { // the log was lost: what the cursor had passed is given out again
			c.word.Store(next << 1)
		}
		j.floor = min(j.floor, c.pos())
	}
	j.history = j.db.Oldest()
	return nil
}

// Next gives the number that the next record will get.
func (j *Journal) Next() uint64 { return j.db.Next() }

// Oldest gives the number of the oldest record that can be read.
func (j *Journal) Oldest() uint64 { return j.db.Oldest() }

// Epoch and a record's number together name a record for ever; see store.Store.Epoch.
func (j *Journal) Epoch() uint64 { return j.db.Epoch() }

// Watch gives a channel that holds a token whenever records were committed since it was last taken. cancel ends it.
func (j *Journal) Watch() (ch <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1) // one token is as good as many
	j.watchMu.Lock()
	j.watchers[c] = struct{}{}
	j.watchMu.Unlock()
	return c, func() {
		j.watchMu.Lock()
		delete(j.watchers, c)
		j.watchMu.Unlock()
	}
}

// tell wakes the watchers; it is the store's OnBatch.
func (j *Journal) tell() {
	next := j.db.Acked()
	j.watchMu.Lock()
	defer j.watchMu.Unlock()
	if next == j.told {
		return
	}
	j.told = next
	for c := range j.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Stats is a snapshot of the journal's numbers.
type Stats struct {
	Next, Oldest uint64 // numbers
	Bytes        int64  // of records on the disk
	Segments     int
	Cursors      []CursorInfo
	Ledger       int    // entries
	Lost         uint64 // records in the ledger
	Unexplained  uint64 // records that were not there and are not in the ledger: a defect or damage
	Full         bool   // new messages are refused
}

// Stats gives the journal's numbers.
func (j *Journal) Stats() Stats {
	segs := j.db.Segments()
	st := Stats{Next: j.Next(), Oldest: j.Oldest(), Segments: len(segs), Cursors: j.Cursors(), Lost: j.lost.Load(),
		Unexplained: j.unexplained.Load(), Full: j.full.Load()}
	for i := range segs {
		st.Bytes += segs[i].Bytes
	}
	j.mu.Lock()
	st.Ledger = len(j.losses)
	j.mu.Unlock()
	return st
}

// Cursors lists all cursors by name.
func (j *Journal) Cursors() []CursorInfo {
	next, segs := j.Next(), j.db.Segments()
	j.mu.Lock()
	list := make([]CursorInfo, 0, len(j.cursors))
	for _, c := range j.cursors {
		in := CursorInfo{Name: c.name, Pos: c.Pos(), Floating: c.floating()}
		if in.Pos < next {
			in.Lag = next - in.Pos
		}
		in.LagBytes = lagBytes(segs, in.Pos)
		list = append(list, in)
	}
	j.mu.Unlock()
	sort.Slice(list, func(a, b int) bool { return list[a].Name < list[b].Name })
	return list
}

// lagBytes gives what stands on the disk from pos on, by whole segments.
func lagBytes(segs []store.Segment, pos uint64) (n int64) {
	for i := range segs {
		if segs[i].Last >= pos {
			n += segs[i].Bytes
		}
	}
	return n
}

// refuse tells the store whether new messages are to be refused.
func (j *Journal) refuse(bytes int64) {
	full := bytes > j.cfg.MaxBytes
	j.full.Store(full)
	if full {
		j.db.RefuseRecords("journal-full", fault.New(fault.Full, "the journal is full: more than %d KiB wait for cursors that do not move",
			j.cfg.MaxBytes>>10))
	} else {
		j.db.RefuseRecords("journal-full", nil)
	}
}
