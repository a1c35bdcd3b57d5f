package conformance_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/broker"
)

func TestConnectIsAnswered(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		p := w.client(v5)
		if p.hello.present { // [MQTT-3.2.2-1]
			t.Error("session present with a clean start")
		}
		p.silent() // [MQTT-3.12.4-1]
		p.leave()
	})
}

func TestFirstPacketMustBeConnectAndTheOnlyOne(t *testing.T) {
	w := open(t)
	for name, b := range map[string][]byte{
		"PUBLISH": publish(false, "a", "x", 0, 0, 0), "PUBACK": ack(PUBACK, 1, 0), "SUBSCRIBE": subscribe(false, 1, nil, filter{"a", 0}),
		"PINGREQ": {PINGREQ << 4, 0}, "DISCONNECT": {DISCONNECT << 4, 0}, "AUTH": {AUTH << 4, 0},
	} { // [MQTT-3.1.0-1]
		nc := w.raw()
		nc.Write(b)
		if got := cutOff(t, nc); len(got) > 0 {
			t.Errorf("%s first was answered with % x", name, got)
		}
	}
	both(t, w, func(t *testing.T, v5 bool) {
		p := w.client(v5)
		p.write(connect{id: w.name(), v5: v5, clean: true}.bytes())
		if code := p.ended(); v5 && code != 0x82 { // [MQTT-3.1.0-2]
			t.Errorf("second CONNECT: DISCONNECT 0x%02x", code)
		}
	})
}

func TestProtocolNameAndVersion(t *testing.T) {
	w := open(t)
	hello := func(name string, level byte) []byte {
		body := append(appendStr(nil, name), level, 2, 0, 0)
		if level >= 5 {
			body = append(body, 0)
		}
		return frame(CONNECT<<4, appendStr(body, "x"))
	}
	for _, c := range []struct {
		name  string
		level byte
		want  string
	}{
		{"hello", 4, ""}, {"MQTTT", 5, ""}, // [MQTT-3.1.2-1]
		{"MQTT", 3, "20020001"}, {"MQIsdp", 3, "20020001"}, // [MQTT-3.1.2-2]
		{"MQTT", 6, "2003008400"},
	} {
		nc := w.raw()
		nc.Write(hello(c.name, c.level))
		if got := fmt.Sprintf("%x", cutOff(t, nc)); got != c.want {
			t.Errorf("%s %d: %s, want %q", c.name, c.level, got, c.want)
		}
	}
}

func TestConnectFlags(t *testing.T) {
	w := open(t)
	for name, flags := range map[string]byte{
		"reserved bit":                 0x03, // [MQTT-3.1.2-3]
		"will QoS without will":        0x0a, // [MQTT-3.1.2-11]
		"will QoS 3":                   0x1e, // [MQTT-3.1.2-12]
		"will retain without will":     0x22, // [MQTT-3.1.2-13]
		"user flag without a name":     0x82, // [MQTT-3.1.2-17]
		"password flag without one":    0xc2, // [MQTT-3.1.2-19]
		"will flag without topic":      0x06, // [MQTT-3.1.2-9]
		"password without user, 3.1.1": 0x42, // MQTT 3.1.1 [MQTT-3.1.2-22]
	} {
		for _, level := range []byte{4, 5} {
			body := append(appendStr(nil, "MQTT"), level, flags, 0, 0)
			if level == 5 {
				body = append(body, 0)
			}
			body = appendStr(body, "x")
			if flags == 0x42 {
				if body = appendStr(body, "pass"); level == 5 {
					continue
				}
			}
			nc := w.raw()
			nc.Write(frame(CONNECT<<4, body))
			if got := cutOff(t, nc); len(got) > 3 && got[3] < 0x80 || len(got) == 4 && got[3] == 0 {
				t.Errorf("%s, level %d: answered with % x", name, level, got)
			}
		}
	}
	p := w.dial(connect{id: w.name(), clean: true, v5: true, pass: "alone"}) // MQTT 5, 3.1.2.9
	p.silent()
}

func TestClientIDs(t *testing.T) {
	w := open(t)
	p := w.dial(connect{clean: true}) // 3.1.1 [MQTT-3.1.3-6], [MQTT-3.1.3-7]
	p.pub("a", "x", 1, 0)
	if code := w.refused(connect{}); code != 2 { // 3.1.1 [MQTT-3.1.3-8]
		t.Errorf("no client id and a session to keep: %d", code)
	}
	seen := map[string]bool{}
	for range 3 {
		p = w.dial(connect{v5: true, clean: true})
		id, ok := p.hello.get(assignedID)
		if !ok || id.s == "" || seen[id.s] { // [MQTT-3.1.3-6], [MQTT-3.1.3-7]
			t.Errorf("assigned id %v", id)
		}
		seen[id.s] = true
	}
	p = w.dial(connect{v5: true, props: []prop{num(sessionExpiry, 100)}})
	id, ok := p.hello.get(assignedID)
	if !ok {
		t.Fatal("no id assigned to a session that is to be kept")
	}
	p.sub(1, "a")
	p.leave()
	if p = w.dial(connect{id: id.s, v5: true, props: []prop{num(sessionExpiry, 100)}}); !p.hello.present {
		t.Error("the assigned id does not lead back to its session")
	}
	if _, ok := p.hello.get(assignedID); ok {
		t.Error("an id was assigned to one who has one")
	}
	both(t, w, func(t *testing.T, v5 bool) {
		want := byte(2)
		if v5 {
			want = 0x85
		}
		for _, id := range []string{"$x", strings.Repeat("x", 129)} { // spec/mqtt.md §2
			if code := w.refused(connect{id: id, v5: v5, clean: true}); code != want {
				t.Errorf("%.10q: 0x%02x", id, code)
			}
		}
		w.dial(connect{id: strings.Repeat("ü", 64), v5: v5, clean: true}).silent() // [MQTT-3.1.3-5]
		for _, id := range []string{"a\x00b", "\xff\xfe", "\xed\xa0\x80"} {        // [MQTT-1.5.4-1], [MQTT-1.5.4-2]
			w.refused(connect{id: id, v5: v5, clean: true})
		}
	})
}

func TestWhoMayNotConnectIsTold(t *testing.T) {
	w := open(t)
	for _, c := range []struct {
		user   string
		v3, v5 byte
	}{{"stranger", 4, 0x86}, {"banned", 5, 0x87}} {
		if code := w.refused(connect{id: "x", clean: true, user: c.user, pass: "p"}); code != c.v3 {
			t.Errorf("%s: %d", c.user, code)
		}
		if code := w.refused(connect{id: "x", clean: true, v5: true, user: c.user, pass: "p"}); code != c.v5 {
			t.Errorf("%s: 0x%02x", c.user, code)
		}
	}
}

func TestEnhancedAuthenticationIsRefused(t *testing.T) {
	w := open(t)
	if code := w.refused(connect{id: "x", v5: true, clean: true, props: []prop{text(authMethod, "SCRAM-SHA-1")}}); code != 0x8c { // 4.12
		t.Errorf("CONNECT with a method: 0x%02x", code)
	}
	p := w.client(true)
	p.write(frame(AUTH<<4, appendProps([]byte{0x19}, []prop{text(authMethod, "x")})))
	if code := p.ended(); code != 0x8c && code != 0x82 { // [MQTT-4.12.1-1]
		t.Errorf("AUTH: DISCONNECT 0x%02x", code)
	}
	p = w.client(false)
	p.write(frame(AUTH<<4, nil))
	p.ended()
}

func TestConnackSaysWhatIsServed(t *testing.T) {
	w := open(t)
	p := w.client(true)
	if _, ok := p.hello.get(maximumQoS); ok { // [MQTT-3.2.2-9]: absent means 2
		t.Error("maximum QoS although 2 is served")
	}
	for id, want := range map[byte]uint32{aliasMaximum: 8, receiveMaximum: 1024} {
		if got, _ := p.hello.get(id); got.num != want {
			t.Errorf("property %d: %d, want %d", id, got.num, want)
		}
	}
	if got, ok := p.hello.get(maximumPacket); !ok || got.num < 131072 {
		t.Errorf("maximum packet size %v", got)
	}
	for _, id := range []byte{assignedID, sessionExpiry, serverKeepAlive, reasonString} {
		if id == serverKeepAlive {
			continue // the greatest keep-alive stands for none
		}
		if got, ok := p.hello.get(id); ok {
			t.Errorf("unasked for: %v", got)
		}
	}
}

func TestServerKeepAlive(t *testing.T) {
	w := open(t, func(c *broker.Config) {
		c.Limits.KeepAliveMin, c.Limits.KeepAliveMax = 30*time.Second, 1200*time.Second
	})
	for _, c := range []struct {
		ask  uint16
		want uint32
		told bool
	}{{0, 1200, true}, {2000, 1200, true}, {5, 30, true}, {60, 0, false}, {1200, 0, false}, {30, 0, false}} { // [MQTT-3.2.2-21], spec/mqtt.md §2
		p := w.dial(connect{id: w.name(), v5: true, clean: true, keep: c.ask})
		if got, told := p.hello.get(serverKeepAlive); told != c.told || got.num != c.want {
			t.Errorf("asked for %d: told %v %d", c.ask, told, got.num)
		}
	}
}

func TestKeepAlive(t *testing.T) {
	w := openStill(t)
	both(t, w, func(t *testing.T, v5 bool) {
		topic := w.name()
		watch := w.client(v5)
		watch.sub(0, topic)
		mute := w.dial(connect{id: w.name(), v5: v5, clean: true, keep: 10, will: &will{topic: topic, payload: "mute"}})
		pings := w.dial(connect{id: w.name(), v5: v5, clean: true, keep: 10})
		for range 3 {
			w.pass(4 * time.Second)
			pings.silent()
			watch.silent()
		}
		mute.quiet()
		w.pass(5 * time.Second)                       // 17 s
		if code := mute.ended(); v5 && code != 0x8d { // [MQTT-3.1.2-22]
			t.Errorf("DISCONNECT 0x%02x", code)
		}
		watch.get(topic, "mute", 0, 0)
		pings.silent()
		w.man.Advance(20 * time.Minute)
		w.pass(2 * time.Second)
		watch.silent() // without a keep-alive nothing short of the greatest happens
		watch.leave()
	})
}

func TestHalfAConnectTimesOut(t *testing.T) {
	w := openStill(t)
	whole := connect{id: "x", clean: true}.bytes()
	nc := w.raw()
	nc.Write(whole[:5])
	silent := w.raw()
	w.client(false).silent() // both were accepted before
	w.pass(12 * time.Second)
	for _, nc := range []interface {
		SetReadDeadline(time.Time) error
		Read([]byte) (int, error)
	}{nc, silent} {
		nc.SetReadDeadline(time.Now().Add(patience))
		if n, err := nc.Read(make([]byte, 10)); n > 0 || err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
}

func TestConnectInPieces(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		all := connect{id: w.name(), v5: v5, clean: true, user: "u", pass: "p", will: &will{topic: "w", payload: "x"}}.bytes()
		all = append(all, subscribe(v5, 1, nil, filter{"in/pieces", 1})...)
		all = append(all, publish(v5, "in/pieces", "whole", 1, 2, 0)...)
		nc := w.raw()
		p := &peer{t: t, Conn: nc, v5: v5, buf: make([]byte, 100)}
		for _, b := range all {
			p.write([]byte{b})
		}
		p.next(CONNACK)
		p.next(SUBACK)
		for range 2 { // in either order
			if k, err := p.read(); err != nil || k.typ != PUBACK && (k.typ != PUBLISH || k.payload != "whole") {
				t.Errorf("%v, %v", k, err)
			}
		}
	})
}
