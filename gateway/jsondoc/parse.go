package jsondoc

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// What Parse can find wrong, besides a *SyntaxError.
var (
	ErrEncoding = errors.New("jsondoc: not UTF-8")
	ErrTooDeep  = errors.New("jsondoc: nested too deep")
	ErrTooLarge = errors.New("jsondoc: too large")
)

// SyntaxError says where a text stops being JSON.
type SyntaxError struct {
	Offset int    // bytes before the place
	What   string // in a few lower-case words
}

// Error gives place and reason.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("jsondoc: %s at byte %d", e.What, e.Offset)
}

// Options bound a parse. The zero Options allow MaxDepth levels and any size.
type Options struct {
	MaxSize  int   // bytes of input; 0: any
	MaxDepth int   // levels of containers, at most the constant MaxDepth; 0: that
	Mark     int64 // what every scalar and null is marked with
	Alias    bool  // the result may point into the input, which must not change as long as the result is used
}

// Parse reads one JSON text. Beyond the grammar of RFC 8259 it refuses what could not be
// given back as it came: unpaired surrogates in escapes, and exponents of more than nine
// digits. Of several members with one name the last one wins. The result does not alias b
// unless o says so.
func Parse(b []byte, o Options) (Value, error) { return parse(nil, b, o) }

func parse(a *Arena, b []byte, o Options) (Value, error) {
	if o.MaxSize > 0 && len(b) > o.MaxSize {
		return Value{}, ErrTooLarge
	}
	if !utf8.Valid(b) {
		return Value{}, ErrEncoding
	}
	if o.MaxDepth <= 0 || o.MaxDepth > MaxDepth {
		o.MaxDepth = MaxDepth
	}
	if a == nil {
		a = &Arena{chunk: make([]Member, 0, min(firstChunk, bytes.Count(b, comma)+bytes.Count(b, brace)+1))}
	}
	text := ""
	if o.Alias {
		text = unsafe.String(unsafe.SliceData(b), len(b))
	} else {
		text = string(b)
	}
	p := parser{s: text, mark: o.Mark, room: o.MaxDepth, arena: a, stack: a.stack[:0]}
	defer func() { a.stack = p.stack[:0] }()
	p.stack = append(p.stack, Member{})
	p.space()
	if err := p.value(0); err != nil {
		return Value{}, err
	}
	v := p.stack[0].Value
	if p.space(); p.i < len(p.s) {
		return Value{}, p.wrong("more behind the value")
	}
	return v, nil
}

var comma, brace = []byte{','}, []byte{'{'}

type parser struct {
	s     string
	i     int
	room  int // levels left
	mark  int64
	stack []Member // members of the containers that are open
	arena *Arena   // where finished containers keep theirs
}

func (p *parser) wrong(what string) error {
	if p.i >= len(p.s) {
		what = "unexpected end"
	}
	return &SyntaxError{Offset: p.i, What: what}
}

func (p *parser) space() {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

// value reads a value into the stack's member at slot.
func (p *parser) value(slot int) error {
	if p.i >= len(p.s) {
		return p.wrong("")
	}
	v := &p.stack[slot].Value // not valid any more when the stack has grown
	switch c := p.s[p.i]; {
	case c == '"':
		s, f, err := p.string()
		v.kind, v.flags, v.text, v.Mark = String, f, s, p.mark
		return err
	case c == '{':
		return p.object(slot)
	case c == '[':
		return p.array(slot)
	case c == '-' || c >= '0' && c <= '9':
		n, what := number(p.s[p.i:])
		if what != "" {
			p.i += n
			return p.wrong(what)
		}
		v.kind, v.text, v.Mark = Number, p.s[p.i:p.i+n], p.mark
		p.i += n
		return nil
	}
	for _, w := range words {
		if strings.HasPrefix(p.s[p.i:], w.text) {
			*v = w.value
			v.Mark = p.mark
			p.i += len(w.text)
			return nil
		}
	}
	return p.wrong("a value is expected")
}

var words = [...]struct {
	text  string
	value Value
}{{"true", BoolValue(true)}, {"false", BoolValue(false)}, {"null", NullValue()}}

func (p *parser) object(slot int) error {
	if p.room--; p.room < 0 {
		return ErrTooDeep
	}
	base := len(p.stack)
	p.i++
	p.space()
	if p.i < len(p.s) && p.s[p.i] == '}' {
		p.i++
	} else {
		for more := true; more; {
			if p.i >= len(p.s) || p.s[p.i] != '"' {
				return p.wrong("a member name is expected")
			}
			key, _, err := p.string()
			if err != nil {
				return err
			}
			if p.space(); p.i >= len(p.s) || p.s[p.i] != ':' {
				return p.wrong("a colon is expected")
			}
			p.i++
			p.space()
			p.stack = append(p.stack, Member{Key: key})
			if err := p.value(len(p.stack) - 1); err != nil {
				return err
			}
			if more, err = p.next('}'); err != nil {
				return err
			}
		}
	}
	p.stack[slot].Value = ObjectValue(p.keep(base))
	p.room++
	return nil
}

func (p *parser) array(slot int) error {
	if p.room--; p.room < 0 {
		return ErrTooDeep
	}
	base := len(p.stack)
	p.i++
	p.space()
	if p.i < len(p.s) && p.s[p.i] == ']' {
		p.i++
	} else {
		for more := true; more; {
			p.stack = append(p.stack, Member{})
			err := p.value(len(p.stack) - 1)
			if err != nil {
				return err
			}
			if more, err = p.next(']'); err != nil {
				return err
			}
		}
	}
	p.stack[slot].Value = ArrayValue(p.keep(base))
	p.room++
	return nil
}

// next reads what stands between two members, or the end of their container.
func (p *parser) next(end byte) (more bool, err error) {
	p.space()
	if p.i < len(p.s) {
		switch p.s[p.i] {
		case ',':
			p.i++
			p.space()
			return true, nil
		case end:
			p.i++
			return false, nil
		}
	}
	return false, p.wrong("a comma or the end of the container is expected")
}

// keep moves the members from base on off the stack to where they stay.
func (p *parser) keep(base int) []Member {
	m := p.stack[base:]
	p.stack = p.stack[:base]
	return append(p.arena.take(len(m)), m...)
}

// string reads a string: its characters and whether some must be escaped again.
func (p *parser) string() (s string, f flags, err error) {
	p.i++
	from := p.i
	for p.i < len(p.s) {
		switch c := p.s[p.i]; {
		case c == '"':
			s = p.s[from:p.i]
			p.i++
			return s, 0, nil
		case c == '\\':
			return p.escaped(from)
		case c < 0x20:
			return "", 0, p.wrong("a control character in a string")
		}
		p.i++
	}
	return "", 0, p.wrong("")
}

// escaped goes on with a string that began at from and has an escape at p.i.
func (p *parser) escaped(from int) (string, flags, error) {
	b := append(make([]byte, 0, 2*(p.i-from)+16), p.s[from:p.i]...)
	for p.i < len(p.s) {
		c := p.s[p.i]
		switch {
		case c == '"':
			p.i++
			v := StringValue(string(b))
			return v.text, v.flags, nil
		case c < 0x20:
			return "", 0, p.wrong("a control character in a string")
		case c != '\\':
			b = append(b, c)
			p.i++
			continue
		}
		if p.i+1 >= len(p.s) {
			break
		}
		switch c = p.s[p.i+1]; c {
		case '"', '\\', '/':
			b = append(b, c)
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
			r, n := p.rune()
			if n == 0 {
				return "", 0, p.wrong("a wrong \\u escape")
			}
			b = utf8.AppendRune(b, r)
			p.i += n
			continue
		default:
			return "", 0, p.wrong("an unknown escape")
		}
		p.i += 2
	}
	p.i = len(p.s)
	return "", 0, p.wrong("")
}

// rune reads the \u escape at p.i, with its second half where it is a surrogate; n is
// its width, 0 when it is wrong.
func (p *parser) rune() (r rune, n int) {
	r, ok := hex4(p.s, p.i)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	low, ok := hex4(p.s, p.i+6)
	if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
		return 0, 0
	}
	return r, 12
}

// hex4 reads \uXXXX at s[at:].
func hex4(s string, at int) (r rune, ok bool) {
	if at+6 > len(s) || s[at] != '\\' || s[at+1] != 'u' {
		return 0, false
	}
	for _, c := range []byte(s[at+2 : at+6]) {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
