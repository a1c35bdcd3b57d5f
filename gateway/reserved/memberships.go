package reserved

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/logs"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/registry"
	"tidegate/gateway/store"
)

// Memberships tells who joins and leaves dynamic groups (developer guide, "Dynamic thing
// groups", "Use dynamic group membership changes to perform desired actions"), while such
// events are switched on. Nobody keeps who is in a dynamic group, so it looks from time to
// time, and compares with what it has told last: that is in the store, in the unit of the
// event, so that a restart neither hides a change nor tells one twice. Who joins and leaves
// between two looks is not told of. When events are switched on, those who are in a group
// then are taken as told.
type Memberships struct {
	events *RegistryEvents
	reg    *registry.Registry
	db     *store.Store
	clk    clock.Clock
	log    *slog.Logger
	commit Committer
	wake   chan struct{} // one token: somebody has changed the registry

	// What was told, by group and thing; nil: not read yet. Only Run touches it.
	told map[string]map[string]member
}

// member is what is kept of a membership: the names may be somebody else's when it ends.
//
//	member/                 {}            events are on, and all that was so then is told
//	member/GROUP NUL THING  {"g":…,"t":…}
type member struct {
	Group string `json:"g,omitempty"` // id
	Thing string `json:"t,omitempty"` // id
}

const (
	lookEvery   = 5 * time.Second
	lookSettle  = time.Second // from a change of the registry to a look
	lookShare   = 20          // a look takes at most one part in so many of the time
	memberBatch = 100         // changes in a unit
)

// NewMemberships makes the watcher; commit takes its events.
func NewMemberships(events *RegistryEvents, db *store.Store, clk clock.Clock, log *slog.Logger, commit Committer) *Memberships {
	m := &Memberships{events: events, reg: events.reg, db: db, clk: clk, log: log, commit: commit, wake: make(chan struct{}, 1)}
	m.reg.OnCommit(func(changes []registry.Change) {
		if slices.ContainsFunc(changes, func(c registry.Change) bool {
			return c.Kind == "thing" || c.Kind == "thinggroup" || c.Kind == "setting"
		}) {
			select {
			case m.wake <- struct{}{}:
			default:
			}
		}
	})
	return m
}

// Run looks until ctx ends.
func (m *Memberships) Run(ctx context.Context, ready func()) error {
	ready()
	m.told = nil // after a failure, what the store has
	t := m.clk.NewTimer(0)
	defer t.Stop()
	for soon := true; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
			switch {
			case m.told == nil: // events may be on since now
				t.Reset(0)
			case !soon:
				soon = true
				t.Reset(lookSettle)
			}
			continue
		case <-t.C():
		}
		began := time.Now() // what it costs, whatever the clock says
		switch err := m.Look(ctx); {
		case ctx.Err() != nil:
			return nil
		case err != nil && fault.Of(err) == fault.Internal:
			return err
		case err != nil: // no room: that passes
			m.log.Warn("changes of dynamic groups wait for the store", logs.Err(err))
			m.told = nil
		}
		rest := max(lookEvery, lookShare*time.Since(began))
		soon = rest > lookEvery // a fleet so large that looking is work is not looked at out of turn
		t.Reset(rest)
	}
}

// Look compares once.
func (m *Memberships) Look(ctx context.Context) error {
	on := m.reg.EventOn("THING_GROUP_MEMBERSHIP")
	first := false
	if m.told == nil {
		told, any, err := m.read()
		if err != nil {
			return err
		}
		m.told, first = told, !any
	}
	switch {
	case !on && first:
		m.told = nil
		return nil
	case !on:
		return m.forget()
	}
	now, err := m.members(ctx)
	if err != nil {
		return err
	}
	return m.tell(ctx, now, first)
}

func memberKey(group, thing string) string { return store.KeyMember + group + "\x00" + thing }

// read gives what was told, and whether events were on.
func (m *Memberships) read() (told map[string]map[string]member, any bool, err error) {
	told = map[string]map[string]member{}
	var bad error
	err = m.db.Scan(store.KeyMember, func(key string, val []byte) bool {
		group, thing, ok := strings.Cut(key[len(store.KeyMember):], "\x00")
		if !ok {
			any = true
			return true
		}
		var x member
		if bad = json.Unmarshal(val, &x); bad != nil {
			bad = fault.Wrap(fault.Internal, bad, "the membership %s in %s cannot be read", thing, group)
			return false
		}
		put(told, group, thing, x)
		return true
	})
	if err == nil {
		err = bad
	}
	return told, any, err
}

func put(all map[string]map[string]member, group, thing string, x member) {
	if all[group] == nil {
		all[group] = map[string]member{}
	}
	all[group][thing] = x
}

// members gives who is in the dynamic groups now.
func (m *Memberships) members(ctx context.Context) (map[string]map[string]member, error) {
	now := map[string]map[string]member{}
	for p := (registry.Page{}); ; {
		groups, next, err := m.reg.Groups("", "", true, p)
		if err != nil {
			return nil, fmt.Errorf("look at dynamic groups: %w", err)
		}
		for _, g := range groups {
			if !g.Dynamic() {
				continue
			}
			for _, name := range (Fleet{m.reg}).Members(g.Name) {
				if t, err := m.reg.Thing(name); err == nil { // not gone meanwhile
					put(now, g.Name, name, member{g.ID, t.ID})
				}
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
		if p.After = next; next == "" {
			return now, nil
		}
	}
}

// step is a membership that begins or ends.
type step struct {
	group, thing string
	op           awstopic.Op
	member
}

// steps gives what lies between two states, what ends first.
func steps(was, is map[string]map[string]member) (out []step) {
	for _, x := range []struct {
		op   awstopic.Op
		a, b map[string]map[string]member
	}{{"removed", was, is}, {"added", is, was}} {
		for _, group := range slices.Sorted(maps.Keys(x.a)) {
			for _, thing := range slices.Sorted(maps.Keys(x.a[group])) {
				if have, ok := x.b[group][thing]; !ok || have != x.a[group][thing] {
					out = append(out, step{group, thing, x.op, x.a[group][thing]})
				}
			}
		}
	}
	return out
}

// tell makes what is now what was told, with events unless it is the first time.
func (m *Memberships) tell(ctx context.Context, now map[string]map[string]member, first bool) error {
	todo := steps(m.told, now)
	for mark := first; len(todo) > 0 || mark; {
		batch := todo[:min(memberBatch, len(todo))]
		todo = todo[len(batch):]
		begun := mark && len(todo) == 0
		at := m.clk.Now().UTC().Truncate(time.Millisecond)
		err := m.do(func(u *store.Unit, emit func(mqtt.Message)) {
			if begun {
				u.Put(store.KeyMember, []byte("{}"))
			}
			for _, s := range batch {
				if s.op == "removed" {
					u.Del(memberKey(s.group, s.thing))
				} else {
					val, _ := json.Marshal(s.member) // two texts: cannot fail
					u.Put(memberKey(s.group, s.thing), val)
				}
				if !first {
					emit(m.events.event(at, membershipTopic(s.group, s.thing, s.op), m.events.membershipFields(s.group, s.Group, s.thing, s.Thing)))
				}
			}
		})
		if err != nil {
			return err
		}
		mark = mark && !begun
		for _, s := range batch {
			if s.op == "removed" {
				delete(m.told[s.group], s.thing)
			} else {
				put(m.told, s.group, s.thing, s.member)
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// forget drops what was told, when events are switched off.
func (m *Memberships) forget() error {
	keys := []string{store.KeyMember}
	for group, things := range m.told {
		for thing := range things {
			keys = append(keys, memberKey(group, thing))
		}
	}
	for batch := range slices.Chunk(keys, 1000) {
		if err := m.do(func(u *store.Unit, _ func(mqtt.Message)) {
			for _, k := range batch {
				u.Del(k)
			}
		}); err != nil {
			return err
		}
	}
	m.told = nil
	return nil
}

// do commits and waits.
func (m *Memberships) do(build func(u *store.Unit, emit func(mqtt.Message))) error {
	done := make(chan error, 1)
	err := m.commit(func(u *store.Unit, emit func(mqtt.Message)) error { build(u, emit); return nil }, func(err error) { done <- err })
	if err == nil {
		err = <-done
	}
	return err
}
