package manager

import (
	"context"

	"tidegate/devices"
	"tidegate/hw/gpio"
	"tidegate/hw/i2c"
	"tidegate/hw/netline"
	"tidegate/hw/serial"
)

// Host opens the ports of this machine: serial ports, I²C buses, GPIO chips, and tcp: ports
// on the network.
type Host struct {
	// Resolve gives the device node behind a bus's port: of a name only the board knows, like
	// sim:plc or serial0, and otherwise the name itself. Nil takes every name as it is.
	Resolve func(port string) (node string, err error)
	// I2C opens an I²C bus by its node, and GPIO a chip of digital lines by its name, empty for
	// that of the pin header. Nil takes the machine's.
	I2C  func(node string) (*i2c.Bus, error)
	GPIO func(name string) (*gpio.Chip, error)
}

// Open opens the port of a bus.
func (h Host) Open(ctx context.Context, b *Bus) (devices.Opened, error) {
	if node, ok := b.I2CBus(); ok {
		return opened(or(h.I2C, i2c.Open)(node))
	}
	if name, ok := b.GPIOChip(); ok {
		return opened(or(h.GPIO, gpio.Open)(name))
	}
	if address, tcp := b.address(); tcp {
		return opened(netline.Dial(ctx, address))
	}
	node := b.Port
	if h.Resolve != nil {
		var err error
		if node, err = h.Resolve(b.Port); err != nil {
			return nil, err
		}
	}
	return opened(serial.Open(b.Serial(node)))
}

// opened keeps a nil pointer from becoming an interface that is none.
func opened[P devices.Opened](p P, err error) (devices.Opened, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

func or[T any](f, machine func(string) (T, error)) func(string) (T, error) {
	if f == nil {
		return machine
	}
	return f
}
