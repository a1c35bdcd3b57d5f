package broker

import (
	"sync"
	"sync/atomic"
	"time"
)

// A flood of QoS 0 messages one packet at a time costs a wake-up, two reads and a write for each. As network cards
// and their drivers do, readers then look at intervals instead of at each packet: nobody waits for an answer to QoS 0, and
// what has gathered meanwhile takes one read and one write. Below floodRate nothing is ever delayed.
const (
	floodRate = 20_000                 // QoS 0 messages a second, from everybody together
	floodStep = 256                    // messages between two looks at the clock
	smallRead = 4 << 10                // who sends more at once gathers by itself
	restFor   = 500 * time.Microsecond // and up to a millisecond, by which the runtime's timers go when all else rests
)

// flood tells whether the broker is in one, and lets readers rest together.
type flood struct {
	n     atomic.Int64 // messages since the last look
	last  atomic.Int64 // when that was, in Unix nanoseconds
	until atomic.Int64 // it is one until then

	mu   sync.Mutex
	over chan struct{} // closed at the end of the rest in progress, nil when there is none
}

// came notes n messages and says whether they are part of a flood.
func (f *flood) came(n int, at time.Time) bool {
	now := at.UnixNano()
	if f.n.Add(int64(n)) >= floodStep {
		f.n.Store(0)
		const limit = floodStep * int64(time.Second) / floodRate
		if now-f.last.Swap(now) < limit {
			f.until.Store(now + 2*limit)
		}
	}
	return now < f.until.Load()
}

// rest returns at the next interval.
func (f *flood) rest() {
	f.mu.Lock()
	over := f.over
	if over == nil {
		over = make(chan struct{})
		f.over = over
		time.AfterFunc(restFor, func() {
			f.mu.Lock()
			f.over = nil
			f.mu.Unlock()
			close(over)
		})
	}
	f.mu.Unlock()
	<-over
}
