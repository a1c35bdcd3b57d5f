// Package callout calls functions that are not part of the gateway: a command on this
// machine or an HTTP endpoint, within a time limit.
//
// A function takes one JSON document and gives one. Where AWS names a Lambda function by
// its ARN, the gateway looks the function's name up in a [Set]; further kinds, such as a
// verifier of tokens that is built in, are added as a [Func]. What a document means is
// for the caller.
//
// The package judges nothing: a function that fails, lingers or says too much is an
// error, and what follows from it is decided where it was asked.
//
//	set := callout.NewSet()
//	set.Add("door", callout.Command([]string{"/usr/libexec/door"}))
//	answer, err := set.Call(ctx, "arn:aws:lambda:local-1:000000000000:function:door", event)
package callout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/gateway/fault"
)

// Func is a function: a JSON document in, one out. It must return soon after ctx ends.
type Func func(ctx context.Context, event []byte) (answer []byte, err error)

// The bounds of calls.
const (
	MaxAnswer  = 256 << 10       // bytes of an answer
	TimeLimit  = 5 * time.Second // for one call, unless a function has its own (AWS: custom authorizers, provisioning hooks)
	concurrent = 16              // calls at a time
)

// Set is the functions of a gateway by name. Its methods may be called concurrently.
type Set struct {
	places chan struct{} // one for each call under way; full: the next waits, within its own time limit

	calls, failed, busy atomic.Uint64

	mu    sync.RWMutex // guards what follows
	funcs map[string]named
}

type named struct {
	f     Func
	limit time.Duration
}

// NewSet makes a set without functions.
func NewSet() *Set {
	return &Set{places: make(chan struct{}, concurrent), funcs: map[string]named{}}
}

// Add gives a function a name, with [TimeLimit] for each call.
func (s *Set) Add(name string, f Func) { s.AddLimit(name, f, TimeLimit) }

// AddLimit gives a function a name and its own time limit.
func (s *Set) AddLimit(name string, f Func, limit time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.funcs[name] = named{f, limit}
}

// Has says whether there is a function of the name or ARN.
func (s *Set) Has(function string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.funcs[Name(function)]
	return ok
}

// Name takes a function's name out of its ARN (arn:aws:lambda:REGION:ACCOUNT:function:NAME,
// with or without a version behind it). What is no ARN is a name already.
func Name(function string) string {
	parts := strings.Split(function, ":")
	if len(parts) >= 7 && parts[0] == "arn" && parts[2] == "lambda" && parts[5] == "function" {
		return parts[6]
	}
	return function
}

// Call asks a function. Errors: fault.NotFound for one that is not configured,
// fault.Timeout for one that took too long, fault.Throttled when too many calls are under
// way, fault.Unavailable for one that failed.
func (s *Set) Call(ctx context.Context, function string, event []byte) ([]byte, error) {
	s.mu.RLock()
	f, ok := s.funcs[Name(function)]
	s.mu.RUnlock()
	if !ok {
		return nil, fault.New(fault.NotFound, "the function %s is not configured on this gateway", function)
	}
	ctx, cancel := context.WithTimeout(ctx, f.limit)
	defer cancel()
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	case <-ctx.Done():
		s.busy.Add(1)
		return nil, fault.New(fault.Throttled, "too many functions are being called")
	}
	s.calls.Add(1)
	answer, err := f.f(ctx, event)
	if err != nil {
		s.failed.Add(1)
	}
	var known *fault.Error
	switch {
	case err == nil:
		return answer, nil
	case ctx.Err() != nil:
		return nil, fault.Wrap(fault.Timeout, err, "the function %s took too long", Name(function))
	case errors.As(err, &known):
		return nil, err
	}
	return nil, fault.Wrap(fault.Unavailable, err, "the function %s failed", Name(function))
}

// Stats are what a Set counts since it was made.
type Stats struct {
	Calls   uint64 // calls of functions
	Failed  uint64 // of them, those that failed or took too long
	Busy    uint64 // calls given up because too many were under way
	Running int    // calls under way
}

// Stats gives what was counted so far.
func (s *Set) Stats() Stats {
	return Stats{Calls: s.calls.Load(), Failed: s.failed.Load(), Busy: s.busy.Load(), Running: len(s.places)}
}

// tooMuch is the error for an answer beyond MaxAnswer.
func tooMuch() error { return fmt.Errorf("the answer has more than %d bytes", MaxAnswer) }
