package manager

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"tidegate/devices"
	"tidegate/devices/profile"
	"tidegate/hw/serial"
)

// Config says what is wired to the box.
type Config struct {
	Buses    []Bus                      `yaml:"buses"`
	Profiles map[string]profile.Profile `yaml:"profiles"` // by name; they go before built-in ones
	Refresh  time.Duration              `yaml:"refresh"`  // a value that deadband or on_change hold back is told again after this; 5m
}

// Bus is one line and what hangs on it.
type Bus struct {
	Name string `yaml:"name"` // for people, health and metrics; the port's last part when empty
	// Port is a serial port (/dev/ttyUSB0, better /dev/serial/by-id/…), a name the board
	// knows (serial0, sim:plc), tcp:HOST:PORT, an I²C bus (i2c:1 for /dev/i2c-1), or a chip of
	// digital lines: gpio for the one of the pin header, gpio:NAME for another by its name or
	// label (gpio:gpiochip2).
	Port     string `yaml:"port"`
	Baud     int    `yaml:"baud"`      // 9600; 4800 for nmea
	DataBits int    `yaml:"data_bits"` // 8
	Parity   string `yaml:"parity"`    // none, even or odd; none
	StopBits int    `yaml:"stop_bits"` // 1
	RS485    *RS485 `yaml:"rs485"`     // only where the kernel switches the direction

	// Of modbus alone.
	Framing string        `yaml:"framing"` // rtu or tcp; tcp on a tcp: port, else rtu
	Timeout time.Duration `yaml:"timeout"` // for an answer; 500ms
	Retries *int          `yaml:"retries"` // questions without a good answer are asked again; 2. Of i2c, too

	Devices []Device `yaml:"devices"`
}

// RS485 is serial.RS485 for the configuration.
type RS485 struct {
	InvertRTS   bool          `yaml:"invert_rts"`
	BeforeSend  time.Duration `yaml:"before_send"`
	AfterSend   time.Duration `yaml:"after_send"`
	ReceiveEcho bool          `yaml:"receive_echo"`
}

// Device is one device on a bus.
type Device struct {
	Name    string        `yaml:"name"`    // the thing's when empty
	Thing   string        `yaml:"thing"`   // whose topics and shadow its points are in
	Profile string        `yaml:"profile"` // a name from profiles, or a built-in one
	Unit    int           `yaml:"unit"`    // modbus: its number on the line
	Address int           `yaml:"address"` // i2c: 0x08 to 0x77; the profile's
	Every   time.Duration `yaml:"every"`   // how often it is asked; the profile's, or 5s; modbus, i2c and gpio (at most 10s)
	// SilentAfter is how long it may say nothing before its values are stale: 10s, or three
	// times every where that is more. Below zero: for ever.
	SilentAfter time.Duration `yaml:"silent_after"`
}

// Defaults.
const (
	DefaultEvery   = 5 * time.Second
	DefaultRefresh = 5 * time.Minute
	defaultSilent  = 10 * time.Second
)

// DefaultConfig has nothing wired.
func DefaultConfig() Config { return Config{Refresh: DefaultRefresh} }

// SimulatedConfig is what --dev starts with: the field bus that hw/board/simboard
// simulates, read like a real one.
func SimulatedConfig() Config {
	c := DefaultConfig()
	c.Buses = []Bus{
		{Name: "gps", Port: "sim:gps", Devices: []Device{{Thing: "boat", Profile: "nmea0183"}}},
		{Name: "weather", Port: "sim:weather", Devices: []Device{{Thing: "weather", Profile: "sim-weather"}}},
		{Name: "plc", Port: "sim:plc", Baud: 19200, Parity: "even", Devices: []Device{{Thing: "pump1", Profile: "sim-plc", Unit: 1, Every: 2 * time.Second}}},
	}
	return c
}

// Things names the things of all devices, in order.
func (c Config) Things() []string {
	names := map[string]bool{}
	for _, b := range c.Buses {
		for _, d := range b.Devices {
			names[d.Thing] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

var (
	thingForm = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`) // AWS IoT's thing names
	busForm   = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,64}$`)
)

// Validate says everything that is wrong with c, each error starting with its key.
func (c Config) Validate() error {
	var errs []error
	bad := func(key, format string, args ...any) { errs = append(errs, fmt.Errorf(key+": "+format, args...)) }
	under := func(key string, err error) {
		for _, e := range split(err) {
			errs = append(errs, fmt.Errorf("%s.%w", key, e))
		}
	}
	if c.Refresh < 0 {
		bad("refresh", "is %v, expected a time of 0 or more", c.Refresh)
	}
	for name, p := range c.Profiles {
		if !busForm.MatchString(name) {
			bad("profiles", "%q is no name: expected letters, digits, dots, dashes and underscores", name)
		}
		under("profiles."+name, p.Validate())
	}
	names, ports, buses, points := map[string]string{}, map[string]string{}, map[string]string{}, map[string]string{}
	for i, b := range c.Buses {
		key := fmt.Sprintf("buses[%d]", i)
		under(key, b.validate())
		if other, twice := buses[b.name()]; twice {
			bad(key+".name", "%s is already the name of %s", b.name(), other)
		}
		buses[b.name()] = key
		if other, twice := ports[b.Port]; twice && b.Port != "" {
			bad(key+".port", "%s is already the port of %s", b.Port, other)
		}
		ports[b.Port] = key
		protocol, units := "", map[int]string{}
		for k, d := range b.Devices {
			key := fmt.Sprintf("%s.devices[%d]", key, k)
			p, err := c.profile(d.Profile)
			if err != nil {
				bad(key+".profile", "%v", err)
				continue
			}
			under(key, d.validate(&b, &p))
			if other, twice := names[d.name()]; twice {
				bad(key+".name", "%s is already the name of %s: give this one another", d.name(), other)
			}
			names[d.name()] = key
			if protocol != "" && (p.Protocol != protocol || p.Lines()) {
				bad(key, "a bus has one protocol, and a line of nmea, json or csv one device")
			}
			protocol = p.Protocol
			number := d.number(&p)
			if other, twice := units[number]; twice && p.Protocol == profile.Modbus {
				bad(key+".unit", "%d is already the unit of %s", number, other)
			} else if twice && p.Protocol == profile.I2C {
				bad(key+".address", "0x%02x is already the address of %s", number, other)
			}
			units[number] = key
			for _, x := range p.DevicePoints() {
				id := d.Thing + " " + x.Name
				if other, twice := points[id]; twice {
					bad(key+".thing", "%s has a point %s already, from %s", d.Thing, x.Name, other)
					break
				}
				points[id] = key
			}
		}
	}
	return errors.Join(errs...)
}

func (c Config) profile(name string) (profile.Profile, error) {
	if p, ok := c.Profiles[name]; ok {
		return p, nil
	}
	if p, ok := profile.Builtin(name); ok {
		return p, nil
	}
	return profile.Profile{}, fmt.Errorf("is %q, expected one from profiles or of %s", name, strings.Join(profile.Builtins(), ", "))
}

// name gives the bus's name.
func (b *Bus) name() string {
	if b.Name != "" {
		return b.Name
	}
	port := strings.TrimPrefix(b.Port, "sim:")
	return strings.NewReplacer(":", "-", "[", "", "]", "").Replace(port[strings.LastIndexByte(port, '/')+1:])
}

// address gives where a tcp: port is.
func (b *Bus) address() (string, bool) { return strings.CutPrefix(b.Port, "tcp:") }

// I2CBus gives the device node of an I²C bus, or its name on the simulated board.
func (b *Bus) I2CBus() (string, bool) {
	if n, ok := strings.CutPrefix(b.Port, "i2c:"); ok {
		return "/dev/i2c-" + n, true
	}
	return b.Port, b.Port == simI2C || strings.HasPrefix(b.Port, "/dev/i2c-")
}

// GPIOChip gives the name or label of a chip of digital lines, empty for the one of the pin
// header, or its name on the simulated board.
func (b *Bus) GPIOChip() (string, bool) {
	if b.Port == "gpio" {
		return "", true
	}
	if name, ok := strings.CutPrefix(b.Port, "gpio:"); ok {
		return name, true
	}
	return b.Port, b.Port == simGPIO || strings.HasPrefix(b.Port, "/dev/gpiochip")
}

// The simulated board's.
const (
	simI2C  = "sim:i2c"
	simGPIO = "sim:gpio"
)

// speaks gives the only protocol there can be on a port of that form; empty where there
// is a choice.
func (b *Bus) speaks() string {
	if _, ok := b.I2CBus(); ok {
		return profile.I2C
	}
	if _, ok := b.GPIOChip(); ok {
		return profile.GPIO
	}
	return ""
}

func (b *Bus) validate() error {
	var errs []error
	bad := func(key, format string, args ...any) { errs = append(errs, fmt.Errorf(key+": "+format, args...)) }
	if len(b.Devices) == 0 {
		bad("devices", "missing, expected at least one")
	}
	address, tcp := b.address()
	switch {
	case b.Port == "":
		bad("port", "missing, expected a serial port like /dev/ttyUSB0, or tcp:HOST:PORT, i2c:1 or gpio")
		return errors.Join(errs...)
	case b.speaks() != "":
		errs = append(errs, b.validateOnBoard()...)
	case tcp:
		if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
			bad("port", "is %q, expected tcp:HOST:PORT", b.Port)
		}
		if b.Baud != 0 || b.DataBits != 0 || b.Parity != "" || b.StopBits != 0 || b.RS485 != nil {
			bad("port", "baud, data_bits, parity, stop_bits and rs485 are not for tcp: the other end has them")
		}
	default:
		errs = append(errs, split(b.Serial(b.Port).Validate())...)
	}
	if !busForm.MatchString(b.name()) {
		bad("name", "is %q, expected letters, digits, dots, dashes and underscores", b.name())
	}
	if b.Framing != "" && b.Framing != "rtu" && b.Framing != "tcp" {
		bad("framing", "is %q, expected rtu or tcp", b.Framing)
	}
	if b.Timeout != 0 && (b.Timeout < 10*time.Millisecond || b.Timeout > time.Minute) {
		bad("timeout", "is %v, expected 10ms to 1m", b.Timeout)
	}
	if b.Retries != nil && (*b.Retries < 0 || *b.Retries > 10) {
		bad("retries", "is %d, expected 0 to 10", *b.Retries)
	}
	return errors.Join(errs...)
}

var i2cForm = regexp.MustCompile(`^(/dev/i2c-[0-9]{1,3}|sim:i2c)$`)

// validateOnBoard is of I²C buses and GPIO chips.
func (b *Bus) validateOnBoard() (errs []error) {
	bad := func(key, format string, args ...any) { errs = append(errs, fmt.Errorf(key+": "+format, args...)) }
	if node, ok := b.I2CBus(); ok && !i2cForm.MatchString(node) {
		bad("port", "is %q, expected i2c: and the number of the bus, as in i2c:1", b.Port)
	}
	if name, ok := b.GPIOChip(); ok && name == "" && b.Port != "gpio" {
		bad("port", "is %q, expected gpio for the pin header, or gpio: and the name of a chip, as in gpio:gpiochip2", b.Port)
	}
	if b.Baud != 0 || b.DataBits != 0 || b.Parity != "" || b.StopBits != 0 || b.RS485 != nil {
		bad("port", "baud, data_bits, parity, stop_bits and rs485 are for serial ports, and %s is none", b.Port)
	}
	if b.Framing != "" || b.Timeout != 0 || b.Retries != nil && b.speaks() == profile.GPIO {
		bad("port", "framing, timeout and retries are for modbus (retries for i2c, too), and %s is none", b.Port)
	}
	return errs
}

// Serial gives the settings for the port's opener; node is the device node behind Port.
func (b *Bus) Serial(node string) serial.Config {
	c := serial.Config{Name: node, Baud: b.Baud, DataBits: b.DataBits, Parity: b.Parity, StopBits: b.StopBits}
	if r := b.RS485; r != nil {
		c.RS485 = &serial.RS485{InvertRTS: r.InvertRTS, BeforeSend: r.BeforeSend, AfterSend: r.AfterSend, ReceiveEcho: r.ReceiveEcho}
	}
	return c
}

// line gives what a driver has to know.
func (b *Bus) line() profile.Line {
	l := profile.Line{Name: b.name(), Framing: b.Framing, Timeout: b.Timeout}
	if b.Retries != nil {
		if l.Retries = *b.Retries; l.Retries == 0 {
			l.Retries = -1
		}
	}
	if _, tcp := b.address(); tcp {
		if l.Framing == "" {
			l.Framing = "tcp"
		}
		return l
	}
	l.Baud = b.Baud
	data, stop := b.DataBits, b.StopBits
	if data == 0 {
		data = 8
	}
	if stop == 0 {
		stop = 1
	}
	l.Bits = 1 + data + stop
	if b.Parity == "even" || b.Parity == "odd" {
		l.Bits++
	}
	return l
}

func (d *Device) name() string {
	if d.Name != "" {
		return d.Name
	}
	return d.Thing
}

func (d *Device) validate(b *Bus, p *profile.Profile) error {
	var errs []error
	bad := func(key, format string, args ...any) { errs = append(errs, fmt.Errorf(key+": "+format, args...)) }
	if !thingForm.MatchString(d.Thing) {
		bad("thing", "is %q, expected up to 128 letters, digits, colons, dashes and underscores", d.Thing)
	}
	if d.Name != "" && !thingForm.MatchString(d.Name) {
		bad("name", "is %q, expected up to 128 letters, digits, colons, dashes and underscores", d.Name)
	}
	if on := b.speaks(); on != p.Protocol && (on != "" || p.Protocol == profile.I2C || p.Protocol == profile.GPIO) {
		want := map[string]string{profile.I2C: "an I²C bus, as i2c:1", profile.GPIO: "digital lines, port gpio"}[p.Protocol]
		if want == "" {
			want = "a serial port or tcp:HOST:PORT"
		}
		bad("profile", "is %s, which is %s and needs %s; the port of the bus is %s", d.Profile, p.Protocol, want, b.Port)
		return errors.Join(errs...)
	}
	if p.Protocol != profile.I2C && d.Address != 0 {
		bad("address", "is for i2c, and %s is %s", d.Profile, p.Protocol)
	}
	if p.Protocol == profile.I2C || p.Protocol == profile.GPIO {
		return errors.Join(append(errs, d.validateOnBoard(p)...)...)
	}
	if p.Protocol != profile.Modbus {
		if d.Unit != 0 || d.Every != 0 {
			bad("unit", "unit and every are for modbus, and %s is %s", d.Profile, p.Protocol)
		}
		if b.Framing != "" || b.Timeout != 0 || b.Retries != nil {
			bad("profile", "framing, timeout and retries of the bus are for modbus, and %s is %s", d.Profile, p.Protocol)
		}
		return errors.Join(errs...)
	}
	lowest, highest := 1, 247
	if b.line().Framing == "tcp" {
		lowest, highest = 0, 255
	}
	if d.Unit < lowest || d.Unit > highest {
		bad("unit", "is %d, expected %d to %d", d.Unit, lowest, highest)
	}
	if d.Every != 0 && d.Every < profile.MinEvery {
		bad("every", "is %v, expected at least %v", d.Every, profile.MinEvery)
	}
	return errors.Join(errs...)
}

// longestLook bounds how seldom digital lines are read: device test waits for it.
const longestLook = 10 * time.Second

// validateOnBoard is of devices on an I²C bus or a GPIO chip.
func (d *Device) validateOnBoard(p *profile.Profile) (errs []error) {
	bad := func(key, format string, args ...any) { errs = append(errs, fmt.Errorf(key+": "+format, args...)) }
	if d.Unit != 0 {
		bad("unit", "is for modbus, and %s is %s", d.Profile, p.Protocol)
	}
	if a := d.number(p); p.Protocol == profile.I2C && (a < 0x08 || a > 0x77) {
		bad("address", "is 0x%02x, expected 0x08 to 0x77: tidegate device scan shows which answer", a)
	}
	switch at := every(d, p, &devices.Point{}); {
	case at < profile.MinEvery:
		bad("every", "is %v, expected at least %v", at, profile.MinEvery)
	case p.Protocol == profile.GPIO && at > longestLook:
		bad("every", "is %v, expected at most %v: changes are told at once whatever it is", at, longestLook)
	}
	return errs
}

// number gives what tells a device from others on its bus: a Modbus unit, an I²C address.
func (d *Device) number(p *profile.Profile) int {
	switch {
	case p.Protocol != profile.I2C:
		return d.Unit
	case d.Address == 0:
		return p.Address
	}
	return d.Address
}

// split takes joined errors apart.
func split(err error) []error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	return []error{err}
}

// every gives how often a point is asked for.
func every(d *Device, p *profile.Profile, x *devices.Point) time.Duration {
	for _, t := range []time.Duration{x.Every, d.Every, p.Every} {
		if t > 0 {
			return t
		}
	}
	return DefaultEvery
}
