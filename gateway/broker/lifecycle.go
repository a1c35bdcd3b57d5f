package broker

import (
	"strings"
	"sync"
	"time"

	"tidegate/gateway/broker/session"
	"tidegate/gateway/journal"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// restore reads what is on the disk. Every session starts away.
func (b *Broker) restore() error {
	b.restoring = true
	defer func() { b.restoring = false }()
	var scan []*client
	from := b.jr.Next()
	err := session.Load(b.db, func(rec session.Record, m session.Marks) {
		s := newSession(b, rec.ID, rec.V5)
		s.persistent, s.rec, s.behind = true, rec, true
		if s.rec.Gone.IsZero() { // the gateway went first
			s.rec.Gone = b.clk.Now()
		}
		p := b.az.Restore(rec.Principal, rec.ID)
		s.principal.Store(&p)
		for _, pid := range m.In {
			if s.in2 == nil {
				s.in2 = map[uint16]inState{}
			}
			s.in2[pid] = inCommitted
		}
		for _, x := range m.Out {
			s.restore2(x)
		}
		cur, ok := b.jr.Cursor(rec.Cursor)
		if !ok {
			b.log.Error("a session has lost its place in the journal", "client", rec.ID)
		} else {
			s.cursor, s.pinned = cur, cur.Pos()
			s.pos, s.pending = cur.Pos(), true
			scan = append(scan, s)
			from = min(from, cur.Pos())
		}
		b.sessions[rec.ID] = s
		for i := range s.rec.Subs {
			b.link(s, &s.rec.Subs[i])
		}
		b.stats.behind.Add(1)
	})
	if err != nil {
		return err
	}
	err = session.Gaps(b.db, func(id string, gaps []session.Gap) {
		if s := b.sessions[id]; s != nil {
			s.gaps = gaps
		}
	})
	if err != nil { // what is pending is read nonetheless
		b.log.Error("what sessions have lost is not known", "err", err)
	}
	b.findOrphans()
	if err := b.restoreShared(); err != nil {
		return err
	}
	if err := b.findPending(scan, from); err != nil {
		return err
	}
	err = session.EachRetained(b.db, func(m mqtt.Message) bool {
		b.retained.note(&m)
		return true
	})
	if err != nil { // what does not read is not there; the rest is
		b.log.Error("a retained message is damaged", "err", err)
	}
	for _, s := range b.sessions {
		s.restoreDebts()
	}
	return session.Wills(b.db, func(id string, w session.Will) { b.wills[id] = &w })
}

// findOrphans notes the cursors that are nobody's: a session that does not outlive its
// connection had one when the gateway was killed, or a group was just about to end. They
// would hold the journal for ever.
func (b *Broker) findOrphans() {
	used := map[string]bool{}
	for _, s := range b.sessions {
		used[s.rec.Cursor] = true
	}
	for _, g := range b.groups {
		used[groupCursor(g.name)] = g.cursor != nil
	}
	b.orphans = map[string][]uint64{}
	for _, c := range b.jr.Cursors() {
		if strings.HasPrefix(c.Name, "session/") && !used[c.Name] {
			b.orphans[c.Name] = nil
		}
	}
}

// findPending looks once through the journal's tail for what touches sessions, so that
// those that nothing waits for do not hold it up. With a quota it counts what waits for each.
func (b *Broker) findPending(away []*client, from uint64) error {
	open := map[*client]bool{}
	for _, s := range away {
		open[s] = true
	}
	found := map[*client]bool{}
	queues := map[*group]bool{}
	for _, g := range b.groups {
		if g.behind {
			queues[g] = true
			from = min(from, g.pos)
		}
	}
	r := b.jr.Reader(from)
	for len(open)+len(queues) > 0 {
		first, run, ok, err := r.Next()
		if _, gap := err.(*journal.GapError); gap {
			continue
		}
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if run.QoS == 0 {
			continue
		}
		end := first + uint64(len(run.Frames))
		route := b.Route(run.Topic)
		for _, g := range route.groups {
			if queues[g] && end > g.pos {
				g.pos = max(g.pos, first)
				delete(queues, g)
			}
		}
		for _, t := range route.to {
			s := t.s
			if !open[s] || end <= s.pos {
				continue
			}
			at, _ := s.beyond(max(s.pos, first))
			if at >= end || s.grantOf(run, first) == nil {
				continue
			}
			if !found[s] {
				s.pos, found[s] = at, true
			}
			if !b.cfg.hasQuota() {
				delete(open, s)
				continue
			}
			s.waits.restored(run, int(at-first), len(run.Frames), b.cfg.window())
		}
	}
	for _, g := range b.groups {
		if queues[g] {
			g.behind, g.pending = false, false
		}
		g.settle()
	}
	for _, s := range away {
		if !found[s] {
			s.pending, s.pos = false, 0
		}
		s.mu.Lock()
		s.settle()
		s.bound()
		s.mu.Unlock()
	}
	return nil
}

func (s *client) restore2(x session.Out) {
	if s.out2 == nil {
		s.out2, s.byPID = map[uint64]*outgoing{}, map[uint16]*outgoing{}
	}
	o := &outgoing{seq: x.Seq, key: x.Seq, pid: x.PID, state: x.State, dup: true}
	if x.Filter != "" {
		s.nextKey = max(s.nextKey, x.Seq&^ackedBit)
	}
	if x.Filter != "" && x.Topic == "" {
		o.seq, o.share = uint64(x.At), x.Filter
	}
	if x.Topic != "" {
		o.seq, o.topic, o.at, o.debt = 0, x.Topic, x.At, s.oldDebt(x.Filter)
		o.debt.begun[x.Topic] = true
		if x.State == session.Done {
			o.debt.marks = append(o.debt.marks, x.Seq)
			return
		}
		o.debt.left++
	}
	s.out2[o.key] = o
	if x.State == session.Done {
		s.done2++
	} else {
		s.byPID[o.pid] = o
	}
}

// link puts a subscription of s into the table.
func (b *Broker) link(s *client, x *session.Sub) {
	if x.Shared() {
		b.join(s, x)
		return
	}
	if err := b.table.subscribe(s, x.Filter, subscription{qos: x.QoS, noLocal: x.NoLocal, rap: x.RAP, id: x.ID, since: x.Since}); err != nil {
		b.log.Error("a subscription cannot be served", "client", s.id, "filter", x.Filter, "err", err)
	}
}

func (b *Broker) unlink(s *client, filter string) {
	if (&session.Sub{Filter: filter}).Shared() {
		b.leaveGroup(s, filter)
		return
	}
	b.table.unsubscribe(s, filter)
}

// marks gives what is on the disk of the session's QoS 2 exchanges.
func (s *client) marks() session.Marks {
	var m session.Marks
	s.in2mu.Lock()
	for pid := range s.in2 {
		m.In = append(m.In, pid)
	}
	s.in2mu.Unlock()
	s.mu.Lock()
	for _, o := range s.out2 {
		if s.onDisk(o) {
			m.Out = append(m.Out, session.Out{Seq: o.key})
		}
	}
	for _, d := range s.debts {
		for _, key := range d.marks {
			m.Out = append(m.Out, session.Out{Seq: key})
		}
	}
	s.mu.Unlock()
	return m
}

// takeOver ends what is left of an earlier connection of a client id, because a new one
// is being made; resume says whether its session goes on. The caller holds the id's lock.
func (b *Broker) takeOver(s *client, resume bool) {
	if c := s.conn.Load(); c != nil && s.detach(c) { // [MQTT-3.1.4-3]
		c.kick(errTakenOver)
		b.farewell(c, s, c.kicked.Load()) // which may have been for something else
		b.willDue(s.id, resume, 0)
		return
	}
	b.willDue(s.id, resume, 0)
}

// detach parts session and connection and says whether they were together.
func (s *client) detach(c *Conn) bool {
	s.mu.Lock()
	if s.conn.Load() != c {
		s.mu.Unlock()
		return false
	}
	s.conn.Store(nil)
	s.b.stats.online.Add(-1)
	if s.persistent {
		if seq := s.queue.low(); seq != 0 && (!s.pending || seq < s.pos) {
			s.pos, s.pending = seq, true
		}
		s.waits.add(s.queue.dropJournalled())
		s.countQueue()
		if !s.behind {
			s.behind = true
			s.b.stats.behind.Add(1)
		}
		s.left = nil
		s.reader = nil
		s.settle()
	}
	s.mu.Unlock()
	s.online(false)
	return true
}

// ended is the end of a connection: err is why its reading stopped. The session learns of
// it before the client can see it, who may be back at once: what it asked for with
// DISCONNECT holds by then.
func (b *Broker) ended(c *Conn, err error) {
	why := reasonOf(err)
	if k := c.kicked.Load(); k != nil {
		why = k
	} else if c.kicked.CompareAndSwap(nil, why) {
		c.sayGoodbye(why)
	}
	if c.sess != nil {
		b.part(c, c.sess, why)
	}
	c.close(why)
	b.connecting(c)
	b.mu.Lock()
	delete(b.conns, c)
	b.mu.Unlock()
}

// part does what the end of c means for its session.
func (b *Broker) part(c *Conn, s *client, why *Reason) {
	lock := b.idLock(s.id)
	lock.Lock()
	defer lock.Unlock()
	if !s.detach(c) {
		return // taken over
	}
	s.mu.Lock()
	expiry := s.rec.Expiry
	s.mu.Unlock()
	b.farewell(c, s, why)
	switch {
	case why == errClientLeft:
		b.dropWill(s.id) // [MQTT-3.14.4-3]
	case why == errShutdown:
		// The will stays on the disk; it is published at the next start if the client is not back by then.
	default: // also when the client says that something is wrong (MQTT 5, 3.1.2.5)
		b.willDue(s.id, expiry > 0, expiry)
	}
	if expiry == 0 || !s.persistent {
		b.discard(s)
		return
	}
	b.away(s)
}

// away notes on the disk when a session lost its connection.
func (b *Broker) away(s *client) {
	s.mu.Lock()
	s.rec.Gone = b.clk.Now()
	rec := s.rec
	s.mu.Unlock()
	err := b.db.Do(func(u *store.Unit) error {
		u.Vital = true
		return session.Save(u, &rec)
	}, nil)
	if err != nil {
		b.log.Warn("a session could not be saved", "client", s.id, "err", err)
	}
}

// discard ends a session for good. The caller holds the id's lock.
func (b *Broker) discard(s *client) {
	if s.persistent {
		s.ending.Store(true)
		m := s.marks()
		s.mu.Lock()
		rec := s.rec
		s.mu.Unlock()
		err := b.db.Do(func(u *store.Unit) error {
			u.Vital = true
			u.Lock(sessionLock(s.id))
			session.Delete(u, &rec, m)
			b.jr.Drop(u, rec.Cursor)
			return nil
		}, nil)
		if err != nil {
			b.log.Warn("a session could not be deleted", "client", s.id, "err", err)
		}
	}
	b.forget(s)
}

// forget takes a session out of memory.
func (b *Broker) forget(s *client) {
	s.mu.Lock()
	was := s.gone
	s.gone = true
	behind := s.behind
	s.behind = false
	cursor := ""
	if !s.persistent && s.cursor != nil {
		cursor = s.rec.Cursor
	}
	subs := s.rec.Subs
	unsent := map[*group][]uint64{}
	for _, o := range s.out2 {
		if o.h.g != nil && !o.dup {
			unsent[o.h.g] = append(unsent[o.h.g], o.h.id)
		} else { // it was begun, and may be sent to nobody else ([MQTT-4.8.2-5])
			s.letGo(o)
		}
	}
	freed := s.freed
	s.freed = nil
	s.queue, s.win, s.ret, s.out2, s.write2, s.debts, s.paid = backlog{}, window{}, nil, nil, nil, nil, nil
	s.countQueue()
	s.mu.Unlock()
	if was {
		return
	}
	if behind {
		b.stats.behind.Add(-1)
	}
	for _, h := range freed {
		h.g.acked(h.id)
	}
	for g, ids := range unsent {
		g.back(ids)
	}
	for i := range subs {
		b.unlink(s, subs[i].Filter)
	}
	if cursor != "" {
		b.dropCursor(cursor)
	}
	b.mu.Lock()
	if b.sessions[s.id] == s {
		delete(b.sessions, s.id)
	}
	b.mu.Unlock()
}

// sweep runs once a second.
func (b *Broker) sweep() {
	t := b.clk.Now()
	now := t.Unix()
	b.now.Store(now)
	stall := int64(b.cfg.StallTimeout / time.Second)
	for _, c := range b.connections() {
		why := c.overdue(now, stall)
		if why == nil && !c.via.Until.IsZero() && !t.Before(c.via.Until) {
			why = &Reason{codeAdministrative, "the connection has reached its greatest age", c.via.UntilWhy}
		}
		if s := c.owner.Load(); why == nil && s != nil && s.conn.Load() == c {
			if p, ok := s.who().(Ender); ok {
				if until, event := p.Until(); !until.IsZero() && !t.Before(until) {
					why = &Reason{codeNotAuthorized, "the credential has reached its end", event}
				}
			}
		}
		if why != nil {
			go c.kick(why)
		}
	}
	var gone []*client
	b.mu.Lock()
	for _, s := range b.sessions {
		if s.conn.Load() == nil && s.persistent {
			gone = append(gone, s)
		}
	}
	b.mu.Unlock()
	for _, s := range gone {
		b.expire(s, t)
	}
	b.relieve(now)
	b.sys.tick(b, t)
	b.sendDueWills(t)
	if now%10 == 0 {
		b.expireRetained(now)
	}
}

// overdue says why c should be cut off, nil when it should not.
func (c *Conn) overdue(now, stall int64) *Reason {
	c.out.mu.Lock()
	since := c.out.since
	c.out.mu.Unlock()
	if since != 0 && stall > 0 && now-since > stall {
		return errStalled
	}
	keep := c.keep.Load()
	if keep <= 0 || c.held.Load() || now-c.last.Load() <= int64(time.Duration(keep)/time.Second) {
		return nil
	}
	if c.owner.Load() == nil {
		return errNoConnect
	}
	return errKeepAlive
}

// expire ends a session that has been away too long.
func (b *Broker) expire(s *client, now time.Time) {
	s.mu.Lock()
	due := s.rec.Expiry != session.Never && !s.rec.Gone.IsZero() && !now.Before(s.rec.Gone.Add(time.Duration(s.rec.Expiry)*time.Second))
	s.mu.Unlock()
	if !due {
		return
	}
	lock := b.idLock(s.id)
	lock.Lock()
	defer lock.Unlock()
	if s.conn.Load() != nil || b.sessionOf(s.id) != s {
		return
	}
	b.willDue(s.id, false, 0)
	b.stats.sessionsExpired.Add(1)
	b.discard(s)
}

func (b *Broker) expireRetained(now int64) {
	for _, topic := range b.retained.expired(now, 1000) {
		m, ok, err := session.Retained(b.db, topic)
		if err != nil || !ok || !m.Props.HasExpiry || m.At.Unix()+int64(m.Props.Expiry) > now {
			continue
		}
		err = b.db.Do(func(u *store.Unit) error { // unless it was replaced meanwhile
			v, ok, err := session.Retained(b.db, topic)
			if err == nil && ok && v.At.Equal(m.At) && v.Props.HasExpiry {
				u.Del(store.KeyRetained + topic)
			}
			return err
		}, func([]uint64, error) { b.retained.drop(topic, now) })
		if err != nil {
			return
		}
	}
}

// versions counts the connections of each client id for AWS's lifecycle events: it grows
// by one with each, and starts again at 0 for a client that was away for an hour.
type versions struct {
	mu sync.Mutex
	of map[string]*versionOf
}

type versionOf struct {
	n    uint64
	last time.Time
}

const (
	versionTTL  = time.Hour
	maxVersions = 1 << 16
)

func (v *versions) next(id string, now time.Time) uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.of == nil || len(v.of) >= maxVersions {
		v.of = map[string]*versionOf{}
	}
	x := v.of[id]
	if x == nil || now.Sub(x.last) > versionTTL {
		x = &versionOf{}
		v.of[id] = x
	} else {
		x.n++
	}
	x.last = now
	return x.n
}

// left notes when a client was last there.
func (v *versions) left(id string, now time.Time) {
	v.mu.Lock()
	if x := v.of[id]; x != nil {
		x.last = now
	}
	v.mu.Unlock()
}
