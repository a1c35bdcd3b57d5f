package iotsql

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"

	"tidegate/gateway/jsondoc"
)

// maxDepth is the deepest nesting of a JSON document; a deeper one counts as no JSON.
const maxDepth = 200

// maxDocument is the largest text that is read as JSON, in bytes.
const maxDocument = 16 << 20

// node is one JSON value of a document, located but not copied. A container's children
// follow it; next skips them. So a document is one flat slice, which is reused for the
// next message.
type node struct {
	kind             kind
	escaped          bool   // a string with escapes in it
	keyEscaped       bool   // an object member whose key has escapes in it
	start, end       uint32 // the value's text; of a string without the quotes
	keyStart, keyEnd uint32 // the member's key without the quotes
	next             uint32 // the node behind this one and all below it
}

// document is a strictly parsed JSON text (RFC 8259, UTF-8 only).
//
// Parsing is our own rather than a library's because a rule must know for certain
// whether a payload is JSON, wants its numbers exact, and copies most of what it
// selects unchanged: one pass that checks everything and notes where things stand.
type document struct {
	text  string
	nodes []node
	box   box
}

// parse reads text, which must stay as it is while the document is used. It is false
// for anything that is not one JSON value.
func (d *document) parse(text string) bool {
	d.text, d.nodes = text, d.nodes[:0]
	d.box.doc = d
	if len(text) > maxDocument {
		return false
	}
	p := jsonParser{s: text, nodes: d.nodes}
	i := p.space(0)
	i = p.value(i, 0, 0, false, 0)
	d.nodes = p.nodes
	if i < 0 || p.space(i) != len(text) {
		d.nodes = d.nodes[:0]
		return false
	}
	return true
}

type jsonParser struct {
	s     string
	nodes []node
}

func (p *jsonParser) space(i int) int {
	for i < len(p.s) && p.s[i] <= ' ' && (p.s[i] == ' ' || p.s[i] == '\n' || p.s[i] == '\r' || p.s[i] == '\t') {
		i++
	}
	return i
}

// value parses the value at i and gives where it ends, -1 when there is none.
func (p *jsonParser) value(i int, keyStart, keyEnd int, keyEscaped bool, depth int) int {
	s := p.s
	if i >= len(s) {
		return -1
	}
	at := len(p.nodes)
	p.nodes = append(p.nodes, node{start: uint32(i), keyStart: uint32(keyStart), keyEnd: uint32(keyEnd), keyEscaped: keyEscaped, next: uint32(at + 1)})
	switch c := s[i]; c {
	case '"':
		end, escaped := p.text(i + 1)
		if end < 0 {
			return -1
		}
		n := &p.nodes[at]
		n.kind, n.start, n.end, n.escaped = text, uint32(i+1), uint32(end), escaped
		return end + 1
	case '{', '[':
		if depth == maxDepth {
			return -1
		}
		if c == '{' {
			i = p.members(i+1, depth+1)
		} else {
			i = p.elements(i+1, depth+1)
		}
		if i < 0 {
			return -1
		}
		n := &p.nodes[at]
		n.kind, n.end, n.next = array, uint32(i), uint32(len(p.nodes))
		if c == '{' {
			n.kind = object
		}
		return i
	case 't':
		return p.word(at, i, "true", boolean)
	case 'f':
		return p.word(at, i, "false", boolean)
	case 'n':
		return p.word(at, i, "null", null)
	}
	end := numberEnd(s, i)
	if end < 0 {
		return -1
	}
	n := &p.nodes[at]
	n.kind, n.end = numeric, uint32(end)
	return end
}

func (p *jsonParser) word(at, i int, w string, k kind) int {
	if len(p.s)-i < len(w) || p.s[i:i+len(w)] != w {
		return -1
	}
	p.nodes[at].kind, p.nodes[at].end = k, uint32(i+len(w))
	return i + len(w)
}

func (p *jsonParser) members(i, depth int) int {
	if i = p.space(i); i < len(p.s) && p.s[i] == '}' {
		return i + 1
	}
	for {
		if i >= len(p.s) || p.s[i] != '"' {
			return -1
		}
		start := i + 1
		end, escaped := p.text(start)
		if end < 0 {
			return -1
		}
		if i = p.space(end + 1); i >= len(p.s) || p.s[i] != ':' {
			return -1
		}
		if i = p.value(p.space(i+1), start, end, escaped, depth); i < 0 {
			return -1
		}
		if i = p.space(i); i >= len(p.s) {
			return -1
		}
		switch p.s[i] {
		case ',':
			i = p.space(i + 1)
		case '}':
			return i + 1
		default:
			return -1
		}
	}
}

func (p *jsonParser) elements(i, depth int) int {
	if i = p.space(i); i < len(p.s) && p.s[i] == ']' {
		return i + 1
	}
	for {
		if i = p.value(i, 0, 0, false, depth); i < 0 {
			return -1
		}
		if i = p.space(i); i >= len(p.s) {
			return -1
		}
		switch p.s[i] {
		case ',':
			i = p.space(i + 1)
		case ']':
			return i + 1
		default:
			return -1
		}
	}
}

const (
	each01 = 0x0101010101010101
	each80 = 0x8080808080808080
)

// text gives where the string that begins at i has its closing quote, -1 when it is
// malformed. It looks at eight bytes at a time until one of them is a quote, a
// backslash, a control character or beyond ASCII.
func (p *jsonParser) text(i int) (end int, escaped bool) {
	s := p.s
	for {
		for i+8 <= len(s) {
			w := binary.LittleEndian.Uint64([]byte(s[i : i+8]))
			quote := w ^ 0x22*each01
			slash := w ^ 0x5c*each01
			stop := ((quote-each01)&^quote | (slash-each01)&^slash | (w - 0x20*each01) | w) & each80
			if stop != 0 {
				i += bits.TrailingZeros64(stop) / 8
				break
			}
			i += 8
		}
		if i >= len(s) {
			return -1, false
		}
		switch c := s[i]; {
		case c == '"':
			return i, escaped
		case c == '\\':
			escaped = true
			if i+1 >= len(s) {
				return -1, false
			}
			switch s[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				if i+6 > len(s) || hex4(s[i+2:i+6]) < 0 {
					return -1, false
				}
				i += 6
			default:
				return -1, false
			}
		case c < ' ':
			return -1, false
		case c < utf8.RuneSelf:
			i++
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				return -1, false
			}
			i += size
		}
	}
}

func hex4(s string) rune {
	var r rune
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return -1
		}
	}
	return r
}

// numberEnd gives where the JSON number at i ends, -1 when there is none.
func numberEnd(s string, i int) int {
	if i < len(s) && s[i] == '-' {
		i++
	}
	switch {
	case i >= len(s) || s[i] < '0' || s[i] > '9':
		return -1
	case s[i] == '0':
		i++
	default:
		i = digitsEnd(s, i)
	}
	if i < len(s) && s[i] == '.' {
		end := digitsEnd(s, i+1)
		if end == i+1 {
			return -1
		}
		i = end
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		end := digitsEnd(s, i)
		if end == i {
			return -1
		}
		i = end
	}
	return i
}

func digitsEnd(s string, i int) int {
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return i
}

// unescape gives the text of a string's inside.
func unescape(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		c := s[i]
		if c != '\\' {
			b = append(b, c)
			i++
			continue
		}
		i += 2
		switch c = s[i-1]; c {
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r := hex4(s[i : i+4])
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if i+6 <= len(s) && s[i] == '\\' && s[i+1] == 'u' {
					low = hex4(s[i+2 : i+6])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			b = utf8.AppendRune(b, r)
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

// key gives the key of member i.
func (d *document) key(i uint32) string {
	n := &d.nodes[i]
	if n.keyEscaped {
		return unescape(d.text[n.keyStart:n.keyEnd])
	}
	return d.text[n.keyStart:n.keyEnd]
}

// member finds a key in the object at i, the last one where it stands twice; 0 when it
// is not there (node 0 is the whole document and nobody's member).
func (d *document) member(i uint32, key string) (found uint32) {
	nodes := d.nodes
	end := nodes[i].next
	for k := i + 1; k < end; {
		n := &nodes[k]
		if !n.keyEscaped {
			if int(n.keyEnd-n.keyStart) == len(key) && d.text[n.keyStart:n.keyEnd] == key {
				found = k
			}
		} else if unescape(d.text[n.keyStart:n.keyEnd]) == key {
			found = k
		}
		k = n.next
	}
	return found
}

// load gives the value at i. whole says that decimals without a fraction are Ints.
func (d *document) load(i uint32, whole bool) value {
	n := &d.nodes[i]
	switch n.kind {
	case numeric:
		num, ok := parseNumber(d.text[n.start:n.end])
		if !ok {
			return value{}
		}
		if whole {
			num = num.whole()
		}
		return numberValue(num)
	case text:
		if n.escaped {
			return textValue(unescape(d.text[n.start:n.end]))
		}
		return textValue(d.text[n.start:n.end])
	case boolean:
		return boolValue(d.text[n.start] == 't')
	case array, object:
		return value{kind: n.kind, coef: int64(i), box: &d.box}
	}
	return value{kind: n.kind}
}

// appendNode writes the value at i compactly. Strings stay as they were written unless
// escapes in them could be written plainer.
func (d *document) appendNode(dst []byte, i uint32, whole bool) []byte {
	n := &d.nodes[i]
	switch n.kind {
	case text:
		return d.appendQuoted(dst, n.start, n.end, n.escaped)
	case numeric:
		return d.appendNumber(dst, d.text[n.start:n.end], whole)
	case array, object:
		open, shut := byte('['), byte(']')
		if n.kind == object {
			open, shut = '{', '}'
		}
		dst = append(dst, open)
		for k := i + 1; k < n.next; k = d.nodes[k].next {
			if k > i+1 {
				dst = append(dst, ',')
			}
			if m := &d.nodes[k]; n.kind == object {
				dst = append(d.appendQuoted(dst, m.keyStart, m.keyEnd, m.keyEscaped), ':')
			}
			dst = d.appendNode(dst, k, whole)
		}
		return append(dst, shut)
	}
	return append(dst, d.text[n.start:n.end]...)
}

func (d *document) appendQuoted(dst []byte, start, end uint32, escaped bool) []byte {
	if escaped {
		return appendString(dst, unescape(d.text[start:end]))
	}
	return append(append(append(dst, '"'), d.text[start:end]...), '"')
}

func (d *document) appendNumber(dst []byte, s string, whole bool) []byte {
	if whole {
		for j := range len(s) {
			if s[j] == '.' || s[j]|0x20 == 'e' {
				if n, ok := parseNumber(s); ok {
					if w := n.whole(); !w.dec {
						return w.append(dst)
					}
				}
				break
			}
		}
	}
	return append(dst, s...)
}

// appendString writes s as a JSON string; what is not UTF-8 becomes U+FFFD, byte by byte.
func appendString(dst []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = string([]rune(s))
	}
	return jsondoc.AppendString(dst, s)
}
