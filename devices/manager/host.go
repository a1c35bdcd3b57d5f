package manager

import (
	"context"

	"tidegate/devices"
	"tidegate/hw/netline"
	"tidegate/hw/serial"
)

// Host opens the ports of this machine: serial ports, and tcp: ports on the network.
type Host struct {
	// Resolve gives the device node behind a bus's port: of a name only the board knows, like
	// sim:plc or serial0, and otherwise the name itself. Nil takes every name as it is.
	Resolve func(port string) (node string, err error)
}

// Open opens the port of a bus.
func (h Host) Open(ctx context.Context, b *Bus) (devices.Port, error) {
	if address, tcp := b.address(); tcp {
		l, err := netline.Dial(ctx, address)
		if err != nil {
			return nil, err
		}
		return l, nil
	}
	node := b.Port
	if h.Resolve != nil {
		var err error
		if node, err = h.Resolve(b.Port); err != nil {
			return nil, err
		}
	}
	p, err := serial.Open(b.Serial(node))
	if err != nil {
		return nil, err
	}
	return p, nil
}
