package broker

import (
	"errors"
	"slices"
	"sync"
	"time"

	"tidegate/gateway/broker/session"
	"tidegate/gateway/journal"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// group is a shared subscription: several sessions that get each message once between
// them (MQTT 5, 4.8.2; AWS IoT developer guide, "Shared subscriptions").
//
// Members that are connected and have room take turns. A QoS 1 message whose member goes
// before acknowledging it is given to another; one of QoS 2 stays with its member. What
// no member can take waits: with a persistent member, in the journal, at the group's own
// cursor, else in memory. Locks: a group's before a session's.
type group struct {
	b      *Broker
	name   string // $share/NAME/FILTER
	filter string

	mu      sync.Mutex
	members []member
	turn    int
	ids     uint64
	out     map[uint64]*shared  // with a member and not acknowledged
	given   map[uint64]struct{} // journal numbers of QoS 2 messages that are a member's for good, as on the disk

	coming   int       // subscriptions of persistent sessions that are on their way to the disk
	dropping bool      // its cursor is being given up
	ended    bool      // it is no more, or just about to go: whoever joins makes another
	redo     []*shared // to be given to another member, oldest first
	redoLen  int       // bytes of redo

	cursor  *journal.Cursor
	pinned  uint64
	behind  bool
	pending bool
	pos     uint64
	skip    uint64
	filling bool
	reader  *journal.Reader
	left    *mqtt.Run
	leftAt  uint64
}

type member struct {
	s *client
	subscription
}

// shared is one message of a group on its way.
type shared struct {
	id  uint64
	seq uint64    // journal number, 0: none
	run *mqtt.Run // of this one message
}

func groupCursor(name string) string { return "session/share/" + name }

func (g *group) durable() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.hasPersistent()
}

func (g *group) hasPersistent() bool {
	return slices.ContainsFunc(g.members, func(m member) bool { return m.qos > 0 && m.s.persistent })
}

// deliver gives each message of the run to one member.
func (g *group) deliver(run *mqtt.Run, first uint64, ob *Outbox) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.members) == 0 {
		return
	}
	k, n := 0, len(run.Frames)
	if first != 0 {
		if first+uint64(n) <= g.skip {
			return
		}
		if first < g.skip {
			k = int(g.skip - first)
		}
		if g.behind {
			g.leave(first + uint64(k))
			return
		}
	}
	for ; k < n; k++ {
		m := &shared{run: single(run, k)}
		if first != 0 {
			m.seq = first + uint64(k)
		}
		if len(g.redo) == 0 && g.assign(m, ob) || run.QoS == 0 {
			continue
		}
		if m.seq != 0 && g.cursor != nil {
			g.leave(m.seq)
			break
		}
		m.run = own(m.run)
		g.again(m)
	}
	g.settle()
}

// single gives message i of run as a run of its own, which aliases it.
func single(run *mqtt.Run, i int) *mqtt.Run {
	one := *run
	f := run.Frame(i)
	one.Buf, one.Frames = f, []mqtt.Frame{{ID: run.Frames[i].ID - run.Frames[i].Start}}
	return &one
}

func own(run *mqtt.Run) *mqtt.Run {
	c := *run
	c.Buf, c.Frames, c.Memo = slices.Clone(run.Buf), slices.Clone(run.Frames), nil
	return &c
}

// leave notes that messages from first on are left to the journal.
func (g *group) leave(first uint64) {
	if g.behind = true; !g.pending {
		g.pending, g.pos = true, first
		g.settle()
	}
}

// again keeps m in memory for the next member that has room. Beyond the bound it is lost,
// and the ledger says so.
func (g *group) again(m *shared) {
	if g.redoLen+len(m.run.Buf) > 4*g.b.cfg.SessionMemory {
		g.b.stats.cutOff.Add(1)
		go g.b.lose(journal.Loss{Name: g.name, From: m.seq, To: m.seq, Count: 1, Why: "no member of the shared subscription took it"})
		return
	}
	g.redo = append(g.redo, m)
	g.redoLen += len(m.run.Buf)
}

// assign gives m to a member that takes it, and says whether there was one.
func (g *group) assign(m *shared, ob *Outbox) bool {
	n := len(g.members)
	for i := range n {
		x := &g.members[(g.turn+i)%n]
		if x.s.conn.Load() == nil || !g.b.az.MayReceive(x.s.who(), m.run.Topic) {
			continue
		}
		qos := min(m.run.QoS, x.qos)
		var ids []uint32
		if x.id > 0 {
			ids = []uint32{x.id}
		}
		wait := uint32(0)
		if d := g.b.clk.Now().Sub(m.run.At); d >= time.Second {
			wait = uint32(min(d/time.Second, 1<<31))
		}
		if expired(m.run, 0, wait) {
			g.b.stats.expired.Add(1)
			return true
		}
		f := newFan(m.run, wait)
		v := f.as(x.s.v5, qos, m.run.Retain && x.rap, ids)
		took := false
		switch {
		case qos == 0:
			if c := x.s.conn.Load(); c != nil {
				c.offer(v, ob)
				took = true
			}
		default:
			if m.id == 0 {
				g.ids++
				m.id = g.ids
			}
			lasts := qos == 2 && m.seq != 0 && g.cursor != nil
			if lasts {
				g.given[m.seq] = struct{}{}
			}
			took = x.s.take(v, m.seq, handle{g: g, id: m.id}, lasts, ob)
			switch {
			case took:
				m.run = own(m.run)
				g.out[m.id] = m
			case lasts:
				delete(g.given, m.seq)
			}
		}
		f.free()
		if took {
			g.turn = (g.turn + i + 1) % n
			return true
		}
	}
	return false
}

// handle is what a window keeps of a message beside its number.
type handle struct {
	g    *group // it is a group's
	id   uint64 // there
	debt *debt  // it is a retained one
}

// take is enqueue for a message of a group: it goes into the window at once, or not at all.
// lasts says that the group outlives a restart, and must not give it to another then.
func (s *client) take(v *mqtt.Run, seq uint64, h handle, lasts bool, ob *Outbox) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conn.Load()
	if c == nil || s.gone || s.resend < s.resendEnd || s.room() <= 0 {
		return false
	}
	if v.QoS == 2 {
		if c.clogged() {
			return false
		}
		o := &outgoing{frame: append([]byte(nil), v.Buf...), idAt: v.Frames[0].ID, h: h}
		if lasts {
			o.seq, o.share = seq, h.g.name
		}
		s.begin2(o)
		return true
	}
	if !c.lockOut() || c.full() {
		c.out.mu.Unlock()
		return false
	}
	s.sendOne(c, v.Buf, v.Frames[0].ID, 0, h)
	c.unlockOut(ob)
	s.b.stats.sent.Add(1)
	return true
}

// acked tells that members have acknowledged messages.
func (g *group) acked(ids ...uint64) {
	g.mu.Lock()
	for _, id := range ids {
		delete(g.out, id)
	}
	g.settle()
	g.wake()
	g.mu.Unlock()
}

// giveBack returns the messages of groups that the session has not acknowledged, those of
// one group or of all: it has gone, or left.
func (s *client) giveBack(only *group) {
	back := map[*group][]uint64{}
	s.mu.Lock()
	for i, k := range s.win.kept {
		if k.h.g != nil && (only == nil || k.h.g == only) {
			back[k.h.g] = append(back[k.h.g], k.h.id)
			s.win.ack(s.win.id(i))
		}
	}
	s.mu.Unlock()
	for g, ids := range back {
		g.back(ids)
	}
}

// back takes messages back that a member was to have.
func (g *group) back(ids []uint64) {
	slices.Sort(ids)
	g.mu.Lock()
	var again []*shared
	for _, id := range ids {
		if m := g.out[id]; m != nil {
			delete(g.out, id)
			delete(g.given, m.seq)
			again = append(again, m)
			g.redoLen += len(m.run.Buf)
		}
	}
	g.redo = append(again, g.redo...)
	g.wake()
	g.mu.Unlock()
}

// poke looks whether there is something for members to do.
func (g *group) poke() {
	g.mu.Lock()
	g.wake()
	g.mu.Unlock()
}

func (g *group) wake() {
	if g.filling || !g.behind && len(g.redo) == 0 || g.b.closing.Load() {
		return
	}
	if slices.ContainsFunc(g.members, func(m member) bool { return m.s.conn.Load() != nil }) {
		g.filling = true
		g.b.wg.Add(1)
		go g.fill()
	}
}

// fill gives members what waits, until there is no more or no room.
func (g *group) fill() {
	defer g.b.wg.Done()
	var ob Outbox
	for again := true; again; {
		g.mu.Lock()
		again = g.fillSome(&ob)
		if !again {
			g.filling = false
		}
		g.mu.Unlock()
		if len(ob.conns) > 0 {
			g.b.Flush(&ob)
		}
	}
}

func (g *group) fillSome(ob *Outbox) bool {
	defer g.settle()
	if g.b.closing.Load() {
		return false
	}
	for len(g.redo) > 0 {
		if !g.assign(g.redo[0], ob) {
			return false
		}
		g.redoLen -= len(g.redo[0].run.Buf)
		g.redo = g.redo[1:]
	}
	if !g.behind {
		return false
	}
	if g.left == nil {
		if g.reader == nil {
			g.reader = g.b.jr.Reader(g.pos)
		}
		r := g.reader
		g.mu.Unlock()
		first, run, ok, err := r.Next()
		g.mu.Lock()
		var gap *journal.GapError
		switch {
		case !g.behind || g.reader != r: // the last persistent member has left
			return true
		case errors.As(err, &gap):
			g.b.stats.gaps.Add(1)
			g.pos = max(g.pos, gap.To+1)
			return true
		case err != nil:
			g.b.log.Error("a shared subscription cannot read the journal", "filter", g.name, "err", err)
			g.reader = nil
			g.b.after(time.Second, g.poke)
			return false
		case !ok:
			if g.pos = max(g.pos, r.Pos()); g.pos >= g.b.jr.Next() {
				g.behind, g.pending, g.reader = false, false, nil
				g.skip = max(g.skip, g.pos)
				return false
			}
			return true
		}
		g.left, g.leftAt = run, first
	}
	run, first := g.left, g.leftAt
	k, n := 0, len(run.Frames)
	if g.pos > first {
		k = int(min(g.pos-first, uint64(n)))
	}
	if run.QoS == 0 || !mqtt.Match(g.filter, run.Topic) {
		k = n
	}
	for ; k < n; k++ {
		if _, given := g.given[first+uint64(k)]; !given && !g.assign(&shared{run: single(run, k), seq: first + uint64(k)}, ob) {
			g.pos = first + uint64(k)
			return false
		}
	}
	g.left = nil
	g.pos = max(g.pos, first+uint64(n))
	return true
}

// tidy takes notes of QoS 2 messages off the disk that the cursor has passed.
func (g *group) tidy() {
	g.mu.Lock()
	cur := g.cursor
	var past []uint64
	if cur != nil {
		pos := cur.Pos()
		for seq := range g.given {
			if seq < pos {
				past = append(past, seq)
			}
		}
	}
	g.mu.Unlock()
	if len(past) < manyGiven {
		return
	}
	err := g.b.db.Wait(func(u *store.Unit) error {
		u.Vital = true
		cur.Save(u)
		for _, seq := range past {
			session.DelGiven(u, session.Given{Filter: g.name, Seq: seq})
		}
		return nil
	})
	if err != nil {
		return
	}
	g.mu.Lock()
	for _, seq := range past {
		delete(g.given, seq)
	}
	g.mu.Unlock()
}

// manyGiven is how many notes are worth a commit of their own.
const manyGiven = 64

// restoreShared gives the groups what their members have not released of theirs, before
// cursors move.
func (b *Broker) restoreShared() error {
	err := session.EachGiven(b.db, func(x session.Given) {
		if g := b.groups[x.Filter]; g != nil {
			g.given[x.Seq] = struct{}{}
			return
		}
		name := groupCursor(x.Filter)
		b.orphans[name] = append(b.orphans[name], x.Seq)
	})
	for _, s := range b.sessions {
		for _, o := range s.out2 {
			if g := b.groups[o.share]; g != nil && o.state == session.Sent {
				g.ids++
				o.h = handle{g: g, id: g.ids}
				g.out[g.ids] = &shared{id: g.ids, seq: o.seq}
			}
		}
	}
	return err
}

// settle keeps the group's cursor at its oldest message that is not acknowledged.
func (g *group) settle() {
	if g.cursor == nil {
		return
	}
	low := uint64(0)
	min := func(seq uint64) {
		if seq != 0 && (low == 0 || seq < low) {
			low = seq
		}
	}
	if g.pending {
		min(g.pos)
	}
	for _, m := range g.out {
		min(m.seq)
	}
	for _, m := range g.redo {
		min(m.seq)
	}
	switch {
	case low == g.pinned:
	case low == 0:
		g.cursor.Float()
	case g.pinned == 0:
		g.cursor.Pin(low)
	default:
		g.cursor.Move(low)
	}
	g.pinned = low
}

// lose enters a loss into the ledger.
func (b *Broker) lose(l journal.Loss) {
	err := b.db.Do(func(u *store.Unit) error {
		u.Vital = true
		b.jr.Lose(u, l)
		return nil
	}, nil)
	if err != nil {
		b.log.Error("a loss could not be entered into the ledger", "queue", l.Name, "err", err)
	}
}

// online tells the session's groups that it is there, or is not any more.
func (s *client) online(here bool) {
	if !here {
		s.giveBack(nil)
	}
	s.mu.Lock()
	groups := slices.Clone(s.groups)
	s.mu.Unlock()
	for _, g := range groups {
		g.poke()
	}
}
