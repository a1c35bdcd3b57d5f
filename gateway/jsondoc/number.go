package jsondoc

import "strconv"

// number reads the number at the start of s: its length, or what is wrong with it and
// where. s begins with a digit or a minus.
func number(s string) (n int, wrong string) {
	if s[n] == '-' {
		n++
	}
	switch {
	case n >= len(s) || s[n] < '0' || s[n] > '9':
		return n, "a digit is expected"
	case s[n] == '0':
		n++
	default:
		n = digits(s, n)
	}
	if n < len(s) && s[n] == '.' {
		from := n + 1
		if n = digits(s, from); n == from {
			return n, "a digit is expected"
		}
	}
	if n < len(s) && (s[n] == 'e' || s[n] == 'E') {
		if n++; n < len(s) && (s[n] == '+' || s[n] == '-') {
			n++
		}
		from := n
		if n = digits(s, from); n == from {
			return n, "a digit is expected"
		}
		for from < n && s[from] == '0' {
			from++
		}
		if n-from > 9 {
			return from, "an exponent out of range"
		}
	}
	return n, ""
}

func digits(s string, n int) int {
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// decimal is a number taken apart: ±0.ddd × 10^exp, where the digits have neither
// leading nor trailing zeros. Zero has no digits, no sign and no exponent.
type decimal struct {
	neg       bool
	head, end string // the digits, in two pieces because of the point
	exp       int
}

func takeApart(s string) (d decimal) {
	if s[0] == '-' {
		d.neg = true
		s = s[1:]
	}
	n := digits(s, 0)
	d.head, s = s[:n], s[n:]
	if s != "" && s[0] == '.' {
		n = digits(s, 1)
		d.end, s = s[1:n], s[n:]
	}
	if s != "" {
		d.exp, _ = strconv.Atoi(s[1:]) // at most nine digits, see number
	}
	for d.head != "" && d.head[0] == '0' {
		d.head = d.head[1:]
	}
	d.exp += len(d.head)
	if d.head == "" {
		for d.end != "" && d.end[0] == '0' {
			d.end = d.end[1:]
			d.exp--
		}
	}
	for d.end != "" && d.end[len(d.end)-1] == '0' {
		d.end = d.end[:len(d.end)-1]
	}
	if d.end == "" {
		for d.head != "" && d.head[len(d.head)-1] == '0' {
			d.head = d.head[:len(d.head)-1]
		}
	}
	if d.head == "" && d.end == "" {
		return decimal{}
	}
	return d
}

func (d *decimal) digit(i int) byte {
	if i < len(d.head) {
		return d.head[i]
	}
	return d.end[i-len(d.head)]
}

// sameNumber says whether two numbers have the same value, however they are written.
func sameNumber(a, b string) bool {
	if a == b {
		return true
	}
	x, y := takeApart(a), takeApart(b)
	n := len(x.head) + len(x.end)
	if x.neg != y.neg || x.exp != y.exp || n != len(y.head)+len(y.end) {
		return false
	}
	for i := range n {
		if x.digit(i) != y.digit(i) {
			return false
		}
	}
	return true
}
