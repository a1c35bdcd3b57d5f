// Package indexquery is the language of fleet indexing: it parses a query and
// says whether a document matches.
//
// It keeps no documents; whoever searches hands them in one by one ([Document]).
// The language is query version 2017-09-30 (developer guide, "Query syntax").
// Geo queries are not part of it.
//
//	q, err := indexquery.Parse("thingTypeName:lamp AND attributes.watt>40 NOT connectivity.connected:true")
//	if q.Match(doc) { … }
//
//	query = and { "OR" and }              and   = unary { ["AND"] unary }
//	unary = ["NOT" | "-"] primary         value = "(" query ")" | range | term
//	primary = "(" query ")" | field ":" value | field (">"|">="|"<"|"<=") number | value
//	range = ("[" | "{") bound "TO" bound ("]" | "}")      bound = term | "*"
//
// Field names are compared as they are, values in any case. A text is split into
// words at white space; a bare term matches one word and may hold '*' and '?', a
// quoted one matches consecutive words. Numbers are compared by value.
package indexquery

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"tidegate/gateway/fault"
)

// Version is the one version of the language.
const Version = "2017-09-30"

// The limits of a query (developer guide, "Query syntax" and quotas).
const (
	MaxLength       = 1000 // characters
	MaxTerms        = 12
	MaxLengthSuffix = 100 // characters of a query in which a term starts with a wildcard
)

// ErrInvalid is in the chain of every error of [Parse]; doors turn it into
// InvalidQueryException.
var ErrInvalid = errors.New("invalid query")

func invalid(format string, args ...any) error {
	return fault.Wrap(fault.Invalid, ErrInvalid, "the query cannot be understood: "+format, args...)
}

// Document is what a query is asked of.
type Document interface {
	// Values gives the values of a field, none when the document lacks it. A
	// field name is as queries spell it, "registry." in front left out.
	Values(field string) []Value
	// Each calls fn for every value that a term without a field looks at, until
	// fn returns false.
	Each(fn func(Value) bool)
}

// Value is an indexed scalar.
type Value struct {
	text   string // in lower case
	number float64
	isNum  bool
}

// Text makes the value of a string.
func Text(s string) Value { return Value{text: strings.ToLower(s)} }

// Attribute makes the value of a registry attribute: a string that is a number,
// too, when it is written as JSON writes one.
func Attribute(s string) Value {
	v := Text(s)
	v.number, v.isNum = jsonNumber(s)
	return v
}

// Number makes the value of a number.
func Number(f float64) Value {
	return Value{text: strconv.FormatFloat(f, 'g', -1, 64), number: f, isNum: true}
}

// Bool makes the value of a boolean.
func Bool(b bool) Value { return Value{text: strconv.FormatBool(b)} }

// jsonNumber reads s when it is a number by the grammar of JSON.
func jsonNumber(s string) (float64, bool) {
	d := strings.TrimPrefix(s, "-")
	if d == "" || d[0] < '0' || d[0] > '9' || len(d) > 1 && d[0] == '0' && d[1] >= '0' && d[1] <= '9' ||
		strings.ContainsAny(d, "xX_pPnN") || strings.HasSuffix(d, ".") || strings.Contains(d, ".e") || strings.Contains(d, ".E") {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

// Doc is a Document in a map, for sources that are flattened in advance.
type Doc map[string][]Value

// Values gives the values of a field.
func (d Doc) Values(field string) []Value { return d[field] }

// Each calls fn for every value, those of connectivity left out: a term without a field is
// looked for in the registry and in shadows.
func (d Doc) Each(fn func(Value) bool) {
	for field, vs := range d {
		if strings.HasPrefix(field, "connectivity.") {
			continue
		}
		for _, v := range vs {
			if !fn(v) {
				return
			}
		}
	}
}

// AddJSON adds a decoded JSON value under a field name: the leaves of objects
// under dotted names, the elements of an array of scalars as values of one
// field. Nulls and arrays that hold an object or an array are not indexed.
func (d Doc) AddJSON(field string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			d.AddJSON(field+"."+k, e)
		}
	case []any:
		values := make([]Value, 0, len(v))
		for _, e := range v {
			switch e.(type) {
			case map[string]any, []any:
				return
			}
			if s, ok := scalar(e); ok {
				values = append(values, s)
			}
		}
		if len(values) > 0 {
			d[field] = append(d[field], values...)
		}
	default:
		if s, ok := scalar(v); ok {
			d[field] = append(d[field], s)
		}
	}
}

func scalar(v any) (Value, bool) {
	switch v := v.(type) {
	case string:
		return Text(v), true
	case bool:
		return Bool(v), true
	case float64:
		return Number(v), true
	case interface{ Float64() (float64, error) }: // json.Number
		f, err := v.Float64()
		return Number(f), err == nil
	}
	return Value{}, false
}

// Query is a parsed query. It is immutable and safe for concurrent use.
type Query struct {
	root node
	text string
}

// String gives the query as it was written.
func (q *Query) String() string { return q.text }

// Match says whether the document matches.
func (q *Query) Match(d Document) bool { return q.root.match(d) }

// Parse reads a query. Errors are fault.Invalid with [ErrInvalid] in the chain.
func Parse(text string) (*Query, error) {
	if n := utf8.RuneCountInString(text); n > MaxLength {
		return nil, invalid("it has %d characters, at most %d are allowed", n, MaxLength)
	}
	if !utf8.ValidString(text) {
		return nil, invalid("it is not valid UTF-8")
	}
	p := &parser{text: text}
	p.space()
	if p.pos == len(p.text) {
		return nil, invalid("it is empty")
	}
	root, err := p.or("")
	if err != nil {
		return nil, err
	}
	if p.pos < len(p.text) {
		return nil, invalid("%q stands where nothing more is expected", clip(p.text[p.pos:]))
	}
	if p.terms > MaxTerms {
		return nil, invalid("it has %d terms, at most %d are allowed", p.terms, MaxTerms)
	}
	if p.leading > 1 {
		return nil, invalid("more than one term starts with a wildcard")
	}
	if p.leading == 1 && utf8.RuneCountInString(text) > MaxLengthSuffix {
		return nil, invalid("with a term that starts with a wildcard it may have at most %d characters", MaxLengthSuffix)
	}
	return &Query{root: root, text: text}, nil
}

// clip keeps a quoted piece of the query short.
func clip(s string) string {
	if len(s) > 30 {
		return strings.ToValidUTF8(s[:30], "") + "…"
	}
	return s
}
