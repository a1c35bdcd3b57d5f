package gpioline_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/devices"
	"tidegate/devices/devicestest"
	"tidegate/devices/drivers/gpioline"
	"tidegate/devices/profile"
	"tidegate/hw/gpio"
	"tidegate/hw/gpio/gpiosim"
)

func panel(points ...profile.Point) profile.Profile {
	return profile.Profile{Protocol: profile.GPIO, Every: 30 * time.Millisecond, Points: points}
}

func open(t *testing.T, p profile.Profile) (*gpiosim.Kernel, *gpioline.Driver) {
	t.Helper()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	sim := gpiosim.New("pinctrl-sim", 28)
	return sim, on(t, sim, p)
}

func on(t *testing.T, sim *gpiosim.Kernel, p profile.Profile) *gpioline.Driver {
	t.Helper()
	chip, err := gpio.OpenOf(sim, "")
	if err != nil {
		t.Fatal(err)
	}
	link, err := gpioline.Attach(chip, profile.Line{Name: "gpio"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := link.Device(0, &p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(d.Close(), link.Close()); err != nil {
			t.Error(err)
		}
	})
	return d.(*gpioline.Driver)
}

var (
	door  = profile.Point{Name: "door", Line: "GPIO17", Pull: "up", ActiveLow: true}
	siren = profile.Point{Name: "siren", Line: "27", Writable: true, Safe: false}
	lock  = profile.Point{Name: "lock", Line: "26", Writable: true, ActiveLow: true}
)

func TestConformance(t *testing.T) {
	devicestest.Run(t, func(t *testing.T) devicestest.Rig {
		sim, d := open(t, panel(door, siren, lock))
		both := [2]devices.Value{devices.Bool(true), devices.Bool(false)}
		return devicestest.Rig{Driver: d, Unplug: sim.Unplug, Mute: func() {},
			Values: map[string][2]devices.Value{"siren": both, "lock": {both[1], both[0]}},
			Actual: func(point string) devices.Value {
				if point == "lock" {
					return devices.Bool(!sim.Level(26))
				}
				return devices.Bool(sim.Level(27))
			}}
	})
}

// stream runs the driver's stream; next gives the next reading of a point for which ok says so.
type stream struct {
	t    *testing.T
	got  chan []devices.Reading // holds what the test has not looked at
	stop func() error           // ends it and gives its error
}

func listen(t *testing.T, d *gpioline.Driver) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &stream{t: t, got: make(chan []devices.Reading, 4096)}
	ended := make(chan error, 1) // holds the one answer
	go func() {
		ended <- d.Stream(ctx, func(rs []devices.Reading) { s.got <- append([]devices.Reading(nil), rs...) })
	}()
	s.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *stream) next(point string, ok func(r devices.Reading) bool) devices.Reading {
	s.t.Helper()
	patience := time.After(20 * time.Second)
	for {
		select {
		case rs := <-s.got:
			for _, r := range rs {
				if r.Point == point && ok(r) {
					return r
				}
			}
		case <-patience:
			s.t.Fatalf("%s: what was waited for never came", point)
		}
	}
}

func is(v devices.Value) func(devices.Reading) bool {
	return func(r devices.Reading) bool { return r.Quality == devices.Good && r.Value == v }
}

func bad(r devices.Reading) bool { return r.Quality == devices.Bad && r.Value.IsNone() }

func TestADoorIsToldWhenItOpens(t *testing.T) {
	p := panel(door)
	p.Every = time.Hour // the edge alone tells
	sim, d := open(t, p)
	s := listen(t, d)
	s.next("door", is(devices.Bool(false)))
	for range 3 {
		began := time.Now()
		sim.Drive(17, false)
		if r := s.next("door", is(devices.Bool(true))); r.At.Before(began.Add(-time.Second)) || r.At.After(time.Now()) {
			t.Errorf("dated %v, and it was pressed at %v", r.At, began)
		}
		sim.Release(17)
		s.next("door", is(devices.Bool(false)))
	}
	if err := s.stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if sim.Taken(17) {
		t.Error("the line is still taken")
	}
}

func TestPulsesAreCountedWhateverTheKernelCouldKeep(t *testing.T) {
	none := time.Duration(0)
	meter := func(name, kind, edge string, scale float64) profile.Point {
		return profile.Point{Name: name, Line: "22", Type: kind, Edge: edge, Scale: scale, Debounce: &none}
	}
	sim, d := open(t, panel(meter("water", "count", "", 0), meter("litres", "count", "falling", 0.5), meter("both", "count", "both", 0), meter("flow", "rate", "", 60)))
	s := listen(t, d)
	s.next("water", is(devices.Int(0)))
	for range 1000 {
		sim.Drive(22, true)
		sim.Drive(22, false)
	}
	s.next("flow", func(r devices.Reading) bool { f, _ := r.Value.Float64(); return f > 0 })
	s.next("water", is(devices.Int(1000)))
	s.next("litres", is(devices.Float(500)))
	s.next("both", is(devices.Int(2000)))
	s.next("flow", is(devices.Float(0)))
}

func TestALineSomebodyElseHasIsSaidAndTriedAgain(t *testing.T) {
	sim, d := open(t, panel(door, siren))
	sim.Occupy(17, "spi0 CS0")
	s := listen(t, d)
	s.next("door", bad)
	s.next("siren", is(devices.Bool(false)))
	if got := d.Problem(); got != "line GPIO17 of gpiochip0 is in use by spi0 CS0" {
		t.Errorf("problem %q", got)
	}
	if c := d.Counts(); c.Refused == 0 || !strings.Contains(c.Last, "in use by spi0 CS0") {
		t.Errorf("%+v", c)
	}
	sim.Occupy(17, "")
	s.next("door", is(devices.Bool(false)))
	if got := d.Problem(); got != "" {
		t.Errorf("problem %q", got)
	}
	sim.Occupy(17, "")
	sim.Drive(17, false)
	s.next("door", is(devices.Bool(true)))
}

func TestAnOutputThatCannotBeTakenRefuses(t *testing.T) {
	sim, d := open(t, panel(siren, profile.Point{Name: "none", Line: "GPIO99", Writable: true}))
	sim.Occupy(27, "fan")
	if _, err := d.Write(t.Context(), "siren", devices.Bool(true)); !errors.Is(err, devices.ErrRefused) || !strings.Contains(err.Error(), "in use by fan") {
		t.Errorf("%v, want ErrRefused", err)
	}
	if _, err := d.Write(t.Context(), "none", devices.Bool(true)); !errors.Is(err, devices.ErrRefused) || !strings.Contains(err.Error(), "has no line GPIO99") {
		t.Errorf("%v, want ErrRefused", err)
	}
	if err := d.Halt(); err == nil {
		t.Error("halt says that a siren it does not have is safe")
	}
}

func TestAnOutputOutlivesTheGateway(t *testing.T) {
	sim, d := open(t, panel(lock))
	if v, err := d.Write(t.Context(), "lock", devices.Bool(true)); err != nil || v != devices.Bool(true) {
		t.Fatal(v, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again := listen(t, on(t, sim, panel(lock)))
	again.next("lock", is(devices.Bool(true)))
	if sim.Level(26) {
		t.Error("the lock fell open when the gateway came back")
	}
}

func TestAChipThatLeavesEndsTheStream(t *testing.T) {
	for name, every := range map[string]time.Duration{"noticed when lines are read": 20 * time.Millisecond, "noticed by who waits for an edge": time.Hour} {
		t.Run(name, func(t *testing.T) {
			p := panel(door)
			p.Every = every
			sim, d := open(t, p)
			ended := make(chan error, 1) // holds the one answer
			first := make(chan struct{}, 4096)
			go func() { ended <- d.Stream(t.Context(), func([]devices.Reading) { first <- struct{}{} }) }()
			<-first
			sim.Unplug()
			select {
			case err := <-ended:
				if !errors.Is(err, devices.ErrGone) {
					t.Errorf("%v, want ErrGone", err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("still streams")
			}
		})
	}
}

func TestWhatIsNoChipIsRefused(t *testing.T) {
	link, err := gpioline.Attach(closer{}, profile.Line{Name: "ttyUSB0"})
	if err == nil || !strings.Contains(err.Error(), "ttyUSB0 is no GPIO chip") {
		t.Errorf("%v", err)
	}
	if err := link.Close(); err != nil {
		t.Error(err)
	}
}

type closer struct{}

func (closer) Close() error { return nil }
