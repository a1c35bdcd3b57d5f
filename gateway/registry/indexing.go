package registry

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"tidegate/gateway/fault"
	"tidegate/gateway/registry/indexquery"
)

// ErrIndex is in the chain where an index is asked that is off; doors turn it into
// IndexNotReadyException.
var ErrIndex = errors.New("index is off")

// Indexing says what searches and dynamic groups can see (spec/ops.md §1.1). Nothing is
// kept in an index here: a change holds for the next query. Records are read-only.
type Indexing struct {
	Things       string       // IndexOff, IndexRegistry or IndexShadow
	Named        bool         // named shadows
	Names        []string     `json:",omitempty"` // those of them that are seen; empty: all, which AWS has not
	Connectivity bool         // whether clients are connected
	Fields       []IndexField `json:",omitempty"` // declared for aggregations
	Groups       bool         // the index of groups
	GroupFields  []IndexField `json:",omitempty"`
}

// What is seen of a thing.
const (
	IndexOff      = "OFF"
	IndexRegistry = "REGISTRY"
	IndexShadow   = "REGISTRY_AND_SHADOW"
)

// IndexField is a field whose type is declared.
type IndexField struct {
	Name string `json:"name"`
	Type string `json:"type"` // Number, String or Boolean
}

// indexingSetting is the setting that keeps an Indexing.
const indexingSetting = "indexing"

// DefaultIndexing is all there is: what searches cost is looking, and keeping nothing.
func DefaultIndexing() *Indexing {
	return &Indexing{Things: IndexShadow, Named: true, Connectivity: true, Groups: true}
}

// Indexing gives what searches can see.
func (r *Registry) Indexing() *Indexing {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.indexing
}

// loadIndexing takes what was set before a restart.
func (r *Registry) loadIndexing() {
	r.indexing = DefaultIndexing()
	if x := new(Indexing); r.setting(indexingSetting, x) {
		r.indexing = x
	}
}

// On says whether things are seen at all.
func (x *Indexing) On() bool { return x.Things != IndexOff }

// Shadow says whether classic shadows are seen.
func (x *Indexing) Shadow() bool { return x.Things == IndexShadow }

// NamedShadow says whether the named shadow is seen.
func (x *Indexing) NamedShadow(name string) bool {
	return x.On() && x.Named && (len(x.Names) == 0 || slices.Contains(x.Names, name))
}

// Online says whether it is seen who is connected.
func (x *Indexing) Online() bool { return x.On() && x.Connectivity }

// Indexing gives what searches can see, as it stands within the transaction.
func (tx *Tx) Indexing() *Indexing { return tx.r.indexing }

// SetIndexing changes what searches can see.
func (tx *Tx) SetIndexing(x *Indexing) error {
	if err := x.check(tx.r.cfg.Limits); err != nil {
		return err
	}
	old := tx.r.indexing
	tx.Set(indexingSetting, x)
	tx.indexed(func() { tx.r.indexing = x }, func() { tx.r.indexing = old })
	return nil
}

var (
	ruleIndexedShadow = newRule("namedShadowName", 1, 64, `[$a-zA-Z0-9:_-]+`)
	fieldRest         = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
)

func (x *Indexing) check(l Limits) error {
	if !slices.Contains([]string{IndexOff, IndexRegistry, IndexShadow}, x.Things) {
		return fault.New(fault.Invalid, "thingIndexingMode is %q, expected %s, %s or %s", x.Things, IndexOff, IndexRegistry, IndexShadow)
	}
	if !x.On() && (x.Connectivity || x.Named || len(x.Fields) > 0) {
		return fault.New(fault.Invalid, "with thingIndexingMode %s everything else about things must be off, too", IndexOff)
	}
	if !x.Named && len(x.Names) > 0 {
		return fault.New(fault.Invalid, "namedShadowNames are given, and namedShadowIndexingMode is not ON")
	}
	if err := limit(len(x.Names), l.IndexedShadows, "named shadows that are indexed"); err != nil {
		return err
	}
	for _, n := range x.Names {
		if err := ruleIndexedShadow.check(n); err != nil {
			return err
		}
	}
	if !x.Groups && len(x.GroupFields) > 0 {
		return fault.New(fault.Invalid, "customFields of thing groups are given, and thingGroupIndexingMode is not ON")
	}
	for _, list := range [][]IndexField{x.Fields, x.GroupFields} {
		if err := limit(len(list), l.IndexFields, "custom fields"); err != nil {
			return err
		}
	}
	for _, f := range x.Fields {
		if err := f.check(x.prefixes()); err != nil {
			return err
		}
	}
	for _, f := range x.GroupFields {
		if err := f.check([]string{"attributes."}); err != nil {
			return err
		}
	}
	return nil
}

// prefixes are what custom fields of things can begin with.
func (x *Indexing) prefixes() []string {
	out := []string{"attributes."}
	if x.Shadow() {
		out = append(out, "shadow.desired.", "shadow.reported.")
	}
	if x.Named && len(x.Names) == 0 {
		out = append(out, "shadow.name.")
	}
	for _, n := range x.Names {
		out = append(out, "shadow.name."+n+".desired.", "shadow.name."+n+".reported.")
	}
	return out
}

func (f IndexField) check(prefixes []string) error {
	if f.Type != "Number" && f.Type != "String" && f.Type != "Boolean" {
		return fault.New(fault.Invalid, "the type of the custom field %s is %q, expected Number, String or Boolean", f.Name, f.Type)
	}
	for _, p := range prefixes {
		if rest, ok := strings.CutPrefix(f.Name, p); ok && fieldRest.MatchString(rest) {
			return nil
		}
	}
	return fault.New(fault.Invalid, "the custom field %s is not one of what is indexed: it begins with %s", f.Name, strings.Join(prefixes, " or "))
}

// SearchGroups lists the groups a query matches, by name, with the names of those above
// each, the nearest first.
func (r *Registry) SearchGroups(q *indexquery.Query, p Page) (groups []*Group, above [][]string, next string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names, next := page(r.groups.keys, p, func(name string) bool { return q.Match(r.groupDocument(r.groups.m[name])) })
	groups = pick(&r.groups, names)
	for _, g := range groups {
		above = append(above, r.above(g))
	}
	return groups, above, next
}

// above names the groups above a group, the nearest first. The caller holds mu.
func (r *Registry) above(g *Group) []string {
	out := []string{}
	for up := r.groups.m[g.Parent]; up != nil; up = r.groups.m[up.Parent] {
		out = append(out, up.Name)
	}
	return out
}

// groupDocument makes what queries see of a group. The caller holds mu.
func (r *Registry) groupDocument(g *Group) indexquery.Document {
	d := indexquery.Doc{"thingGroupName": {indexquery.Text(g.Name)}, "thingGroupId": {indexquery.Text(g.ID)}}
	if g.Description != "" {
		d["description"] = []indexquery.Value{indexquery.Text(g.Description)}
	}
	for _, n := range r.above(g) {
		d["parentGroupNames"] = append(d["parentGroupNames"], indexquery.Text(n))
	}
	for k, v := range g.Attributes {
		d["attributes."+k] = []indexquery.Value{indexquery.Attribute(v)}
	}
	return d
}
