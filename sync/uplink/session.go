package uplink

import (
	"context"
	"crypto/tls"
	"errors"

	"tidegate/gateway/fault"
	"tidegate/gateway/journal"
	"tidegate/gateway/logs"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqttclient"
)

// session is one connection from beginning to end. It calls up once it is ready to
// send, and returns why it has ended.
func (u *Uplink) session(ctx context.Context, up func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	password, err := u.cfg.Password.Reveal(u.Env)
	if err != nil {
		return err
	}
	cc := mqttclient.Config{URL: u.cfg.URL, ClientID: u.cfg.ClientID, User: u.cfg.User, Password: password, KeepAlive: u.cfg.KeepAlive,
		KeepSession: u.keepsSession(), Dial: u.Dial, OnMessage: func(m *mqttclient.Message) { u.take(m, cancel) }}
	if cc.TLS, err = u.cfg.TLS.Load(); err != nil {
		return err
	}
	if u.cfg.TLS.Key == mqttclient.OwnKey {
		if u.Identity == nil {
			return fault.New(fault.Unavailable, "there is no key of the gateway's own")
		}
		own, err := u.Identity(u.cfg.TLS.Cert)
		if err != nil {
			return err
		}
		cc.TLS.Certificates = []tls.Certificate{*own}
	}
	c, err := mqttclient.Connect(ctx, cc)
	if err != nil {
		return err
	}
	u.mu.Lock()
	u.conn = c
	u.mu.Unlock()
	u.connects.Add(1)
	defer u.hangUp(c)
	if len(u.down) > 0 {
		filters := map[string]byte{}
		for _, r := range u.down {
			filters[r.filter] = max(filters[r.filter], r.qos)
		}
		if err := c.Subscribe(ctx, filters); err != nil {
			return err
		}
	}
	up()
	return u.forward(ctx, c)
}

// keepsSession says whether the upstream is asked to keep what it could not deliver.
func (u *Uplink) keepsSession() bool {
	for _, r := range u.down {
		if r.qos > 0 {
			return true
		}
	}
	return false
}

func (u *Uplink) hangUp(c *mqttclient.Client) {
	c.Close()
	in, out := c.Bytes()
	u.mu.Lock()
	u.conn = nil
	u.mu.Unlock()
	u.bytesIn.Add(in)
	u.bytesOut.Add(out)
}

// sent is a message on its way, with where the cursor goes once it has arrived.
type sent struct {
	tok  *mqttclient.Token
	next uint64
}

// forward sends what the journal has from the cursor on, until the connection or ctx
// ends.
func (u *Uplink) forward(ctx context.Context, c *mqttclient.Client) error {
	news, stop := u.Journal.Watch()
	defer stop()
	defer u.inFlight.Store(0)
	f := flow{u: u, c: c, r: u.Journal.Reader(u.cursor.Pos())}
	late := u.Clock.NewTimer(u.cfg.AckTimeout)
	defer late.Stop()
	for {
		if err := f.fill(); err != nil {
			return err
		}
		if len(f.window) == 0 { // all that was read is done with
			u.cursor.Move(f.r.Pos())
		}
		var head, over <-chan struct{}
		if len(f.window) > 0 {
			head = f.window[0].tok.Done()
		}
		var more <-chan struct{}
		if len(f.window) < u.cfg.Window {
			more = news
		}
		select {
		case <-head:
		case <-more:
			continue
		case <-c.Done():
			over = c.Done()
		case <-ctx.Done():
			over = ctx.Done()
		case <-late.C():
			if len(f.window) > 0 && !f.progress {
				return fault.New(fault.Timeout, "no acknowledgement for %v", u.cfg.AckTimeout)
			}
			f.progress = false
			late.Reset(u.cfg.AckTimeout)
			continue
		}
		err := f.settle()
		switch {
		case err != nil:
			return err
		case over == nil:
		case c.Err() != nil:
			return c.Err()
		case context.Cause(ctx) != nil:
			return context.Cause(ctx)
		default:
			return mqttclient.ErrClosed
		}
	}
}

// flow is the way of messages over one connection.
type flow struct {
	u        *Uplink
	c        *mqttclient.Client
	r        *journal.Reader
	window   []sent // oldest first
	progress bool   // something was sent first or acknowledged since this was last set back

	run   *mqtt.Run // being sent, from message i on, which has the number first+i
	first uint64
	i     int
	to    *route
	topic string
}

// fill publishes until the window is full or the journal has no more.
func (f *flow) fill() error {
	for len(f.window) < f.u.cfg.Window {
		if f.run == nil {
			first, run, ok, err := f.r.Next()
			var gap *journal.GapError
			switch {
			case errors.As(err, &gap):
				f.u.lost.Add(gap.To - gap.From + 1)
				f.u.Log.Warn("messages are gone from the journal before they could be sent", "from", gap.From, "to", gap.To, logs.Err(err))
				continue
			case err != nil:
				return err
			case !ok:
				return nil
			}
			if run.Origin == mqtt.Cloud && run.From == f.u.cfg.Name {
				continue // it came from there
			}
			if f.to = f.u.up.find(run.Topic); f.to == nil {
				continue
			}
			f.run, f.first, f.i, f.topic = run, first, 0, f.to.topic(run.Topic)
		}
		tok := f.c.Publish(f.topic, f.to.qos, f.run.Retain, f.run.Payload(f.i))
		if len(f.window) == 0 {
			f.progress = true // the wait for this one begins now
		}
		f.window = append(f.window, sent{tok, f.first + uint64(f.i) + 1})
		f.u.inFlight.Store(int64(len(f.window)))
		if f.i++; f.i == f.run.Len() {
			f.run = nil
		}
		select { // a lost connection answers every publish at once
		case <-f.c.Done():
			return nil
		default:
		}
	}
	return nil
}

// settle takes what is acknowledged from the head of the window and moves the cursor
// over it. A message that has failed ends the connection.
func (f *flow) settle() error {
	var done uint64
	defer func() {
		if done > 0 {
			f.u.cursor.Move(done)
			f.progress = true
			f.u.inFlight.Store(int64(len(f.window)))
		}
	}()
	for len(f.window) > 0 {
		select {
		case <-f.window[0].tok.Done():
		default:
			return nil
		}
		if err := f.window[0].tok.Err(); err != nil {
			return err
		}
		done = f.window[0].next
		f.window[0] = sent{}
		f.window = f.window[1:]
		f.u.sent.Add(1)
	}
	return nil
}

// take sends a message that came down on the road. A refusal that may pass ends the
// session, so that the upstream sends the message again; any other drops it.
func (u *Uplink) take(m *mqttclient.Message, end context.CancelCauseFunc) {
	u.received.Add(1)
	r := u.down.find(m.Topic)
	if r == nil { // a subscription of an older configuration in a session that was kept
		u.drop(m, "it fits no route", nil)
		return
	}
	msg := mqtt.Message{Topic: r.topic(m.Topic), Payload: m.Payload, QoS: m.QoS, Retain: m.Retain, From: u.cfg.Name,
		Origin: mqtt.Cloud, At: u.Clock.Now()}
	u.Submit(msg, func(err error) {
		switch fault.Of(err) {
		case fault.Full, fault.Unavailable, fault.Throttled, fault.Timeout:
			if m.QoS > 0 {
				end(fault.Wrap(fault.Unavailable, err, "a message that came down cannot be taken now"))
				return
			}
		}
		if err != nil {
			u.drop(m, "it is refused", err)
			return
		}
		m.Ack()
	})
}

func (u *Uplink) drop(m *mqttclient.Message, why string, err error) {
	if n := u.dropped.Add(1); n&(n-1) == 0 {
		u.Log.Warn("a message that came down is dropped", "why", why, logs.Topic, m.Topic, logs.Err(err), "count", n)
	}
	if m.QoS > 0 { // the upstream is told that we have it
		u.Journal.Miss("down/"+u.cfg.Name, 1, "a message from the upstream was not taken: "+why)
	}
	m.Ack()
}
