package devices

import (
	"math"
	"strconv"
)

// AppendJSON appends v to dst as a JSON scalar. Whole numbers are written in full,
// floats in the shortest form that reads back as the same, in the style of
// encoding/json (ECMA-262 number to string).
func (v Value) AppendJSON(dst []byte) []byte {
	switch v.kind {
	case Boolean:
		return strconv.AppendBool(dst, v.num != 0)
	case Integer:
		if v.big {
			return strconv.AppendUint(dst, v.num, 10)
		}
		return strconv.AppendInt(dst, int64(v.num), 10)
	case Number:
		return appendFloat(dst, math.Float64frombits(v.num))
	case String:
		return AppendQuoted(dst, v.str)
	}
	return append(dst, "null"...)
}

func appendFloat(dst []byte, f float64) []byte {
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	from := len(dst)
	dst = strconv.AppendFloat(dst, f, format, -1, 64)
	if n := len(dst); format == 'e' && n-from >= 4 && dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' {
		dst[n-2] = dst[n-1] // e-09 to e-9
		dst = dst[:n-1]
	}
	return dst
}

// AppendQuoted appends s as a JSON string. Unlike encoding/json it leaves <, > and &
// as they are: nothing here is HTML.
func AppendQuoted(dst []byte, s string) []byte {
	plain := true
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] == '"' || s[i] == '\\' || s[i] >= 0x7f {
			plain = false
			break
		}
	}
	if plain {
		dst = append(dst, '"')
		dst = append(dst, s...)
		return append(dst, '"')
	}
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s { // what is not UTF-8 comes as U+FFFD
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, '\\', 'n')
		case r == '\t':
			dst = append(dst, '\\', 't')
		case r < 0x20 || r == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			dst = append(dst, string(r)...)
		}
	}
	return append(dst, '"')
}
