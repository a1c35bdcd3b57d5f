package manager_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tidegate/devices"
	"tidegate/devices/drivers/gpioline"
	"tidegate/devices/drivers/i2cdev"
	"tidegate/devices/manager"
	"tidegate/devices/profile"
	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/health"
	"tidegate/gateway/logs"
	"tidegate/hw/board/simboard"
	"tidegate/hw/i2c/i2csim"
)

const pins = `
buses:
  - port: sim:i2c
    devices:
      - {thing: hall, name: hall-climate, profile: bme280, every: 50ms, silent_after: 300ms}
      - {thing: cellar, profile: sht31, every: 50ms, silent_after: 300ms}
  - port: sim:gpio
    devices:
      - {thing: hall, profile: panel, every: 50ms}
      - {thing: yard, profile: yard, every: 50ms}
profiles:
  panel:
    protocol: gpio
    points:
      - {name: door, line: GPIO17, pull: up, debounce: 1ms}
      - {name: lamp, line: 27, writable: true, safe: false}
  yard:
    protocol: gpio
    points:
      - {name: gate, line: 5, pull: up, active_low: true, debounce: 1ms}
      - {name: bell, line: 6, writable: true}
`

// wired runs a manager on the pins of a simulated board whose own doors and meters stand still.
func wired(t *testing.T, c manager.Config) (*house, *simboard.Board) {
	t.Helper()
	b, err := simboard.Open(clock.System())
	if err != nil {
		t.Fatal(err)
	}
	hp := &reporter{Health: health.New(clock.System()), changed: make(chan struct{}, 1)}
	m, err := manager.New(map[string]profile.Attach{profile.I2C: i2cdev.Attach, profile.GPIO: gpioline.Attach},
		manager.Host{I2C: b.OpenI2C, GPIO: b.OpenGPIO}, hp, clock.System(), logs.Discard(), c)
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
	h := &house{Manager: m, t: t, health: hp, stop: sync.OnceFunc(func() { cancel(); wg.Wait(); b.Close() })}
	t.Cleanup(h.stop)
	return h, b
}

// reads waits for a good reading of a value.
func (h *house) reads(thing, point string, v devices.Value) {
	h.t.Helper()
	h.until(thing+" "+point, func(s manager.Sample) bool {
		for _, r := range s.Readings {
			if s.Thing == thing && r.Point == point && r.Quality == devices.Good && r.Value == v {
				return true
			}
		}
		return false
	})
}

func (h *house) state(name string) manager.DeviceState {
	h.t.Helper()
	for _, s := range h.Snapshot() {
		if s.Name == name {
			return s
		}
	}
	h.t.Fatalf("no device %s", name)
	return manager.DeviceState{}
}

func TestPinsAreReadAndWritten(t *testing.T) {
	t.Parallel()
	h, b := wired(t, parse(t, pins))
	h.reads("hall", "door", devices.Bool(true)) // told once
	for _, point := range []string{"temperature", "pressure", "humidity"} {
		h.until(point, has("hall-climate", point, devices.Good))
	}
	h.until("cellar", has("cellar", "humidity", devices.Good))
	b.Pins().Drive(simboard.DoorLine, false)
	h.reads("hall", "door", devices.Bool(false))
	b.Pins().Drive(5, false)
	h.reads("yard", "gate", devices.Bool(true))

	for _, on := range []bool{true, false, true} {
		if v, err := h.Write(t.Context(), "hall", "lamp", devices.Bool(on)); err != nil || v != devices.Bool(on) || b.Pins().Level(simboard.LampLine) != on {
			t.Errorf("lamp %v: %v, %v, pin %v", on, v, err, b.Pins().Level(simboard.LampLine))
		}
	}
	if v, err := h.Write(t.Context(), "yard", "bell", devices.Bool(true)); err != nil || v != devices.Bool(true) {
		t.Errorf("bell: %v, %v", v, err)
	}
	if _, err := h.Write(t.Context(), "hall", "door", devices.Bool(true)); fault.Of(err) != fault.Invalid {
		t.Errorf("an input is written: %v", err)
	}
	if _, err := h.Write(t.Context(), "hall", "temperature", devices.Float(1)); fault.Of(err) != fault.Invalid {
		t.Errorf("a sensor is written: %v", err)
	}
	for name, points := range map[string]int{"hall-climate": 3, "hall": 2, "yard": 2} {
		if rs, err := h.Test(t.Context(), name); err != nil || len(rs) != points {
			t.Errorf("test %s: %v, %v", name, rs, err)
		}
	}
	h.stop()
	if b.Pins().Level(simboard.LampLine) || !b.Pins().Level(6) {
		t.Error("stopped, the lamp is not safe, or the bell, which has no safe value, was touched")
	}
	if b.Pins().Taken(simboard.LampLine) || b.Pins().Taken(5) {
		t.Error("stopped, lines are still taken")
	}
}

func TestASensorThatIsPulledHarmsNoneBesideIt(t *testing.T) {
	t.Parallel()
	h, b := wired(t, parse(t, pins))
	h.until("climate", has("hall-climate", "temperature", devices.Good))
	b.Wires().Unplug(simboard.ClimateAddress)
	h.warned("device-silent/hall-climate", "device hall-climate on i2c has not answered for", "power, wiring and address", "nothing answers at address 0x76 of sim:i2c")
	h.until("stale", has("hall-climate", "temperature", devices.Stale))
	if s := h.state("cellar"); s.State != manager.StateGood {
		t.Errorf("the sensor beside it is %s: %s", s.State, s.Problem)
	}
	b.Wires().Plug(simboard.ClimateAddress, i2csim.BME280(func() (float64, float64, float64) { return 1, 1000, 99 }))
	h.until("back", has("hall-climate", "temperature", devices.Good))
	h.warned("device-silent/hall-climate")
}

func TestABusThatFailsComesBack(t *testing.T) {
	t.Parallel()
	h, b := wired(t, parse(t, pins))
	h.until("cellar", has("cellar", "temperature", devices.Good))
	b.Wires().Break(unix.ENODEV)
	h.warned("bus-down/i2c", "the bus is gone: sim:i2c")
	h.until("stale", has("cellar", "temperature", devices.Stale))
	b.Wires().Break(nil)
	h.until("back", has("cellar", "temperature", devices.Good))
	h.warned("bus-down/i2c")

	b.Pins().Unplug()
	h.warned("bus-down/gpio", "bus gpio: ")
	if _, err := h.Write(t.Context(), "hall", "lamp", devices.Bool(true)); fault.Of(err) != fault.Unavailable {
		t.Errorf("write: %v", err)
	}
	b.Pins().Plug()
	h.warned("bus-down/gpio")
	h.until("door", has("hall", "door", devices.Good))
}

func TestAnotherChipAndALineInUseAreSaid(t *testing.T) {
	t.Parallel()
	c := parse(t, strings.Replace(pins, "profile: bme280", "profile: bmp280", 1))
	h, b := wired(t, c)
	h.warned("device-refuses/hall-climate", "is its profile bmp280 the right one?", "BME280 answers at address 0x76 of sim:i2c, expected BMP280")
	b.Pins().Unplug()
	h.warned("bus-down/gpio", "bus gpio: ")
	b.Pins().Occupy(27, "spi0 CS0")
	b.Pins().Plug()
	h.warned("device-refuses/hall", "line 27 of gpiochip0 is in use by spi0 CS0")
	if s := h.state("hall"); s.State != manager.StateRefuses || s.Points[1].Quality != "bad" {
		t.Errorf("%+v", s)
	}
	if _, err := h.Write(t.Context(), "hall", "lamp", devices.Bool(true)); fault.Of(err) != fault.Conflict || !strings.Contains(err.Error(), "spi0 CS0") {
		t.Errorf("write: %v", err)
	}
	h.until("the line beside it", has("hall", "door", devices.Good))
	b.Pins().Occupy(27, "")
	h.warned("device-refuses/hall")
	h.reads("hall", "lamp", devices.Bool(false))
}

func TestEveryMistakeInAWiringIsNamedWithItsKey(t *testing.T) {
	c := parse(t, `
buses:
  - port: i2c:one
    devices: [{thing: a, profile: bme280}]
  - port: i2c:1
    baud: 9600
    timeout: 1s
    devices:
      - {thing: b, profile: bme280, address: 0x78}
      - {thing: c, profile: tmp102, unit: 3}
      - {thing: d, profile: ads1115, every: 1ms}
      - {thing: e, profile: nmea0183}
      - {thing: f, profile: panel}
  - port: /dev/ttyUSB0
    devices: [{thing: g, profile: bme280}]
  - port: "gpio:"
    retries: 2
    devices: [{thing: h, profile: panel, address: 0x20, every: 11s}]
  - port: gpio
    devices: [{thing: i, profile: panel, unit: 1}]
profiles:
  panel: {protocol: gpio, points: [{name: x, line: 4}]}
`)
	want := `buses[0].port: is "i2c:one", expected i2c: and the number of the bus, as in i2c:1
buses[1].port: baud, data_bits, parity, stop_bits and rs485 are for serial ports
buses[1].port: framing, timeout and retries are for modbus
buses[1].devices[0].address: is 0x78, expected 0x08 to 0x77: tidegate device scan shows
buses[1].devices[1].unit: is for modbus, and tmp102 is i2c
buses[1].devices[2].every: is 1ms, expected at least 20ms
buses[1].devices[2].address: 0x48 is already the address of buses[1].devices[1]
buses[1].devices[3].profile: is nmea0183, which is nmea and needs a serial port or tcp:HOST:PORT; the port of the bus is i2c:1
buses[1].devices[3]: a bus has one protocol
buses[1].devices[4].profile: is panel, which is gpio and needs digital lines, port gpio; the port of the bus is i2c:1
buses[1].devices[4]: a bus has one protocol
buses[2].devices[0].profile: is bme280, which is i2c and needs an I²C bus, as i2c:1; the port of the bus is /dev/ttyUSB0
buses[3].port: is "gpio:", expected gpio for the pin header
buses[3].port: framing, timeout and retries are for modbus
buses[3].devices[0].address: is for i2c, and panel is gpio
buses[3].devices[0].every: is 11s, expected at most 10s
buses[4].devices[0].unit: is for modbus, and panel is gpio`
	err := c.Validate()
	if err == nil {
		t.Fatal("it is valid")
	}
	got, lines := strings.Split(err.Error(), "\n"), strings.Split(want, "\n")
	if len(got) != len(lines) {
		t.Fatalf("got\n%v\nwant\n%s", err, want)
	}
	for i := range lines {
		if !strings.HasPrefix(got[i], lines[i]) {
			t.Errorf("got  %s\nwant %s", got[i], lines[i])
		}
	}
}

func TestWhatIsNotThereSaysWhatToDo(t *testing.T) {
	t.Parallel()
	c := parse(t, `
buses:
  - {port: "i2c:117", devices: [{thing: a, profile: tmp102}]}
  - {port: "gpio:gpiochip117", devices: [{thing: b, profile: panel}]}
profiles:
  panel: {protocol: gpio, points: [{name: x, line: 4}]}
`)
	h := &house{t: t, health: &reporter{Health: health.New(clock.System()), changed: make(chan struct{}, 1)}}
	m, err := manager.New(map[string]profile.Attach{profile.I2C: i2cdev.Attach, profile.GPIO: gpioline.Attach}, manager.Host{}, h.health, clock.System(), logs.Discard(), c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	var wg sync.WaitGroup
	wg.Go(func() { m.Run(ctx, func() {}) })
	defer wg.Wait()
	defer cancel()
	h.warned("bus-down/i2c-117", "there is no I²C bus /dev/i2c-117: switch it on")
	h.warned("bus-down/gpio-gpiochip117", "GPIO chip")
}
