package profile

import (
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"tidegate/devices"
)

// Chips are the sensors that reckon with a calibration, with what they measure.
var Chips = map[string][]string{
	"bme280": {"temperature", "pressure", "humidity"},
	"bmp280": {"temperature", "pressure"},
	"bmp180": {"temperature", "pressure"},
}

// Sensirion is the Check of that maker's sensors.
const Sensirion = "sensirion"

// MaxWait is how long a device may take to carry out a command.
const MaxWait = 2 * time.Second

// maxAnswer bounds the bytes of one answer, and maxCommand those of a command.
const (
	maxAnswer  = 64
	maxCommand = 32
)

// Bytes are bytes that are written in hexadecimal, with or without spaces: 01 C3 83.
type Bytes string

// UnmarshalText reads them.
func (b *Bytes) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(strings.ReplaceAll(string(text), " ", ""))
	if err != nil || len(raw) > maxCommand {
		return fmt.Errorf("is %q, expected up to %d bytes in hexadecimal, two digits each, as in 01 C3 83", text, maxCommand)
	}
	*b = Bytes(raw)
	return nil
}

// MarshalText writes them.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(fmt.Sprintf("% X", string(b))), nil }

// Size gives how many bytes of the answer the value of an I²C point takes.
func (p *Point) Size() int {
	switch p.Coding(I2C) {
	case "u8", "i8":
		return 1
	case "u24", "i24":
		return 3
	case "u32", "i32", "f32":
		return 4
	}
	return 2
}

// End gives how many bytes the answer must have for the point.
func (p *Point) End() int { return p.At + p.Size() }

// Decode takes the value of an I²C point out of an answer that holds it.
func (p *Point) Decode(answer []byte) devices.Value {
	raw := slices.Clone(answer[p.At:p.End()])
	if p.Order == "DCBA" {
		slices.Reverse(raw)
	}
	var bits uint32
	for _, b := range raw {
		bits = bits<<8 | uint32(b)
	}
	coding := p.Coding(I2C)
	scale, offset := p.Factors()
	if coding == "f32" {
		return devices.Float(float64(math.Float32frombits(bits))*scale + offset)
	}
	n := int64(bits)
	if coding[0] == 'i' {
		spare := 64 - 8*len(raw)
		n = n << spare >> spare
	}
	n >>= p.Shift
	if p.kind(I2C) == devices.Integer {
		return devices.Int(n*int64(scale) + int64(offset))
	}
	return devices.Float(tidy(float64(n)*scale + offset))
}

// tidy drops what binary fractions add to a decimal: 21.500000000000004 is 21.5.
func tidy(x float64) float64 {
	if x == 0 || math.IsInf(x, 0) || math.IsNaN(x) {
		return x
	}
	unit := math.Pow(10, 9-math.Ceil(math.Log10(math.Abs(x))))
	return math.Round(x*unit) / unit
}

func (p *Profile) validateI2C(bad func(key, format string, args ...any)) {
	if p.Protocol != I2C {
		if p.Address != 0 || p.Chip != "" || p.Check != "" {
			bad("protocol", "address, chip and check are for i2c alone")
		}
		return
	}
	if p.Address != 0 && (p.Address < 0x08 || p.Address > 0x77) {
		bad("address", "is 0x%02x, expected 0x08 to 0x77", p.Address)
	}
	if _, known := Chips[p.Chip]; p.Chip != "" && !known {
		bad("chip", "is %q, expected bme280, bmp280 or bmp180, or none and points with command and read", p.Chip)
	}
	if p.Check != "" && p.Check != Sensirion {
		bad("check", "is %q, expected %s", p.Check, Sensirion)
	}
	if p.Chip != "" && p.Check != "" {
		bad("check", "is for points with command and read, and chip %s has none", p.Chip)
	}
}

func (p *Point) validateI2C(of *Profile, bad func(key, format string, args ...any)) {
	if p.Every != 0 && p.Every < MinEvery {
		bad("every", "is %v, expected at least %v", p.Every, MinEvery)
	}
	if quantities, known := Chips[of.Chip]; known {
		if !slices.Contains(quantities, p.Quantity) {
			bad("quantity", "is %q, expected one of %s", p.Quantity, strings.Join(quantities, ", "))
		}
		if p.Command != "" || p.Read != "" || p.Wait != 0 || p.At != 0 || p.Shift != 0 || p.Order != "" || p.Type != "" {
			bad("quantity", "is all that a point of chip %s has: no command, read, wait, at, shift, order and type", of.Chip)
		}
		return
	}
	if p.Quantity != "" {
		bad("quantity", "is for profiles with chip")
	}
	if p.Command == "" && p.Read == "" {
		bad("read", "missing, expected the bytes that ask for the value, as in 00, or a command")
	}
	if p.Wait < 0 || p.Wait > MaxWait || p.Wait != 0 && p.Command == "" {
		bad("wait", "is %v, expected up to %v behind a command", p.Wait, MaxWait)
	}
	if p.At < 0 || p.End() > maxAnswer {
		bad("at", "is %d, expected 0 or more, and an answer of at most %d bytes", p.At, maxAnswer)
	}
	if p.Shift < 0 || p.Shift >= 8*p.Size() || p.Shift > 0 && p.Coding(I2C) == "f32" {
		bad("shift", "is %d, expected less than the bits of the value", p.Shift)
	}
	if p.Order != "" && p.Order != "ABCD" && p.Order != "DCBA" {
		bad("order", "is %q, expected ABCD, the high byte first, or DCBA", p.Order)
	}
	if of.Check == Sensirion && (p.Size() != 2 || p.At%3 != 0) {
		bad("at", "is %d, expected 0, 3, 6 … and a type of two bytes: every third byte of the answer is a check", p.At)
	}
}
