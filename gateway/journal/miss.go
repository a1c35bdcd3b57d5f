package journal

import "time"

const (
	// missEvery is how often a miss that goes on is written: each time costs a page of the log on an idle gateway.
	missEvery = 10 * time.Second
	// missOver is how long nothing must have been missed for the next to begin an entry of its own.
	missOver = time.Minute
)

// miss is a running episode in which messages did not get into the journal. Its entry of the ledger is there from the
// first one on, and counts on.
type miss struct {
	key     uint64 // of the entry
	loss    Loss
	last    time.Time // when the last message was missed, by the clock of the process
	written time.Time // when the entry was last committed
	dirty   bool
}

// Miss enters into the ledger that n messages, which somebody wanted kept and nobody will send again, could not be
// taken, and why. Those that follow each other within a minute under one name are one entry, dated by the first, whose
// count grows; it becomes durable with one of the next commits, at the latest after ten seconds if the log takes any. It
// does not block and may be called while the store refuses everything.
func (j *Journal) Miss(name string, n uint64, why string) {
	now := time.Now()
	j.lost.Add(n)
	j.mu.Lock()
	m := j.misses[name]
	fresh := m == nil || m.loss.Why != why || now.Sub(m.last) > missOver
	if fresh {
		if m != nil && m.dirty { // the end of the one before must not be forgotten
			j.misses[name+"\x00"] = m
		}
		m = &miss{key: j.nextLoss, loss: Loss{Name: name, At: j.clk.Now(), Why: why}}
		j.nextLoss++
		j.losses, j.lossKeys = append(j.losses, m.loss), append(j.lossKeys, m.key)
		j.misses[name] = m
	}
	m.loss.Count += n
	m.last, m.dirty = now, true
	for i := len(j.losses) - 1; i >= 0; i-- {
		if j.lossKeys[i] == m.key {
			j.losses[i].Count = m.loss.Count
			break
		}
	}
	l := m.loss
	j.mu.Unlock()
	if fresh {
		j.tellLoss(&l)
	}
}

// rideMisses adds what has grown to the entry that is being committed; j.mu is held.
func (j *Journal) rideMisses(all bool, put func(key string, val []byte)) {
	for name, m := range j.misses {
		now := time.Now()
		if m.dirty && (all || now.Sub(m.written) >= missEvery) {
			m.dirty, m.written = false, now
			put(lossKey(m.key), m.loss.encode())
		}
		if !m.dirty && now.Sub(m.last) > missOver {
			delete(j.misses, name)
		}
	}
}

// missesDue says whether one should be written although nothing else is; j.mu is held.
func (j *Journal) missesDue() bool {
	for _, m := range j.misses {
		if m.dirty && time.Since(m.written) >= missEvery {
			return true
		}
	}
	return false
}
