package i2c_test

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/i2c/i2ctest"

	"tidegate/hw/i2c"
	"tidegate/hw/i2c/i2csim"
)

// played is periph's playback of recorded transfers as a wire.
type played struct{ *i2ctest.Playback }

func (p played) Transfer(addr uint16, w, r []byte) error { return p.Tx(addr, w, r) }

// The example of BST-BMP280-DS001, 3.12: 25.08 °C and 100653 Pa, byte for byte.
func TestTheDatasheetsExampleIsMeasured(t *testing.T) {
	const at = 0x76
	p := &i2ctest.Playback{DontPanic: true, Ops: []i2ctest.IO{
		{Addr: at, W: []byte{0xD0}, R: []byte{0x58}},
		{Addr: at, W: []byte{0xD0}, R: []byte{0x58}},
		{Addr: at, W: []byte{0x88}, R: []byte{0x70, 0x6B, 0x43, 0x67, 0x18, 0xFC, 0x7D, 0x8E, 0x43, 0xD6, 0xD0, 0x0B, 0x27, 0x0B, 0x8C, 0x00,
			0xF9, 0xFF, 0x8C, 0x3C, 0xF8, 0xC6, 0x70, 0x17, 0, 0}},
		{Addr: at, W: []byte{0xF4, 0x6C, 0xF5, 0xA0, 0xF4, 0x6C}},
		{Addr: at, W: []byte{0xF4, 0x6D}},
		{Addr: at, W: []byte{0xF3}, R: []byte{0x08}}, // it measures
		{Addr: at, W: []byte{0xF3}, R: []byte{0x00}},
		{Addr: at, W: []byte{0xF7}, R: []byte{0x65, 0x5A, 0xC0, 0x7E, 0xED, 0x00}},
	}}
	b := i2c.On("played", played{p})
	c, err := i2c.OpenClimate(t.Context(), b, at, i2c.BMP280)
	if err != nil {
		t.Fatal(err)
	}
	e, err := c.Read(t.Context())
	if err != nil || e.Celsius != 25.08 || e.HectoPascal != 1006.53 || !math.IsNaN(e.Percent) {
		t.Errorf("%+v, %v, want 25.08 °C, 1006.53 hPa and no humidity", e, err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("not all of the transfers were made: %v", err)
	}
}

func TestASimulatedSensorIsMeasured(t *testing.T) {
	sim := i2csim.New()
	for _, want := range []i2c.Env{{Celsius: 21.5, HectoPascal: 1013.25, Percent: 40}, {Celsius: -12.25, HectoPascal: 950, Percent: 88.5}} {
		sim.Plug(0x77, i2csim.BME280(func() (float64, float64, float64) { return want.Celsius, want.HectoPascal, want.Percent }))
		c, err := i2c.OpenClimate(t.Context(), i2c.On("sim", sim), 0x77, i2c.BME280)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Read(t.Context())
		if err != nil || math.Abs(got.Celsius-want.Celsius) > 0.02 || math.Abs(got.HectoPascal-want.HectoPascal) > 0.1 || math.Abs(got.Percent-want.Percent) > 0.2 {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
}

func TestWhatIsWrongIsToldApart(t *testing.T) {
	sim := i2csim.New()
	b := i2c.On("sim", sim)
	sim.Plug(0x76, i2csim.BME280(func() (float64, float64, float64) { return 20, 1000, 50 }))
	if _, err := i2c.OpenClimate(t.Context(), b, 0x76, i2c.BMP280); !errors.Is(err, i2c.ErrChip) || err.Error() != "another chip: BME280 answers at address 0x76 of sim, expected BMP280" {
		t.Errorf("%v, want ErrChip", err)
	}
	c, err := i2c.OpenClimate(t.Context(), b, 0x76, i2c.BME280)
	if err != nil {
		t.Fatal(err)
	}
	sim.Unplug(0x76)
	if _, err := c.Read(t.Context()); !errors.Is(err, i2c.ErrSilent) {
		t.Errorf("unplugged: %v, want ErrSilent", err)
	}
	for errno, want := range map[unix.Errno]error{unix.ETIMEDOUT: i2c.ErrStuck, unix.EAGAIN: i2c.ErrStuck, unix.EIO: i2c.ErrSilent,
		unix.EREMOTEIO: i2c.ErrSilent, unix.ENODEV: i2c.ErrGone} {
		sim.Break(errno)
		if _, err := c.Read(t.Context()); !errors.Is(err, want) {
			t.Errorf("%v: %v, want %v", errno, err, want)
		}
	}
	sim.Break(nil)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Read(t.Context()); !errors.Is(err, i2c.ErrGone) {
		t.Errorf("closed: %v, want ErrGone", err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

// A chip of which every bit reads 1, as of a line that hangs, says for ever that it measures.
func TestAChipThatNeverEndsIsGivenUp(t *testing.T) {
	sim := i2csim.New()
	sim.Plug(0x76, i2csim.BME280(func() (float64, float64, float64) { return 20, 1000, 50 }))
	c, err := i2c.OpenClimate(t.Context(), i2c.On("sim", sim), 0x76, i2c.BME280)
	if err != nil {
		t.Fatal(err)
	}
	var ones [256]byte
	for i := range ones {
		ones[i] = 0xFF
	}
	sim.Plug(0x76, i2csim.Registers(ones[:]...))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the context's error", err)
	}
}

func TestChipsAreFoundByTheirAddress(t *testing.T) {
	sim := i2csim.New()
	b := i2c.On("sim", sim)
	for _, a := range []uint16{0x08, 0x44, 0x50, 0x77} {
		sim.Plug(a, i2csim.Registers(1, 2, 3))
	}
	var found []uint16
	for a := i2c.First; a <= i2c.Last; a++ {
		ok, err := b.Probe(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			found = append(found, a)
		}
	}
	if !reflect.DeepEqual(found, []uint16{0x08, 0x44, 0x50, 0x77}) {
		t.Errorf("found %x", found)
	}
	sim.Break(unix.ETIMEDOUT)
	if _, err := b.Probe(t.Context(), 0x44); !errors.Is(err, i2c.ErrStuck) {
		t.Errorf("stuck: %v, want ErrStuck", err)
	}
}

func TestABusThatIsNotThereSaysWhatToDo(t *testing.T) {
	if _, err := i2c.Open("/dev/i2c-none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want that it does not exist", err)
	}
	if _, err := i2c.Open("/dev/null"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("/dev/null: %v", err)
	}
}

func TestBusesAreListedWithWhatTheKernelHasClaimed(t *testing.T) {
	root := t.TempDir()
	write := func(file, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := i2c.ListUnder(root); err != nil || len(found) != 0 {
		t.Errorf("without a bus: %v, %v", found, err)
	}
	write("sys/class/i2c-dev/i2c-10/name", "mux\n")
	write("sys/class/i2c-dev/i2c-1/name", "bcm2835 (i2c@7e804000)\n")
	write("sys/bus/i2c/devices/1-0068/name", "ds3231\n")
	write("sys/bus/i2c/devices/1-0050/name", "free\n")
	if err := os.Symlink("../drivers/rtc-ds1307", filepath.Join(root, "sys/bus/i2c/devices/1-0068/driver")); err != nil {
		t.Fatal(err)
	}
	found, err := i2c.ListUnder(root)
	want := []i2c.Info{{Name: "/dev/i2c-1", Adapter: "bcm2835 (i2c@7e804000)", Claimed: map[uint16]string{0x68: "rtc-ds1307"}},
		{Name: "/dev/i2c-10", Adapter: "mux", Claimed: map[uint16]string{}}}
	if err != nil || !reflect.DeepEqual(found, want) {
		t.Errorf("%+v, %v, want %+v", found, err, want)
	}
}
