// Package gpioline is the driver of digital lines: inputs that are told when they change,
// pulses that are counted, outputs that are set and read back.
//
//	link, err := gpioline.Attach(chip, profile.Line{Name: "gpio"})
//	d, err := link.Device(0, &p)
//	err = d.(devices.Streamer).Stream(ctx, func(sample []devices.Reading) { … })
//
// A change is dated by the kernel and told at once, behind the debounce of the profile. Every
// so often (the profile's Every) all lines are read as well: that is when counters are told,
// and how a chip that has left is noticed. Counters begin at 0 when their line is taken and
// count what the kernel could not queue, too.
//
// A line that somebody else has, or that is not there, is a reading of quality Bad and a
// Problem in words; it is tried again every time the lines are read, and the others work
// meanwhile. Outputs keep the level they are found with, or start with their safe one.
package gpioline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"tidegate/devices"
	"tidegate/devices/profile"
	"tidegate/hw/gpio"
)

// DefaultEvery is how often lines are read when the profile does not say.
const DefaultEvery = 5 * time.Second

// Attach is the profile.Attach of GPIO; the port is a *gpio.Chip.
func Attach(port devices.Opened, line profile.Line) (profile.Link, error) {
	chip, ok := port.(*gpio.Chip)
	if !ok {
		return &link{port: port}, fmt.Errorf("%s is no GPIO chip", line.Name)
	}
	return &link{port: port, chip: chip}, nil
}

type link struct {
	port devices.Opened
	chip *gpio.Chip
}

// Device makes the driver of the lines of a profile. Stream takes them, and Write those that
// it needs before.
func (l *link) Device(unit int, p *profile.Profile) (devices.Driver, error) {
	if unit != 0 {
		return nil, errors.New("digital lines have no unit numbers")
	}
	d := &Driver{chip: l.chip, prof: p, points: p.DevicePoints(), edges: make(chan change, 64), byName: map[string]*input{}}
	for i := range p.Points {
		d.add(i)
	}
	return d, nil
}

// Close closes the chip.
func (l *link) Close() error { return l.port.Close() }

// Driver is the lines of one device: a devices.Streamer, Writer, Halter, Counter and
// Diagnoser.
type Driver struct {
	chip   *gpio.Chip
	prof   *profile.Profile
	points []devices.Point
	edges  chan change // holds what a burst may be ahead of the stream; who waits at an edge waits for room

	mu     sync.Mutex // guards what follows
	lines  []*input
	byName map[string]*input // by point
	counts devices.Counts
	last   time.Time // of the last sample, so that each has a time of its own
	closed bool
	wg     sync.WaitGroup // who waits for edges
	stop   chan struct{}  // closed when the stream under way ends; nil without one
}

// input is one line, an output too, with the points that are made of it.
type input struct {
	request gpio.Request
	points  []int      // of the profile
	line    *gpio.Line // nil while it is not ours
	problem string     // why it is not
	up      uint64     // edges towards true
	down    uint64     // and away from it
	seen    uint32     // the number of the last edge
	told    map[int]tally
}

// tally is what a rate was reckoned from last.
type tally struct {
	n  uint64
	at time.Time
}

// change is an edge of a line.
type change struct {
	in   *input
	line *gpio.Line // it came from: the input may have another by now
	edge gpio.Edge
	err  error
}

func (d *Driver) add(i int) {
	x := &d.prof.Points[i]
	for _, in := range d.lines {
		if in.request.Line == x.Line {
			in.points = append(in.points, i)
			d.byName[x.Name] = in
			return
		}
	}
	r := gpio.Request{Line: x.Line, ActiveLow: x.ActiveLow, Output: x.Writable}
	if x.Writable {
		if safe := d.points[i].Safe; safe != nil {
			r.Safe = *safe == devices.Bool(true)
		}
	} else {
		r.Edges, r.Debounce = true, x.Settle()
		r.Pull = map[string]gpio.Pull{"up": gpio.PullUp, "down": gpio.PullDown, "none": gpio.PullNone}[x.Pull]
	}
	in := &input{request: r, points: []int{i}, told: map[int]tally{}}
	d.lines = append(d.lines, in)
	d.byName[x.Name] = in
}

// Points lists the points of the profile.
func (d *Driver) Points() []devices.Point { return d.points }

// Counts says how often lines were read and what they refused.
func (d *Driver) Counts() devices.Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts
}

// Problem names the lines that are not ours, and why.
func (d *Driver) Problem() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var text string
	for _, in := range d.lines {
		if in.problem != "" {
			if text != "" {
				text += "; "
			}
			text += in.problem
		}
	}
	return text
}

// Close gives the lines back; the chip stays open.
func (d *Driver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	var errs []error
	for _, in := range d.lines {
		if in.line != nil {
			errs = append(errs, in.line.Close())
			in.line = nil
		}
	}
	return errors.Join(errs...)
}

// usable says whether a call may begin. d.mu is held.
func (d *Driver) usable(ctx context.Context) error {
	if d.closed {
		return devices.ErrClosed
	}
	return ctx.Err()
}

// take has a line be ours. It gives an error only when the chip has left. d.mu is held.
func (d *Driver) take(in *input) error {
	if in.line != nil {
		return nil
	}
	line, err := d.chip.Take(in.request)
	switch {
	case errors.Is(err, gpio.ErrGone):
		return fmt.Errorf("%w: %w", devices.ErrGone, err)
	case err != nil:
		in.problem = err.Error()
		d.counts.Refused++
		d.counts.Last = in.problem
		return nil
	}
	in.line, in.problem = line, ""
	in.up, in.down, in.seen = 0, 0, 0
	clear(in.told)
	d.await(in)
	return nil
}

// await has somebody wait for the edges of a line while a stream runs. d.mu is held.
func (d *Driver) await(in *input) {
	line, stop := in.line, d.stop
	if stop == nil || line == nil || !in.request.Edges {
		return
	}
	d.wg.Go(func() {
		for {
			e, err := line.Next()
			select {
			case d.edges <- change{in, line, e, err}:
			case <-stop:
				return
			}
			if err != nil {
				return
			}
		}
	})
}

// Stream emits every change of an input, and all points every so often, beginning now.
func (d *Driver) Stream(ctx context.Context, emit func([]devices.Reading)) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.end()
	every := d.prof.Every
	if every == 0 {
		every = DefaultEvery
	}
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
			look.Reset(every)
			rs, err := d.sample(ctx)
			if err != nil {
				return err
			}
			emit(rs)
		case c := <-d.edges:
			rs, err := d.changed(c)
			if err != nil {
				return err
			}
			if len(rs) > 0 {
				emit(rs)
			}
		}
	}
}

func (d *Driver) begin(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(ctx); err != nil {
		return err
	}
	d.stop = make(chan struct{})
	for _, in := range d.lines {
		d.await(in)
	}
	return nil
}

// end wakes who waits for edges: those lines are given back, and taken anew by whoever needs
// them. Outputs stay.
func (d *Driver) end() {
	d.mu.Lock()
	close(d.stop)
	d.stop = nil
	for _, in := range d.lines {
		if in.line != nil && in.request.Edges {
			in.line.Close() // what it says of a chip that has left is known
			in.line = nil
		}
	}
	d.mu.Unlock()
	d.wg.Wait()
}

// changed counts an edge and gives the points that it tells of.
func (d *Driver) changed(c change) ([]devices.Reading, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, devices.ErrClosed
	}
	if c.in.line != c.line {
		return nil, nil
	}
	if errors.Is(c.err, gpio.ErrGone) {
		return nil, fmt.Errorf("%w: %w", devices.ErrGone, c.err)
	} else if c.err != nil {
		c.in.problem = fmt.Sprintf("edges of line %s cannot be had: %v", c.in.request.Line, c.err)
		c.in.line = nil // taken anew the next time lines are read
		return nil, c.line.Close()
	}
	c.in.count(c.edge)
	at := d.moment(c.edge.At)
	var rs []devices.Reading
	for _, i := range c.in.points {
		if !d.prof.Points[i].Pulses() {
			rs = append(rs, devices.Reading{Point: d.points[i].Name, Value: devices.Bool(c.edge.Active), At: at, Quality: devices.Good})
		}
	}
	return rs, nil
}

// count counts the edge and those before it that were missed, which went up and down in turn.
func (in *input) count(e gpio.Edge) {
	n := uint64(e.Count - in.seen)
	in.seen = e.Count
	same, other := &in.up, &in.down
	if !e.Active {
		same, other = other, same
	}
	*same += (n + 1) / 2
	*other += n / 2
}

// moment gives a time that is later than the one before. d.mu is held.
func (d *Driver) moment(at time.Time) time.Time {
	if !at.After(d.last) {
		at = d.last.Add(time.Microsecond)
	}
	d.last = at
	return at
}

// sample reads every line.
func (d *Driver) sample(ctx context.Context) (rs []devices.Reading, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(ctx); err != nil {
		return nil, err
	}
	levels := map[*input]devices.Reading{}
	for _, in := range d.lines {
		if err := d.take(in); err != nil {
			return nil, err
		}
		r := devices.Reading{Quality: devices.Bad}
		if in.line != nil {
			on, err := in.line.Level()
			switch {
			case errors.Is(err, gpio.ErrGone):
				return nil, fmt.Errorf("%w: %w", devices.ErrGone, err)
			case err != nil:
				in.problem = fmt.Sprintf("line %s cannot be read: %v", in.request.Line, err)
				d.counts.Refused++
				d.counts.Last = in.problem
			default:
				in.problem = ""
				r.Value, r.Quality = devices.Bool(on), devices.Good
				d.counts.Good++
			}
		}
		levels[in] = r
	}
	at := d.moment(time.Now())
	for i := range d.points {
		in := d.byName[d.points[i].Name]
		r := levels[in]
		r.Point, r.At = d.points[i].Name, at
		if x := &d.prof.Points[i]; x.Pulses() && r.Quality == devices.Good {
			r.Value = in.pulses(i, x, at)
		}
		rs = append(rs, r)
	}
	return rs, nil
}

// pulses gives the value of a point that is made of edges.
func (in *input) pulses(i int, x *profile.Point, now time.Time) devices.Value {
	n := in.up
	switch x.Edge {
	case "falling":
		n = in.down
	case "both":
		n += in.down
	}
	scale, offset := x.Factors()
	if x.Type == "count" {
		if scale == float64(int64(scale)) && offset == float64(int64(offset)) {
			return devices.Int(int64(n)*int64(scale) + int64(offset))
		}
		return devices.Float(float64(n)*scale + offset)
	}
	was, known := in.told[i]
	in.told[i] = tally{n, now}
	if !known {
		return devices.Float(offset)
	}
	return devices.Float(float64(n-was.n)/now.Sub(was.at).Seconds()*scale + offset)
}

// Write sets an output and reads it back.
func (d *Driver) Write(ctx context.Context, point string, v devices.Value) (devices.Value, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(ctx); err != nil {
		return devices.Value{}, err
	}
	in, ok := d.byName[point]
	if !ok {
		return devices.Value{}, fmt.Errorf("%w: %s", devices.ErrPoint, point)
	}
	v, err := d.points[in.points[0]].Fit(v)
	if err != nil {
		return devices.Value{}, err
	}
	if err := d.take(in); err != nil {
		return devices.Value{}, err
	}
	if in.line == nil {
		return devices.Value{}, fmt.Errorf("%w: %s", devices.ErrRefused, in.problem)
	}
	err = in.line.Set(v == devices.Bool(true))
	var on bool
	if err == nil {
		on, err = in.line.Level()
	}
	switch {
	case errors.Is(err, gpio.ErrGone):
		return devices.Value{}, fmt.Errorf("%w: %w", devices.ErrGone, err)
	case err != nil:
		return devices.Value{}, fmt.Errorf("%w: %s: %w", devices.ErrRefused, point, err)
	}
	return devices.Bool(on), nil
}

// Halt sets every output that has a safe value to it.
func (d *Driver) Halt() error {
	var errs []error
	for i := range d.points {
		if p := &d.points[i]; p.Writable && p.Safe != nil {
			if _, err := d.Write(context.Background(), p.Name, *p.Safe); err != nil {
				errs = append(errs, fmt.Errorf("halt: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}
