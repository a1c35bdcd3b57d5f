package iotsql

import "strings"

// binary gives the power of the operator at the current token, 0 when there is none.
func (p *parser) binary() (name string, power int) {
	switch p.tok.kind {
	case tokSymbol:
		switch s := p.tok.text; s {
		case "=", "<>", "<", "<=", ">", ">=":
			return s, powerCompare
		case "!=":
			return "<>", powerCompare
		case "+", "-":
			return s, powerSum
		case "*", "/", "%":
			return s, powerProduct
		}
	case tokName:
		switch {
		case p.tok.word("AND"):
			return "AND", powerAnd
		case p.tok.word("OR"):
			return "OR", powerOr
		case p.tok.word("IN"):
			return "IN", powerCompare
		}
	}
	return "", 0
}

// expr reads an expression of operators that bind more tightly than power.
func (p *parser) expr(power int) (*term, *SyntaxError) {
	if p.depth++; p.depth > maxTerms {
		return nil, p.fail(p.tok.at, "the expression is nested deeper than %d levels", maxTerms)
	}
	defer func() { p.depth-- }()
	left, err := p.prefix(power)
	if err != nil {
		return nil, err
	}
	for {
		name, next := p.binary()
		if next <= power {
			return left, nil
		}
		at := p.tok.at
		if err := p.advance(); err != nil {
			return nil, err
		}
		right, err := p.expr(next)
		if err != nil {
			return nil, err
		}
		t := &term{op: opBinary, name: name, at: left.at, args: []*term{left, right}}
		if left, err = p.done(t); err != nil {
			return nil, err
		}
		if _, again := p.binary(); next == powerCompare && again == powerCompare {
			return nil, p.fail(p.tok.at, "comparisons do not chain; put parentheses around the one at column %d", p.fail(at, "").Column)
		}
	}
}

// done closes a term at the token before the current one and checks its depth.
func (p *parser) done(t *term) (*term, *SyntaxError) {
	t.end = p.prev
	for _, a := range t.args {
		t.depth = max(t.depth, a.depth+1)
	}
	if t.depth > maxChain {
		return nil, p.fail(t.at, "the expression has more than %d operators in a row", maxChain)
	}
	return t, nil
}

func (p *parser) prefix(power int) (*term, *SyntaxError) {
	at := p.tok.at
	switch {
	case p.tok.is("-"):
		if err := p.advance(); err != nil {
			return nil, err
		}
		arg, err := p.expr(powerNegate - 1)
		if err != nil {
			return nil, err
		}
		if arg.op == opLiteral && arg.val.kind == numeric {
			arg.val, arg.at = numberValue(neg(arg.val.number())), at
			return arg, nil
		}
		return p.done(&term{op: opNegate, at: at, args: []*term{arg}})
	case p.tok.word("NOT") && !p.isField():
		if power >= powerNot {
			return nil, p.fail(at, "NOT needs parentheses here")
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
		arg, err := p.expr(powerNot - 1)
		if err != nil {
			return nil, err
		}
		return p.done(&term{op: opNot, at: at, args: []*term{arg}})
	}
	t, err := p.primary()
	if err != nil {
		return nil, err
	}
	if !p.tok.is(".") {
		return t, nil
	}
	if t.op != opPath && t.op != opVar {
		if t, err = p.done(&term{op: opMember, at: at, args: []*term{t}}); err != nil {
			return nil, err
		}
	}
	for p.tok.is(".") {
		if err := p.advance(); err != nil {
			return nil, err
		}
		if p.tok.kind != tokName {
			return nil, p.fail(p.tok.at, "expected a name, found %s; for a key that is no name write get(object, \"key\")", p.tok.describe())
		}
		t.path = append(t.path, p.tok.text)
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
	return p.done(t)
}

// isField says whether a keyword stands where only a field of that name makes sense.
func (p *parser) isField() bool {
	t := p.peek()
	return t.kind == tokEnd || t.is(".") || t.is(",") || t.is(")") || t.is("}") || t.is("]") || t.is("=") || t.is("<>") ||
		t.is("!=") || t.is("<") || t.is(">") || t.is("<=") || t.is(">=") || t.is("+") || t.is("*") || t.is("/") || t.is("%") ||
		t.word("AS") || t.word("FROM") || t.word("WHERE") || t.word("AND") || t.word("OR") || t.word("IN")
}

func (p *parser) primary() (*term, *SyntaxError) {
	tok := p.tok
	t := &term{op: opLiteral, at: tok.at}
	switch tok.kind {
	case tokNumber:
		n, ok := parseNumber(tok.text)
		if !ok {
			return nil, p.fail(tok.at, "the number is outside 1E-999 to 9.99E999")
		}
		t.val = numberValue(n.round())
	case tokString:
		t.val = textValue(tok.text)
	case tokVar:
		if !p.vars[tok.text] {
			return nil, p.fail(tok.at, "@%s is not set; SET stands before SELECT, and a variable can use those before it", tok.text)
		}
		t.op, t.name = opVar, tok.text
	case tokSymbol:
		switch tok.text {
		case "(":
			return p.parens()
		case "{":
			return p.object()
		case "[":
			if err := p.newer(tok.at, "array literals"); err != nil {
				return nil, err
			}
			if err := p.advance(); err != nil {
				return nil, err
			}
			t.op = opArray
			return p.list(t, "]")
		}
		return nil, p.wrong("an expression")
	case tokName:
		return p.word()
	default:
		return nil, p.wrong("an expression")
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	return p.done(t)
}

// word reads what begins with a name: a literal, a keyword's construct, a call or a path.
func (p *parser) word() (*term, *SyntaxError) {
	tok := p.tok
	t := &term{op: opLiteral, at: tok.at}
	next := p.peek()
	switch {
	case tok.word("TRUE"):
		t.val = boolValue(true)
	case tok.word("FALSE"):
		t.val = boolValue(false)
	case tok.word("NULL"):
		t.val = nullValue()
	case tok.word("CASE") && !p.isField():
		return p.caseOf()
	case tok.word("CAST") && next.is("("):
		return p.cast()
	case tok.word("EXISTS") && next.is("("):
		return p.exists()
	case next.is("("):
		if err := p.advance(); err != nil {
			return nil, err
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
		t.op, t.name = opCall, strings.ToLower(tok.text)
		return p.list(t, ")")
	case tok.word("FROM") || tok.word("WHERE") || tok.word("AS") || tok.word("SELECT") || tok.word("AND") || tok.word("OR"),
		p.cases > 0 && (tok.word("WHEN") || tok.word("THEN") || tok.word("ELSE") || tok.word("END")):
		return nil, p.wrong("an expression")
	default:
		t.op, t.path = opPath, []string{tok.text}
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	return p.done(t)
}

// list reads expressions up to the closing symbol. Among a call's arguments * is the
// whole payload.
func (p *parser) list(t *term, closing string) (*term, *SyntaxError) {
	if p.tok.is(closing) {
		if err := p.advance(); err != nil {
			return nil, err
		}
		return p.done(t)
	}
	for {
		var a *term
		var err *SyntaxError
		if p.tok.is("*") && t.op == opCall {
			a = &term{op: opStar, at: p.tok.at, end: p.tok.end}
			err = p.advance()
		} else {
			a, err = p.expr(0)
		}
		if err != nil {
			return nil, err
		}
		t.args = append(t.args, a)
		if p.tok.is(closing) {
			if err := p.advance(); err != nil {
				return nil, err
			}
			return p.done(t)
		}
		if !p.tok.is(",") {
			return nil, p.wrong("a comma or " + closing)
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
}

// parens reads an expression or a query in parentheses.
func (p *parser) parens() (*term, *SyntaxError) {
	at := p.tok.at
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.tok.word("SELECT") {
		q, err := p.query()
		if err != nil {
			return nil, err
		}
		if err := p.symbol(")"); err != nil {
			return nil, err
		}
		return p.done(&term{op: opQuery, at: at, query: q})
	}
	t, err := p.expr(0)
	if err != nil {
		return nil, err
	}
	if !p.tok.is(")") {
		return nil, p.wrong("an operator or )")
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	t.at, t.end = at, p.prev
	return t, nil
}

func (p *parser) object() (*term, *SyntaxError) {
	t := &term{op: opObject, at: p.tok.at}
	if err := p.newer(t.at, "object literals"); err != nil {
		return nil, err
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	for !p.tok.is("}") {
		if len(t.path) > 0 {
			if !p.tok.is(",") {
				return nil, p.wrong("a comma or }")
			}
			if err := p.advance(); err != nil {
				return nil, err
			}
		}
		if p.tok.kind != tokString && p.tok.kind != tokName {
			return nil, p.wrong("a key")
		}
		t.path = append(t.path, p.tok.text)
		if err := p.advance(); err != nil {
			return nil, err
		}
		if err := p.symbol(":"); err != nil {
			return nil, err
		}
		a, err := p.expr(0)
		if err != nil {
			return nil, err
		}
		t.args = append(t.args, a)
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	return p.done(t)
}

func (p *parser) caseOf() (*term, *SyntaxError) {
	t := &term{op: opCase, at: p.tok.at}
	p.cases++
	defer func() { p.cases-- }()
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.tok.word("WHEN") {
		return nil, p.fail(p.tok.at, "expected the value to compare, found WHEN; write CASE value WHEN …")
	}
	take := func() *SyntaxError {
		a, err := p.expr(0)
		t.args = append(t.args, a)
		return err
	}
	if err := take(); err != nil {
		return nil, err
	}
	if !p.tok.word("WHEN") {
		return nil, p.wrong("WHEN")
	}
	for p.tok.word("WHEN") {
		if err := p.advance(); err != nil {
			return nil, err
		}
		if err := take(); err != nil {
			return nil, err
		}
		if err := p.keyword("THEN"); err != nil {
			return nil, err
		}
		if err := take(); err != nil {
			return nil, err
		}
	}
	if p.tok.word("ELSE") {
		if err := p.advance(); err != nil {
			return nil, err
		}
		if err := take(); err != nil {
			return nil, err
		}
	}
	if !p.tok.word("END") {
		return nil, p.wrong("WHEN, ELSE or END")
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	return p.done(t)
}

func (p *parser) cast() (*term, *SyntaxError) {
	t := &term{op: opCast, at: p.tok.at}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	a, err := p.expr(0)
	if err != nil {
		return nil, err
	}
	t.args = []*term{a}
	if err := p.keyword("AS"); err != nil {
		return nil, err
	}
	typ, known := castTypes[strings.ToLower(p.tok.text)]
	if p.tok.kind != tokName || !known {
		return nil, p.wrong("a type: String, Int, Decimal or Boolean")
	}
	if typ.newer {
		if err := p.newer(p.tok.at, "casts to "+p.tok.text); err != nil {
			return nil, err
		}
	}
	t.name = typ.name
	if err := p.advance(); err != nil {
		return nil, err
	}
	if err := p.symbol(")"); err != nil {
		return nil, err
	}
	return p.done(t)
}

func (p *parser) exists() (*term, *SyntaxError) {
	t := &term{op: opExists, at: p.tok.at}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if !p.tok.word("SELECT") {
		return nil, p.wrong("SELECT")
	}
	q, err := p.query()
	if err != nil {
		return nil, err
	}
	t.query = q
	if err := p.symbol(")"); err != nil {
		return nil, err
	}
	return p.done(t)
}
