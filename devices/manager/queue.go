package manager

import (
	"context"
	"slices"
	"sync"
	"time"

	"tidegate/devices"
	"tidegate/gateway/clock"
)

// spare is how many readings the queue holds beyond one for every point.
const spare = 256

// Sample is what one device measured together, or found stale together, of one group.
type Sample struct {
	Device   string
	Thing    string
	Group    string
	At       time.Time // of the latest reading in it
	Points   []devices.Point
	Readings []devices.Reading // of Points, in the same order
}

// queue holds readings on their way to whoever tells them. It is bounded by spare plus
// the number of points; when it is full the oldest reading of the same point makes room,
// or, when that has none, the oldest of a point that has several. Every reading that
// makes room is counted: the newest value of every point always gets through.
//
// A reading that was taken before the clock could be trusted is dated anew when it leaves
// after that, by how long it has waited. One that has left before keeps its date and is
// Uncertain for good: it is on the disk and perhaps with others.
type queue struct {
	clk clock.Clock

	mu       sync.Mutex // guards what follows
	entries  []entry
	per      map[*point]int // entries of each point
	points   int
	replaced uint64
	wake     chan struct{} // holds one token: something was put in
}

type entry struct {
	sample  uint64 // readings of one sample of one device have the same
	point   *point
	reading devices.Reading
	undated *undated // good, but for the clock that could not be trusted; nil: nothing to mend
}

// undated is how old a reading is whose date may be any.
type undated struct {
	age time.Duration // when it was put
	put time.Time     // by the machine, for its monotonic part
}

// date gives the true date, at a moment now whose date can be trusted.
func (u *undated) date(now time.Time) time.Time { return now.Add(-u.age - time.Since(u.put)) }

func newQueue(clk clock.Clock) *queue {
	return &queue{clk: clk, per: map[*point]int{}, wake: make(chan struct{}, 1)}
}

// grow makes room for one more point.
func (q *queue) grow() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.points++
}

// put adds readings of one sample.
func (q *queue) put(es []entry) {
	if len(es) == 0 {
		return
	}
	q.mu.Lock()
	for _, e := range es {
		if len(q.entries) >= spare+q.points {
			q.makeRoom(e.point)
		}
		q.entries = append(q.entries, e)
		q.per[e.point]++
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) makeRoom(p *point) {
	i := slices.IndexFunc(q.entries, func(e entry) bool { return e.point == p })
	if i < 0 { // more entries than points: some point has two
		i = slices.IndexFunc(q.entries, func(e entry) bool { return q.per[e.point] > 1 })
	}
	q.per[q.entries[i].point]--
	q.entries = slices.Delete(q.entries, i, i+1)
	q.replaced++
}

// take removes the oldest reading and those of its sample and group.
func (q *queue) take() (Sample, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.entries) == 0 {
		return Sample{}, false
	}
	first := q.entries[0]
	now, trusted := q.clk.Now(), q.clk.Trusted()
	s := Sample{Device: first.point.dev.name, Thing: first.point.dev.thing, Group: first.point.Group}
	kept := q.entries[:0]
	for _, e := range q.entries {
		if e.point.dev != first.point.dev || e.sample != first.sample || e.point.Group != s.Group { // each device numbers its own
			kept = append(kept, e)
			continue
		}
		q.per[e.point]--
		if e.undated != nil && trusted {
			e.reading.At, e.reading.Quality = e.undated.date(now), devices.Good
		}
		if e.reading.At.After(s.At) {
			s.At = e.reading.At
		}
		s.Points = append(s.Points, e.point.Point)
		s.Readings = append(s.Readings, e.reading)
	}
	clear(q.entries[len(kept):])
	q.entries = kept
	return s, true
}

// next waits for a sample or the end of ctx.
func (q *queue) next(ctx context.Context) (Sample, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Sample{}, err
		}
		if s, ok := q.take(); ok {
			return s, nil
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
		}
	}
}

func (q *queue) stats() (waiting int, replaced uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.entries), q.replaced
}
