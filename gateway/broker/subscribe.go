package broker

import (
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"

	"tidegate/gateway/broker/session"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/mqtt/topicindex"
	"tidegate/gateway/store"
)

// subscribe answers SUBSCRIBE. The subscriptions of a persistent session are on the disk
// before SUBACK leaves.
func (c *Conn) subscribe(pk *packets.Packet) error {
	b, s := c.b, c.sess
	id := uint32(0)
	if ids := pk.Properties.SubscriptionIdentifier; c.v5 && len(ids) > 0 {
		if !b.cfg.SubscriptionIDs {
			return errNoSubIDs
		}
		id = uint32(ids[0])
	}
	lock := b.idLock(s.id)
	lock.Lock()
	defer lock.Unlock()
	if s.conn.Load() != c {
		return errTakenOver
	}
	s.mu.Lock()
	subs := append([]session.Sub(nil), s.rec.Subs...)
	s.mu.Unlock()
	next := session.Record{Subs: subs}
	codes := make([]byte, len(pk.Filters))
	var added []session.Sub
	var fresh []bool
	for i, f := range pk.Filters {
		x := session.Sub{Filter: strings.Clone(f.Filter), QoS: f.Qos, NoLocal: f.NoLocal, RAP: f.RetainAsPublished, Handling: f.RetainHandling, ID: id}
		if codes[i] = c.judgeFilter(&x, len(pk.Filters)); codes[i] == codeProtocol {
			return errProtocol
		}
		if codes[i] >= 0x80 {
			continue
		}
		x.Since = b.jr.Next()
		old := next.Find(x.Filter)
		if old == nil && b.cfg.Limits.Subscriptions > 0 && len(next.Subs) >= b.cfg.Limits.Subscriptions {
			codes[i] = codeQuota
			continue
		}
		codes[i] = x.QoS
		added, fresh = append(added, x), append(fresh, old == nil)
		if old == nil {
			next.Subs = append(next.Subs, x)
			continue
		}
		x.Since = min(x.Since, old.Since)
		*old = x
	}
	if !c.v5 {
		for i := range codes {
			if codes[i] > 2 {
				codes[i] = codeUnspecified // MQTT 3.1.1, 3.9.3
			}
		}
	}
	ack := encode(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Suback}, PacketID: pk.PacketID, ReasonCodes: codes}, c.v5)
	var version uint64
	apply := func(ob *Outbox) {
		c.send(ack, ob)
		s.mu.Lock()
		s.rec.Subs = next.Subs
		s.mu.Unlock()
		for i := range added {
			b.link(s, &added[i])
		}
		version = b.retained.now()
	}
	if err := c.changeSubs(next.Subs, len(added) > 0, apply); err != nil {
		return err
	}
	c.sendRetainedFor(added, fresh, version)
	b.subscribed(c, s, added)
	return nil
}

// changeSubs commits the subscriptions of a persistent session, and then, in the order of
// commits, calls apply. Others are not written. The caller holds the id's lock, so that
// the session is not replaced, or its record written by a new connection, meanwhile.
func (c *Conn) changeSubs(subs []session.Sub, changed bool, apply func(*Outbox)) error {
	s := c.sess
	if !s.persistent || !changed {
		apply(&c.in.ob)
		return nil
	}
	s.mu.Lock()
	rec := s.rec
	s.mu.Unlock()
	rec.Subs = subs
	done := make(chan error, 1)
	err := c.b.db.Do(func(u *store.Unit) error {
		for i := range subs {
			if subs[i].Shared() && subs[i].QoS > 0 {
				c.b.jr.Create(u, groupCursor(subs[i].Filter))
			}
		}
		return session.Save(u, &rec)
	}, func(_ []uint64, err error) {
		if err == nil {
			var ob Outbox
			apply(&ob)
			c.b.Flush(&ob)
		}
		done <- err
	})
	if err == nil {
		err = <-done
	}
	if err != nil {
		return refusal(err)
	}
	return nil
}

// judgeFilter says what SUBACK answers for x, and takes what is not served out of it.
func (c *Conn) judgeFilter(x *session.Sub, filters int) byte {
	l := &c.b.cfg.Limits
	filter := x.Filter
	if share, rest, shared, err := mqtt.SplitShare(x.Filter); shared {
		if err != nil || len(share) > 128 {
			return codeBadFilter
		}
		if x.NoLocal { // [MQTT-3.8.3-4]
			return codeProtocol
		}
		filter = rest
	}
	switch {
	case l.Filters > 0 && filters > l.Filters:
		return codeQuota
	case mqtt.ValidFilter(filter) != nil, strings.Count(filter, "/") >= topicindex.MaxLevels,
		l.TopicBytes > 0 && len(filter) > l.TopicBytes,
		l.TopicSlashes > 0 && strings.Count(filter, "/") > l.TopicSlashes && !strings.HasPrefix(filter, "$aws/"):
		return codeBadFilter
	case strings.HasPrefix(filter, mqtt.House):
		return codeNotAuthorized
	case awstopic.Is(filter) && !awstopic.MaySubscribe(filter): // not served, or one way as Basic Ingest
		return codeNotAuthorized
	case !c.b.az.MaySubscribe(c.info.principal, x.Filter):
		return codeNotAuthorized
	case x.QoS == 2 && !c.b.cfg.QoS2:
		return codeUnspecified
	}
	return 0
}

// sendRetainedFor gives new subscriptions what their topics retain (MQTT 5, 3.8.3.1).
func (c *Conn) sendRetainedFor(subs []session.Sub, fresh []bool, version uint64) {
	s := c.sess
	var list []retainedEntry
	for i := range subs {
		x := &subs[i]
		if x.Shared() || x.Handling == 2 || x.Handling == 1 && !fresh[i] {
			continue
		}
		if !c.b.cfg.RetainedWildcards && strings.ContainsAny(x.Filter, "+#") {
			continue
		}
		g := grant{qos: x.QoS}
		if x.ID > 0 {
			g.ids = []uint32{x.ID}
		}
		list = append(list, c.b.retained.match(x.Filter, version, g)...)
		list = append(list, c.b.sys.match(x.Filter, g)...)
	}
	if len(list) == 0 {
		return
	}
	s.mu.Lock()
	s.ret = append(s.ret, list...)
	s.wake()
	s.mu.Unlock()
}

// unsubscribe answers UNSUBSCRIBE.
func (c *Conn) unsubscribe(pk *packets.Packet) error {
	b, s := c.b, c.sess
	lock := b.idLock(s.id)
	lock.Lock()
	defer lock.Unlock()
	if s.conn.Load() != c {
		return errTakenOver
	}
	s.mu.Lock()
	old := s.rec.Subs
	s.mu.Unlock()
	gone := map[string]bool{}
	codes := make([]byte, len(pk.Filters))
	for i, f := range pk.Filters {
		codes[i] = codeNoSubscription
		if mqtt.ValidFilter(f.Filter) != nil {
			codes[i] = codeBadFilter
		} else if (&session.Record{Subs: old}).Find(f.Filter) != nil && !gone[f.Filter] {
			codes[i] = codeSuccess
			gone[f.Filter] = true
		}
	}
	var left []session.Sub
	for i := range old {
		if !gone[old[i].Filter] {
			left = append(left, old[i])
		}
	}
	ack := encode(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsuback}, PacketID: pk.PacketID, ReasonCodes: codes}, c.v5)
	err := c.changeSubs(left, len(gone) > 0, func(ob *Outbox) {
		for f := range gone {
			b.unlink(s, f)
		}
		s.mu.Lock()
		s.rec.Subs = left
		k := 0
		for _, e := range s.ret {
			if !gone[e.filter] {
				s.ret[k] = e
				k++
			}
		}
		s.ret = s.ret[:k]
		s.mu.Unlock()
		c.send(ack, ob)
	})
	if err == nil {
		b.unsubscribed(c, s, gone)
	}
	return err
}
