package broker

import (
	"sync"

	"tidegate/gateway/broker/session"
	"tidegate/gateway/mqtt"
)

// group is a shared subscription: several sessions that get each message once between
// them (MQTT 5, 4.8.2).
type group struct {
	b      *Broker
	name   string // $share/NAME/FILTER
	filter string

	mu      sync.Mutex
	members []member
	turn    int
}

type member struct {
	s *client
	subscription
}

func (g *group) durable() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.members {
		if g.members[i].qos > 0 && g.members[i].s.persistent {
			return true
		}
	}
	return false
}

// join makes s a member of the group that x names.
func (b *Broker) join(s *client, x *session.Sub) {
	_, filter, _, err := mqtt.SplitShare(x.Filter)
	if err != nil {
		return
	}
	b.mu.Lock()
	g := b.groups[x.Filter]
	if g == nil {
		g = &group{b: b, name: x.Filter, filter: filter}
		b.groups[x.Filter] = g
	}
	b.mu.Unlock()
	g.mu.Lock()
	m := member{s, subscription{qos: x.QoS, rap: x.RAP, id: x.ID, since: x.Since}}
	known := false
	for i := range g.members {
		if g.members[i].s == s {
			g.members[i], known = m, true
		}
	}
	if !known {
		g.members = append(g.members, m)
	}
	g.mu.Unlock()
	t := &b.table
	t.mu.Lock()
	if _, err := t.groups.Add(filter, g, struct{}{}); err == nil {
		t.changed(filter)
	}
	t.mu.Unlock()
}

// leaveGroup ends the membership of s.
func (b *Broker) leaveGroup(s *client, name string) {
	b.mu.Lock()
	g := b.groups[name]
	b.mu.Unlock()
	if g == nil {
		return
	}
	g.mu.Lock()
	for i := range g.members {
		if g.members[i].s == s {
			g.members = append(g.members[:i], g.members[i+1:]...)
			break
		}
	}
	empty := len(g.members) == 0
	g.mu.Unlock()
	t := &b.table
	t.mu.Lock()
	if empty {
		t.groups.Remove(g.filter, g)
	}
	t.changed(g.filter)
	t.mu.Unlock()
	if empty {
		b.mu.Lock()
		if b.groups[name] == g {
			delete(b.groups, name)
		}
		b.mu.Unlock()
	}
}

// deliver gives each message of the run to one member, in turn.
func (g *group) deliver(f *fan, first uint64, ob *Outbox) {
	run := f.run
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range run.Frames {
		m := g.next()
		if m == nil {
			return
		}
		one := *run
		one.Buf, one.Frames = run.Frame(i), []mqtt.Frame{{ID: run.Frames[i].ID - run.Frames[i].Start}}
		x := newFan(&one, 0)
		qos := min(run.QoS, m.qos)
		var ids []uint32
		if m.id > 0 {
			ids = []uint32{m.id}
		}
		v := x.as(m.s.v5, qos, run.Retain && m.rap, ids)
		if qos > 0 {
			m.s.enqueue(v, 0, nil, ob)
		} else if c := m.s.conn.Load(); c != nil {
			c.offer(v, ob)
		}
		x.free()
	}
}

// next gives the member whose turn it is, connected ones first.
func (g *group) next() *member {
	n := len(g.members)
	for i := range n {
		m := &g.members[(g.turn+i)%n]
		if m.s.conn.Load() != nil {
			g.turn = (g.turn + i + 1) % n
			return m
		}
	}
	return nil
}

func (g *group) acked(*client, uint64) {}

// online tells the session's groups that it is there, or is not.
func (s *client) online(bool) {}
