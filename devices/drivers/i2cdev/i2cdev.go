// Package i2cdev is the driver of sensors on an I²C bus: of any that a profile describes by
// what is written to it and where in its answer a value stands, and of those chips that
// reckon with a calibration (profile.Chips), through periph.io.
//
//	link, err := i2cdev.Attach(bus, profile.Line{Name: "i2c-1"})
//	d, err := link.Device(0x48, &p)
//	readings, err := d.(devices.Sampler).Sample(ctx, nil)
//
// Points that ask for the same share one answer. A transfer that nobody acknowledges is made
// again (twice, or as the line says). A sensor that was pulled is ErrSilent, and set up anew
// when it is back; another chip at its address is ErrRefused, in words that say which; a
// wrong check is ErrGarbled. It writes nothing but the profile's commands.
package i2cdev

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/devices"
	"tidegate/devices/profile"
	"tidegate/hw/i2c"
)

// DefaultRetries is how often a transfer is made again that nobody acknowledged.
const DefaultRetries = 2

// answerWithin bounds one question, its tries and waits included.
const answerWithin = profile.MaxWait + 3*time.Second

// measureWithin bounds a measurement of a chip, which takes 40 ms.
const measureWithin = 500 * time.Millisecond

// Attach is the profile.Attach of I²C; the port is an *i2c.Bus.
func Attach(port devices.Opened, line profile.Line) (profile.Link, error) {
	l := &link{port: port, tries: max(line.Retries, 0) + 1}
	if line.Retries == 0 {
		l.tries = DefaultRetries + 1
	}
	bus, ok := port.(*i2c.Bus)
	if !ok {
		return l, fmt.Errorf("%s is no I²C bus", line.Name)
	}
	l.bus = bus
	return l, nil
}

type link struct {
	port  devices.Opened
	bus   *i2c.Bus
	tries int
}

// Device makes the driver of the device at that address.
func (l *link) Device(address int, p *profile.Profile) (devices.Driver, error) {
	if address < int(i2c.First) || address > int(i2c.Last) {
		return nil, fmt.Errorf("address: is 0x%02x, expected 0x%02x to 0x%02x", address, i2c.First, i2c.Last)
	}
	d := &Driver{bus: l.bus, tries: l.tries, address: uint16(address), prof: p, points: p.DevicePoints()}
	if chip, ok := chips[p.Chip]; ok {
		d.read = (&measured{chip: chip}).sample
		return d, nil
	}
	d.questions = plan(p)
	d.read = d.ask
	return d, nil
}

// Close closes the bus.
func (l *link) Close() error { return l.port.Close() }

var chips = map[string]i2c.Chip{"bme280": i2c.BME280, "bmp280": i2c.BMP280, "bmp180": i2c.BMP180}

// Driver is one sensor: a devices.Sampler, PartSampler and Counter.
type Driver struct {
	bus       *i2c.Bus
	tries     int
	address   uint16
	prof      *profile.Profile
	points    []devices.Point
	questions []question
	read      func(ctx context.Context, d *Driver, want func(point int) bool, dst []devices.Reading) ([]devices.Reading, error)
	closed    atomic.Bool

	mu     sync.Mutex // guards what follows
	counts devices.Counts
}

// question is what is asked at once, and for which points.
type question struct {
	command, read []byte
	wait          time.Duration
	size          int   // bytes of the answer
	points        []int // of the profile
}

// plan puts points with the same question together.
func plan(p *profile.Profile) (qs []question) {
	for i := range p.Points {
		x := &p.Points[i]
		n := slices.IndexFunc(qs, func(q question) bool {
			return string(q.command) == string(x.Command) && string(q.read) == string(x.Read) && q.wait == x.Wait
		})
		if n < 0 {
			n = len(qs)
			qs = append(qs, question{command: []byte(x.Command), read: []byte(x.Read), wait: x.Wait})
		}
		end := x.End()
		if p.Check == profile.Sensirion {
			end = (x.At/3 + 1) * 3
		}
		qs[n].size = max(qs[n].size, end)
		qs[n].points = append(qs[n].points, i)
	}
	return qs
}

// Points lists the points of the profile.
func (d *Driver) Points() []devices.Point { return d.points }

// Close lets go of the sensor; the bus stays.
func (d *Driver) Close() error {
	d.closed.Store(true)
	return nil
}

// Counts says how the sensor has answered.
func (d *Driver) Counts() devices.Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts
}

// Sample reads every point.
func (d *Driver) Sample(ctx context.Context, dst []devices.Reading) ([]devices.Reading, error) {
	return d.sample(ctx, func(int) bool { return true }, dst)
}

// SampleOf reads the named points.
func (d *Driver) SampleOf(ctx context.Context, points []string, dst []devices.Reading) ([]devices.Reading, error) {
	return d.sample(ctx, func(i int) bool { return slices.Contains(points, d.points[i].Name) }, dst)
}

func (d *Driver) sample(ctx context.Context, want func(point int) bool, dst []devices.Reading) ([]devices.Reading, error) {
	if d.closed.Load() {
		return dst, devices.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return dst, err
	}
	return d.read(ctx, d, want, dst)
}

// again makes a question until it has an answer, the tries are used up or ctx ends, and
// counts how each ended.
func (d *Driver) again(ctx context.Context, ask func(ctx context.Context) error) error {
	var err error
	for try := range d.tries {
		within, cancel := context.WithTimeout(ctx, answerWithin)
		err = translate(ask(within))
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d.count(err, try > 0)
		if err == nil || errors.Is(err, devices.ErrGone) || errors.Is(err, devices.ErrRefused) {
			return err
		}
	}
	return err
}

func (d *Driver) count(err error, again bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if again {
		d.counts.Retries++
	}
	switch {
	case err == nil:
		d.counts.Good++
		return
	case errors.Is(err, devices.ErrGarbled):
		d.counts.Garbled++
	case errors.Is(err, devices.ErrRefused):
		d.counts.Refused++
	case errors.Is(err, devices.ErrSilent):
		d.counts.Silent++
	default:
		return // the bus, which is nothing the sensor did
	}
	d.counts.Last = err.Error()
}

// translate gives the error of a bus its place among those of drivers.
func translate(err error) error {
	switch {
	case errors.Is(err, i2c.ErrGone):
		return fmt.Errorf("%w: %w", devices.ErrGone, err)
	case errors.Is(err, i2c.ErrChip):
		return fmt.Errorf("%w: %w", devices.ErrRefused, err)
	case errors.Is(err, i2c.ErrSilent), errors.Is(err, i2c.ErrStuck), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", devices.ErrSilent, err)
	}
	return err
}

// ask reads points that the profile describes by bytes.
func (d *Driver) ask(ctx context.Context, _ *Driver, want func(point int) bool, dst []devices.Reading) ([]devices.Reading, error) {
	for i := range d.questions {
		q := &d.questions[i]
		if !slices.ContainsFunc(q.points, want) {
			continue
		}
		answer := make([]byte, q.size)
		err := d.again(ctx, func(ctx context.Context) error { return d.exchange(ctx, q, answer) })
		if err != nil {
			return dst, err
		}
		at := time.Now()
		for _, n := range q.points {
			if want(n) {
				dst = append(dst, reading(d.points[n].Name, d.prof.Points[n].Decode(answer), at))
			}
		}
	}
	return dst, nil
}

// exchange makes the transfers of one question.
func (d *Driver) exchange(ctx context.Context, q *question, answer []byte) error {
	if len(q.command) > 0 {
		if err := d.bus.Tx(ctx, d.address, q.command, nil); err != nil {
			return err
		}
		if err := sleep(ctx, q.wait); err != nil {
			return err
		}
	}
	if err := d.bus.Tx(ctx, d.address, q.read, answer); err != nil {
		return err
	}
	if d.prof.Check != profile.Sensirion {
		return nil
	}
	for i := 0; i < len(answer); i += 3 {
		if got, want := answer[i+2], crc8(answer[i:i+2]); got != want {
			return fmt.Errorf("%w: % x has the check 0x%02x, expected 0x%02x", devices.ErrGarbled, answer[i:i+2], got, want)
		}
	}
	return nil
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

// crc8 is the check of Sensirion's sensors (Datasheet SHT3x-DIS 6, 4.12).
func crc8(b []byte) byte {
	sum := byte(0xFF)
	for _, x := range b {
		sum ^= x
		for range 8 {
			carry := sum >> 7
			sum = sum<<1 ^ 0x31*carry
		}
	}
	return sum
}

// measured is a chip that periph.io drives.
type measured struct {
	chip i2c.Chip
	dev  *i2c.Climate // nil until it was found, and again when it has left: it forgets its setting without power
}

func (m *measured) sample(ctx context.Context, d *Driver, want func(point int) bool, dst []devices.Reading) ([]devices.Reading, error) {
	var env i2c.Env
	err := d.again(ctx, func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, measureWithin)
		defer cancel()
		if m.dev == nil {
			if m.dev, err = i2c.OpenClimate(ctx, d.bus, d.address, m.chip); err != nil {
				return err
			}
		}
		if env, err = m.dev.Read(ctx); err != nil {
			m.dev = nil
		}
		return err
	})
	if err != nil {
		return dst, err
	}
	at := time.Now()
	for i := range d.prof.Points {
		if !want(i) {
			continue
		}
		x := &d.prof.Points[i]
		scale, offset := x.Factors()
		v := map[string]float64{"temperature": env.Celsius, "pressure": env.HectoPascal, "humidity": env.Percent}[x.Quantity]
		dst = append(dst, reading(x.Name, devices.Float(v*scale+offset), at))
	}
	return dst, nil
}

// reading makes a reading; what has no value, as a float that is none, is Bad.
func reading(point string, v devices.Value, at time.Time) devices.Reading {
	r := devices.Reading{Point: point, Value: v, At: at, Quality: devices.Good}
	if v.IsNone() {
		r.Quality = devices.Bad
	}
	return r
}
