package node

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"tidegate/gateway/store"
)

// parsers are the types that are written as one word but are none to Go.
var parsers = map[reflect.Type]struct {
	parse func(string) (any, error)
	want  string
}{
	reflect.TypeFor[store.SyncDelay](): {func(s string) (any, error) { return store.ParseSyncDelay(s) }, "a duration such as 5ms, or off"},
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// isScalar says whether values of type t are written as one word.
func isScalar(t reflect.Type) bool {
	if _, ok := parsers[t]; ok || reflect.PointerTo(t).Implements(textType) {
		return true
	}
	switch t.Kind() {
	case reflect.Pointer:
		return isScalar(t.Elem())
	case reflect.String, reflect.Bool, reflect.Float32, reflect.Float64:
		return true
	}
	return t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64
}

// expected says how a value of type t is written.
func expected(t reflect.Type) string {
	if p, ok := parsers[t]; ok {
		return p.want
	}
	switch k := t.Kind(); {
	case t == durationType:
		return "a duration such as 15s or 5m"
	case k == reflect.Pointer:
		return expected(t.Elem())
	case k == reflect.Bool:
		return "true or false"
	case k == reflect.Float32, k == reflect.Float64:
		return "a number"
	case k >= reflect.Int && k <= reflect.Uint64:
		return "a whole number, or a size such as 64KiB"
	case k == reflect.Slice:
		return "a list"
	case k == reflect.String || reflect.PointerTo(t).Implements(textType):
		return "text"
	}
	return "a group of keys"
}

// set parses text into v. quoted says that it was text in the file, too, and not a
// number or truth value.
func set(v reflect.Value, text string, quoted bool) error {
	t := v.Type()
	wrong := fmt.Errorf("is %q, expected %s", text, expected(t))
	if p, ok := parsers[t]; ok {
		x, err := p.parse(text)
		if err != nil {
			return wrong
		}
		v.Set(reflect.ValueOf(x))
		return nil
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			return fmt.Errorf("is %q: %w", text, err)
		}
		return nil
	}
	switch k := t.Kind(); {
	case t == durationType:
		d, err := time.ParseDuration(text)
		if err != nil || d == 0 && text != "0" && text != "0s" {
			return wrong
		}
		v.SetInt(int64(d))
	case k == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		return set(v.Elem(), text, quoted)
	case k == reflect.String:
		v.SetString(text)
	case k == reflect.Bool:
		if text != "true" && text != "false" {
			return wrong
		}
		v.SetBool(text == "true")
	case k == reflect.Float32 || k == reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return wrong
		}
		v.SetFloat(f)
	default:
		n, err := parseSize(text)
		if err != nil {
			return wrong
		}
		if k >= reflect.Uint {
			if n < 0 || v.OverflowUint(uint64(n)) {
				return fmt.Errorf("is %s, which is out of range", text)
			}
			v.SetUint(uint64(n))
			return nil
		}
		if v.OverflowInt(n) {
			return fmt.Errorf("is %s, which is out of range", text)
		}
		v.SetInt(n)
	}
	return nil
}

// parseSize reads a whole number, with a binary unit if there is one.
func parseSize(s string) (int64, error) {
	shift := 0
	for unit, by := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40} {
		if rest, ok := strings.CutSuffix(s, unit); ok {
			s, shift = strings.TrimSpace(rest), by
		}
	}
	base := 10
	if strings.HasPrefix(s, "0x") {
		base = 0 // addresses of I²C are written so
	}
	n, err := strconv.ParseInt(s, base, 64)
	if err == nil && (n<<shift)>>shift != n {
		err = strconv.ErrRange
	}
	return n << shift, err
}
