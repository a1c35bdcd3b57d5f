package reserved

import (
	"encoding/json"
	"log/slog"
	"strings"
	"sync"

	"tidegate/gateway/broker"
	"tidegate/gateway/jsondoc"
	"tidegate/gateway/logs"
	"tidegate/gateway/registry"
	"tidegate/gateway/registry/indexquery"
	"tidegate/gateway/shadow"
	"tidegate/gateway/store"
)

// Facts is what searches and dynamic groups see of a thing beyond the registry: its
// shadows, read when a query asks for them, and whether its client is connected
// (spec/ops.md §1.1, §1.2), as far as the registry's Indexing says.
//
// Connectivity is kept in memory for clients that are connected, and for those of things
// that were. After a restart only sessions that outlived it tell when they were left.
// Its methods may be called concurrently.
type Facts struct {
	reg  *registry.Registry
	room *shadow.Room
	db   *store.Store
	log  *slog.Logger

	mu      sync.Mutex                          // guards what follows; nothing is called with it held
	clients map[string]*Connectivity            // by client id
	alone   map[string]map[string]*Connectivity // of principals that stand for one thing alone: by ARN and client id
	last    map[string]*Connectivity            // of such a principal when its last client had gone
}

// Connectivity is the state of a client.
type Connectivity struct {
	Connected bool
	At        int64  // since when, in milliseconds; 0: not known
	Reason    string // why it is not connected: disconnectReason of the lifecycle event
	version   uint64 // of the connection
}

// NewFacts makes the room and tells the registry of it.
func NewFacts(reg *registry.Registry, room *shadow.Room, db *store.Store, log *slog.Logger) *Facts {
	f := &Facts{reg: reg, room: room, db: db, log: log, clients: map[string]*Connectivity{}, alone: map[string]map[string]*Connectivity{}, last: map[string]*Connectivity{}}
	reg.SetFacts(func(s registry.Subject) indexquery.Document { return &facts{f: f, s: s} })
	return f
}

// Remember takes over what the broker knows of the sessions it has kept.
func (f *Facts) Remember(sessions []broker.SessionInfo) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range sessions {
		s := &sessions[i]
		c := &Connectivity{Connected: s.Connected}
		if !s.Since.IsZero() {
			c.At = s.Since.UnixMilli()
		}
		f.clients[s.ClientID] = c
	}
}

// Note takes an event of the broker.
func (f *Facts) Note(e broker.Event) {
	if e.Kind != broker.Connected && e.Kind != broker.Disconnected {
		return
	}
	now := &Connectivity{Connected: e.Kind == broker.Connected, At: e.At.UnixMilli(), Reason: e.Reason, version: e.Version}
	arn := f.reg.ARN("cert", e.Principal)
	thing, attached := f.reg.Stands(arn, e.ClientID)
	alone := attached && thing.Name != e.ClientID
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.clients[e.ClientID]; old != nil && old.version > now.version {
		return // the goodbye of a connection that was taken over
	}
	f.clients[e.ClientID] = now
	if !now.Connected && (thing == nil || alone) {
		delete(f.clients, e.ClientID) // nobody asks for it, and ids may be as many as there are numbers
	}
	if now.Connected && alone {
		if f.alone[arn] == nil {
			f.alone[arn] = map[string]*Connectivity{}
		}
		f.alone[arn][e.ClientID] = now
	} else if here := f.alone[arn]; here != nil && !now.Connected {
		delete(here, e.ClientID)
		if len(here) == 0 {
			delete(f.alone, arn)
			f.last[arn] = now
		}
	}
}

// Of gives the state of a thing's client: of the one of its name, or of any that shows a
// principal that stands for the thing alone. ok is false when none was seen.
func (f *Facts) Of(s registry.Subject) (c Connectivity, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	consider := func(x *Connectivity) {
		if x != nil && (!ok || x.Connected && !c.Connected || x.Connected == c.Connected && x.At > c.At) {
			c, ok = *x, true
		}
	}
	consider(f.clients[s.Thing])
	for _, arn := range s.Exclusive {
		consider(f.last[arn])
		for _, x := range f.alone[arn] {
			consider(x)
		}
	}
	return c, ok
}

// Connectivity is Of by a thing's name.
func (f *Facts) Connectivity(thing string) (connected bool, sinceMillis int64, reason string, ok bool) {
	c, ok := f.Of(f.reg.Subject(thing))
	return c.Connected, c.At, c.Reason, ok
}

// facts is the document of one thing.
type facts struct {
	f       *Facts
	s       registry.Subject
	online  indexquery.Doc // nil: not looked for yet, as the others
	classic indexquery.Doc
	named   indexquery.Doc
}

// Values gives the values of a field.
func (d *facts) Values(field string) []indexquery.Value {
	switch {
	case strings.HasPrefix(field, "connectivity."):
		return d.connectivity()[field]
	case strings.HasPrefix(field, "shadow.name."):
		return d.names()[field]
	}
	return d.shadow()[field]
}

// Each calls fn for what a term without a field looks at.
func (d *facts) Each(fn func(indexquery.Value) bool) {
	going := true
	d.shadow().Each(func(v indexquery.Value) bool { going = fn(v); return going })
	if going {
		d.names().Each(fn)
	}
}

func (d *facts) connectivity() indexquery.Doc {
	if d.online == nil {
		d.online = indexquery.Doc{}
		if c, ok := d.f.Of(d.s); ok && d.s.Indexed.Online() {
			d.online.AddJSON("connectivity.connected", c.Connected)
			if c.At > 0 {
				d.online.AddJSON("connectivity.timestamp", float64(c.At))
			}
			if !c.Connected && c.Reason != "" {
				d.online.AddJSON("connectivity.disconnectReason", c.Reason)
			}
		}
	}
	return d.online
}

func (d *facts) shadow() indexquery.Doc {
	if d.classic == nil {
		d.classic = indexquery.Doc{}
		if !d.s.Indexed.Shadow() {
			return d.classic
		}
		doc, ok, err := d.f.room.Load(d.f.db, shadow.ID{Thing: d.s.Thing})
		if err != nil {
			d.f.log.Error("shadow could not be searched", logs.Thing, d.s.Thing, logs.Err(err))
		}
		if ok {
			flatten(d.classic, "shadow", &doc)
		}
	}
	return d.classic
}

func (d *facts) names() indexquery.Doc {
	if d.named == nil {
		d.named = indexquery.Doc{}
		if !d.s.Indexed.On() || !d.s.Indexed.Named {
			return d.named
		}
		err := d.f.room.Each(d.f.db, d.s.Thing, func(id shadow.ID, doc shadow.Document) bool {
			if id.Name != "" && d.s.Indexed.NamedShadow(id.Name) {
				flatten(d.named, "shadow.name."+id.Name, &doc)
			}
			return true
		})
		if err != nil {
			d.f.log.Error("named shadows could not be searched", logs.Thing, d.s.Thing, logs.Err(err))
		}
	}
	return d.named
}

// flatten adds the leaves of a shadow under a name.
func flatten(d indexquery.Doc, field string, doc *shadow.Document) {
	delta, differs := doc.Delta()
	addValue(d, field+".desired", &doc.Desired)
	addValue(d, field+".reported", &doc.Reported)
	addValue(d, field+".delta", &delta)
	if meta, err := jsondoc.Parse(doc.AppendMetadata(nil), jsondoc.Options{}); err == nil { // our own writing
		addValue(d, field+".metadata", &meta)
	}
	d.AddJSON(field+".hasDelta", differs)
}

// addValue is indexquery.Doc.AddJSON for our own values.
func addValue(d indexquery.Doc, field string, v *jsondoc.Value) {
	switch v.Kind() {
	case jsondoc.Object:
		for i := range v.Kids() {
			kid := &v.Kids()[i]
			addValue(d, field+"."+kid.Key, &kid.Value)
		}
	case jsondoc.Array:
		list := make([]any, 0, v.Len())
		for i := range v.Kids() {
			kid := &v.Kids()[i].Value
			if k := kid.Kind(); k == jsondoc.Object || k == jsondoc.Array {
				return // an array with anything but scalars is not indexed
			}
			list = append(list, scalar(kid))
		}
		d.AddJSON(field, list)
	case jsondoc.None:
	default:
		d.AddJSON(field, scalar(v))
	}
}

// scalar gives what encoding/json makes of a value that is neither object nor array.
func scalar(v *jsondoc.Value) any {
	switch v.Kind() {
	case jsondoc.String:
		return v.Text()
	case jsondoc.Bool:
		return v.Text() == "true"
	case jsondoc.Number:
		return json.Number(v.Text())
	}
	return nil
}

// Shadows gives the shadows of a thing as search results show them, nil when it has none
// that are indexed: the members of the classic one, and below name the named ones.
func (f *Facts) Shadows(thing string) (json.RawMessage, error) {
	var out, named []byte
	member := func(b []byte, key string, v *jsondoc.Value) []byte {
		if v.Kind() == jsondoc.None {
			return b
		}
		return jsondoc.Append(append(jsondoc.AppendString(b, key), ':'), v)
	}
	indexed := f.reg.Indexing()
	err := f.room.Each(f.db, thing, func(id shadow.ID, doc shadow.Document) bool {
		if id.Name == "" && !indexed.Shadow() || id.Name != "" && !indexed.NamedShadow(id.Name) {
			return true
		}
		body := memberList(&doc, member)
		if id.Name == "" {
			out = body
			return true
		}
		if named != nil {
			named = append(named, ',')
		}
		named = append(jsondoc.AppendString(named, id.Name), ":{"...)
		named = append(append(named, body...), '}')
		return true
	})
	if err != nil || out == nil && named == nil {
		return nil, err
	}
	if named != nil {
		if out != nil {
			out = append(out, ',')
		}
		out = append(append(append(out, `"name":{`...), named...), '}')
	}
	return json.RawMessage("{" + string(out) + "}"), nil
}

// memberList writes the members of a shadow without their braces.
func memberList(doc *shadow.Document, member func(b []byte, key string, v *jsondoc.Value) []byte) []byte {
	delta, differs := doc.Delta()
	has, version := jsondoc.BoolValue(differs), jsondoc.IntValue(doc.Version)
	var b []byte
	for _, m := range []struct {
		key string
		v   *jsondoc.Value
	}{{"desired", &doc.Desired}, {"reported", &doc.Reported}, {"delta", &delta}, {"hasDelta", &has}, {"version", &version}} {
		if m.v.Kind() == jsondoc.None {
			continue
		}
		if b != nil {
			b = append(b, ',')
		}
		b = member(b, m.key, m.v)
	}
	return doc.AppendMetadata(append(b, `,"metadata":`...))
}
