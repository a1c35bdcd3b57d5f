package profile_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"tidegate/devices"
	"tidegate/devices/profile"
)

func parse(t *testing.T, text string) profile.Profile {
	t.Helper()
	var p profile.Profile
	if err := yaml.UnmarshalWithOptions([]byte(text), &p, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	return p
}

// The example of the package comment.
const heatPump = `
title: Heat pump
protocol: modbus
every: 2s
points:
  - {name: supply,  register: holding 100, type: i16, scale: 0.1, unit: °C, deadband: 0.2}
  - {name: power,   register: input 12, type: f32, order: CDAB, unit: W, group: energy}
  - {name: serial,  register: holding 200, type: string, length: 8, every: 1h}
  - {name: pump,    register: coil 0, writable: true, safe: false}
  - {name: setpoint, register: holding 101, type: i16, scale: 0.1, unit: °C, writable: true, min: 5, max: 60}
  - {name: alarm,   register: input 30, bit: 3}
`

func TestARegisterMapReadsAsWritten(t *testing.T) {
	p := parse(t, heatPump)
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	no, lo, hi := devices.Bool(false), devices.Int(5), devices.Int(60)
	want := []devices.Point{
		{Name: "supply", Group: "data", Unit: "°C", Kind: devices.Number, Deadband: 0.2},
		{Name: "power", Group: "energy", Unit: "W", Kind: devices.Number},
		{Name: "serial", Group: "data", Kind: devices.String, Every: 3600e9},
		{Name: "pump", Group: "data", Kind: devices.Boolean, Writable: true, Safe: &no},
		{Name: "setpoint", Group: "data", Unit: "°C", Kind: devices.Number, Writable: true, Min: &lo, Max: &hi},
		{Name: "alarm", Group: "data", Kind: devices.Boolean},
	}
	if got := p.DevicePoints(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := p.Points[0].Register; got != (profile.Register{Table: profile.Holding, Address: 100}) {
		t.Errorf("register %v", got)
	}
}

func TestEveryMistakeIsNamedAtOnce(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"no protocol": {`points: [{name: a}]`, `protocol: is "", expected one of modbus, nmea, json, csv`},
		"no points":   {`protocol: modbus`, `points: missing`},
		"modbus": {`
protocol: modbus
max_registers: 126
points:
  - {name: 1st, register: coil 0}
  - {name: a, register: coil 1, type: u16}
  - {name: a, register: input 1, type: f16}
  - {name: b, type: u16}
  - {name: c, register: holding 65535, type: u32, order: ACBD}
  - {name: d, register: input 1, writable: true}
  - {name: e, register: holding 1, bit: 16}
  - {name: f, register: holding 1, min: 3}
  - {name: g, register: holding 1, type: string, length: 124}
  - {name: h, register: coil 2, scale: 2}
  - {name: i, register: holding 1, writable: true, safe: "off"}
  - {name: j, register: coil 3, path: x}
  - {name: k, register: holding 1, bit: 1, writable: true}
  - {name: l, register: holding 2, writable: true, min: [1]}
`, `points[0].name: is "1st", expected a letter
points[1].type: is u16, expected bool for a coil
points[2].type: is "f16", expected one of bool, u16
points[2].name: a is already the name of points[1]
points[3].register: missing
points[4].register: holding 65535 and its 2 registers go past 65535
points[4].order: is "ACBD", expected ABCD, CDAB, BADC or DCBA
points[5].writable: is set on input 1, and only
points[6].bit: is 16, expected 0 to 15
points[7].writable: is not set, but min, max or safe are
points[8].length: is 124
points[9].type: is bool, which takes no scale
points[10].min, max, safe: "off" is not a whole number
points[11].register: sentence, field, path and column are not for modbus
points[12].writable: one bit of a register
points[13].min: is [1]
max_registers: is 126, expected 1 to 125`},
		"nmea": {`
protocol: nmea
sentences: [GGA, ABC]
separator: ";"
points: [{name: a, sentence: gga, field: 1}, {name: b, sentence: PXYZA, field: 81, type: u16}, {name: c, field: 1, register: coil 1}]
`, `points[0].sentence: is "gga"
points[1].type: is "u16", expected one of bool, int, float, string, lat, lon
points[1].field: is 81
points[2].protocol: register, order
points[2].sentence: missing
sentences[1]: is "ABC", expected one of GGA,
protocol: separator, header and columns are for csv alone`},
		"json": {`
protocol: json
max_line: 8
every: 1s
points: [{name: a}, {name: b, path: "a..b"}, {name: c, path: "a[x]"}, {name: d, path: a, column: b}]
`, `points[0].path: missing
points[1].path: is "a..b"
points[2].path: is "a[x]"
points[3].column: is for csv alone
protocol: max_registers, gap, write_multiple and every are for modbus alone
max_line: is 8`},
		"csv": {`
protocol: csv
separator: ", "
columns: [time, level]
header: true
points: [{name: a, column: level}, {name: b, column: depth}, {name: c, column: "3"}, {name: d, column: 2}]
`, `points[1].column: is "depth", expected one of time, level
points[2].column: is "3"
separator: is ", ", expected one character
columns: are given, and header`},
	} {
		t.Run(name, func(t *testing.T) {
			p := parse(t, c.text)
			err := p.Validate()
			if err == nil {
				t.Fatal("valid")
			}
			got, want := strings.Split(err.Error(), "\n"), strings.Split(c.says, "\n")
			for i := range max(len(got), len(want)) {
				if i >= len(got) || i >= len(want) || !strings.HasPrefix(got[i], want[i]) {
					t.Fatalf("got\n%v\nwant\n%s", err, c.says)
				}
			}
		})
	}
}

func TestARegisterThatIsNoneIsRefusedWhereItStands(t *testing.T) {
	for _, s := range []string{"holding", "holding 65536", "holding -1", "coils 1", "100", "", "holding x"} {
		var p profile.Profile
		err := yaml.Unmarshal([]byte("points: [{register: "+`"`+s+`"`+"}]"), &p)
		if err == nil || !strings.Contains(err.Error(), `as in "holding 100"`) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestBuiltinsAreValid(t *testing.T) {
	for _, name := range profile.Builtins() {
		p, ok := profile.Builtin(name)
		if err := p.Validate(); err != nil || !ok {
			t.Errorf("%s: %v", name, err)
		}
		seen := map[string]bool{}
		for _, d := range p.DevicePoints() {
			if err := d.Check(); err != nil {
				t.Errorf("%s, %s: %v", name, d.Name, err)
			}
			if seen[d.Name] {
				t.Errorf("%s has %s twice", name, d.Name)
			}
			seen[d.Name] = true
		}
	}
	if _, ok := profile.Builtin("no-such"); ok {
		t.Error("no-such is there")
	}
}

func TestOneNameMeansOneThingInAllSentences(t *testing.T) {
	type what struct {
		group string
		unit  devices.Unit
		kind  devices.Kind
	}
	seen := map[string]what{}
	for _, code := range profile.StandardSentences() {
		s, _ := profile.StandardSentence(code)
		for _, f := range s.Fields {
			w := what{f.Group, f.Unit, f.Form.Kind()}
			if was, ok := seen[f.Point]; ok && was != w {
				t.Errorf("%s in %s: %+v, before %+v", f.Point, code, w, was)
			}
			seen[f.Point] = w
		}
	}
}

func TestPaths(t *testing.T) {
	got, err := profile.ParsePath("env.inputs[0][12].t")
	want := []profile.Step{{Key: "env"}, {Key: "inputs"}, {Index: 0}, {Index: 12}, {Key: "t"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, s := range []string{"", ".", "a.", ".a", "a[", "a[]", "a[-1]", "a[1", "a]1[", "a[1]b"} {
		if got, err := profile.ParsePath(s); err == nil {
			t.Errorf("%q passed as %+v", s, got)
		}
	}
	if got, err := profile.ParsePath("[0].t"); err != nil || len(got) != 2 {
		t.Errorf("[0].t: %+v, %v", got, err)
	}
}
