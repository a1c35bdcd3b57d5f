package journal

import (
	"encoding/binary"
	"fmt"
	"time"

	"tidegate/gateway/store"
)

// keeper is the journal as the store sees it.
type keeper struct{ j *Journal }

// rideEvery spares a busy log from carrying every cursor in every entry.
const rideEvery = 10 * time.Millisecond

// Ride adds the cursors that have changed to the entry that is being committed.
func (k keeper) Ride(all bool, put func(key string, val []byte)) {
	j := k.j
	acked := j.db.Acked() // first: a cursor that floats afterwards is done with everything below
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rideMisses(all, put)
	if len(j.riding) == 0 {
		return
	}
	now := time.Now()
	if !all && now.Sub(j.lastRide) < rideEvery {
		return
	}
	j.lastRide = now
	for i, c := range j.riding {
		j.riding[i] = nil
		c.rode.Store(false)
		if j.cursors[c.name] != c || !c.committed {
			continue
		}
		w := c.word.Load()
		pos := w >> 1
		if w&1 == 1 {
			pos = max(pos, acked)
		}
		put(keyCursor+c.name, cursorValue(w, pos))
	}
	j.riding = j.riding[:0]
}

// Restless says whether a cursor waits for a ride, or an entry of the ledger.
func (k keeper) Restless() bool {
	k.j.mu.Lock()
	defer k.j.mu.Unlock()
	return len(k.j.riding) > 0 || k.j.missesDue()
}

// Settle gives the least position of all cursors and writes exactly the positions that this rests on.
func (k keeper) Settle(next uint64, put func(key string, val []byte)) (floor uint64) {
	j := k.j
	j.mu.Lock()
	defer j.mu.Unlock()
	floor = next
	for _, c := range j.cursors {
		floor = min(floor, j.settle(c, next, put))
	}
	if j.settled != next {
		j.settled = next
		put(keyFloat, binary.BigEndian.AppendUint64(nil, next))
	}
	if j.looksBack() {
		floor = min(floor, j.history)
	}
	j.floor = max(j.floor, floor)
	return floor
}

// settle writes c's position if it has changed and gives it; for a floating cursor that is float.
func (j *Journal) settle(c *Cursor, float uint64, put func(key string, val []byte)) uint64 {
	w := c.word.Load()
	if w&1 == 1 {
		w = 1 // wherever it floats
	}
	if w != c.persisted && c.committed {
		c.persisted = w
		put(keyApplied+c.name, cursorValue(w, w>>1))
	}
	if w&1 == 1 {
		return float
	}
	return w >> 1
}

func (j *Journal) looksBack() bool { return j.cfg.HistoryAge > 0 || j.cfg.HistoryBytes > 0 }

// Trim says which segments may go: those that every cursor has passed, and those that a quota does not allow.
func (k keeper) Trim(segs []store.Segment, need int64, put func(key string, val []byte)) (below uint64) {
	j := k.j
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.clk.Now()
	var total int64
	for i := range segs {
		total += segs[i].Bytes
	}
	j.moveHistory(segs, total, now)
	j.boundLags(segs, now, put)

	floor := j.settled
	for _, c := range j.cursors {
		if w := c.word.Load(); w&1 == 0 {
			floor = min(floor, w>>1)
		}
	}
	if j.looksBack() {
		floor = min(floor, j.history)
	}
	cut, why := j.quota(segs, floor, total, need, now)
	if j.cfg.WhenFull == RefuseNew {
		left := total
		for i := range segs {
			if segs[i].Last < max(floor, cut) {
				left -= segs[i].Bytes
			}
		}
		j.refuse(left)
	}
	if cut > floor {
		j.enter(Loss{Name: "journal", From: max(floor, segs[0].ID), To: cut - 1, At: now, Why: why}, put)
		for _, c := range j.cursors {
			if w := c.word.Load(); w&1 == 0 && w>>1 < cut {
				c.jump(cut)
			}
		}
		j.history = max(j.history, cut)
		floor = cut
	}
	if len(segs) == 0 || segs[0].Last >= floor {
		return floor
	}
	for _, c := range j.cursors { // nothing goes but what durable positions have passed
		floor = min(floor, j.settle(c, j.settled, put))
	}
	return floor
}

// quota gives the number below which records must go although somebody may want them, and why. For a disk that is
// nearly full they go only if that makes room enough: else something else has filled it, and they would be given up in
// vain.
func (j *Journal) quota(segs []store.Segment, floor uint64, total, need int64, now time.Time) (cut uint64, why string) {
	if need > total {
		need = 0
	}
	for i := range segs {
		g := &segs[i]
		switch {
		case g.Last < floor: // goes anyway
		case j.cfg.MaxAge > 0 && j.clk.Trusted() && now.Sub(g.At) > j.cfg.MaxAge:
			cut, why = g.Last+1, fmt.Sprintf("older than %v", j.cfg.MaxAge)
		case j.cfg.WhenFull != DropOldest:
			return cut, why
		case need > 0:
			cut, why = g.Last+1, "the disk is nearly full"
		case total > j.cfg.MaxBytes:
			cut, why = g.Last+1, fmt.Sprintf("the quota of %d bytes", j.cfg.MaxBytes)
		default:
			return cut, why
		}
		total -= g.Bytes
		need -= g.Bytes
	}
	return cut, why
}

// moveHistory lets go of what nobody looks back to any more.
func (j *Journal) moveHistory(segs []store.Segment, total int64, now time.Time) {
	if !j.looksBack() {
		return
	}
	for i := range segs {
		g := &segs[i]
		old := j.cfg.HistoryAge > 0 && j.clk.Trusted() && now.Sub(g.At) > j.cfg.HistoryAge
		big := j.cfg.HistoryBytes > 0 && total > j.cfg.HistoryBytes
		if !old && !big {
			return
		}
		j.history = max(j.history, g.Last+1)
		total -= g.Bytes
	}
}

// boundLags makes cursors jump that are too far behind.
func (j *Journal) boundLags(segs []store.Segment, now time.Time, put func(key string, val []byte)) {
	for _, c := range j.cursors {
		limit := c.maxLag.Load()
		if limit == 0 {
			limit = j.cfg.MaxLag
		}
		w := c.word.Load()
		if limit == 0 || w&1 == 1 {
			continue
		}
		lag, to := lagBytes(segs, w>>1), uint64(0)
		for i := range segs {
			if lag > limit && segs[i].Last >= w>>1 {
				lag -= segs[i].Bytes
				to = segs[i].Last + 1
			}
		}
		if to > 0 {
			j.enter(Loss{Name: c.name, From: w >> 1, To: to - 1, At: now, Why: fmt.Sprintf("more than %d bytes behind", limit)}, put)
			c.jump(to)
			j.settle(c, j.settled, put)
		}
	}
}

// jump moves the cursor over records that it will never see; j.mu is held.
func (c *Cursor) jump(to uint64) {
	for {
		w := c.word.Load()
		if w&1 == 1 || w>>1 >= to {
			return
		}
		if c.word.CompareAndSwap(w, to<<1) {
			if !c.rode.Swap(true) {
				c.j.riding = append(c.j.riding, c)
			}
			return
		}
	}
}
