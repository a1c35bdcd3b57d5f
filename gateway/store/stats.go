package store

import (
	"slices"
	"sync/atomic"
	"time"
)

// counters are the store's own numbers since the start.
type counters struct {
	commits, units, records, logged    atomic.Uint64
	applies, chunked, skipped, dropped atomic.Uint64
	collected                          atomic.Uint64
	replayed, refused, waits, stalls   atomic.Uint64
	applyMax, dropMax                  peak
}

// peak keeps the greatest duration.
type peak struct{ ns atomic.Int64 }

func (p *peak) max(d time.Duration) {
	for {
		old := p.ns.Load()
		if int64(d) <= old || p.ns.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

// Stats is a snapshot of the store's numbers. Counters run since the start.
type Stats struct {
	Commits, Units, Records uint64 // entries of the log, and what was in them
	LogBytes                uint64 // written to the log, without padding
	Applies                 uint64 // portions moved into Badger
	ChunkBytes              uint64 // of records written to Badger
	Skipped                 uint64 // records never written to Badger, because every cursor had passed
	SegmentsDropped         uint64
	Collected               uint64 // value files that were rewritten without what is not needed any more
	Replayed                uint64 // entries found in the log at the start
	Refused                 uint64 // units refused for want of room
	Waits, Stalls           uint64 // times that Submit waited, and that the committer waited for the applier
	ApplyMax, DropMax       time.Duration
	LastSync                time.Duration

	Segments     int    // of records in Badger
	SegmentBytes int64  // in them
	TrailBytes   int64  // of notes in Badger
	PendingBytes int    // committed, not yet applied
	RingBytes    int    // of commits in memory
	QueueBytes   int    // submitted, not yet committed
	Damages      int    // found at the start
	Full         string // why new units are refused; empty when they are not
}

// Stats gives the store's numbers.
func (s *Store) Stats() Stats {
	c := &s.stats
	st := Stats{
		Commits: c.commits.Load(), Units: c.units.Load(), Records: c.records.Load(), LogBytes: c.logged.Load(),
		Applies: c.applies.Load(), ChunkBytes: c.chunked.Load(), Skipped: c.skipped.Load(), SegmentsDropped: c.dropped.Load(), Collected: c.collected.Load(),
		Replayed: c.replayed.Load(), Refused: c.refused.Load(), Waits: c.waits.Load(), Stalls: c.stalls.Load(),
		ApplyMax: time.Duration(c.applyMax.ns.Load()), DropMax: time.Duration(c.dropMax.ns.Load()), LastSync: s.wal.LastSync(),
		Damages: len(s.damages),
	}
	s.mu.Lock()
	st.Segments, st.PendingBytes, st.RingBytes, st.TrailBytes = len(s.segs), s.pendB, s.ringB, s.trail.bytes
	for i := range s.segs {
		st.SegmentBytes += s.segs[i].Bytes
	}
	s.mu.Unlock()
	s.queue.mu.Lock()
	st.QueueBytes = s.queue.bytes
	s.queue.mu.Unlock()
	if err := s.refusal.any(); err != nil {
		st.Full = err.Msg
	}
	return st
}

// Segments lists the stretches of records in Badger, oldest first.
func (s *Store) Segments() []Segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.segs)
}
