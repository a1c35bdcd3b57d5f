package listen

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// share divides places among those who come: so many in all, and of these so many for one
// address, so that nobody takes them all.
type share struct {
	total, each int
	// patience is how long a holder keeps its place while others wait; then its cut is
	// called. Zero: forever.
	patience time.Duration

	mu      sync.Mutex // guards what follows
	holders []*place   // in the order in which they came
	by      map[netip.Addr]int
	queue   []*place
	cut     uint64 // holders that were told to go
}

// place is one of them, or the wait for one.
type place struct {
	s     *share
	addr  netip.Addr
	since time.Time
	cut   func()
	ready chan struct{} // closed when the place is had
}

func newShare(total, each int, patience time.Duration) *share {
	return &share{total: total, each: each, patience: patience, by: map[netip.Addr]int{}}
}

// try takes a place at once or not at all.
func (s *share) try(addr netip.Addr) (*place, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &place{s: s, addr: addr}
	return p, s.admit(p)
}

// wait takes a place as soon as there is one. cut is called at most once, when the place
// is held too long while others wait; the holder still gives it back itself.
func (s *share) wait(ctx context.Context, addr netip.Addr, cut func()) (*place, error) {
	p := &place{s: s, addr: addr, cut: cut, ready: make(chan struct{})}
	s.mu.Lock()
	if s.admit(p) {
		s.mu.Unlock()
		return p, nil
	}
	s.queue = append(s.queue, p)
	s.mu.Unlock()
	tick := time.NewTicker(max(s.patience/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-p.ready:
			return p, nil
		case <-tick.C:
			s.hurry()
		case <-ctx.Done():
			s.mu.Lock()
			i := slices.Index(s.queue, p)
			if i >= 0 {
				s.queue = slices.Delete(s.queue, i, i+1)
			}
			s.mu.Unlock()
			if i < 0 { // it has just been given
				p.give()
			}
			return nil, ctx.Err()
		}
	}
}

// admit takes a place for p if there is one. The caller holds mu.
func (s *share) admit(p *place) bool {
	if len(s.holders) >= s.total || s.by[p.addr] >= s.each {
		return false
	}
	p.since = time.Now()
	s.holders = append(s.holders, p)
	s.by[p.addr]++
	return true
}

// hurry tells holders to go that have been there too long.
func (s *share) hurry() {
	if s.patience == 0 {
		return
	}
	s.mu.Lock()
	var late []func()
	for _, p := range s.holders {
		if time.Since(p.since) < s.patience || len(late) == len(s.queue) {
			break
		}
		if p.cut != nil {
			late = append(late, p.cut)
			p.cut = nil
			s.cut++
		}
	}
	s.mu.Unlock()
	for _, cut := range late {
		cut()
	}
}

// give gives the place back, to the first in the queue who may have it. It is called once.
func (p *place) give() {
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.holders, p)
	s.holders = slices.Delete(s.holders, i, i+1)
	if s.by[p.addr]--; s.by[p.addr] == 0 {
		delete(s.by, p.addr)
	}
	for i, q := range s.queue {
		if s.admit(q) {
			s.queue = slices.Delete(s.queue, i, i+1)
			close(q.ready)
			return
		}
	}
}

// held gives how many places are taken.
func (s *share) held() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.holders) }

// hurried gives how many holders were told to go.
func (s *share) hurried() uint64 { s.mu.Lock(); defer s.mu.Unlock(); return s.cut }

// addrOf gives the address of a peer without its port. Neighbours of IPv6 count as one:
// a /64 is what one machine has.
func addrOf(a net.Addr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	addr := ap.Addr().Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}
