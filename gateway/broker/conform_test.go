package broker_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"testing"
	"time"

	"tidegate/gateway/broker"
	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt"
	"tidegate/test/rawmqtt"
)

// pkt makes a packet from its first byte and its body.
func pkt(first byte, parts ...any) []byte {
	var body []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			body = append(body, byte(p))
		case string:
			body = mqtt.AppendString(body, p)
		case []byte:
			body = append(body, p...)
		default:
			panic(p)
		}
	}
	return append(mqtt.AppendVarint([]byte{first}, len(body)), body...)
}

// props puts the length in front of properties.
func props(parts ...any) []byte {
	b := pkt(0, parts...)
	return b[1:]
}

func u32(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
func u16(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }

// connect5 makes a CONNECT of MQTT 5.
func connect5(flags int, keep int, props []byte, rest ...any) []byte {
	return pkt(0x10, append([]any{"MQTT", 5, flags, u16(keep), props}, rest...)...)
}

// greet sends b on a fresh connection and gives a peer that has read nothing.
func (h *house) greet(b []byte) *peer {
	h.t.Helper()
	nc := h.raw()
	p := &peer{t: h.t, Conn: rawmqtt.Over(nc, true)}
	p.write(b)
	return p
}

func TestConnectThatBreaksARule(t *testing.T) {
	h := open(t)
	none := props()
	for name, c := range map[string]struct {
		b    []byte
		code int // of CONNACK; -1: the connection just ends
	}{
		"[MQTT-3.1.2-1] protocol name":               {pkt(0x10, "MQTX", 4, 2, u16(0), "a"), -1},
		"[MQTT-3.1.2-2] level 3":                     {pkt(0x10, "MQIsdp", 3, 2, u16(0), "a"), 1},
		"[MQTT-3.1.2-2] level 6":                     {pkt(0x10, "MQTT", 6, 2, u16(0), none, "a"), 0x84},
		"[MQTT-3.1.2-3] reserved flag":               {pkt(0x10, "MQTT", 4, 3, u16(0), "a"), -1},
		"[MQTT-3.1.2-11] will QoS without will":      {pkt(0x10, "MQTT", 4, 2|8, u16(0), "a"), -1},
		"[MQTT-3.1.2-14] will QoS 3":                 {pkt(0x10, "MQTT", 4, 2|4|0x18, u16(0), "a", "t", "m"), -1},
		"[MQTT-3.1.2-22] password without user name": {pkt(0x10, "MQTT", 4, 2|0x40, u16(0), "a", "pw"), -1},
		"[MQTT-3.1.3-8] no client id, not clean":     {pkt(0x10, "MQTT", 4, 0, u16(0), ""), 2},
		"client id of 129 bytes":                     {pkt(0x10, "MQTT", 4, 2, u16(0), string(bytes.Repeat([]byte{'a'}, 129))), 2},
		"client id that begins with $":               {connect5(2, 0, none, "$x"), 0x85},
		"bad credentials, 3.1.1":                     {pkt(0x10, "MQTT", 4, 2|0x80, u16(0), "a", "bad"), 4},
		"bad credentials, 5":                         {connect5(2|0x80, 0, none, "a", "bad"), 0x86},
		"enhanced authentication":                    {connect5(2, 0, props(0x15, "SCRAM"), "a"), 0x8c},
		"receive maximum 0":                          {connect5(2, 0, props(0x21, u16(0)), "a"), -1},
		"the same property twice":                    {connect5(2, 0, props(0x21, u16(1), 0x21, u16(1)), "a"), -1},
		"a property of another packet":               {connect5(2, 0, props(0x23, u16(1)), "a"), -1},
		"will to a wildcard":                         {connect5(2|4, 0, none, "a", none, "a/#", "m"), 0x90},
		"will that may not be published":             {connect5(2|4, 0, none, "a", none, "nopub", "m"), 0x87},
	} {
		t.Run(name, func(t *testing.T) {
			p := h.greet(c.b)
			p.t = t
			if c.code >= 0 {
				if pk := p.next(rawmqtt.Connack); int(pk.Code) != c.code || pk.Body[0] != 0 { // [MQTT-3.2.2-6]
					t.Errorf("CONNACK 0x%02x, want 0x%02x", pk.Code, c.code)
				}
			}
			p.closed()
		})
	}
}

func TestPacketThatBreaksARule(t *testing.T) {
	h := open(t)
	none := props()
	for name, c := range map[string]struct {
		b    []byte
		code byte
	}{
		"[MQTT-3.3.1-4] QoS 3":                      {[]byte{0x36, 6, 0, 1, 'a', 0, 1, 0}, 0x81},
		"[MQTT-3.3.2-2] wildcard in a topic":        {rawmqtt.AppendPublish(nil, true, "a/+", nil, 0, 0, 0), 0x90},
		"[MQTT-4.7.3-1] empty topic":                {rawmqtt.AppendPublish(nil, true, "", nil, 0, 0, 0), 0x82},
		"[MQTT-3.3.2-9] topic alias too large":      {pkt(0x30, "a", props(0x23, u16(9))), 0x94},
		"[MQTT-3.3.2-8] topic alias 0":              {pkt(0x30, "a", props(0x23, u16(0))), 0x94},
		"topic alias that was never set":            {pkt(0x30, "", props(0x23, u16(3))), 0x94},
		"payload of 128 KB and one byte":            {rawmqtt.AppendPublish(nil, true, "a", make([]byte, 128<<10+1), 0, 0, 0), 0x95},
		"topic of nine levels":                      {rawmqtt.AppendPublish(nil, true, "1/2/3/4/5/6/7/8/9", nil, 0, 0, 0), 0x90},
		"[MQTT-2.2.1-3] SUBSCRIBE with packet id 0": {pkt(0x82, u16(0), none, "a", 0), 0x82},
		"[MQTT-3.8.1-1] SUBSCRIBE with flags 0":     {pkt(0x80, u16(1), none, "a", 0), 0x81},
		"[MQTT-3.8.3-2] SUBSCRIBE without a filter": {pkt(0x82, u16(1), none), 0x82},
		"[MQTT-3.8.3-5] reserved bits":              {pkt(0x82, u16(1), none, "a", 0xC0), 0x81},
		"SUBSCRIBE cut off before the options":      {pkt(0x82, u16(1), none, "a"), 0x81},
		"[MQTT-3.8.3-4] No Local on a shared one":   {pkt(0x82, u16(1), none, "$share/g/a", 4), 0x82},
		"subscription identifier 0":                 {pkt(0x82, u16(1), props(0x0b, 0), "a", 0), 0x82},
		"[MQTT-3.10.3-2] UNSUBSCRIBE of nothing":    {pkt(0xA2, u16(1), none), 0x82},
		"[MQTT-3.6.1-1] PUBREL with flags 0":        {[]byte{0x60, 2, 0, 1}, 0x81},
		"AUTH out of the blue":                      {pkt(0xF0, 0x18, none), 0x8c},
		"a packet only a server sends":              {[]byte{0xD0, 0}, 0x82},
		"[MQTT-3.14.1-1] DISCONNECT with flags":     {[]byte{0xE1, 0}, 0x81},
		"session expiry from 0 to more at the end":  {pkt(0xE0, 0, props(0x11, u32(10))), 0x82},
		"PUBLISH that may not be published, QoS 0":  {rawmqtt.AppendPublish(nil, true, "nopub", nil, 0, 0, 0), 0x87},
	} {
		t.Run(name, func(t *testing.T) {
			p := h.dial(rawmqtt.Options{ClientID: "c", Clean: true, V5: true})
			p.t = t
			p.write(c.b)
			if code := p.closed(); code != c.code {
				t.Errorf("DISCONNECT 0x%02x, want 0x%02x", code, c.code)
			}
		})
	}
}

func TestAnswersOfSubscribe(t *testing.T) {
	h := open(t)
	p := h.dial(rawmqtt.Options{ClientID: "c", Clean: true, V5: true})
	p.write(pkt(0x82, u16(7), props(), "ok", 1, "a#", 0, "nosub", 2, "$share/g", 0, "$aws/rules/x", 0, "1/2/3/4/5/6/7/8/9", 0))
	pk := p.next(rawmqtt.Suback)
	if want := []byte{0, 7, 0, 1, 0x8f, 0x87, 0x8f, 0x87, 0x8f}; !bytes.Equal(pk.Body, want) {
		t.Errorf("SUBACK % x, want % x", pk.Body, want)
	}
	p.write(pkt(0x82, u16(8), props(), "1", 0, "2", 0, "3", 0, "4", 0, "5", 0, "6", 0, "7", 0, "8", 0, "9", 0))
	if pk := p.next(rawmqtt.Suback); !bytes.Equal(pk.Body[3:], bytes.Repeat([]byte{0x97}, 9)) {
		t.Errorf("nine filters: % x", pk.Body)
	}
	for i := range 60 {
		p.write(pkt(0x82, u16(9), props(), fmt.Sprint("many/", i), 0))
		want := byte(0)
		if i >= 49 {
			want = 0x97
		}
		if pk := p.next(rawmqtt.Suback); pk.Code != want {
			t.Fatalf("subscription %d: 0x%02x", i+2, pk.Code)
		}
	}
	p.write(pkt(0xA2, u16(10), props(), "ok", "ok", "never"))
	if pk := p.next(rawmqtt.Unsuback); !bytes.Equal(pk.Body, []byte{0, 10, 0, 0, 0x11, 0x11}) { // [MQTT-3.11.3-1]
		t.Errorf("UNSUBACK % x", pk.Body)
	}
	v3 := h.dial(rawmqtt.Options{ClientID: "v3", Clean: true})
	v3.write(pkt(0x82, u16(7), "ok", 1, "nosub", 2))
	if pk := v3.next(rawmqtt.Suback); !bytes.Equal(pk.Body, []byte{0, 7, 1, 0x80}) {
		t.Errorf("3.1.1: SUBACK % x", pk.Body)
	}
}

func TestPropertiesTravelAndAcknowledgementsDoNotEchoThem(t *testing.T) {
	h := open(t)
	s := h.dial(rawmqtt.Options{ClientID: "s", Clean: true, V5: true})
	s.sub(1, "a")
	all := props(1, 1, 3, "text/plain", 8, "re/ply", 9, "corr", 0x26, "k", "v", 0x26, "k", "w")
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true, V5: true})
	p.write(pkt(0x32, "a", u16(5), all, []byte("x")))
	if pk := p.next(rawmqtt.Puback); len(pk.Body) != 2 {
		t.Errorf("PUBACK % x", pk.Body)
	}
	if pk := s.get("a", "x", 1, 0); !bytes.Equal(pk.Props, all[1:]) { // [MQTT-3.3.2-17] and its like
		t.Errorf("properties % x, want % x", pk.Props, all[1:])
	}
	p.write(pkt(0x82, u16(6), props(0x26, "k", "v"), "b", 0))
	if pk := p.next(rawmqtt.Suback); pk.Body[2] != 0 {
		t.Errorf("SUBACK echoes properties: % x", pk.Body)
	}
}

func TestSubscriptionOptions(t *testing.T) {
	h := open(t)
	s := h.dial(rawmqtt.Options{ClientID: "s", Clean: true, V5: true})
	opt := func(filter string, id, o int) {
		t.Helper()
		s.write(pkt(0x82, u16(1), props(0x0b, mqtt.AppendVarint(nil, id)), filter, o))
		s.next(rawmqtt.Suback)
	}
	opt("a/+", 300, 1|4) // No Local
	opt("a/b", 7, 2|8)   // retain as published
	s.write(rawmqtt.AppendPublish(nil, true, "a/c", []byte("own"), 0, 0, 0))
	s.silent() // [MQTT-3.8.3-3]
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true, V5: true})
	p.pub("a/b", "x", 1, rawmqtt.Retain)
	pk := s.get("a/b", "x", 1, rawmqtt.Retain) // one copy with the highest QoS, [MQTT-3.3.4-2]
	if a, b := []byte{0x0b, 0xac, 2, 0x0b, 7}, []byte{0x0b, 7, 0x0b, 0xac, 2}; !bytes.Equal(pk.Props, a) && !bytes.Equal(pk.Props, b) {
		t.Errorf("identifiers % x", pk.Props) // [MQTT-3.3.4-3]
	}
	s.silent()
	opt("a/b", 7, 1|0x10) // retain handling 1: not again
	s.silent()
	opt("a/b", 7, 1|0x20) // 2: never
	s.silent()
	opt("a/b", 7, 1) // 0: each time
	if pk := s.get("a/b", "x", 1, rawmqtt.Retain); !bytes.Equal(pk.Props, []byte{0x0b, 7}) {
		t.Errorf("identifier of a retained message % x", pk.Props)
	}
}

func TestReceiveMaximumOfTheClient(t *testing.T) {
	h := open(t)
	s := h.dial(rawmqtt.Options{ClientID: "s", Clean: true, V5: true, ReceiveMax: 3})
	s.sub(2, "a")
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true})
	for i := range 40 {
		p.pub("a", fmt.Sprint(i), 1, 0)
	}
	var ids []uint16
	for range 3 {
		ids = append(ids, s.next(rawmqtt.Publish).ID)
	}
	s.silent() // [MQTT-3.3.4-9]
	for _, id := range ids {
		s.write(rawmqtt.AppendAck(nil, rawmqtt.Puback, id))
	}
	for i := range 37 {
		s.get("a", fmt.Sprint(i+3), 1, 0)
	}
}

func TestReceiveMaximumOfTheServer(t *testing.T) {
	h := open(t, func(h *house) { h.cfg.Limits.Inbound = 5 })
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true, V5: true})
	for i := range 5 {
		p.write(rawmqtt.AppendPublish(nil, true, "a", nil, 2, uint16(i+1), 0))
		p.next(rawmqtt.Pubrec)
	}
	p.write(rawmqtt.AppendPublish(nil, true, "a", nil, 2, 6, 0))
	if code := p.closed(); code != 0x93 {
		t.Errorf("DISCONNECT 0x%02x", code)
	}
}

func TestAliasesBothWays(t *testing.T) {
	h := open(t)
	s := h.greet(connect5(2, 0, props(0x22, u16(1)), "s"))
	s.next(rawmqtt.Connack)
	s.sub(1, "a/#")
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true, V5: true})
	p.write(pkt(0x30, "a/b", props(0x23, u16(2)), []byte("1")))
	p.write(pkt(0x30, "", props(0x23, u16(2)), []byte("2")))
	p.write(pkt(0x30, "a/other", props(), []byte("3")))
	if pk := s.get("a/b", "1", 0, 0); !bytes.Equal(pk.Props, []byte{0x23, 0, 1}) {
		t.Errorf("first: % x", pk.Props)
	}
	if pk := s.get("", "2", 0, 0); !bytes.Equal(pk.Props, []byte{0x23, 0, 1}) {
		t.Errorf("second: % x", pk.Props)
	}
	if pk := s.get("a/other", "3", 0, 0); len(pk.Props) != 0 { // [MQTT-3.1.2-26]
		t.Errorf("third: % x", pk.Props)
	}
}

func TestMaximumPacketSizeOfTheClient(t *testing.T) {
	h := open(t)
	s := h.greet(connect5(2, 0, props(0x27, u32(40)), "s"))
	s.next(rawmqtt.Connack)
	s.sub(1, "a")
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true})
	p.pub("a", string(bytes.Repeat([]byte{'x'}, 50)), 1, 0)
	p.pub("a", "small", 1, 0)
	s.get("a", "small", 1, 0) // [MQTT-3.1.2-25]
}

func TestConnackTellsWhatHolds(t *testing.T) {
	h := open(t, func(h *house) {
		h.cfg.QoS2, h.cfg.SubscriptionIDs = false, false
		h.cfg.Limits.KeepAliveMax = time.Minute
	})
	p := h.greet(connect5(2, 600, props(0x11, u32(math.MaxInt32)), ""))
	pk := p.next(rawmqtt.Connack)
	for what, want := range map[string][]byte{"server keep-alive": {0x13, 0, 60}, "session expiry": append([]byte{0x11}, u32(7*24*3600)...),
		"receive maximum": {0x21, 4, 0}, "maximum QoS": {0x24, 1}, "topic aliases": {0x22, 0, 8}, "subscription ids": {0x29, 0}, "assigned client id": {0x12, 0}} {
		if !bytes.Contains(pk.Body, want) {
			t.Errorf("%s: not in % x", what, pk.Body)
		}
	}
	p.write(rawmqtt.AppendPublish(nil, true, "a", nil, 2, 1, 0))
	if code := p.closed(); code != 0x9b { // [MQTT-3.2.2-11]
		t.Errorf("QoS 2: DISCONNECT 0x%02x", code)
	}
}

func will(delay int, topic, payload string, flags int, expiry int, id string) []byte {
	return connect5(2|4|flags, 0, props(0x11, u32(expiry)), id, props(0x18, u32(delay)), topic, payload)
}

func TestWill(t *testing.T) {
	clk := clocktest.New(time.Now())
	h := open(t, func(h *house) { h.clk = clk })
	s := h.dial(rawmqtt.Options{ClientID: "s", Clean: true})
	s.sub(2, "w/#")
	leave := func(b []byte, how func(*peer)) {
		t.Helper()
		p := h.greet(b)
		p.next(rawmqtt.Connack)
		how(p)
		p.Conn.Conn.Close()
	}
	write := func(b []byte) func(*peer) { return func(p *peer) { p.write(b); p.closed() } }
	lost := func(*peer) {}
	leave(will(0, "w/lost", "x", 8, 0, "a"), lost) // [MQTT-3.1.2-8]
	s.get("w/lost", "x", 1, 0)
	leave(will(0, "w/bye", "x", 0, 0, "a"), write([]byte{0xE0, 0})) // [MQTT-3.14.4-3]
	leave(will(0, "w/with", "x", 0, 0, "a"), write([]byte{0xE0, 1, 4}))
	s.get("w/with", "x", 0, 0)
	leave(will(0, "w/error", "x", 0, 0, "a"), write([]byte{0x80, 0}))
	s.get("w/error", "x", 0, 0)
	leave(will(0, "w/taken", "x", 0, 100, "a"), func(*peer) { h.dial(rawmqtt.Options{ClientID: "a", V5: true, SessionExpiry: 100}).Close() })
	s.get("w/taken", "x", 0, 0)
	// The delay: withdrawn by coming back, sent without, and at the session's end at the latest.
	leave(will(10, "w/back", "x", 0, 100, "b"), lost)
	waitAway(h, "b")
	h.dial(rawmqtt.Options{ClientID: "b", V5: true, SessionExpiry: 100}).Close() // [MQTT-3.1.3-9]
	leave(will(10, "w/delayed", "x", 0, 100, "c"), lost)
	leave(will(50, "w/ended", "x", 0, 5, "d"), lost)
	waitAway(h, "c")
	waitAway(h, "d")
	s.silent()
	pass(clk, 6)
	s.get("w/ended", "x", 0, 0)
	pass(clk, 6)
	s.get("w/delayed", "x", 0, 0)
	s.silent()
}

// pass lets n seconds go by, one at a time: the broker's own timer has to be set again before the next one counts.
func pass(clk *clocktest.Manual, n int) {
	for range n {
		set := clk.Waiting()
		clk.Advance(time.Second)
		for end := time.Now().Add(patience); clk.Waiting() < set && time.Now().Before(end); {
			time.Sleep(100 * time.Microsecond) // nothing tells from outside
		}
	}
}

// waitAway waits until the gateway has noticed that a client is gone.
func waitAway(h *house, id string) {
	h.t.Helper()
	for end := time.Now().Add(patience); ; {
		if in, ok := h.br.Session(id); ok && !in.Connected {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("%s is still connected", id)
		}
		time.Sleep(time.Millisecond) // nothing tells from outside
	}
}

func TestExpiries(t *testing.T) {
	clk := clocktest.New(time.Now())
	h := open(t, func(h *house) { h.clk = clk })
	o := rawmqtt.Options{ClientID: "s", V5: true, SessionExpiry: 60}
	s := h.dial(o)
	s.sub(1, "a/#")
	s.Close()
	waitAway(h, "s")
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true, V5: true})
	p.write(pkt(0x33, "a/1", u16(1), props(2, u32(5)), []byte("short")))
	p.next(rawmqtt.Puback)
	p.write(pkt(0x33, "a/2", u16(1), props(2, u32(50)), []byte("long")))
	p.next(rawmqtt.Puback)
	pass(clk, 20)
	s = h.dial(o)
	if pk := s.get("a/2", "long", 1, 0); !bytes.Equal(pk.Props, append([]byte{2}, u32(30)...)) { // [MQTT-3.3.2-6]
		t.Errorf("properties % x", pk.Props)
	}
	s.silent()
	r := h.dial(rawmqtt.Options{ClientID: "r", Clean: true, V5: true})
	r.sub(1, "a/#")
	r.get("a/2", "long", 1, rawmqtt.Retain)
	r.silent()
	s.Close()
	waitAway(h, "s")
	pass(clk, 61)
	if s = h.dial(o); s.present {
		t.Error("the session has outlived its expiry")
	}
}

func TestKeepAliveEndsTheSilent(t *testing.T) {
	clk := clocktest.New(time.Now())
	h := open(t, func(h *house) { h.clk = clk })
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true, V5: true, KeepAlive: 10})
	pass(clk, 14)
	p.silent()
	pass(clk, 17)
	if code := p.closed(); code != 0x8d { // [MQTT-3.1.2-22]
		t.Errorf("DISCONNECT 0x%02x", code)
	}
}

func TestLimitsOfAMessage(t *testing.T) {
	h := open(t, func(h *house) { h.cfg.Limits.Retained, h.cfg.Limits.UserProperties = 2, 20 })
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true, V5: true})
	s := h.dial(rawmqtt.Options{ClientID: "s", Clean: true, V5: true})
	s.sub(0, "live")
	p.pub("r/1", "x", 1, rawmqtt.Retain)
	p.pub("r/2", "x", 1, rawmqtt.Retain)
	p.pub("r/2", "y", 1, rawmqtt.Retain)
	p.write(rawmqtt.AppendPublish(nil, true, "r/3", []byte("x"), 1, 9, rawmqtt.Retain))
	if pk := p.next(rawmqtt.Puback); pk.Code != 0x97 {
		t.Errorf("one retained message too many: 0x%02x", pk.Code)
	}
	p.write(pkt(0x30, "live", props(2, u32(1<<30)), []byte("z")))
	if pk := s.get("live", "z", 0, 0); !bytes.Equal(pk.Props, append([]byte{2}, u32(604800)...)) {
		t.Errorf("message expiry % x", pk.Props)
	}
	p.write(pkt(0x30, "r/2", props(0x26, "0123456789", "0123456789")))
	if code := p.closed(); code != 0x95 {
		t.Errorf("user properties: 0x%02x", code)
	}
}

func TestRefusedByTheRoad(t *testing.T) {
	h := open(t)
	h.road.err = func(r *mqtt.Run) error {
		if r.Topic == "full" {
			return fault.New(fault.Full, "no room")
		}
		return nil
	}
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true, V5: true})
	for _, qos := range []byte{1, 2} {
		p.write(rawmqtt.AppendPublish(nil, true, "full", nil, qos, 1, 0))
		if pk, err := p.Next(); err != nil || pk.Code != 0x97 {
			t.Errorf("QoS %d: %+v, %v", qos, pk, err)
		}
	}
	p.write(rawmqtt.AppendPublish(nil, true, "nopub", nil, 1, 1, 0))
	if pk := p.next(rawmqtt.Puback); pk.Code != 0x87 {
		t.Errorf("PUBACK 0x%02x", pk.Code)
	}
	p.pub("ok", "x", 1, 0)
}

func TestEventsOfAClientsLife(t *testing.T) {
	h := open(t)
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true, User: "u"})
	p.sub(1, "a", "b")
	p.Close()
	want := []broker.Event{
		{Kind: broker.Connected, ClientID: "p", Principal: "p:u", Address: "127.0.0.1"},
		{Kind: broker.Subscribed, ClientID: "p", Principal: "p:u", Topics: []string{"a", "b"}},
		{Kind: broker.Disconnected, ClientID: "p", Principal: "p:u", Reason: "CLIENT_INITIATED_DISCONNECT", ByClient: true},
	}
	for _, w := range want {
		select {
		case e := <-h.ev:
			if e.Kind != w.Kind || e.ClientID != w.ClientID || e.Principal != w.Principal || e.Address != w.Address || e.Reason != w.Reason ||
				e.ByClient != w.ByClient || len(e.Topics) != len(w.Topics) || e.Session == "" || e.At.IsZero() {
				t.Errorf("got %+v, want %+v", e, w)
			}
		case <-time.After(patience):
			t.Fatalf("no %s", w.Kind)
		}
	}
}
