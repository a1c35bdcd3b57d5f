package modbus_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"tidegate/devices"
	"tidegate/devices/drivers/modbus"
	"tidegate/devices/profile"
)

// echo is a port that answers the first question with data, in pieces, and then is lost.
type echo struct {
	data  []byte
	piece int
	asked []byte
}

func (e *echo) Read(ctx context.Context, b []byte) (int, time.Time, error) {
	if len(e.data) == 0 {
		return 0, time.Time{}, io.ErrUnexpectedEOF
	}
	n := copy(b, e.data[:min(len(e.data), e.piece)])
	e.data = e.data[n:]
	return n, time.Now(), ctx.Err()
}
func (e *echo) Write(_ context.Context, b []byte) error { e.asked = bytes.Clone(b); return nil }
func (e *echo) Discard() error                          { return nil }
func (e *echo) Close() error                            { return nil }

func FuzzRTUAnswer(f *testing.F) {
	f.Add(frame(1, 3, 4, 0, 1, 0, 2), byte(3))
	f.Add(frame(1, 0x83, 2), byte(1))
	f.Add(append([]byte{1, 3, 4}, frame(1, 3, 4, 0, 1, 0, 2)...), byte(7))
	f.Add(bytes.Repeat([]byte{1, 3}, 400), byte(255))
	f.Fuzz(func(t *testing.T, data []byte, piece byte) {
		link, _ := modbus.Attach(&echo{data: data, piece: int(piece) + 1}, profile.Line{Retries: -1})
		d := device(t, link, 1, &profile.Profile{Protocol: profile.Modbus, Points: []profile.Point{{Name: "x", Register: reg(profile.Holding, 7), Type: "u32"}}})
		got, err := d.Sample(t.Context(), nil)
		if err != nil || got[0].Quality == devices.Bad {
			return
		}
		u, _ := got[0].Value.Uint64()
		if good := frame(1, 3, 4, byte(u>>24), byte(u>>16), byte(u>>8), byte(u)); !bytes.Contains(data, good) {
			t.Errorf("% x gave %d", data, u)
		}
	})
}

func FuzzTCPAnswer(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 0, 7, 1, 3, 4, 0, 1, 0, 2}, byte(3))
	f.Add([]byte{0, 0, 0, 0, 0, 3, 1, 0x83, 2, 0, 1, 0, 0, 0, 3, 1, 0x83, 2}, byte(3))
	f.Fuzz(func(t *testing.T, data []byte, piece byte) {
		link, _ := modbus.Attach(&echo{data: data, piece: int(piece) + 1}, profile.Line{Retries: -1, Framing: "tcp"})
		d := device(t, link, 1, &profile.Profile{Protocol: profile.Modbus, Points: []profile.Point{{Name: "x", Register: reg(profile.Holding, 7), Type: "u32"}}})
		got, err := d.Sample(t.Context(), nil)
		if err != nil || got[0].Quality == devices.Bad {
			return
		}
		u, _ := got[0].Value.Uint64()
		if good := []byte{0, 1, 0, 0, 0, 7, 1, 3, 4, byte(u >> 24), byte(u >> 16), byte(u >> 8), byte(u)}; !bytes.Contains(data, good) {
			t.Errorf("% x gave %d", data, u)
		}
	})
}
