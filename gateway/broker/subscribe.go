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
	var asks []bool // for what is retained
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
		sends := b.sendsRetained(&x, old == nil)
		switch {
		case sends && s.persistent && b.retained.any(x.Filter):
			x.Owed = b.newDebt()
		case !sends && old != nil:
			x.Owed = old.Owed
		}
		added, asks = append(added, x), append(asks, sends)
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
	var expected []*group
	apply := func(ob *Outbox) {
		c.cork() // SUBACK goes before what the subscription brings, but not before it holds
		c.send(ack, ob)
		s.mu.Lock()
		s.rec.Subs = next.Subs
		s.mu.Unlock()
		for i := range added {
			b.link(s, &added[i])
		}
		c.uncork(ob)
		for _, g := range expected {
			g.arrived()
		}
		version = b.retained.now()
	}
	put := func(u *store.Unit) error {
		expected = expected[:0]
		for i := range added {
			if added[i].Shared() {
				if g := b.expect(u, &added[i]); g != nil {
					expected = append(expected, g)
				}
			}
			if err := session.PutSub(u, s.id, next.Find(added[i].Filter)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := c.changeSubs(len(added) > 0, put, apply); err != nil {
		return err
	}
	c.sendRetainedFor(added, asks, version)
	b.subscribed(c, s, added)
	return nil
}

// changeSubs commits what write says of the subscriptions of a persistent session, and
// then, in the order of commits, calls apply. Others are not written. The caller holds the
// id's lock, so that the session is not replaced meanwhile.
func (c *Conn) changeSubs(changed bool, write func(*store.Unit) error, apply func(*Outbox)) error {
	s := c.sess
	if !s.persistent || !changed {
		apply(&c.in.ob)
		return nil
	}
	done := make(chan error, 1)
	err := c.b.db.Do(func(u *store.Unit) error {
		u.Lock(sessionLock(s.id))
		return write(u)
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
	case strings.HasPrefix(filter, mqtt.House), awstopic.Is(filter) && !awstopic.MaySubscribe(filter): // ours, not served, or one way as Basic Ingest
		c.b.trespassed(c.info.principal, "subscribe", x.Filter)
		return codeNotAuthorized
	case !c.b.az.MaySubscribe(c.info.principal, x.Filter):
		return codeNotAuthorized
	case x.QoS == 2 && !c.b.cfg.QoS2:
		return codeUnspecified
	}
	return 0
}

// sendRetainedFor gives new subscriptions what their topics retain (MQTT 5, 3.8.3.1).
func (c *Conn) sendRetainedFor(subs []session.Sub, asks []bool, version uint64) {
	s := c.sess
	for i := range subs {
		if !asks[i] {
			continue
		}
		x := &subs[i]
		g := grantOfSub(x)
		list := c.b.retained.match(x.Filter, version, g)
		s.mu.Lock()
		if s.persistent {
			s.owe(x.Filter, x.Owed, list)
		}
		s.ret = append(append(s.ret, list...), c.b.sys.match(x.Filter, g)...)
		s.wake()
		s.mu.Unlock()
	}
}

// sendsRetained says whether x, just made, is to get what its topics retain.
func (b *Broker) sendsRetained(x *session.Sub, fresh bool) bool {
	return !x.Shared() && (x.Handling == 0 || x.Handling == 1 && fresh) && (b.cfg.RetainedWildcards || !strings.ContainsAny(x.Filter, "+#"))
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
	del := func(u *store.Unit) error {
		for f := range gone {
			session.DelSub(u, s.id, f)
		}
		return nil
	}
	err := c.changeSubs(len(gone) > 0, del, func(ob *Outbox) {
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
			} else {
				s.pay(e.debt)
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
