package i2csim

import (
	"encoding/binary"
	"math"
	"sort"

	"golang.org/x/sys/unix"
)

// Calibration of the simulated BME280: temperature and pressure as in the example of
// BST-BMP280-DS001, 3.12, humidity as chips have it.
const (
	t1, t2, t3         = 27504, 26435, -1000
	p1, p2, p3, p4, p5 = 36477, -10685, 3024, 2855, 140
	p6, p7, p8, p9     = -7, 15500, -14600, 6000
	h1, h2, h3         = 75, 370, 0
	h4, h5, h6         = 313, 50, 30
)

// BME280 makes the climate sensor of Bosch; env says what it is like where it hangs.
// It measures when it is told to (forced mode, BST-BME280-DS002, 3.3.3).
func BME280(env func() (celsius, hectoPascal, percent float64)) Chip {
	c := &registers{}
	c.mem[0xD0] = 0x60
	for i, v := range []int{t1, t2, t3, p1, p2, p3, p4, p5, p6, p7, p8, p9} {
		binary.LittleEndian.PutUint16(c.mem[0x88+2*i:], uint16(v))
	}
	c.mem[0xA1] = h1
	binary.LittleEndian.PutUint16(c.mem[0xE1:], h2)
	c.mem[0xE3] = h3
	c.mem[0xE4], c.mem[0xE5], c.mem[0xE6], c.mem[0xE7] = h4>>4, h4&15|h5<<4&0xF0, h5>>4, h6
	c.write = func(register, value byte) {
		if register >= 0xF2 && register <= 0xF5 {
			c.mem[register] = value
		}
		if register != 0xF4 || value&3 == 0 {
			return
		}
		celsius, hectoPascal, percent := env()
		fine := celsius * 5120
		t := raw(1<<20, func(adc float64) bool { return fineOf(adc) >= fine })
		fine = fineOf(float64(t))
		p := raw(1<<20, func(adc float64) bool { return pressureOf(adc, fine) <= 100*hectoPascal })
		h := raw(1<<16, func(adc float64) bool { return humidityOf(adc, fine) >= percent })
		put20(c.mem[0xF7:], p)
		put20(c.mem[0xFA:], t)
		binary.BigEndian.PutUint16(c.mem[0xFD:], uint16(h))
		c.mem[0xF4] = value &^ 3 // it goes back to sleep
	}
	return c
}

// raw gives the first reading of the converter for which reached is true.
func raw(n int, reached func(adc float64) bool) int {
	return min(n-1, sort.Search(n, func(i int) bool { return reached(float64(i)) }))
}

func put20(dst []byte, v int) { dst[0], dst[1], dst[2] = byte(v>>12), byte(v>>4), byte(v<<4) }

// The compensation in floating point, BST-BME280-DS002, 8.1.

func fineOf(adc float64) float64 {
	a := (adc/16384 - t1/1024.0) * t2
	b := adc/131072 - t1/8192.0
	return a + b*b*t3
}

func pressureOf(adc, fine float64) float64 {
	a := fine/2 - 64000
	b := a*a*p6/32768 + a*p5*2
	b = b/4 + p4*65536
	a = (p3*a*a/524288 + p2*a) / 524288
	a = (1 + a/32768) * p1
	p := (1048576 - adc - b/4096) * 6250 / a
	return p + (p9*p*p/2147483648+p*p8/32768+p7)/16
}

func humidityOf(adc, fine float64) float64 {
	h := fine - 76800
	h = (adc - (h4*64 + h5/16384.0*h)) * (h2 / 65536.0 * (1 + h6/67108864.0*h*(1+h3/67108864.0*h)))
	return min(100, max(0, h*(1-h1*h/524288)))
}

// SHT31 makes the humidity sensor of Sensirion. It measures on command 0x2400 and gives the
// result once (datasheet SHT3x-DIS 6, 4.3); before that it does not acknowledge a read.
func SHT31(env func() (celsius, percent float64)) Chip { return &sht31{env: env} }

type sht31 struct {
	env    func() (celsius, percent float64)
	result []byte
}

// Transfer is Chip's.
func (c *sht31) Transfer(w, r []byte) error {
	if len(w) == 2 && binary.BigEndian.Uint16(w) == 0x2400 {
		celsius, percent := c.env()
		c.result = nil
		for _, v := range []float64{(celsius + 45) / 175, percent / 100} {
			word := binary.BigEndian.AppendUint16(nil, uint16(math.Round(min(1, max(0, v))*65535)))
			c.result = append(append(c.result, word...), crc8(word))
		}
	}
	if len(r) == 0 {
		return nil
	}
	if c.result == nil {
		return unix.ENXIO
	}
	copy(r, c.result)
	c.result = nil
	return nil
}

// crc8 is Sensirion's: polynomial 0x31, from 0xFF; of 0xBEEF it is 0x92.
func crc8(b []byte) byte {
	sum := byte(0xFF)
	for _, x := range b {
		sum ^= x
		for range 8 {
			if sum&0x80 != 0 {
				sum = sum<<1 ^ 0x31
			} else {
				sum <<= 1
			}
		}
	}
	return sum
}
