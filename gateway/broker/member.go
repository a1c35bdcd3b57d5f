package broker

import (
	"errors"
	"slices"

	"tidegate/gateway/broker/session"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// Who belongs to a shared subscription, and how long it is there. Its cursor is made in the unit
// that has a persistent member's subscription, and dropped in one of its own some time after
// the last has left. A group says how many are between their unit and their membership (coming);
// that, membership, and what drops the cursor are looked at under one lock of the store, so
// that a drop is either before a newcomer's unit, which makes the cursor anew, or does not happen.

func shareLock(name string) string { return "share/" + name }

var errStillWanted = errors.New("somebody has joined meanwhile")

// lockGroup gives the group of a shared subscription, made if there is none, with its mu held.
func (b *Broker) lockGroup(name, filter string) *group {
	for {
		b.mu.Lock()
		g := b.groups[name]
		if g == nil {
			g = &group{b: b, name: name, filter: filter, out: map[uint64]*shared{}, given: map[uint64]struct{}{}}
			b.groups[name] = g
		}
		b.mu.Unlock()
		g.mu.Lock()
		if !g.ended {
			return g
		}
		g.mu.Unlock()
		b.removeGroup(g)
	}
}

// removeGroup forgets a group that has ended.
func (b *Broker) removeGroup(g *group) {
	b.mu.Lock()
	if b.groups[g.name] == g {
		delete(b.groups, g.name)
	}
	b.mu.Unlock()
	t := &b.table
	t.mu.Lock()
	t.groups.Remove(g.filter, g)
	t.changed(g.filter)
	t.mu.Unlock()
}

// expect is for the unit that has the subscription x of a persistent session: it makes the
// group's cursor, which stays until arrived is called. When the unit comes to nothing that is not.
func (b *Broker) expect(u *store.Unit, x *session.Sub) *group {
	_, filter, _, err := mqtt.SplitShare(x.Filter)
	if err != nil || x.QoS == 0 {
		return nil
	}
	u.Lock(shareLock(x.Filter))
	b.jr.Create(u, groupCursor(x.Filter))
	g := b.lockGroup(x.Filter, filter)
	g.coming++
	g.mu.Unlock()
	u.Then(func(_ uint64, err error) {
		if err != nil {
			g.arrived()
		}
	})
	return g
}

// arrived says that somebody expected is a member now, or does not come.
func (g *group) arrived() {
	g.mu.Lock()
	g.coming--
	g.mu.Unlock()
	g.retire()
}

// join makes s a member of the group that x names.
func (b *Broker) join(s *client, x *session.Sub) {
	_, filter, _, err := mqtt.SplitShare(x.Filter)
	if err != nil {
		return
	}
	g := b.lockGroup(x.Filter, filter)
	m := member{s, subscription{qos: x.QoS, rap: x.RAP, id: x.ID, since: x.Since}}
	if i := slices.IndexFunc(g.members, func(m member) bool { return m.s == s }); i >= 0 {
		g.members[i] = m
	} else {
		g.members = append(g.members, m)
	}
	if g.cursor == nil && g.hasPersistent() {
		if cur, ok := b.jr.Cursor(groupCursor(g.name)); ok {
			g.cursor, g.pinned = cur, cur.Pos()
			cur.SetMaxLag(int64(b.cfg.SessionBytes))
			if b.restoring {
				g.behind, g.pending, g.pos = true, true, cur.Pos()
			}
			g.settle()
		}
	}
	g.mu.Unlock()
	s.mu.Lock()
	if !slices.Contains(s.groups, g) {
		s.groups = append(s.groups, g)
	}
	s.mu.Unlock()
	t := &b.table
	t.mu.Lock()
	if _, err := t.groups.Add(filter, g, struct{}{}); err == nil {
		t.changed(filter)
	}
	t.mu.Unlock()
	g.retire() // it may have taken QoS 0 instead
	g.poke()
}

// leaveGroup ends the membership of s.
func (b *Broker) leaveGroup(s *client, name string) {
	b.mu.Lock()
	g := b.groups[name]
	b.mu.Unlock()
	if g == nil {
		return
	}
	s.giveBack(g)
	s.mu.Lock()
	s.groups = slices.DeleteFunc(s.groups, func(x *group) bool { return x == g })
	s.mu.Unlock()
	g.mu.Lock()
	g.members = slices.DeleteFunc(g.members, func(m member) bool { return m.s == s })
	g.mu.Unlock()
	t := &b.table
	t.mu.Lock()
	t.changed(g.filter)
	t.mu.Unlock()
	g.retire()
}

// retire gives up what nobody needs any more: the cursor when there is no persistent member,
// and then the group when there is none at all.
func (g *group) retire() {
	g.mu.Lock()
	idle := g.coming == 0 && !g.dropping && !g.ended
	drop := idle && g.cursor != nil && !g.hasPersistent()
	end := idle && !drop && len(g.members) == 0
	g.dropping, g.ended = g.dropping || drop, g.ended || end
	g.mu.Unlock()
	if end {
		g.b.removeGroup(g)
	}
	if drop { // not from inside a commit
		g.b.wg.Add(1)
		go g.dropQueue()
	}
}

// dropQueue drops the group's cursor, with the notes of what its members were given, unless
// somebody needs it after all.
func (g *group) dropQueue() {
	defer g.b.wg.Done()
	err := g.b.db.Do(func(u *store.Unit) error {
		u.Vital = true
		u.Lock(shareLock(g.name))
		g.b.jr.Drop(u, groupCursor(g.name))
		g.mu.Lock() // it has all locks now, so that this is not done twice
		defer g.mu.Unlock()
		if g.coming > 0 || g.hasPersistent() {
			return errStillWanted
		}
		for seq := range g.given {
			session.DelGiven(u, session.Given{Filter: g.name, Seq: seq})
		}
		g.forgetQueue()
		return nil
	}, nil)
	g.mu.Lock()
	g.dropping = false
	if err != nil && err != errStillWanted {
		g.b.log.Warn("a cursor could not be dropped", "cursor", groupCursor(g.name), "err", err)
		g.forgetQueue() // the next start finds it without an owner
	}
	g.mu.Unlock()
	g.retire()
}

// forgetQueue takes the group's queue out of memory. The caller holds mu.
func (g *group) forgetQueue() {
	g.cursor, g.pinned, g.behind, g.pending = nil, 0, false, false
	g.reader, g.left = nil, nil
	clear(g.given)
}
