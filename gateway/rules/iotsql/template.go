package iotsql

import "strings"

// Template is a compiled substitution template: text with ${expression} in it (§7).
type Template struct {
	version  Version
	of       *Statement // whose variables it may use
	parts    []templatePart
	external []string
}

// templatePart is a text, then an expression; the last one has none.
type templatePart struct {
	text string
	expr expr
}

// ParseTemplate compiles a template that uses no variables. Its error is a *SyntaxError.
func ParseTemplate(src string, v Version) (*Template, error) {
	return template(src, &Statement{version: v})
}

// Template compiles a template that may use the variables of the statement's SET; they
// have the values they had in the Eval before, when it was of the same Input.
func (st *Statement) Template(src string) (*Template, error) { return template(src, st) }

func template(src string, st *Statement) (*Template, error) {
	t := &Template{version: st.version, of: st}
	p, err := newParser(src, st.version)
	if err != nil {
		return nil, err
	}
	for name := range st.names {
		p.vars[name] = true
	}
	c := &compiler{src: src, version: st.version, vars: st.names}
	at := 0
	for {
		n := strings.Index(src[at:], "${")
		if n < 0 {
			t.parts = append(t.parts, templatePart{text: src[at:]})
			t.external = c.external
			return t, nil
		}
		part := templatePart{text: src[at : at+n]}
		p.lexer.at = at + n + 2
		if err := p.advance(); err != nil {
			return nil, err
		}
		tree, err := p.expr(0)
		if err != nil {
			return nil, err
		}
		if !p.tok.is("}") {
			return nil, p.wrong("an operator or }")
		}
		if part.expr, err = c.expr(tree); err != nil {
			return nil, err
		}
		t.parts = append(t.parts, part)
		at = p.tok.end
	}
}

// External names the functions the template calls and that leave the rule.
func (t *Template) External() []string { return t.external }

// Fixed gives the text of a template without expressions.
func (t *Template) Fixed() (string, bool) { return t.parts[0].text, len(t.parts) == 1 }

// Expand replaces the expressions by their values as Strings, evaluated against the
// original message. What has no text (Null, Undefined) becomes nothing. An error means that
// a bound was reached or an external call went wrong; it carries a fault code.
func (t *Template) Expand(in *Input) (string, error) {
	if s, ok := t.Fixed(); ok {
		return s, nil
	}
	in.begin(t.version)
	if len(t.of.set) > 0 && in.of != t.of {
		in.assign(t.of)
	}
	var b strings.Builder
	for _, p := range t.parts {
		b.WriteString(p.text)
		if p.expr == nil {
			continue
		}
		if s, ok := in.toText(p.expr(in)); ok && in.room(b.Len()+len(s)) {
			b.WriteString(s)
		}
		if in.err != nil {
			return "", in.err
		}
	}
	return b.String(), nil
}
