package devices

import (
	"context"
	"time"
)

// Opened is whatever a driver is given: a Port, an I²C bus, a chip of digital lines. The
// driver says which it can serve.
type Opened interface {
	// Close gives it back. May be called twice.
	Close() error
}

// Port is an opened two-way line of bytes: a serial port, a TCP connection.
//
// One goroutine may read while another writes. An error that is not the context's
// says that the port is lost for good and has to be opened anew.
type Port interface {
	// Read waits until at least one byte has come and returns how many are in b and
	// when they arrived. It returns ctx's error when ctx ends first (context.
	// DeadlineExceeded for silence), and then no byte was taken.
	Read(ctx context.Context, b []byte) (n int, at time.Time, err error)
	// Write sends all of b, or returns an error; when ctx ends part of b may have gone.
	Write(ctx context.Context, b []byte) error
	// Discard throws away what has come and was not read.
	Discard() error
	// Close gives the line back and waits for a Read or Write under way to return.
	// May be called twice.
	Close() error
}
