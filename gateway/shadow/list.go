package shadow

import (
	"context"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/store"
)

// List gives the names of a thing's named shadows in order: at most max of them, 0 for
// 25, from where an earlier call's next left off. next is empty when there are no more.
// A thing nobody heard of has none. It fails with Invalid for a wrong name, size or next.
func (r *Room) List(db interface {
	Scan(prefix string, fn func(key string, val []byte) bool) error
}, thing string, max int, from string) (names []string, next string, err error) {
	if err := (ID{Thing: thing}).check(); err != nil {
		return nil, "", err
	}
	if max == 0 {
		max = 25
	}
	if max < 1 || max > r.lim.Page {
		return nil, "", fault.New(fault.Invalid, "pageSize must be between 1 and %d", r.lim.Page)
	}
	after, err := base64.RawURLEncoding.DecodeString(from)
	if err != nil || !named(string(after), maxName, true) {
		return nil, "", fault.New(fault.Invalid, "Invalid nextToken")
	}
	prefix := ID{Thing: thing}.key()
	names = []string{}
	err = db.Scan(prefix, func(key string, val []byte) bool {
		name := key[len(prefix):]
		if name == "" || name <= string(after) || len(val) == 0 || val[0] != formShadow {
			return true
		}
		if len(names) == max {
			next = base64.RawURLEncoding.EncodeToString([]byte(names[max-1]))
			return false
		}
		names = append(names, name)
		return true
	})
	if err != nil {
		return nil, "", fault.Wrap(fault.Internal, err, "the shadows cannot be read")
	}
	return names, next, nil
}

// Each calls fn for every shadow of a thing, or with "" of all things, in order, until fn
// returns false.
func (r *Room) Each(db interface {
	Scan(prefix string, fn func(key string, val []byte) bool) error
}, thing string, fn func(ID, Document) bool) error {
	prefix := store.KeyShadow
	if thing != "" {
		prefix = ID{Thing: thing}.key()
	}
	var bad error
	err := db.Scan(prefix, func(key string, val []byte) bool {
		if strings.HasPrefix(key, gravesPrefix) {
			return true
		}
		rec, err := decode(val, nil)
		if err != nil {
			bad = err
			return false
		}
		owner, name, _ := strings.Cut(key[len(store.KeyShadow):], "/")
		return !rec.exists() || fn(ID{Thing: owner, Name: name}, rec.doc)
	})
	if err = errors.Join(err, bad); err != nil {
		return fault.Wrap(fault.Internal, err, "the shadows cannot be read")
	}
	return nil
}

// Sweep forgets the counters of shadows that were deleted long enough ago, and gives how
// many. It does nothing while the clock is not trusted.
func (r *Room) Sweep(db *store.Store) (int, error) {
	if !r.clk.Trusted() {
		return 0, nil
	}
	now := r.clk.Now().Unix()
	var due []string
	err := db.Scan(gravesPrefix, func(key string, _ []byte) bool {
		at, _, _ := strings.Cut(key[len(gravesPrefix):], "/")
		if n, _ := strconv.ParseInt(at, 10, 64); n > now || len(due) == sweepAtOnce {
			return false
		}
		due = append(due, key)
		return true
	})
	if err != nil || len(due) == 0 {
		return 0, err
	}
	return len(due), db.Wait(func(u *store.Unit) error {
		for _, key := range due {
			if err := r.bury(u, key, now); err != nil {
				return err
			}
		}
		return nil
	})
}

// sweepAtOnce bounds what one Sweep does; the next goes on from there.
const sweepAtOnce = 500

// bury deals with the grave that the entry at key leads to, which is due or undated.
func (r *Room) bury(tx Tx, key string, now int64) error {
	_, rest, _ := strings.Cut(key[len(gravesPrefix):], "/")
	thing, name, _ := strings.Cut(rest, "/")
	id := ID{Thing: thing, Name: name}
	tx.Lock(id.key())
	rec, err := r.load(tx, id.key(), nil)
	if err != nil {
		return err
	}
	tx.Del(key)
	switch {
	case !rec.gone || graveKey(rec.due(), id) != key: // made anew since, or buried again
	case rec.at == 0:
		rec.at = now
		tx.Put(id.key(), rec.encode())
		tx.Put(graveKey(rec.due(), id), nil)
	default:
		tx.Del(id.key())
	}
	return nil
}

// Run sweeps every hour until ctx ends.
func (r *Room) Run(ctx context.Context, db *store.Store) error {
	t := r.clk.NewTimer(time.Hour)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C():
		}
		for {
			n, err := r.Sweep(db)
			if err != nil {
				return err
			}
			if n < sweepAtOnce {
				break
			}
		}
		t.Reset(time.Hour)
	}
}
