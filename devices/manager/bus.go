package manager

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"tidegate/devices"
	"tidegate/devices/profile"
	"tidegate/gateway/fault"
	"tidegate/gateway/logs"
)

const (
	// rescan is how often a port that is missing is looked for: a look costs one system call.
	rescan = time.Second
	// maxPause bounds the pauses between two tries to open a port that is there.
	maxPause = 30 * time.Second
	// maxSkip bounds how seldom a device that does not answer is asked.
	maxSkip = time.Minute
	// tick is how often a bus looks for what is due, stale or silent.
	tick = 500 * time.Millisecond
)

// bus is one line with its goroutine. What is not told otherwise is touched by it alone.
type bus struct {
	m        *Manager
	cfg      Bus
	name     string
	protocol string
	devices  []*device
	requests chan *request // none waits in it: who asks waits for the bus to take it
	problem  string        // why the port is down; empty while it is up
}

// request is something to be done on the bus in between.
type request struct {
	ctx   context.Context
	dev   *device
	point string // written when set, else the device is read
	value devices.Value
	since time.Time
	reply chan reply // holds the one answer
}

type reply struct {
	value    devices.Value
	readings []devices.Reading
	err      error
}

// run opens the port and keeps it in use, again and again, until ctx ends.
func (b *bus) run(ctx context.Context) {
	log := b.m.log.With(logs.Port, b.cfg.Port)
	for attempt := 1; ; attempt++ {
		up, err := b.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if up {
			attempt = 1
		}
		b.down(err)
		pause := min(rescan<<min(attempt-1, 10), maxPause)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, devices.ErrGone) {
			pause = rescan
		}
		if attempt&(attempt-1) == 0 { // on change, and then rarely
			log.Warn("port is down, trying again", logs.Err(err), logs.Attempt, attempt)
		}
		if b.rest(ctx, b.spread(pause)) != nil {
			return
		}
	}
}

// spread makes a pause up to a fifth longer or shorter, so that buses do not all wake at once.
func (b *bus) spread(d time.Duration) time.Duration {
	return d + time.Duration((b.m.chance()-0.5)*0.4*float64(d))
}

// down says that the port is not there, and why.
func (b *bus) down(err error) {
	b.problem = err.Error()
	b.m.health.Raise("bus-down/"+b.name, fmt.Sprintf("bus %s: %s", b.name, b.problem))
	for _, d := range b.devices {
		d.become(StateDown, b.problem)
		d.look(true)
	}
}

// rest waits while the port is down, refusing what is asked.
func (b *bus) rest(ctx context.Context, pause time.Duration) error {
	t := b.m.clk.NewTimer(pause)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C():
			return nil
		case r := <-b.requests:
			r.reply <- reply{err: fault.New(fault.Unavailable, "%s: %s", r.dev.name, b.problem)}
		}
	}
}

// session opens the port, makes the drivers and serves them until ctx ends or the port
// is lost. up says whether the port was there at all.
func (b *bus) session(ctx context.Context) (up bool, err error) {
	port, err := b.m.open.Open(ctx, &b.cfg)
	if err != nil {
		return false, err
	}
	link, err := b.m.protocols[b.protocol](port, b.cfg.line())
	if err != nil {
		link.Close()
		return false, err
	}
	defer func() {
		if e := link.Close(); e != nil && ctx.Err() != nil {
			b.m.log.Warn("port closed badly", logs.Port, b.cfg.Port, logs.Err(e))
		}
	}()
	var drivers []devices.Driver
	for _, d := range b.devices {
		drv, err := link.Device(d.cfg.number(d.prof), d.prof)
		if err != nil {
			return false, err
		}
		drivers = append(drivers, drv)
		d.attach(drv)
		defer func() {
			d.attach(nil)
			drv.Close()
		}()
	}
	b.m.health.Clear("bus-down/" + b.name)
	if b.problem != "" {
		b.m.log.Info("port is back", logs.Port, b.cfg.Port)
	}
	b.problem = ""
	defer func() {
		if ctx.Err() != nil {
			b.halt(drivers)
		}
	}()
	if _, ok := drivers[0].(devices.Streamer); ok {
		return true, b.listen(ctx, drivers)
	}
	return true, b.poll(ctx, drivers)
}

// halt brings outputs to their safe state.
func (b *bus) halt(drivers []devices.Driver) {
	for i, drv := range drivers {
		if h, ok := drv.(devices.Halter); ok {
			if err := h.Halt(); err != nil {
				b.devices[i].log().Error("outputs may not be safe", logs.Err(err))
			}
		}
	}
}

// serve carries out one request on a driver.
func (b *bus) serve(ctx context.Context, r *request, drv devices.Driver) error {
	both, cancel := context.WithCancel(r.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	var a reply
	switch w, ok := drv.(devices.Writer); {
	case r.point != "" && !ok:
		a.err = fmt.Errorf("%w: nothing of %s can be written", devices.ErrPoint, r.dev.name)
	case r.point != "":
		a.value, a.err = w.Write(both, r.point, r.value)
		if a.err == nil && !a.value.IsNone() {
			r.dev.accept([]devices.Reading{{Point: r.point, Value: a.value, At: b.m.clk.Now(), Quality: devices.Good}}, true)
		}
	default:
		a.readings, a.err = drv.(devices.Sampler).Sample(both, nil)
		r.dev.accept(a.readings, false)
	}
	r.reply <- a
	if errors.Is(a.err, devices.ErrGone) {
		return a.err
	}
	return nil
}

// turn is one point of a bus's timetable: points of a device that are due together.
type turn struct {
	dev    *device
	drv    devices.Driver
	points []string // nil for all
	every  time.Duration
	next   time.Time
}

// timetable makes the turns of a device, one for each different interval.
func (b *bus) timetable(d *device, drv devices.Driver, now time.Time) []*turn {
	by := map[time.Duration]*turn{}
	var ts []*turn
	for _, p := range d.points {
		t := by[p.every]
		if t == nil {
			t = &turn{dev: d, drv: drv, every: p.every, next: now}
			by[p.every] = t
			ts = append(ts, t)
		}
		t.points = append(t.points, p.Name)
	}
	if _, can := drv.(devices.PartSampler); !can || len(ts) == 1 {
		shortest := ts[0]
		for _, t := range ts {
			if t.every < shortest.every {
				shortest = t
			}
		}
		shortest.points = nil
		return []*turn{shortest}
	}
	return ts
}

// poll asks the devices of a bus in turn until ctx ends or the port is lost.
func (b *bus) poll(ctx context.Context, drivers []devices.Driver) error {
	began := b.m.clk.Now()
	var turns []*turn
	failed := map[*device]int{} // how often in a row a device gave no good answer
	byDevice := map[*device]devices.Driver{}
	for i, d := range b.devices {
		turns = append(turns, b.timetable(d, drivers[i], began)...)
		byDevice[d] = drivers[i]
	}
	look := b.m.clk.NewTimer(tick)
	defer look.Stop()
	due := b.m.clk.NewTimer(0)
	defer due.Stop()
	for {
		t := turns[0]
		for _, x := range turns {
			if x.next.Before(t.next) {
				t = x
			}
		}
		due.Reset(max(0, t.next.Sub(b.m.clk.Now())))
		select {
		case r := <-b.requests: // goes before what is due, as somebody waits for it
			if err := b.serve(ctx, r, byDevice[r.dev]); err != nil {
				return err
			}
			continue
		default:
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-b.requests:
			if err := b.serve(ctx, r, byDevice[r.dev]); err != nil {
				return err
			}
		case <-look.C():
			look.Reset(tick)
			for _, d := range b.devices {
				d.look(false)
			}
		case <-due.C():
			err := b.ask(ctx, t)
			if ctx.Err() != nil || errors.Is(err, devices.ErrGone) {
				return err
			}
			b.judge(t, err, failed, began)
			pause := t.every
			if n := failed[t.dev]; n > 0 {
				pause = b.spread(max(t.every, min(t.every<<min(n, 16), maxSkip)))
			}
			t.next = t.next.Add(pause)
			if now := b.m.clk.Now(); t.next.Before(now) { // the bus is slower than its timetable
				t.next = now
				if failed[t.dev] > 0 {
					t.next = now.Add(pause)
				}
			}
			if failed[t.dev] > 0 { // its other points are no better off
				for _, x := range turns {
					if x.dev == t.dev && x.next.Before(t.next) {
						x.next = t.next
					}
				}
			}
		}
	}
}

// ask reads what a turn is about.
func (b *bus) ask(ctx context.Context, t *turn) error {
	var rs []devices.Reading
	var err error
	if p, ok := t.drv.(devices.PartSampler); ok && t.points != nil {
		rs, err = p.SampleOf(ctx, t.points, nil)
	} else {
		rs, err = t.drv.(devices.Sampler).Sample(ctx, nil)
	}
	t.dev.accept(rs, false)
	if err == nil {
		for _, r := range rs {
			if r.Quality != devices.Bad {
				return nil
			}
		}
		return fmt.Errorf("%w: every point that was asked for", devices.ErrRefused)
	}
	return err
}

// judge keeps a polled device's state by how a question to it ended.
func (b *bus) judge(t *turn, err error, failed map[*device]int, began time.Time) {
	d := t.dev
	if err == nil {
		failed[d] = 0
		d.become(StateGood, "")
		return
	}
	failed[d]++
	switch quiet := d.silence(began).Round(time.Second); {
	case errors.Is(err, devices.ErrRefused):
		d.become(StateRefuses, fmt.Sprintf("device %s on %s refuses every point: is its profile %s the right one? (%s)", d.name, b.name, d.cfg.Profile, d.now().Last))
	case errors.Is(err, devices.ErrGarbled) && (failed[d] >= 3 || d.silent > 0 && quiet >= d.silent):
		d.become(StateGarbled, fmt.Sprintf("device %s on %s makes no sense: %v", d.name, b.name, err))
	case errors.Is(err, devices.ErrSilent) && d.silent > 0 && quiet >= d.silent:
		look := "its power, wiring, unit number, speed and parity"
		if b.protocol == profile.I2C {
			look = fmt.Sprintf("its power, wiring and address, see tidegate device scan (%v)", err)
		}
		d.become(StateSilent, fmt.Sprintf("device %s on %s has not answered for %v: look at %s", d.name, b.name, quiet, look))
	}
}

// listen takes what devices say by themselves until ctx ends or the port is lost.
func (b *bus) listen(ctx context.Context, drivers []devices.Driver) error {
	began := b.m.clk.Now()
	inner, stop := context.WithCancel(ctx)
	running := len(drivers)
	ended := make(chan error, running) // holds how each stream ended
	before := map[*device]devices.Counts{}
	byDevice := map[*device]devices.Driver{}
	for i, d := range b.devices {
		byDevice[d] = drivers[i]
		go func() {
			ended <- drivers[i].(devices.Streamer).Stream(inner, func(sample []devices.Reading) { d.accept(sample, false) })
		}()
	}
	defer func() {
		stop()
		for range running {
			<-ended
		}
	}()
	look := b.m.clk.NewTimer(tick)
	defer look.Stop()
	var waiting []*request // for their device to speak
	defer func() {
		for _, r := range waiting {
			r.reply <- reply{err: devices.ErrGone}
		}
	}()
	for {
		select {
		case err := <-ended:
			running--
			if err == nil {
				err = errors.New("the driver ended by itself")
			}
			return err
		case r := <-b.requests:
			if r.point == "" {
				r.since = b.m.clk.Now()
				waiting = append(waiting, r)
				continue
			}
			if err := b.serve(ctx, r, byDevice[r.dev]); err != nil {
				return err
			}
		case <-look.C():
			look.Reset(tick)
			waiting = b.heard(waiting)
			for i, d := range b.devices {
				d.look(false)
				before[d] = b.judgeStream(d, drivers[i], before[d], began)
			}
		}
	}
}

// heard answers those that wait for a device to speak, or whose time is up.
func (b *bus) heard(waiting []*request) (still []*request) {
	for _, r := range waiting {
		switch {
		case r.ctx.Err() != nil:
			r.reply <- reply{err: fmt.Errorf("%w within the time that was given", devices.ErrSilent)}
		case r.dev.heardAt().After(r.since):
			r.reply <- reply{readings: r.dev.readings()}
		default:
			still = append(still, r)
		}
	}
	return still
}

// judgeStream keeps the state of a device that speaks by itself.
func (b *bus) judgeStream(d *device, drv devices.Driver, before devices.Counts, began time.Time) devices.Counts {
	now := d.now()
	quiet := d.silence(began)
	problem := ""
	if x, ok := drv.(devices.Diagnoser); ok {
		problem = x.Problem()
	}
	switch {
	case problem != "":
		d.become(StateRefuses, fmt.Sprintf("device %s on %s: %s", d.name, b.name, problem))
	case d.heardAt().After(began) && (d.silent == 0 || quiet < d.silent):
		d.become(StateGood, "")
	case d.silent == 0 || quiet < d.silent: // too early to say
		return before
	case now.Garbled > before.Garbled:
		d.become(StateGarbled, fmt.Sprintf("device %s on %s makes no sense for %v: look at speed and parity, wiring and profile %s: %s", d.name, b.name,
			quiet.Round(time.Second), d.cfg.Profile, now.Last))
	case now.Ignored > before.Ignored:
		d.become(StateSilent, fmt.Sprintf("device %s on %s has said nothing its profile %s knows for %v", d.name, b.name, d.cfg.Profile, quiet.Round(time.Second)))
	case now == before:
		d.become(StateSilent, fmt.Sprintf("device %s on %s has said nothing for %v: look at its power and wiring", d.name, b.name, quiet.Round(time.Second)))
	}
	return now
}
