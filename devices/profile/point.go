package profile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidegate/devices"
)

// MinEvery is the shortest time between two questions to a point.
const MinEvery = 20 * time.Millisecond

// Point describes one point and where it stands.
type Point struct {
	Name  string       `yaml:"name"` // as in messages and shadows: a letter, then letters, digits and _
	Title string       `yaml:"title"`
	Group string       `yaml:"group"` // the profile's when empty
	Unit  devices.Unit `yaml:"unit"`
	// Type is how the value is coded. Modbus: bool, u16, i16, u32, i32, u64, i64, f32, f64 or
	// string (bool for coils and discrete inputs and with bit, else u16). I²C: u8, i8, u16, i16,
	// u24, i24, u32, i32 or f32 (u16). GPIO: bool, count or rate (bool). Lines: bool, int, float
	// or string (float); nmea also lat and lon, a field of degrees with its hemisphere behind.
	Type string `yaml:"type"`
	// Scale and Offset make the value: what is coded, times scale, plus offset. 1 and 0.
	Scale  float64 `yaml:"scale"`
	Offset float64 `yaml:"offset"`

	Every    time.Duration `yaml:"every"`     // how often it is asked; the device's when 0; modbus and i2c
	Deadband float64       `yaml:"deadband"`  // a number that moved less is not told; 0: all are
	OnChange bool          `yaml:"on_change"` // told when it changed
	AtMost   time.Duration `yaml:"at_most"`   // told at most once in this time

	// Of modbus alone, but where another is named.
	Register Register `yaml:"register"` // holding 100
	Order    string   `yaml:"order"`    // of the bytes of a value of several registers: ABCD (default), CDAB, BADC or DCBA; i2c: the first or the last
	Length   int      `yaml:"length"`   // registers of a string, two characters each
	Bit      *int     `yaml:"bit"`      // one bit of a register, 0 is the lowest
	Writable bool     `yaml:"writable"` // coils, holding registers and digital lines
	Min      any      `yaml:"min"`      // bounds of what may be written
	Max      any      `yaml:"max"`
	Safe     any      `yaml:"safe"` // what it is set to when the gateway stops; of digital lines too

	// Of i2c alone. Bytes are in hexadecimal: 01 C3 83.
	Quantity string        `yaml:"quantity"` // of a chip: temperature, pressure or humidity
	Command  Bytes         `yaml:"command"`  // written first, by itself
	Wait     time.Duration `yaml:"wait"`     // for the device to do it
	Read     Bytes         `yaml:"read"`     // written right before the answer is read: mostly the number of a register
	At       int           `yaml:"at"`       // where in the answer the value begins, from 0
	Shift    int           `yaml:"shift"`    // low bits of the value that do not count

	// Of gpio alone.
	Line      string         `yaml:"line"`       // its name on the chip, GPIO17, or its number
	ActiveLow bool           `yaml:"active_low"` // true is a low level
	Pull      string         `yaml:"pull"`       // up, down or none; as it is
	Debounce  *time.Duration `yaml:"debounce"`   // how long a level must last to count; 5ms
	Edge      string         `yaml:"edge"`       // of count and rate: rising, falling or both; rising. Rising is towards true

	// Of lines.
	Sentence string `yaml:"sentence"` // nmea: the address field: XDR's letters or all of it ($PXYZA)
	Field    int    `yaml:"field"`    // nmea: which field behind it, from 1
	Path     string `yaml:"path"`     // json: env.inputs[0].t
	Column   string `yaml:"column"`   // csv: a name, or a number from 1
}

// Register is where a Modbus point stands.
type Register struct {
	Table   Table
	Address uint16 // as on the wire, from 0
}

// Table is one of the four Modbus tables.
type Table uint8

// The tables, with the functions that read them (MODBUS Application Protocol 1.1b3, section 6).
const (
	_        Table = iota
	Coil           // function 1; bits that can be written
	Discrete       // function 2
	Holding        // function 3; registers that can be written
	Input          // function 4
)

var tables = []string{"", "coil", "discrete", "holding", "input"}

// String gives the table's name.
func (t Table) String() string { return tables[min(int(t), len(tables)-1)] }

// Bits says whether the table is one of bits.
func (t Table) Bits() bool { return t == Coil || t == Discrete }

// String gives the form that UnmarshalText reads.
func (r Register) String() string { return fmt.Sprintf("%v %d", r.Table, r.Address) }

// MarshalText is String.
func (r Register) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads "holding 100" or "input 0x1A".
func (r *Register) UnmarshalText(b []byte) error {
	table, address, ok := strings.Cut(strings.TrimSpace(string(b)), " ")
	t := slices.Index(tables, table)
	a, err := strconv.ParseUint(strings.TrimSpace(address), 0, 16)
	if !ok || t <= 0 || err != nil {
		return fmt.Errorf("is %q, expected coil, discrete, holding or input and an address from 0 to 65535, as in \"holding 100\"", b)
	}
	*r = Register{Table: Table(t), Address: uint16(a)}
	return nil
}

// words says how many registers each type takes; a string takes Length.
var words = map[string]int{"bool": 1, "u16": 1, "i16": 1, "u32": 2, "i32": 2, "u64": 4, "i64": 4, "f32": 2, "f64": 4}

// Words gives how many registers, or bits in a table of bits, the point takes.
func (p *Point) Words() int {
	if p.Type == "string" {
		return p.Length
	}
	return max(1, words[p.Type])
}

// Coding gives the type with the default filled in.
func (p *Point) Coding(protocol string) string {
	switch {
	case p.Type != "":
		return p.Type
	case protocol == I2C:
		return "u16"
	case protocol == GPIO:
		return "bool"
	case protocol != Modbus:
		return "float"
	case p.Register.Table.Bits() || p.Bit != nil:
		return "bool"
	}
	return "u16"
}

// Factors gives scale and offset with the defaults filled in.
func (p *Point) Factors() (scale, offset float64) {
	if p.Scale == 0 {
		return 1, p.Offset
	}
	return p.Scale, p.Offset
}

// kind gives what the values are: whole numbers stay whole under whole factors.
func (p *Point) kind(protocol string) devices.Kind {
	scale, offset := p.Factors()
	if p.Quantity != "" {
		return devices.Number
	}
	switch p.Coding(protocol) {
	case "bool":
		return devices.Boolean
	case "string":
		return devices.String
	case "u8", "i8", "u16", "i16", "u24", "i24", "u32", "i32", "u64", "i64", "int", "count":
		if scale == float64(int64(scale)) && offset == float64(int64(offset)) {
			return devices.Integer
		}
	}
	return devices.Number
}

// Device gives the point as the rest of the gateway sees it. The profile is valid.
func (p *Point) Device(of *Profile) devices.Point {
	d := devices.Point{Name: p.Name, Group: p.Group, Title: p.Title, Unit: p.Unit, Kind: p.kind(of.Protocol), Writable: p.Writable,
		Every: p.Every, Deadband: p.Deadband, OnChange: p.OnChange, AtMost: p.AtMost}
	if of.Protocol == GPIO && d.Kind == devices.Boolean {
		d.OnChange = true // they are looked at now and then as well
	}
	if d.Group == "" {
		d.Group = of.Group
	}
	if d.Group == "" {
		d.Group = DefaultGroup
	}
	d.Min, d.Max, d.Safe = value(p.Min), value(p.Max), value(p.Safe)
	return d
}

func value(x any) *devices.Value {
	if x == nil {
		return nil
	}
	v, err := devices.Of(x)
	if err != nil {
		return nil
	}
	return &v
}

func (p *Point) validate(of *Profile) error {
	var errs []error
	bad := func(key, format string, args ...any) { errs = append(errs, fmt.Errorf(key+": "+format, args...)) }
	for key, x := range map[string]any{"min": p.Min, "max": p.Max, "safe": p.Safe} {
		if x != nil && value(x) == nil {
			bad(key, "is %v, expected one value", x)
		}
	}
	p.validateType(of, bad)
	p.validateOwner(of, bad)
	switch of.Protocol {
	case Modbus:
		p.validateModbus(bad)
	case I2C:
		p.validateI2C(of, bad)
	case GPIO:
		p.validateGPIO(bad)
	default:
		p.validateLine(of, bad)
	}
	if len(errs) == 0 {
		d := p.Device(of)
		errs = append(errs, split(d.Check())...)
	}
	return errors.Join(errs...)
}

func (p *Point) validateType(of *Profile, bad func(key, format string, args ...any)) {
	types := []string{"bool", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", "string"}
	switch of.Protocol {
	case JSON, CSV:
		types = []string{"bool", "int", "float", "string"}
	case NMEA:
		types = []string{"bool", "int", "float", "string", "lat", "lon"}
	case I2C:
		types = []string{"u8", "i8", "u16", "i16", "u24", "i24", "u32", "i32", "f32"}
	case GPIO:
		types = []string{"bool", "count", "rate"}
	}
	coding := p.Coding(of.Protocol)
	if !slices.Contains(types, coding) {
		bad("type", "is %q, expected one of %s", coding, strings.Join(types, ", "))
	}
	if (coding == "bool" || coding == "string" || coding == "lat" || coding == "lon") && (p.Scale != 0 || p.Offset != 0 || p.Deadband != 0) {
		bad("type", "is %s, which takes no scale, offset or deadband", coding)
	}
}

func (p *Point) validateModbus(bad func(key, format string, args ...any)) {
	if p.Sentence != "" || p.Field != 0 || p.Path != "" || p.Column != "" {
		bad("register", "sentence, field, path and column are not for modbus")
	}
	r, coding := p.Register, p.Coding(Modbus)
	if r.Table == 0 {
		bad("register", "missing, expected for example \"holding 100\"")
		return
	}
	if r.Table.Bits() && (coding != "bool" || p.Bit != nil) {
		bad("type", "is %s, expected bool for a %v", coding, r.Table)
	}
	if (coding == "string") != (p.Length != 0) || p.Length < 0 || p.Length > 123 {
		bad("length", "is %d, expected 1 to 123 registers for a string and none for other types", p.Length)
	}
	if int(r.Address)+p.Words() > 1<<16 {
		bad("register", "%v and its %d registers go past 65535", r, p.Words())
	}
	if !slices.Contains([]string{"", "ABCD", "CDAB", "BADC", "DCBA"}, p.Order) {
		bad("order", "is %q, expected ABCD, CDAB, BADC or DCBA", p.Order)
	}
	if p.Bit != nil && (*p.Bit < 0 || *p.Bit > 15 || coding != "bool") {
		bad("bit", "is %d, expected 0 to 15 and the type bool", *p.Bit)
	}
	switch {
	case p.Writable && r.Table != Coil && r.Table != Holding:
		bad("writable", "is set on %v, and only a coil or holding register can be written", r)
	case p.Writable && p.Bit != nil:
		bad("writable", "one bit of a register cannot be written without a race for the others")
	case !p.Writable && (p.Min != nil || p.Max != nil || p.Safe != nil):
		bad("writable", "is not set, but min, max or safe are")
	}
	if p.Every != 0 && p.Every < MinEvery {
		bad("every", "is %v, expected at least %v", p.Every, MinEvery)
	}
}

func (p *Point) validateLine(of *Profile, bad func(key, format string, args ...any)) {
	if p.Register.Table != 0 || p.Order != "" || p.Length != 0 || p.Bit != nil || p.Writable || p.Every != 0 ||
		p.Min != nil || p.Max != nil || p.Safe != nil {
		bad("protocol", "register, order, length, bit, writable, every, min, max and safe are for modbus alone")
	}
	for _, own := range []struct{ protocol, key, val string }{{JSON, "path", p.Path}, {CSV, "column", p.Column}, {NMEA, "sentence", p.Sentence}} {
		switch {
		case of.Protocol == own.protocol && own.val == "":
			bad(own.key, "missing")
		case of.Protocol != own.protocol && own.val != "":
			bad(own.key, "is for %s alone", own.protocol)
		}
	}
	if of.Protocol == JSON && p.Path != "" {
		if _, err := ParsePath(p.Path); err != nil {
			bad("path", "%v", err)
		}
	}
	if of.Protocol == CSV && p.Column != "" && of.Columns != nil && !slices.Contains(of.Columns, p.Column) {
		if n, err := strconv.Atoi(p.Column); err != nil || n < 1 || n > len(of.Columns) {
			bad("column", "is %q, expected one of %s", p.Column, strings.Join(of.Columns, ", "))
		}
	} else if of.Protocol == CSV && of.Columns == nil && !of.Header && p.Column != "" {
		if n, err := strconv.Atoi(p.Column); err != nil || n < 1 || n > 1000 {
			bad("column", "is %q, expected a number from 1, or header or columns to give names", p.Column)
		}
	}
	if of.Protocol == NMEA && (p.Field < 1 || p.Field > 80) || of.Protocol != NMEA && p.Field != 0 {
		bad("field", "is %d, expected the number of a field, from 1, in nmea", p.Field)
	}
	if of.Protocol == NMEA && p.Sentence != "" && !sentenceForm.MatchString(p.Sentence) {
		bad("sentence", "is %q, expected three letters (any talker) or the whole address without $", p.Sentence)
	}
}
