package conformance_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// Packets that break a rule, each with the codes MQTT 5 has for it. A client of 3.1.1 is cut
// off without a word.
func TestMalformedPackets(t *testing.T) {
	w := open(t)
	p5 := func(ps ...prop) []byte { return appendProps(nil, ps) }
	join := func(first byte, parts ...[]byte) []byte { return frame(first, bytes.Join(parts, nil)) }
	id := []byte{0, 1}
	a := appendStr(nil, "a")
	for _, c := range []struct {
		name    string
		version int // 0: either
		packet  []byte
		codes   []byte
	}{
		{"type 0", 0, []byte{0, 0}, []byte{0x81, 0x82}},                                              // 2.1.2
		{"remaining length of five bytes", 0, []byte{0x30, 0xff, 0xff, 0xff, 0xff, 1}, []byte{0x81}}, // 1.5.5
		{"CONNACK", 0, []byte{0x20, 2, 0, 0}, []byte{0x82}},
		{"SUBACK", 0, []byte{0x90, 3, 0, 1, 0}, []byte{0x82}},
		{"UNSUBACK", 0, []byte{0xb0, 2, 0, 1}, []byte{0x82}},
		{"PINGRESP", 0, []byte{0xd0, 0}, []byte{0x82}},
		{"AUTH", 4, []byte{0xf0, 0}, nil},
		{"PINGREQ with flags", 0, []byte{0xc1, 0}, []byte{0x81}}, // [MQTT-2.1.3-1]
		{"PINGREQ with a body", 0, []byte{0xc0, 1, 0}, []byte{0x81}},
		{"DISCONNECT with flags", 0, []byte{0xe1, 0}, []byte{0x81}}, // [MQTT-3.14.1-1]
		{"DISCONNECT with a body", 4, []byte{0xe0, 1, 0}, nil},

		{"PUBLISH QoS 3", 0, join(0x36, a, id), []byte{0x81}},             // [MQTT-3.3.1-4]
		{"PUBLISH QoS 0 with DUP", 0, join(0x38, a), []byte{0x81, 0x82}},  // [MQTT-3.3.1-2]
		{"PUBLISH id 0", 0, join(0x32, a, []byte{0, 0, 0}), []byte{0x82}}, // [MQTT-2.2.1-3]
		{"PUBLISH without id", 0, join(0x32, a), []byte{0x81}},
		{"PUBLISH without topic", 0, []byte{0x30, 1, 0}, []byte{0x81}},
		{"PUBLISH topic too long", 0, []byte{0x30, 3, 0, 9, 'a'}, []byte{0x81}},
		{"PUBLISH empty", 0, []byte{0x30, 0}, []byte{0x81}},
		{"PUBLISH without properties", 5, join(0x30, a), []byte{0x81}},
		{"PUBLISH properties too long", 5, join(0x30, a, []byte{5, 1, 0}), []byte{0x81}},
		{"PUBLISH unknown property", 5, join(0x30, a, []byte{2, 99, 0}), []byte{0x81, 0x82}},
		{"PUBLISH property of CONNECT", 5, join(0x30, a, p5(num(sessionExpiry, 1))), []byte{0x81, 0x82}},
		{"PUBLISH property cut short", 5, join(0x30, a, []byte{3, 2, 0, 0}), []byte{0x81}},
		{"PUBLISH expiry twice", 5, join(0x30, a, p5(num(messageExpiry, 1), num(messageExpiry, 1))), []byte{0x82}}, // 3.3.2.3.3
		{"PUBLISH payload format 2", 5, join(0x30, a, p5(num(payloadFormat, 2))), []byte{0x82, 0x99}},
		{"PUBLISH response topic with wildcard", 5, join(0x30, a, p5(text(responseTopic, "a/#"))), []byte{0x82, 0x90}}, // [MQTT-3.3.2-14]
		{"PUBLISH user property cut short", 5, join(0x30, a, []byte{4, 38, 0, 1, 'k'}), []byte{0x81}},

		{"PUBACK with flags", 0, []byte{0x41, 2, 0, 1}, []byte{0x81}},
		{"PUBACK too short", 0, []byte{0x40, 1, 0}, []byte{0x81}},
		{"PUBACK empty", 0, []byte{0x40, 0}, []byte{0x81}},
		{"PUBACK too long", 4, []byte{0x40, 3, 0, 1, 0}, nil},
		{"PUBACK id 0", 0, []byte{0x40, 2, 0, 0}, []byte{0x81, 0x82}},
		{"PUBREC with flags", 0, []byte{0x52, 2, 0, 1}, []byte{0x81}},
		{"PUBREL without flags", 0, []byte{0x60, 2, 0, 1}, []byte{0x81}}, // [MQTT-3.6.1-1]
		{"PUBCOMP with flags", 0, []byte{0x72, 2, 0, 1}, []byte{0x81}},

		{"SUBSCRIBE without flags", 0, join(0x80, id, p5(), a, []byte{0}), []byte{0x81}}, // [MQTT-3.8.1-1]
		{"SUBSCRIBE id 0", 5, join(0x82, []byte{0, 0}, p5(), a, []byte{0}), []byte{0x82}},
		{"SUBSCRIBE id 0", 4, join(0x82, []byte{0, 0}, a, []byte{0}), nil},
		{"SUBSCRIBE without filters", 5, join(0x82, id, p5()), []byte{0x82}}, // [MQTT-3.8.3-2]
		{"SUBSCRIBE without filters", 4, join(0x82, id), nil},
		{"SUBSCRIBE without options", 5, join(0x82, id, p5(), a), []byte{0x81}},
		{"SUBSCRIBE without options", 4, join(0x82, id, a), nil},
		{"SUBSCRIBE QoS 3", 5, join(0x82, id, p5(), a, []byte{3}), []byte{0x81, 0x82}}, // [MQTT-3.8.3-5]
		{"SUBSCRIBE QoS 3", 4, join(0x82, id, a, []byte{3}), nil},
		{"SUBSCRIBE reserved bits", 5, join(0x82, id, p5(), a, []byte{0xc0}), []byte{0x81, 0x82}},
		{"SUBSCRIBE reserved bits", 4, join(0x82, id, a, []byte{4}), nil},
		{"SUBSCRIBE retain handling 3", 5, join(0x82, id, p5(), a, []byte{0x30}), []byte{0x81, 0x82}}, // [MQTT-3.8.3-4]
		{"SUBSCRIBE identifier twice", 5, join(0x82, id, p5(num(subscriptionID, 1), num(subscriptionID, 2)), a, []byte{0}), []byte{0x82}},
		{"SUBSCRIBE filter cut short", 5, join(0x82, id, p5(), []byte{0, 9, 'a'}), []byte{0x81}},
		{"SUBSCRIBE with a property of PUBLISH", 5, join(0x82, id, p5(num(messageExpiry, 1)), a, []byte{0}), []byte{0x81, 0x82}},

		{"UNSUBSCRIBE without flags", 0, join(0xa0, id, p5(), a), []byte{0x81}}, // [MQTT-3.10.1-1]
		{"UNSUBSCRIBE without filters", 5, join(0xa2, id, p5()), []byte{0x82}},  // [MQTT-3.10.3-2]
		{"UNSUBSCRIBE without filters", 4, join(0xa2, id), nil},
		{"UNSUBSCRIBE id 0", 4, join(0xa2, []byte{0, 0}, a), nil},
		{"UNSUBSCRIBE cut short", 4, join(0xa2, id, []byte{0, 9, 'a'}), nil},

		{"DISCONNECT expiry twice", 5, join(0xe0, []byte{0}, p5(num(sessionExpiry, 0), num(sessionExpiry, 0))), []byte{0x82}},
		{"DISCONNECT properties cut short", 5, []byte{0xe0, 3, 0, 5, 17}, []byte{0x81}},
		{"DISCONNECT with a property of PUBLISH", 5, join(0xe0, []byte{0}, p5(num(messageExpiry, 1))), []byte{0x81, 0x82}},
	} {
		for _, v5 := range []bool{false, true} {
			if c.version == 4 && v5 || c.version == 5 && !v5 {
				continue
			}
			p := w.client(v5)
			p.write(c.packet)
			if code := p.ended(); v5 && !bytes.Contains(c.codes, []byte{code}) {
				t.Errorf("%s: DISCONNECT 0x%02x, want one of % x", c.name, code, c.codes)
			}
		}
	}
}

func TestMalformedConnect(t *testing.T) {
	w := open(t)
	good := connect{id: "x", clean: true, v5: true, will: &will{topic: "t", payload: "p"}, user: "u", pass: "p", props: []prop{num(sessionExpiry, 1), user("a", "b")}}.bytes()
	w.dial(connect{id: "x", clean: true, v5: true}).silent()
	for n := 1; n < len(good)-2; n++ { // cut short at every byte, with a length that agrees
		nc := w.raw()
		nc.Write(frame(good[0], good[2:2+n]))
		if got := cutOff(t, nc); len(got) > 3 && got[3] < 0x80 {
			t.Errorf("cut after %d bytes: % x", n, got)
		}
	}
	for name, b := range map[string][]byte{
		"with flags":            append([]byte{0x11}, good[1:]...),
		"with more behind":      frame(good[0], append(bytes.Clone(good[2:]), 0)),
		"without a length":      {0x10},
		"expiry twice":          connect{id: "x", v5: true, props: []prop{num(sessionExpiry, 1), num(sessionExpiry, 1)}}.bytes(), // 3.1.2.11
		"Receive Maximum 0":     connect{id: "x", v5: true, props: []prop{num(receiveMaximum, 0)}}.bytes(),
		"Maximum Packet Size 0": connect{id: "x", v5: true, props: []prop{num(maximumPacket, 0)}}.bytes(),
		"problem information 2": connect{id: "x", v5: true, props: []prop{num(problemInfo, 2)}}.bytes(),
		"property of PUBLISH":   connect{id: "x", v5: true, props: []prop{num(topicAlias, 2)}}.bytes(),
		"will format 2":         connect{id: "x", v5: true, will: &will{topic: "t", props: []prop{num(payloadFormat, 2)}}}.bytes(),
		"will delay twice":      connect{id: "x", v5: true, will: &will{topic: "t", props: []prop{num(willDelay, 2), num(willDelay, 2)}}}.bytes(),
		"will alias":            connect{id: "x", v5: true, will: &will{topic: "t", props: []prop{num(topicAlias, 2)}}}.bytes(),
		"data but no method":    frame(0x10, []byte("\x00\x04MQTT\x05\x02\x00\x00\x04\x16\x00\x01x\x00\x01x")), // 3.1.2.11.10
	} {
		nc := w.raw()
		nc.Write(b)
		if name == "without a length" {
			nc.(interface{ CloseWrite() error }).CloseWrite() // an end right behind the data
		}
		if got := cutOff(t, nc); len(got) > 3 && got[3] < 0x80 {
			t.Errorf("%s: % x", name, got)
		}
	}
}

// The reason comes with words unless the client wants none ([MQTT-3.1.2-29]).
func TestProblemInformation(t *testing.T) {
	w := open(t)
	for _, wanted := range []uint32{1, 0} {
		p := w.dial(connect{id: w.name(), v5: true, clean: true, props: []prop{num(problemInfo, wanted)}})
		p.write(publish(true, "nopublish", "x", 1, 1, 0, user("not", "echoed")))
		k := p.answer(PUBACK, 1)
		if reason, ok := k.get(reasonString); ok != (wanted == 1) || k.code != 0x87 {
			t.Errorf("wanted %d: %v", wanted, reason)
		}
		if p.id = 5; wanted == 0 {
			p.write(subscribe(true, 6, []prop{user("not", "echoed")}, filter{"nosubscribe", 1}))
			if k := p.next(SUBACK); len(k.props) > 0 {
				t.Errorf("%v", k)
			}
		}
	}
}

// Everything a client may send whole, it may send a byte at a time, and all at once.
func TestFramesAcrossReads(t *testing.T) {
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		topic := w.name()
		var all []byte
		for i := range 40 {
			all = append(all, publish(v5, topic, strings.Repeat("x", i*i), byte(i%3), uint16(i+1), 0)...)
			if i%3 == 2 {
				all = append(all, ack(PUBREL, uint16(i+1), 0)...)
			}
			all = append(all, PINGREQ<<4, 0)
		}
		var answers map[byte]string // by type: each has its own order
		for _, step := range []int{len(all), 1, 3, 1000} {
			s, p := w.client(v5), w.client(v5)
			s.sub(2, topic)
			for at := 0; at < len(all); at += step {
				p.write(all[at:min(at+step, len(all))])
			}
			got := map[byte]string{}
			for n := 0; n < 40+13+13+13; n++ {
				k, err := p.read()
				if err != nil {
					t.Fatal(err)
				}
				if k.typ != PINGRESP {
					got[k.typ] += fmt.Sprint(k.id, ":", k.code, " ")
				}
			}
			if answers == nil {
				answers = got
			} else if fmt.Sprint(got) != fmt.Sprint(answers) {
				t.Errorf("in steps of %d:\n%v\n%v", step, got, answers)
			}
			next := [3]int{0, 1, 2} // the order is each QoS's own
			for range 40 {
				k := s.next(PUBLISH)
				i := next[k.qos()]
				if next[k.qos()] += 3; k.payload != strings.Repeat("x", i*i) {
					t.Errorf("%v, want %d bytes", k, i*i)
				}
				s.settle(k)
			}
			s.silent()
		}
	})
}
