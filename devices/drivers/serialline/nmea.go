package serialline

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"tidegate/devices"
	"tidegate/devices/profile"
)

const (
	// secondAfter is how long a sentence that says something better must be silent before
	// another is believed.
	secondAfter = 10 * time.Second
	// maxFound bounds the points that a device can add by naming transducers.
	maxFound = 64
	// maxFields bounds the fields of a sentence; 82 characters hold no more.
	maxFields = 128
)

// nmea reads NMEA 0183 sentences.
type nmea struct {
	table map[string]profile.Sentence
	kinds map[string]devices.Kind
	first map[string]time.Time // when a point was last given by a sentence that is not second
	found func(devices.Point)
	xdr   map[string]devices.Unit // transducers met so far, by point
}

func newNMEA(p *profile.Profile, found func(devices.Point)) *nmea {
	n := &nmea{table: p.SentenceTable(), kinds: map[string]devices.Kind{}, first: map[string]time.Time{}, found: found,
		xdr: map[string]devices.Unit{}}
	for _, d := range p.DevicePoints() {
		n.kinds[d.Name] = d.Kind
	}
	return n
}

// ParseSentence takes an NMEA 0183 sentence out of a line and gives its fields, the
// address (GPGGA) first. Anything before the last $ or ! is noise. The checksum must be
// there and right (NMEA 0183 4.11, 5.3: the XOR of what stands between $ and *).
func ParseSentence(line []byte) ([]string, error) {
	begin := bytes.LastIndexAny(line, "$!")
	if begin < 0 {
		return nil, errors.New("no $ in a sentence")
	}
	body, sum, found := bytes.Cut(line[begin+1:], []byte("*"))
	if !found {
		return nil, errors.New("a sentence without a checksum")
	}
	sum = bytes.TrimRight(sum, " ")
	want, err := strconv.ParseUint(string(sum), 16, 8)
	if len(sum) != 2 || err != nil {
		return nil, errors.New("a malformed checksum")
	}
	var got byte
	for _, c := range body {
		if c < 0x20 || c > 0x7e {
			return nil, errors.New("a sentence with bytes that are no text")
		}
		got ^= c
	}
	if got != byte(want) {
		return nil, fmt.Errorf("a wrong checksum (%02X, and %02X was sent)", got, want)
	}
	fields := strings.SplitN(string(body), ",", maxFields)
	if len(fields[0]) < 3 {
		return nil, errors.New("a sentence without an address")
	}
	return fields, nil
}

func (n *nmea) read(line []byte, at time.Time, dst []devices.Reading) ([]devices.Reading, error) {
	fields, err := ParseSentence(line)
	if err != nil {
		return dst, err
	}
	address := fields[0]
	s, ok := n.table[address]
	if !ok && len(address) == 5 && address[0] != 'P' {
		s, ok = n.table[address[2:]] // any talker
	}
	if !ok || !s.Only.Holds(fields) {
		return dst, errIgnore
	}
	quality := devices.Good
	if !s.Valid.Holds(fields) {
		quality = devices.Uncertain
	}
	for i := range s.Fields {
		f := &s.Fields[i]
		if f.Index >= len(fields) || fields[f.Index] == "" || !f.When.Holds(fields) {
			continue
		}
		if f.Second && at.Sub(n.first[f.Point]) < secondAfter {
			continue
		}
		if !f.Second && quality == devices.Good {
			n.first[f.Point] = at
		}
		r := devices.Reading{Point: f.Point, At: at, Quality: quality}
		if v, err := n.value(f, fields); err == nil {
			r.Value = v
		} else {
			r.Quality = devices.Bad
		}
		dst = append(dst, r)
	}
	if s.Code == "XDR" {
		dst = n.transducers(fields, at, dst)
	}
	return dst, nil
}

// value reads one field.
func (n *nmea) value(f *profile.Field, fields []string) (devices.Value, error) {
	text := fields[f.Index]
	side := ""
	if f.Index+1 < len(fields) {
		side = fields[f.Index+1]
	}
	switch f.Form {
	case profile.Words:
		return devices.Text(text), nil
	case profile.Flag:
		return parseBool(text)
	case profile.Latitude:
		return degrees(text, side, 90, "N", "S")
	case profile.Longitude:
		return degrees(text, side, 180, "E", "W")
	}
	v, err := devices.ParseNumber(text)
	if err != nil {
		return v, err
	}
	factor := 1.0
	if f.Form == profile.EastWest {
		switch side {
		case "W":
			factor = -1
		case "E":
		default:
			return v, fmt.Errorf("%w: %q is neither E nor W", devices.ErrValue, side)
		}
	}
	if f.UnitIndex > 0 {
		unit := ""
		if f.UnitIndex < len(fields) {
			unit = fields[f.UnitIndex]
		}
		by, ok := f.Factors[unit]
		if !ok {
			return v, fmt.Errorf("%w: the unit %q", devices.ErrValue, unit)
		}
		factor *= by
	}
	scale := f.Scale
	if scale == 0 {
		scale = 1
	}
	return scaled(v, scale*factor, f.Offset, n.kinds[f.Point])
}

// degrees reads (d)ddmm.mmmm and a hemisphere; 8 decimals are a millimetre.
func degrees(text, side string, limit float64, plus, minus string) (devices.Value, error) {
	v, err := strconv.ParseFloat(text, 64)
	whole := float64(int(v / 100))
	minutes := v - 100*whole
	d := whole + minutes/60
	if err != nil || v < 0 || minutes >= 60 || d > limit || side != plus && side != minus {
		return devices.Value{}, fmt.Errorf("%w: %s %s is no position", devices.ErrValue, text, side)
	}
	if side == minus {
		d = -d
	}
	d, _ = strconv.ParseFloat(strconv.FormatFloat(d, 'f', 8, 64), 64)
	return devices.Float(d), nil
}

// transducers reads XDR: type, value, unit and name, again and again.
func (n *nmea) transducers(fields []string, at time.Time, dst []devices.Reading) []devices.Reading {
	for i := 1; i+3 < len(fields); i += 4 {
		kind, text, letter, name := fields[i], fields[i+1], fields[i+2], fields[i+3]
		point := transducer(name, kind, i/4+1)
		unit, factor, known := profile.TransducerUnit(kind, letter)
		if _, met := n.xdr[point]; !met {
			if _, taken := n.kinds[point]; taken || len(n.xdr) >= maxFound {
				continue
			}
			n.xdr[point] = unit
			n.found(devices.Point{Name: point, Group: "transducers", Title: "transducer " + name, Unit: unit, Kind: devices.Number})
		}
		if text == "" {
			continue
		}
		r := devices.Reading{Point: point, At: at, Quality: devices.Good}
		v, err := devices.ParseNumber(text)
		if err == nil {
			v, err = scaled(v, factor, 0, devices.Number)
		}
		switch {
		case err != nil || unit != n.xdr[point]:
			r.Quality = devices.Bad // what changes its unit is none to be believed
		case !known:
			r.Value, _ = devices.ParseNumber(text)
			r.Value, _ = r.Value.As(devices.Number)
			r.Quality = devices.Uncertain
		default:
			r.Value = v
		}
		dst = append(dst, r)
	}
	return dst
}

// transducer makes a point's name of what a device calls a transducer.
func transducer(name, kind string, n int) string {
	if name == "" {
		name = kind + strconv.Itoa(n)
	}
	clean := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
	return "xdr_" + clean[:min(len(clean), 60)]
}
