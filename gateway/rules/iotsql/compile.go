package iotsql

import "slices"

// expr is a compiled expression.
type expr func(in *Input) value

// predicate is a compiled WHERE: true only for the Boolean true.
type predicate func(in *Input) bool

// truth is the result of a logical operator.
type truth uint8

const (
	unknown truth = iota // Undefined
	no
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

func (t truth) value() value {
	if t == unknown {
		return undef
	}
	return boolValue(t == yes)
}

// test is a compiled expression whose result is a Boolean or Undefined.
type test func(in *Input) truth

// compiler turns terms into closures. What is wrong beyond the grammar it reports with
// the place: functions that do not exist, or not in this version.
type compiler struct {
	src      string
	version  Version
	vars     map[string]int
	nested   int // nested queries around the current term
	external []string
}

func (c *compiler) fail(at int, format string, args ...any) *SyntaxError {
	return syntaxError(c.src, at, format, args...)
}

func (c *compiler) expr(t *term) (expr, *SyntaxError) {
	switch t.op {
	case opLiteral:
		v := t.val
		return func(*Input) value { return v }, nil
	case opPath:
		return c.path(t.path), nil
	case opVar:
		slot, rest := c.vars[t.name], t.path
		return func(in *Input) value { return in.descend(in.vars[slot], rest) }, nil
	case opStar:
		return (*Input).star, nil
	case opMember:
		arg, err := c.expr(t.args[0])
		rest := t.path
		return func(in *Input) value { return in.descend(arg(in), rest) }, err
	case opCall:
		return c.call(t)
	case opCast:
		arg, err := c.expr(t.args[0])
		cast := castTypes[t.name].cast
		return func(in *Input) value { return cast(in, arg(in)) }, err
	case opCase:
		return c.caseOf(t)
	case opObject:
		return c.object(t)
	case opArray:
		return c.array(t)
	case opQuery:
		return c.query(t.query)
	case opExists:
		return c.exists(t.query)
	case opNegate:
		arg, err := c.expr(t.args[0])
		return func(in *Input) value {
			n, ok := arg(in).toNumber()
			return resultValue(neg(n), ok)
		}, err
	case opBinary:
		if arithmetic := arithmetics[t.name]; arithmetic != nil {
			left, right, err := c.pair(t)
			return func(in *Input) value {
				a := left(in)
				return arithmetic(in, a, right(in))
			}, err
		}
	}
	ask, err := c.test(t)
	return func(in *Input) value { return ask(in).value() }, err
}

func (c *compiler) exprs(ts []*term) ([]expr, *SyntaxError) {
	es := make([]expr, len(ts))
	for i, t := range ts {
		var err *SyntaxError
		if es[i], err = c.expr(t); err != nil {
			return nil, err
		}
	}
	return es, nil
}

func (c *compiler) pair(t *term) (left, right expr, err *SyntaxError) {
	if left, err = c.expr(t.args[0]); err != nil {
		return nil, nil, err
	}
	right, err = c.expr(t.args[1])
	return left, right, err
}

// isTest says whether the term gives nothing but Booleans and Undefined by itself.
func (t *term) isTest() bool {
	return t.op == opNot || t.op == opBinary && arithmetics[t.name] == nil
}

// test compiles a term for which isTest holds.
func (c *compiler) test(t *term) (test, *SyntaxError) {
	if t.op == opNot {
		arg, err := c.operand(t.args[0])
		return func(in *Input) truth {
			switch arg(in) {
			case yes:
				return no
			case no:
				return yes
			}
			return unknown
		}, err
	}
	if t.name == "AND" || t.name == "OR" {
		return c.logic(t)
	}
	return c.comparison(t)
}

// operand compiles an operand of AND, OR or NOT: strings may say true and false.
func (c *compiler) operand(t *term) (test, *SyntaxError) {
	if t.isTest() {
		return c.test(t)
	}
	e, err := c.expr(t)
	return func(in *Input) truth {
		b, ok := e(in).toBool()
		if !ok {
			return unknown
		}
		return truthOf(b)
	}, err
}

// logic compiles AND and OR. Both sides are always asked: one that is neither true nor
// false makes the whole Undefined, even false AND 5.
func (c *compiler) logic(t *term) (test, *SyntaxError) {
	left, err := c.operand(t.args[0])
	if err != nil {
		return nil, err
	}
	right, err := c.operand(t.args[1])
	and := t.name == "AND"
	return func(in *Input) truth {
		a, b := left(in), right(in)
		switch {
		case a == unknown || b == unknown:
			return unknown
		case and:
			return min(a, b)
		}
		return max(a, b)
	}, err
}

// where compiles a WHERE. Below an AND the right side need not be asked when the left one
// is not true: then nothing makes the whole true.
func (c *compiler) where(t *term) (predicate, *SyntaxError) {
	if t.op == opBinary && t.name == "AND" && t.args[0].isTest() && t.args[1].isTest() {
		left, err := c.where(t.args[0])
		if err != nil {
			return nil, err
		}
		right, err := c.where(t.args[1])
		return func(in *Input) bool { return left(in) && right(in) }, err
	}
	if t.isTest() {
		ask, err := c.test(t)
		return func(in *Input) bool { return ask(in) == yes }, err
	}
	e, err := c.expr(t)
	return func(in *Input) bool { return e(in).isTrue() }, err
}

// path compiles a path of names. In a nested query the first name is looked for in the
// element (or is its alias), then in the elements around it, then in the payload.
func (c *compiler) path(names []string) expr {
	first, rest := names[0], names[1:]
	fromPayload := func(in *Input) value {
		if !in.root() || in.doc.nodes[0].kind != object {
			return undef
		}
		i := in.doc.member(0, first)
		if i == 0 {
			return undef
		}
		for _, name := range rest {
			if in.doc.nodes[i].kind != object {
				return undef
			}
			if i = in.doc.member(i, name); i == 0 {
				return undef
			}
		}
		return in.doc.load(i, in.whole)
	}
	if c.nested == 0 {
		return fromPayload
	}
	return func(in *Input) value {
		for i := len(in.scopes) - 1; i >= 0; i-- {
			s := &in.scopes[i]
			if s.alias != "" && s.alias == first {
				return in.descend(s.elem, rest)
			}
			if v := in.field(s.elem, first); v.kind != undefined {
				return in.descend(v, rest)
			}
		}
		return fromPayload(in)
	}
}

// descend follows a path below v.
func (in *Input) descend(v value, path []string) value {
	for _, name := range path {
		v = in.field(v, name)
	}
	return v
}

// star is the whole payload as an argument: its JSON value, or its bytes as a String.
func (in *Input) star() value {
	if in.root() {
		return in.doc.load(0, in.whole)
	}
	return textValue(in.doc.text)
}

// caseOf compiles CASE. A subject that is Undefined matches nothing, not even ELSE.
func (c *compiler) caseOf(t *term) (expr, *SyntaxError) {
	es, err := c.exprs(t.args)
	if err != nil {
		return nil, err
	}
	subject, whens, otherwise := es[0], es[1:], expr(nil)
	if len(whens)%2 == 1 {
		whens, otherwise = whens[:len(whens)-1], whens[len(whens)-1]
	}
	return func(in *Input) value {
		v := subject(in)
		if v.kind == undefined {
			return undef
		}
		for i := 0; i < len(whens); i += 2 {
			if w := whens[i](in); w.kind != undefined && in.equal(v, w, 0) {
				return whens[i+1](in)
			}
		}
		if otherwise != nil {
			return otherwise(in)
		}
		return undef
	}, nil
}

func (c *compiler) object(t *term) (expr, *SyntaxError) {
	es, err := c.exprs(t.args)
	keys := t.path
	return func(in *Input) value {
		b := objectBuilder{members: make([]member, 0, len(es))}
		for i, e := range es {
			b.set(keys[i], e(in))
		}
		in.spend(len(es))
		return objectValue(b.members)
	}, err
}

func (c *compiler) array(t *term) (expr, *SyntaxError) {
	es, err := c.exprs(t.args)
	return func(in *Input) value {
		list := make([]value, 0, len(es))
		for _, e := range es {
			if v := e(in); v.kind != undefined {
				list = append(list, v)
			}
		}
		in.spend(len(es))
		return arrayValue(list)
	}, err
}

// call compiles a function call. A wrong number of arguments is Undefined; a function that
// does not exist is an error.
func (c *compiler) call(t *term) (expr, *SyntaxError) {
	f := functions[t.name]
	switch {
	case f == nil:
		return nil, c.fail(t.at, "there is no function %s()", short(t.name))
	case f.newer && c.version == V2015:
		return nil, c.fail(t.at, "%s() needs SQL version %s", t.name, V2016)
	}
	args, err := c.exprs(t.args)
	if err != nil {
		return nil, err
	}
	if len(args) < f.min || len(args) > f.max {
		return func(*Input) value { return undef }, nil
	}
	if f.external || t.name == "decode" && isLiteral(t.args[1], "proto") {
		if t.name == "get_dynamodb" && slices.Contains(c.external, t.name) {
			return nil, c.fail(t.at, "a statement can call get_dynamodb() once")
		}
		if !slices.Contains(c.external, t.name) {
			c.external = append(c.external, t.name)
		}
		name := t.name
		return withArgs(args, func(in *Input, args []value) value { return in.call(name, args) }), nil
	}
	if f.compile != nil {
		if e := f.compile(c, t, args); e != nil {
			return e, nil
		}
	}
	if f.call == nil {
		return func(*Input) value { return undef }, nil
	}
	return withArgs(args, f.call), nil
}

func isLiteral(t *term, s string) bool {
	return t.op == opLiteral && t.val.kind == text && t.val.str == s
}

// withArgs evaluates arguments on the Input's stack, so that a call needs no memory.
func withArgs(args []expr, call func(in *Input, args []value) value) expr {
	return func(in *Input) value {
		base := len(in.stack)
		for _, a := range args {
			v := a(in)
			in.stack = append(in.stack, v)
		}
		v := call(in, in.stack[base:])
		in.stack = in.stack[:base]
		return v
	}
}
