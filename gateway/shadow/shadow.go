// Package shadow keeps the device shadows: for every thing one classic shadow and any
// number of named ones, each with what is desired, what is reported, when each leaf was
// written, and a version (spec/shadow.md).
//
// A call works on a unit of the store and only reads and fills it, so that a change, its
// replies and whatever else it causes are committed together, and a unit may be built
// again. The room validates, merges, versions and locks; it does not know who asks, sends
// nothing and spells no topic: results are the documents that a door sends on. A thing
// need not exist to have shadows. Every change leaves a note in the store's trail, so that
// Log and At can tell who made it, when, and what was before.
//
//	room := shadow.New(clock.System(), shadow.DefaultLimits())
//	err := db.Wait(func(u *store.Unit) error {
//		change, err := room.Update(u, shadow.ID{Thing: "pump1"}, shadow.Who{By: "ada"}, []byte(`{"state":{"reported":{"rpm":40}}}`), shadow.WantAll)
//		defer change.Free()
//		…
//	})
package shadow

import (
	"cmp"
	"sync"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/jsondoc"
	"tidegate/gateway/store"
)

// ID names a shadow. Name is empty for the classic one.
type ID struct{ Thing, Name string }

// Limits are the numbers a client can see (spec/shadow.md §8).
type Limits struct {
	Document int // bytes of desired and reported together, compact, without metadata
	Request  int // bytes of a request
	Depth    int // levels of nesting below desired and reported, these being the first
	Token    int // bytes of a client token
	Page     int // most names List gives at once
	// InFlight is how many requests of one client may be unanswered; 0: any number. AWS IoT Core has 10, which a
	// client cannot rely on, and which a gateway of many things would meet first.
	InFlight int
	// Requests is how many requests about one thing are taken within a second; 0: any number. AWS IoT Core has 20. No
	// client can rely on a refusal, and things that are wired to one gateway tell more: here it is off.
	Requests int
}

// DefaultLimits gives the limits of AWS IoT Core.
func DefaultLimits() Limits {
	return Limits{Document: 8 << 10, Request: 128 << 10, Depth: 8, Token: 64, Page: 100}
}

// graveTime is how long a deleted shadow's version counter outlives it.
const graveTime = 48 * time.Hour

// Tx is what the room needs of a *store.Unit.
type Tx interface {
	Get(key string) ([]byte, error)
	Put(key string, val []byte)
	Del(key string)
	Note(key string, note []byte)
	Lock(name string)
}

// Who makes a change.
type Who struct {
	By   string // the principal: who it was proven to be; empty for the gateway itself
	From string // the client or door it came through
}

// Room is the shadow service. Its methods may be called concurrently.
type Room struct {
	clk  clock.Clock
	lim  Limits
	desk sync.Pool // of *work
}

// New makes the room.
func New(clk clock.Clock, lim Limits) *Room {
	r := &Room{clk: clk, lim: lim}
	r.desk.New = func() any { return new(work) }
	return r
}

// work is memory that one call after the other uses for what it throws away.
type work struct {
	trees jsondoc.Arena
	out   []byte
	note  []byte
}

// maxOut is how much a work keeps for the next call.
const maxOut = 128 << 10

func (r *Room) done(w *work) {
	w.trees.Reset()
	if cap(w.out) > maxOut {
		w.out = nil
	}
	r.desk.Put(w)
}

// Change is an accepted update: the documents that tell of it. They hold until Free.
type Change struct {
	Token     *string // the request's client token, nil when it has none; set also when the update is refused
	Version   int64
	Accepted  []byte // for whoever asked: what was asked for, with metadata
	Delta     []byte // what desired has and reported lacks; nil when nothing
	Documents []byte // the whole shadow before and after

	r    *Room
	desk *work // whose memory the documents are in
}

// Free gives the memory of the documents back for the next change. Whoever keeps one of them does not call it. It may be
// called twice, and of a Change that is none.
func (c *Change) Free() {
	if c.desk != nil {
		c.r.done(c.desk)
		*c = Change{Token: c.Token, Version: c.Version}
	}
}

// Parts are documents of a Change that somebody wants. Writing one that nobody reads is a
// third of an update's work.
type Parts uint8

// The parts.
const (
	WantAccepted Parts = 1 << iota
	WantDelta
	WantDocuments
	WantAll = WantAccepted | WantDelta | WantDocuments
)

// Answer is the reply to a get or a delete.
type Answer struct {
	Token *string // the request's client token, nil when it has none; set also when the request is refused
	Body  []byte
}

// Document is a shadow as it stands.
type Document struct {
	Version  int64
	Updated  int64         // epoch seconds of the last update
	Desired  jsondoc.Value // marks are epoch seconds; no value when there is none
	Reported jsondoc.Value
}

// Delta gives what desired has and reported lacks or has otherwise, and whether there is
// any (spec/shadow.md §3.1).
func (d *Document) Delta() (jsondoc.Value, bool) { return d.delta(nil) }

func (d *Document) delta(trees *jsondoc.Arena) (jsondoc.Value, bool) {
	if d.Desired.Kind() == jsondoc.None {
		return jsondoc.Value{}, false
	}
	return trees.Diff(&d.Desired, &d.Reported)
}

func (d *Document) size() int { return d.Desired.Size() + d.Reported.Size() }

// Update applies an update request in somebody's name. It fails with Invalid, Unsupported (not UTF-8),
// TooLarge, or Conflict when the request names another version than the current one;
// the messages are those of spec/shadow.md §7. Documents that are not wanted stay nil.
func (r *Room) Update(tx Tx, id ID, who Who, request []byte, want Parts) (c Change, err error) {
	at := r.clk.Now()
	now := at.Unix()
	w := r.desk.Get().(*work)
	defer func() {
		if c.desk == nil {
			r.done(w)
		}
	}()
	req, err := r.lim.parseUpdate(&w.trees, request, now)
	c.Token = req.token
	if err := cmp.Or(id.check(), err); err != nil {
		return c, err
	}
	key := id.key()
	tx.Lock(key)
	old, err := r.load(tx, key, &w.trees)
	if err != nil {
		return c, err
	}
	if err := req.checkVersion(&old, r.clk); err != nil {
		return c, err
	}
	next := Document{Version: old.counter(r.clk) + 1,
		Desired: req.desired.apply(&w.trees, &old.doc.Desired), Reported: req.reported.apply(&w.trees, &old.doc.Reported)}
	size := next.size()
	if size > r.lim.Document {
		return c, errTooLarge
	}
	if old.gone {
		tx.Del(graveKey(old.due(), id))
	}
	tx.Put(key, encode(&next, now, size))
	tx.Note(key, w.tell(&old, &next, at, who))
	c.Version = next.Version
	c.r, c.desk = r, w
	c.write(w, &req, &old, &next, now, want)
	return c, nil
}

// Get gives the shadow. The request is empty or a JSON object with a client token. It
// fails with Invalid, Unsupported (not UTF-8), or NotFound.
func (r *Room) Get(tx Tx, id ID, request []byte) (Answer, error) {
	token, err := r.lim.parseGet(request)
	a := Answer{Token: token}
	if err := cmp.Or(id.check(), err); err != nil {
		return a, err
	}
	key := id.key()
	tx.Lock(key)
	w := r.desk.Get().(*work)
	defer r.done(w)
	rec, err := r.load(tx, key, &w.trees)
	if err != nil {
		return a, err
	}
	if !rec.exists() {
		return a, id.missing()
	}
	a.Body = getDocument(w, &rec.doc, token, r.clk.Now().Unix())
	return a, nil
}

// Delete removes the shadow but keeps its version counter for 48 hours, so that one made
// anew goes on above it. What the request holds besides a client token is ignored. It
// fails with NotFound.
func (r *Room) Delete(tx Tx, id ID, who Who, request []byte) (Answer, error) {
	a := Answer{Token: r.lim.parseDelete(request)}
	if err := id.check(); err != nil {
		return a, err
	}
	key := id.key()
	tx.Lock(key)
	w := r.desk.Get().(*work)
	defer r.done(w)
	rec, err := r.load(tx, key, &w.trees)
	if err != nil {
		return a, err
	}
	if !rec.exists() {
		return a, id.missing()
	}
	at := r.clk.Now()
	now := at.Unix()
	grave := record{gone: true, doc: Document{Version: rec.doc.Version + 1}, at: now}
	if !r.clk.Trusted() {
		grave.at = 0 // Sweep dates it when the date is known
	}
	tx.Note(key, w.tell(&rec, &Document{}, at, who))
	tx.Put(key, grave.encode())
	tx.Put(graveKey(grave.due(), id), nil)
	a.Body = deleteDocument(rec.doc.Version, a.Token, now)
	return a, nil
}

// Load gives the shadow to callers inside the gateway; ok is false when there is none.
// Without a lock on the unit it is what was last submitted.
func (r *Room) Load(db interface {
	Get(key string) ([]byte, error)
}, id ID) (d Document, ok bool, err error) {
	rec, err := r.load(db, id.key(), nil)
	return rec.doc, err == nil && rec.exists(), err
}

func (r *Room) load(db interface {
	Get(key string) ([]byte, error)
}, key string, trees *jsondoc.Arena) (record, error) {
	b, err := db.Get(key)
	if err != nil {
		return record{}, fault.Wrap(fault.Internal, err, "the shadow cannot be read")
	}
	if b == nil {
		return record{}, nil
	}
	rec, err := decode(b, trees)
	if err != nil {
		return rec, fault.Wrap(fault.Internal, err, "the stored shadow is damaged")
	}
	return rec, nil
}

// key is where the shadow is kept, and the name of its lock.
func (id ID) key() string { return store.KeyShadow + id.Thing + "/" + id.Name }

// Lengths of names (spec/shadow.md §1).
const (
	maxThing = 128
	maxName  = 64
)

func (id ID) check() error {
	if !named(id.Thing, maxThing, false) || id.Thing == "" {
		return fault.New(fault.Invalid, "Invalid thing name")
	}
	if !named(id.Name, maxName, true) {
		return fault.New(fault.Invalid, "Invalid shadow name")
	}
	return nil
}

func named(s string, most int, dollar bool) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == ':', c == '_', c == '-', c == '$' && dollar:
		default:
			return false
		}
	}
	return len(s) <= most
}

func (id ID) missing() error {
	name := id.Name
	if name == "" {
		name = id.Thing
	}
	return fault.New(fault.NotFound, "No shadow exists with name: '%s'", name)
}
