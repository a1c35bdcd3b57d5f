package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"tidegate/devices"
	"tidegate/devices/profile"
)

// rtu frames by unit number and checksum on a serial line (MODBUS over Serial Line 1.02,
// section 2.5.1).
//
// Frames are told apart by their length and checksum and not by the silence between them:
// no silence survives a USB adapter, whose driver hands over what came in 16 ms.
type rtu struct {
	port  devices.Port
	char  time.Duration // one character on the wire; 0 when there is no wire
	gap   time.Duration // the 3.5 characters of silence that separate frames
	quiet time.Time     // until when the line is not to be used

	// suspect is until when an answer to an earlier question may still come: RTU has nothing
	// in an answer that says to which question it belongs, so nothing else is asked before.
	suspect    time.Time
	unanswered bool // an earlier try of the question under way had no answer at all
	buf        []byte
}

const maxFrame = 256 // MODBUS over Serial Line 1.02, section 2.5.1

func newRTU(port devices.Port, line profile.Line) *rtu {
	w := &rtu{port: port, buf: make([]byte, 0, 2*maxFrame)}
	if line.Baud > 0 {
		bits := line.Bits
		if bits == 0 {
			bits = 11
		}
		w.char = time.Duration(bits) * time.Second / time.Duration(line.Baud)
		w.gap = w.char * 7 / 2
		if line.Baud > 19200 {
			w.gap = 1750 * time.Microsecond // section 2.5.1.1: a fixed value above 19200
		}
	}
	return w
}

func (w *rtu) units() (lowest, highest int) { return 1, 247 }

// checksum is the CRC of section 6.2.2, low byte first on the wire.
func checksum(frame []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, b := range frame {
		crc ^= uint16(b)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0xA001
			} else {
				crc >>= 1
			}
		}
	}
	return crc
}

func (w *rtu) ask(ctx context.Context, unit byte, q question, timeout time.Duration, again bool) (a answer, dropped int, err error) {
	if !again {
		w.unanswered = false
	}
	late, err := w.settle(ctx, again)
	if err != nil {
		return a, late, err
	}
	frame := append([]byte{unit}, q.pdu...)
	frame = binary.LittleEndian.AppendUint16(frame, checksum(frame))
	if err := w.port.Write(ctx, frame); err != nil {
		return a, late, lost(ctx, err)
	}
	// What was written is in a buffer; it leaves and the answer comes at the speed of the line.
	onWire := w.char * time.Duration(len(frame)+q.answerLen()+3)
	sent := time.Now()
	end := sent.Add(timeout + onWire)
	pdu, at, seen, err := w.listen(ctx, unit, q, end)
	w.quiet = time.Now().Add(w.gap)
	dropped = late
	switch {
	case err == nil:
		if w.unanswered {
			w.suspect = sent.Add(2 * (timeout + onWire)) // this may have been the answer to the try before
		}
		if len(seen) > 0 {
			dropped++
		}
		return answer{pdu: pdu, at: at}, dropped, nil
	case errors.Is(err, devices.ErrSilent):
		w.unanswered = true
		w.suspect = sent.Add(2 * (timeout + onWire))
	case ctx.Err() != nil:
		w.suspect = end // whoever asks next hears the answer to this first
	}
	return a, dropped, err
}

// settle waits for the line to be free and throws away what came uncalled; late is 1
// when there was something.
func (w *rtu) settle(ctx context.Context, again bool) (late int, err error) {
	junk := make([]byte, maxFrame)
	for !again && time.Now().Before(w.suspect) {
		until, cancel := context.WithDeadline(ctx, w.suspect)
		_, _, err := w.port.Read(until, junk)
		cancel()
		if err == nil {
			late, w.quiet = 1, time.Now().Add(w.gap)
			continue
		}
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return late, lost(ctx, err)
		}
	}
	if err := sleep(ctx, time.Until(w.quiet)); err != nil {
		return late, err
	}
	if err := w.port.Discard(); err != nil {
		return late, lost(ctx, err)
	}
	return late, nil
}

// listen collects bytes until the answer to q is among them. seen is what came before it
// or instead of it.
func (w *rtu) listen(ctx context.Context, unit byte, q question, end time.Time) (pdu []byte, at time.Time, seen []byte, err error) {
	until, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	w.buf = w.buf[:0]
	for {
		if len(w.buf) >= maxFrame {
			w.buf = append(w.buf[:0], w.buf[len(w.buf)-maxFrame+1:]...) // noise without end
		}
		n, at, err := w.port.Read(until, w.buf[len(w.buf):cap(w.buf)])
		if err != nil {
			if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
				return nil, at, w.buf, diagnose(w.buf, unit, q)
			}
			return nil, at, w.buf, lost(ctx, err)
		}
		w.buf = w.buf[:len(w.buf)+n]
		if pdu, from := scan(w.buf, unit, q); pdu != nil {
			return append([]byte(nil), pdu...), at, w.buf[:from], nil
		}
	}
}

// scan looks for a frame with the answer to q from unit anywhere in b: the turn of the
// line and cheap transceivers put stray bytes in front. It returns the frame's pdu and
// where the frame begins.
func scan(b []byte, unit byte, q question) (pdu []byte, from int) {
	for from := 0; from+5 <= len(b); from++ {
		if b[from] != unit {
			continue
		}
		n := 0 // of the pdu
		switch b[from+1] {
		case q.function():
			n = q.answerLen()
		case q.function() | exception:
			n = 2
		}
		end := from + 1 + n
		if n == 0 || end+2 > len(b) || !q.answers(b[from+1:end]) {
			continue
		}
		if binary.LittleEndian.Uint16(b[end:]) == checksum(b[from:end]) {
			return b[from+1 : end], from
		}
	}
	return nil, 0
}

// diagnose says what is wrong when no answer was among the bytes that came in time.
func diagnose(b []byte, unit byte, q question) error {
	if len(b) == 0 {
		return fmt.Errorf("%w from unit %d", devices.ErrSilent, unit)
	}
	show := fmt.Sprintf("% x", b[:min(len(b), 16)])
	what := "this is none"
	switch {
	case len(b) < 5 || b[0] == unit && b[1] == q.function() && len(b) < q.answerLen()+3:
		what = "it ends too early"
	case len(b) > 5 && b[0] != unit && binary.LittleEndian.Uint16(b[len(b)-2:]) == checksum(b[:len(b)-2]):
		what = fmt.Sprintf("this is from unit %d", b[0])
	case b[0] == unit && binary.LittleEndian.Uint16(b[len(b)-2:]) == checksum(b[:len(b)-2]):
		what = "this is for another question"
	case b[0] == unit:
		what = "its checksum is wrong (speed, parity, or wiring?)"
	}
	return fmt.Errorf("%w: an answer of unit %d was expected, %s: %s", devices.ErrGarbled, unit, what, show)
}
