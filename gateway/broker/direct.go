package broker

import "tidegate/gateway/mqtt"

// deliverTo gives a run to the one client it is for, whether or not that has subscribed,
// and to nobody else (spec/jobs.md §3). Who is not connected does not get it later: it
// answers a request of a connection.
func (b *Broker) deliverTo(run *mqtt.Run, ob *Outbox) {
	s := b.sessionOf(run.To)
	if s == nil {
		b.stats.unheard.Add(int64(run.Len()))
		return
	}
	c := s.conn.Load()
	if c == nil || run.Principal != "" && s.who().Name() != run.Principal {
		b.stats.unheard.Add(int64(run.Len()))
		return // somebody else has come under that client id
	}
	f := newFan(run, 0)
	v := f.as(s.v5, min(run.QoS, 1), false, nil)
	if v.QoS > 0 {
		s.enqueue(v, run, 0, ob)
	} else {
		c.offer(v, ob)
	}
	f.free()
}
