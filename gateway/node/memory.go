package node

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// MemoryConfig says how much memory the garbage collector may leave unused.
type MemoryConfig struct {
	// HeapFloor is the size up to which the heap may grow before it is collected,
	// in bytes. Without it a small live heap is collected many times a second under
	// load.
	HeapFloor int64 `yaml:"heap_floor"`
	// Limit is the size of the whole process at which collecting gets eager, in
	// bytes; half of the machine's memory when 0.
	Limit int64 `yaml:"limit"`
}

// DefaultMemoryConfig is for a small board: with it an idle gateway stays below
// 40 MB resident.
func DefaultMemoryConfig() MemoryConfig { return MemoryConfig{HeapFloor: 24 << 20} }

// Validate says everything that is wrong with c, each error starting with its key.
func (c MemoryConfig) Validate() error {
	var errs []error
	if c.HeapFloor < 4<<20 || c.HeapFloor > 1<<40 {
		errs = append(errs, fmt.Errorf("heap_floor: is %d, expected 4MiB or more", c.HeapFloor))
	}
	if c.Limit != 0 && c.Limit < 64<<20 {
		errs = append(errs, fmt.Errorf("limit: is %d, expected 64MiB or more, or 0 for half of the memory", c.Limit))
	}
	return errors.Join(errs...)
}

// apply sets the collector up for the life of the process and returns how to undo it.
func (c MemoryConfig) apply() (undo func()) {
	limit := c.Limit
	if limit == 0 {
		limit = totalMemory() / 2
	}
	oldLimit, oldPercent := int64(-1), debug.SetGCPercent(100)
	if limit > 0 {
		oldLimit = debug.SetMemoryLimit(limit)
	}
	f := &floor{bytes: uint64(c.HeapFloor), percent: 100}
	f.adjust()
	f.again()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { defer close(done); giveBack(stop) }()
	return func() {
		close(stop)
		<-done
		f.stopped.Store(true)
		debug.SetGCPercent(oldPercent)
		if oldLimit >= 0 {
			debug.SetMemoryLimit(oldLimit)
		}
	}
}

// After a burst, such as a thousand TLS handshakes, up to half of the heap is garbage that nobody
// collects while the process idles: below the floor nothing else may happen for minutes. Who
// allocates less than quietRate bytes within quietAfter idles.
const (
	quietAfter = 2 * time.Second
	quietRate  = 1 << 20
	worthwhile = 2 << 20 // garbage, in bytes, that is worth collecting
)

// giveBack collects the garbage of a heap that has become quiet, again and again, and returns it to
// the system.
func giveBack(stop <-chan struct{}) {
	tick := time.NewTicker(quietAfter)
	defer tick.Stop()
	m := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/gc/heap/live:bytes"}}
	var before, collected uint64 // bytes allocated in all at the last look, and when this last collected
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		metrics.Read(m)
		allocated, objects, free, live := m[0].Value.Uint64(), m[1].Value.Uint64(), m[2].Value.Uint64(), m[3].Value.Uint64()
		// A collection in the middle of a burst has taken all of it for live: what counts as well is what was allocated.
		if worth := live/8 + worthwhile; allocated-before <= quietRate && (objects+free > live+worth || allocated-collected > worth) {
			runtime.GC() // what pools hold goes with the second collection
			debug.FreeOSMemory()
			collected = allocated
		}
		before = allocated
	}
}

// floor keeps the next collection from coming before the heap has reached bytes. Go
// knows only a ratio between live and total heap, so the ratio is set anew after
// every collection.
type floor struct {
	bytes   uint64
	percent int
	stopped atomic.Bool
}

// again has adjust called after the next collection: that is when the cleanup of an
// object that nobody holds runs.
func (f *floor) again() {
	sentinel := new([64]byte) // large enough not to share its block with others
	runtime.AddCleanup(sentinel, func(f *floor) {
		if !f.stopped.Load() {
			f.adjust()
			f.again()
		}
	}, f)
}

func (f *floor) adjust() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	percent := 100
	if n := live[0].Value.Uint64(); n > 0 && n < f.bytes/2 {
		percent = int(min(100*(f.bytes-n)/n, math.MaxInt32))
	} else if n == 0 { // no collection yet
		percent = int(100 * f.bytes / (4 << 20)) // the runtime's smallest heap
	}
	// Setting it stops the world for a moment, so small changes are let go.
	if percent > f.percent+f.percent/8 || percent < f.percent-f.percent/8 {
		f.percent = percent
		debug.SetGCPercent(percent)
	}
}

// totalMemory is the machine's memory in bytes, 0 when it cannot be told.
func totalMemory() int64 {
	b, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemTotal:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb << 10
		}
	}
	return 0
}
