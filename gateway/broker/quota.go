package broker

import (
	"errors"
	"fmt"
	"time"

	"tidegate/gateway/broker/session"
	"tidegate/gateway/journal"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// A session may be given a quota of what waits for it in the journal. Beyond it the oldest go, a
// sixteenth of the quota at once: the session passes over them, its Gaps and the ledger say
// which and how many. Nothing is passed over before that is on its way to the disk together,
// and the cursor stays where it was until it is there.

// QueueName is the name of a session's queue in the ledger.
func QueueName(clientID string) string { return "session/" + clientID }

// waits is what waits for a session in the journal.
type waits struct {
	msgs, bytes int64
	free        int // messages before those: after a restart, what may have been sent before
}

func (w *waits) add(msgs, bytes int) { w.msgs, w.bytes = w.msgs+int64(msgs), w.bytes+int64(bytes) }

// less takes off messages from k up to n of run, which have been read. The count is begun anew each
// time the session has caught up.
func (w *waits) less(run *mqtt.Run, k, n int) {
	d := min(w.free, n-k)
	w.free -= d
	k += d
	w.msgs, w.bytes = max(0, w.msgs-int64(n-k)), max(0, w.bytes-int64(lengthOf(run, k, n)))
}

// restored counts messages from k up to n of run that a restart has found. So many as can be
// unacknowledged at once are not counted: they did not wait before.
func (w *waits) restored(run *mqtt.Run, k, n, most int) {
	d := max(0, min(most-w.free, n-k))
	w.free += d
	w.add(n-k-d, lengthOf(run, k+d, n))
}

// lengthOf gives the bytes of messages from k up to n of run.
func lengthOf(run *mqtt.Run, k, n int) int {
	if k >= n {
		return 0
	}
	end := len(run.Buf)
	if n < len(run.Frames) {
		end = int(run.Frames[n].Start)
	}
	return end - int(run.Frames[k].Start)
}

// queueRoom gives how many bytes may be queued in memory for one session: less when much is
// queued for all.
func (b *Broker) queueRoom() int {
	if b.queued.Load() > int64(b.cfg.TotalBuffer) {
		return min(b.cfg.SessionMemory, countStep)
	}
	return b.cfg.SessionMemory
}

// countQueue keeps the broker's total of what is queued in memory up to date, in steps. The caller
// holds mu.
func (s *client) countQueue() {
	n := s.queue.size()
	if d := n - s.counted; d >= countStep || d <= -countStep || n == 0 && d != 0 {
		s.b.queued.Add(int64(d))
		s.counted = n
	}
}

// hasQuota says whether sessions have one.
func (c *Config) hasQuota() bool { return c.SessionMessages > 0 || c.SessionBytes > 0 }

// window gives how many messages a client may leave unacknowledged.
func (c *Config) window() int {
	if n := c.Limits.Outbound; n > 0 {
		return min(n, maxWindow)
	}
	return maxWindow
}

// over gives how much has to go for w to be within the quota again, with something to spare.
func (c *Config) over(w *waits) (less waits) {
	if m := int64(c.SessionMessages); m > 0 && w.msgs > m {
		less.msgs = w.msgs - m + m/16
	}
	if m := int64(c.SessionBytes); m > 0 && w.bytes > m {
		less.bytes = w.bytes - m + m/16
	}
	return less
}

func (c *Config) quotaText() string {
	text := "the session's quota of "
	if c.SessionMessages > 0 {
		text += fmt.Sprintf("%d messages", c.SessionMessages)
		if c.SessionBytes > 0 {
			text += " and "
		}
	}
	if c.SessionBytes > 0 {
		text += fmt.Sprintf("%d bytes", c.SessionBytes)
	}
	return text
}

// bound sees to it that the session comes back to its quota, unless it is reading just now. The
// caller holds mu.
func (s *client) bound() {
	if s.shedding || s.filling || s.b.cfg.over(&s.waits) == (waits{}) {
		return
	}
	s.shedding = true
	s.b.wg.Add(1)
	go func() {
		defer s.b.wg.Done()
		for s.shed() {
		}
	}()
}

// shed passes over the oldest messages that wait. It ends shedding, unless it has to be called again.
func (s *client) shed() (again bool) {
	s.mu.Lock()
	pos, less := s.pos, s.b.cfg.over(&s.waits)
	if s.gone || !s.pending || less == (waits{}) || s.b.closing.Load() {
		s.shedding = false
		s.mu.Unlock()
		return false
	}
	from, free, join := pos, s.waits.free, false
	if s.shedPos == pos && len(s.gaps) > 0 { // nothing was read since
		from, free, join = s.shedTo, 0, true
	}
	s.mu.Unlock()
	gap, gone, err := s.oldest(from, free, less)
	s.mu.Lock()
	if err != nil || gap.Count == 0 || s.gone || !s.pending || s.pos != pos {
		// It has read on, or what waits is not what was counted: the next that comes will tell.
		if gap.Count == 0 && err == nil && s.pos == pos {
			s.waits = waits{free: s.waits.free}
		}
		s.shedding = false
		s.mu.Unlock()
		return false
	}
	if join {
		last := &s.gaps[len(s.gaps)-1]
		join = last.To < gap.From && last.Why == gap.Why && gap.At.Sub(last.At) < time.Hour
	}
	gaps := session.AddGap(s.gaps, gap, join)
	s.gaps = gaps
	if s.waits.free == 0 {
		s.held, s.pos = pos, gap.To+1
		s.reader, s.left = nil, nil
	}
	s.shedPos, s.shedTo = s.pos, gap.To+1
	s.waits.msgs, s.waits.bytes = max(0, s.waits.msgs-gone.msgs), max(0, s.waits.bytes-gone.bytes)
	persistent := s.persistent
	s.mu.Unlock()

	err = s.enterGap(gap, gaps, persistent, join)
	s.b.stats.shed.Add(gone.msgs)
	s.b.stats.gaps.Add(1)
	s.mu.Lock()
	s.held = 0
	if err == nil {
		s.settle()
	}
	s.mu.Unlock()
	if err != nil {
		s.b.log.Error("a session's loss could not be entered into the ledger", "client", s.id, "err", err)
	}
	return true
}

// oldest reads which messages have to go for less to be gone, from pos on but for the first few
// of the session's.
func (s *client) oldest(pos uint64, free int, less waits) (gap session.Gap, gone waits, err error) {
	gap = session.Gap{At: s.b.clk.Now(), Why: s.b.cfg.quotaText()}
	r := s.b.jr.Reader(pos)
	for gone.msgs < less.msgs || gone.bytes < less.bytes {
		first, run, ok, err := r.Next()
		var hole *journal.GapError
		if errors.As(err, &hole) {
			continue // in the ledger under the journal's own name
		}
		if err != nil {
			return gap, gone, err
		}
		if !ok {
			break
		}
		s.mu.Lock()
		mine := s.grantOf(run, first) != nil
		s.mu.Unlock()
		if !mine {
			continue
		}
		for i := range run.Frames {
			if gone.msgs >= less.msgs && gone.bytes >= less.bytes {
				break
			}
			if free > 0 {
				free--
				continue
			}
			if gap.To = first + uint64(i); gap.From == 0 {
				gap.From = gap.To
			}
			gone.add(1, lengthOf(run, i, i+1))
		}
	}
	gap.Count = uint64(gone.msgs)
	return gap, gone, nil
}

// enterGap writes a gap into the ledger and to the session.
func (s *client) enterGap(gap session.Gap, gaps []session.Gap, persistent, join bool) error {
	lock := s.b.idLock(s.id)
	lock.Lock()
	defer lock.Unlock()
	persistent = persistent && s.b.sessionOf(s.id) == s
	loss := journal.Loss{Name: QueueName(s.id), From: gap.From, To: gap.To, Count: gap.Count, At: gap.At, Why: gap.Why}
	return s.b.db.Wait(func(u *store.Unit) error {
		u.Vital = true
		if join {
			s.b.jr.LoseOn(u, loss)
		} else {
			s.b.jr.Lose(u, loss)
		}
		if persistent {
			return session.PutGaps(u, s.id, gaps)
		}
		return nil
	})
}

// missed notes what the journal has given up while the session had not read it; the journal's own
// entry in the ledger says so, too. The caller holds mu.
func (s *client) missed(from uint64, e *journal.GapError) {
	s.b.stats.gaps.Add(1)
	if e.Unwanted || e.To < from {
		return
	}
	s.gaps = session.AddGap(s.gaps, session.Gap{From: max(from, e.From), To: e.To, At: s.b.clk.Now(), Why: e.Why}, false)
	if !s.persistent {
		return
	}
	s.b.wg.Add(1)
	go s.saveGaps()
}

func (s *client) saveGaps() {
	defer s.b.wg.Done()
	lock := s.b.idLock(s.id)
	lock.Lock()
	defer lock.Unlock()
	s.mu.Lock()
	gaps, gone := s.gaps, s.gone
	s.mu.Unlock()
	if gone || s.b.sessionOf(s.id) != s {
		return
	}
	if err := s.b.db.Wait(func(u *store.Unit) error { u.Vital = true; return session.PutGaps(u, s.id, gaps) }); err != nil {
		s.b.log.Warn("the gaps of a session could not be saved", "client", s.id, "err", err)
	}
}

// beyond gives the first number from seq on that is not in a gap: what was given up stays so, even
// if a restart finds the cursor before it. until gives where the next gap begins, 0 for nowhere.
func (s *client) beyond(seq uint64) (from, until uint64) {
	for i := range s.gaps {
		switch g := &s.gaps[i]; {
		case g.To < seq:
		case g.From <= seq:
			seq = g.To + 1
		default:
			return seq, g.From
		}
	}
	return seq, 0
}
