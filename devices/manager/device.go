package manager

import (
	"math"
	"sync"
	"time"

	"tidegate/devices"
	"tidegate/devices/profile"
)

// device is one configured device and what is known of it.
type device struct {
	m       *Manager
	bus     *bus
	cfg     Device
	name    string
	thing   string
	prof    *profile.Profile
	silent  time.Duration // how long it may say nothing; 0 is for ever
	warning string        // the health code that is raised, touched by the bus's goroutine alone

	mu       sync.Mutex // guards what follows; never held while anything else is called but the queue
	points   []*point
	byName   map[string]*point
	counts   devices.Counts // of drivers that are gone
	driver   devices.Driver // nil while the port is down
	state    string
	problem  string
	lastGood time.Time
	sample   uint64
}

// point is a point with its last value and what was told of it.
type point struct {
	devices.Point
	dev     *device
	every   time.Duration // between values: as configured, or as observed for what speaks by itself
	last    devices.Reading
	heard   time.Time // when last came, by the manager's clock
	told    devices.Reading
	toldAt  time.Time
	pending bool // last is to be told once AtMost is over
}

// States of a device, as Snapshot shows them.
const (
	StateStarting = "starting" // not heard of yet
	StateGood     = "good"
	StateSilent   = "silent"  // says nothing
	StateGarbled  = "garbled" // what it says makes no sense
	StateRefuses  = "refuses" // answers every question with a refusal, or part of it cannot be used
	StateDown     = "down"    // its port is not there
)

func (d *device) addPoint(x devices.Point) *point {
	p := &point{Point: x, dev: d, every: every(&d.cfg, d.prof, &x)}
	if d.prof.Lines() {
		p.every = 0
	}
	d.points = append(d.points, p)
	d.byName[x.Name] = p
	d.m.queue.grow()
	return p
}

// accept takes what a driver has read. force tells every reading whatever deadband says.
func (d *device) accept(rs []devices.Reading, force bool) {
	now := d.m.clk.Now()
	trusted := d.m.clk.Trusted()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sample++
	var out []entry
	for _, r := range rs {
		p := d.byName[r.Point]
		if p == nil {
			if p = d.found(r.Point); p == nil {
				continue
			}
		}
		var date *undated
		if r.Quality == devices.Good && !trusted {
			r.Quality = devices.Uncertain // the date may be any
			date = &undated{age: max(0, now.Sub(r.At)), put: time.Now()}
		}
		if r.Quality != devices.Bad {
			d.lastGood = now
		}
		p.observe(now)
		p.last, p.heard = r, now
		if p.due(r, now, d.m.cfg.Refresh) || force {
			e := p.tell(d.sample, r, now)
			e.undated = date
			out = append(out, e)
		}
		d.m.readings.Add(1)
	}
	d.m.queue.put(out)
}

// observe learns how often a point comes that nobody asks for.
func (p *point) observe(now time.Time) {
	if !p.dev.prof.Lines() || p.heard.IsZero() {
		return
	}
	gap := now.Sub(p.heard)
	if p.every == 0 {
		p.every = gap
	}
	p.every = (3*p.every + gap) / 4
}

// found looks whether the driver has met a new point.
func (d *device) found(name string) *point {
	if d.driver == nil {
		return nil
	}
	for _, x := range d.driver.Points() { // does not call back
		if x.Name == name {
			return d.addPoint(x)
		}
	}
	return nil
}

func (p *point) tell(sample uint64, r devices.Reading, now time.Time) entry {
	p.told, p.toldAt, p.pending = r, now, false
	return entry{sample: sample, point: p, reading: r}
}

// due says whether r is worth telling now; one that comes too early for AtMost is kept.
func (p *point) due(r devices.Reading, now time.Time, refresh time.Duration) bool {
	if p.toldAt.IsZero() || r.Quality != p.told.Quality {
		return true
	}
	since := now.Sub(p.toldAt)
	if !p.moved(r.Value) && !(refresh > 0 && since >= refresh) {
		p.pending = false // it came back to what was told
		return false
	}
	if p.AtMost > 0 && since < p.AtMost {
		p.pending = true
		return false
	}
	return true
}

// moved says whether v differs enough from what was told.
func (p *point) moved(v devices.Value) bool {
	if p.OnChange && v.Equal(p.told.Value) {
		return false
	}
	if p.Deadband > 0 {
		a, okA := v.Float64()
		b, okB := p.told.Value.Float64()
		if okA && okB {
			return math.Abs(a-b) >= p.Deadband*(1-1e-9) // 0.3 and 0.1 are 0.2 apart, whatever floats say
		}
		return !v.Equal(p.told.Value)
	}
	return true
}

// look goes over the points: what was held back by AtMost and is due is told, what was
// not heard of for too long is stale. all makes everything stale.
func (d *device) look(all bool) {
	now := d.m.clk.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sample++
	var out []entry
	for _, p := range d.points {
		if p.last.At.IsZero() {
			continue
		}
		if p.pending && now.Sub(p.toldAt) >= p.AtMost {
			out = append(out, p.tell(d.sample, p.last, now))
		}
		if p.last.Quality != devices.Good && p.last.Quality != devices.Uncertain {
			continue
		}
		limit := max(d.silent, 3*p.every)
		if all || d.silent > 0 && now.Sub(p.heard) > limit {
			p.last.Quality, p.last.At = devices.Stale, now // the time is when it was found to be
			out = append(out, p.tell(d.sample, p.last, now))
		}
	}
	d.m.queue.put(out)
}

// silence gives how long the device has said nothing that makes sense, since began at most.
func (d *device) silence(began time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.m.clk.Now().Sub(latest(began, d.lastGood))
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// attach takes the driver of a port that has just come up, or nil when it goes down.
func (d *device) attach(drv devices.Driver) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c, ok := d.driver.(devices.Counter); ok && drv == nil {
		d.counts = add(d.counts, c.Counts())
	}
	d.driver = drv
	if drv != nil {
		d.state, d.problem = StateStarting, ""
	}
}

// total gives the counts over all drivers the device has had. d.mu is held.
func (d *device) total() devices.Counts {
	if c, ok := d.driver.(devices.Counter); ok {
		return add(d.counts, c.Counts())
	}
	return d.counts
}

func (d *device) now() devices.Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.total()
}

func add(a, b devices.Counts) devices.Counts {
	last := b.Last
	if last == "" {
		last = a.Last
	}
	return devices.Counts{Good: a.Good + b.Good, Ignored: a.Ignored + b.Ignored, Garbled: a.Garbled + b.Garbled, Silent: a.Silent + b.Silent,
		Refused: a.Refused + b.Refused, Retries: a.Retries + b.Retries, Last: last}
}

// become puts the device into a state, with the health warning that belongs to it.
func (d *device) become(state, problem string) {
	d.mu.Lock()
	was := d.state
	d.state, d.problem = state, problem
	d.mu.Unlock()
	code := ""
	if state == StateSilent || state == StateGarbled || state == StateRefuses {
		code = "device-" + state + "/" + d.name
	}
	if d.warning != "" && d.warning != code {
		d.m.health.Clear(d.warning)
	}
	if code != "" {
		d.m.health.Raise(code, problem)
	}
	d.warning = code
	if was == state {
		return
	}
	switch {
	case code != "":
		d.log().Warn("device has trouble", "state", state, "err", problem)
	case state == StateGood && was != StateStarting:
		d.log().Info("device is back")
	case state == StateGood:
		d.log().Info("device is up")
	}
}
