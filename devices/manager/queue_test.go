package manager

import (
	"testing"
	"time"

	"tidegate/devices"
	"tidegate/gateway/clock"
)

// The queue is tested from inside: no device is fast enough to fill it on purpose.

func TestAFullQueueKeepsTheNewestOfEveryPoint(t *testing.T) {
	q := newQueue(clock.System())
	d := &device{name: "d", thing: "t"}
	ps := make([]*point, 40)
	for i := range ps {
		ps[i] = &point{Point: devices.Point{Name: string(rune('a' + i)), Group: "g"}, dev: d}
		q.grow()
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	put := func(n uint64, p *point, v int) {
		q.put([]entry{{sample: n, point: p, reading: devices.Reading{Point: p.Name, Value: devices.Int(int64(v)), At: at, Quality: devices.Good}}})
	}
	n := uint64(0)
	for v := range 1000 { // one point that does not stop talking
		n++
		put(n, ps[0], v)
	}
	for i, p := range ps[1:] { // and the others, once
		n++
		put(n, p, i)
	}
	waiting, replaced := q.stats()
	if waiting != spare+len(ps) || replaced != uint64(1000+len(ps)-1-waiting) {
		t.Errorf("%d waiting, %d replaced", waiting, replaced)
	}
	last := map[string]devices.Value{}
	count := 0
	for {
		s, ok := q.take()
		if !ok {
			break
		}
		for _, r := range s.Readings {
			last[r.Point] = r.Value
			count++
		}
	}
	if count != waiting || len(last) != len(ps) || last["a"] != devices.Int(999) {
		t.Errorf("%d readings of %d points, the talker's last is %v", count, len(last), last["a"])
	}
}

func TestASampleIsTakenWholeAndByGroup(t *testing.T) {
	q := newQueue(clock.System())
	d := &device{name: "d", thing: "t"}
	a, b, c := &point{Point: devices.Point{Name: "a", Group: "x"}, dev: d}, &point{Point: devices.Point{Name: "b", Group: "y"}, dev: d},
		&point{Point: devices.Point{Name: "c", Group: "x"}, dev: d}
	now := time.Now()
	e := func(n uint64, p *point, at time.Time) entry {
		return entry{sample: n, point: p, reading: devices.Reading{Point: p.Name, At: at}}
	}
	q.put([]entry{e(1, a, now), e(1, b, now), e(1, c, now.Add(time.Second))})
	q.put([]entry{e(2, a, now)})
	for _, want := range []string{"x: a c", "y: b", "x: a"} {
		s, ok := q.take()
		got := s.Group + ":"
		for _, r := range s.Readings {
			got += " " + r.Point
		}
		if !ok || got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if want == "x: a c" && !s.At.Equal(now.Add(time.Second)) {
			t.Errorf("dated %v", s.At)
		}
	}
	if _, ok := q.take(); ok {
		t.Error("something is left")
	}
}

// Readings of one device were once told in a message of another whose samples happened to
// have the same number: two meters of one kind on two buses.
func TestSamplesOfTwoDevicesAreNeverJoined(t *testing.T) {
	q := newQueue(clock.System())
	now := time.Now()
	entries := func(name string) []entry {
		p := &point{Point: devices.Point{Name: "power", Group: "power"}, dev: &device{name: name, thing: name}}
		return []entry{{sample: 7, point: p, reading: devices.Reading{Point: "power", At: now, Quality: devices.Good}}}
	}
	q.put(entries("cellar"))
	q.put(entries("attic"))
	for _, thing := range []string{"cellar", "attic"} {
		if s, ok := q.take(); !ok || s.Thing != thing || len(s.Readings) != 1 {
			t.Errorf("%+v, want one reading of %s", s, thing)
		}
	}
}
