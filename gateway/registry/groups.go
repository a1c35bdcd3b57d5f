package registry

import (
	"maps"
	"slices"
	"strings"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/registry/indexquery"
)

// Group is a thing group: static, with members and at most one parent, or
// dynamic, with a query. Records are read-only.
type Group struct {
	Name        string
	ID          string
	Parent      string            `json:",omitempty"`
	Description string            `json:",omitempty"`
	Attributes  map[string]string `json:",omitempty"`
	Query       string            `json:",omitempty"` // dynamic groups
	Tags        map[string]string `json:",omitempty"`
	Version     int64
	Created     time.Time

	query *indexquery.Query // of dynamic groups, parsed
}

// Dynamic says whether a query gives the group its members.
func (g *Group) Dynamic() bool { return g.Query != "" }

// GroupInput is what CreateGroup takes; a Query makes the group dynamic.
type GroupInput struct {
	Name        string
	Parent      string
	Description string
	Attributes  map[string]string
	Query       string
	Tags        map[string]string
}

// Group gives a thing group.
func (r *Registry) Group(name string) (*Group, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.group(name)
}

func (r *Registry) group(name string) (*Group, error) {
	if g := r.groups.m[name]; g != nil {
		return g, nil
	}
	return nil, notFound("Thing group", name)
}

// Path gives the groups from the root down to the parent of a group.
func (r *Registry) Path(name string) []*Group {
	r.mu.RLock()
	defer r.mu.RUnlock()
	path := r.chain(name)
	if len(path) == 0 {
		return nil
	}
	return path[:len(path)-1]
}

// chain gives the groups from the root down to and with the named one.
func (r *Registry) chain(name string) []*Group {
	var path []*Group
	for g := r.groups.m[name]; g != nil; g = r.groups.m[g.Parent] {
		path = append(path, g)
	}
	slices.Reverse(path)
	return path
}

// below gives a group and all its descendants.
func (r *Registry) below(name string) []string {
	all := []string{name}
	for i := 0; i < len(all); i++ {
		for child := range r.index.children[all[i]] {
			all = append(all, child)
		}
	}
	return all
}

// Groups lists groups by name: those below parent, or all for "". Without
// recursive only the direct children of parent, or the roots.
func (r *Registry) Groups(parent, prefix string, recursive bool, p Page) (groups []*Group, next string, err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var under set1
	if parent != "" {
		if _, err := r.group(parent); err != nil {
			return nil, "", err
		}
		under = set1{}
		for _, g := range r.below(parent)[1:] {
			under[g] = struct{}{}
		}
	}
	names, next := page(r.groups.keys, p, func(n string) bool {
		g := r.groups.m[n]
		if !strings.HasPrefix(n, prefix) || !recursive && g.Parent != parent {
			return false
		}
		_, in := under[n]
		return parent == "" || in
	})
	return pick(&r.groups, names), next, nil
}

// Members lists the things of a group by name, with recursive those of its
// descendants, too. The members of a dynamic group are those its query matches
// now.
func (r *Registry) Members(group string, recursive bool, p Page) (things []string, next string, err error) {
	r.mu.RLock()
	g, err := r.group(group)
	if err != nil {
		r.mu.RUnlock()
		return nil, "", err
	}
	if g.Dynamic() {
		r.mu.RUnlock()
		things, next = r.search(p, func(n string) bool { return r.inDynamic(g, n) })
		return things, next, nil
	}
	defer r.mu.RUnlock()
	in := r.index.members[group]
	if recursive {
		in = set1{}
		for _, g := range r.below(group) {
			maps.Copy(in, r.index.members[g])
		}
	}
	things, next = page(slices.Sorted(maps.Keys(in)), p, nil)
	return things, next, nil
}

// GroupsOf gives the groups a thing is in, static and dynamic ones, by name.
func (r *Registry) GroupsOf(thing string) ([]*Group, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t, err := r.thing(thing)
	if err != nil {
		return nil, err
	}
	names := t.Groups
	for _, g := range r.dynamicOf(t) {
		names = with(names, g.Name)
	}
	return pick(&r.groups, names), nil
}

// Within says whether a thing is in a group or, for a static one, in one below
// it.
func (r *Registry) Within(thing, group string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t, g := r.things.m[thing], r.groups.m[group]
	if t == nil || g == nil {
		return false
	}
	if g.Dynamic() {
		return r.inDynamic(g, thing)
	}
	for _, name := range t.Groups {
		for up := r.groups.m[name]; up != nil; up = r.groups.m[up.Parent] {
			if up.Name == group {
				return true
			}
		}
	}
	return false
}

func checkGroup(description string, attrs map[string]string) error {
	if err := ruleGroupText.check(description); err != nil {
		return err
	}
	if len(attrs) > 50 {
		return fault.New(fault.Invalid, "a thing group has at most 50 attributes")
	}
	return checkAttributes(attrs)
}

// CreateGroup adds a group. The same input again gives the group that is there;
// another one for the name is fault.Exists.
func (tx *Tx) CreateGroup(in GroupInput) (*Group, error) {
	r := tx.r
	if err := ruleGroup.check(in.Name); err != nil {
		return nil, err
	}
	if err := checkGroup(in.Description, in.Attributes); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	if have := r.groups.m[in.Name]; have != nil {
		if have.Parent == in.Parent && have.Description == in.Description && have.Query == in.Query && maps.Equal(have.Attributes, in.Attributes) {
			return have, nil
		}
		return nil, fault.Wrap(fault.Exists, &ExistsError{have.ID, r.ARN("thinggroup", in.Name)}, "Thing Group %s already exists in account with different properties", in.Name)
	}
	if in.Parent != "" {
		parent, err := r.group(in.Parent)
		if err != nil {
			return nil, err
		}
		if parent.Dynamic() || in.Query != "" {
			return nil, fault.New(fault.Invalid, "dynamic thing groups have neither parents nor children")
		}
		if max := r.cfg.Limits.GroupDepth; max > 0 && len(r.chain(in.Parent))+1 > max {
			return nil, fault.New(fault.Invalid, "a thing group tree is at most %d levels deep", max)
		}
		if max := r.cfg.Limits.GroupChildren; max > 0 && len(r.index.children[in.Parent])+1 > max {
			return nil, fault.New(fault.Invalid, "a thing group has at most %d direct children", max)
		}
	}
	if in.Query != "" {
		if !r.indexing.On() {
			return nil, fault.New(fault.Invalid, "dynamic thing groups need thingIndexingMode %s or %s", IndexRegistry, IndexShadow)
		}
		if err := limit(len(r.index.dynamic)+1, r.cfg.Limits.DynamicGroups, "dynamic thing groups"); err != nil {
			return nil, err
		}
	}
	g := &Group{Name: in.Name, ID: newID(), Parent: in.Parent, Description: in.Description, Attributes: maps.Clone(in.Attributes),
		Query: in.Query, Tags: maps.Clone(in.Tags), Version: 1, Created: tx.now}
	if err := g.compile(); err != nil {
		return nil, err
	}
	set(tx, &r.groups, "thinggroup", g.Name, g)
	tx.indexed(func() { r.index.addGroup("", g) }, func() { r.index.dropGroup(g) })
	return g, nil
}

// GroupUpdate is what UpdateGroup changes.
type GroupUpdate struct {
	Dynamic     bool // the group is expected to be dynamic
	Description string
	Attributes  map[string]string // nil: as they are; else all of them, or with Merge some
	Merge       bool
	Query       string // "" leaves it
	Expected    int64  // version, 0 for any
}

// UpdateGroup changes a group and counts its version up.
func (tx *Tx) UpdateGroup(name string, up GroupUpdate) (*Group, error) {
	have, err := tx.r.group(name)
	if err != nil {
		return nil, err
	}
	if have.Dynamic() != up.Dynamic {
		return nil, wrongKind(have)
	}
	if err := expect(up.Expected, have.Version, "thing group "+name); err != nil {
		return nil, err
	}
	g := *have
	g.Description = up.Description
	if up.Attributes != nil {
		attrs := map[string]string{}
		if up.Merge {
			maps.Copy(attrs, g.Attributes)
		}
		maps.Copy(attrs, up.Attributes)
		maps.DeleteFunc(attrs, func(_, v string) bool { return v == "" })
		g.Attributes = attrs
	}
	if err := checkGroup(g.Description, g.Attributes); err != nil {
		return nil, err
	}
	if up.Query != "" {
		g.Query = up.Query
		if err := g.compile(); err != nil {
			return nil, err
		}
	}
	g.Version++
	set(tx, &tx.r.groups, "thinggroup", name, &g)
	return &g, nil
}

func wrongKind(g *Group) error {
	if g.Dynamic() {
		return fault.New(fault.Invalid, "Thing group %s is a dynamic thing group", g.Name)
	}
	return fault.New(fault.Invalid, "Thing group %s is not a dynamic thing group", g.Name)
}

// DeleteGroup removes a group, its memberships and attached policies. A group
// that is not there is no error; one with children, or of the other kind, is
// fault.Invalid.
func (tx *Tx) DeleteGroup(name string, dynamic bool, expected int64) error {
	r := tx.r
	g := r.groups.m[name]
	if g == nil {
		return ruleGroup.check(name)
	}
	if g.Dynamic() != dynamic {
		return wrongKind(g)
	}
	if err := expect(expected, g.Version, "thing group "+name); err != nil {
		return err
	}
	if len(r.index.children[name]) > 0 {
		return fault.New(fault.Invalid, "Cannot delete thing group : %s when there are still child groups attached to it.", name)
	}
	for _, thing := range slices.Sorted(maps.Keys(r.index.members[name])) {
		t := *r.things.m[thing]
		t.Groups = without(t.Groups, name)
		tx.setThing(&t)
	}
	target := r.ARN("thinggroup", name)
	for _, p := range slices.Sorted(maps.Keys(r.index.policies[target])) {
		if err := tx.DetachPolicy(p, target); err != nil {
			return err
		}
	}
	set(tx, &r.groups, "thinggroup", name, nil)
	tx.indexed(func() { r.index.dropGroup(g) }, func() { r.index.addGroup("", g) })
	return nil
}

// AddToGroup makes a thing a member of a static group. A member that is one
// already is no error. A thing is in at most one group of a tree.
func (tx *Tx) AddToGroup(thing, group string) error { return tx.join(thing, group, false) }

// AddToGroupFirst is AddToGroup for a thing that may be in as many groups as it can be: it
// leaves a dynamic one.
func (tx *Tx) AddToGroupFirst(thing, group string) error { return tx.join(thing, group, true) }

func (tx *Tx) join(thing, group string, override bool) error {
	r := tx.r
	g, err := r.group(group)
	if err != nil {
		return err
	}
	have, err := r.thing(thing)
	if err != nil {
		return err
	}
	if g.Dynamic() {
		return wrongKind(g)
	}
	if _, in := slices.BinarySearch(have.Groups, group); in {
		return nil
	}
	root := r.chain(group)[0].Name
	for _, other := range have.Groups {
		if r.chain(other)[0].Name == root {
			return fault.New(fault.Invalid, "Thing %s is already in group %s of the same hierarchy as %s", thing, other, group)
		}
	}
	if err := r.roomFor(have, override); err != nil {
		return err
	}
	t := *have
	t.Groups = with(t.Groups, group)
	tx.setThing(&t)
	return nil
}

// RemoveFromGroup ends a membership; one that is not there is no error.
func (tx *Tx) RemoveFromGroup(thing, group string) error {
	g, err := tx.r.group(group)
	if err != nil {
		return err
	}
	have, err := tx.r.thing(thing)
	if err != nil {
		return err
	}
	if g.Dynamic() {
		return wrongKind(g)
	}
	if _, in := slices.BinarySearch(have.Groups, group); !in {
		return nil
	}
	t := *have
	t.Groups = without(t.Groups, group)
	tx.setThing(&t)
	return nil
}
