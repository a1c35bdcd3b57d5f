package broker_test

import (
	"io"
	"net"
	"testing"
	"time"

	"tidegate/gateway/broker"
	"tidegate/test/rawmqtt"
)

// fuzzed is a broker that has survived everything so far: it must still serve a client
// after each input.
func fuzzed(f *testing.F) func(t *testing.T, chunks ...[]byte) {
	var h *house
	dir := f.TempDir() // not to be asked for inside the target
	f.Cleanup(func() {
		if h != nil {
			h.down()
		}
	})
	return func(t *testing.T, chunks ...[]byte) {
		if h == nil {
			h = &house{t: t, dir: dir, cfg: broker.DefaultConfig(), auth: &auth{}, clk: system, ev: make(chan broker.Event, 1)}
			h.up()
		}
		h.t = t
		here, there := net.Pipe()
		h.br.Serve(broker.Plain(there), broker.Via{Listener: "fuzz"})
		done := make(chan struct{})
		go func() {
			io.Copy(io.Discard, here)
			close(done)
		}()
		here.SetWriteDeadline(time.Now().Add(patience))
		for _, c := range chunks {
			if _, err := here.Write(c); err != nil {
				break
			}
		}
		here.Close()
		<-done
		c, _, err := rawmqtt.Dial(h.addr, rawmqtt.Options{ClientID: "alive", Clean: true})
		if err != nil {
			t.Fatal(err)
		}
		c.Conn.Close()
	}
}

// FuzzConnect feeds a connection from its first byte.
func FuzzConnect(f *testing.F) {
	feed := fuzzed(f)
	f.Add(rawmqtt.AppendConnect(nil, rawmqtt.Options{ClientID: "a", Clean: true}))
	f.Add(rawmqtt.AppendConnect(nil, rawmqtt.Options{ClientID: "a", V5: true, SessionExpiry: 5, ReceiveMax: 1, User: "u", Pass: "p"}))
	f.Add(will(3, "w", "x", 8|32, 5, "a"))
	f.Add([]byte{0x10, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) { feed(t, b) })
}

// FuzzPackets feeds a connected client of either version, the bytes cut in two.
func FuzzPackets(f *testing.F) {
	feed := fuzzed(f)
	none := props()
	for _, b := range [][]byte{
		rawmqtt.AppendPublish(nil, true, "a", []byte("x"), 0, 0, 0), rawmqtt.AppendPublish(nil, true, "a", []byte("x"), 1, 1, rawmqtt.Retain),
		rawmqtt.AppendPublish(nil, true, "a", []byte("x"), 2, 1, rawmqtt.Dup), pkt(0x30, "", props(0x23, u16(1)), []byte("x")),
		pkt(0x30, "a", props(0x23, u16(1), 1, 1, 2, u32(5), 3, "t", 8, "r", 9, "c", 0x26, "k", "v")),
		rawmqtt.AppendAck(nil, rawmqtt.Puback, 1), rawmqtt.AppendAck(nil, rawmqtt.Pubrec, 1), rawmqtt.AppendAck(nil, rawmqtt.Pubrel, 1),
		rawmqtt.AppendAck(nil, rawmqtt.Pubcomp, 1), pkt(0x40, u16(1), 0x97, props(0x1f, "why")),
		pkt(0x82, u16(1), props(0x0b, 5, 0x26, "k", "v"), "a/#", 0x2e, "$share/g/b", 1), pkt(0xA2, u16(1), none, "a/#"),
		{0xC0, 0}, {0xE0, 0}, pkt(0xE0, 4, props(0x11, u32(5))), pkt(0xF0, 0x18, props(0x15, "m", 0x16, "d")),
	} {
		f.Add(b, uint16(len(b)/2), true)
		f.Add(b, uint16(0), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint16, v5 bool) {
		k := min(int(cut), len(b))
		hello := rawmqtt.AppendConnect(nil, rawmqtt.Options{ClientID: "f", V5: v5, Clean: true})
		feed(t, append(hello, b[:k]...), b[k:])
	})
}
