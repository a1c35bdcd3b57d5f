package profile

import (
	"time"

	"tidegate/devices"
)

// Line is what a driver has to know of the line its port is, beyond the port.
type Line struct {
	Name    string        // of the bus, for messages
	Baud    int           // 0 when the line is none of wires: then nothing has to be waited for between frames
	Bits    int           // bits per character on the wire, start, parity and stop bits included; 0 is 11
	Framing string        // modbus: rtu (default) or tcp
	Timeout time.Duration // how long an answer may take; 0 is the driver's default
	Retries int           // how often a question without a good answer is asked again; 0 is the driver's default, -1 never
}

// Attach puts a protocol on an opened port. The port goes to the Link, also when Attach
// fails, which it does for a line or a kind of port it cannot serve.
type Attach func(port devices.Opened, line Line) (Link, error)

// Link is a port with a protocol on it, shared by the devices on that line.
type Link interface {
	// Device makes the driver of the device with that unit number or address (0 where the
	// protocol has none). The profile is valid and of the link's protocol. Drivers of one link must not
	// be used concurrently, but for Writer.Write beside Streamer.Stream.
	Device(unit int, p *Profile) (devices.Driver, error)
	// Close closes the port. The drivers are closed before. May be called twice.
	Close() error
}
