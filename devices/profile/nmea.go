package profile

import (
	"regexp"
	"slices"
	"strings"

	"tidegate/devices"
)

// sentenceForm is an address field without its $: three letters for any talker, or all.
var sentenceForm = regexp.MustCompile(`^[A-Z][A-Z0-9]{2,11}$`)

// Sentence describes one NMEA 0183 sentence: what its fields mean.
type Sentence struct {
	Code   string // GGA: the address without the talker; or a whole proprietary address
	Title  string
	Valid  Cond // when the device itself vouches for the values; else they are Uncertain
	Only   Cond // when the sentence is of interest at all
	Fields []Field
}

// Field describes one value in a sentence.
type Field struct {
	Point string
	Group string
	Unit  devices.Unit
	Index int // the field, from 1, as in the standard's tables
	Form  Form
	When  Cond // only then is it this value
	// UnitIndex is a field that says the unit as one letter, with the factor for each letter;
	// a letter that is not listed makes the value Bad.
	UnitIndex int
	Factors   map[string]float64
	// Second is set for what another sentence says better: it counts only while that one is silent.
	Second bool
	// Of a field described by a profile; 1 and 0 else.
	Scale, Offset float64
}

// Form is how a field is written.
type Form uint8

// The forms.
const (
	Decimal   Form = iota // 12.3
	Whole                 // 7
	Words                 // any text
	Flag                  // A or 1 is true, V or 0 false
	Latitude              // ddmm.mmmm with N or S in the next field; degrees, north positive
	Longitude             // dddmm.mmmm with E or W in the next field; degrees, east positive
	EastWest              // a number with E or W in the next field; east positive
)

// Kind gives what values of the form are.
func (f Form) Kind() devices.Kind {
	switch f {
	case Whole:
		return devices.Integer
	case Words:
		return devices.String
	case Flag:
		return devices.Boolean
	}
	return devices.Number
}

// Cond is a condition on one field: it is one of the letters of In, or has others than
// those of Not. An empty field meets none. The zero Cond holds.
type Cond struct {
	Index int
	In    string
	Not   string
}

// Holds looks at the fields of a sentence, the address being number 0.
func (c Cond) Holds(fields []string) bool {
	switch {
	case c.Index == 0:
		return true
	case c.Index >= len(fields) || fields[c.Index] == "":
		return false
	case c.In != "":
		return strings.Contains(c.In, fields[c.Index])
	}
	return strings.Trim(fields[c.Index], c.Not) != ""
}

// knots are the factors of the speed units of MWV: knots, km/h, m/s, statute miles per hour.
var knots = map[string]float64{"N": 1, "K": 1 / 1.852, "M": 3600.0 / 1852, "S": 1.609344 / 1.852}

// standard are the sentences that are known, by NMEA 0183 4.11 and the field tables of gpsd's "NMEA Revealed".
var standard = []Sentence{
	{Code: "GGA", Title: "position fix", Valid: Cond{Index: 6, Not: "0"}, Fields: []Field{
		{Point: "latitude", Group: "position", Unit: devices.Degree, Index: 2, Form: Latitude},
		{Point: "longitude", Group: "position", Unit: devices.Degree, Index: 4, Form: Longitude},
		{Point: "fix", Group: "position", Index: 6, Form: Whole},
		{Point: "satellites", Group: "position", Index: 7, Form: Whole},
		{Point: "hdop", Group: "position", Index: 8},
		{Point: "altitude", Group: "position", Unit: devices.Metre, Index: 9, When: Cond{Index: 10, In: "M"}}}},
	{Code: "GNS", Title: "position fix of several systems", Valid: Cond{Index: 6, Not: "N"}, Fields: []Field{
		{Point: "latitude", Group: "position", Unit: devices.Degree, Index: 2, Form: Latitude, Second: true},
		{Point: "longitude", Group: "position", Unit: devices.Degree, Index: 4, Form: Longitude, Second: true},
		{Point: "satellites", Group: "position", Index: 7, Form: Whole, Second: true},
		{Point: "hdop", Group: "position", Index: 8, Second: true},
		{Point: "altitude", Group: "position", Unit: devices.Metre, Index: 9, Second: true}}},
	{Code: "RMC", Title: "recommended minimum navigation", Valid: Cond{Index: 2, In: "A"}, Fields: []Field{
		{Point: "latitude", Group: "position", Unit: devices.Degree, Index: 3, Form: Latitude, Second: true},
		{Point: "longitude", Group: "position", Unit: devices.Degree, Index: 5, Form: Longitude, Second: true},
		{Point: "speed", Group: "course", Unit: devices.Knot, Index: 7},
		{Point: "course", Group: "course", Unit: devices.Degree, Index: 8},
		{Point: "variation", Group: "course", Unit: devices.Degree, Index: 10, Form: EastWest}}},
	{Code: "GLL", Title: "position", Valid: Cond{Index: 6, In: "A"}, Fields: []Field{
		{Point: "latitude", Group: "position", Unit: devices.Degree, Index: 1, Form: Latitude, Second: true},
		{Point: "longitude", Group: "position", Unit: devices.Degree, Index: 3, Form: Longitude, Second: true}}},
	{Code: "VTG", Title: "course and speed over ground", Fields: []Field{
		{Point: "course", Group: "course", Unit: devices.Degree, Index: 1, When: Cond{Index: 2, In: "T"}, Second: true},
		{Point: "speed", Group: "course", Unit: devices.Knot, Index: 5, When: Cond{Index: 6, In: "N"}, Second: true}}},
	{Code: "GSA", Title: "precision", Fields: []Field{
		{Point: "fix_dimensions", Group: "satellites", Index: 2, Form: Whole},
		{Point: "pdop", Group: "satellites", Index: 15},
		{Point: "vdop", Group: "satellites", Index: 17}}},
	{Code: "GSV", Title: "satellites in view", Only: Cond{Index: 2, In: "1"}, Fields: []Field{
		{Point: "satellites_in_view", Group: "satellites", Index: 3, Form: Whole}}},
	{Code: "HDT", Title: "true heading", Fields: []Field{
		{Point: "heading", Group: "heading", Unit: devices.Degree, Index: 1, When: Cond{Index: 2, In: "T"}}}},
	{Code: "THS", Title: "true heading and status", Valid: Cond{Index: 2, In: "AEMS"}, Fields: []Field{
		{Point: "heading", Group: "heading", Unit: devices.Degree, Index: 1, Second: true}}},
	{Code: "HDG", Title: "magnetic heading", Fields: []Field{
		{Point: "heading_magnetic", Group: "heading", Unit: devices.Degree, Index: 1},
		{Point: "deviation", Group: "heading", Unit: devices.Degree, Index: 2, Form: EastWest},
		{Point: "variation", Group: "course", Unit: devices.Degree, Index: 4, Form: EastWest, Second: true}}},
	{Code: "HDM", Title: "magnetic heading", Fields: []Field{
		{Point: "heading_magnetic", Group: "heading", Unit: devices.Degree, Index: 1, When: Cond{Index: 2, In: "M"}, Second: true}}},
	{Code: "ROT", Title: "rate of turn", Valid: Cond{Index: 2, In: "A"}, Fields: []Field{
		{Point: "rate_of_turn", Group: "heading", Unit: devices.DegreePerM, Index: 1}}},
	{Code: "RSA", Title: "rudder", Valid: Cond{Index: 2, In: "A"}, Fields: []Field{
		{Point: "rudder", Group: "steering", Unit: devices.Degree, Index: 1}}},
	{Code: "MWV", Title: "wind speed and angle", Valid: Cond{Index: 5, In: "A"}, Fields: []Field{
		{Point: "wind_angle_apparent", Group: "wind", Unit: devices.Degree, Index: 1, When: Cond{Index: 2, In: "R"}},
		{Point: "wind_speed_apparent", Group: "wind", Unit: devices.Knot, Index: 3, When: Cond{Index: 2, In: "R"}, UnitIndex: 4, Factors: knots},
		{Point: "wind_angle_true", Group: "wind", Unit: devices.Degree, Index: 1, When: Cond{Index: 2, In: "T"}},
		{Point: "wind_speed_true", Group: "wind", Unit: devices.Knot, Index: 3, When: Cond{Index: 2, In: "T"}, UnitIndex: 4, Factors: knots}}},
	{Code: "MWD", Title: "wind direction and speed", Fields: []Field{
		{Point: "wind_direction", Group: "wind", Unit: devices.Degree, Index: 1, When: Cond{Index: 2, In: "T"}},
		{Point: "wind_speed", Group: "wind", Unit: devices.Knot, Index: 5, When: Cond{Index: 6, In: "N"}}}},
	{Code: "DBT", Title: "depth below transducer", Fields: []Field{
		{Point: "depth", Group: "depth", Unit: devices.Metre, Index: 3, When: Cond{Index: 4, In: "M"}}}},
	{Code: "DPT", Title: "depth and offset", Fields: []Field{
		{Point: "depth", Group: "depth", Unit: devices.Metre, Index: 1, Second: true},
		{Point: "depth_offset", Group: "depth", Unit: devices.Metre, Index: 2}}},
	{Code: "MTW", Title: "water temperature", Fields: []Field{
		{Point: "water_temperature", Group: "water", Unit: devices.Celsius, Index: 1, When: Cond{Index: 2, In: "C"}}}},
	{Code: "VHW", Title: "heading and speed through water", Fields: []Field{
		{Point: "heading", Group: "heading", Unit: devices.Degree, Index: 1, When: Cond{Index: 2, In: "T"}, Second: true},
		{Point: "water_speed", Group: "water", Unit: devices.Knot, Index: 5, When: Cond{Index: 6, In: "N"}}}},
	{Code: "VLW", Title: "distance through water", Fields: []Field{
		{Point: "log_total", Group: "log", Unit: devices.NauticalMi, Index: 1, When: Cond{Index: 2, In: "N"}},
		{Point: "log_trip", Group: "log", Unit: devices.NauticalMi, Index: 3, When: Cond{Index: 4, In: "N"}}}},
	{Code: "MTA", Title: "air temperature", Fields: []Field{
		{Point: "air_temperature", Group: "air", Unit: devices.Celsius, Index: 1, When: Cond{Index: 2, In: "C"}}}},
	{Code: "MMB", Title: "barometer", Fields: []Field{
		{Point: "pressure", Group: "air", Unit: devices.HectoPascal, Index: 3, When: Cond{Index: 4, In: "B"}, Scale: 1000}}},
	{Code: "MHU", Title: "humidity", Fields: []Field{
		{Point: "humidity", Group: "air", Unit: devices.Percent, Index: 1},
		{Point: "dew_point", Group: "air", Unit: devices.Celsius, Index: 3, When: Cond{Index: 4, In: "C"}}}},
	{Code: "MDA", Title: "meteorological composite", Fields: []Field{
		{Point: "pressure", Group: "air", Unit: devices.HectoPascal, Index: 3, When: Cond{Index: 4, In: "B"}, Scale: 1000, Second: true},
		{Point: "air_temperature", Group: "air", Unit: devices.Celsius, Index: 5, When: Cond{Index: 6, In: "C"}, Second: true},
		{Point: "water_temperature", Group: "water", Unit: devices.Celsius, Index: 7, When: Cond{Index: 8, In: "C"}, Second: true},
		{Point: "humidity", Group: "air", Unit: devices.Percent, Index: 9, Second: true},
		{Point: "dew_point", Group: "air", Unit: devices.Celsius, Index: 11, When: Cond{Index: 12, In: "C"}, Second: true},
		{Point: "wind_direction", Group: "wind", Unit: devices.Degree, Index: 13, When: Cond{Index: 14, In: "T"}, Second: true},
		{Point: "wind_speed", Group: "wind", Unit: devices.Knot, Index: 17, When: Cond{Index: 18, In: "N"}, Second: true}}},
	// XDR names its transducers itself: its points are found while it speaks (xdr_NAME).
	{Code: "XDR", Title: "transducers"},
}

// TransducerUnit gives the unit of an XDR measurement by its type and unit letters (NMEA
// 0183, XDR), and a factor to get there.
func TransducerUnit(kind, unit string) (devices.Unit, float64, bool) {
	switch kind + unit {
	case "CC":
		return devices.Celsius, 1, true
	case "AD":
		return devices.Degree, 1, true
	case "DM":
		return devices.Metre, 1, true
	case "FH":
		return devices.Hertz, 1, true
	case "NN":
		return devices.Newton, 1, true
	case "PB":
		return devices.Bar, 1, true
	case "PP":
		return devices.Pascal, 1, true
	case "RI":
		return "L/min", 60, true // litres per second on the wire
	case "RL":
		return devices.LitrePerS, 1, true
	case "TR":
		return devices.RPM, 1, true
	case "HP":
		return devices.Percent, 1, true
	case "VM":
		return devices.CubicMetre, 1, true
	case "VP", "EP":
		return devices.Percent, 1, true
	case "UV":
		return devices.Volt, 1, true
	case "IA":
		return devices.Ampere, 1, true
	case "LS":
		return devices.PPT, 1, true
	case "G", "GN", "S":
		return "", 1, true
	}
	return "", 0, false
}

// StandardSentence gives the description of a standard sentence by its three letters.
func StandardSentence(code string) (Sentence, bool) {
	i := slices.IndexFunc(standard, func(s Sentence) bool { return s.Code == code })
	if i < 0 {
		return Sentence{}, false
	}
	return standard[i], true
}

// StandardSentences lists the letters of the sentences that are built in.
func StandardSentences() []string {
	var codes []string
	for _, s := range standard {
		codes = append(codes, s.Code)
	}
	return codes
}

// SentenceTable gives the sentences a profile of NMEA takes, by address (or by three
// letters for any talker): the standard ones it lists and those its points describe.
func (p *Profile) SentenceTable() map[string]Sentence {
	table := map[string]Sentence{}
	for _, s := range standard {
		if p.Sentences == nil || slices.Contains(p.Sentences, s.Code) {
			table[s.Code] = s
		}
	}
	for i := range p.Points {
		x := &p.Points[i]
		s := table[x.Sentence]
		s.Code = x.Sentence
		d := x.Device(p)
		scale, offset := x.Factors()
		s.Fields = append(slices.Clone(s.Fields), Field{Point: x.Name, Group: d.Group, Unit: x.Unit, Index: x.Field,
			Form: forms[x.Coding(NMEA)], Scale: scale, Offset: offset})
		table[x.Sentence] = s
	}
	return table
}

var forms = map[string]Form{"float": Decimal, "int": Whole, "string": Words, "bool": Flag, "lat": Latitude, "lon": Longitude}

// sentencePoints gives the points of the standard sentences a profile takes, each once.
func sentencePoints(p *Profile) []devices.Point {
	var ps []devices.Point
	seen := map[string]bool{}
	for _, x := range p.Points {
		seen[x.Name] = true // described by the profile itself
	}
	table := p.SentenceTable()
	for _, s := range standard {
		if _, taken := table[s.Code]; !taken {
			continue
		}
		for _, f := range s.Fields {
			if !seen[f.Point] {
				seen[f.Point] = true
				ps = append(ps, devices.Point{Name: f.Point, Group: f.Group, Title: s.Title, Unit: f.Unit, Kind: f.Form.Kind()})
			}
		}
	}
	return ps
}
