package jobs

import "tidegate/gateway/fault"

// Assigned calls each for the document of every job that is pending on a thing, with its
// placeholders for URLs as they were written, until each returns false. A door asks it
// what a thing has to do with something.
func (r *Room) Assigned(thing string, each func(document string) bool) error {
	if !thingNamed(thing) {
		return invalid("Invalid thing name")
	}
	var queue []pending
	if _, err := get(r.Store, keyPending+thing, &queue); err != nil {
		return err
	}
	for _, p := range queue {
		j, err := r.definition(p.Job)
		switch {
		case err != nil && fault.Of(err) == fault.Internal:
			return err
		case err != nil || j == nil: // deleted a moment ago
		case !each(j.Document):
			return nil
		}
	}
	return nil
}
