package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"tidegate/devices"
)

// tcp frames by a header with a length and a transaction number (MODBUS Messaging on
// TCP/IP 1.0b, section 3.1.3), so that a late answer is known for what it is.
type tcp struct {
	port devices.Port
	last uint16 // transaction number
	buf  []byte // what came and was not used
}

const header = 7 // transaction, protocol, length, unit

func (w *tcp) units() (lowest, highest int) { return 0, 255 }

func (w *tcp) ask(ctx context.Context, unit byte, q question, timeout time.Duration, _ bool) (a answer, dropped int, err error) {
	w.last++
	frame := make([]byte, header, header+len(q.pdu))
	binary.BigEndian.PutUint16(frame, w.last)
	binary.BigEndian.PutUint16(frame[4:], uint16(1+len(q.pdu)))
	frame[6] = unit
	if err := w.port.Write(ctx, append(frame, q.pdu...)); err != nil {
		return a, 0, lost(ctx, err)
	}
	until, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	piece := make([]byte, 512)
	at := time.Now()
	for {
		for len(w.buf) >= header {
			length := int(binary.BigEndian.Uint16(w.buf[4:]))
			if binary.BigEndian.Uint16(w.buf[2:]) != 0 || length < 3 || length > 254 {
				return a, dropped, fmt.Errorf("%w: the other end does not speak Modbus TCP: % x", devices.ErrGone, w.buf[:header])
			}
			if len(w.buf) < 6+length {
				break
			}
			got, pdu := w.buf[:header], append([]byte(nil), w.buf[header:6+length]...)
			mine := binary.BigEndian.Uint16(got) == w.last && got[6] == unit && q.answers(pdu)
			w.buf = append(w.buf[:0], w.buf[6+length:]...)
			if mine {
				return answer{pdu: pdu, at: at}, dropped, nil
			}
			dropped++ // late, foreign or malformed
		}
		var n int
		n, at, err = w.port.Read(until, piece)
		if err != nil {
			switch {
			case ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded):
				return a, dropped, lost(ctx, err)
			case dropped > 0 || len(w.buf) > 0:
				return a, 0, fmt.Errorf("%w: %d answers that belong to no question of unit %d", devices.ErrGarbled, max(dropped, 1), unit)
			}
			return a, 0, fmt.Errorf("%w from unit %d", devices.ErrSilent, unit)
		}
		w.buf = append(w.buf, piece[:n]...)
	}
}
