package serialline

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tidegate/devices"
	"tidegate/devices/profile"
)

// slot is one point of a JSON or CSV profile and how to read it.
type slot struct {
	point         string
	kind          devices.Kind
	coding        string
	scale, offset float64
	path          []profile.Step // json
	column        string         // csv
}

func slots(p *profile.Profile) []slot {
	ss := make([]slot, len(p.Points))
	for i, d := range p.DevicePoints() {
		x := &p.Points[i]
		ss[i] = slot{point: d.Name, kind: d.Kind, coding: x.Coding(p.Protocol), column: x.Column}
		ss[i].scale, ss[i].offset = x.Factors()
		if p.Protocol == profile.JSON {
			ss[i].path, _ = profile.ParsePath(x.Path) // the profile is valid
		}
	}
	return ss
}

// reading reads one value, coded as JSON or as text, into a reading.
func (s *slot) reading(v devices.Value, at time.Time) devices.Reading {
	r := devices.Reading{Point: s.point, At: at, Quality: devices.Good}
	var err error
	if text, is := v.Text(); is && s.coding != "string" {
		if s.coding == "bool" {
			v, err = parseBool(text)
		} else {
			v, err = devices.ParseNumber(strings.TrimSpace(text))
		}
	}
	switch {
	case err != nil:
	case s.coding == "string":
		if _, is := v.Text(); !is && !v.IsNone() {
			v = devices.Text(v.String())
		}
	case s.coding == "bool":
		if n, whole := v.Int64(); whole && (n == 0 || n == 1) {
			v = devices.Bool(n == 1)
		}
	default:
		v, err = scaled(v, s.scale, s.offset, s.kind)
	}
	if err == nil {
		r.Value, err = v.As(s.kind)
	}
	if err != nil {
		r.Value, r.Quality = devices.Value{}, devices.Bad
	}
	return r
}

// parseBool reads what devices send for a boolean.
func parseBool(s string) (devices.Value, error) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "1", "a", "true", "on", "yes":
		return devices.Bool(true), nil
	case "0", "v", "false", "off", "no":
		return devices.Bool(false), nil
	}
	return devices.Value{}, fmt.Errorf("%w: %.20q is neither true nor false", devices.ErrValue, s)
}

// scaled gives v times scale plus offset as a value of kind k. It is reckoned in
// decimals, so that 215 times 0.1 is 21.5.
func scaled(v devices.Value, scale, offset float64, k devices.Kind) (devices.Value, error) {
	if scale == 1 && offset == 0 {
		return v.As(k)
	}
	r, ok := v.Rat()
	by, okScale := devices.Float(scale).Rat()
	plus, okOffset := devices.Float(offset).Rat()
	if !ok || !okScale || !okOffset {
		return devices.Value{}, fmt.Errorf("%w: %v is no number", devices.ErrValue, v)
	}
	w := devices.Rat(new(big.Rat).Add(r.Mul(r, by), plus))
	if f, _ := w.Float64(); w.Kind() == devices.Number {
		f, _ = strconv.ParseFloat(strconv.FormatFloat(f, 'g', 12, 64), 64) // 1/1.852 is no decimal
		w = devices.Float(f)
	}
	return w.As(k)
}

// jsonLines reads lines of JSON.
type jsonLines struct{ slots []slot }

func newJSON(p *profile.Profile) *jsonLines { return &jsonLines{slots: slots(p)} }

func (j *jsonLines) read(line []byte, at time.Time, dst []devices.Reading) ([]devices.Reading, error) {
	begin := bytes.IndexAny(line, "{[")
	if begin < 0 {
		return dst, errors.New("no JSON in a line")
	}
	dec := json.NewDecoder(bytes.NewReader(line[begin:])) // what stands before is a log's prefix or noise
	dec.UseNumber()
	var doc any
	if err := dec.Decode(&doc); err != nil {
		return dst, errors.New("damaged JSON")
	}
	if _, err := dec.Token(); err != io.EOF {
		return dst, errors.New("something behind the JSON")
	}
	from := len(dst)
	for i := range j.slots {
		s := &j.slots[i]
		x, there := find(doc, s.path)
		if !there {
			continue
		}
		v, err := devices.Of(x)
		if err != nil { // null, an object, an array
			dst = append(dst, devices.Reading{Point: s.point, At: at, Quality: devices.Bad})
			continue
		}
		dst = append(dst, s.reading(v, at))
	}
	if len(dst) == from {
		return dst, errIgnore
	}
	return dst, nil
}

// find follows a path into a document.
func find(doc any, path []profile.Step) (any, bool) {
	for _, step := range path {
		if step.Key != "" {
			object, ok := doc.(map[string]any)
			if !ok {
				return nil, false
			}
			if doc, ok = object[step.Key]; !ok {
				return nil, false
			}
			continue
		}
		array, ok := doc.([]any)
		if !ok || step.Index >= len(array) {
			return nil, false
		}
		doc = array[step.Index]
	}
	return doc, true
}

// csvLines reads lines of separated values.
type csvLines struct {
	slots  []slot
	comma  rune
	names  []string // of the columns; nil when none were given or came
	header bool     // names come from the device
	begun  bool     // one line has ended, so that the next is whole
}

func newCSV(p *profile.Profile) *csvLines {
	c := &csvLines{slots: slots(p), comma: ',', names: p.Columns, header: p.Header}
	if p.Separator != "" {
		c.comma, _ = utf8.DecodeRuneInString(p.Separator)
	}
	return c
}

func (c *csvLines) read(line []byte, at time.Time, dst []devices.Reading) ([]devices.Reading, error) {
	if !utf8.Valid(line) || bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return dst, errors.New("a line with bytes that are no text")
	}
	rd := csv.NewReader(bytes.NewReader(line))
	rd.Comma, rd.LazyQuotes, rd.FieldsPerRecord = c.comma, true, -1
	cells, err := rd.Read()
	if err != nil {
		return dst, errors.New("damaged CSV")
	}
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	whole := c.begun
	c.begun = true
	switch {
	case c.header && c.isHeader(cells):
		c.names = cells
		return dst, errIgnore
	case c.header && c.names == nil:
		return dst, errors.New("a line before the line of names")
	case !whole && !c.header:
		return dst, errIgnore // its beginning may have been missed, and would look like a number all the same
	case c.names != nil && len(cells) != len(c.names):
		return dst, fmt.Errorf("%d columns instead of %d", len(cells), len(c.names))
	}
	from, bad := len(dst), 0
	for i := range c.slots {
		s := &c.slots[i]
		n, ok := c.index(s.column)
		if !ok || n >= len(cells) {
			return dst[:from], fmt.Errorf("no column %s", s.column)
		}
		if cells[n] == "" {
			continue
		}
		cell := cells[n]
		if c.comma != ',' && s.coding != "string" {
			cell = strings.Replace(cell, ",", ".", 1) // where the decimal comma is used, the separator is another
		}
		r := s.reading(devices.Text(cell), at)
		if r.Quality == devices.Bad {
			bad++
		}
		dst = append(dst, r)
	}
	if bad > 0 && bad == len(dst)-from {
		return dst[:from], errors.New("no value in a line")
	}
	return dst, nil
}

// isHeader says whether all the names the profile asks for are in the line.
func (c *csvLines) isHeader(cells []string) bool {
	for i := range c.slots {
		if _, err := strconv.Atoi(c.slots[i].column); err == nil {
			if _, err := devices.ParseNumber(cells[0]); err == nil {
				return false // columns by number: a line of names begins with none
			}
			continue
		}
		if !slices.Contains(cells, c.slots[i].column) {
			return false
		}
	}
	return true
}

// index finds a column by name, else by number from 1.
func (c *csvLines) index(column string) (int, bool) {
	if i := slices.Index(c.names, column); i >= 0 {
		return i, true
	}
	n, err := strconv.Atoi(column)
	return n - 1, err == nil && n > 0
}
