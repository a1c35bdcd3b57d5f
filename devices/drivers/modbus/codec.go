package modbus

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"tidegate/devices"
	"tidegate/devices/profile"
)

// coding is how one point's value stands in its registers, worked out once.
type coding struct {
	name          string
	kind          devices.Kind
	form          string // u16 …, as in profiles
	words         int
	bit           int // -1 when the value is all of it
	swapWords     bool
	swapBytes     bool
	scale, offset *big.Rat // nil when there is nothing to reckon
}

func newCoding(x *profile.Point, d *devices.Point) coding {
	c := coding{name: x.Name, kind: d.Kind, form: x.Coding(profile.Modbus), words: x.Words(), bit: -1}
	if x.Bit != nil {
		c.bit = *x.Bit
	}
	c.swapWords = x.Order == "CDAB" || x.Order == "DCBA"
	c.swapBytes = x.Order == "BADC" || x.Order == "DCBA"
	if scale, offset := x.Factors(); scale != 1 || offset != 0 {
		c.scale, _ = devices.Float(scale).Rat()
		c.offset, _ = devices.Float(offset).Rat()
	}
	return c
}

// arrange brings registers from the device's order into ABCD and back.
func (c *coding) arrange(words []uint16) []uint16 {
	out := make([]uint16, len(words))
	for i, w := range words {
		if c.swapBytes {
			w = w<<8 | w>>8
		}
		if c.swapWords && c.form != "string" {
			out[len(words)-1-i] = w
		} else {
			out[i] = w
		}
	}
	return out
}

// decode makes the value of registers; no value for what is not a finite number.
func (c *coding) decode(words []uint16) devices.Value {
	words = c.arrange(words)
	var raw uint64
	for _, w := range words {
		raw = raw<<16 | uint64(w)
	}
	switch c.form {
	case "bool":
		if c.bit >= 0 {
			return devices.Bool(raw>>c.bit&1 != 0)
		}
		return devices.Bool(raw != 0)
	case "string":
		b := make([]byte, 0, 2*len(words))
		for _, w := range words {
			b = binary.BigEndian.AppendUint16(b, w)
		}
		return devices.Text(strings.TrimRight(string(b), "\x00 "))
	case "i16":
		return c.measure(devices.Int(int64(int16(raw))))
	case "i32":
		return c.measure(devices.Int(int64(int32(raw))))
	case "i64":
		return c.measure(devices.Int(int64(raw)))
	case "f32":
		// The shortest decimal that names the float32: what the device meant by 21.3.
		f, err := strconv.ParseFloat(strconv.FormatFloat(float64(math.Float32frombits(uint32(raw))), 'g', -1, 32), 64)
		if err != nil {
			return devices.Value{}
		}
		return c.measure(devices.Float(f))
	case "f64":
		return c.measure(devices.Float(math.Float64frombits(raw)))
	}
	return c.measure(devices.Uint(raw))
}

// measure applies scale and offset, in decimals.
func (c *coding) measure(v devices.Value) devices.Value {
	if v.IsNone() {
		return v
	}
	if c.scale != nil {
		r, ok := v.Rat()
		if !ok {
			return devices.Value{}
		}
		v = devices.Rat(r.Add(r.Mul(r, c.scale), c.offset))
	}
	w, err := v.As(c.kind)
	if err != nil { // a whole number past 2^53 where a float is due: the nearest
		f, _ := v.Float64()
		return devices.Float(f)
	}
	return w
}

// encode makes registers of a value of the point's kind. A number between two steps of
// the scale becomes the nearer one.
func (c *coding) encode(v devices.Value) ([]uint16, error) {
	wrong := func(expected string) error {
		return fmt.Errorf("%w for %s: %v, expected %s", devices.ErrValue, c.name, v, expected)
	}
	if b, is := v.Bool(); is {
		if b {
			return c.arrange([]uint16{1}), nil
		}
		return []uint16{0}, nil
	}
	if s, is := v.Text(); is {
		if len(s) > 2*c.words {
			return nil, wrong(fmt.Sprintf("at most %d bytes", 2*c.words))
		}
		b := append([]byte(s), make([]byte, 2*c.words-len(s))...)
		words := make([]uint16, c.words)
		for i := range words {
			words[i] = binary.BigEndian.Uint16(b[2*i:])
		}
		return c.arrange(words), nil
	}
	r, ok := v.Rat()
	if !ok {
		return nil, wrong("a number")
	}
	if c.scale != nil {
		r.Quo(r.Sub(r, c.offset), c.scale)
	}
	var raw uint64
	switch c.form {
	case "f32":
		f, _ := r.Float32()
		if math.IsInf(float64(f), 0) {
			return nil, wrong("what a 32-bit float can hold")
		}
		raw = uint64(math.Float32bits(f))
	case "f64":
		f, _ := r.Float64()
		raw = math.Float64bits(f)
	default:
		n := nearest(r)
		bits := uint(16 * c.words)
		lo, hi := new(big.Int), new(big.Int).Lsh(big.NewInt(1), bits)
		if c.form[0] == 'i' {
			hi.Rsh(hi, 1)
			lo.Neg(hi)
		}
		if n.Cmp(lo) < 0 || n.Cmp(hi) >= 0 {
			return nil, wrong(fmt.Sprintf("what fits the %s of its register", c.form))
		}
		if n.Sign() < 0 {
			n.Add(n, new(big.Int).Lsh(big.NewInt(1), bits)) // two's complement
		}
		raw = n.Uint64()
	}
	words := make([]uint16, c.words)
	for i := range words {
		words[i] = uint16(raw >> (16 * (c.words - 1 - i)))
	}
	return c.arrange(words), nil
}

// nearest rounds half away from zero.
func nearest(r *big.Rat) *big.Int {
	half := big.NewRat(1, 2)
	if r.Sign() < 0 {
		half.Neg(half)
	}
	sum := new(big.Rat).Add(r, half)
	return new(big.Int).Quo(sum.Num(), sum.Denom()) // toward zero
}
