package broker

import (
	"time"

	"tidegate/gateway/broker/session"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// Wills are kept on the disk from CONNECT until they were published or withdrawn, and
// published through the same road as every message.

// armWill takes in the will of a client that has just connected.
func (b *Broker) armWill(id string, w *session.Will) {
	b.mu.Lock()
	b.wills[id] = w
	b.mu.Unlock()
}

// dropWill withdraws the will of a client.
func (b *Broker) dropWill(id string) {
	b.mu.Lock()
	_, had := b.wills[id]
	delete(b.wills, id)
	b.mu.Unlock()
	if had {
		b.unwrite(id)
	}
}

func (b *Broker) unwrite(id string) {
	err := b.db.Do(func(u *store.Unit) error {
		u.Vital = true
		session.DelWill(u, id)
		return nil
	}, nil)
	if err != nil {
		b.log.Warn("a will could not be deleted", "client", id, "err", err)
	}
}

// willDue says that the will of a client, if it has one, is to be published now, or
// after its delay where its session goes on: a client that is back before that has
// withdrawn it ([MQTT-3.1.3-9]). expiry is the session's; its end is the will's at the latest.
func (b *Broker) willDue(id string, resume bool, expiry uint32) {
	b.mu.Lock()
	w := b.wills[id]
	b.mu.Unlock()
	if w == nil {
		return
	}
	if !resume || w.Delay == 0 {
		if w.Due.IsZero() || !resume {
			b.publishWill(id, w)
		}
		return
	}
	if expiry == 0 || !w.Due.IsZero() { // it was taken over, or has come back in time
		b.dropWill(id)
		return
	}
	due := *w
	delay := w.Delay
	if expiry != session.Never {
		delay = min(delay, time.Duration(expiry)*time.Second)
	}
	due.Due = b.clk.Now().Add(delay)
	b.mu.Lock()
	b.wills[id] = &due
	b.mu.Unlock()
	err := b.db.Do(func(u *store.Unit) error { session.PutWill(u, id, &due); return nil }, nil)
	if err != nil {
		b.log.Warn("a will could not be saved", "client", id, "err", err)
	}
}

// startWills sees to the wills of clients that were connected when the gateway stopped:
// their delays begin now.
func (b *Broker) startWills() {
	now := b.clk.Now()
	b.mu.Lock()
	for id, w := range b.wills {
		if w.Due.IsZero() {
			due := *w
			due.Due = now.Add(w.Delay)
			b.wills[id] = &due
		}
	}
	b.mu.Unlock()
}

// sendDueWills publishes what is due.
func (b *Broker) sendDueWills(now time.Time) {
	due := map[string]*session.Will{}
	b.mu.Lock()
	for id, w := range b.wills {
		if !w.Due.IsZero() && !now.Before(w.Due) {
			due[id] = w
		}
	}
	b.mu.Unlock()
	for id, w := range due {
		lock := b.idLock(id)
		lock.Lock()
		b.mu.Lock()
		same := b.wills[id] == w
		b.mu.Unlock()
		if same {
			b.publishWill(id, w)
		}
		lock.Unlock()
	}
}

// publishWill sends the will down the road.
func (b *Broker) publishWill(id string, w *session.Will) {
	b.mu.Lock()
	delete(b.wills, id)
	b.mu.Unlock()
	m := w.Message
	m.At = b.clk.Now()
	var p Principal
	if s := b.sessionOf(id); s != nil {
		p = s.who()
	}
	if p == nil {
		p = b.az.Restore(m.Principal, id)
	}
	may := b.az.MayPublish
	if x, ok := b.az.(WillJudge); ok {
		may = x.MayLeave
	}
	if b.closed(m.Topic, m.Retain) || !may(p, m.Topic, m.Retain) { // the policy may have changed since CONNECT
		b.stats.refused.Add(1)
		b.unwrite(id)
		return
	}
	b.stats.wills.Add(1)
	var ob Outbox
	run := mqtt.NewRun(&m)
	b.pub.Publish(run, willAcker{b, id}, &ob)
	b.Flush(&ob)
}

// willAcker removes a will that is committed. One that was refused goes, too: a client
// is not owed more.
type willAcker struct {
	b  *Broker
	id string
}

func (a willAcker) Ack(_ *mqtt.Run, err error, _ *Outbox) {
	if err != nil {
		a.b.log.Warn("a will was refused", "client", a.id, "err", err)
	}
	go func() { // not here: an Ack must neither submit nor wait
		lock := a.b.idLock(a.id)
		lock.Lock()
		defer lock.Unlock()
		a.b.mu.Lock()
		_, another := a.b.wills[a.id]
		a.b.mu.Unlock()
		if !another {
			a.b.unwrite(a.id)
		}
	}()
}
