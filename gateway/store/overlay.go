package store

import (
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/dgraph-io/badger/v4"
)

// overlay holds the writes that Badger does not have yet.
type overlay struct {
	mu sync.RWMutex
	m  map[string]overlaid
}

type overlaid struct {
	val    []byte // nil: deleted
	ticket uint64 // of the unit that wrote it
}

func (o *overlay) set(ops []op, ticket uint64) {
	o.mu.Lock()
	for i := range ops {
		if !ops[i].note {
			o.m[ops[i].key] = overlaid{ops[i].val, ticket}
		}
	}
	o.mu.Unlock()
}

// drop forgets the writes of ops, unless a unit behind ticket has written the key again.
func (o *overlay) drop(ops map[string]op, ticket uint64) {
	o.mu.Lock()
	for k := range ops {
		if v, ok := o.m[k]; ok && v.ticket <= ticket {
			delete(o.m, k)
		}
	}
	if len(o.m) == 0 && len(ops) > 1<<12 {
		o.m = map[string]overlaid{} // a map never shrinks
	}
	o.mu.Unlock()
}

// Get gives the value of key as last submitted, nil when there is none. The value must not be changed. What is not yet
// committed is seen too: an answer to the outside must leave through a unit, so that it comes after the commit of what
// it tells.
func (s *Store) Get(key string) ([]byte, error) {
	s.overlay.mu.RLock()
	v, ok := s.overlay.m[key]
	s.overlay.mu.RUnlock()
	if ok {
		return v.val, nil
	}
	var val []byte
	err := s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(stateKey(key))
		if err == nil {
			val, err = item.ValueCopy(nil)
		}
		return err
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err == nil && val == nil {
		val = []byte{}
	}
	return val, err
}

// Scan calls fn for every key with prefix, in order, as last submitted, until fn returns false. The value must not be
// changed. What is submitted meanwhile may or may not be seen.
func (s *Store) Scan(prefix string, fn func(key string, val []byte) bool) error {
	return s.ScanAfter(prefix, "", fn)
}

// ScanAfter is Scan for the keys behind after, which need not be there; what stands before them is not read.
func (s *Store) ScanAfter(prefix, after string, fn func(key string, val []byte) bool) error {
	type kv struct {
		key string
		val []byte
	}
	var over []kv
	s.overlay.mu.RLock()
	for k, v := range s.overlay.m {
		if strings.HasPrefix(k, prefix) && k > after {
			over = append(over, kv{k, v.val})
		}
	}
	s.overlay.mu.RUnlock()
	slices.SortFunc(over, func(a, b kv) int { return strings.Compare(a.key, b.key) })
	// upTo gives what the overlay has before key, or all of it.
	upTo := func(key string, all bool) bool {
		for len(over) > 0 && (all || over[0].key < key) {
			o := over[0]
			over = over[1:]
			if o.val != nil && !fn(o.key, o.val) {
				return false
			}
		}
		return true
	}
	goOn := true
	err := s.db.View(func(txn *badger.Txn) error {
		opt := badger.DefaultIteratorOptions
		opt.Prefix = stateKey(prefix)
		opt.PrefetchSize = 16
		it := txn.NewIterator(opt)
		defer s.closeIterator(it)
		start := opt.Prefix
		if after > prefix {
			start = append(stateKey(after), 0)
		}
		for it.Seek(start); it.Valid() && goOn; it.Next() {
			key := string(it.Item().Key()[len(prefixState):])
			if goOn = upTo(key, false); !goOn {
				break
			}
			if len(over) > 0 && over[0].key == key {
				continue // the overlay's turn comes with the next key
			}
			val, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			goOn = fn(key, val)
		}
		return nil
	})
	if err == nil && goOn {
		upTo("", true)
	}
	return err
}
