// Package simboard is the simulated field bus of --dev: serial lines made of ptys, with a
// device on each that lives, and pins with sensors on them.
//
//	sim:gps      an NMEA 0183 receiver with a wind sensor, under way in the harbour of Kiel
//	sim:weather  a sensor that sends a line of JSON every two seconds
//	sim:plc      a Modbus RTU slave, unit 1: a pump, a setpoint, and what follows from them
//	sim:i2c      an I²C bus with a BME280 at 0x76 and an SHT31 at 0x44
//	sim:gpio     a chip of digital lines: a door contact, a water meter, a lamp
//
// The gateway opens them like any serial port and reads them with the same drivers; only
// that nothing is soldered tells them from real ones. The slave is written apart from the
// driver and shares no code with it.
//
//	b, err := simboard.Open(clk)
//	node, err := b.Resolve("sim:plc") // /dev/pts/7
//	err = b.Run(ctx, ready)
//
// Tests pull cables with Unplug and Plug, and look at the devices past the gateway with
// Coil and Holding.
package simboard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"tidegate/gateway/clock"
	"tidegate/hw/gpio/gpiosim"
	"tidegate/hw/i2c/i2csim"
	"tidegate/hw/serial/ptypair"
)

// Names lists the serial ports.
var Names = []string{"sim:gps", "sim:weather", "sim:plc"}

// Board is the simulated board. Its methods may be called concurrently.
type Board struct {
	clk   clock.Clock
	plc   *plc
	wires *i2csim.Bus
	pins  *gpiosim.Kernel

	mu    sync.Mutex // guards what follows
	ports map[string]*ptypair.Pair
	wake  chan struct{} // closed and made anew when a port was plugged in
}

// Open plugs all ports in. The devices live while Run runs.
func Open(clk clock.Clock) (*Board, error) {
	b := &Board{clk: clk, plc: newPLC(clk.Now()), ports: map[string]*ptypair.Pair{}, wake: make(chan struct{})}
	b.wire()
	for _, name := range Names {
		if err := b.Plug(name); err != nil {
			b.Close()
			return nil, fmt.Errorf("simulated field bus: %w", err)
		}
	}
	return b, nil
}

// Resolve gives the device node of a port. A port that is unplugged, and a name that is
// none of Names, is fs.ErrNotExist.
func (b *Board) Resolve(port string) (node string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.ports[port]; p != nil {
		return p.Path, nil
	}
	return "", fmt.Errorf("simulated port %q is not there, expected one of %s: %w", port, strings.Join(Names, ", "), fs.ErrNotExist)
}

// Unplug pulls the cable of a port.
func (b *Board) Unplug(port string) {
	b.mu.Lock()
	p := b.ports[port]
	delete(b.ports, port)
	b.mu.Unlock()
	if p != nil {
		p.Close()
	}
}

// Plug puts the cable of a port back, on a new device node.
func (b *Board) Plug(port string) error {
	p, err := ptypair.Open()
	if err != nil {
		return err
	}
	b.Unplug(port)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ports[port] = p
	close(b.wake)
	b.wake = make(chan struct{})
	return nil
}

// Close unplugs everything. It may be called twice.
func (b *Board) Close() error {
	for _, name := range Names {
		b.Unplug(name)
	}
	return nil
}

// Coil gives the state of a coil of sim:plc.
func (b *Board) Coil(n int) bool { return b.plc.coil(n) }

// SetCoil changes a coil as somebody at the device would.
func (b *Board) SetCoil(n int, on bool) { b.plc.setCoil(n, on) }

// Holding gives a holding register of sim:plc.
func (b *Board) Holding(n int) uint16 { return b.plc.holding(n) }

// Mute makes sim:plc answer nothing, or answer again.
func (b *Board) Mute(mute bool) { b.plc.mute(mute) }

// Run lets the devices live until ctx ends.
func (b *Board) Run(ctx context.Context, ready func()) error {
	var wg sync.WaitGroup
	wg.Go(func() { b.speak(ctx, "sim:gps", time.Second, newVessel(b.clk.Now()).sentences) })
	wg.Go(func() { b.speak(ctx, "sim:weather", 2*time.Second, weather) })
	wg.Go(func() { b.answer(ctx) })
	wg.Go(func() { b.move(ctx) })
	ready()
	<-ctx.Done()
	wg.Wait()
	return nil
}

// port waits for a port to be plugged in.
func (b *Board) port(ctx context.Context, name string) (*ptypair.Pair, error) {
	for {
		b.mu.Lock()
		p, wake := b.ports[name], b.wake
		b.mu.Unlock()
		if p != nil {
			return p, nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// speak has a device say something every so often.
func (b *Board) speak(ctx context.Context, name string, every time.Duration, say func(now time.Time) string) {
	t := b.clk.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C():
		}
		t.Reset(every)
		p, err := b.port(ctx, name)
		if err != nil {
			return
		}
		// Nobody may be listening, and then the line is full after 4 KiB: what does not fit is lost,
		// as on a wire.
		if p.SetDeadline(time.Now().Add(every/2)) == nil {
			_, _ = p.Write([]byte(say(b.clk.Now())))
		}
	}
}

// answer is the Modbus slave's end of the line.
func (b *Board) answer(ctx context.Context) {
	for {
		p, err := b.port(ctx, "sim:plc")
		if err != nil {
			return
		}
		stop := context.AfterFunc(ctx, func() { _ = p.SetDeadline(time.Unix(1, 0)) }) // fails when it is unplugged as well
		err = b.plc.serve(p, b.clk)
		stop()
		if ctx.Err() != nil {
			return
		}
		if err != nil && !errors.Is(err, fs.ErrClosed) {
			return // the pty is broken, which no cable could be
		}
		b.mu.Lock()
		if b.ports["sim:plc"] == p {
			delete(b.ports, "sim:plc") // it was closed behind our back
		}
		b.mu.Unlock()
	}
}
