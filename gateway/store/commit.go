package store

import (
	"runtime"
	"sync"
	"time"

	"tidegate/gateway/store/commitlog"
)

// commitLoop is the committer: while one sync runs, the next batch gathers.
func (s *Store) commitLoop() {
	defer s.wg.Done()
	defer s.acks.close()
	last := 0 // units in the batch before
	var ride []op
	for {
		batch, ok := s.take(last)
		if !ok {
			return
		}
		last = len(batch.units)
		if err := s.failed(); err != nil {
			s.acks.push(s, ackBatch{units: batch.units, pooled: batch, err: err})
			continue
		}
		ride = ride[:0]
		e, err := s.commit(batch.units, &ride)
		if err != nil {
			s.fail(err)
			err = s.failed()
		}
		s.acks.push(s, ackBatch{units: batch.units, pooled: batch, e: e, err: err})
	}
}

// batchOf is the units of one commit, pooled.
type batchOf struct{ units []*Unit }

var batches = sync.Pool{New: func() any { return new(batchOf) }}

// take waits for units and takes as many as one commit may hold; ok is false when the queue is closed and empty. With
// neighbours in the batch before, it gives their answers a moment to come back as new units: else only half
// of the submitters would be in a batch, the two halves in turn.
func (s *Store) take(last int) (*batchOf, bool) {
	q := &s.queue
	if last > 1 {
		if linger := s.wal.LastSync() / 10; linger >= 50*time.Microsecond {
			time.Sleep(linger)
		} else {
			runtime.Gosched()
		}
	}
	q.mu.Lock()
	if q.taken > 0 {
		q.taken = 0
		q.room.Broadcast()
	}
	for len(q.units) == 0 {
		if q.closed {
			q.mu.Unlock()
			return nil, false
		}
		q.work.Wait()
	}
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
	q.room.Broadcast()
	q.mu.Unlock()
	return b, true
}

// commit makes one entry of units and returns when it is on the disk; nil for units that write nothing.
func (s *Store) commit(units []*Unit, ride *[]op) (*entry, error) {
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
	frame := encode(e, units, *ride)
	if s.seal != nil { // the ring keeps what is readable
		frame = s.seal.seal(make([]byte, commitlog.FrameHeader, cap(frame)+sealOverhead+commitlog.PageSize), e.index, frame[commitlog.FrameHeader:])
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
	s.stats.logged.Add(uint64(e.bytes))
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
		s.stalled = true // acknowledging wakes the applier from now on
		s.poke()
		s.space.Wait()
	}
	s.stalled = false
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

// acks hands batches to the goroutine of acknowledgements, in order. Its length is bounded by what may be pending,
// and by maxAckUnits for units that write nothing.
type acks struct {
	mu     sync.Mutex
	work   *sync.Cond // for the goroutine
	room   *sync.Cond // for the committer
	list   []ackBatch
	spare  []ackBatch
	units  int
	busy   bool // somebody runs Dones
	closed bool
}

// maxAckUnits is how many units may wait for their Done before the committer waits as well.
const maxAckUnits = 1 << 15

type ackBatch struct {
	units  []*Unit
	pooled *batchOf
	e      *entry
	err    error
}

func (a *acks) init() { a.work, a.room = sync.NewCond(&a.mu), sync.NewCond(&a.mu) }

func (a *acks) close() {
	a.mu.Lock()
	a.closed = true
	a.work.Broadcast()
	a.mu.Unlock()
}

// push queues b, or, when nobody else is at it and nobody else waits for the committer, runs its Dones on the spot:
// that saves a lone submitter the wait for another goroutine to wake.
func (a *acks) push(s *Store, b ackBatch) {
	a.mu.Lock()
	if len(b.units) == 1 && !a.busy && len(a.list) == 0 {
		a.busy = true
		a.mu.Unlock()
		s.acknowledge(&b)
		a.mu.Lock()
		a.busy = false
		a.mu.Unlock()
		return
	}
	for a.units > maxAckUnits {
		a.room.Wait()
	}
	a.list = append(a.list, b)
	a.units += len(b.units)
	a.work.Signal()
	a.mu.Unlock()
}

func (s *Store) ackLoop() {
	defer s.wg.Done()
	a := &s.acks
	for {
		a.mu.Lock()
		for len(a.list) == 0 {
			if a.closed {
				a.mu.Unlock()
				return
			}
			a.work.Wait()
		}
		list := a.list
		a.list, a.units, a.busy = a.spare[:0], 0, true
		a.room.Broadcast()
		a.mu.Unlock()
		for i := range list {
			s.acknowledge(&list[i])
			list[i] = ackBatch{}
		}
		a.mu.Lock()
		a.spare, a.busy = list, false
		a.mu.Unlock()
	}
}

// acknowledge runs what a batch's units are waiting for. Only then may the applier have the entry: a cursor is
// pinned by a Done.
func (s *Store) acknowledge(b *ackBatch) {
	s.watch[acknowledging].begin()
	defer s.watch[acknowledging].end()
	for i, u := range b.units {
		u.settle(b.err)
		b.units[i] = nil
	}
	if b.e != nil {
		s.ackedTo.Store(b.e.next)
		s.mu.Lock()
		s.acked = b.e.index
		waiting := s.due() || s.stalled
		s.mu.Unlock()
		if waiting {
			s.poke()
		}
	}
	for _, f := range s.onBatch {
		f()
	}
	b.pooled.units = b.units[:0]
	batches.Put(b.pooled)
}
