package store

import (
	"runtime"
	"sync"
	"time"

	"tidegate/gateway/store/commitlog"
)

// commitLoop is the committer: while one sync runs, the next batch gathers. What waits for a batch is told right here,
// before the next is taken: those who hear of it have then had the time to submit again, and no other goroutine
// has to be woken for it (DESIGN.md has the figures).
func (s *Store) commitLoop() {
	defer s.wg.Done()
	var ride []op
	var d desk
	expect := 0
	for {
		batch, ok := s.take(expect)
		if !ok {
			return
		}
		err := s.failed()
		var e *entry
		if err == nil {
			ride = ride[:0]
			if e, err = s.commit(&d, batch.units, &ride); err != nil {
				s.fail(err)
				err = s.failed()
			}
		}
		expect = len(batch.units) + s.queue.committed() // those who are answered now, and those who came meanwhile
		s.acknowledge(batch, e, err)
	}
}

// batchOf is the units of one commit, pooled.
type batchOf struct{ units []*Unit }

var batches = sync.Pool{New: func() any { return new(batchOf) }}

// take waits for units and takes as many as one commit may hold; ok is false when the queue is closed and empty.
// expect is how many may be about to come.
func (s *Store) take(expect int) (*batchOf, bool) {
	q := &s.queue
	if !q.wait() {
		return nil, false
	}
	runtime.Gosched() // whoever is about to submit, too
	s.gather(expect)
	q.mu.Lock()
	b := batches.Get().(*batchOf)
	limit, n, k := s.cfg.maxBatch(), 0, 0
	for k < len(q.units) && (k == 0 || n+q.units[k].size <= limit) {
		n += q.units[k].size
		k++
	}
	if k == len(q.units) { // the usual case: change slices
		b.units, q.units = q.units, b.units[:0]
	} else {
		b.units = append(b.units[:0], q.units[:k]...)
		rest := copy(q.units, q.units[k:])
		clear(q.units[rest:])
		q.units = q.units[:rest]
	}
	q.bytes, q.taken = q.bytes-n, n
	q.mu.Unlock()
	return b, true
}

// gather waits until as many units are there as were answered last and had come meanwhile, as long as they keep coming
// and for half of the last sync at most. Without it half of the submitters would be in a batch, the two halves in
// turn, and each sync would serve half as many. A lone submitter is never kept waiting.
func (s *Store) gather(expect int) {
	q := &s.queue
	n := q.awaits(expect)
	if n >= expect {
		return
	}
	limit := min(s.wal.LastSync()/2, maxLinger)
	step := max(limit/8, minLinger)
	for end := time.Now().Add(limit); n < expect && time.Until(end) > 0; {
		s.pause.sleep(step)
		m := q.awaits(expect)
		if m == n {
			break
		}
		n = m
	}
	q.awaits(0)
}

// Bounds of how long gather waits.
const (
	minLinger = 50 * time.Microsecond // between two looks
	maxLinger = 10 * time.Millisecond // in all
)

// commit makes one entry of units and returns when it is on the disk; nil for units that write nothing.
func (s *Store) commit(d *desk, units []*Unit, ride *[]op) (*entry, error) {
	empty, all := true, false
	for _, u := range units {
		empty = empty && u.Empty()
		all = all || u.rider
	}
	if empty {
		s.mu.Lock()
		next := s.next
		s.mu.Unlock()
		for _, u := range units {
			u.number, u.first = next, u.first[:0]
		}
		return nil, nil
	}
	if s.keeper != nil {
		s.keeper.Ride(all, func(key string, val []byte) { *ride = append(*ride, op{key: key, val: val}) })
	}
	if err := s.waitForLog(bytesOf(units, *ride) + commitlog.PageSize + sealOverhead); err != nil {
		return nil, err
	}
	s.mu.Lock()
	e := &entry{index: s.index, first: s.next}
	s.mu.Unlock()
	frame := encode(d, e, units, *ride)
	if s.seal != nil { // the ring keeps what is readable
		room, _ := d.room(&d.sealed, len(frame)+sealOverhead)
		frame = s.seal.seal(room, e.index, frame[commitlog.FrameHeader:])
	}
	s.watch[committing].begin()
	err := s.wal.Append(e.index, frame)
	s.watch[committing].end()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.index, s.next = e.index+1, e.next
	s.push(e)
	big := s.due()
	s.mu.Unlock()
	if big {
		s.poke()
	}
	s.stats.commits.Add(1)
	s.stats.units.Add(uint64(len(units)))
	s.stats.records.Add(e.next - e.first)
	s.stats.logged.Add(uint64(len(frame)+commitlog.PageSize-1) / commitlog.PageSize * commitlog.PageSize)
	return e, nil
}

// due says whether the applier should come: by bytes, or because lone small units, a page each, have taken half the
// log; s.mu is held.
func (s *Store) due() bool { return s.pendB > s.cfg.ApplyBytes || s.wal.Left() < s.wal.Size()/2 }

// waitForLog waits until an entry of n bytes has room in the log and in memory. Submit lets nobody in who would have to
// wait here, but for vital units that have used up what is reserved for them.
func (s *Store) waitForLog(n int) error {
	s.mu.Lock()
	if s.logHasRoom(n) {
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	s.stats.stalls.Add(1)
	s.logFull(true)
	s.mu.Lock()
	for !s.logHasRoom(n) && s.failed() == nil {
		s.poke()
		s.space.Wait()
	}
	s.mu.Unlock()
	return s.failed()
}

// logHasRoom says whether n more bytes may be committed; s.mu is held.
func (s *Store) logHasRoom(n int) bool {
	return (s.pendB == 0 || s.pendB+n <= s.cfg.maxPending()) && s.wal.Room(n)
}

// push appends a committed entry to the ring; s.mu is held, or nobody else is there yet.
func (s *Store) push(e *entry) {
	s.ring = append(s.ring, e)
	s.ringB += e.bytes
	s.pendB += e.bytes
	s.pending.Store(int64(s.pendB))
}

// acknowledge runs what a batch's units are waiting for. Only then may the applier have the entry: a cursor is
// pinned by a Done.
func (s *Store) acknowledge(b *batchOf, e *entry, err error) {
	s.watch[acknowledging].begin()
	defer s.watch[acknowledging].end()
	for i, u := range b.units {
		u.settle(err)
		b.units[i] = nil
	}
	if e != nil {
		s.ackedTo.Store(e.next)
		s.mu.Lock()
		s.acked = e.index
		due := s.due()
		s.mu.Unlock()
		if due {
			s.poke()
		}
	}
	for _, f := range s.onBatch {
		f()
	}
	b.units = b.units[:0]
	batches.Put(b)
}
