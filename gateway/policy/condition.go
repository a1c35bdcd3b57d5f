package policy

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// condition is one operator applied to one key.
type condition struct {
	op       *operator
	set      quantifier
	ifExists bool
	key      string
	timed    bool // the key changes with time: answered at each decision
	values   []template
}

type quantifier uint8

const (
	single quantifier = iota
	forAllValues
	forAnyValue
)

// operator compares one value of a request with one value of a policy.
type operator struct {
	name    string
	negated bool
	wild    bool // the policy's value may hold wildcards
	equal   func(request, policy string) bool
	like    func(request string, policy *pattern) bool
	arn     bool
	null    bool
	check   func(policy string) bool // of values without variables, when the document is parsed
	want    string                   // what check expects, for the error
}

// operators by name; the negated ones are the same comparison with "no value
// matches" as the answer.
var operators = func() map[string]*operator {
	m := map[string]*operator{}
	add := func(name, negation string, op operator) {
		op.name = name
		yes := op
		m[name] = &yes
		if negation != "" {
			no := op
			no.name, no.negated = negation, true
			m[negation] = &no
		}
	}
	text := func(a, b string) bool { return a == b }
	add("StringEquals", "StringNotEquals", operator{equal: text})
	add("StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", operator{equal: strings.EqualFold})
	add("StringLike", "StringNotLike", operator{wild: true, like: func(r string, p *pattern) bool { return p.match([]byte(r)) }})
	add("ArnEquals", "ArnNotEquals", operator{wild: true, arn: true})
	add("ArnLike", "ArnNotLike", operator{wild: true, arn: true})
	number := func(cmp func(a, b float64) bool) operator {
		return operator{check: isNumber, want: "a number", equal: func(r, p string) bool {
			a, errA := strconv.ParseFloat(r, 64)
			b, errB := strconv.ParseFloat(p, 64)
			return errA == nil && errB == nil && cmp(a, b)
		}}
	}
	add("NumericEquals", "NumericNotEquals", number(func(a, b float64) bool { return a == b }))
	add("NumericLessThan", "", number(func(a, b float64) bool { return a < b }))
	add("NumericLessThanEquals", "", number(func(a, b float64) bool { return a <= b }))
	add("NumericGreaterThan", "", number(func(a, b float64) bool { return a > b }))
	add("NumericGreaterThanEquals", "", number(func(a, b float64) bool { return a >= b }))
	date := func(cmp func(order int) bool) operator {
		check := func(s string) bool { _, ok := parseDate(s); return ok }
		return operator{check: check, want: "a date", equal: func(r, p string) bool {
			a, okA := parseDate(r)
			b, okB := parseDate(p)
			return okA && okB && cmp(a.Compare(b))
		}}
	}
	add("DateEquals", "DateNotEquals", date(func(o int) bool { return o == 0 }))
	add("DateLessThan", "", date(func(o int) bool { return o < 0 }))
	add("DateLessThanEquals", "", date(func(o int) bool { return o <= 0 }))
	add("DateGreaterThan", "", date(func(o int) bool { return o > 0 }))
	add("DateGreaterThanEquals", "", date(func(o int) bool { return o >= 0 }))
	add("Bool", "", operator{check: isBool, want: "true or false", equal: func(r, p string) bool {
		return isBool(r) && isBool(p) && strings.EqualFold(r, p)
	}})
	add("IpAddress", "NotIpAddress", operator{check: isPrefix, want: "an IP address or a CIDR range", equal: func(r, p string) bool {
		addr, errA := netip.ParseAddr(r)
		prefix, ok := parsePrefix(p)
		return errA == nil && ok && prefix.Contains(addr.Unmap().WithZone(""))
	}})
	add("Null", "", operator{null: true, check: isBool, want: "true or false"})
	return m
}()

func isNumber(s string) bool { _, err := strconv.ParseFloat(s, 64); return err == nil }
func isBool(s string) bool   { return strings.EqualFold(s, "true") || strings.EqualFold(s, "false") }
func isPrefix(s string) bool { _, ok := parsePrefix(s); return ok }

// parsePrefix reads a range in CIDR form or a single address.
func parsePrefix(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), true
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, false
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), true
}

// parseDate reads the ISO 8601 forms IAM names and epoch seconds.
func parseDate(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02", "2006-01", "2006"} {
		if t, err := time.Parse(layout, s); err == nil && (layout != "2006" || len(s) == 4) {
			return t, true
		}
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && f > -1e11 && f < 1e11 {
		return time.Unix(0, 0).Add(time.Duration(f * float64(time.Second))), f < 9e9 && f > -9e9
	}
	return time.Time{}, false
}

// holds answers the condition. Values of one key are alternatives; a negated
// operator wants none of them to fit. An absent key fails a positive operator
// and passes a negated one; ForAllValues passes on an empty set, ForAnyValue
// does not.
func (k *condition) holds(c *Context) bool {
	request, present := c.values(k.key)
	if k.op.null {
		return k.null(present && len(request) > 0)
	}
	if !present && k.ifExists {
		return true
	}
	switch k.set {
	case forAllValues:
		for _, r := range request {
			if k.any(r, c) == k.op.negated {
				return false
			}
		}
		return true
	case forAnyValue:
		for _, r := range request {
			if k.any(r, c) != k.op.negated {
				return true
			}
		}
		return false
	}
	for _, r := range request {
		if k.any(r, c) {
			return !k.op.negated
		}
	}
	return k.op.negated
}

// null answers "is the key absent".
func (k *condition) null(present bool) bool {
	for i := range k.values {
		if v, ok := k.values[i].text(nil); ok && strings.EqualFold(v, strconv.FormatBool(!present)) {
			return true
		}
	}
	return false
}

// any says whether one of the policy's values fits the request's.
func (k *condition) any(request string, c *Context) bool {
	for i := range k.values {
		t := &k.values[i]
		switch {
		case k.op.arn:
			p, ok := t.arn(c)
			if ok && matchARN(request, p) {
				return true
			}
		case k.op.wild:
			p := t.pattern(c)
			if k.op.like(request, &p) {
				return true
			}
		default:
			if v, ok := t.text(c); ok && k.op.equal(request, v) {
				return true
			}
		}
	}
	return false
}

// arn gives the six components of an ARN pattern, each matched for itself, so
// that a star does not reach from one into the next.
func (t *template) arn(c *Context) ([6]pattern, bool) {
	var out [6]pattern
	var b builder
	n := 0
	for _, p := range t.parts {
		text := p.text
		switch p.kind {
		case star:
			b.any()
			continue
		case question:
			b.one()
			continue
		case variable:
			v, ok := c.substitute(p.text)
			if !ok {
				return out, false
			}
			text = v
		}
		for n < 5 {
			i := strings.IndexByte(text, ':')
			if i < 0 {
				break
			}
			b.literal(text[:i])
			out[n] = b.done()
			b = builder{}
			n++
			text = text[i+1:]
		}
		b.literal(text)
	}
	out[n] = b.done()
	return out, n == 5
}

// matchARN compares an ARN component by component.
func matchARN(arn string, p [6]pattern) bool {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 {
		return false
	}
	for i := range parts {
		if !p[i].match([]byte(parts[i])) {
			return false
		}
	}
	return true
}
