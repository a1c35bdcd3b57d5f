package broker

import (
	"strings"
	"sync"
	"time"

	"tidegate/gateway/broker/session"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/topicindex"
)

// retainedIndex knows which topics retain something. The messages themselves are on the
// disk.
type retainedIndex struct {
	mu      sync.RWMutex
	topics  topicindex.Topics[retainedMark]
	version uint64
}

// retainedMark is one of them. The version tells a later message from an earlier one.
type retainedMark struct {
	version uint64
	expires int64 // unix second, 0: never
}

// retainedEntry is a retained message that a new subscription has still to get.
type retainedEntry struct {
	topic   string
	version uint64 // 0: of the broker's own, which are always current
	filter  string
	debt    *debt // nil where nothing has to be remembered
	grant
}

// note takes in a message with the RETAIN flag, in the order of commits.
func (x *retainedIndex) note(m *mqtt.Message) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.version++
	if len(m.Payload) == 0 {
		x.topics.Delete(m.Topic)
		return
	}
	mark := retainedMark{version: x.version}
	if m.Props.HasExpiry {
		mark.expires = m.At.Unix() + int64(m.Props.Expiry)
	}
	x.topics.Set(m.Topic, mark) // a topic too deep for it has no route and never gets here
}

func (x *retainedIndex) len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.topics.Len()
}

// full says whether topic would be one too many.
func (x *retainedIndex) full(topic string, limit int) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.topics.Len() < limit {
		return false
	}
	_, known := x.topics.Get(topic)
	return !known
}

// now gives the version that the next message will be later than.
func (x *retainedIndex) now() uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.version
}

// current says whether version is still what topic retains.
func (x *retainedIndex) current(topic string, version uint64) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	m, ok := x.topics.Get(topic)
	return ok && m.version == version
}

// match lists what filter covers as of version.
func (x *retainedIndex) match(filter string, version uint64, g grant) []retainedEntry {
	var list []retainedEntry
	x.mu.RLock()
	x.topics.Match(filter, func(topic string, m retainedMark) bool {
		if m.version <= version {
			list = append(list, retainedEntry{topic: topic, version: m.version, filter: filter, grant: g})
		}
		return true
	})
	x.mu.RUnlock()
	return list
}

// any says whether filter covers something.
func (x *retainedIndex) any(filter string) (some bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	x.topics.Match(filter, func(string, retainedMark) bool { some = true; return false })
	return some
}

// expired gives topics whose retained message has outlived its expiry, at most n.
func (x *retainedIndex) expired(now int64, n int) []string {
	var list []string
	x.mu.RLock()
	x.topics.Match("#", func(topic string, m retainedMark) bool {
		if m.expires != 0 && m.expires <= now {
			list = append(list, topic)
		}
		return len(list) < n
	})
	x.mu.RUnlock()
	return list
}

// drop takes topic out if what it retained has expired.
func (x *retainedIndex) drop(topic string, now int64) {
	x.mu.Lock()
	if m, ok := x.topics.Get(topic); ok && m.expires != 0 && m.expires <= now {
		x.topics.Delete(topic)
	}
	x.mu.Unlock()
}

// retainedMessage gives what topic retains, or tells of the broker itself.
func (b *Broker) retainedMessage(topic string) (mqtt.Message, bool, error) {
	if strings.HasPrefix(topic, mqtt.Sys) {
		m, ok := b.sys.message(b, topic)
		return m, ok, nil
	}
	return session.Retained(b.db, topic)
}

// sendRetained sends the retained messages that wait, as many as there is room for. One
// that was replaced meanwhile is passed over: the subscription has got the later one
// already. The caller, the filler, holds mu, which is released while reading.
func (s *client) sendRetained(c *Conn, ob *Outbox) bool {
	e := s.ret[0]
	s.mu.Unlock()
	m, ok, err := s.b.retainedMessage(e.topic)
	if err != nil {
		s.b.log.Error("a retained message does not read", "topic", e.topic, "err", err)
	}
	now := s.b.clk.Now()
	wait := uint32(0)
	if d := now.Sub(m.At); ok && d >= time.Second {
		wait = uint32(min(d/time.Second, 1<<31))
	}
	if ok && m.Props.HasExpiry && m.Props.Expiry <= wait || ok && !s.b.az.MayReceive(s.who(), e.topic) {
		ok = false
	}
	var v mqtt.Run
	if ok {
		m.Retain = true
		recode(&v, mqtt.NewRun(&m), s.v5, min(m.QoS, e.qos), true, e.ids, wait)
	}
	s.mu.Lock()
	if s.conn.Load() != c || len(s.ret) == 0 || s.ret[0].topic != e.topic || s.ret[0].version != e.version {
		return true
	}
	owes := e.debt
	if owes != nil && owes.old && (v.QoS == 0 || v.QoS == 2 && m.At.UnixNano() > owes.owed) {
		ok = false // not sent twice; or retained after the subscription, which has got it as every message
	}
	if ok && (e.version == 0 || s.b.retained.current(e.topic, e.version)) {
		switch v.QoS {
		case 0:
			if c.clogged() {
				return false
			}
			c.offer(&v, ob)
		case 1:
			if !c.lockOut() || c.full() {
				c.out.mu.Unlock()
				return false
			}
			s.sendOne(c, v.Buf, v.Frames[0].ID, 0, handle{debt: owes})
			c.unlockOut(ob)
			s.b.stats.sent.Add(1)
			owes = nil // until PUBACK
		case 2:
			s.begin2(&outgoing{frame: v.Buf, idAt: v.Frames[0].ID, debt: owes, topic: e.topic, at: m.At.UnixMilli()})
			owes = nil
		}
	}
	s.pay(owes)
	s.ret = s.ret[1:]
	if len(s.ret) == 0 {
		s.ret = nil
	}
	return true
}
