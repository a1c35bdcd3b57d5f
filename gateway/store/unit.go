package store

import (
	"errors"
	"hash/maphash"
	"slices"
)

// Rec is a block of journal records: one encoding that stands for Count records with
// consecutive numbers.
type Rec struct {
	Count uint32 // at least 1
	Data  []byte
}

// op is one physical write: the value of a key, or its absence; or a note, which goes to the trail and is no value.
type op struct {
	key  string
	val  []byte
	del  bool
	note bool
}

// Unit is what becomes durable as a whole or not at all: records and writes of state. It is filled
// by one goroutine and belongs to the store from Submit until Done.
type Unit struct {
	// Done is told, in the order of commits and on the one goroutine that commits, that the unit is on
	// the disk: first has the first number of each record block. With an error nothing is known to be on the
	// disk and the process is about to end. It must not block and must not call Submit. first is gone
	// when it returns; the unit may be reset and used again from inside it.
	Done func(first []uint64, err error)

	// Vital units pass when there is no room for others: they are small and help to make room.
	Vital bool

	s      *Store
	recs   []Rec
	ops    []op
	first  []uint64
	number uint64 // the next record number when the unit was committed
	then   []func(number uint64, err error)
	size   int
	ticket uint64
	held   []uint16 // stripes locked, ascending
	want   []uint16 // stripes that an earlier attempt had to wait for
	inDo   bool
	pooled bool
	rider  bool // writes nothing itself, but lets the keeper ride
}

// NewUnit gives an empty unit for Submit or Build.
func (s *Store) NewUnit() *Unit { return &Unit{s: s} }

// Reset empties the unit for its next use. Done and Vital stay as they are.
func (u *Unit) Reset() {
	clear(u.recs)
	clear(u.ops)
	clear(u.then)
	u.recs, u.ops, u.then, u.first, u.want = u.recs[:0], u.ops[:0], u.then[:0], u.first[:0], u.want[:0]
	u.size = 0
}

// Append adds a record block and gives its place in the slice that Done receives. r.Data must not change
// until Done.
func (u *Unit) Append(r Rec) int {
	u.recs = append(u.recs, r)
	u.size += len(r.Data) + maxRecOverhead
	return len(u.recs) - 1
}

// Put sets key to val. The store keeps val: it must never change again.
func (u *Unit) Put(key string, val []byte) {
	if val == nil {
		val = []byte{}
	}
	u.add(op{key: key, val: val})
}

// Del removes key.
func (u *Unit) Del(key string) { u.add(op{key: key, del: true}) }

// Note adds a note under key to the trail, which keeps the last Config.TrailBytes of what all units noted; see
// Store.Notes. The key is none of those of Put: what a note says is not read back by Get. The store keeps note: it must
// never change again.
func (u *Unit) Note(key string, note []byte) { u.add(op{key: key, val: note, note: true}) }

func (u *Unit) add(o op) {
	u.ops = append(u.ops, o)
	u.size += len(o.key) + len(o.val) + maxOpOverhead
}

// Get gives the value of key as it will be when this unit comes to commit, as far as the unit holds the
// lock that guards key: its own writes, then what was submitted before, then what is in Badger.
// It is nil when there is none. The value must not be changed.
func (u *Unit) Get(key string) ([]byte, error) {
	for i := len(u.ops) - 1; i >= 0; i-- {
		if o := &u.ops[i]; o.key == key && !o.note {
			return o.val, nil
		}
	}
	return u.s.Get(key)
}

// Then adds a function that is called exactly once: with the next record number at the unit's commit, in
// order and before Done, or with an error when the unit was dropped, refused or lost. It must not block.
func (u *Unit) Then(f func(number uint64, err error)) { u.then = append(u.then, f) }

// Empty says whether the unit writes nothing.
func (u *Unit) Empty() bool { return len(u.recs) == 0 && len(u.ops) == 0 && !u.rider }

// Size is about what the unit will take in the log, in bytes.
func (u *Unit) Size() int { return u.size }

// settle tells everybody who wants to know. The unit may be in use again when it returns.
func (u *Unit) settle(err error) {
	for _, f := range u.then {
		f(u.number, err)
	}
	s, pooled := u.s, u.pooled
	if done := u.Done; done != nil {
		if err != nil {
			done(nil, err)
		} else {
			done(u.first, nil)
		}
	}
	if pooled {
		u.Reset()
		u.Done, u.Vital = nil, false
		s.units.Put(u)
	}
}

// drop takes back what building the unit did: its locks and what Then was promised.
func (u *Unit) drop(err error) {
	u.unlock()
	for _, f := range u.then {
		f(0, err)
	}
	clear(u.recs)
	clear(u.ops)
	clear(u.then)
	u.recs, u.ops, u.then, u.size = u.recs[:0], u.ops[:0], u.then[:0], 0
}

// lockStripes is how many locks all names share.
const lockStripes = 512

var lockSeed = maphash.MakeSeed()

// conflict is what Lock throws inside Build when waiting could be a deadlock.
type conflict struct{ stripe uint16 }

var errConflict = errors.New("unit built again: its locks came in the wrong order")

// Lock takes the lock called name until the unit is submitted or dropped: units that lock the same
// name are built, and come to commit, one after the other. Locking a name twice is harmless. Inside Build and
// Do the order of names does not matter: where waiting could be a deadlock, everything is released and the
// build function runs again with those locks held from its beginning. Elsewhere a unit may lock one name.
func (u *Unit) Lock(name string) {
	stripe := uint16(maphash.String(lockSeed, name) % lockStripes)
	at, have := slices.BinarySearch(u.held, stripe)
	if have {
		return
	}
	m := &u.s.locks[stripe]
	switch {
	case at == len(u.held): // in ascending order nobody can wait in a circle
		m.Lock()
	case m.TryLock():
	case !u.inDo:
		panic("BUG: a second lock in a unit outside Do")
	default:
		panic(conflict{stripe})
	}
	u.held = slices.Insert(u.held, at, stripe)
}

func (u *Unit) unlock() {
	for _, stripe := range u.held {
		u.s.locks[stripe].Unlock()
	}
	u.held = u.held[:0]
}

// attempt runs build once; again says that it has to be run again.
func (u *Unit) attempt(build func(*Unit) error) (again bool, err error) {
	finished := false
	defer func() {
		if finished {
			return
		}
		r := recover()
		if c, ok := r.(conflict); ok {
			u.want = append(append(u.want, u.held...), c.stripe)
			u.drop(errConflict)
			again = true
			return
		}
		u.drop(errors.New("panic while the unit was built"))
		if r != nil {
			panic(r)
		}
	}()
	for _, stripe := range u.want {
		u.s.locks[stripe].Lock()
		u.held = append(u.held, stripe)
	}
	err = build(u)
	finished = true
	return false, err
}

// Build runs build to fill u and submits it. build may run several times (see Lock), so it must do nothing
// but read, and fill u. An error of build, or of Submit, is returned; then nothing happened and Done is not called.
func (s *Store) Build(u *Unit, build func(*Unit) error) error {
	u.inDo, u.want = true, u.want[:0]
	for {
		again, err := u.attempt(build)
		if again {
			slices.Sort(u.want)
			u.want = slices.Compact(u.want)
			continue
		}
		u.inDo = false
		if err != nil {
			u.drop(err)
			return err
		}
		return s.Submit(u)
	}
}

// Do builds a unit and submits it; see Build and Unit.Done. done may be nil.
func (s *Store) Do(build func(u *Unit) error, done func(first []uint64, err error)) error {
	u := s.units.Get().(*Unit)
	u.s, u.pooled, u.Done = s, true, done
	err := s.Build(u, build)
	if err != nil {
		u.Reset()
		u.Done, u.Vital = nil, false
		s.units.Put(u)
	}
	return err
}

// Wait is Do for callers who have nothing better to do: it returns when the unit is on the disk.
func (s *Store) Wait(build func(u *Unit) error) error {
	ch := make(chan error, 1)
	if err := s.Do(build, func(_ []uint64, err error) { ch <- err }); err != nil {
		return err
	}
	return <-ch
}
