package iotsql

import (
	"strings"

	"tidegate/gateway/mqtt"
)

// Limits of a statement.
const (
	maxSource = 256 << 10 // bytes (§10)
	maxTerms  = 200       // nesting of parentheses, calls, literals and queries
	maxChain  = 2000      // nesting of a parsed expression, as 1+1+1… makes it
)

// Binding powers, weakest first (§4).
const (
	powerOr = iota + 1
	powerAnd
	powerNot
	powerCompare
	powerSum
	powerProduct
	powerNegate
)

type parser struct {
	lexer
	version Version
	tok     token // the one to look at
	prev    int   // end of the one before
	depth   int
	cases   int // CASEs that are open, where WHEN, THEN, ELSE and END are no names
	vars    map[string]bool
}

func newParser(src string, v Version) (*parser, *SyntaxError) {
	p := &parser{lexer: lexer{src: src}, version: v, vars: map[string]bool{}}
	if len(src) > maxSource {
		return nil, p.fail(0, "the statement has %d bytes; at most %d are allowed", len(src), maxSource)
	}
	return p, nil
}

func (p *parser) advance() *SyntaxError {
	p.prev = p.tok.end
	var err *SyntaxError
	p.tok, err = p.next()
	return err
}

// peek reads the token behind the current one, without taking it.
func (p *parser) peek() token {
	l := p.lexer
	t, err := l.next()
	if err != nil {
		return token{kind: tokEnd}
	}
	return t
}

// wrong says what was expected at the current token.
func (p *parser) wrong(want string) *SyntaxError {
	return p.fail(p.tok.at, "expected %s, found %s", want, p.tok.describe())
}

func (p *parser) symbol(s string) *SyntaxError {
	if !p.tok.is(s) {
		return p.wrong(s)
	}
	return p.advance()
}

func (p *parser) keyword(w string) *SyntaxError {
	if !p.tok.word(w) {
		return p.wrong(w)
	}
	return p.advance()
}

// newer refuses what version 2015-10-08 has not.
func (p *parser) newer(at int, what string) *SyntaxError {
	if p.version == V2015 {
		return p.fail(at, "%s need SQL version %s", what, V2016)
	}
	return nil
}

func (p *parser) statement() (st statement, err *SyntaxError) {
	if err = p.advance(); err != nil {
		return st, err
	}
	if p.tok.word("SET") {
		if st.set, err = p.assignments(); err != nil {
			return st, err
		}
	}
	if err = p.keyword("SELECT"); err != nil {
		return st, err
	}
	if st.sel, err = p.selection(); err != nil {
		return st, err
	}
	if p.tok.word("FROM") {
		st.from = true
		if st.filter, err = p.filterClause(); err != nil {
			return st, err
		}
	}
	if p.tok.word("WHERE") {
		if err = p.advance(); err != nil {
			return st, err
		}
		if st.where, err = p.expr(0); err != nil {
			return st, err
		}
	}
	if p.tok.kind != tokEnd {
		want := "the end"
		switch {
		case st.where != nil:
			want = "an operator or the end"
		case st.from:
			want = "WHERE or the end"
		default:
			want = "a comma, FROM, WHERE or the end"
		}
		return st, p.wrong(want)
	}
	return st, nil
}

func (p *parser) assignments() ([]assignment, *SyntaxError) {
	if err := p.newer(p.tok.at, "variables"); err != nil {
		return nil, err
	}
	var set []assignment
	for {
		if err := p.advance(); err != nil { // SET or the comma
			return nil, err
		}
		if p.tok.kind != tokVar {
			return nil, p.wrong("a variable such as @name")
		}
		name, at := p.tok.text, p.tok.at
		if p.vars[name] {
			return nil, p.fail(at, "@%s is set already; a variable can be set once", name)
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
		if err := p.symbol("="); err != nil {
			return nil, err
		}
		t, err := p.expr(0)
		if err != nil {
			return nil, err
		}
		p.vars[name] = true
		set = append(set, assignment{name, t})
		if !p.tok.is(",") {
			return set, nil
		}
	}
}

// filterClause reads the topic filter behind FROM, with quotes or without.
func (p *parser) filterClause() (string, *SyntaxError) {
	at := p.tok.end
	for at < len(p.src) && strings.IndexByte(" \t\r\n", p.src[at]) >= 0 {
		at++
	}
	if at == len(p.src) {
		return "", p.fail(at, "expected a topic filter in single quotes, found the end")
	}
	p.lexer.at = at
	var t token
	if c := p.src[at]; c == '\'' || c == '"' {
		var err *SyntaxError
		if t, err = p.next(); err != nil {
			return "", err
		}
	} else {
		t = p.filter(at)
	}
	if err := mqtt.ValidFilter(t.text); err != nil {
		return "", p.fail(at, "%s", err)
	}
	return t.text, p.advance()
}

func (p *parser) selection() (sel selection, err *SyntaxError) {
	if p.tok.word("VALUE") && p.valueKeyword() {
		if err = p.advance(); err != nil {
			return sel, err
		}
		sel.value = true
		at := p.tok.at
		var t *term
		if p.tok.is("*") {
			t = &term{op: opStar, at: at, end: p.tok.end}
			err = p.advance()
		} else {
			t, err = p.expr(0)
		}
		sel.items = []item{{term: t, at: at}}
		if err == nil && p.tok.is(",") {
			err = p.fail(p.tok.at, "SELECT VALUE takes one expression")
		}
		return sel, err
	}
	for {
		it, err := p.item()
		if err != nil {
			return sel, err
		}
		sel.items = append(sel.items, it)
		if !p.tok.is(",") {
			return sel, nil
		}
		if err := p.advance(); err != nil {
			return sel, err
		}
	}
}

// valueKeyword says whether the word `value` behind SELECT is the keyword: payloads often
// have a field of that name.
func (p *parser) valueKeyword() bool {
	t := p.peek()
	switch t.kind {
	case tokEnd:
		return false
	case tokName:
		for _, w := range [...]string{"AS", "FROM", "WHERE", "AND", "OR", "IN"} {
			if t.word(w) {
				return false
			}
		}
		return true
	case tokSymbol:
		if t.text == "*" { // VALUE * ends here, value * 2 does not
			l := p.lexer
			l.at = t.end
			after, err := l.next()
			return err != nil || after.kind == tokEnd || after.word("FROM") || after.word("WHERE") || after.is(")")
		}
		return t.text == "(" || t.text == "[" || t.text == "{"
	}
	return true
}

func (p *parser) item() (it item, err *SyntaxError) {
	it.at = p.tok.at
	if p.tok.is("*") {
		it.star = true
		return it, p.advance()
	}
	if it.term, err = p.expr(0); err != nil {
		return it, err
	}
	if p.tok.word("AS") {
		for {
			if err = p.advance(); err != nil { // AS or the point
				return it, err
			}
			if p.tok.kind != tokName {
				return it, p.wrong("a name for the result")
			}
			it.key = append(it.key, p.tok.text)
			if err = p.advance(); err != nil {
				return it, err
			}
			if !p.tok.is(".") {
				return it, nil
			}
		}
	}
	it.key = []string{p.defaultKey(it.term)}
	return it, nil
}

// defaultKey names a result without AS: the last name of a path, else the text of the
// expression.
func (p *parser) defaultKey(t *term) string {
	switch {
	case (t.op == opPath || t.op == opMember || t.op == opVar) && len(t.path) > 0:
		return t.path[len(t.path)-1]
	case t.op == opVar:
		return t.name
	}
	return p.src[t.at:t.end]
}

// query reads a nested SELECT; the current token is SELECT.
func (p *parser) query() (*query, *SyntaxError) {
	if err := p.newer(p.tok.at, "nested queries"); err != nil {
		return nil, err
	}
	cases := p.cases
	p.cases = 0
	defer func() { p.cases = cases }()
	if err := p.advance(); err != nil {
		return nil, err
	}
	var q query
	var err *SyntaxError
	if q.sel, err = p.selection(); err != nil {
		return nil, err
	}
	if err = p.keyword("FROM"); err != nil {
		return nil, err
	}
	if q.source, err = p.expr(0); err != nil {
		return nil, err
	}
	if p.tok.word("AS") {
		if err = p.advance(); err != nil {
			return nil, err
		}
		if p.tok.kind != tokName {
			return nil, p.wrong("a name for the elements")
		}
		q.alias = p.tok.text
		if err = p.advance(); err != nil {
			return nil, err
		}
	}
	if p.tok.word("WHERE") {
		if err = p.advance(); err != nil {
			return nil, err
		}
		if q.where, err = p.expr(0); err != nil {
			return nil, err
		}
	}
	return &q, nil
}
