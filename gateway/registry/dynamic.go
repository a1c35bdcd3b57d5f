package registry

import (
	"cmp"
	"slices"

	"tidegate/gateway/fault"
	"tidegate/gateway/registry/indexquery"
)

// Who is in a dynamic group is worked out when somebody asks; nothing is kept. A thing is
// in at most so many groups of both kinds: static ones come first, then the dynamic ones
// whose query it matches, the oldest group first. Source: developer guide, "Dynamic thing
// groups" and AddThingToThingGroup, overrideDynamicGroups.

// matches says whether a thing fits the query of a dynamic group; none does while things
// are not indexed. The caller holds mu.
func (r *Registry) matches(g *Group, d *document) bool {
	return g.query != nil && r.indexing.On() && g.query.Match(d)
}

// dynamicOf gives the dynamic groups a thing is in, the oldest first. The caller holds mu.
func (r *Registry) dynamicOf(t *Thing) []*Group {
	if len(r.index.dynamic) == 0 {
		return nil
	}
	d := r.document(t.Name)
	var in []*Group
	for name := range r.index.dynamic {
		if g := r.groups.m[name]; r.matches(g, d) {
			in = append(in, g)
		}
	}
	slices.SortFunc(in, func(a, b *Group) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name)) })
	if limit := r.cfg.Limits.GroupsPerThing; limit > 0 && len(in) > limit-len(t.Groups) {
		in = in[:max(limit-len(t.Groups), 0)]
	}
	return in
}

// inDynamic says whether a thing is in a dynamic group. The caller holds mu.
func (r *Registry) inDynamic(g *Group, thing string) bool {
	t := r.things.m[thing]
	if max := r.cfg.Limits.GroupsPerThing; max > 0 && len(r.index.dynamic)+len(t.Groups) > max {
		return slices.ContainsFunc(r.dynamicOf(t), func(x *Group) bool { return x.Name == g.Name })
	}
	return r.matches(g, r.document(thing)) // there are not enough groups for any to be left out
}

// roomFor says whether a thing may join one more static group; with override it leaves a
// dynamic one for it, if it is in any.
func (r *Registry) roomFor(t *Thing, override bool) error {
	max, have := r.cfg.Limits.GroupsPerThing, len(t.Groups)
	if max > 0 && !override {
		have += len(r.dynamicOf(t))
	}
	if max > 0 && have+1 > max {
		return fault.New(fault.Invalid, "thing %s is in %d groups, and at most %d are allowed", t.Name, have, max)
	}
	return nil
}

// compile makes the query usable.
func (g *Group) compile() (err error) {
	if g.Dynamic() {
		g.query, err = indexquery.Parse(g.Query)
	}
	return err
}
