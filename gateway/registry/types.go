package registry

import (
	"maps"
	"slices"
	"strings"
	"time"

	"tidegate/gateway/fault"
)

// Type is a thing type. Records are read-only.
type Type struct {
	Name         string
	ID           string
	Description  string            `json:",omitempty"`
	Searchable   []string          `json:",omitempty"`
	Propagating  []Propagating     `json:",omitempty"`
	Tags         map[string]string `json:",omitempty"`
	Created      time.Time
	Deprecated   bool
	DeprecatedAt time.Time
}

// Propagating names an attribute that becomes an MQTT 5 user property of what
// the thing publishes.
type Propagating struct {
	UserPropertyKey     string
	ThingAttribute      string `json:",omitempty"`
	ConnectionAttribute string `json:",omitempty"`
}

// TypeInput is what CreateType takes.
type TypeInput struct {
	Name        string
	Description string
	Searchable  []string
	Propagating []Propagating
	Tags        map[string]string
}

// maxSearchable is how many attributes of a type can be searchable.
const maxSearchable = 3

func (in *TypeInput) check() error {
	if err := ruleTypeText.check(in.Description); err != nil {
		return err
	}
	if len(in.Searchable) > maxSearchable {
		return fault.New(fault.Invalid, "a thing type has at most %d searchable attributes", maxSearchable)
	}
	for _, a := range in.Searchable {
		if err := ruleAttrName.check(a); err != nil {
			return err
		}
	}
	for _, p := range in.Propagating {
		if err := ruleUserProperty.check(p.UserPropertyKey); err != nil {
			return err
		}
		from, rule := p.ThingAttribute, ruleAttrName
		if from == "" {
			from, rule = p.ConnectionAttribute, ruleConnection
		}
		if (p.ThingAttribute == "") == (p.ConnectionAttribute == "") {
			return fault.New(fault.Invalid, "the propagating attribute %q needs either a thingAttribute or a connectionAttribute", p.UserPropertyKey)
		}
		if err := rule.check(from); err != nil {
			return err
		}
	}
	return nil
}

// Type gives a thing type.
func (r *Registry) Type(name string) (*Type, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.thingType(name)
}

func (r *Registry) thingType(name string) (*Type, error) {
	if t := r.types.m[name]; t != nil {
		return t, nil
	}
	return nil, notFound("Thing type", name)
}

// Types lists thing types by name; with a name only that one.
func (r *Registry) Types(name string, p Page) (types []*Type, next string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names, next := page(r.types.keys, p, func(n string) bool { return name == "" || n == name })
	return pick(&r.types, names), next
}

// CreateType adds a thing type. The same input again gives the type that is
// there; another one for the name is fault.Exists.
func (tx *Tx) CreateType(in TypeInput) (*Type, error) {
	if err := ruleType.check(in.Name); err != nil {
		return nil, err
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	if have := tx.r.types.m[in.Name]; have != nil {
		if have.Description == in.Description && slices.Equal(have.Searchable, in.Searchable) && slices.Equal(have.Propagating, in.Propagating) {
			return have, nil
		}
		return nil, fault.Wrap(fault.Exists, &ExistsError{have.ID, tx.r.ARN("thingtype", in.Name)}, "ThingType %s already exists in account with different properties", in.Name)
	}
	t := &Type{Name: in.Name, ID: newID(), Description: in.Description, Searchable: in.Searchable, Propagating: in.Propagating, Tags: maps.Clone(in.Tags), Created: tx.now}
	set(tx, &tx.r.types, "thingtype", t.Name, t)
	return t, nil
}

// UpdateType replaces description, searchable attributes and propagation.
func (tx *Tx) UpdateType(in TypeInput) error {
	have, err := tx.r.thingType(in.Name)
	if err != nil {
		return err
	}
	if err := in.check(); err != nil {
		return err
	}
	t := *have
	t.Description, t.Searchable, t.Propagating = in.Description, in.Searchable, in.Propagating
	set(tx, &tx.r.types, "thingtype", t.Name, &t)
	return nil
}

// DeprecateType closes a type for new things, or with undo opens it again.
func (tx *Tx) DeprecateType(name string, undo bool) error {
	have, err := tx.r.thingType(name)
	if err != nil {
		return err
	}
	if have.Deprecated == !undo {
		return nil
	}
	t := *have
	t.Deprecated, t.DeprecatedAt = !undo, tx.now
	if undo {
		t.DeprecatedAt = time.Time{}
	}
	set(tx, &tx.r.types, "thingtype", name, &t)
	return nil
}

// DeleteType removes a type that has been deprecated for five minutes and has no
// things.
func (tx *Tx) DeleteType(name string) error {
	t, err := tx.r.thingType(name)
	if err != nil {
		return err
	}
	wait := tx.r.cfg.Limits.TypeDeleteAfter
	switch {
	case !t.Deprecated:
		return fault.New(fault.Invalid, "Can not delete thing type %s : it must be deprecated first", name)
	case tx.now.Before(t.DeprecatedAt.Add(wait)):
		return fault.New(fault.Invalid, "Can not delete thing type %s : wait %v after it was deprecated", name, wait)
	case len(tx.r.index.byType[name]) > 0:
		return fault.New(fault.Invalid, "Can not delete thing type %s : things are still associated with it", name)
	}
	set(tx, &tx.r.types, "thingtype", name, nil)
	return nil
}

// maxTags is how many tags a resource can have.
const maxTags = 50

func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return fault.New(fault.LimitExceeded, "a resource has at most %d tags", maxTags)
	}
	for k, v := range tags {
		if err := ruleTagKey.check(k); err != nil {
			return err
		}
		if err := ruleTagValue.check(v); err != nil {
			return err
		}
		if strings.HasPrefix(strings.ToLower(k), "aws:") {
			return fault.New(fault.Invalid, "the tag %q begins with aws:, which is reserved", k)
		}
	}
	return nil
}
