package reserved

import "tidegate/gateway/registry"

// Fleet is the registry as the jobs room asks it; see jobs.Fleet.
type Fleet struct{ Registry *registry.Registry }

// Thing says whether a thing is registered.
func (f Fleet) Thing(name string) bool {
	_, err := f.Registry.Thing(name)
	return err == nil
}

// Group says whether a group exists and whether it is dynamic.
func (f Fleet) Group(name string) (dynamic, ok bool) {
	g, err := f.Registry.Group(name)
	return err == nil && g.Dynamic(), err == nil
}

// Members gives the things of a group and of those below it.
func (f Fleet) Members(group string) []string {
	var all []string
	for p := (registry.Page{}); ; {
		names, next, err := f.Registry.Members(group, true, p)
		if err != nil {
			return all
		}
		all = append(all, names...)
		if p.After = next; next == "" {
			return all
		}
	}
}

// Within says whether a thing is in a group or in one below it.
func (f Fleet) Within(thing, group string) bool { return f.Registry.Within(thing, group) }

// GroupID gives the name of the group with an id.
func (f Fleet) GroupID(id string) (name string, ok bool) {
	for p := (registry.Page{}); ; {
		groups, next, err := f.Registry.Groups("", "", true, p)
		if err != nil {
			return "", false
		}
		for _, g := range groups {
			if g.ID == id {
				return g.Name, true
			}
		}
		if p.After = next; next == "" {
			return "", false
		}
	}
}

// Watch has changed told of every thing that came, went, joined or left something. It is
// called while the house is built.
func (f Fleet) Watch(changed func(thing string)) {
	f.Registry.OnCommit(func(list []registry.Change) {
		for _, c := range list {
			if c.Kind == "thing" {
				changed(c.Name)
			}
		}
	})
}

// Events says whether events of a kind of AWS's event configurations ("JOB") are enabled.
func (f Fleet) Events(kind string) bool { return f.Registry.EventOn(kind) }
