package manager_test

import (
	"context"
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/devices"
	"tidegate/devices/drivers/modbus"
	"tidegate/devices/drivers/serialline"
	"tidegate/devices/manager"
	"tidegate/devices/profile"
	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/health"
	"tidegate/gateway/logs"
	"tidegate/gateway/metrics"
	"tidegate/hw/board/simboard"
	"tidegate/hw/serial/ptypair"
)

var protocols = map[string]profile.Attach{profile.Modbus: modbus.Attach, profile.NMEA: serialline.Attach, profile.JSON: serialline.Attach, profile.CSV: serialline.Attach}

// house is a running manager with what it was given.
type house struct {
	*manager.Manager
	t      *testing.T
	health *reporter
	stop   func()
}

// reporter is a health.Health that says when something in it has changed.
type reporter struct {
	*health.Health
	changed chan struct{} // holds one token
}

func (r *reporter) Raise(code, text string) { r.Health.Raise(code, text); r.note() }
func (r *reporter) Clear(code string)       { r.Health.Clear(code); r.note() }

func (r *reporter) note() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func run(t *testing.T, resolve func(string) (string, error), c manager.Config) *house {
	t.Helper()
	hp := &reporter{Health: health.New(clock.System()), changed: make(chan struct{}, 1)}
	m, err := manager.New(protocols, manager.Host{Resolve: resolve}, hp, clock.System(), logs.Discard(), c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.Run(ctx, func() {}); err != nil {
			t.Error(err)
		}
	})
	h := &house{Manager: m, t: t, health: hp, stop: sync.OnceFunc(func() { cancel(); wg.Wait() })}
	t.Cleanup(h.stop)
	return h
}

func simulated(t *testing.T) *simboard.Board {
	t.Helper()
	b, err := simboard.Open(clock.System())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { b.Run(ctx, func() {}) })
	t.Cleanup(func() { cancel(); wg.Wait(); b.Close() })
	return b
}

// until takes samples until ok says that the last one is what was waited for.
func (h *house) until(what string, ok func(s manager.Sample) bool) manager.Sample {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer cancel()
	for {
		s, err := h.Next(ctx)
		if err != nil {
			h.t.Fatalf("%s: never came; health: %v", what, h.health.Warnings())
		}
		if ok(s) {
			return s
		}
	}
}

func has(device, point string, q devices.Quality) func(s manager.Sample) bool {
	return func(s manager.Sample) bool {
		for _, r := range s.Readings {
			if s.Device == device && r.Point == point && r.Quality == q {
				return true
			}
		}
		return false
	}
}

// warned waits for a health warning whose text holds all of parts; an empty text for it to be gone.
func (h *house) warned(code string, parts ...string) {
	h.t.Helper()
	patience := time.After(20 * time.Second)
	for {
		text, raised := "", false
		for _, w := range h.health.Warnings() {
			if w.Code == code {
				text, raised = w.Text, true
			}
		}
		if raised == (len(parts) > 0) {
			ok := true
			for _, p := range parts {
				ok = ok && strings.Contains(text, p)
			}
			if ok {
				return
			}
		}
		select {
		case <-h.health.changed:
		case <-patience:
			h.t.Fatalf("%s: %q, want %q; all: %v", code, text, parts, h.health.Warnings())
		}
	}
}

func TestTheSimulatedBusIsReadAndWritten(t *testing.T) {
	t.Parallel()
	b := simulated(t)
	h := run(t, b.Resolve, manager.SimulatedConfig())
	s := h.until("position", has("boat", "latitude", devices.Good))
	if s.Thing != "boat" || s.Group != "position" || len(s.Readings) < 5 || len(s.Points) != len(s.Readings) || s.Points[0].Unit != devices.Degree {
		t.Errorf("one sentence gave %+v", s)
	}
	h.until("weather", has("weather", "pressure", devices.Good))
	s = h.until("plc", has("pump1", "temperature", devices.Good))
	if s.Group != "process" || len(s.Readings) != 4 {
		t.Errorf("one round gave %+v", s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if v, err := h.Write(ctx, "pump1", "pump", devices.Bool(true)); err != nil || v != devices.Bool(true) || !b.Coil(0) {
		t.Errorf("pump: %v, %v", v, err)
	}
	h.until("the read-back", func(s manager.Sample) bool {
		return s.Device == "pump1" && s.Readings[0].Point == "pump" && s.Readings[0].Value == devices.Bool(true)
	})
	for _, c := range []struct {
		thing, point string
		v            devices.Value
		code         fault.Code
	}{
		{"pump1", "pump", devices.Text("on"), fault.Invalid}, {"pump1", "setpoint", devices.Int(99), fault.Invalid},
		{"pump1", "temperature", devices.Int(5), fault.Invalid}, {"pump1", "none", devices.Int(5), fault.NotFound}, {"none", "pump", devices.Bool(true), fault.NotFound},
	} {
		if _, err := h.Write(ctx, c.thing, c.point, c.v); fault.Of(err) != c.code {
			t.Errorf("%s.%s set to %v: %v, want %v", c.thing, c.point, c.v, err, c.code)
		}
	}
	for _, name := range []string{"boat", "weather", "pump1"} {
		if rs, err := h.Test(ctx, name); err != nil || len(rs) == 0 {
			t.Errorf("test %s: %v, %v", name, rs, err)
		}
	}
	if _, err := h.Test(ctx, "none"); fault.Of(err) != fault.NotFound {
		t.Errorf("test of nothing: %v", err)
	}
	w := h.Writable()
	if len(w) != 1 || len(w["pump1"]) != 2 {
		t.Errorf("writable: %v", w)
	}
	states := h.Snapshot()
	for i, name := range []string{"boat", "weather", "pump1"} {
		if d := states[i]; d.Name != name || d.State != manager.StateGood || d.LastGood == nil || d.Counts.Good == 0 || len(d.Points) == 0 {
			t.Errorf("snapshot: %+v", d)
		}
	}
	h.stop()
	if b.Coil(0) {
		t.Error("the pump runs on after the manager has stopped")
	}
	if _, err := h.Write(ctx, "pump1", "pump", devices.Bool(true)); fault.Of(err) != fault.Unavailable {
		t.Errorf("write after the end: %v", err)
	}
	if ws := h.health.Warnings(); len(ws) != 0 {
		t.Errorf("warnings: %v", ws)
	}
}

func TestAPulledCableMakesValuesStaleAndComesBackByItself(t *testing.T) {
	t.Parallel()
	b := simulated(t)
	h := run(t, b.Resolve, manager.SimulatedConfig())
	h.until("plc", has("pump1", "temperature", devices.Good))
	b.Unplug("sim:plc")
	s := h.until("stale", has("pump1", "temperature", devices.Stale))
	if s.Readings[0].Value.IsNone() {
		t.Error("a stale value is the last known, and this is none")
	}
	h.warned("bus-down/plc", "bus plc: simulated port \"sim:plc\" is not there")
	if _, err := h.Write(t.Context(), "pump1", "pump", devices.Bool(true)); fault.Of(err) != fault.Unavailable || !strings.Contains(err.Error(), "not there") {
		t.Errorf("write: %v", err)
	}
	if _, err := h.Test(t.Context(), "pump1"); fault.Of(err) != fault.Unavailable {
		t.Errorf("test: %v", err)
	}
	h.until("the others", has("boat", "latitude", devices.Good)) // are not harmed
	if err := b.Plug("sim:plc"); err != nil {
		t.Fatal(err)
	}
	h.until("back", has("pump1", "temperature", devices.Good))
	h.warned("bus-down/plc")
}

func TestASilentDeviceIsToldFromAMissingPortAndFromNonsense(t *testing.T) {
	t.Parallel()
	b := simulated(t)
	c := manager.SimulatedConfig()
	c.Buses = c.Buses[2:]
	c.Buses[0].Timeout, c.Buses[0].Devices[0].Every, c.Buses[0].Devices[0].SilentAfter = 30*time.Millisecond, 50*time.Millisecond, time.Second
	talker, err := ptypair.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer talker.Close()
	c.Buses = append(c.Buses, manager.Bus{Name: "talker", Port: talker.Path, Devices: []manager.Device{{Thing: "t", Profile: "nmea0183", SilentAfter: time.Second}}},
		manager.Bus{Port: "/dev/ttyNotThere", Devices: []manager.Device{{Thing: "n", Profile: "nmea0183"}}})
	h := run(t, func(port string) (string, error) {
		if strings.HasPrefix(port, "/") {
			return port, nil
		}
		return b.Resolve(port)
	}, c)
	h.warned("bus-down/ttyNotThere", "bus ttyNotThere: serial port /dev/ttyNotThere is missing: plug it in")
	h.until("plc", has("pump1", "temperature", devices.Good))
	b.Mute(true)
	h.warned("device-silent/pump1", "device pump1 on plc has not answered for", "unit number")
	h.until("stale", has("pump1", "temperature", devices.Stale))
	if _, err := h.Write(t.Context(), "pump1", "pump", devices.Bool(true)); fault.Of(err) != fault.Timeout {
		t.Errorf("write: %v", err)
	}
	b.Mute(false)
	h.until("back", has("pump1", "temperature", devices.Good))
	h.warned("device-silent/pump1")

	h.warned("device-silent/t", "device t on talker has said nothing for", "power and wiring")
	speak, quiet := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	say := func(line string) {
		wg.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					talker.Write([]byte(line))
				case <-speak.Done():
					return
				}
			}
		})
	}
	say("$HEHDT,275.07,T*19\r\n") // a flipped bit
	h.warned("device-garbled/t", "device t on talker makes no sense", "speed and parity", "a wrong checksum")
	h.warned("device-silent/t")
	say("$HEHDT,274.07,T*19\r\n")
	h.until("heading", has("t", "heading", devices.Good))
	h.warned("device-garbled/t")
	for _, d := range h.Snapshot() {
		if d.Name == "t" && (d.Counts.Garbled == 0 || d.Counts.Good == 0) {
			t.Errorf("counts %+v", d.Counts)
		}
	}
	quiet()
	wg.Wait()
	h.until("stale", has("t", "heading", devices.Stale))
}

func TestDeadbandChangeAndRate(t *testing.T) {
	t.Parallel()
	talker, err := ptypair.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer talker.Close()
	c := manager.DefaultConfig()
	c.Profiles = map[string]profile.Profile{"p": {Protocol: profile.JSON, Points: []profile.Point{
		{Name: "t", Path: "t", Deadband: 0.2}, {Name: "on", Path: "on", Type: "bool", OnChange: true}, {Name: "fast", Path: "f", AtMost: 900 * time.Millisecond},
		{Name: "seq", Path: "seq", Type: "int"}}}}
	c.Buses = []manager.Bus{{Name: "b", Port: talker.Path, Devices: []manager.Device{{Thing: "x", Profile: "p"}}}}
	h := run(t, nil, c)
	for heard := false; !heard; { // until it listens: what was said before is thrown away
		talker.Write([]byte("{\"seq\":-1}\n"))
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := h.Next(ctx)
		heard = err == nil
		cancel()
	}
	var got []string
	seq := 0
	say := func(format string, args ...any) {
		seq++
		fmt.Fprintf(talker, "{\"seq\":%d,%s}\n", seq, fmt.Sprintf(format, args...))
		s := h.until("seq", func(s manager.Sample) bool {
			n, _ := s.Readings[len(s.Readings)-1].Value.Int64()
			return s.Points[len(s.Points)-1].Name == "seq" && int(n) == seq
		})
		for i, r := range s.Readings[:len(s.Readings)-1] {
			got = append(got, fmt.Sprintf("%d %s=%v", seq, s.Points[i].Name, r.Value))
		}
	}
	say(`"t":20.0,"on":false,"f":1`) // the first is told
	say(`"t":20.1,"on":false,"f":2`)
	say(`"t":20.2,"on":true,"f":3`) // 0.2 away; changed
	say(`"t":20.3,"on":true,"f":4`)
	say(`"t":19.9,"on":false,"f":5`)
	say(`"t":null,"on":false`) // another quality is told
	want := []string{"1 t=20", "1 on=false", "1 fast=1", "3 t=20.2", "3 on=true", "5 t=19.9", "5 on=false", "6 t=null"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	s := h.until("the last of what came too fast", func(s manager.Sample) bool { return s.Points[0].Name == "fast" })
	if !s.Readings[0].Value.Equal(devices.Int(5)) {
		t.Errorf("told %v, want the last", s.Readings[0].Value)
	}
}

func TestSeveralDevicesAndPacesOnOneBus(t *testing.T) {
	t.Parallel()
	b := simulated(t)
	c := manager.SimulatedConfig()
	p, _ := profile.Builtin("sim-plc")
	p.Points[2].Every = 20 * time.Millisecond // temperature, ten times as often as the others
	c.Profiles = map[string]profile.Profile{"plc": p}
	bus := c.Buses[2]
	bus.Timeout, bus.Retries = 30*time.Millisecond, new(int)
	bus.Devices = []manager.Device{{Thing: "pump1", Profile: "plc", Unit: 1, Every: 200 * time.Millisecond}, {Thing: "pump2", Profile: "plc", Unit: 2, Every: 200 * time.Millisecond}}
	c.Buses = []manager.Bus{bus}
	h := run(t, b.Resolve, c)
	count := map[string]int{}
	h.until("enough", func(s manager.Sample) bool {
		if s.Device == "pump2" {
			t.Errorf("unit 2 is not there and gave %+v", s)
		}
		for _, r := range s.Readings {
			count[r.Point]++
		}
		return count["flow"] >= 4
	})
	if count["temperature"] < 12 {
		t.Errorf("in the time of %d flows there were %d temperatures", count["flow"], count["temperature"])
	}
	for _, d := range h.Snapshot() {
		if d.Name == "pump2" && d.Counts.Silent > 6 {
			t.Errorf("a unit that is not there was asked %d times", d.Counts.Silent)
		}
	}
}

func TestADeviceThatRefusesEverythingHasTheWrongProfile(t *testing.T) {
	t.Parallel()
	b := simulated(t)
	c := manager.SimulatedConfig()
	c.Buses = c.Buses[2:]
	c.Profiles = map[string]profile.Profile{"wrong": {Protocol: profile.Modbus, Points: []profile.Point{
		{Name: "voltage", Register: profile.Register{Table: profile.Input, Address: 500}}, {Name: "power", Register: profile.Register{Table: profile.Input, Address: 502}}}}}
	c.Buses[0].Devices[0].Profile = "wrong"
	h := run(t, b.Resolve, c)
	h.warned("device-refuses/pump1", "device pump1 on plc refuses every point: is its profile wrong the right one?", "illegal data address")
	h.until("bad", has("pump1", "voltage", devices.Bad))
}

func TestMetricsAreThere(t *testing.T) {
	m, err := manager.New(protocols, manager.Host{}, health.New(clock.System()), clock.System(), logs.Discard(), manager.SimulatedConfig())
	if err != nil {
		t.Fatal(err)
	}
	m.Metrics(metrics.New()) // panics on names that clash
}

func TestAPortThatCannotBeResolvedIsNamed(t *testing.T) {
	t.Parallel()
	c := manager.SimulatedConfig()
	c.Buses = c.Buses[:1]
	h := run(t, func(port string) (string, error) { return "", fmt.Errorf("no port %s here: %w", port, fs.ErrNotExist) }, c)
	h.warned("bus-down/gps", "no port sim:gps here")
}
