// Package audit keeps who changed what: every change of identity, policy or registry, every
// loan of credentials, and every attempt that was refused.
//
// An entry is a message below [Prefix] and a record in the store. The entry of a change
// is in the change's own transaction ([Log.Witness]): neither is ever there without the
// other. As a message it can be followed, looked up and sent upstream like any other;
// clients can neither publish nor subscribe there. As a record it stays when the journal
// has moved on, up to the bounds of [Config], the oldest going first ([Log.Entries]).
//
//	$tidegate/audit/change  {"at":…, "by":"operator/ada", "changes":[{"kind":"thing", "name":"pump1", "action":"update", "before":{…}, "after":{…}}]}
//	$tidegate/audit/refused {"at":…, "what":"connect", "name":"pump1", "by":"…", "client":"pump1", "address":"10.0.0.7", "code":"unauthorized", "why":"…", "count":3}
//
// The package decides nothing and shows no secrets: keys are not in the registry, and the
// digest of an ownership token is left out.
//
//	log, err := audit.Open(db, clk, audit.DefaultConfig())
//	reg.Witness(log.Witness)
//	log.Refuse(audit.Refusal{What: "connect", Name: "pump1", Err: err})
package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/metrics"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/operators"
	"tidegate/gateway/registry"
	"tidegate/gateway/store"
)

// The topics of entries.
const (
	Prefix  = mqtt.House + "audit/"
	Change  = Prefix + "change"
	Refused = Prefix + "refused"
)

// Config bounds what is kept.
type Config struct {
	Entries int   `yaml:"entries"` // kept at most
	Bytes   int64 `yaml:"bytes"`   // all of them together
}

// DefaultConfig keeps a year of a busy gateway.
func DefaultConfig() Config { return Config{Entries: 20000, Bytes: 32 << 20} }

// Validate says what is impossible in c.
func (c Config) Validate() error {
	if c.Entries < 1 || c.Bytes < maxEntry {
		return fmt.Errorf("entries and bytes: are %d and %d, expected 1 or more and %d or more", c.Entries, c.Bytes, maxEntry)
	}
	return nil
}

// maxEntry bounds one entry, in bytes; of a larger change only the names are kept.
const maxEntry = 64 << 10

// Committer commits a unit with the messages that belong to it; ingest.Road.Commit is one.
type Committer func(build func(u *store.Unit, emit func(mqtt.Message)) error, done func(error)) error

// Log is the open room. Its methods may be called concurrently.
type Log struct {
	db  *store.Store
	clk clock.Clock
	cfg Config
	log *slog.Logger

	commit Committer
	in     chan Refusal // full: the refusal is only counted
	lost   atomic.Int64 // refusals that found in full, since the last entry about them
	wrote  atomic.Uint64
	crowd  atomic.Uint64 // refusals that were only counted

	mu    sync.Mutex // guards what follows
	next  uint64     // number of the next entry
	sizes []int      // of the entries that are kept, the oldest first; they end before next
	bytes int64
}

// Open reads what is kept.
func Open(db *store.Store, clk clock.Clock, log *slog.Logger, cfg Config) (*Log, error) {
	l := &Log{db: db, clk: clk, cfg: cfg, log: log, in: make(chan Refusal, waiting)}
	l.commit = func(build func(*store.Unit, func(mqtt.Message)) error, done func(error)) error {
		return db.Do(func(u *store.Unit) error { return build(u, func(mqtt.Message) {}) }, func(_ []uint64, err error) { done(err) })
	}
	first := true
	var bad error
	err := db.Scan(store.KeyAudit, func(key string, val []byte) bool {
		n, err := strconv.ParseUint(key[len(store.KeyAudit):], 16, 64)
		if err != nil {
			bad = fmt.Errorf("%s: %w", key, err)
			return false
		}
		for ; !first && l.next < n; l.next++ { // numbers that were never committed
			l.sizes = append(l.sizes, 0)
		}
		first = false
		l.sizes, l.bytes, l.next = append(l.sizes, len(val)), l.bytes+int64(len(val)), n+1
		return true
	})
	if err := errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	return l, nil
}

// Through has refusals committed by c, which sends them on their way. Call it only before
// Run.
func (l *Log) Through(c Committer) { l.commit = c }

func keyOf(n uint64) string { return store.KeyAudit + fmt.Sprintf("%016x", n) }

// record is an entry in the store.
type record struct {
	Topic string          `json:"topic"`
	At    time.Time       `json:"at"`
	Doc   json.RawMessage `json:"doc"`
}

// enter gives an entry its number and says how it is added to a unit, and what goes.
func (l *Log) enter(topic string, at time.Time, doc []byte) func(u *store.Unit, emit func(mqtt.Message)) {
	val, err := json.Marshal(record{topic, at, doc})
	if err != nil {
		panic("BUG: an entry that is not JSON: " + err.Error())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key := keyOf(l.next)
	l.next++
	l.sizes, l.bytes = append(l.sizes, len(val)), l.bytes+int64(len(val))
	var gone []string
	for len(l.sizes) > l.cfg.Entries || l.bytes > l.cfg.Bytes && len(l.sizes) > 1 {
		gone = append(gone, keyOf(l.next-uint64(len(l.sizes))))
		l.bytes -= int64(l.sizes[0])
		l.sizes = l.sizes[1:]
	}
	l.wrote.Add(1)
	return func(u *store.Unit, emit func(mqtt.Message)) {
		u.Put(key, val)
		for _, k := range gone {
			u.Del(k)
		}
		emit(mqtt.Message{Topic: topic, Payload: doc, QoS: 1, Origin: mqtt.Service, At: at})
	}
}

// Entries gives what is kept, the oldest first, from a time on, until fn says false.
func (l *Log) Entries(since time.Time, fn func(m mqtt.Message) bool) error {
	var bad error
	err := l.db.Scan(store.KeyAudit, func(key string, val []byte) bool {
		var r record
		if bad = json.Unmarshal(val, &r); bad != nil {
			bad = fmt.Errorf("audit entry %s: %w", key, bad)
			return false
		}
		return r.At.Before(since) || fn(mqtt.Message{Topic: r.Topic, Payload: r.Doc, QoS: 1, Origin: mqtt.Service, At: r.At})
	})
	return errors.Join(err, bad)
}

// Metrics registers the log's counters.
func (l *Log) Metrics(m *metrics.Set) {
	m.Counter("tidegate_audit_joined_total", "Refusals that were only counted, because too many came.", func() float64 { return float64(l.crowd.Load()) })
	m.Counter("tidegate_audit_entries_total", "Entries of the audit log that were written.", func() float64 { return float64(l.wrote.Load()) })
}

// change is one step of a transaction in an entry.
type change struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Action string `json:"action"`
	Before any    `json:"before,omitempty"`
	After  any    `json:"after,omitempty"`
}

type changeEntry struct {
	At      time.Time `json:"at"`
	By      string    `json:"by"`
	Changes []change  `json:"changes"`
	More    int       `json:"more,omitempty"` // changes that had no room here
}

// Witness is a witness of the registry: each transaction is one entry.
func (l *Log) Witness(changes []registry.Change) func(u *store.Unit, emit func(mqtt.Message)) {
	if len(changes) == 0 {
		return func(*store.Unit, func(mqtt.Message)) {}
	}
	e := changeEntry{At: changes[0].At, By: changes[0].By}
	for _, c := range changes {
		e.Changes = append(e.Changes, describe(c))
	}
	return l.enter(Change, e.At, e.encode())
}

// Person is a witness of the operators: who may administer is changed at the machine
// itself. Keys are named and not shown.
func (l *Log) Person(before, after *operators.Person) func(u *store.Unit, emit func(mqtt.Message)) {
	c := registry.Change{Kind: "operator", By: "local"}
	for _, x := range []struct {
		p  *operators.Person
		to *any
	}{{before, &c.Before}, {after, &c.After}} {
		if x.p == nil {
			continue
		}
		c.Name = x.p.Name
		ids := []string{}
		for _, k := range x.p.Keys {
			ids = append(ids, k.ID)
		}
		*x.to = map[string]any{"Name": x.p.Name, "Role": x.p.Role, "Keys": ids}
	}
	e := changeEntry{At: l.clk.Now().UTC().Truncate(time.Millisecond), By: c.By, Changes: []change{describe(c)}}
	return l.enter(Change, e.At, e.encode())
}

// Loan is credentials of a role that a device was given. They are named and not shown.
type Loan struct {
	By        string    `json:"-"` // the certificate's id
	AccessKey string    `json:"accessKeyId"`
	Alias     string    `json:"roleAlias"`
	Role      string    `json:"roleArn"`
	Thing     string    `json:"thingName,omitempty"`
	Expires   time.Time `json:"expiration"`
}

// Lent writes a loan down, and returns when it is on the disk.
func (l *Log) Lent(x Loan) error {
	e := changeEntry{At: l.clk.Now().UTC().Truncate(time.Millisecond), By: x.By, Changes: []change{{Kind: "credentials", Name: x.AccessKey, Action: "create", After: x}}}
	add := l.enter(Change, e.At, e.encode())
	done := make(chan error, 1)
	err := l.commit(func(u *store.Unit, emit func(mqtt.Message)) error {
		add(u, emit)
		return nil
	}, func(err error) { done <- err })
	if err == nil {
		err = <-done
	}
	return err
}

// encode writes an entry, with as much as there is room for.
func (e changeEntry) encode() []byte {
	doc, err := json.Marshal(e)
	if err != nil {
		panic("BUG: a record that is not JSON: " + err.Error())
	}
	if len(doc) <= maxEntry {
		return doc
	}
	for i := range e.Changes {
		e.Changes[i].Before, e.Changes[i].After = nil, nil
	}
	for {
		if doc, _ = json.Marshal(e); len(doc) <= maxEntry {
			return doc
		}
		half := len(e.Changes) / 2
		e.More += len(e.Changes) - half
		e.Changes = e.Changes[:half]
	}
}

func describe(c registry.Change) change {
	out := change{Kind: c.Kind, Name: strings.ReplaceAll(c.Name, "\x00", " "), Action: "update", Before: shown(c.Before), After: shown(c.After)}
	switch {
	case out.Before == nil:
		out.Action = "create"
	case out.After == nil:
		out.Action = "delete"
	}
	return out
}

// shown leaves out what is not for reading.
func shown(v any) any {
	if c, ok := v.(*registry.Certificate); ok && c.Token != "" {
		clean := *c
		clean.Token = ""
		return &clean
	}
	return v
}
