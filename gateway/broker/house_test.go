package broker_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/broker"
	"tidegate/gateway/broker/session"
	"tidegate/gateway/clock"
	"tidegate/gateway/journal"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
	"tidegate/test/rawmqtt"
)

var system = clock.System()

// house is a broker on a real store and journal, listening on a real port, with the
// shortest road between them.
type house struct {
	t    *testing.T
	dir  string
	cfg  broker.Config
	auth *auth
	clk  clock.Clock
	ev   chan broker.Event
	disk store.SyncDelay // zero: the machine's own

	db   *store.Store
	jr   *journal.Journal
	br   *broker.Broker
	road *road
	ln   net.Listener
	addr string
	stop context.CancelFunc
	done chan struct{}
}

func open(t *testing.T, change ...func(*house)) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), cfg: broker.DefaultConfig(), auth: &auth{}, clk: system, ev: make(chan broker.Event, 10000)}
	for _, f := range change {
		f(h)
	}
	h.up()
	t.Cleanup(h.down)
	return h
}

func (h *house) up() {
	h.t.Helper()
	cfg := store.DefaultConfig(h.dir)
	cfg.Ballast, cfg.SyncDelay = 0, h.disk
	db, err := store.Open(cfg, h.clk)
	if err != nil {
		h.t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("BROKER_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	jr, err := journal.Open(db, h.clk, log, journal.DefaultConfig())
	if err != nil {
		h.t.Fatal(err)
	}
	br, err := broker.Open(h.cfg, broker.Deps{Store: db, Journal: jr, Clock: h.clk, Log: log, Auth: h.auth, Version: "1.2.3"})
	if err != nil {
		h.t.Fatal(err)
	}
	h.db, h.jr, h.br = db, jr, br
	h.road = newRoad(db, br)
	br.OnPublish(h.road)
	br.OnEvent(func(e broker.Event) {
		select {
		case h.ev <- e:
		default:
		}
	})
	db.Start()
	ctx, stop := context.WithCancel(context.Background())
	h.stop, h.done = stop, make(chan struct{})
	ready := make(chan struct{})
	go func() {
		br.Run(ctx, func() { close(ready) })
		close(h.done)
	}()
	<-ready
	if h.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		h.t.Fatal(err)
	}
	h.addr = h.ln.Addr().String()
	ln := h.ln
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			br.Serve(broker.Plain(nc), broker.Via{Listener: "test"})
		}
	}()
}

func (h *house) down() {
	if h.ln == nil {
		return
	}
	h.ln.Close()
	h.stop()
	<-h.done
	if err := h.db.Close(); err != nil {
		h.t.Error(err)
	}
	h.ln = nil
}

func (h *house) restart() {
	h.t.Helper()
	h.down()
	h.up()
}

// road commits and delivers, and causes nothing else.
type road struct {
	db  *store.Store
	br  *broker.Broker
	ob  broker.Outbox
	err func(*mqtt.Run) error // refuses runs when set
}

func newRoad(db *store.Store, br *broker.Broker) *road {
	r := &road{db: db, br: br}
	db.OnBatch(func() { br.Flush(&r.ob) })
	return r
}

func (r *road) Publish(run *mqtt.Run, from broker.Acker, ob *broker.Outbox) {
	if r.err != nil {
		if err := r.err(run); err != nil {
			from.Ack(run, err, ob)
			return
		}
	}
	route := r.br.Route(run.Topic)
	st, _ := from.(broker.Stamper)
	stamped := st != nil && st.Stamped(run)
	keep := run.QoS > 0 && route.Durable
	if !keep && !stamped && !run.Retain && !run.Ordered {
		r.br.Deliver(run, 0, route, ob)
		from.Ack(run, nil, ob)
		return
	}
	c := *run
	c.Buf, c.Frames, c.Memo = append([]byte(nil), run.Buf...), append([]mqtt.Frame(nil), run.Frames...), nil
	err := r.db.Do(func(u *store.Unit) error {
		if keep {
			u.Append(journal.Block(&c))
		}
		if stamped {
			st.Stamp(u, &c)
		}
		session.Retain(u, &c)
		return nil
	}, func(first []uint64, err error) {
		n := uint64(0)
		if len(first) > 0 {
			n = first[0]
		}
		if err == nil {
			r.br.Deliver(&c, n, route, &r.ob)
		}
		from.Ack(&c, err, &r.ob)
	})
	if err != nil {
		from.Ack(&c, err, ob)
	}
}

// auth lets everybody do everything but what contains a forbidden word.
type auth struct {
	wrap    func(broker.Principal) broker.Principal // makes principals of another kind
	hide    string                                  // nobody gets what begins with it; empty: nothing is hidden
	receive func(topic string)                      // is told of every question
	strict  bool                                    // nobody may publish any more
	lenient bool                                    // but their wills
}

type name string

func (n name) Name() string { return string(n) }

func (a *auth) Connect(r *broker.ConnectRequest) (broker.Principal, error) {
	if r.Username == "bad" {
		return nil, unauthorized
	}
	if a.wrap != nil {
		return a.wrap(name("p:" + r.Username)), nil
	}
	return name("p:" + r.Username), nil
}
func (*auth) Restore(n, _ string) broker.Principal { return name(n) }
func (a *auth) MayPublish(_ broker.Principal, topic string, _ bool) bool {
	return !strings.Contains(topic, "nopub") && !a.strict
}
func (a *auth) MayLeave(p broker.Principal, topic string, retain bool) bool {
	return a.lenient || a.MayPublish(p, topic, retain)
}
func (*auth) MaySubscribe(_ broker.Principal, f string) bool { return !strings.Contains(f, "nosub") }
func (a *auth) MayReceive(_ broker.Principal, topic string) bool {
	if a.receive != nil {
		a.receive(topic)
	}
	return !strings.Contains(topic, "norecv") && (a.hide == "" || !strings.HasPrefix(topic, a.hide))
}

// peer is a client that sees every packet.
type peer struct {
	t *testing.T
	*rawmqtt.Conn
	present bool
	id      uint16
}

func (h *house) dial(o rawmqtt.Options) *peer {
	h.t.Helper()
	if o.ReadBuffer == 0 {
		o.ReadBuffer = 256 << 10
	}
	c, present, err := rawmqtt.Dial(h.addr, o)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Conn.Close() })
	return &peer{t: h.t, Conn: c, present: present}
}

func (h *house) raw() net.Conn {
	h.t.Helper()
	nc, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { nc.Close() })
	return nc
}

const patience = 30 * time.Second

// next gives the next packet of type typ; another type is a failure.
func (p *peer) next(typ byte) rawmqtt.Packet {
	p.t.Helper()
	p.SetReadDeadline(time.Now().Add(patience))
	pk, err := p.Next()
	if err != nil {
		p.t.Fatalf("waiting for packet type %d: %v", typ, err)
	}
	if pk.Type != typ {
		p.t.Fatalf("packet type %d (code 0x%02x, topic %q), want %d", pk.Type, pk.Code, pk.Topic, typ)
	}
	return pk
}

// silent makes sure nothing has been sent up to now: a ping comes back first.
func (p *peer) silent() {
	p.t.Helper()
	p.write([]byte{rawmqtt.Pingreq << 4, 0})
	p.next(rawmqtt.Pingresp)
}

// closed makes sure the server ends the connection and gives the DISCONNECT code, if any.
func (p *peer) closed() byte {
	p.t.Helper()
	p.SetReadDeadline(time.Now().Add(patience))
	code := byte(0)
	for {
		pk, err := p.Next()
		if err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				p.t.Fatal("the connection is still open")
			}
			return code
		}
		if pk.Type == rawmqtt.Disconnect {
			code = pk.Code
		}
	}
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	if _, err := p.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) sub(qos byte, filters ...string) {
	p.t.Helper()
	p.id++
	p.write(rawmqtt.AppendSubscribe(nil, p.V5, p.id, qos, filters...))
	pk := p.next(rawmqtt.Suback)
	if pk.ID != p.id || pk.Code != qos {
		p.t.Fatalf("SUBACK id %d code 0x%02x", pk.ID, pk.Code)
	}
}

// pub publishes and, with QoS 1, waits for the PUBACK.
func (p *peer) pub(topic, payload string, qos byte, flags byte) {
	p.t.Helper()
	p.id++
	p.write(rawmqtt.AppendPublish(nil, p.V5, topic, []byte(payload), qos, p.id, flags))
	switch qos {
	case 1:
		if pk := p.next(rawmqtt.Puback); pk.ID != p.id || pk.Code != 0 {
			p.t.Fatalf("PUBACK id %d code 0x%02x", pk.ID, pk.Code)
		}
	case 2:
		if pk := p.next(rawmqtt.Pubrec); pk.ID != p.id || pk.Code != 0 {
			p.t.Fatalf("PUBREC id %d code 0x%02x", pk.ID, pk.Code)
		}
		p.write(rawmqtt.AppendAck(nil, rawmqtt.Pubrel, p.id))
		if pk := p.next(rawmqtt.Pubcomp); pk.ID != p.id || pk.Code != 0 {
			p.t.Fatalf("PUBCOMP id %d code 0x%02x", pk.ID, pk.Code)
		}
	}
}

// get takes a PUBLISH, acknowledges it, and checks what it is.
func (p *peer) get(topic, payload string, qos byte, flags byte) rawmqtt.Packet {
	p.t.Helper()
	pk := p.next(rawmqtt.Publish)
	if string(pk.Topic) != topic || string(pk.Payload) != payload || pk.QoS() != qos || pk.Flags&9 != flags {
		p.t.Fatalf("got %q %q QoS %d flags %d, want %q %q QoS %d flags %d", pk.Topic, pk.Payload, pk.QoS(), pk.Flags&9, topic, payload, qos, flags)
	}
	switch qos {
	case 1:
		p.write(rawmqtt.AppendAck(nil, rawmqtt.Puback, pk.ID))
	case 2:
		id := pk.ID
		p.write(rawmqtt.AppendAck(nil, rawmqtt.Pubrec, id))
		if rel := p.next(rawmqtt.Pubrel); rel.ID != id {
			p.t.Fatalf("PUBREL %d, want %d", rel.ID, id)
		}
		p.write(rawmqtt.AppendAck(nil, rawmqtt.Pubcomp, id))
	}
	return pk
}
