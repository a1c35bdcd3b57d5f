package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/devices"
	"tidegate/devices/profile"
)

// haltWithin is how long Halt may take.
const haltWithin = 2 * time.Second

// Driver is one unit on a line: a devices.Sampler, PartSampler, Writer, Halter and Counter.
type Driver struct {
	bus    *bus
	unit   byte
	prof   *profile.Profile
	points []devices.Point
	codes  []coding
	number map[string]int     // of a point
	plans  map[string][]block // by the points asked for
	closed atomic.Bool

	mu     sync.Mutex // guards what follows
	counts devices.Counts
}

func newDriver(b *bus, unit byte, p *profile.Profile) *Driver {
	d := &Driver{bus: b, unit: unit, prof: p, points: p.DevicePoints(), number: map[string]int{}, plans: map[string][]block{}}
	for i := range p.Points {
		d.number[p.Points[i].Name] = i
		d.codes = append(d.codes, newCoding(&p.Points[i], &d.points[i]))
	}
	return d
}

// Points lists the points of the profile.
func (d *Driver) Points() []devices.Point { return d.points }

// Close lets go of the unit; the line stays.
func (d *Driver) Close() error {
	d.closed.Store(true)
	return nil
}

// Counts says how the unit has answered.
func (d *Driver) Counts() devices.Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts
}

func (d *Driver) count(f func(c *devices.Counts)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.counts)
}

// note counts how one try ended.
func (d *Driver) note(dropped int, err error) {
	d.count(func(c *devices.Counts) {
		c.Garbled += uint64(dropped)
		switch {
		case err == nil:
			c.Good++
			return
		case errors.Is(err, devices.ErrSilent):
			c.Silent++
		case errors.Is(err, devices.ErrGarbled):
			c.Garbled++
		case errors.Is(err, devices.ErrRefused):
			c.Refused++
		default:
			return // the port or the context, which is nothing the unit did
		}
		c.Last = err.Error()
	})
}

// Sample reads every point.
func (d *Driver) Sample(ctx context.Context, dst []devices.Reading) ([]devices.Reading, error) {
	const all = "" // no point is called that
	if _, planned := d.plans[all]; !planned {
		items := make([]int, len(d.points))
		for i := range items {
			items[i] = i
		}
		d.plans[all] = plan(d.prof, items, withGaps)
	}
	return d.sample(ctx, all, dst)
}

// SampleOf reads the named points.
func (d *Driver) SampleOf(ctx context.Context, points []string, dst []devices.Reading) ([]devices.Reading, error) {
	key := strings.Join(points, " ")
	if _, planned := d.plans[key]; !planned {
		var items []int
		for _, name := range points {
			if i, ok := d.number[name]; ok {
				items = append(items, i)
			}
		}
		d.plans[key] = plan(d.prof, items, withGaps)
	}
	return d.sample(ctx, key, dst)
}

// sample carries out a plan. What a device refuses in one piece is asked for in smaller
// ones, and the plan keeps that.
func (d *Driver) sample(ctx context.Context, key string, dst []devices.Reading) ([]devices.Reading, error) {
	if d.closed.Load() {
		return dst, devices.ErrClosed
	}
	for n := 0; n < len(d.plans[key]); n++ {
		b := d.plans[key][n]
		a, err := d.bus.ask(ctx, d, read(b.table, b.address, b.count), d.bus.tries)
		var r *Refusal
		switch {
		case err == nil:
			for _, i := range b.items {
				dst = append(dst, d.reading(i, b, a))
			}
		case !errors.As(err, &r):
			return dst, err
		case r.about() && len(b.items) > 1:
			smaller := plan(d.prof, b.items, touching)
			if len(smaller) == 1 && smaller[0].count == b.count {
				smaller = plan(d.prof, b.items, single)
			}
			rest := append(smaller, d.plans[key][n+1:]...)
			d.plans[key] = append(d.plans[key][:n:n], rest...)
			n--
		default:
			for _, i := range b.items {
				dst = append(dst, devices.Reading{Point: d.points[i].Name, At: time.Now(), Quality: devices.Bad})
			}
		}
	}
	return dst, nil
}

// reading takes point i out of the answer to b.
func (d *Driver) reading(i int, b block, a answer) devices.Reading {
	x, data := &d.prof.Points[i], a.pdu[2:]
	at := int(x.Register.Address) - int(b.address)
	r := devices.Reading{Point: x.Name, At: a.at, Quality: devices.Good}
	if b.table.Bits() {
		r.Value = devices.Bool(data[at/8]>>(at%8)&1 != 0)
		return r
	}
	words := make([]uint16, x.Words())
	for k := range words {
		words[k] = binary.BigEndian.Uint16(data[2*(at+k):])
	}
	if r.Value = d.codes[i].decode(words); r.Value.IsNone() {
		r.Quality = devices.Bad
	}
	return r
}

// Write sets a point and reads it back.
func (d *Driver) Write(ctx context.Context, point string, v devices.Value) (devices.Value, error) {
	if d.closed.Load() {
		return devices.Value{}, devices.ErrClosed
	}
	i, ok := d.number[point]
	if !ok {
		return devices.Value{}, fmt.Errorf("%w: %s", devices.ErrPoint, point)
	}
	v, err := d.points[i].Fit(v)
	if err != nil {
		return devices.Value{}, err
	}
	words, err := d.codes[i].encode(v)
	if err != nil {
		return devices.Value{}, err
	}
	x := &d.prof.Points[i]
	q := writeWords(x.Register.Address, words, d.prof.WriteMultiple)
	if x.Register.Table.Bits() {
		q = writeBit(x.Register.Address, v == devices.Bool(true), d.prof.WriteMultiple)
	}
	if _, err := d.bus.ask(ctx, d, q, d.bus.tries); err != nil {
		return devices.Value{}, fmt.Errorf("write %s: %w", point, err)
	}
	b := plan(d.prof, []int{i}, single)[0]
	a, err := d.bus.ask(ctx, d, read(b.table, b.address, b.count), d.bus.tries)
	if err != nil {
		return devices.Value{}, fmt.Errorf("read %s back: %w", point, err)
	}
	return d.reading(i, b, a).Value, nil
}

// Halt sets every point that has a safe value to it, and goes on when one fails.
func (d *Driver) Halt() error {
	ctx, cancel := context.WithTimeout(context.Background(), haltWithin)
	defer cancel()
	var errs []error
	for i := range d.points {
		if p := &d.points[i]; p.Writable && p.Safe != nil {
			if _, err := d.Write(ctx, p.Name, *p.Safe); err != nil {
				errs = append(errs, fmt.Errorf("halt: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}
