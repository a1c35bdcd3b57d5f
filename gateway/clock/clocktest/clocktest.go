// Package clocktest has a clock that tests move by hand.
package clocktest

import (
	"sort"
	"sync"
	"time"

	"tidegate/gateway/clock"
)

// Manual is a clock.Clock that stands still until Advance or Set moves it. Timers
// that come due fire in the order of their times, inside the call that moves it; those
// that are due when they are made fire at once, as real ones do.
type Manual struct {
	mu        sync.Mutex
	now       time.Time
	untrusted bool
	timers    []*timer
}

// New gives a trusted clock that stands at start.
func New(start time.Time) *Manual { return &Manual{now: start} }

// Now gives the time the clock stands at.
func (m *Manual) Now() time.Time { m.mu.Lock(); defer m.mu.Unlock(); return m.now }

// Trusted says what SetTrusted said last; true at first.
func (m *Manual) Trusted() bool { m.mu.Lock(); defer m.mu.Unlock(); return !m.untrusted }

// SetTrusted makes the clock trusted or not.
func (m *Manual) SetTrusted(ok bool) { m.mu.Lock(); m.untrusted = !ok; m.mu.Unlock() }

// Advance moves the clock by d and fires what comes due on the way.
func (m *Manual) Advance(d time.Duration) { m.Set(m.Now().Add(d)) }

// Set moves the clock to t, also backwards, and fires what has come due.
func (m *Manual) Set(t time.Time) {
	for {
		m.mu.Lock()
		sort.SliceStable(m.timers, func(a, b int) bool { return m.timers[a].at.Before(m.timers[b].at) })
		if len(m.timers) == 0 || m.timers[0].at.After(t) {
			m.now = t
			m.mu.Unlock()
			return
		}
		x := m.timers[0]
		m.timers = m.timers[1:]
		if x.at.After(m.now) {
			m.now = x.at
		}
		at := m.now
		m.mu.Unlock()
		if x.f != nil {
			x.f()
		} else {
			select {
			case x.c <- at:
			default:
			}
		}
	}
}

// Waiting says how many timers are still to come, so that a test can wait for
// the code under test to have made its appointment.
func (m *Manual) Waiting() int { m.mu.Lock(); defer m.mu.Unlock(); return len(m.timers) }

// NewTimer makes a timer on this clock.
func (m *Manual) NewTimer(d time.Duration) clock.Timer {
	x := &timer{m: m, c: make(chan time.Time, 1)}
	x.Reset(d)
	return x
}

// AfterFunc calls f from the Advance or Set that reaches d from now.
func (m *Manual) AfterFunc(d time.Duration, f func()) clock.Timer {
	x := &timer{m: m, f: f}
	x.Reset(d)
	return x
}

type timer struct {
	m  *Manual
	at time.Time
	c  chan time.Time
	f  func()
}

func (x *timer) C() <-chan time.Time { return x.c }

func (x *timer) Stop() bool {
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	return x.drop()
}

func (x *timer) drop() bool {
	for i, y := range x.m.timers {
		if y == x {
			x.m.timers = append(x.m.timers[:i], x.m.timers[i+1:]...)
			return true
		}
	}
	return false
}

func (x *timer) Reset(d time.Duration) bool {
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	was := x.drop()
	x.at = x.m.now.Add(d)
	switch {
	case d > 0:
		x.m.timers = append(x.m.timers, x)
	case x.f != nil:
		go x.f()
	default:
		select {
		case x.c <- x.m.now:
		default:
		}
	}
	return was
}
