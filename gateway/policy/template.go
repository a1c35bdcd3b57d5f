package policy

import "strings"

// template is a resource or a condition's value before variables are filled in.
type template struct {
	parts  []part
	fixed  pattern // the compiled whole where there are no variables
	shared bool    // fixed is valid
}

// part is a piece of a template.
type part struct {
	kind partKind
	text string // the literal, or the variable's name
}

type partKind uint8

const (
	literal partKind = iota
	star
	question
	variable
)

// parseTemplate cuts text at its variables and, when wild is set, at its
// wildcards. ${*}, ${?} and ${$} stand for the characters themselves. An
// unclosed "${" is plain text. With expand unset (2008-10-17) "${" is, too.
func parseTemplate(text string, wild, expand bool) template {
	var t template
	lit := func(s string) {
		if n := len(t.parts); n > 0 && t.parts[n-1].kind == literal {
			t.parts[n-1].text += s
		} else if s != "" {
			t.parts = append(t.parts, part{literal, s})
		}
	}
	vars := false
	special := "$"
	if wild {
		special = "$*?"
	}
	for text != "" {
		i := strings.IndexAny(text, special)
		if i < 0 {
			lit(text)
			break
		}
		lit(text[:i])
		text = text[i:]
		switch {
		case text[0] == '*':
			if n := len(t.parts); n == 0 || t.parts[n-1].kind != star {
				t.parts = append(t.parts, part{kind: star})
			}
			text = text[1:]
		case text[0] == '?':
			t.parts = append(t.parts, part{kind: question})
			text = text[1:]
		case expand && strings.HasPrefix(text, "${") && strings.IndexByte(text, '}') > 0:
			end := strings.IndexByte(text, '}')
			name := text[2:end]
			if name == "*" || name == "?" || name == "$" {
				lit(name)
			} else {
				t.parts = append(t.parts, part{variable, name})
				vars = true
			}
			text = text[end+1:]
		default:
			lit("$")
			text = text[1:]
		}
	}
	if !vars {
		t.fixed, t.shared = t.pattern(nil), true
	}
	return t
}

// pattern fills in the variables. A value is literal: a star in a client id is a
// star, not a wildcard. A variable without a value makes a pattern that matches
// nothing; comparing its literal text instead would let a client name itself, or
// its topics, "${…}".
func (t *template) pattern(c *Context) pattern {
	if t.shared {
		return t.fixed
	}
	var b builder
	for _, p := range t.parts {
		switch p.kind {
		case literal:
			b.literal(p.text)
		case star:
			b.any()
		case question:
			b.one()
		case variable:
			value, ok := c.substitute(p.text)
			if !ok {
				return pattern{never: true}
			}
			b.literal(value)
		}
	}
	return b.done()
}

// text fills in the variables of a template without wildcards.
func (t *template) text(c *Context) (string, bool) {
	if len(t.parts) == 1 && t.parts[0].kind == literal {
		return t.parts[0].text, true
	}
	var b strings.Builder
	for _, p := range t.parts {
		if p.kind == literal {
			b.WriteString(p.text)
			continue
		}
		value, ok := c.substitute(p.text)
		if !ok {
			return "", false
		}
		b.WriteString(value)
	}
	return b.String(), true
}

// missing appends the names of the variables that have no value.
func (t *template) missing(c *Context, names []string) []string {
	for _, p := range t.parts {
		if p.kind == variable {
			if _, ok := c.substitute(p.text); !ok {
				names = append(names, p.text)
			}
		}
	}
	return names
}
