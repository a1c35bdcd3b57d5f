package broker

import (
	"sync/atomic"

	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt"
)

// rate counts what a client sends within a second.
type rate struct {
	sec         int64
	msgs, bytes int
}

// publishing counts what all of them send within a second. It is exact to what is counted while a
// second turns.
type publishing struct {
	sec, msgs atomic.Int64
}

// add counts n messages in second sec and gives how many there were in it before.
func (p *publishing) add(sec, n int64) int64 {
	if p.sec.Load() != sec && p.sec.Swap(sec) != sec {
		p.msgs.Store(0)
	}
	return p.msgs.Add(n) - n
}

// Admit counts n messages that come in past the broker, through another door than a client's
// connection, into limits.total_publish_rate. An error is fault.Throttled: they are too many.
func (b *Broker) Admit(n int) error {
	if most := b.cfg.Limits.TotalPublishRate; most > 0 && b.publishing.add(b.now.Load(), int64(n)) >= int64(most) {
		b.publishing.msgs.Add(-int64(n))
		b.stats.overRate.Add(int64(n))
		return errTotalRate
	}
	return nil
}

var errTotalRate = fault.New(fault.Throttled, "more messages a second than the gateway takes from all its clients")

// overTotal says whether n messages of c, neighbours in one run, are more than the gateway takes: the
// limit was reached before them. Who has not sent an equal share of it within this second gets
// through nevertheless, so that a flood of one shuts nobody out; all together can so come to
// twice the limit.
func (c *Conn) overTotal(n int) bool {
	most := c.b.cfg.Limits.TotalPublishRate
	if most == 0 {
		return false
	}
	own, now := &c.in.share, c.b.now.Load()
	if own.sec != now {
		*own = rate{sec: now}
	}
	share := max(1, most/max(1, int(c.b.stats.online.Load())))
	if c.b.publishing.add(now, int64(n)) < int64(most) || own.msgs < share {
		own.msgs += n
		return false
	}
	c.b.publishing.msgs.Add(-int64(n))
	return true
}

// throttle answers a run that is beyond what the gateway takes: PUBACK or PUBREC with 0x97, which
// MQTT 3.1.1 does not have (see Ack). With QoS 0 there is nobody to tell; the ledger is.
func (c *Conn) throttle(r *mqtt.Run) {
	c.b.stats.overRate.Add(int64(len(r.Frames)))
	if r.QoS == 0 {
		c.b.jr.Miss("qos0", uint64(len(r.Frames)), fault.Message(errTotalRate))
	}
	c.Ack(r, errTotalRate, &c.in.ob)
}
