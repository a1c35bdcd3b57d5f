package iotsql

import (
	"fmt"
	"unicode/utf8"

	"tidegate/gateway/fault"
)

// SyntaxError says where a statement or template is wrong and what was expected there.
type SyntaxError struct {
	Line   int // from 1
	Column int // from 1, in characters
	Msg    string
}

// Error gives the message with its place.
func (e *SyntaxError) Error() string {
	if e.Line > 1 {
		return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Msg)
	}
	return fmt.Sprintf("column %d: %s", e.Column, e.Msg)
}

func syntaxError(src string, at int, format string, args ...any) *SyntaxError {
	e := &SyntaxError{Line: 1, Msg: fmt.Sprintf(format, args...)}
	start := 0
	for i := range at {
		if src[i] == '\n' {
			e.Line++
			start = i + 1
		}
	}
	e.Column = utf8.RuneCountInString(src[start:at]) + 1
	return e
}

// What can go wrong with a statement that is right in itself. Everything else that does
// not fit together is Undefined, not an error.
var (
	errTooDeep  = fault.New(fault.TooLarge, "the rule built a value nested deeper than %d levels", maxNesting)
	errTooLarge = fault.New(fault.TooLarge, "the rule built more than %d bytes", maxBytes)
	errTooMuch  = fault.New(fault.TooLarge, "the rule took more than %d steps for one message", maxSteps)
	errTopArray = fault.New(fault.Unsupported, "SELECT VALUE gave an array, which needs SQL version 2016-03-23")
	errRegex    = fault.New(fault.Timeout, "the rule's regular expressions took longer than %s for one message", regexTime)
)
