package i2cdev_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/i2c/i2ctest"

	"tidegate/devices"
	"tidegate/devices/devicestest"
	"tidegate/devices/drivers/i2cdev"
	"tidegate/devices/profile"
	"tidegate/hw/i2c"
	"tidegate/hw/i2c/i2csim"
)

func device(t *testing.T, w i2c.Wire, address int, p profile.Profile) devices.Driver {
	t.Helper()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	link, err := i2cdev.Attach(i2c.On("sim:i2c", w), profile.Line{Name: "i2c"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { link.Close() })
	d, err := link.Device(address, &p)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func builtin(t *testing.T, name string) profile.Profile {
	t.Helper()
	p, ok := profile.Builtin(name)
	if !ok {
		t.Fatalf("no profile %s", name)
	}
	return p
}

func bme280() i2csim.Chip {
	return i2csim.BME280(func() (float64, float64, float64) { return 21.5, 1013.25, 40 })
}

func sht31() i2csim.Chip { return i2csim.SHT31(func() (float64, float64) { return 19.25, 55 }) }

func TestConformance(t *testing.T) {
	for name, c := range map[string]struct {
		address uint16
		chip    func() i2csim.Chip
	}{"bme280": {0x76, bme280}, "sht31": {0x44, sht31}} {
		t.Run(name, func(t *testing.T) {
			devicestest.Run(t, func(t *testing.T) devicestest.Rig {
				sim := i2csim.New()
				sim.Plug(c.address, c.chip())
				return devicestest.Rig{Driver: device(t, sim, int(c.address), builtin(t, name)),
					Unplug: func() { sim.Break(unix.ENODEV) }, Mute: func() { sim.Unplug(c.address) }}
			})
		})
	}
}

// values samples once and gives good values by point.
func values(t *testing.T, d devices.Driver) map[string]float64 {
	t.Helper()
	rs, err := d.(devices.Sampler).Sample(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	vs := map[string]float64{}
	for _, r := range rs {
		f, ok := r.Value.Float64()
		if !ok || r.Quality != devices.Good {
			t.Errorf("%s is %v, %v", r.Point, r.Value, r.Quality)
		}
		vs[r.Point] = f
	}
	return vs
}

func near(t *testing.T, got, want map[string]float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for point, w := range want {
		if g, ok := got[point]; !ok || math.Abs(g-w) > 0.1 {
			t.Errorf("%s is %v, want %v", point, g, w)
		}
	}
}

func TestSensorsOfOneBusAreReadSideBySide(t *testing.T) {
	sim := i2csim.New()
	sim.Plug(0x76, bme280())
	sim.Plug(0x44, sht31())
	near(t, values(t, device(t, sim, 0x76, builtin(t, "bme280"))), map[string]float64{"temperature": 21.5, "pressure": 1013.25, "humidity": 40})
	near(t, values(t, device(t, sim, 0x44, builtin(t, "sht31"))), map[string]float64{"temperature": 19.25, "humidity": 55})
}

// played is periph's playback of recorded transfers as a wire.
type played struct{ *i2ctest.Playback }

func (p played) Transfer(addr uint16, w, r []byte) error { return p.Tx(addr, w, r) }

// Byte for byte by the datasheets: SBAS444E 8.1 (ADS1115) and SBOS397H table 1 (TMP102).
func TestProfilesSayWhatGoesOverTheWire(t *testing.T) {
	io := func(w string, r ...byte) i2ctest.IO { return i2ctest.IO{Addr: 0x48, W: []byte(w), R: r} }
	p := &i2ctest.Playback{DontPanic: true, Ops: []i2ctest.IO{
		io("\x01\xC3\x83"), io("\x00", 0x7F, 0xFF),
		io("\x01\xD3\x83"), io("\x00", 0x80, 0x00),
		io("\x01\xE3\x83"), io("\x00", 0x1F, 0x40),
		io("\x01\xF3\x83"), io("\x00", 0x00, 0x00)}}
	near(t, values(t, device(t, played{p}, 0x48, builtin(t, "ads1115"))), map[string]float64{"a0": 4.095875, "a1": -4.096, "a2": 1, "a3": 0})
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	for raw, celsius := range map[string]float64{"\x7F\xF0": 127.9375, "\x19\x00": 25, "\xFF\xC0": -0.25, "\xC9\x00": -55} {
		p := &i2ctest.Playback{DontPanic: true, Ops: []i2ctest.IO{io("\x00", []byte(raw)...)}}
		near(t, values(t, device(t, played{p}, 0x48, builtin(t, "tmp102"))), map[string]float64{"temperature": celsius})
	}
}

func TestASensorThatWasPulledIsSetUpAnew(t *testing.T) {
	sim := i2csim.New()
	sim.Plug(0x76, bme280())
	d := device(t, sim, 0x76, builtin(t, "bme280"))
	values(t, d)
	sim.Unplug(0x76)
	if _, err := d.(devices.Sampler).Sample(t.Context(), nil); !errors.Is(err, devices.ErrSilent) || !strings.Contains(err.Error(), "at address 0x76 of sim:i2c") {
		t.Errorf("pulled: %v, want ErrSilent", err)
	}
	sim.Plug(0x76, bme280()) // fresh from power: it has forgotten how it was set up
	near(t, values(t, d), map[string]float64{"temperature": 21.5, "pressure": 1013.25, "humidity": 40})
	if c := d.(devices.Counter).Counts(); c.Good != 2 || c.Silent != 1+i2cdev.DefaultRetries || c.Retries != i2cdev.DefaultRetries {
		t.Errorf("%+v", c)
	}
}

func TestWhatABusDoesIsToldApart(t *testing.T) {
	sim := i2csim.New()
	sim.Plug(0x44, sht31())
	d := device(t, sim, 0x44, builtin(t, "sht31"))
	for errno, want := range map[unix.Errno]error{unix.ETIMEDOUT: devices.ErrSilent, unix.EREMOTEIO: devices.ErrSilent, unix.ENODEV: devices.ErrGone} {
		sim.Break(errno)
		if _, err := d.(devices.Sampler).Sample(t.Context(), nil); !errors.Is(err, want) {
			t.Errorf("%v: %v, want %v", errno, err, want)
		}
	}
	sim.Break(nil)
	values(t, d)
}

// flaky answers every other transfer.
type flaky struct {
	i2c.Wire
	n atomic.Int64
}

func (f *flaky) Transfer(addr uint16, w, r []byte) error {
	if f.n.Add(1)%2 == 1 {
		return unix.EREMOTEIO
	}
	return f.Wire.Transfer(addr, w, r)
}

func TestAMissingAcknowledgementIsTriedAgain(t *testing.T) {
	sim := i2csim.New()
	sim.Plug(0x48, i2csim.Registers(0x19, 0x00))
	d := device(t, &flaky{Wire: sim}, 0x48, builtin(t, "tmp102"))
	near(t, values(t, d), map[string]float64{"temperature": 25})
	if c := d.(devices.Counter).Counts(); c.Good != 1 || c.Silent != 1 || c.Retries != 1 {
		t.Errorf("%+v", c)
	}
}

func TestAnotherChipIsSaidByName(t *testing.T) {
	sim := i2csim.New()
	sim.Plug(0x76, bme280())
	d := device(t, sim, 0x76, builtin(t, "bmp280"))
	_, err := d.(devices.Sampler).Sample(t.Context(), nil)
	if !errors.Is(err, devices.ErrRefused) || !strings.Contains(err.Error(), "BME280 answers at address 0x76 of sim:i2c, expected BMP280") {
		t.Errorf("%v, want ErrRefused", err)
	}
	if c := d.(devices.Counter).Counts(); c.Refused != 1 || c.Retries != 0 || !strings.Contains(c.Last, "expected BMP280") {
		t.Errorf("%+v", c)
	}
}

// damaged flips a bit of every answer.
type damaged struct{ i2c.Wire }

func (d damaged) Transfer(addr uint16, w, r []byte) error {
	err := d.Wire.Transfer(addr, w, r)
	if len(r) > 0 {
		r[len(r)-2] ^= 4
	}
	return err
}

func TestADamagedAnswerIsNoReading(t *testing.T) {
	sim := i2csim.New()
	sim.Plug(0x44, sht31())
	d := device(t, damaged{sim}, 0x44, builtin(t, "sht31"))
	rs, err := d.(devices.Sampler).Sample(t.Context(), nil)
	if !errors.Is(err, devices.ErrGarbled) || len(rs) != 0 {
		t.Errorf("%v, %v, want ErrGarbled", rs, err)
	}
}

func TestWhatCannotBeServedIsRefused(t *testing.T) {
	link, err := i2cdev.Attach(closer{}, profile.Line{Name: "ttyUSB0"})
	if err == nil || !strings.Contains(err.Error(), "ttyUSB0 is no I²C bus") {
		t.Errorf("%v", err)
	}
	link.Close()
	link, err = i2cdev.Attach(i2c.On("sim", i2csim.New()), profile.Line{})
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	p := builtin(t, "tmp102")
	for _, address := range []int{0, 7, 0x78} {
		if _, err := link.Device(address, &p); err == nil || !strings.Contains(err.Error(), "expected 0x08 to 0x77") {
			t.Errorf("0x%02x: %v", address, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := device(t, i2csim.New(), 0x48, p)
	if _, err := d.(devices.Sampler).Sample(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

type closer struct{}

func (closer) Close() error { return nil }
