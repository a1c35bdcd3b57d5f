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
	f.quiet = time.AfterFunc(quietAfter, f.giveBack)
	f.quiet.Reset(quietAfter) // giveBack reads f.quiet
	f.adjust()
	f.again()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { defer close(done); giveBack(c.HeapFloor, stop) }()
	return func() {
		close(stop)
		<-done
		f.stopped.Store(true)
		f.quiet.Stop()
		debug.SetGCPercent(oldPercent)
		if oldLimit >= 0 {
			debug.SetMemoryLimit(oldLimit)
		}
	}
}

// calm are the times without a collection after which memory is given back: a first
// time soon, then again for what was let go in the meantime, the last time for a while.
var calm = [...]time.Duration{4 * time.Second, 12 * time.Second, 30 * time.Second}

// giveBack returns memory to the system when a time of much work is over. The runtime
// by itself collects again only when the heap has grown to twice what lived at the
// last collection, or after two minutes, and keeps most of what it has for long. What is
// below floor stays: that is the heap's working room.
func giveBack(floor int64, stop <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	m := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	var cycles uint64
	since, step := time.Now(), 0
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		metrics.Read(m)
		if n := m[0].Value.Uint64(); n != cycles {
			cycles, since, step = n, time.Now(), 0
			continue
		}
		held := m[1].Value.Uint64() + m[2].Value.Uint64() + m[3].Value.Uint64()
		if step == len(calm) || time.Since(since) < calm[step] || held < uint64(floor) {
			continue
		}
		debug.FreeOSMemory()
		metrics.Read(m)
		cycles = m[0].Value.Uint64()
		step++
	}
}

// floor keeps the next collection from coming before the heap has reached bytes. Go
// knows only a ratio between live and total heap, so the ratio is set anew after
// every collection.
type floor struct {
	bytes   uint64
	percent int
	stopped atomic.Bool

	quiet     *time.Timer   // calls giveBack
	allocated atomic.Uint64 // bytes since the start, when that was last looked at
}

// After a burst, such as a thousand TLS handshakes, up to half of the heap is garbage that nobody
// collects while the process idles. Who allocates less than quietRate bytes within quietAfter idles.
const (
	quietAfter = 2 * time.Second
	quietRate  = 1 << 20
	worthwhile = 2 << 20 // garbage, in bytes, that is worth a collection
)

// giveBack collects the garbage of a heap that has become quiet and returns it to the system. It comes again and again,
// since below the floor nothing else may happen for minutes.
func (f *floor) giveBack() {
	if f.stopped.Load() {
		return
	}
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	all, objects, free, live := s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64(), s[3].Value.Uint64()
	if all-f.allocated.Swap(all) <= quietRate && objects+free > live+live/8+worthwhile {
		debug.FreeOSMemory()
	}
	f.quiet.Reset(quietAfter)
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
