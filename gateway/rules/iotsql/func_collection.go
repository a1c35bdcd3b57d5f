package iotsql

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

func isNull(_ *Input, args []value) value { return boolValue(args[0].kind == null) }

func isUndefined(_ *Input, args []value) value { return boolValue(args[0].kind == undefined) }

// get takes an element of an array, a character of a String, or a member of an object,
// whose key must be a String.
func get(in *Input, args []value) value {
	coll, k := args[0], args[1]
	switch coll.kind {
	case object:
		if k.kind != text {
			return undef
		}
		return in.field(coll, k.str)
	case array, text:
		n, ok := k.toNumber()
		if !ok {
			return undef
		}
		i := n.clamp(-1, 1<<40)
		if coll.kind == array {
			return in.index(coll, i)
		}
		if i < 0 || i >= int64(len(coll.str)) {
			return undef
		}
		at := runeOffset(coll.str, i)
		if at == len(coll.str) {
			return undef
		}
		_, size := utf8.DecodeRuneInString(coll.str[at:])
		return textValue(coll.str[at : at+size])
	}
	return undef
}

// maxTransform bounds what transform() may give, in bytes of JSON.
const maxTransform = 128 << 10

// transform adds the members of an object to each object of an array. Where both have a
// key the added one counts. (The guide does not say.)
func transform(in *Input, args []value) value {
	mode, attributes, list := args[0], args[1], args[2]
	if mode.kind != text || mode.str != "enrichArray" || attributes.kind != object || list.kind != array {
		return undef
	}
	added := in.members(attributes)
	elements := in.elements(list)
	if !in.spend(len(elements) * (1 + len(added))) {
		return undef
	}
	out := make([]value, len(elements))
	for i, e := range elements {
		if e.kind != object {
			out[i] = e
			continue
		}
		var b objectBuilder
		for _, m := range in.members(e) {
			b.set(m.key, m.val)
		}
		for _, m := range added {
			b.set(m.key, m.val)
		}
		out[i] = objectValue(b.members)
	}
	v := arrayValue(out)
	size := len(in.appendJSON(nil, v, 0))
	if size > maxTransform || !in.grow(size) {
		return undef
	}
	return v
}

// rawOr gives the text of an argument: for * the whole payload as it came.
func rawOr(t *term, arg expr) func(in *Input) (string, bool) {
	if t.op == opStar {
		return func(in *Input) (string, bool) { return string(in.Payload), true }
	}
	return func(in *Input) (string, bool) { return in.toText(arg(in)) }
}

func isBase64(v value) bool { return v.kind == text && v.str == "base64" }

func encodeTerm(_ *compiler, t *term, args []expr) expr {
	raw, scheme := rawOr(t.args[0], args[0]), args[1]
	return func(in *Input) value {
		s, ok := raw(in)
		if !ok || !isBase64(scheme(in)) || !in.room(2*len(s)) {
			return undef
		}
		return in.built(base64.StdEncoding.EncodeToString([]byte(s)))
	}
}

// decodeTerm is decode() of Base64. What is JSON becomes its value, other text a String;
// what is no Base64 is Null.
func decodeTerm(_ *compiler, t *term, args []expr) expr {
	if len(args) != 2 {
		return nil
	}
	raw, scheme := rawOr(t.args[0], args[0]), args[1]
	return func(in *Input) value {
		s, ok := raw(in)
		if !ok || !isBase64(scheme(in)) {
			return undef
		}
		b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
		if err != nil {
			return nullValue()
		}
		if !in.grow(len(b)) || !in.spend(1) {
			return undef
		}
		var d document
		if plain := strings.ToValidUTF8(string(b), "\uFFFD"); !d.parse(plain) {
			return textValue(plain)
		}
		return d.load(0, in.whole)
	}
}
