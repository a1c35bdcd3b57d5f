package jsondoc

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"
)

// ErrCorrupt is what DecodeBinary finds wrong with bytes that AppendBinary did not make.
var ErrCorrupt = errors.New("jsondoc: corrupt binary document")

// The binary form is for keeping documents with their marks. A value is
//
//	one byte     what it is: a Kind, or 7 for true
//	scalar       uvarint length and text (number, string), then its Mark
//	             less the base as a varint
//	container    uvarint count, then the members in order: for an object the key
//	             as uvarint length and text, and then the value
const tagTrue = 7

// AppendBinary appends v with its marks, which cost least where they are near base.
func AppendBinary(b []byte, v *Value, base int64) []byte {
	switch v.kind {
	case Null:
		b = append(b, byte(Null))
	case Bool:
		if v.text == "true" {
			b = append(b, tagTrue)
		} else {
			b = append(b, byte(Bool))
		}
	case Number, String:
		b = appendText(append(b, byte(v.kind)), v.text)
	case Array, Object:
		b = binary.AppendUvarint(append(b, byte(v.kind)), uint64(len(v.kids)))
		for i := range v.kids {
			if v.kind == Object {
				b = appendText(b, v.kids[i].Key)
			}
			b = AppendBinary(b, &v.kids[i].Value, base)
		}
		return b
	default:
		panic("BUG: jsondoc: the zero Value has no encoding")
	}
	return binary.AppendVarint(b, v.Mark-base)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// DecodeBinary reads a value that AppendBinary wrote with the same base and gives what
// follows it. The value aliases s. ErrCorrupt is the only error.
func DecodeBinary(s string, base int64) (v Value, rest string, err error) {
	return decode(nil, s, base)
}

func decode(a *Arena, s string, base int64) (v Value, rest string, err error) {
	if a == nil {
		a = &Arena{chunk: make([]Member, 0, min(firstChunk, len(s)/8))}
	}
	d := decoder{s: s, base: base, arena: a}
	if !d.value(&v, MaxDepth) {
		return Value{}, "", ErrCorrupt
	}
	return v, d.s, nil
}

type decoder struct {
	s     string
	base  int64
	arena *Arena
}

func (d *decoder) uvarint() (uint64, bool) {
	if len(d.s) > 0 && d.s[0] < 0x80 {
		n := uint64(d.s[0])
		d.s = d.s[1:]
		return n, true
	}
	var n uint64
	for i := 0; i < len(d.s) && i < binary.MaxVarintLen64; i++ {
		c := d.s[i]
		n |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			d.s = d.s[i+1:]
			return n, i < 9 || c <= 1
		}
	}
	return 0, false
}

func (d *decoder) text() (string, bool) {
	n, ok := d.uvarint()
	if !ok || n > uint64(len(d.s)) {
		return "", false
	}
	t := d.s[:n]
	d.s = d.s[n:]
	for i := range len(t) {
		if t[i] >= utf8.RuneSelf {
			return t, utf8.ValidString(t)
		}
	}
	return t, true
}

func (d *decoder) value(v *Value, room int) bool {
	if d.s == "" {
		return false
	}
	tag := d.s[0]
	d.s = d.s[1:]
	switch tag {
	case byte(Null):
		*v = NullValue()
	case byte(Bool), tagTrue:
		*v = BoolValue(tag == tagTrue)
	case byte(Number):
		t, ok := d.text()
		if !ok || t == "" || t[0] != '-' && (t[0] < '0' || t[0] > '9') {
			return false
		}
		if n, wrong := number(t); wrong != "" || n != len(t) {
			return false
		}
		*v = Value{kind: Number, text: t}
	case byte(String):
		t, ok := d.text()
		if !ok {
			return false
		}
		*v = StringValue(t)
	case byte(Array), byte(Object):
		return room > 0 && d.container(v, Kind(tag), room-1)
	default:
		return false
	}
	n, ok := d.uvarint()
	v.Mark = d.base + (int64(n>>1) ^ -int64(n&1))
	return ok
}

func (d *decoder) container(v *Value, kind Kind, room int) bool {
	n, ok := d.uvarint()
	if !ok || n > uint64(len(d.s)) { // every member takes a byte at least
		return false
	}
	kids := d.arena.take(int(n))[:n]
	for i := range kids {
		if kind == Object {
			if kids[i].Key, ok = d.text(); !ok || i > 0 && kids[i].Key <= kids[i-1].Key {
				return false
			}
		}
		if !d.value(&kids[i].Value, room) {
			return false
		}
	}
	if kind == Object {
		*v = ordered(kids)
	} else {
		*v = ArrayValue(kids)
	}
	return true
}
