// Package clock tells the time and says whether it can be trusted.
//
// A gateway may boot in 1970 and stay without a time source for months. Rooms
// therefore take a Clock instead of calling the time package, stamp what they
// make with Now, and look at Trusted where a wrong date would do harm. Tests use
// clocktest.Manual.
package clock

import (
	"sync/atomic"
	"time"
)

// Clock is the time as the rooms see it. All methods may be called concurrently.
type Clock interface {
	// Now gives the current time with a monotonic part where the machine has one.
	Now() time.Time
	// Trusted is false until some source (NTP, RTC, a person) has confirmed the date.
	Trusted() bool
	// NewTimer makes a timer that fires once after d.
	NewTimer(d time.Duration) Timer
	// AfterFunc calls f in a goroutine of its own after d.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is one appointment with a Clock.
type Timer interface {
	// C fires once; nil for timers made by AfterFunc.
	C() <-chan time.Time
	// Stop calls it off and says whether it was still to come.
	Stop() bool
	// Reset makes it due d from now and says whether it was still to come.
	Reset(d time.Duration) bool
}

// built is a lower bound for today: no release runs before it was made.
var built = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// SystemClock is the machine's clock.
type SystemClock struct{ confirmed atomic.Bool }

// System gives the machine's clock. It is trusted once Confirm was called, or
// when its date is not before this release was made: a machine without a battery
// starts in 1970 or at the date its image was built.
func System() *SystemClock { return &SystemClock{} }

// Now is time.Now.
func (*SystemClock) Now() time.Time { return time.Now() }

// Trusted says whether the date can be true.
func (c *SystemClock) Trusted() bool { return c.confirmed.Load() || time.Now().After(built) }

// Confirm says that a time source has vouched for the date.
func (c *SystemClock) Confirm() { c.confirmed.Store(true) }

// NewTimer is time.NewTimer.
func (*SystemClock) NewTimer(d time.Duration) Timer { return sysTimer{time.NewTimer(d)} }

// AfterFunc is time.AfterFunc.
func (*SystemClock) AfterFunc(d time.Duration, f func()) Timer { return sysTimer{time.AfterFunc(d, f)} }

type sysTimer struct{ *time.Timer }

func (t sysTimer) C() <-chan time.Time { return t.Timer.C }
