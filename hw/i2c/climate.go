package i2c

import (
	"context"
	"errors"
	"fmt"
	"math"

	periph "periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/mmr"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/bmxx80"
)

// ErrChip says that another chip is at the address than was expected.
var ErrChip = errors.New("another chip")

// Chip is a sensor of Bosch, by what it gives as its id.
type Chip byte

// The chips that OpenClimate knows (datasheets BST-BMP180-DS000, BST-BMP280-DS001,
// BST-BME280-DS002: register 0xD0).
const (
	BMP180 Chip = 0x55
	BMP280 Chip = 0x58
	BME280 Chip = 0x60
)

const idRegister = 0xD0

// String gives the chip's name.
func (c Chip) String() string {
	switch c {
	case BMP180:
		return "BMP180"
	case BMP280:
		return "BMP280"
	case BME280:
		return "BME280"
	}
	return fmt.Sprintf("a chip of id 0x%02x", byte(c))
}

// Env is what a climate sensor measured.
type Env struct {
	Celsius     float64 // to a hundredth
	HectoPascal float64 // to a hundredth
	Percent     float64 // of relative humidity, to a tenth; NaN of a chip that has none
}

// Climate is a BMP180, BMP280 or BME280. It is used by one goroutine at a time.
type Climate struct {
	chip Chip
	bus  *lent
	dev  *bmxx80.Dev
}

// OpenClimate finds the chip at addr and reads its calibration. The error is ErrChip when
// another one answers, and otherwise as of Bus.Tx.
func OpenClimate(ctx context.Context, b *Bus, addr uint16, want Chip) (*Climate, error) {
	l := &lent{bus: b}
	defer l.begin(ctx)()
	id, err := (&mmr.Dev8{Conn: &periph.Dev{Bus: l, Addr: addr}}).ReadUint8(idRegister)
	if err != nil {
		return nil, l.cause(err)
	}
	if got := Chip(id); got != want {
		return nil, fmt.Errorf("%w: %v answers at address 0x%02x of %s, expected %v", ErrChip, got, addr, b.name, want)
	}
	dev, err := bmxx80.NewI2C(l, addr, &bmxx80.DefaultOpts)
	if err != nil {
		return nil, l.cause(err)
	}
	return &Climate{chip: want, bus: l, dev: dev}, nil
}

// Read measures once, which takes about 40 ms. The error is as of Bus.Tx, ErrSilent too for
// a chip that never ends its measurement by the time ctx does.
func (c *Climate) Read(ctx context.Context) (Env, error) {
	defer c.bus.begin(ctx)()
	var e physic.Env
	if err := c.dev.Sense(&e); err != nil {
		return Env{}, c.bus.cause(err)
	}
	env := Env{Celsius: round(float64(e.Temperature-physic.ZeroCelsius)/float64(physic.Kelvin), 100),
		HectoPascal: round(float64(e.Pressure)/float64(100*physic.Pascal), 100), Percent: math.NaN()}
	if c.chip == BME280 {
		env.Percent = round(float64(e.Humidity)/float64(physic.PercentRH), 10)
	}
	return env, nil
}

func round(x, parts float64) float64 { return math.Round(x*parts) / parts }

// lent is a Bus as periph's drivers see one. They give no context and hide the error that a
// transfer ended with, so it keeps both; and as some wait for a chip without an end, it ends
// with the context.
type lent struct {
	bus *Bus
	ctx context.Context // of the call under way
	err error           // how its first failed transfer ended
}

// begin starts a call; the function it gives ends it.
func (l *lent) begin(ctx context.Context) (end func()) {
	l.ctx, l.err = ctx, nil
	return func() { l.ctx = nil }
}

// cause gives the error of the transfer that failed in place of what a driver made of it.
func (l *lent) cause(err error) error {
	if l.err != nil {
		return l.err
	}
	return err
}

// Tx is i2c.Bus's.
func (l *lent) Tx(addr uint16, w, r []byte) error {
	err := l.bus.Tx(l.ctx, addr, w, r)
	if err != nil && l.err == nil {
		l.err = err
	}
	return err
}

// SetSpeed is i2c.Bus's.
func (l *lent) SetSpeed(physic.Frequency) error {
	return errors.New("the speed of the bus is the device tree's")
}

// String is i2c.Bus's.
func (l *lent) String() string { return l.bus.name }

var _ periph.Bus = (*lent)(nil)
