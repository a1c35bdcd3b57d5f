package manager

import (
	"testing"
	"time"

	"tidegate/devices"
	"tidegate/devices/profile"
	"tidegate/gateway/clock/clocktest"
)

// What depends on minutes is tested from inside, on a clock moved by hand.

func bench(t *testing.T, x devices.Point) (*device, *clocktest.Manual) {
	clk := clocktest.New(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	m := &Manager{cfg: DefaultConfig(), clk: clk, queue: newQueue(clk)}
	d := &device{m: m, name: "d", thing: "t", prof: &profile.Profile{Protocol: profile.JSON}, silent: 10 * time.Second, byName: map[string]*point{}}
	x.Name, x.Group = "p", "g"
	d.addPoint(x)
	return d, clk
}

func (d *device) say(v devices.Value) {
	d.accept([]devices.Reading{{Point: "p", Value: v, At: d.m.clk.Now(), Quality: devices.Good}}, false)
}

// told gives what has come out since it was asked last.
func (d *device) told() string {
	s := ""
	for {
		x, ok := d.m.queue.take()
		if !ok {
			return s
		}
		s += x.Readings[0].Value.String() + " " + x.Readings[0].Quality.String() + ";"
	}
}

func TestWhatIsHeldBackIsToldAgainAfterAWhile(t *testing.T) {
	for name, x := range map[string]devices.Point{"deadband": {Kind: devices.Integer, Deadband: 5}, "on change": {Kind: devices.Integer, OnChange: true}} {
		d, clk := bench(t, x)
		for range 60 { // ten minutes
			d.say(devices.Int(7))
			clk.Advance(10 * time.Second)
		}
		if got := d.told(); got != "7 good;7 good;" {
			t.Errorf("%s: in ten minutes told %q", name, got)
		}
	}
}

func TestAtMostTellsTheLastValueAndNotOneThatWentBack(t *testing.T) {
	d, clk := bench(t, devices.Point{Kind: devices.Integer, OnChange: true, AtMost: time.Minute})
	d.say(devices.Int(1))
	d.say(devices.Int(2))
	d.say(devices.Int(3))
	if got := d.told(); got != "1 good;" {
		t.Errorf("told %q", got)
	}
	clk.Advance(5 * time.Second)
	d.look(false)
	if got := d.told(); got != "" {
		t.Errorf("told too early: %q", got)
	}
	clk.Advance(55 * time.Second)
	d.silent = 0
	d.look(false)
	if got := d.told(); got != "3 good;" {
		t.Errorf("told %q, want the last", got)
	}
	d.say(devices.Int(4))
	d.say(devices.Int(3))
	clk.Advance(2 * time.Minute)
	d.look(false)
	if got := d.told(); got != "" {
		t.Errorf("it went back to what was told, and told %q", got)
	}
}

func TestAValueGoesStaleOnceAndByItsOwnPace(t *testing.T) {
	d, clk := bench(t, devices.Point{Kind: devices.Integer})
	for i := range 5 { // every 20 seconds, though a device is silent after 10
		d.say(devices.Int(int64(i)))
		clk.Advance(20 * time.Second)
		d.look(false)
	}
	if got := d.told(); got != "0 good;0 stale;1 good;2 good;3 good;4 good;" {
		t.Errorf("told %q", got) // the pace is known from the second value on
	}
	clk.Advance(5 * time.Minute)
	d.look(false)
	d.look(false)
	if got := d.told(); got != "4 stale;" {
		t.Errorf("told %q", got)
	}
	d.silent = 0 // a negative silent_after
	d.say(devices.Int(9))
	clk.Advance(24 * time.Hour)
	d.look(false)
	if got := d.told(); got != "9 good;" {
		t.Errorf("told %q", got)
	}
}

func TestAClockThatIsNotTrustedMakesReadingsUncertain(t *testing.T) {
	d, clk := bench(t, devices.Point{Kind: devices.Integer})
	clk.SetTrusted(false)
	d.say(devices.Int(1))
	if got := d.told(); got != "1 uncertain;" {
		t.Errorf("told %q", got)
	}
	clk.SetTrusted(true)
	d.say(devices.Int(1))
	if got := d.told(); got != "1 good;" { // again, now that it is dated
		t.Errorf("told %q", got)
	}
}

// A machine that boots in 1970 measures before it knows the date. What has not left by then gets the true one.
func TestReadingsThatWaitForTheDateGetIt(t *testing.T) {
	d, clk := bench(t, devices.Point{Kind: devices.Integer})
	boot, today := time.Unix(100, 0), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clk.Set(boot)
	clk.SetTrusted(false)
	d.accept([]devices.Reading{{Point: "p", Value: devices.Int(1), At: boot.Add(-2 * time.Second), Quality: devices.Good}}, false)
	d.accept([]devices.Reading{{Point: "p", Value: devices.Int(2), At: boot, Quality: devices.Bad}}, false)
	clk.Set(today)
	clk.SetTrusted(true)
	s, ok := d.m.queue.take()
	if r := s.Readings[0]; !ok || r.Quality != devices.Good || !s.At.Equal(r.At) || today.Sub(r.At) < 2*time.Second || today.Sub(r.At) > time.Minute {
		t.Errorf("%+v", s)
	}
	if s, ok = d.m.queue.take(); !ok || s.Readings[0].Quality != devices.Bad || !s.At.Equal(boot) { // that it was bad had another reason
		t.Errorf("%+v", s)
	}
}
