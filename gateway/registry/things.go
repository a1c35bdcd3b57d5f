package registry

import (
	"maps"
	"slices"
	"strings"
	"time"

	"tidegate/gateway/fault"
)

// Thing is a registered thing. Records are read-only.
type Thing struct {
	Name       string
	ID         string
	Type       string            `json:",omitempty"`
	Attributes map[string]string `json:",omitempty"`
	Billing    string            `json:",omitempty"`
	Groups     []string          `json:",omitempty"` // static, in order
	Version    int64
	Created    time.Time
	Wired      bool `json:",omitempty"` // made for a device that is wired to the box, and nobody has changed it; see Registry.Wired
}

// ThingInput is what CreateThing takes.
type ThingInput struct {
	Name       string
	Type       string
	Attributes map[string]string
	Billing    string
}

// Thing gives a thing.
func (r *Registry) Thing(name string) (*Thing, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.thing(name)
}

func (r *Registry) thing(name string) (*Thing, error) {
	if t := r.things.m[name]; t != nil {
		return t, nil
	}
	return nil, notFound("Thing", name)
}

// ThingFilter selects things of a listing; empty members select all.
type ThingFilter struct {
	Type                          string
	AttributeName, AttributeValue string
	ValuePrefix                   bool // AttributeValue is a prefix
}

func (f *ThingFilter) pass(t *Thing) bool {
	if f.Type != "" && t.Type != f.Type {
		return false
	}
	if f.AttributeName == "" {
		return true
	}
	v, ok := t.Attributes[f.AttributeName]
	return ok && (v == f.AttributeValue || f.ValuePrefix && strings.HasPrefix(v, f.AttributeValue))
}

// Things lists things by name.
func (r *Registry) Things(f ThingFilter, p Page) (things []*Thing, next string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names, next := page(r.things.keys, p, func(n string) bool { return f.pass(r.things.m[n]) })
	return pick(&r.things, names), next
}

// pick gives the records of names.
func pick[T any](t *table[T], names []string) []*T {
	out := make([]*T, len(names))
	for i, n := range names {
		out[i] = t.m[n]
	}
	return out
}

// checkThing holds a thing against the limits.
func (tx *Tx) checkThing(t *Thing) error {
	if err := checkAttributes(t.Attributes); err != nil {
		return err
	}
	l := tx.r.cfg.Limits
	max, what := l.AttributesTyped, "attributes of a thing with a type"
	if t.Type == "" {
		max, what = l.AttributesUntyped, "attributes of a thing without a type"
	}
	if max > 0 && len(t.Attributes) > max {
		return fault.New(fault.Invalid, "%s: at most %d are allowed, thing %s would have %d", what, max, t.Name, len(t.Attributes))
	}
	return nil
}

// typeFor checks that a type may be given to a thing.
func (tx *Tx) typeFor(name string) error {
	ty, err := tx.r.thingType(name)
	if err != nil {
		return err
	}
	if ty.Deprecated {
		return fault.New(fault.Invalid, "Can not create new thing with deprecated thing type:%s", name)
	}
	return nil
}

// CreateThing adds a thing. The same input again gives the thing that is there;
// another one for the name is fault.Exists. One that was made for a wired device is
// taken over, with its id.
func (tx *Tx) CreateThing(in ThingInput) (*Thing, error) { return tx.createThing(in, false) }

func (tx *Tx) createThing(in ThingInput, wired bool) (*Thing, error) {
	if err := ruleThing.check(in.Name); err != nil {
		return nil, err
	}
	have := tx.r.things.m[in.Name]
	if have != nil && !have.Wired {
		if have.Type == in.Type && have.Billing == in.Billing && maps.Equal(have.Attributes, in.Attributes) {
			return have, nil
		}
		return nil, fault.Wrap(fault.Exists, &ExistsError{have.ID, tx.r.ARN("thing", in.Name)}, "Thing %s already exists in account with different properties", in.Name)
	}
	if in.Type != "" {
		if err := tx.typeFor(in.Type); err != nil {
			return nil, err
		}
	}
	if in.Billing != "" {
		if _, err := tx.r.billingGroup(in.Billing); err != nil {
			return nil, err
		}
	}
	t := &Thing{Name: in.Name, ID: newID(), Type: in.Type, Attributes: maps.Clone(in.Attributes), Billing: in.Billing, Version: 1, Created: tx.now, Wired: wired}
	if have != nil {
		t.ID, t.Groups, t.Created = have.ID, have.Groups, have.Created
		if t.Billing == "" {
			t.Billing = have.Billing
		}
	}
	if err := tx.checkThing(t); err != nil {
		return nil, err
	}
	tx.setThing(t)
	return t, nil
}

// setThing writes a thing and its indexes.
func (tx *Tx) setThing(t *Thing) {
	old := tx.r.things.m[t.Name]
	set(tx, &tx.r.things, "thing", t.Name, t)
	tx.reindex(old, t)
}

func (tx *Tx) reindex(old, t *Thing) {
	x := &tx.r.index
	tx.indexed(func() {
		if old != nil {
			x.dropThing(old)
		}
		if t != nil {
			x.addThing(t.Name, t)
		}
	}, func() {
		if t != nil {
			x.dropThing(t)
		}
		if old != nil {
			x.addThing(old.Name, old)
		}
	})
}

// ThingUpdate is what UpdateThing changes; nil and empty members leave things as
// they are.
type ThingUpdate struct {
	Type       string
	RemoveType bool
	Attributes map[string]string // nil: as they are; else all of them, or with Merge some
	Merge      bool              // an empty value removes the attribute
	Expected   int64             // version, 0 for any
}

// UpdateThing changes a thing and counts its version up.
func (tx *Tx) UpdateThing(name string, up ThingUpdate) (*Thing, error) {
	have, err := tx.r.thing(name)
	if err != nil {
		return nil, err
	}
	if err := expect(up.Expected, have.Version, "thing "+name); err != nil {
		return nil, err
	}
	t := *have
	t.Wired = false
	switch {
	case up.Type != "" && up.RemoveType:
		return nil, fault.New(fault.Invalid, "removeThingType and thingTypeName exclude each other")
	case up.RemoveType:
		t.Type = ""
	case up.Type != "" && up.Type != t.Type:
		if err := tx.typeFor(up.Type); err != nil {
			return nil, err
		}
		t.Type = up.Type
	}
	if up.Attributes != nil {
		attrs := map[string]string{}
		if up.Merge {
			maps.Copy(attrs, t.Attributes)
		}
		maps.Copy(attrs, up.Attributes)
		maps.DeleteFunc(attrs, func(_, v string) bool { return v == "" })
		t.Attributes = attrs
	}
	if err := tx.checkThing(&t); err != nil {
		return nil, err
	}
	t.Version++
	tx.setThing(&t)
	return &t, nil
}

// DeleteThing removes a thing and its memberships. A thing that is not there is
// no error; one with principals is fault.Invalid.
func (tx *Tx) DeleteThing(name string, expected int64) error {
	if err := ruleThing.check(name); err != nil {
		return err
	}
	t := tx.r.things.m[name]
	if t == nil {
		return nil
	}
	if err := expect(expected, t.Version, "thing "+name); err != nil {
		return err
	}
	if len(tx.r.index.principals[name]) > 0 {
		return fault.New(fault.Invalid, "Thing %s cannot be deleted while it is attached to principals", name)
	}
	set(tx, &tx.r.things, "thing", name, nil)
	tx.reindex(t, nil)
	return nil
}

// with and without give a copy of a sorted list with, or without, a name.
func with(list []string, name string) []string {
	i, have := slices.BinarySearch(list, name)
	if have {
		return list
	}
	return slices.Insert(slices.Clone(list), i, name)
}

func without(list []string, name string) []string {
	i, have := slices.BinarySearch(list, name)
	if !have {
		return list
	}
	return slices.Delete(slices.Clone(list), i, i+1)
}
