package iotsql

// arithmetics are the operators whose result is a number or a String.
var arithmetics = map[string]func(in *Input, a, b value) value{
	"+": plus,
	"-": numbers(sub),
	"*": numbers(mul),
	"/": numbers(quo),
	"%": numbers(rem),
}

// plus adds numbers, and joins texts when one side is a String. Null and Undefined have
// no text, so that joining one of them is Undefined.
func plus(in *Input, a, b value) value {
	if a.kind == numeric && b.kind == numeric {
		return resultValue(add(a.number(), b.number()))
	}
	if a.kind != text && b.kind != text {
		return undef
	}
	x, ok := in.toText(a)
	if !ok {
		return undef
	}
	y, ok := in.toText(b)
	if !ok || !in.room(len(x)+len(y)) {
		return undef
	}
	return in.built(x + y)
}

// numbers makes an operator of a function on numbers. Strings that look like a number
// take part as Decimals.
func numbers(f func(a, b number) (number, bool)) func(in *Input, a, b value) value {
	return func(_ *Input, a, b value) value {
		x, ok := a.toNumber()
		if !ok {
			return undef
		}
		y, ok := b.toNumber()
		if !ok {
			return undef
		}
		return resultValue(f(x, y))
	}
}

// comparison compiles = <> < <= > >= and IN.
func (c *compiler) comparison(t *term) (test, *SyntaxError) {
	left, right, err := c.pair(t)
	if err != nil {
		return nil, err
	}
	switch t.name {
	case "=", "<>":
		equal, differs := yes, no
		if t.name == "<>" {
			equal, differs = no, yes
		}
		return func(in *Input) truth {
			a := left(in)
			b := right(in)
			switch {
			case a.kind == undefined || b.kind == undefined:
				return unknown
			case in.equal(a, b, 0):
				return equal
			}
			return differs
		}, nil
	case "IN":
		return func(in *Input) truth {
			a := left(in)
			return in.isIn(a, right(in))
		}, nil
	}
	var below, same, above truth = no, no, no
	switch t.name {
	case "<":
		below = yes
	case "<=":
		below, same = yes, yes
	case ">":
		above = yes
	case ">=":
		same, above = yes, yes
	}
	verdict := func(order int) truth {
		switch {
		case order < 0:
			return below
		case order > 0:
			return above
		}
		return same
	}
	if lit := t.args[1]; lit.op == opLiteral && lit.val.kind == numeric {
		limit := lit.val.number()
		return func(in *Input) truth {
			n, ok := left(in).toNumber()
			if !ok {
				return unknown
			}
			return verdict(cmp(n, limit))
		}, nil
	}
	return func(in *Input) truth {
		a, ok := left(in).toNumber()
		if !ok {
			return unknown
		}
		b, ok := right(in).toNumber()
		if !ok {
			return unknown
		}
		return verdict(cmp(a, b))
	}, nil
}

// isIn is membership by `=`. Without an array, or of Undefined, it is Undefined.
func (in *Input) isIn(v, list value) truth {
	if list.kind != array || v.kind == undefined {
		return unknown
	}
	if d := list.box.doc; d != nil {
		for k := uint32(list.coef) + 1; k < d.nodes[list.coef].next; k = d.nodes[k].next {
			if !in.spend(1) {
				return unknown
			}
			if in.equal(v, d.load(k, in.whole), 0) {
				return yes
			}
		}
		return no
	}
	for _, e := range list.box.list {
		if !in.spend(1) {
			return unknown
		}
		if in.equal(v, e, 0) {
			return yes
		}
	}
	return no
}

// castType is a type cast() knows.
type castType struct {
	name  string // the one castTypes is asked for when it is compiled
	newer bool   // 2016-03-23 only
	cast  func(in *Input, v value) value
}

// castTypes are the names of types, in lower case.
var castTypes = map[string]castType{
	"string":   {"string", false, castText},
	"nvarchar": {"string", false, castText},
	"text":     {"string", false, castText},
	"ntext":    {"string", false, castText},
	"varchar":  {"string", false, castText},
	"int":      {"int", false, castInt},
	"integer":  {"int", false, castInt},
	"double":   {"double", false, castDecimal},
	"decimal":  {"double", true, castDecimal},
	"bool":     {"boolean", true, castBool},
	"boolean":  {"boolean", true, castBool},
}

func castText(in *Input, v value) value {
	if v.kind == text {
		return v
	}
	s, ok := in.toText(v)
	if !ok {
		return undef
	}
	return in.built(s)
}

func castDecimal(_ *Input, v value) value {
	if v.kind == boolean {
		n := number{scale: 1, dec: true}
		if v.flag {
			n.coef = 10
		}
		return numberValue(n)
	}
	n, ok := v.toNumber()
	n.dec = true
	return resultValue(n, ok)
}

func castInt(_ *Input, v value) value {
	if v.kind == boolean {
		if v.flag {
			return intValue(1)
		}
		return intValue(0)
	}
	n, ok := v.toNumber()
	return resultValue(n.toInt(toFloor), ok)
}

func castBool(_ *Input, v value) value {
	if v.kind == numeric {
		return boolValue(v.number().sign() != 0)
	}
	b, ok := v.toBool()
	if !ok {
		return undef
	}
	return boolValue(b)
}
