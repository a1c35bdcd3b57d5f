package node

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// hidden are keys that a room's Config has and the configuration does not: the node
// sets them, or they stand elsewhere.
var hidden = map[string]bool{"store.dir": true, "broker.limits": true}

// fieldName is a field's key: its yaml tag, or its name in snake case. What only
// code can set (functions, loggers, key material) has none.
func fieldName(f reflect.StructField) (string, bool) {
	tag, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	switch {
	case tag == "-" || !f.IsExported():
		return "", false
	case tag != "":
		return tag, true
	}
	switch t := f.Type; {
	case t.Kind() == reflect.Func, t.Kind() == reflect.Interface, t.Kind() == reflect.Chan:
		return "", false
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct:
		return "", false
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return "", false
	}
	return snake(f.Name), true
}

// snake writes KeepAliveMax as keep_alive_max and ClientID as client_id.
func snake(s string) string {
	s = strings.NewReplacer("QoS", "Qos", "IDs", "Ids", "URLs", "Urls").Replace(s)
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		upper := c >= 'A' && c <= 'Z'
		if upper && i > 0 && (s[i-1] < 'A' || s[i-1] > 'Z' || i+1 < len(s) && s[i+1] >= 'a' && s[i+1] <= 'z') {
			b.WriteByte('_')
		}
		b.WriteByte(c | map[bool]byte{true: 0x20}[upper])
	}
	return b.String()
}

// fields calls fn for every key that the struct v has at path, with the value behind
// it. The fields of an embedded struct count as v's own.
func fields(path string, v reflect.Value, fn func(name string, f reflect.Value)) {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		if sf.Anonymous && sf.Type.Kind() == reflect.Struct {
			fields(path, v.Field(i), fn)
			continue
		}
		if name, ok := fieldName(sf); ok && !hidden[join(path, name)] {
			fn(name, v.Field(i))
		}
	}
}

func field(path string, v reflect.Value, key string) (found reflect.Value, ok bool) {
	fields(path, v, func(name string, f reflect.Value) {
		if name == key {
			found, ok = f, true
		}
	})
	return found, ok
}

func keys(path string, v reflect.Value) []string {
	var ks []string
	fields(path, v, func(name string, _ reflect.Value) { ks = append(ks, name) })
	slices.Sort(ks)
	return ks
}

func unknown(key string, known []string) string {
	best, at := "", 3
	for _, k := range known {
		if d := distance(key, k); d < at {
			best, at = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("there is no such key; did you mean %s?", best)
	}
	return "there is no such key; expected one of " + strings.Join(known, ", ")
}

// distance is how many letters must change to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diag
			if a[i] != b[j] {
				d = 1 + min(diag, row[j], row[j+1])
			}
			diag, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}
