// Package scan finds out what is wired to a serial port of which nothing is known, and who
// answers on an I²C bus.
//
// Of a serial port it first only listens, at one speed after the other: what speaks by itself is known by
// its checksums or its shape. Where nobody speaks it asks Modbus units one after the other
// for holding register 0, and takes any answer, a refusal included, for a device. That
// sends bytes to whatever is wired there, so nobody does it unasked.
//
//	found, err := scan.Probe(ctx, open, scan.DefaultOptions(), func(line string) { fmt.Fprintln(os.Stderr, line) })
//
// It keeps nothing and needs the port for itself: a gateway that uses it must be stopped,
// or the bus taken out of its configuration.
package scan

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"tidegate/devices"
	"tidegate/devices/drivers/modbus"
	"tidegate/devices/profile"
)

// Found is something that is wired to the port.
type Found struct {
	Protocol string `json:"protocol"`         // one of profile.Protocols, "text" or "bytes" for what is none of them
	Baud     int    `json:"baud"`             //
	Parity   string `json:"parity"`           // none, even or odd
	Unit     int    `json:"unit,omitempty"`   // of Modbus
	Detail   string `json:"detail,omitempty"` // the beginning of what it said
}

// Options bound what Probe tries.
type Options struct {
	Bauds     []int         // in this order
	Parities  []string      // of Modbus; what speaks by itself is tried without
	FirstUnit int           // of Modbus, 1 to 247
	LastUnit  int           //
	Listen    time.Duration // at each speed
	Answer    time.Duration // how long a unit may take, transmission not counted
}

// DefaultOptions take about half a minute on a silent port.
func DefaultOptions() Options {
	return Options{Bauds: []int{4800, 9600, 19200, 115200}, Parities: []string{"none", "even"}, FirstUnit: 1, LastUnit: 16,
		Listen: 2200 * time.Millisecond, Answer: 150 * time.Millisecond}
}

// Open opens the port set up in a certain way.
type Open func(baud int, parity string) (devices.Port, error)

// Probe finds out what is on a port. tell, which may be nil, hears what is being tried. An
// error is that of the port, or ctx's; what was found before it is returned as well.
func Probe(ctx context.Context, open Open, o Options, tell func(string)) (found []Found, err error) {
	if tell == nil {
		tell = func(string) {}
	}
	var noise *Found // somebody speaks, but at another speed
	for _, baud := range o.Bauds {
		tell(fmt.Sprintf("listening at %d baud", baud))
		f, err := listen(ctx, open, baud, o.Listen)
		if err != nil {
			return found, err
		}
		if f != nil && f.Protocol != "bytes" {
			return []Found{*f}, nil
		}
		if f != nil && noise == nil {
			noise = f
		}
	}
	if noise != nil {
		return []Found{*noise}, nil
	}
	for _, baud := range o.Bauds {
		for _, parity := range o.Parities {
			tell(fmt.Sprintf("asking Modbus units %d to %d at %d baud, parity %s", o.FirstUnit, o.LastUnit, baud, parity))
			if found, err = ask(ctx, open, baud, parity, o); err != nil || len(found) > 0 {
				return found, err
			}
		}
	}
	return nil, nil
}

// listen takes what comes for a while and says what it is, nil for nothing.
func listen(ctx context.Context, open Open, baud int, d time.Duration) (*Found, error) {
	port, err := open(baud, "none")
	if err != nil {
		return nil, err
	}
	defer port.Close()
	within, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var heard []byte
	buf := make([]byte, 1024)
	for len(heard) < 4<<10 {
		n, _, err := port.Read(within, buf)
		if err != nil {
			if ctx.Err() == nil && within.Err() != nil {
				break
			}
			return nil, err
		}
		heard = append(heard, buf[:n]...)
		if !bytes.ContainsAny(buf[:n], "\r\n") {
			continue // no line has ended
		}
		if f := classify(heard); f != nil && f.Protocol != "bytes" && f.Protocol != "text" {
			f.Baud, f.Parity = baud, "none"
			return f, nil
		}
	}
	f := classify(heard)
	if f != nil {
		f.Baud, f.Parity = baud, "none"
	}
	return f, nil
}

// classify says what bytes are. Whole lines alone count: the first and the last may be cut.
func classify(heard []byte) *Found {
	if len(heard) == 0 {
		return nil
	}
	lines := bytes.FieldsFunc(heard, func(r rune) bool { return r == '\n' || r == '\r' })
	readable := 0
	for _, line := range lines {
		switch {
		case sentence(line):
			return &Found{Protocol: profile.NMEA, Detail: string(line)}
		case len(line) > 2 && line[0] == '{' && json.Valid(line):
			return &Found{Protocol: profile.JSON, Detail: string(line[:min(len(line), 100)])}
		}
		if text(line) {
			readable += len(line) + 2
		}
	}
	if readable*10 >= len(heard)*8 && len(lines) > 0 {
		line := lines[len(lines)/2]
		f := &Found{Protocol: "text", Detail: string(line[:min(len(line), 100)])}
		if bytes.Count(line, []byte{','}) > 0 || bytes.Count(line, []byte{';'}) > 0 {
			f.Protocol = profile.CSV
		}
		return f
	}
	return &Found{Protocol: "bytes", Detail: fmt.Sprintf("%d bytes that are no text at this speed: %s…", len(heard), hex.EncodeToString(heard[:min(len(heard), 16)]))}
}

// sentence says whether line is an NMEA 0183 sentence with the right checksum (4.11, 5.3).
func sentence(line []byte) bool {
	n := len(line)
	if n < 9 || line[0] != '$' && line[0] != '!' || line[n-3] != '*' {
		return false
	}
	sum := byte(0)
	for _, b := range line[1 : n-3] {
		sum ^= b
	}
	return string(bytes.ToUpper(line[n-2:])) == fmt.Sprintf("%02X", sum)
}

func text(line []byte) bool {
	for _, b := range line {
		if b < ' ' && b != '\t' || b > '~' {
			return false
		}
	}
	return true
}

// ask asks the Modbus units of a port that is set up in one way.
func ask(ctx context.Context, open Open, baud int, parity string, o Options) (found []Found, err error) {
	port, err := open(baud, parity)
	if err != nil {
		return nil, err
	}
	link, err := modbus.Attach(port, profile.Line{Name: "scan", Baud: baud, Timeout: o.Answer, Retries: -1})
	if err != nil {
		return nil, errors.Join(err, port.Close())
	}
	defer link.Close()
	p := profile.Profile{Protocol: profile.Modbus, Points: []profile.Point{{Name: "first", Register: profile.Register{Table: profile.Holding}}}}
	for unit := o.FirstUnit; unit <= o.LastUnit; unit++ {
		d, err := link.Device(unit, &p)
		if err != nil {
			return found, err
		}
		rs, err := d.(devices.Sampler).Sample(ctx, nil)
		d.Close()
		f := Found{Protocol: profile.Modbus, Baud: baud, Parity: parity, Unit: unit}
		switch {
		case ctx.Err() != nil:
			return found, ctx.Err()
		case errors.Is(err, devices.ErrGone):
			return found, err
		case errors.Is(err, devices.ErrRefused), err == nil && rs[0].Quality == devices.Bad:
			f.Detail = "has no holding register 0"
		case err == nil:
			f.Detail = "holding register 0 is " + rs[0].Value.String()
		default:
			continue // silence, or somebody at another speed
		}
		found = append(found, f)
	}
	return found, nil
}
