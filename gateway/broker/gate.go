package broker

import (
	"net"
	"net/netip"
	"slices"
)

// What a connection may cost before and besides its messages: places before CONNECT, connections
// in all, CONNECTs a second, and read buffers that hold the beginning of a packet.

// minProgress is how many bytes of an unfinished packet count as a sign of life, as a packet does.
// Less is no client on a slow line, but one that wants to hold a connection at no cost.
const minProgress = 256

// patienceHalf is how many seconds a packet may always take to come whole.
const patienceHalf = 5

// admitting counts connections and CONNECTs. The broker's mu guards it.
type admitting struct {
	silent map[netip.Addr]int // connections that have not sent CONNECT, by where they come from
	sec    int64              // the second that connects are counted in
	all    int
	of     map[string]int // by client id
}

// network gives what counts as one place: an address of IPv4, 64 bits of IPv6.
func network(a net.Addr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.Is6() {
		p, _ := ip.Prefix(64) // of 128 bits: it cannot fail
		ip = p.Addr()
	}
	return ip
}

// admit takes in a connection that has not sent CONNECT yet, and says whether there is a place for
// it. One network gets no more than three quarters of them, so that it keeps nobody else out.
func (b *Broker) admit(c *Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	from := network(c.via.Remote)
	most, full := b.cfg.Unconnected, b.cfg.Connections > 0 && len(b.conns) >= b.cfg.Connections+b.cfg.Unconnected
	if b.closing.Load() || full || b.unconnected >= most || b.admitting.silent[from] >= max(1, most-most/4) {
		return false
	}
	if b.admitting.silent == nil {
		b.admitting.silent = map[netip.Addr]int{}
	}
	b.conns[c] = struct{}{}
	b.unconnected++
	b.admitting.silent[from]++
	b.wg.Add(1)
	return true
}

// connecting notes that c has sent its CONNECT, or is gone.
func (b *Broker) connecting(c *Conn) {
	if !c.in.connecting {
		return
	}
	c.in.connecting = false
	from := network(c.via.Remote)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unconnected--
	if b.admitting.silent[from]--; b.admitting.silent[from] <= 0 {
		delete(b.admitting.silent, from)
	}
}

// crowded says why a client that was let in cannot stay: there are too many, or it comes too
// often. Who takes over its own connection needs no place.
func (b *Broker) crowded(id string) *Reason {
	now := b.now.Load()
	old := b.sessionOf(id)
	over := old != nil && old.conn.Load() != nil
	l := &b.cfg.Limits
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.conns) - b.unconnected; b.cfg.Connections > 0 && n > b.cfg.Connections && !over {
		return errManyConnections
	}
	a := &b.admitting
	if l.ConnectRate == 0 && l.ClientConnectRate == 0 {
		return nil
	}
	if a.sec != now || a.of == nil {
		a.sec, a.all, a.of = now, 0, map[string]int{}
	}
	if l.ConnectRate > 0 && a.all >= l.ConnectRate || l.ClientConnectRate > 0 && a.of[id] >= l.ClientConnectRate {
		return errConnectRate
	}
	a.all++
	a.of[id]++
	return nil
}

// holding notes what the reader keeps while it waits: a buffer with the beginning of a packet, or
// nothing.
func (c *Conn) holding() {
	in := &c.in
	n := int64(0)
	if in.desk != nil {
		n = int64(len(in.rb))
	}
	if n == in.held && (n == 0 || !in.whole) {
		return
	}
	since := int64(0)
	if n > 0 {
		since = c.b.now.Load()
	}
	c.b.partial.Add(n - in.held)
	in.held, in.whole = n, false
	c.half.Store(since)
}

// relieve cuts off those who wait longest with half a packet while all of them together hold more
// than they may.
func (b *Broker) relieve(now int64) {
	over := b.partial.Load() - int64(b.cfg.InputBuffer)
	if over <= 0 {
		return
	}
	type holder struct {
		c     *Conn
		since int64
	}
	var all []holder
	for _, c := range b.connections() {
		if since := c.half.Load(); since != 0 && now-since >= patienceHalf {
			all = append(all, holder{c, since})
		}
	}
	slices.SortFunc(all, func(x, y holder) int { return int(x.since - y.since) })
	for i := 0; i < len(all) && over > 0; i++ {
		over -= readBuffer
		b.stats.halfSent.Add(1)
		go all[i].c.kick(errHalfSent)
	}
}
