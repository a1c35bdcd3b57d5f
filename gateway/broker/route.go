package broker

import (
	"strings"
	"sync"
	"sync/atomic"

	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/topicindex"
)

// Route is who gets the messages of one topic. It is worked out once per topic and
// kept until a subscription that concerns the topic changes.
type Route struct {
	Topic   string
	Gen     uint64 // of the table it was made from
	Durable bool   // some QoS ≥ 1 target is persistent, or behind: such messages must be journalled
	Invalid bool   // not a topic anybody can publish to
	Targets int    // sessions, groups and followers

	stale  atomic.Bool
	to     []target
	groups []*group
	watch  []*follower
}

// Fresh says whether r still holds.
func (r *Route) Fresh() bool { return !r.stale.Load() }

// target is one session of a route, all its subscriptions that match taken together
// (MQTT 5, 3.3.4: one copy, with the highest QoS and every subscription identifier).
type target struct {
	s     *client
	grant        // for messages of others
	own   *grant // for its own messages, where No Local makes a difference
}

type grant struct {
	none bool // nothing: every match has No Local
	qos  byte
	rap  bool // retain as published
	ids  []uint32
}

// subscription is what the table keeps of one.
type subscription struct {
	qos     byte
	noLocal bool
	rap     bool
	id      uint32
	since   uint64 // journal number from which on it holds
}

// maxRoutes bounds the routes kept. Beyond manyRoutes a change of a wildcard
// subscription drops all of them instead of looking at each.
const (
	maxRoutes  = 1 << 16
	manyRoutes = 1 << 12
)

// table is the subscriptions of all sessions, groups and followers, and the routes
// worked out from them.
type table struct {
	mu       sync.RWMutex
	gen      atomic.Uint64
	subs     topicindex.Index[*client, subscription]
	groups   topicindex.Index[*group, struct{}]
	watchers topicindex.Index[*follower, struct{}]
	routes   map[string]*Route
}

// changed drops the routes that filter concerns. The caller holds mu.
func (t *table) changed(filter string) {
	t.gen.Add(1)
	switch {
	case !strings.ContainsAny(filter, "+#"):
		if r := t.routes[filter]; r != nil {
			r.stale.Store(true)
			delete(t.routes, filter)
		}
	case len(t.routes) > manyRoutes:
		t.dropAll()
	default:
		for topic, r := range t.routes {
			if mqtt.Match(filter, topic) {
				r.stale.Store(true)
				delete(t.routes, topic)
			}
		}
	}
}

func (t *table) dropAll() {
	for _, r := range t.routes {
		r.stale.Store(true)
	}
	clear(t.routes)
}

func (t *table) subscribe(s *client, filter string, o subscription) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := t.subs.Add(filter, s, o)
	if err == nil {
		t.changed(filter)
	}
	return err
}

func (t *table) unsubscribe(s *client, filter string) {
	t.mu.Lock()
	if t.subs.Remove(filter, s) {
		t.changed(filter)
	}
	t.mu.Unlock()
}

// touched drops the routes that concern s, because what holds for its targets changed.
func (t *table) touched(filters []string) {
	t.mu.Lock()
	for _, f := range filters {
		t.changed(f)
	}
	t.mu.Unlock()
}

// invalidate drops every route: what policies allow has changed.
func (t *table) invalidate() {
	t.mu.Lock()
	t.gen.Add(1)
	t.dropAll()
	t.mu.Unlock()
}

// Route gives who gets messages of topic. Callers may keep it as long as Gen equals
// the broker's, or until it is not Fresh; a route that has become stale is safe to
// deliver by, Deliver looks again.
func (b *Broker) Route(topic string) *Route {
	t := &b.table
	t.mu.RLock()
	r := t.routes[topic]
	t.mu.RUnlock()
	if r == nil {
		r = b.makeRoute(strings.Clone(topic))
	}
	return r
}

// routeOf is Route for a topic still in its frame.
func (b *Broker) routeOf(topic []byte) *Route {
	t := &b.table
	t.mu.RLock()
	r := t.routes[string(topic)]
	t.mu.RUnlock()
	if r == nil {
		r = b.makeRoute(string(topic))
	}
	return r
}

// Gen counts the changes of subscriptions. A route of the same Gen holds.
func (b *Broker) Gen() uint64 { return b.table.gen.Load() }

func (b *Broker) makeRoute(topic string) *Route {
	t := &b.table
	for {
		t.mu.RLock()
		r := &Route{Topic: topic, Gen: t.gen.Load(), Invalid: mqtt.ValidTopic(topic) != nil || strings.Count(topic, "/") >= topicindex.MaxLevels}
		if !r.Invalid {
			t.match(r)
		}
		t.mu.RUnlock()
		// Policies are asked with no lock held; each session once.
		k := 0
		for _, x := range r.to {
			if b.az.MayReceive(x.s.who(), topic) {
				r.to[k] = x
				k++
			}
		}
		clear(r.to[k:])
		r.to = r.to[:k]
		for i := range r.to {
			r.Durable = r.Durable || r.to[i].durable()
		}
		for _, g := range r.groups {
			r.Durable = r.Durable || g.durable()
		}
		r.Targets = len(r.to) + len(r.groups) + len(r.watch)
		t.mu.Lock()
		if t.gen.Load() != r.Gen {
			t.mu.Unlock()
			continue
		}
		if had := t.routes[topic]; had != nil { // made at the same time; a route that is in nobody's list would never become stale
			t.mu.Unlock()
			return had
		}
		if len(t.routes) >= maxRoutes {
			t.dropAll()
		}
		t.routes[topic] = r
		t.mu.Unlock()
		return r
	}
}

// match fills r. The caller holds mu for reading.
func (t *table) match(r *Route) {
	at := map[*client]int{}
	t.subs.Match(r.Topic, func(s *client, o subscription) {
		i, ok := at[s]
		if !ok {
			i = len(r.to)
			at[s] = i
			r.to = append(r.to, target{s: s})
			r.to[i].none = true
			r.to[i].own = &grant{none: true}
		}
		r.to[i].add(o)
		if !o.noLocal {
			r.to[i].own.add(o)
		}
	})
	for i := range r.to {
		if x := &r.to[i]; x.own.same(&x.grant) {
			x.own = nil
		}
	}
	t.groups.Match(r.Topic, func(g *group, _ struct{}) { r.groups = append(r.groups, g) })
	t.watchers.Match(r.Topic, func(f *follower, _ struct{}) { r.watch = append(r.watch, f) })
}

func (g *grant) add(o subscription) {
	g.none = false
	g.qos = max(g.qos, o.qos)
	g.rap = g.rap || o.rap
	if o.id > 0 {
		g.ids = append(g.ids, o.id)
	}
}

func (g *grant) same(o *grant) bool {
	return g.none == o.none && g.qos == o.qos && g.rap == o.rap && len(g.ids) == len(o.ids)
}

func (x *target) durable() bool {
	return x.qos > 0 && (x.s.persistent || x.s.wantsJournal.Load())
}

// grantFor gives what x gets of a message from client id from.
func (x *target) grantFor(run *mqtt.Run) *grant {
	if x.own != nil && run.Origin == mqtt.Client && run.From == x.s.id {
		return x.own
	}
	return &x.grant
}
