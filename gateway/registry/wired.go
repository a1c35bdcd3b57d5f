package registry

import "slices"

// wiredBy is who is responsible for the things of wired devices.
const wiredBy = "gateway"

// Wired has the devices that are wired to the box be things; names are theirs. One that is
// missing is registered, and counts as ours until somebody changes it or creates a thing of
// that name, with whatever properties. One of ours that is in names no more, as its device
// was taken out or is called something else, is removed, unless it is in a group or has a
// certificate. Things that are somebody's are left as they are. The error is fault.Invalid
// for a name that no thing can have, and otherwise the store's.
func (r *Registry) Wired(names []string) error {
	r.mu.RLock()
	missing := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return r.things.m[n] != nil })
	var over []string
	for _, n := range r.things.keys {
		if r.things.m[n].Wired && !slices.Contains(names, n) && r.unused(r.things.m[n]) {
			over = append(over, n)
		}
	}
	r.mu.RUnlock()
	if len(missing) == 0 && len(over) == 0 {
		return nil
	}
	return r.Do(wiredBy, func(tx *Tx) error {
		for _, n := range over {
			if err := tx.DeleteThing(n, 0); err != nil {
				return err
			}
		}
		for _, n := range missing {
			if _, err := tx.createThing(ThingInput{Name: n}, true); err != nil {
				return err
			}
		}
		return nil
	})
}

// unused says whether nobody has done anything with a thing of ours.
func (r *Registry) unused(t *Thing) bool {
	return len(t.Groups) == 0 && t.Billing == "" && len(r.index.principals[t.Name]) == 0
}
