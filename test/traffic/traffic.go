// Package traffic makes numbered messages and checks what becomes of them. A Fleet of publishers sends them at QoS 1 and
// sends again, as the standard asks, what was not acknowledged when a connection broke; a Tally at the other end sees that
// every publisher's numbers come without a hole and in order, repetitions aside. A Keeper is a persistent subscriber that
// comes and goes.
//
// The rule a Tally checks is the promise of the gateway: each number is first seen right after the one before it. A number
// that was acknowledged and is missing is a loss; one that comes before its predecessor is a disorder; both are the same
// line of text, because at the moment they are seen they are the same thing.
package traffic

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// Payload is message seq of publisher p: both numbers in the clear, then filler that follows from them up to size bytes.
func Payload(b []byte, p int, seq uint64, size int) []byte {
	b = strconv.AppendInt(b[:0], int64(p), 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, seq, 10)
	b = append(b, ' ')
	x := uint64(p)<<40 ^ seq ^ 0x9e3779b97f4a7c15
	for len(b) < size {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b[:max(size, bytes.LastIndexByte(b[:min(len(b), 32)], ' ')+1)]
}

// Tally counts what arrives. It may be used from any goroutine.
type Tally struct {
	name string
	size int

	mu       sync.Mutex // guards what follows
	changed  *sync.Cond
	high     []uint64 // last number in order, by publisher
	first    []uint64 // number each publisher was first seen with; with anyStart it may be any
	anyStart bool
	anyHoles bool
	once     bool
	missed   uint64
	repeats  int
	total    int
	bad      []string
	scratch  []byte
}

// NewTally expects numbers of publishers from 1 on, in payloads of size bytes. name stands in what it says.
func NewTally(name string, publishers, size int) *Tally {
	t := &Tally{name: name, size: size, high: make([]uint64, publishers), first: make([]uint64, publishers)}
	t.changed = sync.NewCond(&t.mu)
	return t
}

// StartAnywhere lets the first number of each publisher be any: for one who comes late to a queue that others have read.
func (t *Tally) StartAnywhere() { t.anyStart = true }

// AllowHoles counts numbers that are skipped (see Missed) instead of complaining: for damaged disks, where the ledger must
// account for them.
func (t *Tally) AllowHoles() { t.anyHoles = true }

// Once makes a repetition a complaint: for QoS 2.
func (t *Tally) Once() { t.once = true }

// Missed is how many numbers were skipped, of those up to the last one seen of each publisher.
func (t *Tally) Missed() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.missed
}

// Take looks at a payload that arrived.
func (t *Tally) Take(payload []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.changed.Broadcast()
	t.total++
	p, seq, ok := parse(payload)
	if !ok || p < 0 || p >= len(t.high) {
		t.blame("a payload nobody sent: %.40q", payload)
		return
	}
	if t.scratch = Payload(t.scratch, p, seq, t.size); !bytes.Equal(payload, t.scratch) {
		t.blame("publisher %d number %d: not what was sent: %d bytes, %.40q", p, seq, len(payload), payload)
		return
	}
	switch next := t.high[p] + 1; {
	case seq == next, t.anyStart && t.first[p] == 0:
		t.high[p] = seq
	case seq < next:
		t.repeats++
		if t.once {
			t.blame("publisher %d: %d comes again", p, seq)
		}
	case t.anyHoles:
		t.missed += seq - next
		t.high[p] = seq
	default:
		t.blame("publisher %d: %d comes after %d", p, seq, t.high[p])
		t.high[p] = seq
	}
	if t.first[p] == 0 {
		t.first[p] = seq
	}
}

func (t *Tally) blame(format string, args ...any) {
	if len(t.bad) < 20 {
		t.bad = append(t.bad, t.name+": "+fmt.Sprintf(format, args...))
	}
}

// Blame adds a line of one's own to what Bad returns.
func (t *Tally) Blame(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.blame(format, args...)
}

// Bad is what was wrong so far, at most 20 lines.
func (t *Tally) Bad() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.bad...)
}

// High is the last number seen of each publisher.
func (t *Tally) High() []uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]uint64(nil), t.high...)
}

// First is the number each publisher was first seen with, 0 when not at all.
func (t *Tally) First() []uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]uint64(nil), t.first...)
}

// String is its name.
func (t *Tally) String() string { return t.name }

// Counts are the messages taken in all, and how many of them were repetitions.
func (t *Tally) Counts() (total, repeats int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.total, t.repeats
}

// WaitFor waits until every publisher's numbers have come up to those given, as long as something still comes at least every
// patience. It tells what is missing.
func (t *Tally) WaitFor(upTo []uint64, patience time.Duration) (missing []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for seen := t.total; ; seen = t.total {
		missing = missing[:0]
		for p, want := range upTo {
			if t.high[p] < want {
				missing = append(missing, fmt.Sprintf("%s: publisher %d: acknowledged up to %d, arrived up to %d", t.name, p, want, t.high[p]))
			}
		}
		if len(missing) == 0 {
			return nil
		}
		late := false
		timer := time.AfterFunc(patience, func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			late = true
			t.changed.Broadcast()
		})
		for t.total == seen && !late {
			t.changed.Wait()
		}
		timer.Stop()
		if t.total == seen {
			return missing
		}
	}
}

func parse(b []byte) (p int, seq uint64, ok bool) {
	first, rest, ok1 := bytes.Cut(b, []byte(" "))
	second, _, ok2 := bytes.Cut(rest, []byte(" "))
	p, err1 := strconv.Atoi(string(first))
	seq, err2 := strconv.ParseUint(string(second), 10, 64)
	return p, seq, ok1 && ok2 && err1 == nil && err2 == nil
}

// Target is the address of a broker that comes and goes. The zero value is away.
type Target struct {
	mu   sync.Mutex // guards what follows
	addr string
	wake chan struct{} // closed and replaced at each change
}

// Set says where the broker is now; "" when it is nowhere.
func (t *Target) Set(addr string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addr = addr
	if t.wake != nil {
		close(t.wake)
	}
	t.wake = make(chan struct{})
}

// wait returns the address, "" once stop is closed.
func (t *Target) wait(stop <-chan struct{}) string {
	for {
		t.mu.Lock()
		if t.wake == nil {
			t.wake = make(chan struct{})
		}
		addr, wake := t.addr, t.wake
		t.mu.Unlock()
		select {
		case <-stop:
			return ""
		default:
		}
		if addr != "" {
			return addr
		}
		select {
		case <-wake:
		case <-stop:
		}
	}
}
