package registry

import (
	"strings"

	"tidegate/gateway/registry/indexquery"
)

// document is what queries see of a thing. Only what a query asks for is looked up and
// made comparable, as most things are passed over after one look. Dynamic groups are not
// among the group names: their members depend on the answer.
type document struct {
	r    *Registry
	t    *Thing
	rest indexquery.Document // what the registry does not keep; nil: not looked for yet
	one  [1]indexquery.Value
}

// document makes what queries see of a thing. The caller holds mu while it is asked.
func (r *Registry) document(name string) *document { return &document{r: r, t: r.things.m[name]} }

// more gives what others keep of the thing.
func (d *document) more() indexquery.Document {
	if d.rest == nil {
		d.rest = indexquery.Doc{}
		if d.r.facts != nil {
			d.rest = d.r.facts(d.r.subject(d.t.Name))
		}
	}
	return d.rest
}

// subject names a thing to those who keep more of it. The caller holds mu.
func (r *Registry) subject(name string) Subject {
	s := Subject{Thing: name, Indexed: r.indexing}
	for principal := range r.index.principals[name] {
		if r.links.m[name+"\x00"+principal].Exclusive {
			s.Exclusive = append(s.Exclusive, principal)
		}
	}
	return s
}

// Subject names a thing to those who keep more of it.
func (r *Registry) Subject(name string) Subject {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.subject(name)
}

// Values gives the values of a field, good until the next call.
func (d *document) Values(field string) []indexquery.Value {
	switch field {
	case "thingName":
		d.one[0] = indexquery.Text(d.t.Name)
		return d.one[:]
	case "thingId":
		d.one[0] = indexquery.Text(d.t.ID)
		return d.one[:]
	case "thingTypeName":
		if d.t.Type == "" {
			return nil
		}
		d.one[0] = indexquery.Text(d.t.Type)
		return d.one[:]
	case "thingGroupNames":
		groups := make([]indexquery.Value, len(d.t.Groups))
		for i, g := range d.t.Groups {
			groups[i] = indexquery.Text(g)
		}
		return groups
	}
	if name, ok := strings.CutPrefix(field, "attributes."); ok {
		v, ok := d.t.Attributes[name]
		if !ok {
			return nil
		}
		d.one[0] = indexquery.Attribute(v)
		return d.one[:]
	}
	if strings.HasPrefix(field, "shadow.") || strings.HasPrefix(field, "connectivity.") {
		return d.more().Values(field)
	}
	return nil
}

// Each calls fn for what a term without a field looks at.
func (d *document) Each(fn func(indexquery.Value) bool) {
	for _, field := range []string{"thingName", "thingId", "thingTypeName", "thingGroupNames"} {
		for _, v := range d.Values(field) {
			if !fn(v) {
				return
			}
		}
	}
	for _, v := range d.t.Attributes {
		if !fn(indexquery.Attribute(v)) {
			return
		}
	}
	d.more().Each(fn)
}

// Search lists the things a query matches, by name. It looks at them a stretch at a time,
// so that whoever wants to change the registry, or to connect, does not wait for a long
// search: a thing that changes meanwhile is seen as it was or as it is.
func (r *Registry) Search(q *indexquery.Query, p Page) (things []*Thing, next string) {
	names, next := r.search(p, func(name string) bool { return q.Match(r.document(name)) })
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, n := range names {
		if t := r.things.m[n]; t != nil { // not gone meanwhile
			things = append(things, t)
		}
	}
	return things, next
}

// stretch is how many things a search looks at before it lets others in.
const stretch = 64

// search is page over the things, in stretches. match is called with mu held.
func (r *Registry) search(p Page, match func(name string) bool) (names []string, next string) {
	want := p.Max
	if want <= 0 || want > MaxPage {
		want = MaxPage
	}
	for at := (Page{After: p.After, Max: 1, Desc: p.Desc}); ; {
		looked, last := 0, ""
		r.mu.RLock()
		page(r.things.keys, at, func(name string) bool {
			if looked++; looked > stretch || len(names) > want {
				return true // ends the stretch
			}
			if last = name; match(name) {
				names = append(names, name)
			}
			return false
		})
		r.mu.RUnlock()
		switch {
		case len(names) > want:
			return names[:want], names[want-1]
		case looked <= stretch:
			return names, ""
		}
		at.After = last
	}
}
