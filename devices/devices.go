// Package devices has the words for what is wired to the box: points, values with
// units, readings, ports, and what a driver is.
//
// A device has points. A point is one thing that can be measured or set: a
// temperature, a relay. A driver turns bytes of an opened port into readings of
// points, and values into writes; it never opens device files, keeps no schedule
// and publishes nothing. What a driver can do beyond the required Driver is found
// by type assertion:
//
//	// d is a driver somebody made on an opened port
//	if s, ok := d.(devices.Sampler); ok {        // it is asked
//		readings, err = s.Sample(ctx, readings[:0])
//	}
//	if w, ok := d.(devices.Writer); ok {         // it can be set
//		now, err := w.Write(ctx, "pump", devices.Bool(true))
//	}
//
// Package devicestest asks every driver the same questions.
package devices

import (
	"context"
	"time"
)

// Driver is one device on an opened port.
//
// Unless said otherwise a driver is used by one goroutine at a time. Every method
// that takes a context returns within a second of its end. An error that is ErrGone
// says that the port is lost: the driver is closed and a new one made on a new port.
// Any other error leaves the driver usable.
type Driver interface {
	// Points lists what the device has, in a stable order. A Streamer may find more
	// points while it runs; they are at the end. May be called at any time,
	// concurrently with every other method.
	Points() []Point
	// Close lets go of the device. It does not close the port, which belongs to
	// whoever opened it, and may be called twice. Methods called later return ErrClosed.
	Close() error
}

// Sampler is a device that answers when asked.
type Sampler interface {
	// Sample asks for every point and appends the readings to dst, which may be nil.
	// A point the device refuses is a reading of quality Bad and not an error. An
	// error says that the device as a whole did not answer (ErrSilent), not
	// sensibly (ErrGarbled), or that the port is lost (ErrGone); readings appended
	// before it are good.
	Sample(ctx context.Context, dst []Reading) ([]Reading, error)
}

// PartSampler is a Sampler that can leave points out.
type PartSampler interface {
	// SampleOf is Sample for the named points alone; names that are none of the
	// device's are passed over. Asking again and again for the same slice costs no
	// new planning.
	SampleOf(ctx context.Context, points []string, dst []Reading) ([]Reading, error)
}

// Streamer is a device that speaks by itself.
type Streamer interface {
	// Stream calls emit for every sample until ctx ends (it returns ctx's error) or the
	// port is lost (ErrGone). A sample is what was measured together: one line, one frame;
	// its readings have the same At, later than that of the sample before, and it is never
	// empty. What is damaged is counted (see Counter), never emitted as good. emit is called
	// from one goroutine; it must not block, and must not keep the slice.
	Stream(ctx context.Context, emit func(sample []Reading)) error
}

// Writer is a device whose writable points can be set.
type Writer interface {
	// Write sets point to v and returns what the device says the point is now, read
	// back from it. A value the point cannot take is ErrValue and nothing was sent; an
	// unknown or read-only point is ErrPoint; a device that refuses is ErrRefused.
	// A read-back that differs from v is not an error: it is what the device made of it.
	// Of a device that is also a Streamer, Write may be called while Stream runs.
	Write(ctx context.Context, point string, v Value) (Value, error)
}

// Halter is a device with a safe state.
type Halter interface {
	// Halt brings the outputs that have a safe value to it, as far as that can be
	// done within two seconds. It needs no context, as it is called when all have ended.
	Halt() error
}

// Counter is a driver that counts what went over its line. May be called concurrently
// with every other method.
type Counter interface {
	Counts() Counts
}

// Diagnoser is a driver that can tell what keeps part of its device from working while the
// rest of it does. May be called concurrently with every other method.
type Diagnoser interface {
	// Problem says it in words; empty when there is none.
	Problem() string
}

// Counts says what went over a device's line since the driver was made.
type Counts struct {
	Good    uint64 // answers or lines that were understood
	Ignored uint64 // well formed, but of no interest to the profile
	Garbled uint64 // damaged, foreign, late or too long
	Silent  uint64 // questions that had no answer in time
	Refused uint64 // questions the device answered with a refusal
	Retries uint64 // questions asked again
	Last    string // what was wrong with the last answer that was not good
}

// Reading is the value of one point at one time.
type Reading struct {
	Point   string
	Value   Value     // the zero Value when the device gave none
	At      time.Time // when the bytes that carry it arrived
	Quality Quality
}

// Quality says how far a reading can be relied on.
type Quality uint8

// The qualities, best first. The zero Quality is none of them and counts as Bad.
const (
	_         Quality = iota
	Good              // measured, undamaged, dated by a clock that can be trusted
	Uncertain         // measured, but the device itself doubts it or the date may be wrong
	Stale             // the last known value; the device has not spoken since
	Bad               // no usable value: refused, impossible, or never read
)

// String gives the quality as one lower-case word.
func (q Quality) String() string {
	switch q {
	case Good:
		return "good"
	case Uncertain:
		return "uncertain"
	case Stale:
		return "stale"
	}
	return "bad"
}
