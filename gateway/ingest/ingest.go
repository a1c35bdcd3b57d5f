// Package ingest is the one road in: every message, from whichever door, is worked out, committed
// once, acknowledged and delivered here. DESIGN.md tells how and why.
//
// It decides nothing about documents, rules or sessions: it asks the rooms that do, and puts what they
// answer into one store.Unit.
package ingest

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"tidegate/gateway/broker"
	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/journal"
	"tidegate/gateway/logs"
	"tidegate/gateway/metrics"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/rules"
	"tidegate/gateway/store"
)

// maxResults bounds what one message may cause in all, through rules and reserved topics. A request for blocks of
// a stream has up to 512 answers.
const maxResults = 600

// perUnit is how many messages of a run that need looking at one by one share a unit.
const perUnit = 64

// maxPlans bounds the topics whose plan is remembered.
const maxPlans = 1 << 14

// Reserved serves the topics that ask a room for something. Handle adds the room's writes to u and
// hands its answers to reply; it may run several times for one message and must have no other effect.
type Reserved interface {
	Handles(topic string) bool
	Handle(u *store.Unit, m *mqtt.Message, reply func(mqtt.Message)) error
}

// Road is the way every message takes. Its methods may be called concurrently.
type Road struct {
	db       *store.Store
	jr       *journal.Journal
	br       *broker.Broker
	rules    *rules.Engine
	reserved Reserved
	clk      clock.Clock
	log      *slog.Logger

	parcels sync.Pool
	batch   broker.Outbox // of the goroutine that runs Dones

	mu    sync.RWMutex // guards what follows
	plans map[string]*plan
	keep  []keeper
	gen   atomic.Uint64 // counts changes of keep

	runs, messages, direct, refused, cut atomic.Uint64
}

// keeper is somebody who wants messages kept in the journal, by filter.
type keeper struct {
	name    string
	filters []string
}

// plan is what a topic means, as long as it stays true.
type plan struct {
	topic    string
	route    *broker.Route
	rules    *rules.Matched // nil: no rule looks at it
	gen      uint64         // of rules and keepers
	reserved bool
	private  bool // Basic Ingest: addressed to a rule, delivered to nobody
	kept     bool
}

// New builds the road over its rooms and has the store flush connections after each batch.
func New(db *store.Store, jr *journal.Journal, br *broker.Broker, eng *rules.Engine, res Reserved, clk clock.Clock, log *slog.Logger) *Road {
	r := &Road{db: db, jr: jr, br: br, rules: eng, reserved: res, clk: clk, log: log, plans: map[string]*plan{}}
	r.parcels.New = func() any { return newParcel(r) }
	db.OnBatch(func() { br.Flush(&r.batch) })
	return r
}

// Keep tells that name wants messages that match filters kept in the journal; nil ends it. Names are those
// of upstreams, or "history".
func (r *Road) Keep(name string, filters []string) {
	r.mu.Lock()
	r.keep = slices.DeleteFunc(r.keep, func(k keeper) bool { return k.name == name })
	if len(filters) > 0 {
		r.keep = append(r.keep, keeper{name, slices.Clone(filters)})
	}
	clear(r.plans)
	r.gen.Add(1)
	r.mu.Unlock()
}

// Submit sends one message down the road from any door but a client's connection. done, which may be
// nil, is called once, from any goroutine and possibly before Submit returns: with nil when the message and all
// it caused are on disk as far as anybody durable wants them, or with a fault.Error saying why not.
func (r *Road) Submit(m mqtt.Message, done func(error)) {
	if m.At.IsZero() {
		m.At = r.clk.Now()
	}
	ack := ackFunc(done)
	err := m.Check()
	if err == nil && strings.HasPrefix(m.Topic, mqtt.Sys) { // clients are told by the broker
		err = fault.New(fault.Forbidden, "only the broker itself publishes to %s", m.Topic)
	}
	if err == nil && m.Origin == mqtt.REST {
		err = r.br.Admit(1)
	}
	if err != nil {
		ack.Ack(nil, err, nil)
		return
	}
	var ob broker.Outbox
	r.Publish(mqtt.NewRun(&m), ack, &ob)
	r.br.Flush(&ob)
}

// ackFunc makes a function the one who is waiting for a message.
type ackFunc func(error)

// Ack calls the function.
func (f ackFunc) Ack(_ *mqtt.Run, err error, _ *broker.Outbox) {
	if f != nil {
		f(err)
	}
}

// Publish sends a run down the road. from is told when its QoS is above 0, or when it is not a client's
// connection; ob receives the connections that have something to flush by the time Publish returns.
func (r *Road) Publish(run *mqtt.Run, from broker.Acker, ob *broker.Outbox) {
	r.runs.Add(1)
	r.messages.Add(uint64(len(run.Frames)))
	p := r.planFor(run)
	if p.rules != nil || p.reserved || p.private || run.Retain {
		r.walk(run, p, from, ob)
		return
	}
	keep := p.kept || run.QoS > 0 && p.route.Durable
	mark, marked := from.(broker.Stamper)
	marked = marked && mark.Stamped(run)
	switch {
	case !keep && !marked && !run.Ordered:
		r.direct.Add(uint64(len(run.Frames)))
		r.br.Deliver(run, 0, p.route, ob)
		from.Ack(run, nil, ob)
	case run.QoS == 0 && !run.Ordered: // live subscribers need not wait for the disk
		r.br.Deliver(run, 0, p.route, ob)
		r.send(run, p, from, ob, true, true)
		from.Ack(run, nil, ob)
	default:
		r.send(run, p, from, ob, keep, false)
	}
}

// planFor gives what run's topic means.
func (r *Road) planFor(run *mqtt.Run) *plan {
	gen := r.gen.Load() + r.rules.Gen()
	if m := run.Memo; m != nil && m.Topic == run.Topic {
		if p, ok := m.Plan.(*plan); ok && p.gen == gen && p.route.Fresh() {
			return p
		}
	}
	p := r.plan(run.Topic, gen)
	if run.Memo != nil {
		run.Memo.Topic, run.Memo.Plan = p.topic, p
	}
	return p
}

func (r *Road) plan(topic string, gen uint64) *plan {
	r.mu.RLock()
	p := r.plans[topic]
	r.mu.RUnlock()
	if p == nil || p.gen != gen || !p.route.Fresh() {
		p = r.makePlan(topic, gen)
	}
	return p
}

// Wants says whether a message on topic would reach anybody: a session, a rule, a follower, or somebody who has it kept.
// Who makes messages only to tell need not make one that nobody would hear.
func (r *Road) Wants(topic string) bool {
	p := r.plan(topic, r.gen.Load()+r.rules.Gen())
	return p.kept || p.rules != nil || p.reserved || p.route.Targets > 0
}

func (r *Road) makePlan(topic string, gen uint64) *plan {
	route := r.br.Route(topic)
	p := &plan{topic: route.Topic, route: route, gen: gen, reserved: r.reserved.Handles(topic)}
	if m := r.rules.Match(topic); m != nil {
		p.rules, p.private = m, m.Private()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.keep {
		p.kept = p.kept || slices.ContainsFunc(k.filters, func(f string) bool { return mqtt.Match(f, topic) })
	}
	if len(r.plans) >= maxPlans {
		clear(r.plans)
	}
	r.plans[p.topic] = p
	return p
}

// parcel is a plain run on its way through the commit. It is used again.
type parcel struct {
	r      *Road
	unit   *store.Unit
	run    mqtt.Run
	buf    []byte // what run.Buf and the record block point into
	frames []mqtt.Frame
	plan   *plan
	from   broker.Acker
	quiet  bool // delivered and answered already
}

func newParcel(r *Road) *parcel {
	x := &parcel{r: r, unit: r.db.NewUnit()}
	x.unit.Done = x.done
	return x
}

// send commits a plain run, journalled or only in order, and then delivers and acknowledges it.
func (r *Road) send(run *mqtt.Run, p *plan, from broker.Acker, ob *broker.Outbox, keep, quiet bool) {
	x := r.parcels.Get().(*parcel)
	x.run, x.plan, x.from, x.quiet = *run, p, from, quiet
	x.run.Memo, x.run.Topic = nil, p.topic
	x.frames = append(x.frames[:0], run.Frames...)
	x.run.Frames = x.frames
	if keep {
		x.buf = journal.AppendBlock(x.buf[:0], run)
		x.unit.Append(store.Rec{Count: uint32(len(run.Frames)), Data: x.buf})
	} else {
		x.buf = append(x.buf[:0], run.Buf...)
	}
	x.run.Buf = x.buf[len(x.buf)-len(run.Buf):] // a block ends with the frames
	if mark, ok := from.(broker.Stamper); ok {
		mark.Stamp(x.unit, run)
	}
	if err := r.db.Submit(x.unit); err != nil {
		r.refuse(run, err)
		x.free()
		if !quiet {
			from.Ack(run, err, ob)
		}
	}
}

func (x *parcel) done(first []uint64, err error) {
	r := x.r
	if !x.quiet {
		if err == nil {
			var n uint64
			if len(first) > 0 {
				n = first[0]
			}
			r.br.Deliver(&x.run, n, x.plan.route, &r.batch)
		}
		x.from.Ack(&x.run, err, &r.batch)
	}
	x.free()
}

func (x *parcel) free() {
	x.unit.Reset()
	x.run, x.plan, x.from = mqtt.Run{}, nil, nil
	x.r.parcels.Put(x)
}

// refuse counts a run that the store did not take. Who has sent it is told, but with QoS 0 there is nobody to tell: if
// somebody wanted it kept, the ledger has it.
func (r *Road) refuse(run *mqtt.Run, err error) {
	r.refused.Add(uint64(len(run.Frames)))
	if run.QoS == 0 && run.Origin == mqtt.Client {
		r.jr.Miss("qos0", uint64(len(run.Frames)), fault.Message(err))
	}
	if fault.Of(err) == fault.Internal {
		r.log.Error("message refused by the store", logs.Err(err), "topic", run.Topic)
	}
}

// Metrics registers the road's counters.
func (r *Road) Metrics(m *metrics.Set) {
	for _, c := range []struct {
		name, help string
		v          *atomic.Uint64
	}{
		{"tidegate_ingest_runs_total", "Runs of messages that came in.", &r.runs},
		{"tidegate_ingest_messages_total", "Messages that came in, from all doors.", &r.messages},
		{"tidegate_ingest_direct_total", "Messages nobody durable wanted: delivered without a write.", &r.direct},
		{"tidegate_ingest_refused_total", "Messages the store refused.", &r.refused},
		{"tidegate_ingest_cut_total", "Results of rules not followed because one message caused too many.", &r.cut},
	} {
		m.Counter(c.name, c.help, func() float64 { return float64(c.v.Load()) })
	}
}
