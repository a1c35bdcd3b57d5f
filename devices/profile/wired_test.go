package profile_test

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"tidegate/devices"
	"tidegate/devices/profile"
)

func TestAnAnswerIsTakenApart(t *testing.T) {
	p := parse(t, `
protocol: i2c
address: 0x48
points:
  - {name: celsius, read: "00", type: i16, shift: 4, scale: 0.0625, unit: °C}
  - {name: volts, command: "01 C3 83", wait: 9ms, read: "00", type: i16, scale: 0.000125}
  - {name: little, read: "0A", type: u24, order: DCBA, at: 1}
  - {name: low, read: "0A", type: i8, at: 1}
  - {name: float, read: "0a", type: f32}
  - {name: word, read: "10"}
`)
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	answer := []byte{0xE7, 0x80, 0x12, 0x34}
	want := []devices.Value{devices.Float(-24.5), devices.Float(-0.784), devices.Int(0x341280), devices.Int(-128),
		devices.Float(float64(math.Float32frombits(0xE7801234))), devices.Int(0xE780)}
	for i := range p.Points {
		if got := p.Points[i].Decode(answer); got != want[i] {
			t.Errorf("%s is %v, want %v", p.Points[i].Name, got, want[i])
		}
		if kind := p.DevicePoints()[i].Kind; kind != want[i].Kind() {
			t.Errorf("%s is of kind %v, want %v", p.Points[i].Name, kind, want[i].Kind())
		}
	}
	if q := p.Points[1]; q.Command != "\x01\xC3\x83" || q.Read != "\x00" || q.End() != 2 || p.Points[2].End() != 4 {
		t.Errorf("read as %q, %q", q.Command, q.Read)
	}
	if text, err := p.Points[1].Command.MarshalText(); err != nil || string(text) != "01 C3 83" {
		t.Errorf("written as %s, %v", text, err)
	}
}

func TestDigitalLinesAreToldWhenTheyChange(t *testing.T) {
	p := parse(t, `
protocol: gpio
points:
  - {name: door, line: GPIO17, pull: up, active_low: true}
  - {name: siren, line: 27, writable: true, safe: false}
  - {name: water, line: 22, type: count, scale: 2, unit: L}
  - {name: flow, line: 22, type: rate, edge: both}
`)
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	no := devices.Bool(false)
	want := []devices.Point{
		{Name: "door", Group: "data", Kind: devices.Boolean, OnChange: true},
		{Name: "siren", Group: "data", Kind: devices.Boolean, OnChange: true, Writable: true, Safe: &no},
		{Name: "water", Group: "data", Kind: devices.Integer, Unit: "L"},
		{Name: "flow", Group: "data", Kind: devices.Number},
	}
	if got := p.DevicePoints(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEveryMistakeInAWiringIsNamed(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"i2c": {`
protocol: i2c
address: 0x78
check: crc
every: 1ms
points:
  - {name: a}
  - {name: b, read: "00", wait: 1s}
  - {name: c, read: "00", at: 63}
  - {name: d, read: "00", shift: 16, order: CDAB}
  - {name: e, read: "00", type: u64}
  - {name: f, read: "00", writable: true, register: coil 1}
  - {name: g, read: "00", quantity: pressure}
  - {name: h, line: 4, read: "00"}
`, `points[0].read: missing
points[1].wait: is 1s, expected up to 2s behind a command
points[2].at: is 63
points[3].shift: is 16
points[3].order: is "CDAB", expected ABCD
points[4].type: is "u64", expected one of u8, i8
points[5].protocol: is i2c, which has no register, writable
points[6].quantity: is for profiles with chip
points[7].protocol: line, active_low, pull, debounce and edge are for gpio alone
every: is 1ms, expected at least 20ms
address: is 0x78, expected 0x08 to 0x77
check: is "crc", expected sensirion`},
		"chip": {`
protocol: i2c
chip: bmp280
points: [{name: a, quantity: humidity}, {name: b, quantity: pressure, read: "00"}]
`, `points[0].quantity: is "humidity", expected one of temperature, pressure
points[1].quantity: is all that a point of chip bmp280 has`},
		"no such chip": {`
protocol: i2c
chip: bme680
points: [{name: a, read: "00"}]
`, `chip: is "bme680", expected bme280, bmp280 or bmp180`},
		"sensirion": {`
protocol: i2c
check: sensirion
points: [{name: a, command: "2400", at: 2}]
`, `points[0].at: is 2, expected 0, 3, 6`},
		"gpio": {`
protocol: gpio
check: sensirion
points:
  - {name: a}
  - {name: b, line: 4, pull: high}
  - {name: c, line: 5, edge: rising}
  - {name: d, line: 6, type: count, edge: some}
  - {name: e, line: 7, debounce: 11s}
  - {name: f, line: 8, writable: true, pull: up}
  - {name: g, line: 9, safe: true}
  - {name: h, line: 10, type: count, writable: true}
  - {name: i, line: 11, every: 1s}
  - {name: j, line: 7}
  - {name: k, line: 8}
  - {name: l, line: 12, type: u16}
`, `points[0].line: missing
points[1].pull: is "high", expected up, down or none
points[2].edge: is for the types count and rate
points[3].edge: is "some", expected rising, falling or both
points[4].debounce: is 11s, expected 0 to 10s
points[5].writable: is set, and pull and debounce are for inputs
points[6].writable: is not set, but safe is
points[7].writable: is set, and pulses are counted at an input
points[8].protocol: is gpio, which has no every
points[11].type: is "u16", expected one of bool, count, rate
protocol: address, chip and check are for i2c alone
points: e and j have the same line 7: give both the same pull
points: f and k have the same line 8, which an output shares`},
		"modbus": {`
protocol: modbus
points: [{name: a, register: coil 0, read: "00"}, {name: b, register: coil 0, line: 4}]
`, `points[0].protocol: quantity, command, wait, read, at and shift are for i2c alone
points[1].protocol: line, active_low, pull, debounce and edge are for gpio alone`},
	} {
		t.Run(name, func(t *testing.T) {
			p := parse(t, c.text)
			err := p.Validate()
			if err == nil {
				t.Fatal("it is valid")
			}
			got, want := strings.Split(err.Error(), "\n"), strings.Split(c.says, "\n")
			if len(got) != len(want) {
				t.Fatalf("got\n%v\nwant\n%s", err, c.says)
			}
			for i := range want {
				if !strings.HasPrefix(got[i], want[i]) {
					t.Errorf("got  %s\nwant %s", got[i], want[i])
				}
			}
		})
	}
}

func TestBytesThatAreNoneAreRefused(t *testing.T) {
	for _, text := range []string{"0", "xy", "00 0", strings.Repeat("00", 33)} {
		var b profile.Bytes
		if err := b.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), "in hexadecimal, two digits each") {
			t.Errorf("%s: %q, %v", text, b, err)
		}
	}
}
