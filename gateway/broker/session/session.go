// Package session keeps what the broker may not forget: persistent sessions with their
// subscriptions, the marks of QoS 2 exchanges, wills, and retained messages.
//
// Every write goes into a store.Unit of the caller's, so that it becomes durable
// together with the message that caused it. What a session still has to receive is not
// here: that is the journal, from the session's cursor on. Live windows and
// connections are the broker's.
//
// Keys, below store.KeySession and store.KeyRetained; <id> is a client id, which never
// contains a zero byte:
//
//	sess/r/<id>               the session: Record
//	sess/s/<id>\0<filter>     a subscription: Sub; for a long filter 0 and its SHA-256
//	sess/i/<id>\0<packet id>  QoS 2 message received and not yet released: empty
//	sess/o/<id>\0<number>     QoS 2 message being sent: packet id u16, state u8; if it is retained or
//	                          shared also Out.At u64, Out.Filter (u16 and bytes), Out.Topic
//	sess/x/<filter>\0<number> QoS 2 message of a shared subscription that a member has got for good
//	sess/w/<id>               the will: Will
//	sess/g/<id>               what it does not get any more: a list of Gap
//	ret/<topic>               retained message: Retained
package session

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

const (
	keyRecord = store.KeySession + "r/"
	keySub    = store.KeySession + "s/"
	keyIn     = store.KeySession + "i/"
	keyOut    = store.KeySession + "o/"
	keyWill   = store.KeySession + "w/"
	keyGaps   = store.KeySession + "g/"
	keyGiven  = store.KeySession + "x/"
)

// Never is a session expiry that never comes (MQTT 5, 3.1.2.11.2).
const Never = 1<<32 - 1

// Record is a persistent session.
type Record struct {
	ID        string    `json:"id"`
	V5        bool      `json:"v5,omitempty"` // a session of one version cannot be resumed by the other
	Expiry    uint32    `json:"expiry"`       // seconds it outlives its connection
	Principal string    `json:"principal,omitempty"`
	Cursor    string    `json:"cursor"` // name of its cursor into the journal
	Created   time.Time `json:"created"`
	Gone      time.Time `json:"gone,omitzero"` // when its connection ended; zero while connected
	Subs      []Sub     `json:"-"`             // each is kept for itself, see PutSub
}

// Sub is one subscription of a session.
type Sub struct {
	Filter   string `json:"filter"` // as subscribed to, `$share/…` included
	QoS      byte   `json:"qos,omitempty"`
	NoLocal  bool   `json:"nl,omitempty"`
	RAP      bool   `json:"rap,omitempty"` // retain as published
	Handling byte   `json:"rh,omitempty"`  // retain handling
	ID       uint32 `json:"sid,omitempty"` // subscription identifier, 0: none
	Since    uint64 `json:"since"`         // journal number from which on it holds
	Owed     int64  `json:"owed,omitzero"` // not 0: retained messages of it are not acknowledged; tells one SUBSCRIBE from another
}

// Find gives the subscription with filter, nil when there is none.
func (r *Record) Find(filter string) *Sub {
	for i := range r.Subs {
		if r.Subs[i].Filter == filter {
			return &r.Subs[i]
		}
	}
	return nil
}

// Save writes r without its subscriptions.
func Save(u *store.Unit, r *Record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode session %q: %w", r.ID, err)
	}
	u.Put(keyRecord+r.ID, b)
	return nil
}

// PutSub writes a subscription of client id.
func PutSub(u *store.Unit, id string, x *Sub) error {
	b, err := json.Marshal(x)
	if err != nil {
		return fmt.Errorf("encode subscription %q of session %q: %w", x.Filter, id, err)
	}
	u.Put(subKey(id, x.Filter), b)
	return nil
}

// DelSub removes it.
func DelSub(u *store.Unit, id, filter string) { u.Del(subKey(id, filter)) }

// PaySub takes the note off the subscription with filter that its retained messages are
// owed, if it is still the one that was made when the note said owed.
func PaySub(u *store.Unit, id, filter string, owed int64) error {
	v, err := u.Get(subKey(id, filter))
	if err != nil || v == nil {
		return err
	}
	var x Sub
	if err := json.Unmarshal(v, &x); err != nil {
		return fmt.Errorf("subscription %q of session %q does not read: %w", filter, id, err)
	}
	if x.Owed != owed {
		return nil
	}
	x.Owed = 0
	return PutSub(u, id, &x)
}

// longFilter is from how many bytes on a filter's digest stands for it in its key, whose
// length has a bound.
const longFilter = 1024

func subKey(id, filter string) string {
	if len(filter) >= longFilter {
		sum := sha256.Sum256([]byte(filter))
		filter = "\x00" + string(sum[:])
	}
	return keySub + id + "\x00" + filter
}

// Delete removes the session r with everything of its own. Marks are what the caller
// knows of its QoS 2 exchanges.
func Delete(u *store.Unit, r *Record, m Marks) {
	u.Del(keyRecord + r.ID)
	u.Del(keyGaps + r.ID)
	for i := range r.Subs {
		DelSub(u, r.ID, r.Subs[i].Filter)
	}
	for _, pid := range m.In {
		DelIn(u, r.ID, pid)
	}
	for _, o := range m.Out {
		DelOut(u, r.ID, o.Seq)
	}
}

// Marks are the QoS 2 exchanges of a session that are not over.
type Marks struct {
	In  []uint16
	Out []Out
}

// State is how far an outgoing QoS 2 exchange has come.
type State byte

// The states of Out.
const (
	Sent     State = 1 // PUBLISH may have been sent
	Released State = 2 // PUBREC was received: PUBREL may have been sent, PUBLISH must not be any more
	Done     State = 3 // PUBCOMP was received; kept while the session's cursor may still point below
)

// Out is one outgoing QoS 2 exchange.
type Out struct {
	Seq   uint64 // the message's number in the journal; with Filter one of the session's own
	PID   uint16
	State State

	Filter string // of the subscription it is sent for, if it is retained or the subscription shared
	Topic  string // of a retained message, which is not in the journal
	At     int64  // when that was received, unix ms; else the number in the journal of one that is shared
}

func inKey(id string, pid uint16) string {
	return string(binary.BigEndian.AppendUint16(append(append([]byte(keyIn), id...), 0), pid))
}

func outKey(id string, seq uint64) string {
	return string(binary.BigEndian.AppendUint64(append(append([]byte(keyOut), id...), 0), seq))
}

// PutIn marks packet id pid of client id as received with QoS 2.
func PutIn(u *store.Unit, id string, pid uint16) { u.Put(inKey(id, pid), []byte{}) }

// DelIn takes that mark away: the client has released it.
func DelIn(u *store.Unit, id string, pid uint16) { u.Del(inKey(id, pid)) }

// PutOut writes an outgoing QoS 2 exchange.
func PutOut(u *store.Unit, id string, o Out) { u.Put(outKey(id, o.Seq), o.encode()) }

func (o *Out) encode() []byte {
	b := []byte{byte(o.PID >> 8), byte(o.PID), byte(o.State)}
	if o.Filter != "" {
		b = binary.BigEndian.AppendUint64(b, uint64(o.At))
		b = mqtt.AppendString(b, o.Filter)
		b = append(b, o.Topic...)
	}
	return b
}

// parseOut reads what encode wrote; ok is false for anything else.
func parseOut(seq uint64, v []byte) (o Out, ok bool) {
	if len(v) < 3 {
		return Out{}, false
	}
	o = Out{Seq: seq, PID: binary.BigEndian.Uint16(v), State: State(v[2])}
	if o.PID == 0 || o.State < Sent || o.State > Done {
		return Out{}, false
	}
	if v = v[3:]; len(v) == 0 {
		return o, true
	}
	if len(v) < 10 || len(v)-10 < int(binary.BigEndian.Uint16(v[8:])) {
		return Out{}, false
	}
	n := 10 + int(binary.BigEndian.Uint16(v[8:]))
	o.At, o.Filter, o.Topic = int64(binary.BigEndian.Uint64(v)), string(v[10:n]), string(v[n:])
	return o, o.Filter != ""
}

// DelOut removes it.
func DelOut(u *store.Unit, id string, seq uint64) { u.Del(outKey(id, seq)) }

// Given names a QoS 2 message of a shared subscription by its number in the journal.
type Given struct {
	Filter string // `$share/…`
	Seq    uint64
}

func (g Given) key() string {
	return string(binary.BigEndian.AppendUint64([]byte(subKey("", g.Filter)[len(keySub)+1:]+"\x00"), g.Seq))
}

// PutGiven notes that a member of the shared subscription has got a message for good: no
// other may get it ([MQTT-4.8.2-5]).
func PutGiven(u *store.Unit, g Given) { u.Put(keyGiven+g.key(), []byte(g.Filter)) }

// DelGiven removes the note, once the subscription's cursor has passed the message.
func DelGiven(u *store.Unit, g Given) { u.Del(keyGiven + g.key()) }

// EachGiven gives every such note.
func EachGiven(db *store.Store, fn func(Given)) error {
	err := db.Scan(keyGiven, func(key string, v []byte) bool {
		if n := len(key) - 8; n > len(keyGiven) {
			fn(Given{string(v), binary.BigEndian.Uint64([]byte(key[n:]))})
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("read marks of shared subscriptions: %w", err)
	}
	return nil
}

// Load gives every session with its marks.
func Load(db *store.Store, fn func(Record, Marks)) error {
	marks := map[string]*Marks{}
	of := func(key, prefix string, width int) (*Marks, []byte) {
		rest := key[len(prefix):]
		if len(rest) < width+1 || rest[len(rest)-width-1] != 0 {
			return nil, nil
		}
		id := rest[:len(rest)-width-1]
		m := marks[id]
		if m == nil {
			m = &Marks{}
			marks[id] = m
		}
		return m, []byte(rest[len(rest)-width:])
	}
	err := db.Scan(keyIn, func(key string, _ []byte) bool {
		if m, b := of(key, keyIn, 2); m != nil {
			m.In = append(m.In, binary.BigEndian.Uint16(b))
		}
		return true
	})
	if err == nil {
		err = db.Scan(keyOut, func(key string, v []byte) bool {
			if m, b := of(key, keyOut, 8); m != nil {
				if o, ok := parseOut(binary.BigEndian.Uint64(b), v); ok {
					m.Out = append(m.Out, o)
				}
			}
			return true
		})
	}
	if err != nil {
		return fmt.Errorf("read QoS 2 marks: %w", err)
	}
	var bad error
	subs := map[string][]Sub{}
	err = db.Scan(keySub, func(key string, v []byte) bool {
		id, _, ok := strings.Cut(key[len(keySub):], "\x00")
		var x Sub
		err := json.Unmarshal(v, &x)
		if !ok || err != nil || subKey(id, x.Filter) != key {
			bad = fmt.Errorf("subscription %q does not read: %w", key, err)
			return false
		}
		subs[id] = append(subs[id], x)
		return true
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return fmt.Errorf("read subscriptions: %w", err)
	}
	err = db.Scan(keyRecord, func(key string, v []byte) bool {
		var r Record
		if err := json.Unmarshal(v, &r); err != nil || r.ID != strings.TrimPrefix(key, keyRecord) {
			bad = fmt.Errorf("session %q does not read: %w", key, err)
			return false
		}
		m := Marks{}
		if x := marks[r.ID]; x != nil {
			m = *x
		}
		r.Subs = subs[r.ID]
		fn(r, m)
		return true
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return fmt.Errorf("read sessions: %w", err)
	}
	return nil
}

// Shared says whether s is a shared subscription.
func (s *Sub) Shared() bool { return strings.HasPrefix(s.Filter, "$share/") }
