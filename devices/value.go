package devices

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Kind says what a Value is.
type Kind uint8

// The kinds.
const (
	None    Kind = iota // no value
	Boolean             // true or false
	Integer             // a whole number from -2⁶³ to 2⁶⁴-1
	Number              // a finite number
	String              // UTF-8 text
)

// String gives the kind as one word.
func (k Kind) String() string {
	return [...]string{"none", "bool", "int", "float", "string"}[min(k, String)]
}

func (k Kind) article() string {
	return [...]string{"nothing", "true or false", "a whole number", "a number", "a string"}[min(k, String)]
}

// Value is a boolean, a number or a text. Whole numbers are exact over the whole range
// of both 64-bit integers; other numbers are the float64 nearest to the decimal that was
// measured, so that 215 tenths print as 21.5. The zero Value is no value. Values are
// compared with ==, or Equal across kinds.
type Value struct {
	kind Kind
	big  bool   // num is a uint64 above MaxInt64
	num  uint64 // bool, int64, uint64 or float64 bits
	str  string
}

// Bool makes a boolean.
func Bool(b bool) Value {
	v := Value{kind: Boolean}
	if b {
		v.num = 1
	}
	return v
}

// Int makes a whole number.
func Int(i int64) Value { return Value{kind: Integer, num: uint64(i)} }

// Uint makes a whole number.
func Uint(u uint64) Value { return Value{kind: Integer, big: u > math.MaxInt64, num: u} }

// Float makes a number; what is not finite has no value, and -0 is 0.
func Float(f float64) Value {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return Value{}
	}
	if f == 0 {
		f = 0 // drops the sign, so that == holds
	}
	return Value{kind: Number, num: math.Float64bits(f)}
}

// Text makes a text; bytes that are not UTF-8 become U+FFFD.
func Text(s string) Value {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return Value{kind: String, str: s}
}

// Rat makes the number r: whole when r is and fits, else the nearest float64.
func Rat(r *big.Rat) Value {
	if r.IsInt() {
		if n := r.Num(); n.IsInt64() {
			return Int(n.Int64())
		} else if n.IsUint64() {
			return Uint(n.Uint64())
		}
	}
	f, _ := r.Float64()
	return Float(f)
}

// Of makes a Value of a decoded YAML or JSON scalar: bool, any integer or float type,
// string, or something with String and Int64 like json.Number.
func Of(x any) (Value, error) {
	switch x := x.(type) {
	case Value:
		return x, nil
	case bool:
		return Bool(x), nil
	case int:
		return Int(int64(x)), nil
	case int64:
		return Int(x), nil
	case uint64:
		return Uint(x), nil
	case float32:
		return Float(float64(x)), nil
	case float64:
		return Float(x), nil
	case string:
		return Text(x), nil
	case interface {
		String() string
		Int64() (int64, error)
	}:
		return ParseNumber(x.String())
	}
	return Value{}, fmt.Errorf("%w: %v is no boolean, number or text", ErrValue, x)
}

// ParseNumber reads a decimal number: whole when it has neither point nor exponent and
// fits, else a float. Beyond what JSON allows it takes what devices send: +1, .5, 007.
func ParseNumber(s string) (Value, error) {
	if s == "" || len(s) > 400 || strings.ContainsAny(s, "xXpP_nNyY") {
		return Value{}, fmt.Errorf("%w: %.40q is no number", ErrValue, s)
	}
	if !strings.ContainsAny(s, ".eE") {
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return Int(i), nil
		}
		if u, err := strconv.ParseUint(s, 10, 64); err == nil {
			return Uint(u), nil
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return Value{}, fmt.Errorf("%w: %.40q is no number", ErrValue, s)
	}
	return Float(f), nil
}

// ParseJSON reads a JSON scalar; null is the zero Value. Objects and arrays are ErrValue.
func ParseJSON(b []byte) (Value, error) {
	s := strings.TrimSpace(string(b))
	switch {
	case !json.Valid([]byte(s)):
		return Value{}, fmt.Errorf("%w: %.40q is no JSON", ErrValue, s)
	case s == "null":
		return Value{}, nil
	case s == "true", s == "false":
		return Bool(s == "true"), nil
	case s != "" && s[0] == '"':
		var t string
		if err := json.Unmarshal([]byte(s), &t); err != nil {
			return Value{}, fmt.Errorf("%w: %.40q is no JSON string", ErrValue, s)
		}
		return Text(t), nil
	}
	return ParseNumber(s)
}

// Kind says what v is.
func (v Value) Kind() Kind { return v.kind }

// IsNone says whether v is no value.
func (v Value) IsNone() bool { return v.kind == None }

// Bool gives a boolean's value.
func (v Value) Bool() (b, ok bool) { return v.num != 0, v.kind == Boolean }

// Int64 gives a whole number that fits.
func (v Value) Int64() (int64, bool) { return int64(v.num), v.kind == Integer && !v.big }

// Uint64 gives a whole number that is not negative.
func (v Value) Uint64() (uint64, bool) {
	return v.num, v.kind == Integer && (v.big || int64(v.num) >= 0)
}

// Float64 gives a number of either kind, rounded where it must be.
func (v Value) Float64() (float64, bool) {
	switch {
	case v.kind == Number:
		return math.Float64frombits(v.num), true
	case v.kind == Integer && v.big:
		return float64(v.num), true
	case v.kind == Integer:
		return float64(int64(v.num)), true
	}
	return 0, false
}

// Text gives a text's value.
func (v Value) Text() (string, bool) { return v.str, v.kind == String }

// Rat gives a number of either kind: a float as the shortest decimal that names it, so
// that 21.5 is 43/2 and 0.1 is 1/10.
func (v Value) Rat() (*big.Rat, bool) {
	switch v.kind {
	case Integer:
		if v.big {
			return new(big.Rat).SetFrac(new(big.Int).SetUint64(v.num), big.NewInt(1)), true
		}
		return new(big.Rat).SetInt64(int64(v.num)), true
	case Number:
		return new(big.Rat).SetString(strconv.FormatFloat(math.Float64frombits(v.num), 'g', -1, 64))
	}
	return nil, false
}

var errKind = errors.New("of another kind")

// As gives v as a value of kind k where that loses nothing: 5.0 as the whole number 5, 5
// as a float. Booleans and texts are never made from anything else.
func (v Value) As(k Kind) (Value, error) {
	if v.kind == k {
		return v, nil
	}
	switch {
	case k == Number && v.kind == Integer:
		r, _ := v.Rat()
		if f, exact := r.Float64(); exact {
			return Float(f), nil
		}
	case k == Integer && v.kind == Number:
		if r, _ := v.Rat(); r.IsInt() {
			if w := Rat(r); w.kind == Integer {
				return w, nil
			}
		}
	}
	return Value{}, fmt.Errorf("%w: %s", errKind, v)
}

// Equal says whether v and w mean the same: numbers by their value, whatever their kind.
func (v Value) Equal(w Value) bool {
	if v == w {
		return true
	}
	a, okA := v.Rat()
	b, okB := w.Rat()
	return okA && okB && a.Cmp(b) == 0
}

// Compare orders numbers by value, texts by bytes and false before true; values of
// different sorts by their kind.
func (v Value) Compare(w Value) int {
	if a, ok := v.Rat(); ok {
		if b, ok := w.Rat(); ok {
			return a.Cmp(b)
		}
	}
	switch {
	case v.kind != w.kind:
		return int(v.kind) - int(w.kind)
	case v.kind == String:
		return strings.Compare(v.str, w.str)
	}
	return int(int64(v.num) - int64(w.num))
}

// String gives v as JSON, for people and logs.
func (v Value) String() string { return string(v.AppendJSON(nil)) }

// MarshalJSON gives v as a JSON scalar, null for no value.
func (v Value) MarshalJSON() ([]byte, error) { return v.AppendJSON(nil), nil }

// UnmarshalJSON reads a JSON scalar.
func (v *Value) UnmarshalJSON(b []byte) (err error) {
	*v, err = ParseJSON(b)
	return err
}
