// Package i2csim is an I²C bus with chips on it that are not there: what --dev reads, and
// what tests pull out.
//
//	bus := i2csim.New()
//	bus.Plug(0x76, i2csim.BME280(func() (celsius, hectoPascal, percent float64) { return 21.5, 1013, 40 }))
//	b := i2c.On("sim:i2c", bus)
//
// The chips are written from their datasheets, apart from the drivers, and share no code
// with them.
package i2csim

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Chip is what is at an address. Transfer writes w to it and then reads r; an error is that
// it does not acknowledge.
type Chip interface {
	Transfer(w, r []byte) error
}

// Bus is a bus; it is an i2c.Wire. Its methods may be called concurrently.
type Bus struct {
	mu    sync.Mutex // guards what follows, chips included
	chips map[uint16]Chip
	err   error
	calls int
}

// New makes a bus without a chip.
func New() *Bus { return &Bus{chips: map[uint16]Chip{}} }

// Plug puts a chip at an address.
func (b *Bus) Plug(addr uint16, c Chip) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.chips[addr] = c
}

// Unplug takes the chip at an address away.
func (b *Bus) Unplug(addr uint16) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.chips, addr)
}

// Break makes every transfer end with err, as unix.ETIMEDOUT for a bus that is shorted or
// unix.ENODEV for one that is gone; nil mends it.
func (b *Bus) Break(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

// Calls gives how many transfers there were.
func (b *Bus) Calls() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls
}

// Transfer is i2c.Wire's.
func (b *Bus) Transfer(addr uint16, w, r []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	if b.err != nil {
		return b.err
	}
	c := b.chips[addr]
	if c == nil {
		return unix.ENXIO
	}
	return c.Transfer(w, r)
}

// Close is i2c.Wire's. The chips stay: the bus can be opened again.
func (b *Bus) Close() error { return nil }

// registers is a chip with a register pointer that moves on by itself.
type registers struct {
	at     byte
	mem    [256]byte
	write  func(register, value byte) // nil: the registers are read only
	before func()                     // called before registers are read; may be nil
}

// Transfer is Chip's: the first byte that is written is the pointer; behind it come value
// and, as Bosch's chips take it, pairs of register and value.
func (c *registers) Transfer(w, r []byte) error {
	if len(w) > 0 {
		c.at = w[0]
	}
	for i := 1; i < len(w); i += 2 {
		if c.write != nil {
			c.write(w[i-1], w[i])
		}
	}
	if len(r) > 0 && c.before != nil {
		c.before()
	}
	for i := range r {
		r[i] = c.mem[c.at]
		c.at++
	}
	return nil
}

// Registers gives a chip whose registers hold mem from register 0 on and cannot be written.
func Registers(mem ...byte) Chip {
	c := &registers{}
	copy(c.mem[:], mem)
	return c
}
