// Package manager runs what is wired to the box: one goroutine per bus opens its port,
// asks its devices in turn or listens to the one that speaks by itself, writes, and comes
// back when a cable was pulled.
//
// It knows no protocol and no bytes: those are the drivers', which it is given by name,
// as it is given the opener of ports. What it hands on are samples of readings that are
// worth telling, by deadband and rate, through a bounded queue with one reader (Next).
// What goes wrong is a health warning in words, one per bus and device, never an end:
// a silent device is asked less often, a port that is gone is tried until it is back,
// and its values are Stale meanwhile. When the manager stops, outputs that have a safe
// value are set to it.
//
// The configuration, with everything that is mostly left out:
//
//	devices:
//	  buses:
//	    - name: boiler-room
//	      port: /dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0
//	      baud: 19200
//	      parity: even
//	      devices:
//	        - {thing: boiler, profile: heatpump, unit: 1, every: 2s}
//	        - {thing: meter, profile: eastron-sdm120, unit: 2}
//	    - port: /dev/ttyACM0                 # its name is ttyACM0
//	      devices:
//	        - {thing: boat, profile: nmea0183, silent_after: 30s}
//	    - port: tcp:192.168.1.20:502         # Modbus TCP, or NMEA and JSON over TCP
//	      devices:
//	        - {thing: inverter, profile: inverter, unit: 1}
//	    - port: i2c:1                        # /dev/i2c-1
//	      devices:
//	        - {thing: cellar, profile: bme280, address: 0x76, every: 10s}
//	    - port: gpio                         # the digital lines of the pin header
//	      devices:
//	        - {thing: hall, profile: hall-panel}
//	  profiles:
//	    hall-panel:
//	      protocol: gpio
//	      points:
//	        - {name: door, line: GPIO17, pull: up, active_low: true}
//	        - {name: siren, line: GPIO27, writable: true, safe: false}
//	    heatpump:
//	      protocol: modbus
//	      points:
//	        - {name: supply, register: holding 100, type: i16, scale: 0.1, unit: °C, deadband: 0.2}
//	        - {name: pump, register: coil 0, writable: true, safe: false}
//	    inverter:
//	      protocol: modbus
//	      points:
//	        - {name: power, register: input 12, type: f32, unit: W}
//
// What profiles can say is told in package profile. Nothing here is durable.
package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/devices"
	"tidegate/devices/profile"
	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/logs"
)

// Reporter hears of what is wrong. *health.Health is one.
type Reporter interface {
	Raise(code, text string)
	Clear(code string)
}

// Opener opens the port of a bus. Host is the one for real ports. The error's text is
// shown: it says what to do.
type Opener interface {
	Open(ctx context.Context, b *Bus) (devices.Opened, error)
}

// testWithin bounds Test, as a device that speaks by itself may never do so.
const testWithin = 15 * time.Second

// Manager keeps all buses. Its methods may be called concurrently, but for Next.
type Manager struct {
	cfg       Config
	protocols map[string]profile.Attach
	open      Opener
	health    Reporter
	clk       clock.Clock
	log       *slog.Logger
	chance    func() float64 // 0 to 1, to spread what would happen at once

	buses   []*bus
	devices []*device // in the order of the configuration
	queue   *queue
	stopped chan struct{} // closed when Run has ended

	readings atomic.Uint64
}

// New makes the manager of a valid configuration; protocols gives the driver of each
// profile.Protocols that is in use. It opens nothing: Run does.
func New(protocols map[string]profile.Attach, open Opener, health Reporter, clk clock.Clock, log *slog.Logger, cfg Config) (*Manager, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m := &Manager{cfg: cfg, protocols: protocols, open: open, health: health, clk: clk, log: log, chance: rand.Float64, queue: newQueue(clk),
		stopped: make(chan struct{})}
	for i := range cfg.Buses {
		b := &bus{m: m, cfg: cfg.Buses[i], name: cfg.Buses[i].name(), requests: make(chan *request)}
		for _, c := range b.cfg.Devices {
			p, _ := cfg.profile(c.Profile) // the configuration is valid
			if _, ok := protocols[p.Protocol]; !ok {
				return nil, fmt.Errorf("no driver for %s, which %s speaks", p.Protocol, c.name())
			}
			b.protocol = p.Protocol
			d := &device{m: m, bus: b, cfg: c, name: c.name(), thing: c.Thing, prof: &p, byName: map[string]*point{}, state: StateStarting}
			for _, x := range p.DevicePoints() {
				d.addPoint(x)
			}
			switch {
			case c.SilentAfter > 0:
				d.silent = c.SilentAfter
			case c.SilentAfter == 0:
				d.silent = defaultSilent
				if !p.Lines() {
					d.silent = max(d.silent, 3*every(&d.cfg, &p, &devices.Point{}))
				}
			}
			if p.Protocol == profile.GPIO {
				p.Every = every(&d.cfg, &p, &devices.Point{}) // its driver keeps the time
			}
			b.devices = append(b.devices, d)
			m.devices = append(m.devices, d)
		}
		if _, tcp := b.cfg.address(); !tcp && b.cfg.speaks() == "" && b.cfg.Baud == 0 {
			b.cfg.Baud = 9600
			if b.protocol == profile.NMEA {
				b.cfg.Baud = 4800 // NMEA 0183 4.11, 3.2
			}
		}
		m.buses = append(m.buses, b)
	}
	return m, nil
}

// Run keeps every bus until ctx ends; by then outputs are safe and ports closed. It is
// ready at once: nobody waits for a cable to be plugged in.
func (m *Manager) Run(ctx context.Context, ready func()) error {
	defer close(m.stopped)
	var wg sync.WaitGroup
	for _, b := range m.buses {
		wg.Go(func() { b.run(ctx) })
	}
	ready()
	<-ctx.Done()
	wg.Wait()
	return nil
}

// Next waits for the next sample worth telling, or the end of ctx. It has one caller.
func (m *Manager) Next(ctx context.Context) (Sample, error) { return m.queue.next(ctx) }

// Pending gives the next sample if one waits. Like Next it is for the one reader.
func (m *Manager) Pending() (Sample, bool) { return m.queue.take() }

// Writable gives, for every thing that has any, its points that can be written.
func (m *Manager) Writable() map[string][]devices.Point {
	w := map[string][]devices.Point{}
	for _, d := range m.devices {
		d.mu.Lock()
		for _, p := range d.points {
			if p.Writable {
				w[d.thing] = append(w[d.thing], p.Point)
			}
		}
		d.mu.Unlock()
	}
	return w
}

// Write sets a point of a thing and returns what the device says it is then. The error is
// a fault.Error: NotFound for a point that is not there, Invalid for a value it cannot
// take or a point that is read only, Conflict when the device refuses, Timeout when it
// says nothing, Unavailable when its port is down or what it says makes no sense.
func (m *Manager) Write(ctx context.Context, thing, point string, v devices.Value) (devices.Value, error) {
	d, p := m.find(thing, point)
	if p == nil {
		return devices.Value{}, fault.New(fault.NotFound, "thing %s has no point %s", thing, point)
	}
	if _, err := p.Fit(v); err != nil {
		return devices.Value{}, translate(d, err)
	}
	r := &request{ctx: ctx, dev: d, point: point, value: v, reply: make(chan reply, 1)}
	a, err := m.ask(ctx, r)
	return a.value, err
}

// Test reads a device once and gives what it says: of a device that speaks by itself,
// what it has said by the time it speaks next. Errors are as with Write.
func (m *Manager) Test(ctx context.Context, name string) ([]devices.Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, testWithin)
	defer cancel()
	for _, d := range m.devices {
		if d.name == name {
			a, err := m.ask(ctx, &request{ctx: ctx, dev: d, reply: make(chan reply, 1)})
			return a.readings, err
		}
	}
	return nil, fault.New(fault.NotFound, "no device is called %q", name)
}

func (m *Manager) find(thing, name string) (*device, *point) {
	for _, d := range m.devices {
		if d.thing == thing {
			d.mu.Lock()
			p := d.byName[name]
			d.mu.Unlock()
			if p != nil {
				return d, p
			}
		}
	}
	return nil, nil
}

// ask hands a request to the bus's goroutine and waits for the answer.
func (m *Manager) ask(ctx context.Context, r *request) (reply, error) {
	select {
	case r.dev.bus.requests <- r:
	case <-m.stopped:
		return reply{}, fault.New(fault.Unavailable, "the devices are stopped")
	case <-ctx.Done():
		return reply{}, fault.Wrap(fault.Timeout, ctx.Err(), "%s is busy", r.dev.name)
	}
	a := <-r.reply // the bus answers every request it takes, and r.ctx bounds how long
	if a.err != nil {
		return a, translate(r.dev, a.err)
	}
	return a, nil
}

// translate gives a driver's error its code.
func translate(d *device, err error) error {
	var f *fault.Error
	if errors.As(err, &f) {
		return f
	}
	code := fault.Internal
	switch {
	case errors.Is(err, devices.ErrValue), errors.Is(err, devices.ErrPoint):
		code = fault.Invalid
	case errors.Is(err, devices.ErrRefused):
		code = fault.Conflict
	case errors.Is(err, devices.ErrSilent), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		code = fault.Timeout
	case errors.Is(err, devices.ErrGone), errors.Is(err, devices.ErrGarbled), errors.Is(err, devices.ErrClosed):
		code = fault.Unavailable
	}
	return fault.Wrap(code, err, "%s: %v", d.name, err)
}

func (d *device) logger(l *slog.Logger) *slog.Logger {
	return l.With(logs.Device, d.name, logs.Port, d.bus.cfg.Port)
}

func (d *device) log() *slog.Logger { return d.logger(d.m.log) }
