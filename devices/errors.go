package devices

import "errors"

// What can be wrong with a device, to be found with errors.Is. The errors that drivers
// return wrap one of these and say in words what was seen.
var (
	// ErrGone says that the port is lost: unplugged, hung up, closed by the other end.
	ErrGone = errors.New("port lost")
	// ErrSilent says that the device did not answer in time.
	ErrSilent = errors.New("no answer")
	// ErrGarbled says that what came was damaged, foreign or malformed.
	ErrGarbled = errors.New("malformed answer")
	// ErrRefused says that the device understood and refused.
	ErrRefused = errors.New("refused by the device")
	// ErrValue says that the value is of the wrong type or out of range for the point.
	ErrValue = errors.New("impossible value")
	// ErrPoint says that the device has no such point, or not one that can be written.
	ErrPoint = errors.New("no such point")
	// ErrClosed says that the driver was closed.
	ErrClosed = errors.New("driver closed")
)
