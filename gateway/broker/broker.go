// Package broker is the MQTT server: connections, subscriptions, sessions and delivery.
//
// It speaks MQTT 3.1.1 and 5 on any net.Conn (see Transport), QoS 0, 1 and 2. mochi takes
// CONNECT, SUBSCRIBE and their like apart; the traffic itself, PUBLISH and its
// acknowledgements, is scanned where it lies in the read buffer and never copied but
// into the log and the receivers' output (DESIGN.md tells why).
//
// It promises: what a client publishes with QoS 1 or 2 is acknowledged when its
// Publisher says so, which is when it is on the disk wherever that matters; what is
// delivered is delivered in the order of commits, so the order of a publisher holds;
// nothing acknowledged is dropped in silence; and a client that is slow, stuck or hostile
// costs only itself.
//
// It decides nothing about what a message causes: every message goes to the Publisher,
// which calls Deliver when it is committed. It does not listen: connections are handed to
// Serve.
package broker

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/gateway/broker/session"
	"tidegate/gateway/clock"
	"tidegate/gateway/journal"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// Acker is told what became of a run. Ack is called once for each run of QoS 1 and 2, and
// of any QoS when the source is not a client's connection, in the order of commits, either
// from inside Publish or later from another goroutine; run then has the packet ids that
// came from the source, and is good until Ack returns. Ack does not block.
type Acker interface {
	Ack(run *mqtt.Run, err error, ob *Outbox)
}

// Publisher is the road that every message takes. It may keep nothing of run.Buf or
// run.Frames after Publish returns.
type Publisher interface {
	Publish(run *mqtt.Run, from Acker, ob *Outbox)
}

// Stamper is an Acker that has writes of its own for the unit that commits its run: QoS 2
// from a persistent session. Stamped says whether it has, which makes the run durable;
// Stamp adds them and may be called more than once.
type Stamper interface {
	Stamped(run *mqtt.Run) bool
	Stamp(u *store.Unit, run *mqtt.Run)
}

// Deps are the rooms the broker stands on.
type Deps struct {
	Store   *store.Store
	Journal *journal.Journal
	Clock   clock.Clock
	Log     *slog.Logger
	Auth    Authorizer
	Version string // of the gateway, for $SYS/broker/version
}

// Via says how a connection came in.
type Via struct {
	Listener string
	Remote   net.Addr // of the client; behind a proxy not that of the socket
	Hint     any      // what the door knows that the Authorizer wants, such as a signed request

	Until    time.Time // when the connection ends at the latest; zero: never
	UntilWhy string    // disconnectReason of that end, such as WEBSOCKET_TTL_EXPIRATION
}

// Broker is the MQTT server. Its methods may be called concurrently.
type Broker struct {
	cfg       Config
	maxPacket int
	db        *store.Store
	jr        *journal.Journal
	clk       clock.Clock
	log       *slog.Logger
	az        Authorizer
	pub       Publisher
	events    func(Event)

	table      table
	retained   retainedIndex
	flood      flood
	now        atomic.Int64 // second, as of the last sweep
	authGen    atomic.Uint64
	backlog    atomic.Int64 // bytes waiting in outputs, roughly
	queued     atomic.Int64 // bytes queued in memory for sessions, roughly
	publishing publishing
	partial    atomic.Int64 // bytes of read buffers that hold the beginning of a packet
	closing    atomic.Bool
	stats      stats
	sys        *sys
	versions   versions
	desks      sync.Pool
	cursors    atomic.Uint64
	debts      atomic.Int64        // the last that newDebt gave
	restoring  bool                // Open is reading what is on the disk
	orphans    map[string][]uint64 // cursors it found that nobody has any more, see dropCursor
	seed       maphash.Seed
	ids        [256]sync.Mutex // see idLock
	wg         sync.WaitGroup

	mu          sync.Mutex // guards what follows; never held while anything else is called
	sessions    map[string]*client
	groups      map[string]*group
	conns       map[*Conn]struct{}
	unconnected int
	admitting   admitting
	wills       map[string]*session.Will
}

// Open makes a broker with the sessions, retained messages and wills that are on the
// disk. It must be called before the store is started.
func Open(cfg Config, d Deps) (*Broker, error) {
	cfg = cfg.filled()
	b := &Broker{cfg: cfg, maxPacket: cfg.Limits.maxPacket(), db: d.Store, jr: d.Journal, clk: d.Clock, log: d.Log, az: d.Auth,
		sessions: map[string]*client{}, groups: map[string]*group{}, conns: map[*Conn]struct{}{}, wills: map[string]*session.Will{}, seed: maphash.MakeSeed()}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.desks.New = newDesk
	b.table.routes = map[string]*Route{}
	b.table.gen.Store(1)
	b.authGen.Store(1)
	b.events = func(Event) {}
	b.now.Store(b.clk.Now().Unix())
	b.sys = newSys(cfg.SysInterval, d.Version, b.clk.Now())
	if err := b.restore(); err != nil {
		return nil, fmt.Errorf("open broker: %w", err)
	}
	return b, nil
}

// OnPublish names the road. It must be called before Run.
func (b *Broker) OnPublish(p Publisher) { b.pub = p }

// OnEvent names who is told of clients coming and going. fn must not block. It must be
// called before Run.
func (b *Broker) OnEvent(fn func(Event)) { b.events = fn }

// Run keeps time: keep-alives, expiries, wills. When ctx ends every client is told so and
// disconnected.
func (b *Broker) Run(ctx context.Context, ready func()) error {
	tick := b.clk.NewTimer(time.Second)
	defer tick.Stop()
	b.startWills()
	for name, given := range b.orphans {
		b.dropCursor(name, given...)
	}
	b.orphans = nil
	ready()
	for {
		select {
		case <-tick.C():
			b.sweep()
			tick.Reset(time.Second)
		case <-ctx.Done():
			b.closing.Store(true)
			for _, c := range b.connections() {
				c.kick(errShutdown)
			}
			b.wg.Wait()
			return nil
		}
	}
}

// Serve takes over t and returns at once. Beyond the bound of connections before CONNECT t is
// closed.
func (b *Broker) Serve(t *Transport, via Via) {
	if via.Remote == nil {
		via.Remote = t.nc.RemoteAddr()
	}
	c := &Conn{b: b, t: t, via: via}
	c.readFn, c.writeFn = c.readable, c.writable
	b.stats.sockets.Add(1)
	c.keep.Store(int64(b.cfg.ConnectTimeout))
	c.last.Store(b.clk.Now().Unix())
	c.in.connecting = true
	t.own() // before others know of the connection and may end it
	if !b.admit(c) {
		b.stats.turnedAway.Add(1)
		t.Close()
		return
	}
	go c.loop()
}

func (b *Broker) connections() []*Conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]*Conn, 0, len(b.conns))
	for c := range b.conns {
		list = append(list, c)
	}
	return list
}

func (b *Broker) sessionOf(id string) *client {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sessions[id]
}

// adopt makes s the session of its client id.
func (b *Broker) adopt(s *client) {
	b.mu.Lock()
	b.sessions[s.id] = s
	b.mu.Unlock()
}

// idLock gives the lock that everything holds that makes, ends or replaces the session of
// a client id. Several ids share one.
func (b *Broker) idLock(id string) *sync.Mutex {
	return &b.ids[maphash.String(b.seed, id)%uint64(len(b.ids))]
}

// cursorName gives a name that no other cursor has had.
func (b *Broker) cursorName(prefix string) string {
	return "session/" + prefix + "/" + strconv.FormatInt(b.clk.Now().UnixNano(), 36) + strconv.FormatUint(b.cursors.Add(1), 36)
}

// dropCursor removes a cursor that nobody needs any more; that of a group with the notes of
// what its members were given.
func (b *Broker) dropCursor(name string, given ...uint64) {
	err := b.db.Do(func(u *store.Unit) error {
		u.Vital = true
		b.jr.Drop(u, name)
		for _, seq := range given {
			session.DelGiven(u, session.Given{Filter: strings.TrimPrefix(name, groupCursor("")), Seq: seq})
		}
		return nil
	}, nil)
	if err != nil {
		b.log.Warn("a cursor could not be dropped", "cursor", name, "err", err)
	}
}

// after calls f in a goroutine that Run waits for, unless the broker stops before.
func (b *Broker) after(d time.Duration, f func()) {
	b.clk.AfterFunc(d, func() {
		if !b.closing.Load() {
			f()
		}
	})
}

// holdRefused is how long a client of MQTT 3.1.1 is kept waiting whose message was
// refused, before it is disconnected.
const holdRefused = 5 * time.Second

// Reauthorize forgets what policies were asked before: they have changed.
func (b *Broker) Reauthorize() {
	b.authGen.Add(1)
	b.table.invalidate()
}

// Disconnect ends the connection of a client id and says whether there was one.
// withWill says whether its will is published.
func (b *Broker) Disconnect(clientID string, withWill bool) bool {
	s := b.sessionOf(clientID)
	if s == nil {
		return false
	}
	c := s.conn.Load()
	if c == nil {
		return false
	}
	if !withWill {
		b.dropWill(clientID)
	}
	c.kick(errAdministrator)
	return true
}

// Expel ends the connections of a principal that is no longer valid, and says how many.
func (b *Broker) Expel(principal string) int {
	n := 0
	for _, c := range b.connections() {
		if s := c.owner.Load(); s != nil && s.conn.Load() == c && s.who().Name() == principal {
			n++
			c.kick(errUnauthorized)
		}
	}
	return n
}
