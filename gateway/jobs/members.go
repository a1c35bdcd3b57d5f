package jobs

import (
	"context"
	"slices"
	"strings"

	"tidegate/gateway/fault"
)

// Changed says that a thing came, went, joined a group or left one. It may be called
// from anywhere and does not block; Work draws the consequences.
func (r *Room) Changed(thing string) {
	r.mu.Lock()
	r.changed[thing] = struct{}{}
	r.mu.Unlock()
	r.awake()
}

// recheck compares jobs with a continuous target with the groups as they are: at the
// start, as changes may have been missed, and from time to time for dynamic groups,
// whose changes nobody tells.
func (r *Room) recheck(dynamic bool) error {
	r.mu.Lock()
	look := map[string]*live{}
	for id, l := range r.live {
		if l.continuous {
			look[id] = l
		}
	}
	r.mu.Unlock()
	var names []string
	for id, l := range look {
		groups := l.groups
		if dynamic {
			groups = slices.DeleteFunc(slices.Clone(groups), func(g string) bool { d, _ := r.Fleet.Group(g); return !d })
		}
		if len(groups) == 0 {
			continue
		}
		waiting, err := r.waiting(id)
		if err != nil {
			return err
		}
		for _, g := range groups {
			for _, n := range r.Fleet.Members(g) {
				if !waiting[n] {
					names = append(names, n)
				}
			}
		}
		prefix := recordKey(id, "")
		err = r.Store.Scan(prefix, func(key string, _ []byte) bool {
			names = append(names, key[len(prefix):])
			return true
		})
		if err != nil {
			return fault.Wrap(fault.Internal, err, "jobs cannot be read")
		}
	}
	if !dynamic { // things may have gone
		err := r.Store.Scan(keyPending, func(key string, _ []byte) bool {
			if name := key[len(keyPending):]; !r.Fleet.Thing(name) {
				names = append(names, name)
			}
			return true
		})
		if err != nil {
			return fault.Wrap(fault.Internal, err, "jobs cannot be read")
		}
	}
	r.mu.Lock()
	for _, n := range names {
		r.changed[n] = struct{}{}
	}
	r.mu.Unlock()
	return nil
}

// follow draws the consequences of what Changed was told.
func (r *Room) follow(ctx context.Context, commit Commit) error {
	r.mu.Lock()
	names := make([]string, 0, len(r.changed))
	for n := range r.changed {
		names = append(names, n)
	}
	clear(r.changed)
	var jobs []string
	for id, l := range r.live {
		if l.continuous {
			jobs = append(jobs, id)
		}
	}
	r.mu.Unlock()
	slices.Sort(names)
	slices.Sort(jobs)
	for i, name := range names {
		concerned, err := r.concerned(name, jobs)
		if err == nil && len(concerned) > 0 {
			err = commit(func(tx Tx, tell func(Notice)) error {
				c := r.change(tx)
				if err := c.compare(name, concerned); err != nil {
					return err
				}
				return c.finish(tell)
			})
		}
		if err != nil || ctx.Err() != nil {
			r.mu.Lock()
			for _, n := range names[i:] {
				r.changed[n] = struct{}{}
			}
			r.mu.Unlock()
			return err
		}
	}
	return nil
}

// concerned gives the jobs for which it matters what a thing is or is in now. It only
// saves making a unit where nothing is to be done; compare decides.
func (r *Room) concerned(thing string, continuous []string) ([]string, error) {
	if !r.Fleet.Thing(thing) {
		var queue []pending
		if _, err := get(r.Store, keyPending+thing, &queue); err != nil {
			return nil, err
		}
		var ids []string
		for _, p := range queue {
			ids = append(ids, p.Job)
		}
		return ids, nil
	}
	var ids []string
	for _, id := range continuous {
		j, err := r.definition(id)
		if err != nil || j == nil {
			return ids, err
		}
		var rec record
		has, err := get(r.Store, recordKey(id, thing), &rec)
		if err != nil {
			return nil, err
		}
		if in := r.inTargets(j, thing); in != has || has && in == rec.Left {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// definition reads a job as last submitted, nil when there is none.
func (r *Room) definition(id string) (*Job, error) {
	raw, err := r.Store.Get(keyJob + id)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "jobs cannot be read")
	}
	if raw == nil {
		return nil, nil
	}
	return r.parseJob(id, raw)
}

// compare brings a thing's executions in line with where it is now.
func (c *change) compare(thing string, ids []string) error {
	for _, id := range ids {
		j, err := c.job(id)
		if err != nil || j == nil {
			return err
		}
		t, err := c.thing(thing)
		if err != nil {
			return err
		}
		rec, err := c.record(t, id)
		if err != nil {
			return err
		}
		there := c.r.Fleet.Thing(thing)
		in := there && (!j.Continuous || c.r.inTargets(j.Job, thing))
		switch x := rec.latest(); {
		case !in && rec.exists() && !rec.Left:
			if x != nil && may(service, x.Status, Removed) {
				c.move(j, t, rec, x, Removed)
			}
			rec.Left, rec.dirty = true, true
		case in && j.Continuous && (!rec.exists() || rec.Left) && j.st.Status == Active && !j.st.Stopped:
			waits, err := c.waits(j, thing)
			if err != nil {
				return err
			}
			if waits { // the rollout will come to it
				continue
			}
			if open, _ := j.open(c); !open {
				c.comeTo(j, []string{thing})
				j.at(c.now)
				continue
			}
			c.enqueue(j, t, rec, 0, 0) // not counted by the rollout's rate, spec/jobs.md §2
		}
	}
	return nil
}

// waits says whether the rollout has still to come to a thing.
func (c *change) waits(j *jobChange, thing string) (bool, error) {
	if !j.st.Rolling {
		return false, nil
	}
	for i := j.st.Chunk; i < j.st.Chunks; i++ {
		names, err := chunk(c, j.ID, i)
		if err != nil {
			return false, err
		}
		if i == j.st.Chunk {
			names = names[min(j.st.Offset, len(names)):]
		}
		if slices.Contains(names, thing) {
			return true, nil
		}
	}
	return false, nil
}

// chunk reads a part of what a rollout has to come to.
func chunk(db interface {
	Get(key string) ([]byte, error)
}, job string, i int) ([]string, error) {
	b, err := db.Get(chunkKey(job, i))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "jobs cannot be read")
	}
	return strings.Split(string(b), "\n"), nil
}

// waiting gives all things that a job's rollout has still to come to.
func (r *Room) waiting(id string) (map[string]bool, error) {
	var st state
	if _, err := get(r.Store, keyState+id, &st); err != nil {
		return nil, err
	}
	set := map[string]bool{}
	for i := st.Chunk; st.Rolling && i < st.Chunks; i++ {
		names, err := chunk(r.Store, id, i)
		if err != nil {
			return nil, err
		}
		if i == st.Chunk {
			names = names[min(st.Offset, len(names)):]
		}
		for _, n := range names {
			set[n] = true
		}
	}
	return set, nil
}

// Recheck compares continuous jobs with dynamic groups as they are; Run does so from time
// to time. Work draws the consequences.
func (r *Room) Recheck() error { return r.recheck(true) }
