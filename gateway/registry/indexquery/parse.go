package indexquery

import (
	"strings"
)

// parser descends through the grammar of the package comment. field is the field
// a group in parentheses belongs to, "" outside one.
type parser struct {
	text    string
	pos     int
	terms   int
	leading int // terms that start with a wildcard
}

func (p *parser) space() {
	for p.pos < len(p.text) && (p.text[p.pos] == ' ' || p.text[p.pos] == '\t' || p.text[p.pos] == '\n' || p.text[p.pos] == '\r') {
		p.pos++
	}
}

// word takes a keyword that ends at white space, a parenthesis or the end.
func (p *parser) word(w string) bool {
	rest, ok := strings.CutPrefix(p.text[p.pos:], w)
	if !ok || rest != "" && !strings.ContainsRune(" \t\r\n()[]{}\"", rune(rest[0])) {
		return false
	}
	p.pos += len(w)
	p.space()
	return true
}

func (p *parser) or(field string) (node, error) {
	n, err := p.and(field)
	if err != nil {
		return nil, err
	}
	all := orNode{n}
	for p.word("OR") {
		n, err := p.and(field)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	if len(all) == 1 {
		return n, nil
	}
	return all, nil
}

func (p *parser) and(field string) (node, error) {
	var all andNode
	for {
		n, err := p.unary(field)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
		if p.word("AND") {
			continue
		}
		if p.pos == len(p.text) || p.text[p.pos] == ')' || p.peek("OR") {
			break
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return all, nil
}

func (p *parser) peek(w string) bool {
	at := p.pos
	ok := p.word(w)
	p.pos = at
	return ok
}

func (p *parser) unary(field string) (node, error) {
	negate := p.word("NOT")
	if !negate && p.pos+1 < len(p.text) && p.text[p.pos] == '-' {
		negate = true
		p.pos++
	}
	n, err := p.primary(field)
	if err != nil || !negate {
		return n, err
	}
	return notNode{n}, nil
}

func (p *parser) primary(field string) (node, error) {
	if p.pos == len(p.text) {
		return nil, invalid("it ends where a term is expected")
	}
	if err := p.noKeyword(); err != nil {
		return nil, err
	}
	if p.text[p.pos] == ':' {
		return nil, invalid("a field name is missing in front of a colon")
	}
	if field == "" {
		if name := p.fieldName(); name != "" {
			at := p.pos + len(name)
			p.pos = at + 1
			name = strings.TrimPrefix(name, "registry.")
			if p.text[at] != ':' {
				return p.comparison(name, p.text[at])
			}
			if p.space(); p.pos > at+1 { // "field: AND" lacks its value
				if err := p.noKeyword(); err != nil {
					return nil, err
				}
			}
			return p.value(name)
		}
	}
	return p.value(field)
}

// noKeyword refuses a keyword where a term is expected.
func (p *parser) noKeyword() error {
	for _, w := range []string{"AND", "OR", "NOT", "TO"} {
		if p.peek(w) {
			return invalid("%s stands where a term is expected", w)
		}
	}
	return nil
}

// fieldName looks for a name with ':', '>' or '<' behind it.
func (p *parser) fieldName() string {
	for i := p.pos; i < len(p.text); i++ {
		switch c := p.text[i]; {
		case c == ':' || c == '>' || c == '<':
			return p.text[p.pos:i]
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_.-$", c) >= 0 || c >= 0x80:
		default:
			return ""
		}
	}
	return ""
}

func (p *parser) comparison(field string, op byte) (node, error) {
	inclusive := false
	if p.pos < len(p.text) && p.text[p.pos] == '=' {
		inclusive = true
		p.pos++
	}
	p.space()
	t, err := p.term()
	if err != nil {
		return nil, err
	}
	f, ok := jsonNumber(t.text)
	if !ok || t.quoted {
		return nil, invalid("%q is compared with %q, which is not a number", clip(field), clip(t.text))
	}
	p.terms++
	r := &rangeNode{field: field, numeric: true}
	if op == '>' {
		r.low, r.lowIn, r.openHigh = bound{number: f}, inclusive, true
	} else {
		r.high, r.highIn, r.openLow = bound{number: f}, inclusive, true
	}
	return r, nil
}

func (p *parser) value(field string) (node, error) {
	if p.pos == len(p.text) {
		return nil, invalid("it ends where a value is expected")
	}
	switch p.text[p.pos] {
	case '(':
		p.pos++
		p.space()
		n, err := p.or(field)
		if err != nil {
			return nil, err
		}
		if p.pos == len(p.text) {
			return nil, invalid("a parenthesis is not closed")
		}
		p.pos++ // or stops only at ')' or the end
		p.space()
		return n, nil
	case '[', '{':
		if field == "" {
			return nil, invalid("a range needs a field")
		}
		return p.rangeValue(field)
	}
	t, err := p.term()
	if err != nil {
		return nil, err
	}
	p.terms++
	if t.leads() {
		p.leading++
	}
	if strings.HasPrefix(field, "deviceDefender.") && strings.HasSuffix(field, ".inViolation") && strings.EqualFold(t.text, "false") {
		return nil, invalid("inViolation can only be searched for true")
	}
	return t.node(field), nil
}

func (p *parser) rangeValue(field string) (node, error) {
	r := &rangeNode{field: field, lowIn: p.text[p.pos] == '['}
	p.pos++
	p.space()
	low, err := p.term()
	if err != nil {
		return nil, err
	}
	if !p.word("TO") {
		return nil, invalid("a range of %s lacks TO", clip(field))
	}
	high, err := p.term()
	if err != nil {
		return nil, err
	}
	if p.pos == len(p.text) || p.text[p.pos] != ']' && p.text[p.pos] != '}' {
		return nil, invalid("a range of %s is not closed", clip(field))
	}
	r.highIn = p.text[p.pos] == ']'
	p.pos++
	p.space()
	p.terms++
	r.openLow, r.openHigh = low.star(), high.star()
	a, okA := low.number()
	b, okB := high.number()
	r.numeric = (okA || r.openLow) && (okB || r.openHigh) && (okA || okB)
	r.low = bound{text: strings.ToLower(low.text), number: a}
	r.high = bound{text: strings.ToLower(high.text), number: b}
	return r, nil
}

// term is a bare or quoted text. glob is its pattern in lower case with the
// escaped wildcards marked; it is nil without wildcards.
type term struct {
	text   string
	quoted bool
	glob   []rune
}

// The wildcards within a glob; no query holds these characters otherwise.
const (
	anyRun = rune(0x110001)
	anyOne = rune(0x110002)
)

func (t *term) star() bool { return len(t.glob) == 1 && t.glob[0] == anyRun }

func (t *term) leads() bool {
	return len(t.glob) > 1 && (t.glob[0] == anyRun || t.glob[0] == anyOne)
}

func (t *term) number() (float64, bool) {
	if t.quoted {
		return 0, false
	}
	return jsonNumber(t.text)
}

// forbidden are the characters a bare term must escape; the others that end a
// term are handled before.
const forbidden = "`@#%/';,~^"

func (p *parser) term() (*term, error) {
	t := &term{}
	if p.pos < len(p.text) && p.text[p.pos] == '"' {
		t.quoted = true
		p.pos++
		var b strings.Builder
		for {
			if p.pos == len(p.text) {
				return nil, invalid("a quotation is not closed")
			}
			c := p.text[p.pos]
			p.pos++
			if c == '"' {
				break
			}
			if c == '\\' && p.pos < len(p.text) {
				c = p.text[p.pos]
				p.pos++
			}
			b.WriteByte(c)
		}
		t.text = b.String()
		p.space()
		return t, nil
	}
	var b strings.Builder
	wild := false
	start := p.pos
scan:
	for i, r := range p.text[start:] {
		if p.pos > start+i { // the character behind a backslash
			continue
		}
		switch {
		case strings.ContainsRune(" \t\r\n()[]{}\"", r):
			break scan
		case r == '\\':
			next := []rune(p.text[p.pos+1:])
			if len(next) == 0 {
				return nil, invalid("it ends with a backslash")
			}
			b.WriteRune(next[0])
			t.glob = append(t.glob, lower(next[0]))
			p.pos += 1 + len(string(next[0]))
			continue
		case strings.ContainsRune(forbidden, r) || strings.ContainsRune("<>=", r):
			return nil, invalid("the character %q must be escaped with a backslash", r)
		case r == '*':
			t.glob, wild = append(t.glob, anyRun), true
		case r == '?':
			t.glob, wild = append(t.glob, anyOne), true
		default:
			t.glob = append(t.glob, lower(r))
		}
		b.WriteRune(r)
		p.pos += len(string(r))
	}
	if p.pos == start {
		if p.pos == len(p.text) {
			return nil, invalid("it ends where a value is expected")
		}
		return nil, invalid("%q stands where a value is expected", clip(p.text[p.pos:]))
	}
	t.text = b.String()
	if !wild {
		t.glob = nil
	}
	p.space()
	return t, nil
}

func lower(r rune) rune {
	for _, l := range strings.ToLower(string(r)) {
		return l
	}
	return r
}
