package iotsql

import (
	"math/big"
	"strings"
)

// kind is a data type of the language (§2.1). Int and Decimal are both numeric; the
// number says which.
type kind uint8

const (
	undefined kind = iota // absence; what every invalid call gives
	null
	boolean
	numeric
	text
	array
	object
)

// value is one value of the language. It is passed by value and never changed; what does
// not fit stands in a box. Texts and containers may be part of the payload, so a value
// is good no longer than the Input it came from.
type value struct {
	kind  kind
	dec   bool  // numeric: a Decimal
	flag  bool  // boolean
	scale int32 // numeric
	coef  int64 // numeric: the coefficient; a container in a document: its node
	str   string
	box   *box
}

// box is the part of a value that is a pointer: a big coefficient, the document a
// container is part of, or the members of a container made here.
type box struct {
	big     *big.Int
	doc     *document
	list    []value
	members []member
}

// member is a key and its value in an object made here. Keys are unique.
type member struct {
	key string
	val value
}

var undef = value{}

func nullValue() value              { return value{kind: null} }
func boolValue(b bool) value        { return value{kind: boolean, flag: b} }
func textValue(s string) value      { return value{kind: text, str: s} }
func intValue(i int64) value        { return value{kind: numeric, coef: i} }
func arrayValue(list []value) value { return value{kind: array, box: &box{list: list}} }

func objectValue(members []member) value { return value{kind: object, box: &box{members: members}} }

func numberValue(n number) value {
	v := value{kind: numeric, coef: n.coef, scale: n.scale, dec: n.dec}
	if n.big != nil {
		v.box = &box{big: n.big}
	}
	return v
}

// resultValue is numberValue for what arithmetic says is not ok: Undefined.
func resultValue(n number, ok bool) value {
	if !ok {
		return undef
	}
	return numberValue(n)
}

// number gives the number of a numeric value.
func (v value) number() number {
	n := number{coef: v.coef, scale: v.scale, dec: v.dec}
	if v.box != nil {
		n.big = v.box.big
	}
	return n
}

// isTrue says whether v is the Boolean true, as WHERE asks.
func (v value) isTrue() bool { return v.kind == boolean && v.flag }

// toNumber converts implicitly (§3): numbers as they are and the strings that look like
// one, which become Decimals. Nothing else is ok.
func (v value) toNumber() (number, bool) {
	switch v.kind {
	case numeric:
		return v.number(), true
	case text:
		if !looksNumeric(v.str) {
			return number{}, false
		}
		n, ok := parseNumber(v.str)
		n.dec = true
		return n, ok
	}
	return number{}, false
}

// looksNumeric is the guide's ^-?\d+(\.\d+)?((?i)E-?\d+)?$.
func looksNumeric(s string) bool {
	i := 0
	if i < len(s) && s[i] == '-' {
		i++
	}
	end := digitsEnd(s, i)
	if end == i {
		return false
	}
	if i = end; i < len(s) && s[i] == '.' {
		if end = digitsEnd(s, i+1); end == i+1 {
			return false
		}
		i = end
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		if i++; i < len(s) && s[i] == '-' {
			i++
		}
		if end = digitsEnd(s, i); end == i {
			return false
		}
		i = end
	}
	return i == len(s)
}

// toBool converts for AND, OR and NOT: Booleans, and "true" and "false" in any case.
func (v value) toBool() (b, ok bool) {
	switch v.kind {
	case boolean:
		return v.flag, true
	case text:
		if strings.EqualFold(v.str, "true") {
			return true, true
		}
		return false, strings.EqualFold(v.str, "false")
	}
	return false, false
}

// toText converts implicitly to a String (§3). Null and Undefined have no text.
func (in *Input) toText(v value) (string, bool) {
	switch v.kind {
	case text:
		return v.str, true
	case undefined, null:
		return "", false
	case boolean:
		if v.flag {
			return "true", true
		}
		return "false", true
	}
	return string(in.appendJSON(nil, v, 0)), true
}

// appendJSON writes v as compact JSON. Undefined members are left out; v itself must not
// be Undefined. Past the limits of size and depth it notes the error and stops.
func (in *Input) appendJSON(dst []byte, v value, depth int) []byte {
	if depth > maxNesting {
		in.fail(errTooDeep)
		return dst
	}
	if !in.room(len(dst)) {
		return dst
	}
	switch v.kind {
	case null, undefined:
		return append(dst, "null"...)
	case boolean:
		if v.flag {
			return append(dst, "true"...)
		}
		return append(dst, "false"...)
	case numeric:
		n := v.number()
		if in.whole {
			n = n.whole()
		}
		return n.append(dst)
	case text:
		return appendString(dst, v.str)
	}
	if v.box.doc != nil {
		return v.box.doc.appendNode(dst, uint32(v.coef), in.whole)
	}
	first := true
	comma := func() {
		if !first {
			dst = append(dst, ',')
		}
		first = false
	}
	if v.kind == array {
		dst = append(dst, '[')
		for _, e := range v.box.list {
			if e.kind != undefined {
				comma()
				dst = in.appendJSON(dst, e, depth+1)
			}
		}
		return append(dst, ']')
	}
	dst = append(dst, '{')
	for _, m := range v.box.members {
		if m.val.kind != undefined {
			comma()
			dst = in.appendJSON(append(appendString(dst, m.key), ':'), m.val, depth+1)
		}
	}
	return append(dst, '}')
}

// field gives a member of an object, Undefined for anything else.
func (in *Input) field(v value, key string) value {
	if v.kind != object {
		return undef
	}
	if d := v.box.doc; d != nil {
		if i := d.member(uint32(v.coef), key); i != 0 {
			return d.load(i, in.whole)
		}
		return undef
	}
	for i := range v.box.members {
		if v.box.members[i].key == key {
			return v.box.members[i].val
		}
	}
	return undef
}

// index gives element i of an array, Undefined outside it.
func (in *Input) index(v value, i int64) value {
	if i < 0 {
		return undef
	}
	if d := v.box.doc; d != nil {
		end := d.nodes[v.coef].next
		for k := uint32(v.coef) + 1; k < end; k = d.nodes[k].next {
			if i == 0 {
				return d.load(k, in.whole)
			}
			i--
		}
		return undef
	}
	if i < int64(len(v.box.list)) {
		return v.box.list[i]
	}
	return undef
}

// elements gives the elements of an array.
func (in *Input) elements(v value) []value {
	d := v.box.doc
	if d == nil {
		return v.box.list
	}
	var list []value
	for k := uint32(v.coef) + 1; k < d.nodes[v.coef].next; k = d.nodes[k].next {
		list = append(list, d.load(k, in.whole))
	}
	in.spend(len(list))
	return list
}

// members gives the members of an object, each key once: a key that the payload repeats
// has its last value.
func (in *Input) members(v value) []member {
	d := v.box.doc
	if d == nil {
		return v.box.members
	}
	var b objectBuilder
	for k := uint32(v.coef) + 1; k < d.nodes[v.coef].next; k = d.nodes[k].next {
		b.set(d.key(k), d.load(k, in.whole))
	}
	in.spend(len(b.members))
	return b.members
}

// objectBuilder collects members; a key that is there already keeps its place and takes
// the new value.
type objectBuilder struct {
	members []member
	at      map[string]int // built when there are many
}

const fewMembers = 16

func (b *objectBuilder) find(key string) int {
	if b.at != nil {
		if i, ok := b.at[key]; ok {
			return i
		}
		return -1
	}
	for i := range b.members {
		if b.members[i].key == key {
			return i
		}
	}
	return -1
}

func (b *objectBuilder) set(key string, v value) {
	if v.kind == undefined {
		return
	}
	if i := b.find(key); i >= 0 {
		b.members[i].val = v
		return
	}
	b.members = append(b.members, member{key, v})
	switch {
	case b.at != nil:
		b.at[key] = len(b.members) - 1
	case len(b.members) > fewMembers:
		b.at = make(map[string]int, 2*len(b.members))
		for i := range b.members {
			b.at[b.members[i].key] = i
		}
	}
}

// equal is the language's `=` for two values that are not Undefined: no coercion, numbers
// by value, arrays in order, objects in any order.
func (in *Input) equal(a, b value, depth int) bool {
	if a.kind != b.kind {
		return false
	}
	switch a.kind {
	case null:
		return true
	case boolean:
		return a.flag == b.flag
	case numeric:
		return cmp(a.number(), b.number()) == 0
	case text:
		return a.str == b.str
	}
	if depth > maxNesting || !in.spend(1) {
		in.fail(errTooDeep)
		return false
	}
	if a.kind == array {
		x, y := in.elements(a), in.elements(b)
		if len(x) != len(y) {
			return false
		}
		for i := range x {
			if !in.equal(x[i], y[i], depth+1) {
				return false
			}
		}
		return true
	}
	x, y := objectBuilder{members: in.members(a)}, in.members(b)
	if len(x.members) != len(y) {
		return false
	}
	if len(y) > fewMembers {
		x.at = make(map[string]int, len(y))
		for i := range x.members {
			x.at[x.members[i].key] = i
		}
	}
	for _, m := range y {
		i := x.find(m.key)
		if i < 0 || !in.equal(x.members[i].val, m.val, depth+1) {
			return false
		}
	}
	return true
}
