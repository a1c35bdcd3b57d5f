package broker

import (
	"sort"
	"time"

	"tidegate/gateway/broker/session"
)

// SessionInfo describes a session for an operator.
type SessionInfo struct {
	ClientID      string
	Principal     string
	V5            bool
	Persistent    bool
	Connected     bool
	Address       string
	Since         time.Time // connected, or away, since
	Expiry        time.Duration
	ExpiresNever  bool
	Subscriptions []session.Sub
	Unacked       int    // sent and not acknowledged
	Queued        int    // waiting in memory, messages
	QueuedBytes   int    // the same in bytes
	Behind        bool   // reads, or will read, from the journal
	Position      uint64 // journal number of the oldest message pending, 0: none
	OutputBytes   int    // waiting for the socket
	KeepAlive     time.Duration
	Gaps          []session.Gap // what it did not get, the newest last
}

// Sessions lists all sessions by client id.
func (b *Broker) Sessions() []SessionInfo {
	b.mu.Lock()
	all := make([]*client, 0, len(b.sessions))
	for _, s := range b.sessions {
		all = append(all, s)
	}
	b.mu.Unlock()
	list := make([]SessionInfo, len(all))
	for i, s := range all {
		list[i] = s.describe()
	}
	sort.Slice(list, func(i, j int) bool { return list[i].ClientID < list[j].ClientID })
	return list
}

// Session describes the session of one client id.
func (b *Broker) Session(clientID string) (SessionInfo, bool) {
	s := b.sessionOf(clientID)
	if s == nil {
		return SessionInfo{}, false
	}
	return s.describe(), true
}

func (s *client) describe() SessionInfo {
	s.mu.Lock()
	in := SessionInfo{ClientID: s.id, V5: s.v5, Persistent: s.persistent, Since: s.rec.Gone, Expiry: time.Duration(s.rec.Expiry) * time.Second,
		ExpiresNever: s.rec.Expiry == session.Never, Subscriptions: s.rec.Subs, Unacked: s.win.len() + len(s.out2) - s.done2,
		Queued: len(s.queue.items) - s.queue.at, QueuedBytes: s.queue.size(), Behind: s.behind && s.pending, Position: s.low(), Gaps: s.gaps}
	c := s.conn.Load()
	s.mu.Unlock()
	if p := s.who(); p != nil {
		in.Principal = p.Name()
	}
	if c != nil {
		in.Connected, in.Since, in.Address, in.KeepAlive = true, c.info.since, address(c), c.info.keepAlive
		c.out.mu.Lock()
		in.OutputBytes = len(c.out.buf) + c.out.queued
		c.out.mu.Unlock()
	}
	return in
}

// Delete ends a session for good, with its connection if it has one. It says whether
// there was one.
func (b *Broker) Delete(clientID string) bool {
	s := b.sessionOf(clientID)
	if s == nil {
		return false
	}
	s.mu.Lock()
	s.rec.Expiry = 0
	s.mu.Unlock()
	if c := s.conn.Load(); c != nil {
		c.kick(errAdministrator) // its end discards the session
		return true
	}
	lock := b.idLock(clientID)
	lock.Lock()
	defer lock.Unlock()
	if b.sessionOf(clientID) == s && s.conn.Load() == nil {
		b.willDue(clientID, false, 0)
		b.discard(s)
	}
	return true
}
