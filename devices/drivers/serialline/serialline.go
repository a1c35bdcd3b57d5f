// Package serialline is the driver of devices that speak by themselves, line by line:
// NMEA 0183 sentences, JSON lines, CSV lines.
//
// What a line means is in the device's profile. A line that is damaged (a checksum that
// is wrong or missing, bytes that cannot be, JSON that ends too early, too few columns)
// gives no reading at all: it is counted, and Counts().Last says what it was. What the
// device itself doubts, as a receiver without a fix does, is Uncertain. Memory is
// bounded by the longest line; noise and endless lines cost nothing but their bytes.
//
//	link, err := serialline.Attach(port, profile.Line{Name: "gps"})
//	d, err := link.Device(0, &p)
//	err = d.(devices.Streamer).Stream(ctx, func(sample []devices.Reading) { … })
//
// It never writes to the port.
package serialline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/devices"
	"tidegate/devices/profile"
)

// Attach is the profile.Attach of NMEA, JSON and CSV; the port is a devices.Port. A line
// has one device: nobody could say which of two a line is from.
func Attach(opened devices.Opened, line profile.Line) (profile.Link, error) {
	port, ok := opened.(devices.Port)
	if !ok {
		return &link{opened: opened}, fmt.Errorf("%s is no line of bytes", line.Name)
	}
	return &link{opened: opened, port: port}, nil
}

type link struct {
	opened devices.Opened
	port   devices.Port // the same
	taken  bool
}

func (l *link) Device(unit int, p *profile.Profile) (devices.Driver, error) {
	if l.taken || unit != 0 {
		return nil, fmt.Errorf("a line of %s has one device, and no unit numbers", p.Protocol)
	}
	d := New(l.port, p)
	l.taken = true
	return d, nil
}

func (l *link) Close() error { return l.opened.Close() }

// Driver is one device; a devices.Streamer and devices.Counter.
type Driver struct {
	port   devices.Port
	frame  framer
	read   reader
	closed atomic.Bool
	last   time.Time // of the last line, so that each has a time of its own

	mu     sync.Mutex // guards what follows
	points []devices.Point
	counts devices.Counts
}

// reader makes readings of one line. It appends them to dst, all dated at; the error says
// what is wrong with the line, and is errIgnore for one of no interest.
type reader interface {
	read(line []byte, at time.Time, dst []devices.Reading) ([]devices.Reading, error)
}

var errIgnore = errors.New("of no interest")

// New makes the driver of the device on port, which p, a valid profile of lines, describes.
func New(port devices.Port, p *profile.Profile) *Driver {
	d := &Driver{port: port, points: p.DevicePoints()}
	d.frame.max = p.MaxLine
	switch p.Protocol {
	case profile.NMEA:
		d.read = newNMEA(p, d.found)
		if d.frame.max == 0 {
			d.frame.max = 256
		}
	case profile.JSON:
		d.read = newJSON(p)
	case profile.CSV:
		d.read = newCSV(p)
	default:
		panic("BUG: serialline does not speak " + p.Protocol)
	}
	if d.frame.max == 0 {
		d.frame.max = 4096
	}
	return d
}

// Points lists the profile's points and those found on the line so far.
func (d *Driver) Points() []devices.Point {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.points[:len(d.points):len(d.points)] // only ever appended to
}

// found adds a point the device has shown.
func (d *Driver) found(p devices.Point) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.points = append(d.points, p)
}

// Counts says what came over the line.
func (d *Driver) Counts() devices.Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts
}

// Close lets go of the device; the port stays open.
func (d *Driver) Close() error {
	d.closed.Store(true)
	return nil
}

// Stream emits the readings of every line that comes; a line is a sample.
func (d *Driver) Stream(ctx context.Context, emit func([]devices.Reading)) error {
	buf := make([]byte, 1024)
	var got []devices.Reading
	for {
		if d.closed.Load() {
			return devices.ErrClosed
		}
		n, at, err := d.port.Read(ctx, buf)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%w: %w", devices.ErrGone, err)
		}
		d.frame.feed(buf[:n], func(line []byte, whole bool) {
			if got = d.line(line, whole, at, got[:0]); len(got) > 0 {
				emit(got)
			}
		})
	}
}

// line takes one line apart and counts it.
func (d *Driver) line(line []byte, whole bool, at time.Time, dst []devices.Reading) []devices.Reading {
	if !at.After(d.last) {
		at = d.last.Add(time.Microsecond) // several lines in one piece: each is a sample of its own
	}
	d.last = at
	var err error
	if whole {
		dst, err = d.read.read(line, at, dst)
	} else {
		err = fmt.Errorf("a line of more than %d bytes", d.frame.max)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		d.counts.Good++
	case errors.Is(err, errIgnore):
		d.counts.Ignored++
		return dst[:0]
	default:
		d.counts.Garbled++
		d.counts.Last = fmt.Sprintf("%v: %.60q", err, line[:min(len(line), 60)])
		return dst[:0]
	}
	return dst
}
