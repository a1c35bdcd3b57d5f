package devices

import (
	"errors"
	"fmt"
	"regexp"
	"time"
	"unicode"
	"unicode/utf8"
)

// Unit is the unit of a numeric point as it is printed: "°C", "kn", "m³/h". Empty for
// numbers without one.
type Unit string

// Units that drivers and profiles of this tree use, so that one is not spelled in two ways.
const (
	Celsius     Unit = "°C"
	Percent     Unit = "%"
	Degree      Unit = "°"
	DegreePerM  Unit = "°/min"
	Knot        Unit = "kn"
	NauticalMi  Unit = "nmi"
	Metre       Unit = "m"
	Bar         Unit = "bar"
	Pascal      Unit = "Pa"
	HectoPascal Unit = "hPa"
	Volt        Unit = "V"
	Ampere      Unit = "A"
	Watt        Unit = "W"
	VoltAmpere  Unit = "VA"
	VAReactive  Unit = "var"
	KiloWattH   Unit = "kWh"
	WattHour    Unit = "Wh"
	Hertz       Unit = "Hz"
	Newton      Unit = "N"
	Litre       Unit = "L"
	LitrePerS   Unit = "L/s"
	CubicMetre  Unit = "m³"
	RPM         Unit = "rpm"
	PPT         Unit = "‰"
)

// MaxUnit is how long a Unit may be, in bytes.
const MaxUnit = 24

// Check says what is wrong with the unit, nil when it can be shown.
func (u Unit) Check() error {
	if len(u) > MaxUnit || !utf8.ValidString(string(u)) {
		return fmt.Errorf("is %q, expected a unit of at most %d bytes", string(u), MaxUnit)
	}
	for _, r := range u {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("is %q, expected a unit in printable characters", string(u))
		}
	}
	return nil
}

// Point is one thing of a device that can be measured or set.
type Point struct {
	Name     string // in messages and shadows; see ValidName
	Group    string // points of one group and one sample travel in one message
	Title    string // for people; may be empty
	Unit     Unit
	Kind     Kind // what its values are
	Writable bool

	Min, Max *Value // bounds of what may be written, both inclusive; nil for none
	Safe     *Value // what Halt sets it to; nil to leave it as it is

	Every    time.Duration // how often it is asked for; 0: as often as its device
	Deadband float64       // a number that moved less than this is not worth telling; 0: every reading is
	OnChange bool          // a value that did not change is not worth telling
	AtMost   time.Duration // told at most once in this time, the last value wins; 0: no such limit
}

var nameForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// ValidName says whether s can name a point or a group: a letter or underscore, then
// up to 63 letters, digits and underscores, so that it stands in a topic, as a JSON key
// and in a rule's field path as it is.
func ValidName(s string) bool { return nameForm.MatchString(s) }

// Fit gives v as a value that may be written to p: of p's kind and within its bounds.
// The error is ErrPoint for a point that is not writable and ErrValue, saying what was
// expected, for everything else.
func (p *Point) Fit(v Value) (Value, error) {
	if !p.Writable {
		return Value{}, fmt.Errorf("%w: %s is read only", ErrPoint, p.Name)
	}
	w, err := v.As(p.Kind)
	if err != nil {
		return Value{}, fmt.Errorf("%w for %s: %s, expected %s", ErrValue, p.Name, v, p.Kind.article())
	}
	if (p.Min != nil && w.Compare(*p.Min) < 0) || (p.Max != nil && w.Compare(*p.Max) > 0) {
		return Value{}, fmt.Errorf("%w for %s: %s, expected %s", ErrValue, p.Name, v, p.bounds())
	}
	return w, nil
}

func (p *Point) bounds() string {
	switch {
	case p.Min == nil:
		return "at most " + p.Max.String()
	case p.Max == nil:
		return "at least " + p.Min.String()
	}
	return p.Min.String() + " to " + p.Max.String()
}

// Check says everything that is wrong with the point.
func (p *Point) Check() error {
	var errs []error
	if !ValidName(p.Name) {
		errs = append(errs, fmt.Errorf("name: is %q, expected a letter and then letters, digits or _, 64 at most", p.Name))
	}
	if !ValidName(p.Group) {
		errs = append(errs, fmt.Errorf("group: is %q, expected a letter and then letters, digits or _, 64 at most", p.Group))
	}
	if err := p.Unit.Check(); err != nil {
		errs = append(errs, fmt.Errorf("unit: %w", err))
	}
	if p.Kind == None || p.Kind > String {
		errs = append(errs, errors.New("type: missing"))
	}
	if !(p.Deadband >= 0) {
		errs = append(errs, fmt.Errorf("deadband: is %v, expected 0 or more", p.Deadband))
	}
	if p.Every < 0 || p.AtMost < 0 {
		errs = append(errs, errors.New("every: a time below zero"))
	}
	for _, b := range []*Value{p.Min, p.Max, p.Safe} {
		if b == nil {
			continue
		}
		if _, err := b.As(p.Kind); err != nil {
			errs = append(errs, fmt.Errorf("min, max, safe: %s is not %s", b, p.Kind.article()))
		}
	}
	return errors.Join(errs...)
}
