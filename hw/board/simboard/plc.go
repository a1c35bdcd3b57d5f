package simboard

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"sync"
	"time"

	"tidegate/gateway/clock"
)

// plc is the Modbus RTU slave sim:plc, unit 1 (MODBUS Application Protocol 1.1b3).
//
//	coil 0            the pump
//	discrete 0        the cabinet's door: opens for ten seconds every five minutes
//	holding 0         temperature wanted, tenths of a degree
//	input 0           temperature, tenths of a degree: goes to what is wanted while the pump runs
//	input 1 and 2     pressure, bar, float with the high word first
//	input 3           flow, hundredths of a litre a second
//	input 4 and 5     running hours, high word first
type plc struct {
	mu       sync.Mutex // guards what follows
	silent   bool
	coils    [16]bool
	holdings [16]uint16
	temp     float64 // °C
	ran      time.Duration
	at       time.Time // until when temp and ran are reckoned
	begun    time.Time
}

const (
	unit    = 1
	outside = 15.0            // °C, where the temperature goes by itself
	slow    = 2 * time.Minute // how long it takes most of the way
)

func newPLC(now time.Time) *plc {
	return &plc{temp: 20, at: now, begun: now, ran: 1234 * time.Hour, holdings: [16]uint16{0: 450}}
}

func (p *plc) coil(n int) bool       { p.mu.Lock(); defer p.mu.Unlock(); return p.coils[n] }
func (p *plc) setCoil(n int, v bool) { p.mu.Lock(); defer p.mu.Unlock(); p.coils[n] = v }
func (p *plc) holding(n int) uint16  { p.mu.Lock(); defer p.mu.Unlock(); return p.holdings[n] }
func (p *plc) mute(on bool)          { p.mu.Lock(); defer p.mu.Unlock(); p.silent = on }

// serve answers on the line until it is closed or its deadline is brought forward.
func (p *plc) serve(line io.ReadWriter, clk clock.Clock) error {
	var have []byte
	buf := make([]byte, 256)
	var last time.Time
	for {
		n, err := line.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) || err != nil {
			return err
		}
		if now := time.Now(); now.Sub(last) > 100*time.Millisecond {
			have = have[:0] // what came so long ago was no frame
			last = now
		} else {
			last = now
		}
		have = append(have, buf[:n]...)
		for len(have) >= 4 {
			size, whole := length(have)
			if !whole {
				break
			}
			frame := have[:size]
			if binary.LittleEndian.Uint16(frame[size-2:]) != crc(frame[:size-2]) {
				have = have[1:] // noise, or another slave's answer
				continue
			}
			if frame[0] == unit {
				if a := p.answer(frame[1:size-2], clk.Now()); a != nil {
					a = append([]byte{unit}, a...)
					if _, err := line.Write(binary.LittleEndian.AppendUint16(a, crc(a))); err != nil {
						return err
					}
				}
			}
			have = have[size:]
		}
	}
}

// length gives how long the request at the beginning of b is, once that can be said.
func length(b []byte) (n int, whole bool) {
	switch b[1] {
	case 15, 16:
		if len(b) < 7 {
			return 0, false
		}
		n = 9 + int(b[6])
	default:
		n = 8
	}
	return n, len(b) >= n
}

func crc(b []byte) uint16 {
	r := uint16(0xFFFF)
	for _, x := range b {
		r ^= uint16(x)
		for range 8 {
			carry := r & 1
			r >>= 1
			r ^= 0xA001 * carry
		}
	}
	return r
}

// Exceptions.
const (
	badFunction = 1
	badAddress  = 2
	badValue    = 3
)

// answer carries out a request; nil is silence.
func (p *plc) answer(q []byte, now time.Time) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent {
		return nil
	}
	p.live(now)
	refuse := func(code byte) []byte { return []byte{q[0] | 0x80, code} }
	at, n := int(binary.BigEndian.Uint16(q[1:])), int(binary.BigEndian.Uint16(q[3:]))
	switch q[0] {
	case 1, 2:
		bits := p.coils[:]
		if q[0] == 2 {
			bits = []bool{now.Sub(p.begun)%(5*time.Minute) > 290*time.Second}
		}
		if n < 1 || n > 2000 {
			return refuse(badValue)
		}
		if at+n > len(bits) {
			return refuse(badAddress)
		}
		a := append([]byte{q[0], byte((n + 7) / 8)}, make([]byte, (n+7)/8)...)
		for i := range n {
			if bits[at+i] {
				a[2+i/8] |= 1 << (i % 8)
			}
		}
		return a
	case 3, 4:
		words := p.holdings[:]
		if q[0] == 4 {
			words = p.inputs()
		}
		if n < 1 || n > 125 {
			return refuse(badValue)
		}
		if at+n > len(words) {
			return refuse(badAddress)
		}
		a := []byte{q[0], byte(2 * n)}
		for _, w := range words[at : at+n] {
			a = binary.BigEndian.AppendUint16(a, w)
		}
		return a
	case 5:
		if n != 0 && n != 0xFF00 {
			return refuse(badValue)
		}
		if at >= len(p.coils) {
			return refuse(badAddress)
		}
		p.coils[at] = n != 0
		return q[:5]
	case 6:
		if at >= len(p.holdings) {
			return refuse(badAddress)
		}
		p.holdings[at] = uint16(n)
		return q[:5]
	case 15, 16:
		return p.several(q, at, n, refuse)
	}
	return refuse(badFunction)
}

func (p *plc) several(q []byte, at, n int, refuse func(byte) []byte) []byte {
	size, room := 2*n, len(p.holdings)
	if q[0] == 15 {
		size, room = (n+7)/8, len(p.coils)
	}
	if n < 1 || int(q[5]) != size || len(q) != 6+size {
		return refuse(badValue)
	}
	if at+n > room {
		return refuse(badAddress)
	}
	for i := range n {
		if q[0] == 15 {
			p.coils[at+i] = q[6+i/8]>>(i%8)&1 != 0
		} else {
			p.holdings[at+i] = binary.BigEndian.Uint16(q[6+2*i:])
		}
	}
	return q[:5]
}

// live reckons what has happened since the last look.
func (p *plc) live(now time.Time) {
	d := now.Sub(p.at)
	if d <= 0 {
		return
	}
	p.at = now
	aim := outside
	if p.coils[0] {
		aim = float64(int16(p.holdings[0])) / 10
		p.ran += d
	}
	p.temp += (aim - p.temp) * (1 - math.Exp(-d.Seconds()/slow.Seconds()))
}

func (p *plc) inputs() []uint16 {
	pressure, flow := 1.2, 0.0
	if p.coils[0] {
		wave := math.Sin(float64(p.at.UnixMilli()%9000) / 9000 * 2 * math.Pi)
		pressure, flow = 2.6+0.05*wave, 1.35+0.04*wave
	}
	bits := math.Float32bits(float32(math.Round(pressure*1000) / 1000))
	hours := uint32(p.ran / time.Hour)
	return []uint16{uint16(int16(math.Round(p.temp * 10))), uint16(bits >> 16), uint16(bits), uint16(math.Round(flow * 100)), uint16(hours >> 16), uint16(hours)}
}
