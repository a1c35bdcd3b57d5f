package modbus_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/devices"
	"tidegate/devices/profile"
	"tidegate/hw/serial/ptypair"
)

func one() *profile.Profile {
	return &profile.Profile{Protocol: profile.Modbus, Points: []profile.Point{{Name: "x", Register: reg(profile.Holding, 7), Writable: true}}}
}

func TestOnlyTheRightAnswerCounts(t *testing.T) {
	good := frame(1, 3, 2, 0x12, 0x34)
	flip := func(b []byte, i int) []byte { b = append([]byte(nil), b...); b[i] ^= 0x40; return b }
	for _, c := range []struct {
		name   string
		answer []byte
		says   string // of the error; empty when the answer is found all the same
	}{
		{"as it should be", good, ""},
		{"stray bytes in front", append([]byte{0x00, 0xFF, 0x01, 0x03}, good...), ""},
		{"stray bytes behind", append(append([]byte(nil), good...), 0xFF, 0x00), ""},
		{"our own question as an echo in front", append(frame(1, 3, 0, 7, 0, 1), good...), ""},
		{"another unit's answer in front", append(frame(9, 3, 2, 0, 1), good...), ""},
		{"a flipped data bit", flip(good, 4), "its checksum is wrong"},
		{"a flipped bit of the checksum", flip(good, 6), "its checksum is wrong"},
		{"another unit", frame(9, 3, 2, 0x12, 0x34), "this is from unit 9"},
		{"another function", frame(1, 4, 2, 0x12, 0x34), "this is for another question"},
		{"a length that was not asked for", frame(1, 3, 4, 0x12, 0x34, 0, 0), "this is for another question"},
		{"a byte count that lies", frame(1, 3, 9, 0x12, 0x34), "this is for another question"},
		{"cut short", good[:5], "it ends too early"},
		{"one byte", good[:1], "it ends too early"},
		{"noise", []byte(strings.Repeat("\xA5\x5A", 400)), "this is none"},
		{"an exception without a code", frame(1, 0x83, 0), "this is for another question"},
		{"another function's exception", frame(1, 0x84, 2), "this is for another question"},
	} {
		t.Run(c.name, func(t *testing.T) {
			link, wire := line(t, profile.Line{Timeout: 80 * time.Millisecond, Retries: -1})
			hear(t, wire, func([]byte) []byte { return c.answer })
			d := device(t, link, 1, one())
			got, err := d.Sample(t.Context(), nil)
			if c.says == "" {
				if err != nil || values(got) != "x=4660 good" {
					t.Errorf("got %s, %v", values(got), err)
				}
				return
			}
			if !errors.Is(err, devices.ErrGarbled) || !strings.Contains(err.Error(), c.says) || len(got) != 0 {
				t.Errorf("got %s, %v; want %q", values(got), err, c.says)
			}
			if n := d.Counts(); n.Garbled != 1 || n.Good != 0 || !strings.Contains(n.Last, c.says) {
				t.Errorf("counts %+v", n)
			}
		})
	}
}

func TestADamagedAnswerIsAskedForAgain(t *testing.T) {
	link, wire := line(t, profile.Line{Timeout: 80 * time.Millisecond})
	n := 0
	hear(t, wire, func([]byte) []byte {
		if n++; n%3 == 1 {
			return nil
		} else if n%3 == 2 {
			return []byte{1, 3, 2, 0, 0, 0, 0}
		}
		return frame(1, 3, 2, 0, byte(n))
	})
	d := device(t, link, 1, one())
	if got, err := d.Sample(t.Context(), nil); err != nil || values(got) != "x=3 good" {
		t.Errorf("got %s, %v", values(got), err)
	}
	if c := d.Counts(); c.Silent != 1 || c.Garbled != 1 || c.Retries != 2 || c.Good != 1 {
		t.Errorf("counts %+v", c)
	}
}

// late answers every question for one register, after a time, with the address it asked for.
func late(t *testing.T, wire *ptypair.Pair, after time.Duration) {
	var under sync.WaitGroup
	t.Cleanup(under.Wait) // after hear has ended
	hear(t, wire, func(q []byte) []byte {
		under.Add(1)
		time.AfterFunc(after, func() {
			defer under.Done()
			wire.Write(frame(1, 3, 2, 0, q[3]))
		})
		return nil
	})
}

// A slave that answers each question only after the client has given up on it would, with
// answers of the same shape, have every point shown with its neighbour's value.
func TestALateAnswerIsNeverTakenForAnother(t *testing.T) {
	link, wire := line(t, profile.Line{Timeout: 60 * time.Millisecond, Retries: -1})
	late(t, wire, 90*time.Millisecond)
	p := &profile.Profile{Protocol: profile.Modbus, Points: []profile.Point{{Name: "a", Register: reg(profile.Holding, 10)}, {Name: "b", Register: reg(profile.Holding, 20)}}}
	d := device(t, link, 1, p)
	for i := range 8 {
		name := []string{"a", "b"}[i%2]
		got, err := d.SampleOf(t.Context(), []string{name}, nil)
		if want := map[string]string{"a": "a=10 good", "b": "b=20 good"}[name]; err == nil && values(got) != want {
			t.Errorf("asked for %s, got %s", name, values(got))
		} else if err != nil && !errors.Is(err, devices.ErrSilent) {
			t.Error(err)
		}
	}
	if c := d.Counts(); c.Garbled == 0 {
		t.Errorf("late answers were not counted: %+v", c)
	}
}

// The same when the retry is answered by what was meant for the try before it.
func TestARetryDoesNotShiftTheAnswers(t *testing.T) {
	link, wire := line(t, profile.Line{Timeout: 60 * time.Millisecond, Retries: 1})
	late(t, wire, 80*time.Millisecond)
	p := &profile.Profile{Protocol: profile.Modbus, Gap: new(int), Points: []profile.Point{{Name: "a", Register: reg(profile.Holding, 10)},
		{Name: "b", Register: reg(profile.Holding, 20)}, {Name: "c", Register: reg(profile.Holding, 30)}}}
	d := device(t, link, 1, p)
	// On a busy machine an answer may come too late for the retry as well; it must not be taken for another even so.
	const all = "a=10 good; b=20 good; c=30 good"
	for end, whole := time.Now().Add(20*time.Second), 0; whole < 3; {
		got, err := d.Sample(t.Context(), nil)
		switch {
		case err == nil && values(got) == all:
			whole++
		case err == nil || !strings.HasPrefix(all, values(got)) || time.Now().After(end):
			t.Fatalf("after %d whole samples: %s, %v", whole, values(got), err)
		}
	}
}

func TestRefusalsAreNamedAndABusyDeviceIsAskedAgain(t *testing.T) {
	link, wire := line(t, profile.Line{Timeout: 200 * time.Millisecond})
	code, asked := byte(6), 0
	hear(t, wire, func(q []byte) []byte {
		if asked++; code == 6 && asked == 3 {
			return frame(q[0], q[1], 2, 0, 9)
		}
		return frame(q[0], q[1]|0x80, code)
	})
	d := device(t, link, 1, one())
	if got, err := d.Sample(t.Context(), nil); err != nil || values(got) != "x=9 good" {
		t.Errorf("busy twice: %s, %v", values(got), err)
	}
	code = 1
	if got, err := d.Sample(t.Context(), nil); err != nil || values(got) != "x=null bad" {
		t.Errorf("refused: %s, %v", values(got), err)
	}
	_, err := d.Write(t.Context(), "x", devices.Int(1))
	if !errors.Is(err, devices.ErrRefused) || !strings.Contains(err.Error(), "function 6, exception 1 (illegal function)") {
		t.Errorf("write: %v", err)
	}
}

func TestAnAnswerInPiecesAndASlowLine(t *testing.T) {
	link, wire := line(t, profile.Line{Baud: 9600, Timeout: 300 * time.Millisecond})
	hear(t, wire, func([]byte) []byte {
		for _, c := range frame(1, 3, 2, 0, 42) {
			wire.Write([]byte{c})
			time.Sleep(3 * time.Millisecond) // the pace of a slow line is what is tested
		}
		return nil
	})
	d := device(t, link, 1, one())
	began := time.Now()
	for range 3 {
		if got, err := d.Sample(t.Context(), nil); err != nil || values(got) != "x=42 good" {
			t.Errorf("got %s, %v", values(got), err)
		}
	}
	if took := time.Since(began); took < 3*18*time.Millisecond {
		t.Errorf("three answers of 18 ms took %v", took)
	}
}

func TestEveryTypeAndOrder(t *testing.T) {
	abcd := []byte{0x42, 0x48, 0xF5, 0xC3} // 50.24
	order := map[string][]int{"ABCD": {0, 1, 2, 3}, "CDAB": {2, 3, 0, 1}, "BADC": {1, 0, 3, 2}, "DCBA": {3, 2, 1, 0}}
	for _, c := range []struct {
		point profile.Point
		data  []byte // in ABCD
		want  string
		back  bool // what is written gives the same bytes
	}{
		{profile.Point{Type: "f32"}, abcd, "50.24", true},
		{profile.Point{Type: "u32"}, abcd, "1112077763", true},
		{profile.Point{Type: "i32"}, []byte{0xFF, 0xFF, 0xFF, 0xFE}, "-2", true},
		{profile.Point{Type: "i32", Scale: 0.001, Offset: -1}, []byte{0xFF, 0xFF, 0xFF, 0xFE}, "-1.002", true},
		{profile.Point{Type: "u16", Scale: 0.1}, []byte{0, 3}, "0.3", true},
		{profile.Point{Type: "i16", Scale: 10}, []byte{0xFF, 0xFF}, "-10", true},
		{profile.Point{Type: "bool"}, []byte{0, 1}, "true", true},
		{profile.Point{Type: "u64"}, []byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, "18446744073709551615", true},
		{profile.Point{Type: "i64"}, []byte{0x80, 0, 0, 0, 0, 0, 0, 0}, "-9223372036854775808", true},
		{profile.Point{Type: "f64"}, []byte{0x40, 0x09, 0x21, 0xFB, 0x54, 0x44, 0x2D, 0x18}, "3.141592653589793", true},
		{profile.Point{Type: "f32"}, []byte{0x7F, 0xC0, 0, 0}, "null", false}, // NaN
		{profile.Point{Type: "f64"}, []byte{0x7F, 0xF0, 0, 0, 0, 0, 0, 0}, "null", false},
		{profile.Point{Type: "string", Length: 2}, []byte{'A', 'b', ' ', 0}, `"Ab"`, false},
	} {
		for name, at := range order {
			data := append([]byte(nil), c.data...)
			n := len(data)
			for i := range data { // by the rule: bytes of a word, and words, swapped or not
				word, byt := i/2, i%2
				if name == "BADC" || name == "DCBA" {
					byt = 1 - byt
				}
				if (name == "CDAB" || name == "DCBA") && c.point.Type != "string" {
					word = n/2 - 1 - word
				}
				data[i] = c.data[2*word+byt]
			}
			if n == 4 && c.point.Type == "f32" { // the names say it themselves
				for i, from := range at {
					if data[i] != c.data[from] {
						t.Fatalf("%s: % x", name, data)
					}
				}
			}
			t.Run(fmt.Sprintf("%s %s %s", c.point.Type, name, c.want), func(t *testing.T) {
				x := c.point
				x.Name, x.Register, x.Order, x.Writable = "x", reg(profile.Holding, 7), name, true
				link, wire := line(t, profile.Line{Timeout: time.Second})
				var wrote []byte
				hear(t, wire, func(q []byte) []byte {
					switch q[1] {
					case 6:
						wrote = q[4:6]
						return q
					case 16:
						wrote = q[7 : len(q)-2]
						return frame(q[:6]...)
					}
					return frame(append([]byte{1, 3, byte(len(data))}, data...)...)
				})
				d := device(t, link, 1, &profile.Profile{Protocol: profile.Modbus, Points: []profile.Point{x}})
				got, err := d.Sample(t.Context(), nil)
				if err != nil || len(got) != 1 || got[0].Value.String() != c.want || (got[0].Quality == devices.Bad) != (c.want == "null") {
					t.Fatalf("got %s, %v; want %s", values(got), err, c.want)
				}
				if !c.back {
					return
				}
				if v, err := d.Write(t.Context(), "x", got[0].Value); err != nil || !v.Equal(got[0].Value) || string(wrote) != string(data) {
					t.Errorf("written back as % x, want % x; %v, %v", wrote, data, v, err)
				}
			})
		}
	}
}

func TestWhatDoesNotFitARegisterIsNotSent(t *testing.T) {
	link, wire := line(t, profile.Line{Timeout: 100 * time.Millisecond})
	hear(t, wire, func(q []byte) []byte { t.Errorf("sent % x", q); return nil })
	p := &profile.Profile{Protocol: profile.Modbus, Points: []profile.Point{
		{Name: "u16", Register: reg(profile.Holding, 0), Writable: true}, {Name: "i16", Register: reg(profile.Holding, 1), Type: "i16", Scale: 0.1, Writable: true},
		{Name: "f32", Register: reg(profile.Holding, 2), Type: "f32", Writable: true}, {Name: "s", Register: reg(profile.Holding, 4), Type: "string", Length: 1, Writable: true}}}
	d := device(t, link, 1, p)
	for _, c := range []struct {
		point string
		v     devices.Value
	}{{"u16", devices.Int(65536)}, {"u16", devices.Int(-1)}, {"u16", devices.Float(1.5)}, {"i16", devices.Float(3276.8)}, {"i16", devices.Float(-3276.9)},
		{"f32", devices.Float(math.MaxFloat64)}, {"s", devices.Text("abc")}} {
		if _, err := d.Write(t.Context(), c.point, c.v); !errors.Is(err, devices.ErrValue) {
			t.Errorf("%s set to %v: %v", c.point, c.v, err)
		}
	}
}

func TestACancelledQuestionIsNotAnsweredToTheNext(t *testing.T) {
	link, wire := line(t, profile.Line{Timeout: 150 * time.Millisecond, Retries: -1})
	asked := make(chan byte, 8)
	hear(t, wire, func(q []byte) []byte { asked <- q[3]; return nil })
	p := &profile.Profile{Protocol: profile.Modbus, Points: []profile.Point{{Name: "a", Register: reg(profile.Holding, 10)}, {Name: "b", Register: reg(profile.Holding, 20)}}}
	d := device(t, link, 1, p)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := d.SampleOf(ctx, []string{"a"}, nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	wire.Write(frame(1, 3, 2, 0, 10)) // the answer to a, and b is asked for
	go func() { <-asked; wire.Write(frame(1, 3, 2, 0, 20)) }()
	if got, err := d.SampleOf(t.Context(), []string{"b"}, nil); err != nil || values(got) != "b=20 good" {
		t.Errorf("got %s, %v", values(got), err)
	}
}
