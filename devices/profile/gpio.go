package profile

import (
	"slices"
	"strings"
	"time"
)

// DefaultDebounce is how long the level of a line must last to count: mechanical contacts
// bounce for a millisecond or two.
const DefaultDebounce = 5 * time.Millisecond

// MaxDebounce is the longest that can be asked for.
const MaxDebounce = 10 * time.Second

// Settle gives the debounce with the default filled in.
func (p *Point) Settle() time.Duration {
	if p.Debounce == nil {
		return DefaultDebounce
	}
	return *p.Debounce
}

// Pulses says whether the point is made of edges and not of a level.
func (p *Point) Pulses() bool { return p.Type == "count" || p.Type == "rate" }

func (p *Profile) validateGPIO(bad func(key, format string, args ...any)) {
	if p.Protocol != GPIO {
		return
	}
	first := map[string]*Point{} // of each line
	for i := range p.Points {
		x := &p.Points[i]
		if x.Line == "" {
			continue
		}
		y := first[x.Line]
		if y == nil {
			first[x.Line] = x
			continue
		}
		if x.Writable || y.Writable {
			bad("points", "%s and %s have the same line %s, which an output shares with nobody", y.Name, x.Name, x.Line)
		} else if x.Pull != y.Pull || x.ActiveLow != y.ActiveLow || x.Settle() != y.Settle() {
			bad("points", "%s and %s have the same line %s: give both the same pull, active_low and debounce", y.Name, x.Name, x.Line)
		}
	}
}

func (p *Point) validateGPIO(bad func(key, format string, args ...any)) {
	if p.Line == "" {
		bad("line", "missing, expected a name like GPIO17 or a number, see tidegate device scan")
	}
	if !slices.Contains([]string{"", "up", "down", "none"}, p.Pull) {
		bad("pull", "is %q, expected up, down or none", p.Pull)
	}
	if !slices.Contains([]string{"", "rising", "falling", "both"}, p.Edge) {
		bad("edge", "is %q, expected rising, falling or both", p.Edge)
	}
	if p.Edge != "" && !p.Pulses() {
		bad("edge", "is for the types count and rate")
	}
	if d := p.Settle(); d < 0 || d > MaxDebounce {
		bad("debounce", "is %v, expected 0 to %v", d, MaxDebounce)
	}
	switch {
	case p.Writable && p.Pulses():
		bad("writable", "is set, and pulses are counted at an input")
	case p.Writable && (p.Pull != "" || p.Debounce != nil):
		bad("writable", "is set, and pull and debounce are for inputs")
	case !p.Writable && p.Safe != nil:
		bad("writable", "is not set, but safe is")
	}
	if p.Min != nil || p.Max != nil {
		bad("writable", "min and max are for numbers")
	}
}

// validateOwner refuses keys that belong to another protocol.
func (p *Point) validateOwner(of *Profile, bad func(key, format string, args ...any)) {
	if of.Protocol != I2C && (p.Quantity != "" || p.Command != "" || p.Wait != 0 || p.Read != "" || p.At != 0 || p.Shift != 0) {
		bad("protocol", "quantity, command, wait, read, at and shift are for i2c alone")
	}
	if of.Protocol != GPIO && (p.Line != "" || p.ActiveLow || p.Pull != "" || p.Debounce != nil || p.Edge != "") {
		bad("protocol", "line, active_low, pull, debounce and edge are for gpio alone")
	}
	if of.Protocol != I2C && of.Protocol != GPIO {
		return
	}
	var foreign []string
	for key, set := range map[string]bool{"register": p.Register.Table != 0, "length": p.Length != 0, "bit": p.Bit != nil, "sentence": p.Sentence != "",
		"field": p.Field != 0, "path": p.Path != "", "column": p.Column != "", "order": p.Order != "" && of.Protocol == GPIO,
		"every": p.Every != 0 && of.Protocol == GPIO, "writable": p.Writable && of.Protocol == I2C,
		"min, max, safe": (p.Min != nil || p.Max != nil || p.Safe != nil) && of.Protocol == I2C} {
		if set {
			foreign = append(foreign, key)
		}
	}
	if slices.Sort(foreign); len(foreign) > 0 {
		bad("protocol", "is %s, which has no %s", of.Protocol, strings.Join(foreign, ", "))
	}
}
