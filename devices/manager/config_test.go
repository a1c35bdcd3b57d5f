package manager_test

import (
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"tidegate/devices/manager"
)

func parse(t *testing.T, text string) manager.Config {
	t.Helper()
	c := manager.DefaultConfig()
	if err := yaml.UnmarshalWithOptions([]byte(text), &c, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	return c
}

// The example of the package comment.
const example = `
buses:
  - name: boiler-room
    port: /dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0
    baud: 19200
    parity: even
    devices:
      - {thing: boiler, profile: heatpump, unit: 1, every: 2s}
      - {thing: meter, profile: eastron-sdm120, unit: 2}
  - port: /dev/ttyACM0
    devices:
      - {thing: boat, profile: nmea0183, silent_after: 30s}
  - port: tcp:192.168.1.20:502
    devices:
      - {thing: inverter, profile: inverter, unit: 1}
profiles:
  heatpump:
    protocol: modbus
    points:
      - {name: supply, register: holding 100, type: i16, scale: 0.1, unit: °C, deadband: 0.2}
      - {name: pump, register: coil 0, writable: true, safe: false}
  inverter:
    protocol: modbus
    points:
      - {name: power, register: input 12, type: f32, unit: W}
`

func TestTheExampleAndTheDefaultsAreValid(t *testing.T) {
	for name, c := range map[string]manager.Config{"example": parse(t, example), "default": manager.DefaultConfig(), "simulated": manager.SimulatedConfig()} {
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryMistakeIsNamedWithItsKey(t *testing.T) {
	c := parse(t, `
refresh: -1s
buses:
  - port: /dev/ttyUSB0
    baud: 12
    parity: mark
    framing: ascii
    timeout: 1ms
    retries: 11
    devices:
      - {thing: "a b", profile: sim-plc, unit: 1}
      - {thing: c, profile: sim-plc, unit: 1}
      - {thing: c, name: d, profile: sim-plc, unit: 248, every: 1ms}
      - {thing: e, profile: nmea0183}
      - {thing: f, profile: nothing}
  - port: /dev/ttyUSB0
  - name: x y
    port: tcp:host
    baud: 9600
    devices: [{thing: g, profile: nmea0183, unit: 3}]
  - {name: gps, port: /dev/ttyACM0, timeout: 1s, devices: [{thing: h, profile: nmea0183}, {thing: i, profile: nmea0183}]}
  - devices: [{profile: sim-weather}]
profiles:
  p: {protocol: modbus}
`)
	err := c.Validate()
	if err == nil {
		t.Fatal("valid")
	}
	want := []string{
		"refresh: is -1s",
		"profiles.p.points: missing",
		"buses[0].baud: is 12",
		"buses[0].parity: is \"mark\"",
		"buses[0].framing: is \"ascii\", expected rtu or tcp",
		"buses[0].timeout: is 1ms",
		"buses[0].retries: is 11",
		"buses[0].devices[0].thing: is \"a b\"",
		"buses[0].devices[1].unit: 1 is already the unit of buses[0].devices[0]",
		"buses[0].devices[2].unit: is 248, expected 1 to 247",
		"buses[0].devices[2].every: is 1ms",
		"buses[0].devices[2].thing: c has a point pump already, from buses[0].devices[1]",
		"buses[0].devices[3].profile: framing, timeout and retries of the bus are for modbus",
		"buses[0].devices[3]: a bus has one protocol",
		"buses[0].devices[4].profile: is \"nothing\", expected one from profiles or of eastron-sdm120, nmea0183,",
		"buses[1].devices: missing",
		"buses[1].name: ttyUSB0 is already the name of buses[0]",
		"buses[1].port: /dev/ttyUSB0 is already the port of buses[0]",
		"buses[2].port: is \"tcp:host\", expected tcp:HOST:PORT",
		"buses[2].port: baud, data_bits",
		"buses[2].name: is \"x y\"",
		"buses[2].devices[0].unit: unit and every are for modbus, and nmea0183 is nmea",
		"buses[3].devices[0].profile: framing, timeout",
		"buses[3].devices[1].profile: framing, timeout",
		"buses[3].devices[1]: a bus has one protocol, and a line of nmea",
		"buses[4].port: missing",
		"buses[4].devices[0].thing: is \"\"",
	}
	got := strings.Split(err.Error(), "\n")
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !strings.HasPrefix(got[i], want[i]) {
			t.Fatalf("line %d of\n%v\nwant\n%s", i+1, err, strings.Join(want, "\n"))
		}
	}
}
