package iotsql

import (
	"math"
	"math/big"
)

// double makes a function of one argument that computes in binary floating point; what is
// no real number is Undefined.
func double(f func(float64) float64) *function {
	return &function{min: 1, max: 1, call: func(_ *Input, args []value) value {
		n, ok := args[0].toNumber()
		if !ok {
			return undef
		}
		return resultValue(fromFloat(f(n.float())))
	}}
}

func double2(f func(a, b float64) float64) *function {
	return &function{min: 2, max: 2, call: func(_ *Input, args []value) value {
		a, ok := args[0].toNumber()
		if !ok {
			return undef
		}
		b, ok := args[1].toNumber()
		if !ok {
			return undef
		}
		return resultValue(fromFloat(f(a.float(), b.float())))
	}}
}

var (
	acosF  = math.Acos
	asinF  = math.Asin
	atanF  = math.Atan
	cosF   = math.Cos
	coshF  = math.Cosh
	sinF   = math.Sin
	sinhF  = math.Sinh
	tanF   = math.Tan
	tanhF  = math.Tanh
	expF   = math.Exp
	sqrtF  = math.Sqrt
	lnF    = math.Log
	logF   = math.Log10
	atan2F = math.Atan2 // y, then x
	powerF = math.Pow
)

func abs(_ *Input, args []value) value {
	n, ok := args[0].toNumber()
	if ok && n.sign() < 0 {
		n = neg(n)
	}
	return resultValue(n, ok)
}

var modulo2 = numbers(rem)

// modulo is mod() and remainder(), which are the operator %.
func modulo(in *Input, args []value) value { return modulo2(in, args[0], args[1]) }

// bitwise makes a function of two Ints, rounded down, as two's complement.
func bitwise(f func(a, b number) number) func(*Input, []value) value {
	return func(_ *Input, args []value) value {
		a, ok := args[0].toNumber()
		if !ok {
			return undef
		}
		b, ok := args[1].toNumber()
		if !ok {
			return undef
		}
		return numberValue(f(a.toInt(toFloor), b.toInt(toFloor)))
	}
}

func bitAnd(a, b number) number {
	if a.big == nil && b.big == nil {
		return intNumber(a.coef & b.coef)
	}
	return newNumber(new(big.Int).And(a.int(), b.int()), 0, false)
}

func bitOr(a, b number) number {
	if a.big == nil && b.big == nil {
		return intNumber(a.coef | b.coef)
	}
	return newNumber(new(big.Int).Or(a.int(), b.int()), 0, false)
}

func bitXor(a, b number) number {
	return newNumber(new(big.Int).Xor(a.int(), b.int()), 0, false)
}

// bitNot is two's complement: bitnot(13) is -14. (The guide's example says 2.)
func bitNot(_ *Input, args []value) value {
	n, ok := args[0].toNumber()
	if !ok {
		return undef
	}
	return numberValue(newNumber(new(big.Int).Not(n.toInt(toFloor).int()), 0, false))
}

func toWhole(how rounding) func(*Input, []value) value {
	return func(_ *Input, args []value) value {
		n, ok := args[0].toNumber()
		return resultValue(n.toInt(how), ok)
	}
}

func sign(_ *Input, args []value) value {
	n, ok := args[0].toNumber()
	return resultValue(intNumber(int64(n.sign())), ok)
}

func truncate(_ *Input, args []value) value {
	n, ok := args[0].toNumber()
	if !ok {
		return undef
	}
	places, ok := args[1].toNumber()
	if !ok {
		return undef
	}
	return numberValue(n.trunc(int32(places.clamp(0, maxDigits))))
}

// nanvl gives its first argument, whatever it is, unless it is absent.
func nanvl(_ *Input, args []value) value {
	if args[0].kind == undefined || args[0].kind == null {
		return args[1]
	}
	return args[0]
}

// random is rand(): 53 random bits behind the point.
func random(in *Input, _ []value) value {
	return resultValue(fromFloat(float64(in.random()>>11) / (1 << 53)))
}
