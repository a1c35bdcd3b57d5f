package journal

import (
	"encoding/binary"
	"sync/atomic"

	"tidegate/gateway/store"
)

// Cursor is a durable position with a name: everything below it is done with for its owner. It either stands at
// the oldest record that its owner has not finished with, or it floats: nothing is pending, and it moves along
// with what is committed.
//
// Pin, Move and Float of one cursor must be called one at a time; different cursors do not mind each other.
// A position never goes back. What is called here becomes durable with one of the next commits, at the latest
// about two seconds later: after a crash some records may be given out again, none is missed.
type Cursor struct {
	j    *Journal
	name string
	word atomic.Uint64 // position<<1 | floating
	rode atomic.Bool   // it waits in riding

	pending   int    // units that create it and are not committed; guarded by j.mu
	committed bool   // guarded by j.mu
	persisted uint64 // word as the applier has written it; the applier's alone
	maxLag    atomic.Int64
}

// CursorInfo describes a cursor for an operator.
type CursorInfo struct {
	Name     string
	Pos      uint64 // see Cursor.Pos
	Floating bool
	Lag      uint64 // records from Pos to the head
	LagBytes int64  // about what they take on the disk
}

// Name gives the cursor's name.
func (c *Cursor) Name() string { return c.name }

// Pos gives the number from which its owner has to read: everything below is done with.
func (c *Cursor) Pos() uint64 {
	acked := c.j.db.Acked() // first: what is pinned meanwhile is not below it
	w := c.word.Load()
	if w&1 == 1 {
		return max(acked, w>>1)
	}
	return w >> 1
}

func (c *Cursor) pos() uint64    { return c.word.Load() >> 1 }
func (c *Cursor) floating() bool { return c.word.Load()&1 == 1 }

// Pinned gives the number of the oldest record that is pending; ok is false when the cursor floats.
func (c *Cursor) Pinned() (seq uint64, ok bool) {
	w := c.word.Load()
	return w >> 1, w&1 == 0
}

// Pin makes a floating cursor stand at record seq, which its owner wants and has not finished with. It must be called in
// the Done of the unit that holds the record: before the applier may see it. A cursor that stands already, stays.
func (c *Cursor) Pin(seq uint64) {
	w := c.word.Load()
	if w&1 == 1 && c.word.CompareAndSwap(w, max(seq, w>>1)<<1) {
		c.changed()
	}
}

// Move says that everything below next is done with; the cursor stands at next. For a floating cursor that has no
// meaning, unless its owner reads on by itself from now on.
func (c *Cursor) Move(next uint64) {
	for {
		w := c.word.Load()
		if w == next<<1 || w>>1 > next {
			return
		}
		if c.word.CompareAndSwap(w, next<<1) {
			c.changed()
			return
		}
	}
}

// Float says that nothing is pending. The owner must have seen every record whose Done has run: an owner that
// reads by itself uses Move.
func (c *Cursor) Float() {
	for {
		w := c.word.Load()
		if w&1 == 1 {
			return
		}
		if c.word.CompareAndSwap(w, w|1) {
			c.changed()
			return
		}
	}
}

// Save writes Pos with u: for an owner that writes something else in u that rests on everything below being done with. A
// position that is only moved becomes durable with one of the next commits. A cursor that has been dropped is not written.
// u must be built by Store.Do or its like.
func (c *Cursor) Save(u *store.Unit) {
	u.Lock(keyCursor + c.name) // what is saved first comes to commit first, and nothing behind Drop
	c.j.mu.Lock()
	there := c.committed && c.j.cursors[c.name] == c
	c.j.mu.Unlock()
	if there {
		u.Put(keyCursor+c.name, cursorValue(0, c.Pos()))
	}
}

// SetMaxLag bounds how many bytes the cursor may be behind before it has to jump over the oldest records, with an
// entry in the ledger under its name; 0 means the journal's default.
func (c *Cursor) SetMaxLag(bytes int64) { c.maxLag.Store(bytes) }

func (c *Cursor) changed() {
	if c.rode.Swap(true) {
		return
	}
	c.j.mu.Lock()
	c.j.riding = append(c.j.riding, c)
	c.j.mu.Unlock()
}

func cursorValue(word, pos uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{byte(word & 1)}, pos)
}

// Create makes the cursor called name, or gives the one that is there. A new one stands at the next record behind the
// unit's own commit, or a little before until then. It is durable with u.
func (j *Journal) Create(u *store.Unit, name string) *Cursor {
	j.mu.Lock()
	c := j.cursors[name]
	if c != nil && c.committed {
		j.mu.Unlock()
		return c
	}
	next := j.db.Next()
	if c == nil {
		c = &Cursor{j: j, name: name}
		c.word.Store(next << 1)
		j.cursors[name] = c
	}
	c.pending++
	j.mu.Unlock()
	start := c.word.Load()
	u.Put(keyCursor+name, cursorValue(0, c.pos()))
	u.Then(func(number uint64, err error) {
		j.mu.Lock()
		defer j.mu.Unlock()
		c.pending--
		if err != nil {
			if c.pending == 0 && !c.committed && j.cursors[name] == c {
				delete(j.cursors, name)
			}
			return
		}
		c.committed = true
		c.word.CompareAndSwap(start, number<<1)
		if !c.rode.Swap(true) { // where it really stands
			j.riding = append(j.riding, c)
		}
		if j.cursors[name] == nil {
			j.cursors[name] = c
		}
	})
	return c
}

// Cursor gives the cursor called name.
func (j *Journal) Cursor(name string) (*Cursor, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	c, ok := j.cursors[name]
	return c, ok
}

// Drop removes the cursor called name with u; it need not exist. What only this cursor wanted may go from then on. u must
// be built by Store.Do or its like.
func (j *Journal) Drop(u *store.Unit, name string) {
	u.Lock(keyCursor + name)
	j.mu.Lock()
	c := j.cursors[name]
	if c != nil {
		c.committed = false // a Create behind this must write it again
	}
	j.mu.Unlock()
	u.Del(keyCursor + name)
	u.Del(keyApplied + name)
	u.Then(func(_ uint64, err error) {
		j.mu.Lock()
		defer j.mu.Unlock()
		if c == nil || j.cursors[name] != c {
			return
		}
		if err != nil {
			c.committed = true
		} else if c.pending == 0 {
			delete(j.cursors, name)
		}
	})
}
