package e2e_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"tidegate/test/harness"
)

// field is a box with three wires: a Modbus line with a meter on it, a masthead that speaks NMEA, a scale that speaks JSON.
type field struct {
	wire  *harness.Wire
	slave *harness.ModbusSlave
	mast  *harness.Talk
	scale *harness.Talk
	up    *harness.Mosquitto
	g     *harness.Gateway
	cloud *harness.Ear
}

func newField(t *testing.T) *field {
	t.Helper()
	f := &field{wire: harness.NewWire(t), mast: harness.NewTalk(t), scale: harness.NewTalk(t), up: harness.StartMosquitto(t)}
	f.slave = harness.StartModbusSlave(t, f.wire.B, 7, map[int][]uint16{
		10: {0xffd6},         // -42 → -4.2 °C
		20: {0x5678, 0x0012}, // low word first: 0x00125678 = 1201784 Wh
		30: {0x42f6, 0xe979}, // 123.456
	})
	f.cloud = harness.Listen(t, f.up.Addr, "site/#")
	f.g = harness.Start(t, harness.Options{Config: f.config()})
	return f
}

func (f *field) config() string {
	return fmt.Sprintf(`
devices:
  profiles:
    meter:
      protocol: modbus
      every: 100ms
      points:
        - {name: outside, register: holding 10, type: i16, scale: 0.1, unit: °C}
        - {name: energy, register: input 20, type: u32, order: CDAB, unit: Wh, group: energy}
        - {name: power, register: holding 30, type: f32, unit: W, group: energy}
        - {name: pump, register: coil 3, writable: true, group: control}
        - {name: level, register: holding 40, type: u16, scale: 0.5, unit: "%%", writable: true, min: 0, max: 100, group: control}
    scale:
      protocol: json
      points:
        - {name: weight, path: net.kg, unit: kg}
        - {name: stable, path: ok, type: bool}
  buses:
    - {name: line, port: %s, timeout: 200ms, devices: [{thing: meter1, profile: meter, unit: 7}]}
    - {name: mast, port: %s, devices: [{thing: boat, profile: nmea0183}]}
    - {name: bench, port: %s, devices: [{thing: scale1, profile: scale}]}
rules:
  - name: too_heavy
    sql: SELECT points.weight.value * 1000 AS grams, topic(2) AS thing FROM 'dt/+/data' WHERE points.weight.value > 20
    actions: [{republish: {topic: 'alarm/${topic(2)}', qos: 1}}]
upstreams:
  - name: cloud
    url: mqtt://%s
    up: [{filter: "dt/#", topic: "site/{topic}"}, {filter: "alarm/#", topic: "site/{topic}"}]
    backoff_min: 20ms
    backoff_max: 200ms
`, f.wire.A, f.mast.Name, f.scale.Name, f.up.Addr)
}

// reading is a point of a message of the bridge.
type reading struct {
	Value   any
	Unit    string
	Quality string
}

type sample struct {
	Time   time.Time
	Thing  string
	Points map[string]reading
}

// saw waits for a sample on topic, at the upstream, in which the point has the value, and checks unit, quality and date.
func (f *field) saw(t *testing.T, topic, point string, value any, unit string) {
	t.Helper()
	var s sample
	f.cloud.Expect(topic, func(payload string) bool {
		s = sample{}
		if err := json.Unmarshal([]byte(payload), &s); err != nil {
			t.Fatalf("%s: %v: %s", topic, err, payload)
		}
		return same(s.Points[point].Value, value)
	})
	if r := s.Points[point]; r.Unit != unit || r.Quality != "good" {
		t.Errorf("%s %s: unit %q, quality %q, want %q, good", topic, point, r.Unit, r.Quality, unit)
	}
	if thing := strings.Split(topic, "/")[2]; s.Thing != thing {
		t.Errorf("%s: thing %q, want %q", topic, s.Thing, thing)
	}
	if age := time.Since(s.Time); age < -time.Second || age > 2*harness.Patience {
		t.Errorf("%s: dated %v", topic, s.Time)
	}
}

func same(a, b any) bool {
	x, ok1 := a.(float64)
	y, ok2 := b.(float64)
	if ok1 && ok2 {
		return math.Abs(x-y) <= 1e-4*math.Max(1, math.Abs(y))
	}
	return a == b
}

func TestReadingsReachTheUpstream(t *testing.T) {
	f := newField(t)
	f.saw(t, "site/dt/meter1/data", "outside", -4.2, "°C")
	f.saw(t, "site/dt/meter1/energy", "energy", 1201784.0, "Wh")
	f.saw(t, "site/dt/meter1/energy", "power", 123.456, "W")
	f.saw(t, "site/dt/meter1/control", "pump", false, "")

	recorded, err := os.ReadFile("testdata/recorded.nmea")
	if err != nil {
		t.Fatal(err)
	}
	f.mast.Write(recorded)
	f.saw(t, "site/dt/boat/position", "latitude", 53.785392, "°")
	f.saw(t, "site/dt/boat/position", "longitude", 9.692797, "°")
	f.saw(t, "site/dt/boat/wind", "wind_angle_apparent", 214.8, "°")
	f.saw(t, "site/dt/boat/wind", "wind_speed_apparent", 12.5, "kn") // the sentence behind the one with the bad checksum
	for _, h := range f.cloud.All() {
		if strings.HasPrefix(h.Topic, "site/dt/boat/") && strings.Contains(h.Payload, "99.9") {
			t.Errorf("a sentence with a bad checksum was believed: %s", h.Payload)
		}
	}

	f.scale.Write([]byte("{\"net\":{\"kg\":12.5},\"ok\":true}\nnot JSON at all\n{\"net\":{\"kg\":25.25},\"ok\":false}\n"))
	f.saw(t, "site/dt/scale1/data", "weight", 12.5, "kg")
	f.saw(t, "site/dt/scale1/data", "weight", 25.25, "kg")
	alarm := f.cloud.Expect("site/alarm/scale1", nil)
	var got map[string]any
	if err := json.Unmarshal([]byte(alarm.Payload), &got); err != nil || got["grams"] != 25250.0 || got["thing"] != "scale1" || len(got) != 2 {
		t.Errorf("the rule's output: %s, %v", alarm.Payload, err)
	}
	f.g.Stop()
}

// What a shadow desires becomes a coil and a register, and what the device then has is reported, also for what was desired
// while the gateway was down or the cable out.
func TestDesiredBecomesReported(t *testing.T) {
	f := newField(t)
	local := harness.Listen(t, f.g.MQTT, "$aws/things/meter1/shadow/update/#", "dt/meter1/errors")
	desire := func(state string) {
		t.Helper()
		harness.MosquittoPub(t, f.g.MQTT, "$aws/things/meter1/shadow/update", `{"state":{"desired":`+state+`}}`)
	}
	reported := func(ear *harness.Ear, point string, want any) {
		t.Helper()
		ear.Expect("$aws/things/meter1/shadow/update/accepted", func(payload string) bool {
			var u struct {
				State struct{ Reported map[string]any }
			}
			return json.Unmarshal([]byte(payload), &u) == nil && same(u.State.Reported[point], want)
		})
	}
	desire(`{"pump":true}`)
	f.slave.Says("coil 3 = 1")
	reported(local, "pump", true)
	desire(`{"level":37.5}`)
	f.slave.Says("register 40 = 75")
	reported(local, "level", 37.5)
	// What the device cannot take is said, and the rest goes on.
	desire(`{"level":1000}`)
	local.Expect("dt/meter1/errors", func(payload string) bool { return strings.Contains(payload, "level") })
	desire(`{"level":10}`)
	f.slave.Says("register 40 = 20")
	reported(local, "level", 10.0)

	// Desired just before the end: done after the next start.
	f.wire.Mangle(func(bool, []byte) []byte { return nil }) // the line is cut
	desire(`{"pump":false}`)
	f.g.Kill()
	f.g.Restart()
	local = harness.Listen(t, f.g.MQTT, "$aws/things/meter1/shadow/update/#")
	f.wire.Mangle(nil)
	f.slave.Says("coil 3 = 0")
	reported(local, "pump", false)
	f.g.Stop()
}

// A wire that goes bad harms nobody else, is told in words, and is taken up again.
func TestBadWires(t *testing.T) {
	f := newField(t)
	f.saw(t, "site/dt/meter1/data", "outside", -4.2, "°C")
	alive := 0
	others := func(what string) {
		t.Helper()
		alive++
		kg := float64(alive) / 8
		fmt.Fprintf(f.scale, "{\"net\":{\"kg\":%g},\"ok\":true}\n", kg)
		f.saw(t, "site/dt/scale1/data", "weight", kg, "kg")
		if f.g.Ended() {
			t.Fatalf("%s ended the gateway", what)
		}
	}
	// ill waits until the device is told to be so, with a reason.
	ill := func(name string) {
		t.Helper()
		harness.Until(t, name+" is reported as not well", func() bool {
			for _, d := range f.g.Status().Devices {
				if d.Name == name && d.Error != "" {
					return true
				}
			}
			return false
		})
	}
	well := func(name string) {
		t.Helper()
		harness.Until(t, name+" is well again", func() bool {
			for _, d := range f.g.Status().Devices {
				if d.Name == name && d.Error == "" && d.State == "good" {
					return true
				}
			}
			return false
		})
	}
	f.wire.Mangle(func(fromA bool, b []byte) []byte { // answers with a wrong byte in them
		if !fromA {
			b[len(b)/2] ^= 0x10
		}
		return b
	})
	ill("meter1")
	others("malformed answers")
	f.wire.Mangle(func(bool, []byte) []byte { return nil })
	others("a silent device")
	f.wire.Mangle(nil)
	well("meter1")
	f.wire.Unplug()
	ill("meter1")
	others("an unplugged cable")
	f.mast.Close()
	others("an unplugged talker")
	f.scale.Write([]byte(strings.Repeat("x", 100_000) + "\n"))
	others("a line without an end")
	if s := f.g.Status(); s.Healthy || len(s.Warnings) == 0 {
		t.Errorf("status is healthy with a cable out: %+v", s)
	}
	f.g.Stop()
}

// A port that is not there does not keep the rest from starting.
func TestAMissingPort(t *testing.T) {
	f := newField(t)
	f.g.Stop()
	f.g.SetConfig(strings.Replace(f.config(), f.mast.Name, "/dev/tty-that-is-not-there", 1))
	f.g.Restart()
	f.saw(t, "site/dt/meter1/data", "outside", -4.2, "°C")
	f.g.Says("/dev/tty-that-is-not-there")
	if s := f.g.Status(); s.Healthy {
		t.Error("status is healthy without the port")
	}
	f.g.Stop()
}
