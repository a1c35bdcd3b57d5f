// Package jsondoc keeps JSON documents as trees whose numbers are exact.
//
// A number stays the text it was written as: 0.1, 1e400 and a 30-digit serial number
// come out as they went in, and are compared by value (10 equals 10.0). An object's
// members stand in the order of their keys, so that two encodings of the same document
// are the same bytes. Trees are never changed: Merge and Diff give new ones that share
// what stayed the same.
//
// Parsing is strict (RFC 8259, UTF-8 only) and bounded in depth and size; the work it
// does grows with the size of its input and nothing else. The package does no I/O and
// knows nothing of what the documents mean.
//
//	doc, err := jsondoc.Parse(payload, jsondoc.Options{MaxSize: 8 << 10})
//	doc = jsondoc.Merge(doc, patch) // a null removes a member
//	out = jsondoc.Append(nil, &doc)
package jsondoc

import (
	"math"
	"sort"
	"strconv"
)

// Kind says what a Value is. The zero Kind is no value at all.
type Kind uint8

// The kinds of JSON values (RFC 8259, 3).
const (
	None Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

var kindNames = [...]string{"nothing", "null", "boolean", "number", "string", "array", "object"}

// String gives the kind's name in one lower-case word.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// Value is one JSON value. The zero Value is no value: it has Kind None and must not be
// encoded. Values are read-only but for Mark.
type Value struct {
	kind  Kind
	flags flags
	depth uint8
	text  string // a number as written, a string decoded, "true" or "false"
	kids  []Member

	// Mark is a note of the owner on a scalar or null. It is no part of the value; it
	// travels with it through Merge and Diff. The shadow service keeps the time of a
	// leaf's last write here.
	Mark int64
}

// Member is a member of an object, or, without a Key, an element of an array.
type Member struct {
	Key   string
	Value Value
}

type flags uint8

const (
	nullBelow   flags = 1 << iota // the value is null or some member or element below is
	nullInArray                   // some array at or below holds a null, at any depth
	escaped                       // a string that needs escapes when it is encoded
)

// MaxDepth is the deepest nesting of containers a Value can have.
const MaxDepth = 200

// NullValue gives null.
func NullValue() Value { return Value{kind: Null, flags: nullBelow} }

// BoolValue gives true or false.
func BoolValue(b bool) Value { return Value{kind: Bool, text: strconv.FormatBool(b)} }

// IntValue gives the number n.
func IntValue(n int64) Value { return Value{kind: Number, text: strconv.FormatInt(n, 10)} }

// StringValue gives the string s, which must be valid UTF-8.
func StringValue(s string) Value {
	v := Value{kind: String, text: s}
	if !plain(s) {
		v.flags = escaped
	}
	return v
}

// ArrayValue gives the array of the values, whose keys are ignored. It keeps the slice.
func ArrayValue(elems []Member) Value {
	v := Value{kind: Array, depth: 1, kids: elems}
	v.takeIn()
	if v.flags&nullBelow != 0 {
		v.flags |= nullInArray
	}
	return v
}

// ObjectValue gives the object of the members; of several with one key the last wins.
// It keeps the slice and puts it in order.
func ObjectValue(members []Member) Value { return ordered(inOrder(members)) }

// ordered is ObjectValue for members that stand in order.
func ordered(members []Member) Value {
	v := Value{kind: Object, depth: 1, kids: members}
	v.takeIn()
	return v
}

// takeIn takes the kids' depth and nulls into account.
func (v *Value) takeIn() {
	for i := range v.kids {
		kid := &v.kids[i].Value
		v.flags |= kid.flags &^ escaped
		if kid.depth >= v.depth {
			v.depth = kid.depth + 1
		}
	}
}

// inOrder sorts members by key and keeps the last of equal ones.
func inOrder(m []Member) []Member {
	i := 1
	for i < len(m) && m[i-1].Key < m[i].Key {
		i++
	}
	if i >= len(m) {
		return m
	}
	if len(m) <= 24 {
		for ; i < len(m); i++ {
			for j := i; j > 0 && m[j].Key < m[j-1].Key; j-- {
				m[j], m[j-1] = m[j-1], m[j]
			}
		}
	} else {
		sort.SliceStable(m, func(a, b int) bool { return m[a].Key < m[b].Key })
	}
	w := 0
	for r := range m {
		if r+1 < len(m) && m[r].Key == m[r+1].Key {
			continue
		}
		if w != r {
			m[w] = m[r]
		}
		w++
	}
	clear(m[w:])
	return m[:w:w]
}

// Kind says what v is; a nil Value is None.
func (v *Value) Kind() Kind {
	if v == nil {
		return None
	}
	return v.kind
}

// Text gives a string's characters, a number as it was written, "true" or "false", and
// nothing for the other kinds.
func (v *Value) Text() string { return v.text }

// Int gives a number that is written as an integer and fits; 1.0 and 1e3 are not.
func (v *Value) Int() (n int64, ok bool) {
	if v.Kind() != Number {
		return 0, false
	}
	n, err := strconv.ParseInt(v.text, 10, 64)
	return n, err == nil
}

// Integer says whether v is a number written without fraction and exponent, of any size.
func (v *Value) Integer() bool {
	if v.Kind() != Number {
		return false
	}
	for i := range len(v.text) {
		if c := v.text[i]; c != '-' && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// Float gives the float64 nearest to a number, an infinity when it is out of range.
func (v *Value) Float() (f float64, ok bool) {
	if v.Kind() != Number {
		return 0, false
	}
	f, err := strconv.ParseFloat(v.text, 64)
	return f, err == nil || math.IsInf(f, 0)
}

// Len gives the number of members or elements.
func (v *Value) Len() int { return len(v.kids) }

// Kids gives the members of an object in the order of their keys, or the elements of an
// array. They are read-only.
func (v *Value) Kids() []Member { return v.kids }

// Get gives the member of an object, nil when there is none or v is no object.
func (v *Value) Get(key string) *Value {
	if v.Kind() != Object {
		return nil
	}
	m := v.kids
	if len(m) <= 8 {
		for i := range m {
			if m[i].Key == key {
				return &m[i].Value
			}
		}
		return nil
	}
	i := sort.Search(len(m), func(i int) bool { return m[i].Key >= key })
	if i < len(m) && m[i].Key == key {
		return &m[i].Value
	}
	return nil
}

// Size gives the length of the compact encoding in bytes, 0 for no value.
func (v *Value) Size() int {
	switch v.kind {
	case None:
		return 0
	case Null:
		return 4
	case String:
		if v.flags&escaped == 0 {
			return len(v.text) + 2
		}
		return stringSize(v.text)
	case Array, Object:
		n := 2
		for i := range v.kids {
			if i > 0 {
				n++
			}
			if v.kind == Object {
				n += stringSize(v.kids[i].Key) + 1
			}
			n += v.kids[i].Value.Size()
		}
		return n
	}
	return len(v.text)
}

// Depth gives how many containers are nested: 0 for a scalar, 1 for {} and [1].
func (v *Value) Depth() int { return int(v.depth) }

// ArrayWithNull says whether some array in v holds a null, directly or further down.
func (v *Value) ArrayWithNull() bool { return v.flags&nullInArray != 0 }
