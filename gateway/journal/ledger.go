package journal

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"tidegate/gateway/store"
)

// Loss is an entry of the ledger: records that were not kept as promised.
type Loss struct {
	Name  string    `json:"name"`            // whose: "journal" for everybody, else a cursor or a session
	From  uint64    `json:"from,omitempty"`  // numbers of the records; 0, 0 when they are not known
	To    uint64    `json:"to,omitempty"`    //
	At    time.Time `json:"at"`              // when it was found or done
	Why   string    `json:"why"`             // for an operator
	Count uint64    `json:"count,omitempty"` // records; 0 from Lose means To-From+1
}

func (l *Loss) count() {
	if l.Count == 0 && l.To >= l.From && l.From > 0 {
		l.Count = l.To - l.From + 1
	}
}

func lossKey(n uint64) string { return fmt.Sprintf("%s%016x", keyLoss, n) }

func (j *Journal) loadLoss(digits string, val []byte) error {
	n, err := strconv.ParseUint(digits, 16, 64)
	if err != nil {
		return fmt.Errorf("ledger entry %q: %w", digits, err)
	}
	if len(val) == 0 {
		return nil // joined with a later one
	}
	var l Loss
	if err := json.Unmarshal(val, &l); err != nil {
		return fmt.Errorf("ledger entry %q: %w", digits, err)
	}
	j.losses, j.lossKeys = append(j.losses, l), append(j.lossKeys, n)
	j.nextLoss = max(j.nextLoss, n+1)
	j.lost.Add(l.Count)
	return nil
}

// Lose enters l into the ledger with u. At zero means now.
func (j *Journal) Lose(u *store.Unit, l Loss) {
	if l.At.IsZero() {
		l.At = j.clk.Now()
	}
	l.count()
	j.mu.Lock()
	n := j.nextLoss
	j.nextLoss++
	j.mu.Unlock()
	u.Put(lossKey(n), l.encode())
	u.Then(func(_ uint64, err error) {
		if err != nil {
			return
		}
		j.mu.Lock()
		j.losses, j.lossKeys = append(j.losses, l), append(j.lossKeys, n)
		j.mu.Unlock()
		j.lost.Add(l.Count)
		j.tellLoss(&l)
	})
}

// LoseOn is Lose for what continues the newest entry of the same name and reason, ending before l begins: the two become
// one, dated by the first. If there is none within the last hour it is Lose. One call for a name at a time.
func (j *Journal) LoseOn(u *store.Unit, l Loss) {
	if l.At.IsZero() {
		l.At = j.clk.Now()
	}
	l.count()
	find := func(ok func(p *Loss, key uint64) bool) int {
		for i := len(j.losses) - 1; i >= 0; i-- {
			if ok(&j.losses[i], j.lossKeys[i]) {
				return i
			}
		}
		return -1
	}
	j.mu.Lock()
	i := find(func(p *Loss, _ uint64) bool { return p.Name == l.Name })
	if i < 0 || j.losses[i].Why != l.Why || j.losses[i].To >= l.From || l.At.Sub(j.losses[i].At) >= time.Hour {
		j.mu.Unlock()
		j.Lose(u, l)
		return
	}
	key, joined := j.lossKeys[i], j.losses[i]
	j.mu.Unlock()
	joined.To, joined.Count = l.To, joined.Count+l.Count
	u.Put(lossKey(key), joined.encode())
	u.Then(func(_ uint64, err error) {
		if err != nil {
			return
		}
		j.mu.Lock()
		if i := find(func(_ *Loss, k uint64) bool { return k == key }); i >= 0 {
			j.losses[i] = joined
		}
		j.mu.Unlock()
		j.lost.Add(l.Count)
		j.tellLoss(&l)
	})
}

func (l *Loss) encode() []byte {
	b, err := json.Marshal(l)
	if err != nil {
		panic("BUG: a loss cannot be encoded: " + err.Error())
	}
	return b
}

func (j *Journal) tellLoss(l *Loss) {
	j.log.Warn("records were lost", "queue", l.Name, "from", l.From, "to", l.To, "count", l.Count, "why", l.Why)
}

// enter writes l with put, joined with the entry before it where that is its continuation; j.mu is held.
func (j *Journal) enter(l Loss, put func(key string, val []byte)) {
	l.count()
	j.lost.Add(l.Count)
	j.tellLoss(&l)
	if i := len(j.losses) - 1; i >= 0 {
		p := &j.losses[i]
		if p.Name == l.Name && p.Why == l.Why && p.To+1 == l.From && l.At.Sub(p.At) < time.Hour && !l.At.Before(p.At) {
			p.To, p.Count = l.To, p.Count+l.Count
			put(lossKey(j.lossKeys[i]), p.encode())
			return
		}
	}
	j.shorten(put)
	put(lossKey(j.nextLoss), l.encode())
	j.losses, j.lossKeys = append(j.losses, l), append(j.lossKeys, j.nextLoss)
	j.nextLoss++
}

// shorten joins the oldest entries of one queue until the ledger has its size again: the counts stay right, the times
// and reasons become those of the newer entry. An empty
// value stands for an entry that is gone; j.mu is held.
func (j *Journal) shorten(put func(key string, val []byte)) {
	for len(j.losses) > j.cfg.Ledger {
		first := &j.losses[0]
		k := 1
		for k < len(j.losses) && j.losses[k].Name != first.Name {
			k++
		}
		if k == len(j.losses) || k > j.cfg.Ledger/2 {
			return // nothing to join with among the old ones
		}
		into := &j.losses[k]
		if into.From == 0 || first.From > 0 && first.From < into.From {
			into.From = first.From
		}
		into.To, into.Count = max(first.To, into.To), into.Count+first.Count
		into.Why = "several losses, the last: " + strings.TrimPrefix(into.Why, "several losses, the last: ")
		put(lossKey(j.lossKeys[k]), into.encode())
		put(lossKey(j.lossKeys[0]), nil)
		j.losses, j.lossKeys = j.losses[1:], j.lossKeys[1:]
	}
}

// enterDamages puts what the store found wrong into the ledger.
func (j *Journal) enterDamages() error {
	ds := j.db.Damages()
	if len(ds) == 0 {
		return nil
	}
	u := j.db.NewUnit()
	u.Vital = true
	for _, d := range ds {
		if d.Whole {
			continue
		}
		l := Loss{Name: "journal", Why: d.What}
		if d.From > 0 && d.To >= d.From {
			l.From, l.To = d.From, d.To
		}
		j.Lose(u, l)
	}
	return j.db.Submit(u)
}

// Ledger gives the entries since a time, oldest first, at most max of the newest; max 0 means all.
func (j *Journal) Ledger(since time.Time, max int) []Loss {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []Loss
	for _, l := range j.losses {
		if !l.At.Before(since) {
			list = append(list, l)
		}
	}
	if max > 0 && len(list) > max {
		list = list[len(list)-max:]
	}
	return list
}

// why gives the ledger's reason for the records from to to, if one entry covers the first of them.
func (j *Journal) why(from uint64) (why string, to uint64, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := len(j.losses) - 1; i >= 0; i-- {
		if l := &j.losses[i]; l.Name == "journal" && l.From <= from && from <= l.To {
			return l.Why, l.To, true
		}
	}
	return "", 0, false
}
