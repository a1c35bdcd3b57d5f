package registry

import "strings"

// index is what the tables would have to be searched for.
type index struct {
	byType     map[string]set1 // things of a type
	members    map[string]set1 // things of a static group, not of its descendants
	billed     map[string]set1 // things of a billing group
	children   map[string]set1 // groups directly below a group
	dynamic    set1            // groups with a query
	principals map[string]set1 // of a thing
	things     map[string]set1 // of a principal
	policies   map[string]set1 // of a target
	targets    map[string]set1 // of a policy
}

type set1 map[string]struct{}

func (x *index) init() {
	for _, m := range []*map[string]set1{&x.byType, &x.members, &x.billed, &x.children, &x.principals, &x.things, &x.policies, &x.targets} {
		*m = map[string]set1{}
	}
	x.dynamic = set1{}
}

func add(m map[string]set1, key, v string) {
	if key == "" {
		return
	}
	if m[key] == nil {
		m[key] = set1{}
	}
	m[key][v] = struct{}{}
}

func drop(m map[string]set1, key, v string) {
	delete(m[key], v)
	if len(m[key]) == 0 {
		delete(m, key)
	}
}

func (x *index) addThing(_ string, t *Thing) {
	add(x.byType, t.Type, t.Name)
	add(x.billed, t.Billing, t.Name)
	for _, g := range t.Groups {
		add(x.members, g, t.Name)
	}
}

func (x *index) dropThing(t *Thing) {
	drop(x.byType, t.Type, t.Name)
	drop(x.billed, t.Billing, t.Name)
	for _, g := range t.Groups {
		drop(x.members, g, t.Name)
	}
}

func (x *index) addGroup(_ string, g *Group) {
	add(x.children, g.Parent, g.Name)
	if g.Dynamic() {
		x.dynamic[g.Name] = struct{}{}
	}
}

func (x *index) dropGroup(g *Group) {
	drop(x.children, g.Parent, g.Name)
	delete(x.dynamic, g.Name)
}

func (x *index) addLink(key string, _ *link) {
	thing, principal := split(key)
	add(x.principals, thing, principal)
	add(x.things, principal, thing)
}

func (x *index) dropLink(key string) {
	thing, principal := split(key)
	drop(x.principals, thing, principal)
	drop(x.things, principal, thing)
}

func (x *index) addAttached(key string, _ *struct{}) {
	target, name := split(key)
	add(x.policies, target, name)
	add(x.targets, name, target)
}

func (x *index) dropAttached(key string) {
	target, name := split(key)
	drop(x.policies, target, name)
	drop(x.targets, name, target)
}

// split takes the two names out of the key of a link.
func split(key string) (string, string) {
	a, b, _ := strings.Cut(key, "\x00")
	return a, b
}
