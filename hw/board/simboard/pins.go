package simboard

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"time"

	"tidegate/hw/gpio"
	"tidegate/hw/gpio/gpiosim"
	"tidegate/hw/i2c"
	"tidegate/hw/i2c/i2csim"
)

// The simulated pins. Tests drive and look at them past the gateway through Pins and Wires.
const (
	I2CPort  = "sim:i2c"
	GPIOPort = "sim:gpio"

	ClimateAddress  = 0x76 // a BME280
	HumidityAddress = 0x44 // an SHT31

	DoorLine  = 17 // a contact to ground that opens with the door; wants a pull-up
	MeterLine = 22 // a pulse to ground for every litre while the pump runs; wants a pull-up
	LampLine  = 27 // an output
)

// room is what it is like where the simulated sensors hang: warmer by day.
func room(now time.Time) (celsius, hectoPascal, percent float64) {
	day := 2 * math.Pi * float64(now.UTC().Hour()*3600+now.UTC().Minute()*60+now.UTC().Second()) / 86400
	return 20 - 2*math.Cos(day-0.8), 1013 + 4*math.Sin(day/2), 45 + 6*math.Cos(day-0.8)
}

// wire puts sensors on the bus.
func (b *Board) wire() {
	b.wires, b.pins = i2csim.New(), gpiosim.New("pinctrl-sim", 28)
	b.wires.Plug(ClimateAddress, i2csim.BME280(func() (float64, float64, float64) { return room(b.clk.Now()) }))
	b.wires.Plug(HumidityAddress, i2csim.SHT31(func() (float64, float64) {
		celsius, _, percent := room(b.clk.Now())
		return celsius - 6, percent + 20 // the cellar
	}))
}

// Wires gives the simulated I²C bus.
func (b *Board) Wires() *i2csim.Bus { return b.wires }

// Pins gives the simulated digital lines.
func (b *Board) Pins() *gpiosim.Kernel { return b.pins }

// OpenI2C opens sim:i2c. Another name is fs.ErrNotExist.
func (b *Board) OpenI2C(node string) (*i2c.Bus, error) {
	if node != I2CPort {
		return nil, fmt.Errorf("simulated I²C bus %q is not there, expected %s: %w", node, I2CPort, fs.ErrNotExist)
	}
	return i2c.On(node, b.wires), nil
}

// OpenGPIO opens sim:gpio. Another name is fs.ErrNotExist.
func (b *Board) OpenGPIO(name string) (*gpio.Chip, error) {
	if name != GPIOPort {
		return nil, fmt.Errorf("simulated GPIO chip %q is not there, expected %s: %w", name, GPIOPort, fs.ErrNotExist)
	}
	return gpio.OpenOf(b.pins, "")
}

// move lets the door and the meter of sim:gpio live until ctx ends: the door stands open for
// ten seconds of every two minutes.
func (b *Board) move(ctx context.Context) {
	const every = 370 * time.Millisecond
	begun := b.clk.Now()
	t := b.clk.NewTimer(0)
	defer t.Stop()
	b.pins.Drive(MeterLine, true)
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C():
		}
		t.Reset(every)
		b.pins.Drive(DoorLine, b.clk.Now().Sub(begun)%(2*time.Minute) > 110*time.Second)
		if b.plc.coil(0) { // a pulse as long as a pause: half of every
			b.pins.Drive(MeterLine, !b.pins.Level(MeterLine))
		}
	}
}
