package localapi

import (
	"hash/maphash"
	"time"

	"tidegate/gateway/localapi/localclient"
)

// seen knows the messages that history has told and that may be delivered live as well. A
// delivery does not say its number in the journal, so they are known by what they are.
type seen struct {
	from time.Time // what came before it was delivered before
	end  time.Time // when history was told
	n    map[uint64]int
}

// lateLive is how long after its arrival a message may be delivered: it waits for its commit.
const lateLive = 10 * time.Second

// mostSeen bounds what seen remembers; beyond it the oldest are forgotten, and may come twice.
const mostSeen = 1 << 17

var seenSeed = maphash.MakeSeed()

// note remembers a message that history tells.
func (s *seen) note(m *localclient.Message) {
	if m.At.Before(s.from) {
		return
	}
	if s.n == nil || len(s.n) >= mostSeen {
		s.n = map[uint64]int{}
	}
	s.n[identity(m)]++
}

// again says whether a message that comes live was told by history.
func (s *seen) again(m *localclient.Message) bool {
	if s.n == nil {
		return false
	}
	if m.At.Sub(s.end) > lateLive {
		s.n = nil // none of them can come any more
		return false
	}
	id := identity(m)
	if s.n[id] == 0 {
		return false
	}
	if s.n[id]--; s.n[id] == 0 {
		delete(s.n, id)
	}
	return true
}

// identity is the same for a message in the journal and live: a microsecond is what the
// journal keeps of its time.
func identity(m *localclient.Message) uint64 {
	var h maphash.Hash
	h.SetSeed(seenSeed)
	for _, s := range []string{m.Topic, m.From, m.Origin, m.Payload, string(m.Binary)} {
		h.WriteString(s)
		h.WriteByte(0)
	}
	at := m.At.UnixMicro()
	for i := range 8 {
		h.WriteByte(byte(at >> (8 * i)))
	}
	return h.Sum64()
}
