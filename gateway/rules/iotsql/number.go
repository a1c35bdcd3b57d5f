package iotsql

import (
	"math"
	"math/big"
	"math/bits"
	"strconv"
)

// Limits of the language's numbers (§2.1): 34 significant digits as IEEE 754's
// decimal128 has them, magnitudes from 1E-999 to 9.99E999.
const (
	maxDigits   = 34
	maxExponent = 999
)

// number is an exact decimal: coef × 10^-scale, or big × 10^-scale where the coefficient
// does not fit into 63 bits. It behaves as Java's BigDecimal under MathContext.DECIMAL128,
// which is what the cloud computes with: 1.10+1.10 is 2.20.
type number struct {
	coef  int64
	big   *big.Int // instead of coef when not nil; never changed once made
	scale int32
	dec   bool // a Decimal; an Int has scale 0
}

var pow10small = [19]int64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}

var bigTen = big.NewInt(10)

// pow10 gives 10^n, n ≥ 0.
func pow10(n int) *big.Int {
	if n < len(pow10small) {
		return big.NewInt(pow10small[n])
	}
	return new(big.Int).Exp(bigTen, big.NewInt(int64(n)), nil)
}

func intNumber(i int64) number { return number{coef: i} }

// newNumber makes a number of a big coefficient, small again where it fits.
func newNumber(b *big.Int, scale int32, dec bool) number {
	if b.IsInt64() && b.Int64() != math.MinInt64 {
		return number{coef: b.Int64(), scale: scale, dec: dec}
	}
	return number{big: b, scale: scale, dec: dec}
}

// int gives the coefficient as a big integer that must not be changed.
func (n number) int() *big.Int {
	if n.big != nil {
		return n.big
	}
	return big.NewInt(n.coef)
}

func (n number) sign() int {
	switch {
	case n.big != nil:
		return n.big.Sign()
	case n.coef < 0:
		return -1
	case n.coef > 0:
		return 1
	}
	return 0
}

// digits counts the coefficient's decimal digits; 0 has one.
func (n number) digits() int {
	if n.big != nil {
		return bigDigits(n.big)
	}
	u := uint64(n.coef)
	if n.coef < 0 {
		u = -u
	}
	d := 1
	for ; u >= 10; u /= 10 {
		d++
	}
	return d
}

func bigDigits(b *big.Int) int {
	if b.Sign() == 0 {
		return 1
	}
	// log10 of the top of the range the bit length allows, then one comparison.
	d := int(float64(b.BitLen()-1)*math.Log10(2)) + 1
	if b.CmpAbs(pow10(d)) >= 0 {
		d++
	}
	return d
}

// exponent is the power of ten of the leading digit.
func (n number) exponent() int { return n.digits() - 1 - int(n.scale) }

// ok says whether the magnitude is one the language has.
func (n number) ok() bool {
	if n.scale > -900 && n.scale < 900 && n.big == nil { // no digits to count on the usual way
		return true
	}
	if n.sign() == 0 {
		return true
	}
	e := n.exponent()
	return e <= maxExponent && e >= -maxExponent
}

// round brings a number to 34 digits, half to even.
func (n number) round() number {
	if n.big == nil {
		return n // 63 bits have 19 digits at most
	}
	over := bigDigits(n.big) - maxDigits
	if over <= 0 {
		return n
	}
	return number{big: roundBig(n.big, over, false), scale: n.scale - int32(over), dec: true}.round()
}

// roundBig drops the last drop digits, half to even; sticky says that there was more
// behind them that is not zero.
func roundBig(b *big.Int, drop int, sticky bool) *big.Int {
	div := pow10(drop)
	q, r := new(big.Int).QuoRem(b, div, new(big.Int))
	r.Abs(r).Lsh(r, 1)
	c := r.Cmp(div)
	if c == 0 && sticky {
		c = 1
	}
	if c > 0 || c == 0 && q.Bit(0) == 1 {
		q.Add(q, big.NewInt(int64(b.Sign())))
	}
	return q
}

// whole gives an Int instead of a Decimal without fraction, as version 2016-03-23
// treats 10.0, and any other number as it is.
func (n number) whole() number {
	if !n.dec {
		return n
	}
	if n.scale == 0 {
		n.dec = false
		return n
	}
	if n.sign() == 0 {
		return number{}
	}
	if n.scale > 0 {
		if n.big == nil {
			if n.scale < int32(len(pow10small)) && n.coef%pow10small[n.scale] == 0 {
				return number{coef: n.coef / pow10small[n.scale]}
			}
			return n
		}
		if int(n.scale) > bigDigits(n.big) {
			return n
		}
		q, r := new(big.Int).QuoRem(n.big, pow10(int(n.scale)), new(big.Int))
		if r.Sign() != 0 {
			return n
		}
		return newNumber(q, 0, false)
	}
	if n.exponent() >= maxDigits {
		return n
	}
	return newNumber(new(big.Int).Mul(n.int(), pow10(-int(n.scale))), 0, false)
}

// align brings two numbers to the larger of their scales.
func align(a, b number) (x, y number) {
	if a.scale == b.scale {
		return a, b
	}
	if a.scale > b.scale {
		y, x = align(b, a)
		return x, y
	}
	d := int(b.scale - a.scale)
	if a.big == nil && d < len(pow10small) {
		if hi, lo := bits.Mul64(abs64(a.coef), uint64(pow10small[d])); hi == 0 && lo <= math.MaxInt64 {
			a.coef *= pow10small[d]
			a.scale = b.scale
			return a, b
		}
	}
	a.big = new(big.Int).Mul(a.int(), pow10(d))
	a.scale = b.scale
	return a, b
}

func abs64(i int64) uint64 {
	if i < 0 {
		return -uint64(i)
	}
	return uint64(i)
}

// cmp compares by value: 10 equals 10.0.
func cmp(a, b number) int {
	if a.big == nil && b.big == nil && a.scale == b.scale {
		switch {
		case a.coef < b.coef:
			return -1
		case a.coef > b.coef:
			return 1
		}
		return 0
	}
	if sa, sb := a.sign(), b.sign(); sa != sb || sa == 0 {
		return sa - sb
	}
	if ea, eb := a.exponent(), b.exponent(); ea != eb {
		return (ea - eb) * a.sign()
	}
	a, b = align(a, b)
	if a.big == nil && b.big == nil {
		return cmp(a, b)
	}
	return a.int().Cmp(b.int())
}

// finish rounds a result and refuses one outside the language's range.
func finish(n number) (number, bool) {
	n = n.round()
	return n, n.ok()
}

func add(a, b number) (number, bool) {
	a.dec = a.dec || b.dec
	dec := a.dec
	if d := a.exponent() - b.exponent(); d > 2*maxDigits+2 || d < -2*maxDigits-2 {
		// One is below the other's last digit: no need to write out the zeros between.
		if d < 0 {
			a, b = b, a
		}
		if b.sign() == 0 || a.sign() == 0 {
			if a.sign() == 0 {
				a = b
			}
			a.dec = dec
			return finish(a)
		}
		b = number{coef: int64(b.sign()), scale: a.scale + int32(2*maxDigits+2-a.digits()), dec: true}
	}
	a, b = align(a, b)
	if a.big == nil && b.big == nil {
		if s := a.coef + b.coef; (s > a.coef) == (b.coef > 0) && s != math.MinInt64 {
			n := number{coef: s, scale: a.scale, dec: dec}
			return n, n.ok()
		}
	}
	return finish(newNumber(new(big.Int).Add(a.int(), b.int()), a.scale, dec))
}

func neg(a number) number {
	if a.big != nil {
		a.big = new(big.Int).Neg(a.big)
	}
	a.coef = -a.coef
	return a
}

func sub(a, b number) (number, bool) { return add(a, neg(b)) }

func mul(a, b number) (number, bool) {
	dec, scale := a.dec || b.dec, a.scale+b.scale
	if a.big == nil && b.big == nil {
		if hi, lo := bits.Mul64(abs64(a.coef), abs64(b.coef)); hi == 0 && lo <= math.MaxInt64 {
			n := number{coef: a.coef * b.coef, scale: scale, dec: dec}
			return n, n.ok()
		}
	}
	return finish(newNumber(new(big.Int).Mul(a.int(), b.int()), scale, dec))
}

// quo divides: two Ints give the Int towards zero (7/3 is 2), anything else 34 digits.
// It is not ok for a divisor of zero.
func quo(a, b number) (number, bool) {
	if b.sign() == 0 {
		return number{}, false
	}
	if !a.dec && !b.dec {
		if a.big == nil && b.big == nil {
			return number{coef: a.coef / b.coef}, true
		}
		return newNumber(new(big.Int).Quo(a.int(), b.int()), 0, false), true
	}
	prefer := a.scale - b.scale
	if a.sign() == 0 {
		return number{scale: min(max(prefer, 0), maxExponent), dec: true}, true
	}
	shift := max(0, maxDigits+1+b.digits()-a.digits())
	q, r := new(big.Int).QuoRem(new(big.Int).Mul(a.int(), pow10(shift)), b.int(), new(big.Int))
	scale := prefer + int32(shift)
	if over := bigDigits(q) - maxDigits; over > 0 {
		exact := r.Sign() == 0
		q = roundBig(q, over, !exact)
		scale -= int32(over)
		if !exact {
			return finish(newNumber(q, scale, true))
		}
	}
	return finish(strip(newNumber(q, scale, true), prefer))
}

// strip takes zeros off the end of a Decimal while its scale is above least.
func strip(n number, least int32) number {
	for n.scale > least && n.sign() != 0 {
		if n.big == nil {
			if n.coef%10 != 0 {
				return n
			}
			n.coef /= 10
		} else {
			q, r := new(big.Int).QuoRem(n.big, bigTen, new(big.Int))
			if r.Sign() != 0 {
				return n
			}
			n = newNumber(q, n.scale, n.dec)
		}
		n.scale--
	}
	return n
}

// rem is what a division towards zero leaves, with the sign of a.
func rem(a, b number) (number, bool) {
	if b.sign() == 0 {
		return number{}, false
	}
	dec := a.dec || b.dec
	a, b = align(a, b)
	if a.big == nil && b.big == nil {
		return number{coef: a.coef % b.coef, scale: a.scale, dec: dec}, true
	}
	return finish(newNumber(new(big.Int).Rem(a.int(), b.int()), a.scale, dec))
}

// rounding says which whole number toInt takes.
type rounding uint8

const (
	toFloor rounding = iota
	toCeil
	toZero
	toNearest // halves away from zero
)

// toInt rounds to a whole number.
func (n number) toInt(how rounding) number {
	if !n.dec {
		return n
	}
	if n.scale <= 0 {
		if n.scale < 0 {
			n = newNumber(new(big.Int).Mul(n.int(), pow10(-int(n.scale))), 0, false)
		}
		n.dec = false
		return n
	}
	if n.exponent() < -1 { // less than 0.1: what is left is the direction
		switch {
		case n.sign() < 0 && how == toFloor:
			return intNumber(-1)
		case n.sign() > 0 && how == toCeil:
			return intNumber(1)
		}
		return number{}
	}
	div := pow10(int(n.scale))
	q, r := new(big.Int).QuoRem(n.int(), div, new(big.Int))
	one := big.NewInt(1)
	switch {
	case r.Sign() == 0:
	case how == toFloor && r.Sign() < 0:
		q.Sub(q, one)
	case how == toCeil && r.Sign() > 0:
		q.Add(q, one)
	case how == toNearest && r.Lsh(r, 1).CmpAbs(div) >= 0:
		q.Add(q, one.Mul(one, big.NewInt(int64(n.sign()))))
	}
	return newNumber(q, 0, false)
}

// trunc cuts a Decimal after places digits of its fraction, and drops zeros at its end.
func (n number) trunc(places int32) number {
	if !n.dec {
		return n
	}
	if n.scale > places {
		if int(n.scale-places) > n.digits() {
			return number{dec: true}
		}
		n = newNumber(new(big.Int).Quo(n.int(), pow10(int(n.scale-places))), places, true)
	}
	if n.sign() == 0 {
		return number{dec: true}
	}
	return strip(n, 0)
}

// clamp gives the whole number below n within [lo, hi], for arguments that count.
func (n number) clamp(lo, hi int64) int64 {
	if n.sign() != 0 && n.exponent() > 18 {
		if n.sign() < 0 {
			return lo
		}
		return hi
	}
	i := n.toInt(toFloor)
	if i.big != nil {
		if i.big.Sign() < 0 {
			return lo
		}
		return hi
	}
	return min(max(i.coef, lo), hi)
}

// float gives the nearest double.
func (n number) float() float64 {
	if n.big == nil && n.scale == 0 {
		return float64(n.coef)
	}
	f, _ := strconv.ParseFloat(string(n.append(nil)), 64) // ±Inf and 0 at the ends of the range are right
	return f
}

// fromFloat gives the shortest decimal that reads back as f; not ok for what is no
// real number.
func fromFloat(f float64) (number, bool) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return number{}, false
	}
	var buf [32]byte
	n, ok := parseNumber(strconv.AppendFloat(buf[:0], f, 'e', -1, 64))
	n.dec = true
	if n.scale < 1 && math.Abs(f) < 1e7 { // as Java prints a double: 32.0, but 3.2E+10
		n.coef, n.scale = int64(f)*10, 1
	}
	return n, ok
}

// parseNumber reads JSON's number syntax and a little more, leading zeros and "1E+5";
// the caller has checked the syntax. Not ok for magnitudes the language has not.
func parseNumber[T []byte | string](s T) (number, bool) {
	i, negative := 0, false
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		negative = s[i] == '-'
		i++
	}
	var n number
	start, count, point := i, 0, -1
	for ; i < len(s); i++ {
		c := s[i]
		if c == '.' {
			point = i
			n.dec = true
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		if count < 18 {
			n.coef = n.coef*10 + int64(c-'0')
		}
		if count > 0 || c != '0' {
			count++
		}
	}
	end := i
	if point >= 0 {
		n.scale = int32(end - point - 1)
	}
	if i < len(s) { // 'e' or 'E'
		n.dec = true
		i++
		down, e := false, 0
		if i < len(s) && (s[i] == '-' || s[i] == '+') {
			down = s[i] == '-'
			i++
		}
		for ; i < len(s); i++ {
			if e = e*10 + int(s[i]-'0'); e > 1<<20 {
				e = 1 << 20 // far outside: no more digits needed
			}
		}
		if down {
			e = -e
		}
		n.scale -= int32(e)
	}
	if count > 18 {
		if count > maxExponent+1 {
			return number{}, false
		}
		digits := make([]byte, 0, end-start)
		for _, c := range []byte(s[start:end]) {
			if c != '.' {
				digits = append(digits, c)
			}
		}
		b, _ := new(big.Int).SetString(string(digits), 10)
		n = newNumber(b, n.scale, n.dec)
	}
	if negative {
		n = neg(n)
	}
	if n.sign() == 0 { // 0E-99999 is zero
		n.scale = min(max(n.scale, 0), maxExponent)
	}
	return n, n.ok()
}

// append writes the number as Java's BigDecimal.toString does: plain, or scientific
// when the scale is negative or the leading digit is more than six places behind the
// point. Both are JSON.
func (n number) append(dst []byte) []byte {
	if n.scale == 0 {
		if n.big != nil {
			return n.big.Append(dst, 10)
		}
		return strconv.AppendInt(dst, n.coef, 10)
	}
	var buf [40]byte
	digits := buf[:0]
	if n.big != nil {
		digits = n.big.Append(digits, 10)
	} else {
		digits = strconv.AppendInt(digits, n.coef, 10)
	}
	if digits[0] == '-' {
		dst = append(dst, '-')
		digits = digits[1:]
	}
	exp := len(digits) - 1 - int(n.scale)
	if n.scale > 0 && exp >= -6 {
		if point := len(digits) - int(n.scale); point > 0 {
			dst = append(append(dst, digits[:point]...), '.')
			return append(dst, digits[point:]...)
		}
		dst = append(dst, '0', '.')
		for i := len(digits); i < int(n.scale); i++ {
			dst = append(dst, '0')
		}
		return append(dst, digits...)
	}
	dst = append(dst, digits[0])
	if len(digits) > 1 {
		dst = append(append(dst, '.'), digits[1:]...)
	}
	dst = append(dst, 'E')
	if exp >= 0 {
		dst = append(dst, '+')
	}
	return strconv.AppendInt(dst, int64(exp), 10)
}
