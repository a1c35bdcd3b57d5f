// Package modbus is the driver of Modbus devices: a client for RTU on a serial line and for
// TCP, with the devices of one line sharing it.
//
// A profile says which registers make which points. Neighbouring registers are asked for
// together, at most 125 at once; a block that a device refuses is asked for again in
// smaller ones, and from then on always. An answer counts only when it is from the right
// unit, for the right function, of the right length and undamaged; what else comes is
// counted and dropped. Writes are read back.
//
//	link, err := modbus.Attach(port, profile.Line{Baud: 19200})
//	boiler, err := link.Device(1, &p)
//	readings, err := boiler.(devices.Sampler).Sample(ctx, nil)
//
// Sources: MODBUS Application Protocol 1.1b3; MODBUS over Serial Line 1.02; MODBUS
// Messaging on TCP/IP 1.0b. Functions 1 to 6, 15 and 16 are used. The package is no
// server and speaks no ASCII framing.
package modbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidegate/devices"
	"tidegate/devices/profile"
)

// Defaults of a line.
const (
	DefaultTimeout = 500 * time.Millisecond
	DefaultRetries = 2
)

const busyPause = 100 * time.Millisecond // before a device that says it is busy is asked again

// Attach is the profile.Attach of Modbus; the port is a devices.Port.
func Attach(opened devices.Opened, line profile.Line) (profile.Link, error) {
	port, ok := opened.(devices.Port)
	b := &bus{port: opened, timeout: line.Timeout, tries: max(line.Retries, 0) + 1, turn: make(chan struct{}, 1)}
	if b.timeout == 0 {
		b.timeout = DefaultTimeout
	}
	if line.Retries == 0 {
		b.tries = DefaultRetries + 1
	}
	switch {
	case !ok:
		return b, fmt.Errorf("%s is no line of bytes, which Modbus needs", line.Name)
	case line.Framing == "" || line.Framing == "rtu":
		b.wire = newRTU(port, line)
	case line.Framing == "tcp":
		b.wire = &tcp{port: port}
	default:
		return b, fmt.Errorf("framing: is %q, expected rtu or tcp", line.Framing)
	}
	return b, nil
}

// bus is one line with its devices.
type bus struct {
	port    devices.Opened
	wire    wire
	timeout time.Duration // from the last byte of a question to the last of its answer, transmission not counted
	tries   int
	turn    chan struct{} // holds one token: who has it may use the wire
}

// wire frames questions and answers.
type wire interface {
	// ask sends one question and waits for its answer. again says that the same was asked
	// before and had no answer. The error is ctx's, or wraps devices.ErrSilent, ErrGarbled or
	// ErrGone; dropped is how many damaged or foreign pieces were passed over on the way.
	ask(ctx context.Context, unit byte, q question, timeout time.Duration, again bool) (a answer, dropped int, err error)
	// units gives the unit numbers a device may have.
	units() (lowest, highest int)
}

// answer is the data of a good answer and when it was complete.
type answer struct {
	pdu []byte
	at  time.Time
}

// Device makes the driver of one unit.
func (b *bus) Device(unit int, p *profile.Profile) (devices.Driver, error) {
	if lo, hi := b.wire.units(); unit < lo || unit > hi {
		return nil, fmt.Errorf("unit: is %d, expected %d to %d", unit, lo, hi)
	}
	return newDriver(b, byte(unit), p), nil
}

// Close closes the port.
func (b *bus) Close() error { return b.port.Close() }

// ask asks until there is an answer, the tries are used up or ctx ends, and counts for d.
func (b *bus) ask(ctx context.Context, d *Driver, q question, tries int) (answer, error) {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
	var err error
	for try := range tries {
		if d.closed.Load() {
			return answer{}, devices.ErrClosed
		}
		if err := ctx.Err(); err != nil {
			return answer{}, err
		}
		if try > 0 {
			d.count(func(c *devices.Counts) { c.Retries++ })
		}
		var a answer
		var dropped int
		a, dropped, err = b.wire.ask(ctx, d.unit, q, b.timeout, try > 0)
		if err == nil {
			err = refusal(a.pdu)
		}
		d.note(dropped, err)
		var r *Refusal
		switch {
		case err == nil:
			return a, nil
		case errors.As(err, &r) && r.passing():
			if err := sleep(ctx, busyPause); err != nil {
				return answer{}, err
			}
		case r != nil, errors.Is(err, devices.ErrGone), ctx.Err() != nil:
			return answer{}, err
		}
	}
	return answer{}, err
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lost turns what a port said into the driver's error.
func lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: %w", devices.ErrGone, err)
}
