package harness_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"testing"

	"tidegate/test/harness"
)

func TestMosquittoAndItsClients(t *testing.T) {
	m := harness.StartMosquitto(t)
	sub := harness.StartMosquittoSub(t, m.Addr, "a/#")
	ear := harness.Listen(t, m.Addr, "a/b")
	harness.MosquittoPub(t, m.Addr, "a/b", `{"x": 1}`)
	if got, want := sub.Next(), (harness.Heard{Topic: "a/b", Payload: `{"x": 1}`, QoS: 1}); got != want {
		t.Errorf("mosquitto_sub: got %+v, want %+v", got, want)
	}
	if got, want := ear.Expect("a/b", nil), (harness.Heard{Topic: "a/b", Payload: `{"x": 1}`, QoS: 1}); got != want {
		t.Errorf("ear: got %+v, want %+v", got, want)
	}
	m.Stop()
	m.Start()
	harness.Listen(t, m.Addr, "x")
}

// Read coil, write coil, read registers over the wire, with requests spelled out by hand (Modbus over serial line 2.5.1).
func TestTheModbusSlaveAnswers(t *testing.T) {
	w := harness.NewWire(t)
	s := harness.StartModbusSlave(t, w.B, 7, map[int][]uint16{10: {0x1234, 0x5678}})
	f, err := os.OpenFile(w.A, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ask := func(request []byte, want []byte) {
		t.Helper()
		if _, err := f.Write(crc(request)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want)+2)
		if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, crc(want)) {
			t.Fatalf("% x: got % x, %v, want % x", request, got, err, want)
		}
	}
	ask([]byte{7, 3, 0, 10, 0, 2}, []byte{7, 3, 4, 0x12, 0x34, 0x56, 0x78})
	ask([]byte{7, 5, 0, 3, 0xff, 0}, []byte{7, 5, 0, 3, 0xff, 0})
	s.Says("coil 3 = 1")
	ask([]byte{7, 1, 0, 3, 0, 1}, []byte{7, 1, 1, 1})

	w.Mangle(func(fromA bool, b []byte) []byte {
		if fromA {
			return b
		}
		b[0] ^= 1
		return b
	})
	f.Write(crc([]byte{7, 1, 0, 3, 0, 1}))
	got := make([]byte, 1)
	if _, err := io.ReadFull(f, got); err != nil || got[0] != 6 {
		t.Errorf("mangled: got % x, %v, want 06", got, err)
	}
	w.Unplug()
	if _, err := io.Copy(io.Discard, f); err == nil {
		if _, err := os.Stat(w.A); err == nil {
			t.Error("the node is still there after the cable is gone")
		}
	}
}

func crc(b []byte) []byte {
	c := uint16(0xffff)
	for _, x := range b {
		c ^= uint16(x)
		for range 8 {
			odd := c&1 == 1
			if c >>= 1; odd {
				c ^= 0xa001
			}
		}
	}
	return binary.LittleEndian.AppendUint16(bytes.Clone(b), c)
}
