// Package profile has declarative descriptions of devices: which points a device has,
// where in its protocol they stand, and what unit and scale they have. A new sensor is
// a few lines of YAML and no code.
//
// A Modbus device is a map of registers:
//
//	title: Heat pump
//	protocol: modbus
//	every: 2s                     # how often it is asked; a point may say otherwise
//	points:
//	  - {name: supply,  register: holding 100, type: i16, scale: 0.1, unit: °C, deadband: 0.2}
//	  - {name: power,   register: input 12, type: f32, order: CDAB, unit: W, group: energy}
//	  - {name: serial,  register: holding 200, type: string, length: 8, every: 1h}
//	  - {name: pump,    register: coil 0, writable: true, safe: false}
//	  - {name: setpoint, register: holding 101, type: i16, scale: 0.1, unit: °C, writable: true, min: 5, max: 60}
//	  - {name: alarm,   register: input 30, bit: 3}
//
// Addresses are those on the wire, from 0: what a manual calls 40101 is mostly holding
// 100. A device that speaks NMEA 0183 needs no points, as the standard sentences are
// built in; others are added by their fields:
//
//	protocol: nmea
//	sentences: [GGA, RMC, MWV]    # all that are known when left out, none with []
//	points:
//	  - {name: chain, sentence: PXYZA, field: 1, unit: m, group: anchor}
//
// Lines of JSON and CSV are taken apart by path or column:
//
//	protocol: json
//	points:
//	  - {name: temperature, path: "env.t", unit: °C}
//	  - {name: door, path: "inputs[0]", type: bool, on_change: true, group: doors}
//
//	protocol: csv
//	separator: ";"
//	header: true                  # the device sends a line of names first
//	points:
//	  - {name: level, column: Level_mm, unit: mm}
//
// A sensor on an I²C bus is what is written to it and where in its answer a value stands;
// those that reckon with a calibration are named by their chip:
//
//	protocol: i2c
//	address: 0x48                 # when the device's configuration gives none
//	points:
//	  - {name: level, command: "01 C3 83", wait: 9ms, read: "00", type: i16, scale: 0.000125, unit: V}
//
//	protocol: i2c
//	chip: bme280
//	points:
//	  - {name: temperature, quantity: temperature, unit: °C, deadband: 0.1}
//
// Digital lines are told as soon as they change, and pulses are counted:
//
//	protocol: gpio
//	points:
//	  - {name: door, line: GPIO17, pull: up, active_low: true, debounce: 20ms}
//	  - {name: siren, line: 27, writable: true, safe: false}
//	  - {name: water, line: 22, pull: up, type: count, edge: falling, scale: 0.5, unit: L}
//	  - {name: flow, line: 22, pull: up, type: rate, edge: falling, scale: 30, unit: L/min}
//
// Builtin has profiles of common devices by name. The package knows what a description
// says, not how to talk to a device: the drivers do, and Attach is how they are found.
package profile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tidegate/devices"
)

// The protocols.
const (
	Modbus = "modbus"
	NMEA   = "nmea"
	JSON   = "json"
	CSV    = "csv"
	I2C    = "i2c"
	GPIO   = "gpio"
)

// Protocols lists them.
var Protocols = []string{Modbus, NMEA, JSON, CSV, I2C, GPIO}

// DefaultGroup is the group of points that name none.
const DefaultGroup = "data"

// Profile describes one kind of device.
type Profile struct {
	Title    string        `yaml:"title"`    // for people
	Protocol string        `yaml:"protocol"` // one of Protocols
	Group    string        `yaml:"group"`    // of points that name none; "data"
	Every    time.Duration `yaml:"every"`    // how often it is asked, when its configuration does not say; not of lines
	Points   []Point       `yaml:"points"`

	// Of modbus alone.
	MaxRegisters  int  `yaml:"max_registers"`  // registers in one request, 1 to 125; 125
	Gap           *int `yaml:"gap"`            // registers of no interest that are read along to save a request; 8
	WriteMultiple bool `yaml:"write_multiple"` // write with functions 15 and 16 alone, as some devices demand

	// Of nmea alone.
	Sentences []string `yaml:"sentences"` // the standard sentences to take, by their three letters; all that are known

	// Of csv alone.
	Separator string   `yaml:"separator"` // one character; a comma
	Header    bool     `yaml:"header"`    // the device sends a line of names before the first and perhaps again
	Columns   []string `yaml:"columns"`   // the names, when it does not

	// Of i2c alone.
	Address int    `yaml:"address"` // of a device whose configuration gives none, 0x08 to 0x77
	Chip    string `yaml:"chip"`    // one of Chips, for sensors that reckon with a calibration
	Check   string `yaml:"check"`   // sensirion: behind every two bytes of an answer stands their CRC-8

	// Of lines of any kind.
	MaxLine int `yaml:"max_line"` // bytes in a line, longer ones are dropped; 256 for nmea, 4096 for others
}

// Lines says whether the device speaks by itself, line by line.
func (p *Profile) Lines() bool { return p.Protocol == NMEA || p.Protocol == JSON || p.Protocol == CSV }

// Validate says everything that is wrong with p, each error starting with its key.
func (p *Profile) Validate() error {
	var errs []error
	bad := func(key, format string, args ...any) { errs = append(errs, fmt.Errorf(key+": "+format, args...)) }
	if !slices.Contains(Protocols, p.Protocol) {
		bad("protocol", "is %q, expected one of %s", p.Protocol, strings.Join(Protocols, ", "))
		return errors.Join(errs...)
	}
	if p.Group != "" && !devices.ValidName(p.Group) {
		bad("group", "is %q, expected a letter and then letters, digits or _", p.Group)
	}
	if len(p.Points) == 0 && p.Protocol != NMEA {
		bad("points", "missing, expected at least one")
	}
	seen := map[string]int{}
	for i := range p.Points {
		x := &p.Points[i]
		for _, err := range split(x.validate(p)) {
			errs = append(errs, fmt.Errorf("points[%d].%w", i, err))
		}
		if first, twice := seen[x.Name]; twice {
			bad(fmt.Sprintf("points[%d].name", i), "%s is already the name of points[%d]", x.Name, first)
		}
		seen[x.Name] = i
	}
	p.validateModbus(bad)
	p.validateLines(bad)
	p.validateI2C(bad)
	p.validateGPIO(bad)
	return errors.Join(errs...)
}

func (p *Profile) validateModbus(bad func(key, format string, args ...any)) {
	if p.Protocol != Modbus {
		if p.MaxRegisters != 0 || p.Gap != nil || p.WriteMultiple || p.Every != 0 && p.Lines() {
			bad("protocol", "max_registers, gap, write_multiple and every are for modbus alone (every for i2c and gpio, too)")
		}
		return
	}
	if p.MaxRegisters < 0 || p.MaxRegisters > 125 {
		bad("max_registers", "is %d, expected 1 to 125", p.MaxRegisters)
	}
	if p.Gap != nil && (*p.Gap < 0 || *p.Gap > 120) {
		bad("gap", "is %d, expected 0 to 120", *p.Gap)
	}
}

func (p *Profile) validateLines(bad func(key, format string, args ...any)) {
	if p.Every != 0 && p.Every < MinEvery && !p.Lines() {
		bad("every", "is %v, expected at least %v", p.Every, MinEvery)
	}
	if p.Protocol != NMEA && p.Sentences != nil {
		bad("sentences", "is for nmea alone")
	}
	for i, s := range p.Sentences {
		if _, ok := StandardSentence(s); !ok {
			bad(fmt.Sprintf("sentences[%d]", i), "is %q, expected one of %s", s, strings.Join(StandardSentences(), ", "))
		}
	}
	if p.Protocol != CSV && (p.Separator != "" || p.Header || p.Columns != nil) {
		bad("protocol", "separator, header and columns are for csv alone")
	}
	if p.Protocol == CSV && (len(p.Separator) > 1 || strings.ContainsAny(p.Separator, "\"\r\n")) {
		bad("separator", "is %q, expected one character", p.Separator)
	}
	if p.Header && p.Columns != nil {
		bad("columns", "are given, and header says that the device sends them: expected one of both")
	}
	if p.MaxLine != 0 && (p.MaxLine < 16 || p.MaxLine > 64<<10 || !p.Lines()) {
		bad("max_line", "is %d, expected 16 to 65536, and for nmea, json and csv alone", p.MaxLine)
	}
}

// DevicePoints gives the points as the rest of the gateway sees them, in order: those
// of the standard sentences first. The profile is valid.
func (p *Profile) DevicePoints() []devices.Point {
	var ps []devices.Point
	if p.Protocol == NMEA {
		ps = sentencePoints(p)
	}
	for i := range p.Points {
		ps = append(ps, p.Points[i].Device(p))
	}
	return ps
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
