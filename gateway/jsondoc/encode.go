package jsondoc

// Append appends the compact encoding of v: no white space, members in the order of
// their keys, numbers as they were written, and in strings nothing escaped that need
// not be.
func Append(b []byte, v *Value) []byte {
	switch v.kind {
	case Null:
		return append(b, "null"...)
	case Bool, Number:
		return append(b, v.text...)
	case String:
		if v.flags&escaped == 0 {
			b = append(b, '"')
			b = append(b, v.text...)
			return append(b, '"')
		}
		return AppendString(b, v.text)
	case Array:
		b = append(b, '[')
		for i := range v.kids {
			if i > 0 {
				b = append(b, ',')
			}
			b = Append(b, &v.kids[i].Value)
		}
		return append(b, ']')
	case Object:
		b = append(b, '{')
		for i := range v.kids {
			if i > 0 {
				b = append(b, ',')
			}
			b = AppendString(b, v.kids[i].Key)
			b = append(b, ':')
			b = Append(b, &v.kids[i].Value)
		}
		return append(b, '}')
	}
	panic("BUG: jsondoc: the zero Value has no encoding")
}

// AppendLeaves appends a document with the shape of v in which leaf stands for every
// scalar and null.
func AppendLeaves(b []byte, v *Value, leaf func(b []byte, v *Value) []byte) []byte {
	open, end := byte('['), byte(']')
	switch v.kind {
	case Object:
		open, end = '{', '}'
	case Array:
	default:
		return leaf(b, v)
	}
	b = append(b, open)
	for i := range v.kids {
		if i > 0 {
			b = append(b, ',')
		}
		if v.kind == Object {
			b = AppendString(b, v.kids[i].Key)
			b = append(b, ':')
		}
		b = AppendLeaves(b, &v.kids[i].Value, leaf)
	}
	return append(b, end)
}

const hexDigits = "0123456789abcdef"

// AppendString appends s, which must be valid UTF-8, as a JSON string.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if extra[c] == 0 {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, '\\', 'b')
		case '\f':
			b = append(b, '\\', 'f')
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

// extra says how many bytes more than itself a byte takes inside a JSON string.
var extra = func() (t [256]uint8) {
	for c := range 0x20 {
		t[c] = 5
	}
	for _, c := range "\"\\\b\f\n\r\t" {
		t[c] = 1
	}
	return t
}()

// plain says whether nothing in s needs an escape.
func plain(s string) bool {
	for i := range len(s) {
		if extra[s[i]] != 0 {
			return false
		}
	}
	return true
}

// stringSize gives the length of what AppendString appends.
func stringSize(s string) int {
	n := len(s) + 2
	for i := range len(s) {
		n += int(extra[s[i]])
	}
	return n
}
