// Package fault is the one error type that carries a code from room to room.
//
// A room that refuses something returns a *fault.Error: Code says what kind of
// refusal it is, Msg is safe to show to whoever asked, Err is for the log and
// never leaves the process. How a code looks on the wire (exception name, HTTP
// status, MQTT reason) is decided at the doors, not here.
//
//	return fault.New(fault.NotFound, "no thing is called %q", name)
package fault

import (
	"errors"
	"fmt"
)

// Code is the kind of refusal. Doors map every code; a test there fails when one
// is missing.
type Code uint8

// The codes. Internal is the zero value, so that a foreign error never passes
// for something milder.
const (
	Internal      Code = iota // a defect or a broken part of ours
	Invalid                   // the request itself is wrong
	Unauthorized              // who are you?
	Forbidden                 // we know you, and no
	NotFound                  // what is named does not exist
	Conflict                  // version or state stands against it
	Exists                    // a thing of that name is there already
	TooLarge                  // over a size limit
	Unsupported               // well formed, but not served here
	Throttled                 // too much of it, later again
	LimitExceeded             // a count limit is reached
	Full                      // no room: quota or disk
	Unavailable               // a part is starting, stopping or down
	Timeout                   // it took too long
	codes
)

var names = [codes]string{"internal", "invalid", "unauthorized", "forbidden", "not found", "conflict", "exists",
	"too large", "unsupported", "throttled", "limit exceeded", "full", "unavailable", "timeout"}

// Codes lists every code, for tables that must be complete.
func Codes() []Code {
	all := make([]Code, codes)
	for i := range all {
		all[i] = Code(i)
	}
	return all
}

// String gives the code's name in lower-case words.
func (c Code) String() string {
	if c < codes {
		return names[c]
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// Error is a refusal with its code.
type Error struct {
	Code Code
	Msg  string // for whoever asked: what was wrong and what to do
	Err  error  // for the log: the cause, or nil
}

// New makes an Error without a cause.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Msg: fmt.Sprintf(format, args...)}
}

// Wrap makes an Error with a cause. The cause's text is not part of what is shown.
func Wrap(code Code, err error, format string, args ...any) *Error {
	return &Error{Code: code, Msg: fmt.Sprintf(format, args...), Err: err}
}

// Error gives the message and, for the log, the cause.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Msg + ": " + e.Err.Error()
	}
	return e.Msg
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Of gives the code of the first Error in err's chain, Internal when there is none.
func Of(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}

// Is says whether err carries code. It is false for nil and for foreign errors.
func Is(err error, code Code) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

// Message gives what may be shown of err: the Msg of the first Error in its
// chain, or a fixed text that gives nothing away.
func Message(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Msg
	}
	return "internal failure"
}
