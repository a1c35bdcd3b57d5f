package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/dgraph-io/badger/v4"

	"tidegate/gateway/fault"
)

const (
	chunkBytes = 64 << 10 // a chunk is closed when it has so many bytes
	quiet      = time.Second
)

// errNoRoom says that the disk is too full to apply.
var errNoRoom = errors.New("not enough room on the disk")

// applyLoop is the applier: by bytes, and at the latest after ApplyEvery.
func (s *Store) applyLoop() {
	defer s.applierWG.Done()
	tick := time.NewTicker(min(quiet, s.cfg.ApplyEvery))
	defer tick.Stop()
	var commits uint64
	for {
		due := false
		select {
		case <-s.stop:
			return
		case <-s.kick:
			due = true
		case <-tick.C:
			due = time.Since(time.Unix(0, s.lastApply.Load())) >= s.cfg.ApplyEvery || s.refusal.any() != nil
			n := s.stats.commits.Load()
			// Quiet: what would ride along goes alone, unless pages are short.
			if n == commits && s.keeper != nil && s.keeper.Restless() && s.wal.Left() > s.cfg.LogFileSize {
				s.ride()
			}
			commits = n
			s.shedMapped()
		}
		if !due || s.failed() != nil {
			continue
		}
		was := s.stats.applies.Load()
		if err := s.applyAll(); err != nil && !errors.Is(err, errNoRoom) {
			s.fail(fmt.Errorf("apply: %w", err))
		}
		if s.stats.applies.Load() == was { // nothing came for a while: give the memory back
			s.mu.Lock()
			s.evict(-1)
			s.mu.Unlock()
		}
	}
}

// ride commits nothing but what the keeper adds.
func (s *Store) ride() {
	u := s.NewUnit()
	u.Vital = true
	u.rider = true
	if err := s.Submit(u); err != nil && s.failed() == nil {
		s.log.Debug("quiet commit was refused", "err", err)
	}
}

func (s *Store) poke() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// applyAll applies what is acknowledged, in portions, and trims. errNoRoom changes nothing.
func (s *Store) applyAll() error {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	defer s.watch[applying].end()
	s.watch[applying].begin()
	if err := s.watermark(); err != nil {
		return err
	}
	for {
		s.watch[applying].begin()
		more, err := s.apply()
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	s.lastApply.Store(time.Now().UnixNano())
	s.logFull(false)
	if err := s.trim(0); err != nil {
		return err
	}
	return s.tidy()
}

// apply moves one portion of entries into Badger: chunks and state first; what makes it count, in the last
// transaction. Replay overwrites what a torn sequence of transactions leaves.
func (s *Store) apply() (more bool, err error) {
	began := time.Now()
	s.mu.Lock()
	from := sort.Search(len(s.ring), func(i int) bool { return s.ring[i].index > s.applied })
	to, bytes := from, 0
	for to < len(s.ring) && s.ring[to].index <= s.acked && (to == from || bytes+s.ring[to].bytes <= 2*s.cfg.ApplyBytes) {
		bytes += s.ring[to].bytes
		to++
	}
	entries := slices.Clone(s.ring[from:to])
	more = to < len(s.ring) && s.ring[to].index <= s.acked
	segs := slices.Clone(s.segs)
	was := s.trail
	s.mu.Unlock()
	if len(entries) == 0 {
		return false, nil
	}
	last := entries[len(entries)-1]

	w := &writer{db: s.db}
	defer w.discard()
	floor := uint64(0)
	var kept []op
	if s.keeper != nil && s.started.Load() {
		floor = s.keeper.Settle(last.next, func(key string, val []byte) { kept = append(kept, op{key: key, val: val}) })
	}
	segs, touched, err := s.applyRecords(w, entries, segs, floor)
	if err != nil {
		return false, err
	}
	trail, gone, err := s.applyTrail(w, entries)
	if err != nil {
		return false, err
	}
	state := map[string]op{}
	for _, e := range entries {
		for i := range e.ops {
			if !e.ops[i].note {
				state[e.ops[i].key] = e.ops[i]
			}
		}
	}
	for _, o := range state {
		if len(o.val) >= valueThreshold {
			s.stale += int64(len(o.val))
		}
		if err := w.op(&o); err != nil {
			return false, err
		}
	}
	if err := w.last(func() error { // all of these or none
		var err error
		for i := touched; i < len(segs); i++ {
			err = errors.Join(err, w.txn.Set(segmentKey(segs[i].ID), segmentValue(&segs[i])))
		}
		for i := range kept {
			err = errors.Join(err, w.txn.Set(stateKey(kept[i].key), kept[i].val))
		}
		for _, key := range gone {
			err = errors.Join(err, w.txn.Delete(key))
		}
		if trail != was {
			err = errors.Join(err, w.txn.Set(keyTrail, trail.encode()))
		}
		return errors.Join(err, w.txn.Set(keyNext, u64(last.next)), w.txn.Set(keyApplied, u64(last.index)))
	}); err != nil {
		return false, err
	}

	s.mu.Lock()
	s.applied = last.index
	s.pendB -= bytes
	s.pending.Store(int64(s.pendB))
	s.segs = segs
	s.trail = trail
	s.evict(s.cfg.RingBytes)
	s.space.Broadcast()
	s.mu.Unlock()
	s.overlay.drop(state, last.ticket)
	s.wal.Free(last.index)
	s.mu.Lock()
	s.space.Broadcast() // the log has room as well
	s.mu.Unlock()
	s.queue.mu.Lock()
	s.queue.room.Broadcast()
	s.queue.mu.Unlock()
	s.stats.applies.Add(1)
	s.stats.applyMax.max(time.Since(began))
	return more, nil
}

// applyRecords writes the record blocks of entries that reach above floor as chunks, and gives the segments as they
// are then and the first of them that has changed.
func (s *Store) applyRecords(w *writer, entries []*entry, segs []Segment, floor uint64) ([]Segment, int, error) {
	touched := len(segs)
	now := s.clk.Now()
	var c chunker
	flush := func() error {
		if c.buf == nil {
			return nil
		}
		n := len(segs)
		if n == 0 || segs[n-1].Bytes > s.cfg.SegmentBytes || segs[n-1].ID > c.first {
			segs = append(segs, Segment{ID: c.first})
			n++
		}
		g := &segs[n-1]
		touched = min(touched, n-1)
		val := c.take()
		g.Last, g.Bytes, g.At = max(g.Last, c.next-1), g.Bytes+int64(len(val)), now
		s.stats.chunked.Add(uint64(len(val)))
		return w.set(chunkKey(g.ID, c.first), val)
	}
	for _, e := range entries {
		number := e.first
		for i := range e.recs {
			r := e.recs[i]
			first := number
			number += uint64(r.Count)
			if number <= floor {
				s.stats.skipped.Add(uint64(r.Count))
				continue
			}
			if c.buf != nil && (c.next != first || len(c.buf)+len(r.Data) > chunkBytes) {
				if err := flush(); err != nil {
					return segs, touched, err
				}
			}
			c.add(first, r, chunkBytes)
		}
	}
	return segs, touched, flush()
}

// evict takes applied entries out of the ring until it holds at most keep bytes of them; s.mu is held.
func (s *Store) evict(keep int) {
	k := 0
	for k < len(s.ring) && s.ring[k].index <= s.applied && s.ringB-s.pendB > keep {
		s.ringB -= s.ring[k].bytes
		s.ring[k] = nil
		k++
	}
	if s.ring = s.ring[k:]; len(s.ring) == 0 {
		s.ring = nil
	}
}

func segmentValue(g *Segment) []byte {
	return binary.BigEndian.AppendUint64(append(u64(g.Last), u64(uint64(g.Bytes))...), uint64(g.At.UnixMilli()))
}

func parseSegment(key, val []byte) (g Segment, ok bool) {
	if len(key) != len(prefixSegment)+8 || len(val) != 24 {
		return g, false
	}
	g.ID = binary.BigEndian.Uint64(key[len(prefixSegment):])
	g.Last = binary.BigEndian.Uint64(val)
	g.Bytes = int64(binary.BigEndian.Uint64(val[8:]))
	g.At = time.UnixMilli(int64(binary.BigEndian.Uint64(val[16:])))
	return g, true
}

// trim drops segments that nobody needs. What the keeper has to say about it, and the segments' keys, go in one
// transaction; then the chunks. A crash in between leaves chunks without a segment, which the next start drops.
func (s *Store) trim(need int64) error {
	if s.keeper == nil || !s.started.Load() {
		return nil
	}
	s.mu.Lock()
	segs := slices.Clone(s.segs)
	s.mu.Unlock()
	if n := len(segs); n > 0 && need == 0 && segs[n-1].Bytes <= s.cfg.SegmentBytes/8 {
		segs = segs[:n-1] // dropping costs a flush: the last one goes when it has grown a little
	}
	var kept []op
	below := s.keeper.Trim(segs, need, func(key string, val []byte) { kept = append(kept, op{key: key, val: val}) })
	gone := 0
	for gone < len(segs) && segs[gone].Last < below {
		gone++
	}
	if gone == 0 && len(kept) == 0 {
		return nil
	}
	began := time.Now()
	w := &writer{db: s.db}
	defer w.discard()
	var chunks [][]byte
	if err := w.last(func() (err error) {
		for _, g := range segs[:gone] {
			err = errors.Join(err, w.txn.Delete(segmentKey(g.ID)))
			chunks = append(chunks, chunkPrefix(g.ID))
		}
		for i := range kept {
			err = errors.Join(err, w.txn.Set(stateKey(kept[i].key), kept[i].val))
		}
		return err
	}); err != nil {
		return err
	}
	if gone == 0 {
		return nil
	}
	s.mu.Lock()
	s.segs = slices.Clone(s.segs[gone:])
	s.mu.Unlock()
	if err := s.db.DropPrefix(chunks...); err != nil {
		return err
	}
	s.collect()
	s.stats.dropped.Add(uint64(gone))
	s.stats.dropMax.max(time.Since(began))
	return nil
}

// tidy drops the values that were written again since: those too large for the tree stay in their value file until it
// is rewritten, and Badger counts them only when tables are compacted, which small keys cause too seldom.
func (s *Store) tidy() error {
	if s.stale < 2*s.cfg.ValueFile {
		return nil
	}
	w := &writer{db: s.db}
	defer w.discard()
	if err := w.last(func() error { return w.txn.Set(keyTidy, nil) }); err != nil {
		return err
	}
	if err := s.db.DropPrefix(keyTidy); err != nil { // with it the table in memory is written out, and the first level compacted
		return err
	}
	s.collect()
	return nil
}

// collect rewrites value files that are at least half garbage.
func (s *Store) collect() {
	s.stale = 0
	for s.db.RunValueLogGC(0.5) == nil {
		s.stats.collected.Add(1)
	}
}

// watermark refuses to apply when the disk is nearly full: Badger must never meet a full one. First the ballast goes
// if even dropping something would need it, then the keeper may give up what is oldest, as long as that helps.
func (s *Store) watermark() error {
	free, err := freeBytes(s.cfg.Dir)
	if err != nil {
		return err
	}
	if free < s.cfg.leastFree() {
		s.clearBallast()
		if free, err = freeBytes(s.cfg.Dir); err != nil {
			return err
		}
	}
	if free < s.cfg.Reserve && free >= s.cfg.leastFree() && s.started.Load() {
		before, need := free, s.cfg.Reserve-free
		if s.vain {
			need = 0
		}
		if err := s.trim(need); err != nil {
			return err
		}
		if free, err = freeBytes(s.cfg.Dir); err != nil {
			return err
		}
		s.vain = s.vain || need > 0 && free-before < need/2
	}
	if free < s.cfg.Reserve {
		s.Refuse("disk-full", fault.New(fault.Full, "the disk is nearly full: less than %d MiB are left, which the database needs; make room under %s or lower the journal's quota",
			(s.cfg.Reserve+1<<20-1)>>20, s.cfg.Dir))
		return errNoRoom
	}
	s.vain = false
	s.Refuse("disk-full", nil)
	s.makeBallast(free)
	return nil
}

// writer writes to Badger in as many transactions as it takes.
type writer struct {
	db  *badger.DB
	txn *badger.Txn
}

func (w *writer) begin() {
	if w.txn == nil {
		w.txn = w.db.NewTransaction(true)
	}
}

func (w *writer) commit() error {
	err := w.txn.Commit()
	w.txn = nil
	return err
}

func (w *writer) discard() {
	if w.txn != nil {
		w.txn.Discard()
		w.txn = nil
	}
}

func (w *writer) do(f func() error) error {
	w.begin()
	err := f()
	if errors.Is(err, badger.ErrTxnTooBig) {
		if err = w.commit(); err == nil {
			w.begin()
			err = f()
		}
	}
	return err
}

func (w *writer) set(key, val []byte) error {
	return w.do(func() error { return w.txn.Set(key, val) })
}

func (w *writer) op(o *op) error {
	if o.del {
		return w.do(func() error { return w.txn.Delete(stateKey(o.key)) })
	}
	return w.set(stateKey(o.key), o.val)
}

// last runs f in one transaction and commits it: in the open one if everything fits, else in a new one.
func (w *writer) last(f func() error) error {
	w.begin()
	err := f()
	if errors.Is(err, badger.ErrTxnTooBig) {
		if err = w.commit(); err == nil {
			w.begin()
			err = f()
		}
	}
	if err != nil {
		return err
	}
	return w.commit()
}
