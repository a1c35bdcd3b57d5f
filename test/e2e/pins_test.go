package e2e_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"tidegate/test/harness"
)

const pinsConfig = `
devices:
  refresh: 1s # what is told on change is told again, as nobody listens yet when it is told first
  profiles:
    hall:
      protocol: gpio
      points:
        - {name: door, line: GPIO17, pull: up, group: doors}
        - {name: water, line: GPIO22, pull: up, type: count, edge: falling, unit: L, group: water}
        - {name: lamp, line: 27, writable: true, safe: false, group: control}
  buses:
    - {port: "sim:plc", baud: 19200, parity: even, devices: [{thing: pump1, profile: sim-plc, unit: 1}]}
    - port: sim:gpio
      devices: [{thing: hall, profile: hall, every: 200ms}]
    - port: sim:i2c
      devices:
        - {thing: hall, name: hall-climate, profile: bme280, every: 200ms}
        - {thing: cellar, profile: sht31, address: 0x44, every: 200ms}
`

// Sensors and lines on the pins of a board are things like those on a serial line: their readings are messages with unit,
// quality and time, and an output follows what its shadow desires.
func TestPinsAreThings(t *testing.T) {
	g := harness.Start(t, harness.Options{Config: pinsConfig})
	ear := harness.Listen(t, g.MQTT, "dt/#", "$aws/things/hall/shadow/update/accepted")
	saw := func(topic, point, unit string, ok func(v any) bool) {
		t.Helper()
		var s sample
		ear.Expect(topic, func(payload string) bool {
			s = sample{}
			return json.Unmarshal([]byte(payload), &s) == nil && s.Points[point].Quality == "good" && ok(s.Points[point].Value)
		})
		if got := s.Points[point].Unit; got != unit {
			t.Errorf("%s: the unit of %s is %q, want %q", topic, point, got, unit)
		}
		if thing := strings.Split(topic, "/")[1]; s.Thing != thing {
			t.Errorf("%s: thing %q", topic, s.Thing)
		}
	}
	between := func(low, high float64) func(any) bool {
		return func(v any) bool { f, ok := v.(float64); return ok && f >= low && f <= high }
	}
	saw("dt/hall/climate", "temperature", "°C", between(17, 23))
	saw("dt/hall/climate", "pressure", "hPa", between(1000, 1020))
	saw("dt/cellar/climate", "humidity", "%", between(50, 80))
	saw("dt/hall/doors", "door", "", func(v any) bool { _, ok := v.(bool); return ok })

	desire := func(thing, state string) {
		t.Helper()
		harness.MosquittoPub(t, g.MQTT, "$aws/things/"+thing+"/shadow/update", `{"state":{"desired":`+state+`}}`)
	}
	desire("pump1", `{"pump":true}`) // the meter turns
	saw("dt/hall/water", "water", "L", between(3, 1e6))
	for _, on := range []bool{true, false} {
		text := map[bool]string{true: "true", false: "false"}[on]
		desire("hall", `{"lamp":`+text+`}`)
		ear.Expect("$aws/things/hall/shadow/update/accepted", func(payload string) bool { return strings.Contains(payload, `"reported":{"lamp":`+text+`}`) })
	}

	if out, errw, code := g.CLI("device", "test", "cellar"); code != 0 || !strings.Contains(out, "humidity") || !strings.Contains(out, "good") {
		t.Errorf("device test: exit %d, %s, %s", code, out, errw)
	}
	out, errw, code := g.CLI("device", "ls")
	for _, words := range []string{"hall-climate", "bme280", "pressure", "lamp", "sht31"} {
		if code != 0 || !strings.Contains(out, words) {
			t.Errorf("device ls does not say %s: exit %d, %s, %s", words, code, out, errw)
		}
	}

	// They are in the registry until the configuration has them no more.
	registered := func(want ...string) {
		t.Helper()
		var ls struct{ Things []struct{ ThingName string } }
		out, errw, code := g.AWS(g.Environment(), "iot", "list-things")
		if code != 0 || json.Unmarshal([]byte(out), &ls) != nil {
			t.Fatalf("list-things: exit %d, %s, %s", code, out, errw)
		}
		var got []string
		for _, x := range ls.Things {
			got = append(got, x.ThingName)
		}
		if !slices.Equal(got, want) {
			t.Errorf("things are %q, want %q", got, want)
		}
	}
	registered("cellar", "hall", "pump1")
	g.Stop()
	g.SetConfig(strings.ReplaceAll(pinsConfig, "thing: cellar", "thing: attic"))
	g.Restart()
	registered("attic", "hall", "pump1")
	g.Stop()
}
