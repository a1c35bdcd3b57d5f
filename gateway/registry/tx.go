package registry

import (
	"encoding/json"
	"slices"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// Tx is a transaction. It is valid only within the function Do was given, on that
// goroutine. After an error the whole transaction is taken back.
type Tx struct {
	r       *Registry
	by      string
	now     time.Time
	undo    []func()
	put     map[string][]byte // nil: deleted
	order   []string
	changes []Change
}

// Do runs fn in a transaction that by is responsible for ("operator/ada", a
// client's principal), and returns when it is on the disk. An error of fn, or of
// the store, takes everything back.
func (r *Registry) Do(by string, fn func(*Tx) error) error {
	done := make(chan error, 1)
	if err := r.submit(by, fn, done); err != nil {
		return err
	}
	return <-done
}

// submit runs fn and hands the result to the store.
func (r *Registry) submit(by string, fn func(*Tx) error, done chan<- error) error {
	r.write.Lock()
	defer r.write.Unlock()
	tx := &Tx{r: r, by: by, now: r.clk.Now().UTC().Truncate(time.Millisecond), put: map[string][]byte{}}
	if err := tx.run(fn); err != nil {
		return err
	}
	tell := make([]func(*store.Unit, func(mqtt.Message)), 0, len(r.witnesses))
	for _, w := range r.witnesses {
		tell = append(tell, w(tx.changes))
	}
	err := r.commit(func(u *store.Unit, emit func(mqtt.Message)) error {
		u.Vital = tx.takesAway()
		for _, key := range tx.order {
			if val := tx.put[key]; val != nil {
				u.Put(key, val)
			} else {
				u.Del(key)
			}
		}
		if len(tx.order) > 0 {
			for _, fn := range tell {
				fn(u, emit)
			}
		}
		return nil
	}, func(err error) {
		if err == nil && len(tx.changes) > 0 {
			for _, fn := range r.listening {
				fn(tx.changes)
			}
		}
		done <- err
	})
	if err != nil {
		r.mu.Lock()
		tx.rollback()
		r.mu.Unlock()
	}
	return err
}

// takesAway says whether nothing is given to anybody: such a transaction must pass even
// where there is no room, or nobody could be locked out of a full gateway.
func (tx *Tx) takesAway() bool {
	for _, c := range tx.changes {
		if is, ok := c.After.(*Certificate); c.After != nil && (!ok || is.Status == Active) {
			return false
		}
	}
	return true
}

// run applies fn to the tables, or takes back what it did.
func (tx *Tx) run(fn func(*Tx) error) (err error) {
	tx.r.mu.Lock()
	defer tx.r.mu.Unlock()
	finished := false
	defer func() {
		if err != nil || !finished {
			tx.rollback()
		}
	}()
	err = fn(tx)
	finished = true
	return err
}

func (tx *Tx) rollback() {
	for i := len(tx.undo) - 1; i >= 0; i-- {
		tx.undo[i]()
	}
	tx.undo = nil
}

// table is a kind of record by name, with its names in order.
type table[T any] struct {
	prefix string
	m      map[string]*T
	keys   []string
}

// set writes a record, nil removes it. Records are never changed in place: a
// reader may hold the old one.
func set[T any](tx *Tx, t *table[T], kind, name string, v *T) {
	old := t.m[name]
	if old == nil && v == nil {
		return
	}
	t.assign(name, v)
	tx.undo = append(tx.undo, func() { t.assign(name, old) })
	key := t.prefix + name
	if _, again := tx.put[key]; !again {
		tx.order = append(tx.order, key)
	}
	if v == nil {
		tx.put[key] = nil
	} else {
		val, err := json.Marshal(v)
		if err != nil {
			panic("BUG: a record that is not JSON: " + err.Error())
		}
		tx.put[key] = val
	}
	c := Change{Kind: kind, Name: name, By: tx.by, At: tx.now}
	if old != nil {
		c.Before = old
	}
	if v != nil {
		c.After = v
	}
	tx.changes = append(tx.changes, c)
}

func (t *table[T]) assign(name string, v *T) {
	i, have := slices.BinarySearch(t.keys, name)
	switch {
	case v == nil && have:
		delete(t.m, name)
		t.keys = slices.Delete(t.keys, i, i+1)
	case v != nil:
		t.m[name] = v
		if !have {
			t.keys = slices.Insert(t.keys, i, name)
		}
	}
}

// indexed changes an index and remembers how to take it back.
func (tx *Tx) indexed(do, undo func()) {
	do()
	tx.undo = append(tx.undo, undo)
}

// Page asks for a stretch of a listing in the order of names.
type Page struct {
	After string // the last name seen, "" for the start
	Max   int    // 1 to 250; 0 means 250
	Desc  bool   // from the end
}

// MaxPage is the longest page.
const MaxPage = 250

// page gives up to p.Max names that pass, and the token for what follows, "" at
// the end.
func page(keys []string, p Page, pass func(string) bool) (names []string, next string) {
	n := p.Max
	if n <= 0 || n > MaxPage {
		n = MaxPage
	}
	i, step := 0, 1
	if p.Desc {
		i, step = len(keys)-1, -1
	}
	if p.After != "" {
		var have bool
		i, have = slices.BinarySearch(keys, p.After)
		if p.Desc {
			i--
		} else if have {
			i++
		}
	}
	for ; i >= 0 && i < len(keys); i += step {
		if pass != nil && !pass(keys[i]) {
			continue
		}
		if len(names) == n {
			return names, names[n-1]
		}
		names = append(names, keys[i])
	}
	return names, ""
}

// limit refuses more than max of something; 0 is no limit.
func limit(have, max int, what string) error {
	if max > 0 && have > max {
		return fault.New(fault.LimitExceeded, "%s: at most %d are allowed", what, max)
	}
	return nil
}

// expect compares a version a caller expects with the one there is; 0 expects
// nothing.
func expect(expected, have int64, name string) error {
	if expected != 0 && expected != have {
		return fault.Wrap(fault.Conflict, ErrVersion, "the version of %s is %d and not %d", name, have, expected)
	}
	return nil
}

// Registry gives the registry the transaction is of, for names and ARNs. Its
// readers must not be called within a transaction.
func (tx *Tx) Registry() *Registry { return tx.r }

// Thing gives a thing as it stands within the transaction.
func (tx *Tx) Thing(name string) (*Thing, error) { return tx.r.thing(name) }

// Certificate gives a certificate as it stands within the transaction.
func (tx *Tx) Certificate(id string) (*Certificate, error) { return tx.r.certificate(id) }

// Policy gives a policy as it stands within the transaction.
func (tx *Tx) Policy(name string) (*Policy, error) { return tx.r.policy(name) }
