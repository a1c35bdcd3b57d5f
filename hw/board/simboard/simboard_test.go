package simboard_test

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"testing"
	"time"

	"tidegate/devices"
	"tidegate/devices/drivers/modbus"
	"tidegate/devices/drivers/serialline"
	"tidegate/devices/profile"
	"tidegate/gateway/clock"
	"tidegate/hw/board/simboard"
	"tidegate/hw/serial"
)

func start(t *testing.T) *simboard.Board {
	t.Helper()
	b, err := simboard.Open(clock.System())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.Run(ctx, func() {}); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait(); b.Close() })
	return b
}

// device makes the driver of a simulated port, over the same serial package as real ones.
func device(t *testing.T, b *simboard.Board, port, name string, attach profile.Attach, unit int) devices.Driver {
	t.Helper()
	node, err := b.Resolve(port)
	if err != nil {
		t.Fatal(err)
	}
	p, err := serial.Open(serial.Config{Name: node})
	if err != nil {
		t.Fatal(err)
	}
	link, err := attach(p, profile.Line{Baud: 9600})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { link.Close() })
	prof, _ := profile.Builtin(name)
	d, err := link.Device(unit, &prof)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTalkersAreUnderstoodToTheLastByte(t *testing.T) {
	b := start(t)
	for port, c := range map[string]struct {
		profile string
		points  []string
	}{
		"sim:gps":     {"nmea0183", []string{"latitude", "longitude", "altitude", "speed", "course", "wind_angle_apparent", "wind_speed_apparent"}},
		"sim:weather": {"sim-weather", []string{"temperature", "humidity", "pressure"}},
	} {
		d := device(t, b, port, c.profile, serialline.Attach, 0)
		seen := map[string]devices.Value{}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		d.(devices.Streamer).Stream(ctx, func(sample []devices.Reading) {
			for _, r := range sample {
				if r.Quality != devices.Good {
					t.Errorf("%s of %s is %v %v", r.Point, port, r.Value, r.Quality)
				}
				seen[r.Point] = r.Value
			}
			for _, p := range c.points {
				if seen[p].IsNone() {
					return
				}
			}
			cancel()
		})
		cancel()
		for _, p := range c.points {
			if seen[p].IsNone() {
				t.Errorf("%s never said %s", port, p)
			}
		}
		if lat, ok := seen["latitude"].Float64(); ok && (lat < 54.34 || lat > 54.36) {
			t.Errorf("latitude %v", lat)
		}
		if n := d.(devices.Counter).Counts(); n.Garbled != 0 {
			t.Errorf("%s: %+v", port, n)
		}
	}
}

func TestThePumpCanBeSwitchedFromBothSides(t *testing.T) {
	b := start(t)
	d := device(t, b, "sim:plc", "sim-plc", modbus.Attach, 1).(*modbus.Driver)
	read := func(point string) devices.Reading {
		t.Helper()
		rs, err := d.SampleOf(t.Context(), []string{point}, nil)
		if err != nil || len(rs) != 1 || rs[0].Quality != devices.Good {
			t.Fatalf("%s: %v, %v", point, rs, err)
		}
		return rs[0]
	}
	rs, err := d.Sample(t.Context(), nil)
	if err != nil || len(rs) != len(d.Points()) {
		t.Fatalf("%v, %v", rs, err)
	}
	if v := read("flow").Value; !v.Equal(devices.Int(0)) {
		t.Errorf("flow %v with the pump off", v)
	}
	if v, err := d.Write(t.Context(), "pump", devices.Bool(true)); err != nil || v != devices.Bool(true) || !b.Coil(0) {
		t.Errorf("pump on: %v, %v, coil %v", v, err, b.Coil(0))
	}
	if v, err := d.Write(t.Context(), "setpoint", devices.Float(60.5)); err != nil || v != devices.Float(60.5) || b.Holding(0) != 605 {
		t.Errorf("setpoint: %v, %v, register %d", v, err, b.Holding(0))
	}
	if flow, _ := read("flow").Value.Float64(); flow < 1 {
		t.Errorf("flow %v with the pump on", flow)
	}
	b.SetCoil(0, false)
	if v := read("pump").Value; v != devices.Bool(false) {
		t.Errorf("pump switched off by hand reads %v", v)
	}
	if err := d.Halt(); err != nil {
		t.Error(err)
	}
}

func TestACableCanBePulledAndPutBack(t *testing.T) {
	b := start(t)
	d := device(t, b, "sim:plc", "sim-plc", modbus.Attach, 1).(*modbus.Driver)
	b.Unplug("sim:plc")
	if _, err := d.Sample(t.Context(), nil); !errors.Is(err, devices.ErrGone) {
		t.Errorf("pulled: %v, want ErrGone", err)
	}
	if _, err := b.Resolve("sim:plc"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("node of a pulled cable: %v", err)
	}
	if err := b.Plug("sim:plc"); err != nil {
		t.Fatal(err)
	}
	if _, err := device(t, b, "sim:plc", "sim-plc", modbus.Attach, 1).(*modbus.Driver).Sample(t.Context(), nil); err != nil {
		t.Errorf("put back: %v", err)
	}
	if _, err := b.Resolve("sim:none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such port: %v", err)
	}
}
