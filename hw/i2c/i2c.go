// Package i2c is the I²C buses of this machine, through the kernel's i2c-dev, and the
// sensors that periph.io has a driver for.
//
//	bus, err := i2c.Open("/dev/i2c-1")
//	err = bus.Tx(ctx, 0x48, []byte{0x00}, answer) // writes a register's number, reads it
//	c, err := i2c.OpenClimate(ctx, bus, 0x76, i2c.BME280)
//	env, err := c.Read(ctx)
//
// What periph.io's drivers are given is a bus of ours and not periph's own: that one hides
// which error the kernel gave, so that a sensor that was pulled could not be told from a bus
// that is gone, and it holds the addresses of buffers where the garbage collector does not
// see them. The words are periph's (conn/v3/i2c); SetSpeed is refused, as the speed is the
// device tree's.
//
// Package i2csim has the bus that is not there.
package i2c

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// What can be wrong with a transfer, to be found with errors.Is.
var (
	// ErrSilent says that nothing acknowledges the address, or what was written to it.
	ErrSilent = errors.New("nothing answers")
	// ErrStuck says that the bus does not move: SDA or SCL is held low, or has no pull-up.
	ErrStuck = errors.New("the bus does not move")
	// ErrGone says that the bus is not there any more.
	ErrGone = errors.New("the bus is gone")
)

// Addresses that chips may have (UM10204, table 4: the others are reserved).
const (
	First uint16 = 0x08
	Last  uint16 = 0x77
)

// Wire is a bus at its lowest: the kernel's, or one that is simulated.
type Wire interface {
	// Transfer writes w to the chip at addr and then reads r, as one transaction with a
	// repeated start. With both empty the address alone goes out. The error is a
	// unix.Errno as the kernel gives it.
	Transfer(addr uint16, w, r []byte) error
	Close() error
}

// Bus is an opened bus. Its methods may be called concurrently.
type Bus struct {
	name string

	mu   sync.Mutex // held during a transfer, and guards what follows
	wire Wire       // nil when closed
}

// Open opens the bus of a device node. The error says what to do, and is fs.ErrNotExist
// when there is no such bus and fs.ErrPermission when we may not.
func Open(node string) (*Bus, error) {
	w, err := openKernel(node)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no I²C bus %s: switch it on (on a Raspberry Pi: dtparam=i2c_arm=on in config.txt, module i2c-dev) and see tidegate device scan: %w", node, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("I²C bus %s: no permission: put the gateway's user into the group i2c: %w", node, err)
	case err != nil:
		return nil, fmt.Errorf("I²C bus %s: %w", node, err)
	}
	return On(node, w), nil
}

// On makes a bus of a wire.
func On(name string, w Wire) *Bus { return &Bus{name: name, wire: w} }

// Name gives what the bus was opened as.
func (b *Bus) Name() string { return b.name }

// Tx writes w to the chip at addr and then reads r, as one transaction. With both empty it
// asks whether anybody acknowledges the address. The error is ctx's, or wraps ErrSilent,
// ErrStuck or ErrGone. A transfer that has begun is not interrupted: the kernel bounds it,
// mostly to a second.
func (b *Bus) Tx(ctx context.Context, addr uint16, w, r []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if b.wire == nil {
		return fmt.Errorf("%w: %s was closed", ErrGone, b.name)
	}
	return explain(b.name, addr, b.wire.Transfer(addr, w, r))
}

// explain puts the kernel's error into words (Documentation/i2c/fault-codes.rst).
func explain(name string, addr uint16, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.EBADF), errors.Is(err, os.ErrClosed):
		return fmt.Errorf("%w: %s: %w", ErrGone, name, err)
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.EREMOTEIO):
		return fmt.Errorf("%w at address 0x%02x of %s", ErrSilent, addr, name)
	case errors.Is(err, unix.ETIMEDOUT), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: %s is held low by a chip, shorted, or has no pull-up: %w", ErrStuck, name, err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%s can do SMBus alone, not the transfers that sensors need: %w", name, err)
	}
	return fmt.Errorf("%w at address 0x%02x of %s: %w", ErrSilent, addr, name, err) // EIO: some adapters say so of a missing acknowledgement
}

// Probe says whether a chip answers at addr. It does what i2cdetect does: the address alone,
// and reading a byte where that could change what an EEPROM holds.
func (b *Bus) Probe(ctx context.Context, addr uint16) (bool, error) {
	var r []byte
	if addr >= 0x30 && addr <= 0x37 || addr >= 0x50 && addr <= 0x5f {
		r = make([]byte, 1)
	}
	err := b.Tx(ctx, addr, nil, r)
	if errors.Is(err, ErrSilent) {
		return false, nil
	}
	return err == nil, err
}

// Close gives the bus back. May be called twice.
func (b *Bus) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.wire == nil {
		return nil
	}
	w := b.wire
	b.wire = nil
	return w.Close()
}
