package store

import (
	"sync"
	"sync/atomic"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/store/commitlog"
)

// queue holds the units that wait for their commit, in order.
type queue struct {
	mu     sync.Mutex
	work   *sync.Cond // for the committer
	room   *sync.Cond // for Submit
	units  []*Unit
	bytes  int
	taken  int // bytes of the batch that is being committed
	ticket uint64
	wanted int // with so many units the committer need not sleep any longer; 0: it does not sleep
	closed bool
	dead   atomic.Pointer[fault.Error]
}

func (q *queue) init() {
	q.work, q.room = sync.NewCond(&q.mu), sync.NewCond(&q.mu)
}

// wait returns when there are units, false when the queue is closed and empty.
func (q *queue) wait() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.units) == 0 && !q.closed {
		q.work.Wait()
	}
	return len(q.units) > 0
}

// committed says that what was taken is in the log, and gives how many units have come since.
func (q *queue) committed() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken = 0
	q.room.Broadcast()
	return len(q.units)
}

// awaits says that the committer sleeps until there are n units, and gives how many there are; 0: it does not.
func (q *queue) awaits(n int) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.wanted = n; len(q.units) >= n {
		q.wanted = 0
	}
	return len(q.units)
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.work.Broadcast()
	q.room.Broadcast()
	q.mu.Unlock()
}

func (q *queue) fail(err *fault.Error) {
	q.mu.Lock()
	q.dead.CompareAndSwap(nil, err)
	q.work.Broadcast()
	q.room.Broadcast()
	q.mu.Unlock()
}

func (q *queue) failure() error {
	if err := q.dead.Load(); err != nil {
		return err
	}
	return nil
}

// refuseAll drops what nobody will ever commit.
func (q *queue) refuseAll(err error) {
	q.mu.Lock()
	units := q.units
	q.units, q.bytes = nil, 0
	q.mu.Unlock()
	for _, u := range units {
		u.settle(err)
	}
}

// Submit hands u over to be committed. Its writes can be read at once. An error means that u was not taken:
// fault.Full when there is no room, fault.TooLarge, fault.Unavailable when the store is closed or has failed.
// Submit waits while too much is queued already, or the log has no room for it.
func (s *Store) Submit(u *Unit) error {
	if err := s.admit(u); err != nil {
		u.drop(err)
		return err
	}
	q := &s.queue
	q.mu.Lock()
	if !u.Vital && !s.fits(u.size) {
		if err := s.waitForRoom(u); err != nil {
			q.mu.Unlock()
			u.drop(err)
			return err
		}
	}
	if q.closed || q.dead.Load() != nil {
		err := q.failure()
		if err == nil {
			err = fault.New(fault.Unavailable, "the store is closed")
		}
		q.mu.Unlock()
		u.drop(err)
		return err
	}
	q.ticket++
	u.ticket = q.ticket
	if len(u.ops) > 0 {
		s.overlay.set(u.ops, u.ticket)
	}
	q.units = append(q.units, u)
	q.bytes += u.size
	u.unlock() // its writes can be seen; and it may be committed and used again once the queue is unlocked
	if len(q.units) == 1 {
		q.work.Signal()
	}
	enough := len(q.units) == q.wanted
	q.mu.Unlock()
	if enough {
		s.pause.wake()
	}
	return nil
}

// admit refuses what cannot or must not be committed now.
func (s *Store) admit(u *Unit) error {
	if u.size > s.cfg.maxUnit() {
		return fault.New(fault.TooLarge, "the message and what it causes take %d bytes; at most %d can be kept as one", u.size, s.cfg.maxUnit())
	}
	for i := range u.ops {
		if n := len(u.ops[i].key); n == 0 || n > maxKeyLen {
			return fault.New(fault.Invalid, "a key of %d bytes cannot be kept", n)
		}
	}
	if err := s.refused(u); err != nil {
		s.stats.refused.Add(1)
		return err
	}
	return nil
}

// refused says why u must not be taken, whatever room there is.
func (s *Store) refused(u *Unit) error {
	if u.Vital || u.Empty() {
		return nil
	}
	err := s.refusal.all.Load()
	if err == nil && len(u.recs) > 0 {
		err = s.refusal.records.Load()
	}
	if err != nil {
		return err
	}
	return nil
}

// fits says, with the queue locked, whether a unit of n bytes that is not vital may join it: everything queued must
// find room in the log without the applier's help, and leave some for what is vital. A committer that had to wait for
// room would hold up those who make it.
func (s *Store) fits(n int) bool {
	q := &s.queue
	if q.bytes > s.cfg.QueueBytes {
		return false
	}
	pending := int(s.pending.Load())
	before := q.bytes + q.taken
	if pending+before == 0 {
		return true
	}
	n += before
	most := s.cfg.maxBatch() // of which the end of a file may be wasted
	pages := int64(n+most) + int64(2+n/most)*(commitlog.PageSize+sealOverhead)
	return pending+n <= s.cfg.maxPending()/8*7 && pages <= s.wal.Left()-s.cfg.LogFileSize
}

// waitForRoom waits, with the queue locked, until u fits.
func (s *Store) waitForRoom(u *Unit) error {
	q := &s.queue
	s.stats.waits.Add(1)
	deadline := time.Now().Add(s.cfg.FullAfter)
	wake := time.AfterFunc(s.cfg.FullAfter, func() { q.mu.Lock(); q.room.Broadcast(); q.mu.Unlock() })
	defer wake.Stop()
	for !s.fits(u.size) && !q.closed && q.dead.Load() == nil {
		err := s.refused(u)
		log := q.bytes <= s.cfg.QueueBytes // it is the log that is full, not the queue
		if err == nil && !time.Now().Before(deadline) {
			err = fault.New(fault.Full, "the disk has not kept up for %v", s.cfg.FullAfter)
			if log {
				go s.logFull(true) // everybody else may know at once
			}
		}
		if err != nil {
			s.stats.refused.Add(1)
			return err
		}
		if log {
			s.poke()
		}
		q.room.Wait()
	}
	return nil
}

// logFull refuses at the door while the log has no room, so that nobody waits for it in vain.
func (s *Store) logFull(full bool) {
	if !full {
		if s.full.CompareAndSwap(true, false) {
			s.Refuse("log-full", nil)
		}
		return
	}
	if !s.full.Swap(true) {
		s.Refuse("log-full", fault.New(fault.Full, "the commit log is full: nothing could be moved to the database for %v", s.cfg.FullAfter))
	}
}

// refusals are the reasons why nothing new is taken.
type refusals struct {
	mu           sync.Mutex
	why          map[string]reason
	all, records atomic.Pointer[fault.Error] // what Submit looks at
}

type reason struct {
	err     *fault.Error
	records bool
}

// any gives one of the reasons, or nil.
func (r *refusals) any() *fault.Error {
	if err := r.all.Load(); err != nil {
		return err
	}
	return r.records.Load()
}

// Refuse makes Submit refuse what is not vital with err, under the name code, or with nil lets it pass again. The
// condition is also told to Config.Notice.
func (s *Store) Refuse(code string, err *fault.Error) { s.refuse(code, reason{err: err}) }

// RefuseRecords is Refuse for units that hold records: those that only write state pass, since acknowledging is what
// makes room.
func (s *Store) RefuseRecords(code string, err *fault.Error) { s.refuse(code, reason{err, true}) }

func (s *Store) refuse(code string, why reason) {
	r := &s.refusal
	r.mu.Lock()
	was := r.why[code].err
	r.setLocked(code, why)
	r.mu.Unlock()
	if why.err != nil && was == nil { // those who wait for room need not wait any longer
		s.queue.mu.Lock()
		s.queue.room.Broadcast()
		s.queue.mu.Unlock()
	}
	switch {
	case why.err == nil && was != nil:
		s.notice(code, "")
	case why.err != nil && (was == nil || was.Msg != why.err.Msg):
		s.notice(code, why.err.Msg)
	}
}

func (r *refusals) setLocked(code string, why reason) {
	if r.why == nil {
		r.why = map[string]reason{}
	}
	if delete(r.why, code); why.err != nil {
		r.why[code] = why
	}
	var all, records *fault.Error
	for _, w := range r.why {
		if w.records {
			records = w.err
		} else {
			all = w.err
		}
	}
	r.all.Store(all)
	r.records.Store(records)
}

func (s *Store) notice(code, text string) {
	if s.cfg.Notice != nil {
		s.cfg.Notice(code, text)
	}
	if text != "" {
		s.log.Warn("store has a lasting condition", "code", code, "what", text)
	} else {
		s.log.Info("store's condition is over", "code", code)
	}
}
