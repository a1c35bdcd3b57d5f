// Package health keeps what is wrong now, in words for an operator.
//
// A lasting condition is a Warning with a stable code, raised while it lasts and
// cleared when it is over; what merely happened belongs into the log. A code is
// a lower-case kind, and where there may be several of one kind a slash and the
// subject: "disk-low", "upstream-down/site7". Codes never change their meaning.
//
//	hp.Raise("upstream-down/site7", "upstream site7 cannot be reached: connection refused")
//	hp.Clear("upstream-down/site7")
//
// It also answers the two questions of a watchdog and a load balancer: is the
// process alive (every probe answers), and is it ready (everything is up).
// Nothing here is durable; all methods may be called concurrently.
package health

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/gateway/clock"
)

// Warning is one condition that lasts.
type Warning struct {
	Code  string    `json:"code"`
	Text  string    `json:"text"`  // what is wrong and, where known, what to do
	Since time.Time `json:"since"` // when it was first raised
	// Minor: worth knowing, but the gateway does all that it is there for. It does not make
	// it unhealthy.
	Minor bool `json:"minor,omitempty"`
}

// Health is the state of the whole gateway.
type Health struct {
	clk   clock.Clock
	ready atomic.Bool

	mu       sync.Mutex // guards what follows
	warnings map[string]Warning
	probes   map[string]func() error
}

// New gives a state without warnings that is alive and not ready.
func New(clk clock.Clock) *Health {
	return &Health{clk: clk, warnings: map[string]Warning{}, probes: map[string]func() error{}}
}

// Raise says that the condition code holds. Raising it again changes the text
// and keeps the time since when it holds.
func (h *Health) Raise(code, text string) { h.raise(code, text, false) }

// Note says that the condition code holds, which is worth knowing and no fault of the
// gateway: somebody has asked for what cannot be. Otherwise it is Raise.
func (h *Health) Note(code, text string) { h.raise(code, text, true) }

func (h *Health) raise(code, text string, minor bool) {
	now := h.clk.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if w, ok := h.warnings[code]; ok {
		now = w.Since
	}
	h.warnings[code] = Warning{Code: code, Text: text, Since: now, Minor: minor}
}

// Clear says that the condition code is over.
func (h *Health) Clear(code string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.warnings, code)
}

// Warnings lists the conditions that hold, in order of their codes.
func (h *Health) Warnings() []Warning {
	h.mu.Lock()
	defer h.mu.Unlock()
	ws := make([]Warning, 0, len(h.warnings))
	for _, w := range h.warnings {
		ws = append(ws, w)
	}
	slices.SortFunc(ws, func(a, b Warning) int { return strings.Compare(a.Code, b.Code) })
	return ws
}

// Probe has Alive ask fn, under name. fn returns within a second, and an error
// when its part does no longer do its work and only a restart can help.
func (h *Health) Probe(name string, fn func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probes[name] = fn
}

// Alive asks every probe and returns what those that failed had to say, nil when
// all is well.
func (h *Health) Alive() error {
	h.mu.Lock()
	names := make([]string, 0, len(h.probes))
	for name := range h.probes {
		names = append(names, name)
	}
	slices.Sort(names)
	fns := make([]func() error, len(names))
	for i, name := range names {
		fns[i] = h.probes[name]
	}
	h.mu.Unlock() // probes run without the lock: they may raise warnings
	for i, fn := range fns {
		if err := fn(); err != nil {
			return fmt.Errorf("%s: %w", names[i], err)
		}
	}
	return nil
}

// SetReady says whether everything is up.
func (h *Health) SetReady(ready bool) { h.ready.Store(ready) }

// Ready says whether everything is up.
func (h *Health) Ready() bool { return h.ready.Load() }
