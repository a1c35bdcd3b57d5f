package broker_test

import (
	"bytes"
	"testing"

	"tidegate/gateway/broker"
	"tidegate/gateway/mqtt"
	"tidegate/test/rawmqtt"
)

// generous is a principal whose messages get a user property.
type generous struct {
	broker.Principal
	site *string
}

func (g generous) UserProps() []mqtt.UserProp {
	if *g.site == "" {
		return nil
	}
	return []mqtt.UserProp{{Key: "site", Value: *g.site}}
}

// What a thing's type propagates stands behind the publisher's own properties, for every
// QoS, with a topic alias and without, and follows changes; MQTT 3.1.1 has no place for it.
func TestMessagesOfMQTT5GetThePrincipalsUserProperties(t *testing.T) {
	h := open(t)
	site := "north"
	h.auth.wrap = func(p broker.Principal) broker.Principal { return generous{p, &site} }
	s := h.dial(rawmqtt.Options{ClientID: "s", Clean: true, V5: true})
	s.sub(2, "a/#")
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true, V5: true})
	more := func() []byte { return props(0x26, "site", site)[1:] }
	own := props(0x26, "k", "v")
	has := func(pk rawmqtt.Packet, want []byte) {
		t.Helper()
		if !bytes.Equal(pk.Props, want) {
			t.Errorf("%s: properties % x, want % x", pk.Payload, pk.Props, want)
		}
	}
	p.write(pkt(0x30, "a/b", props(), []byte("0")))
	has(s.get("a/b", "0", 0, 0), more())
	p.write(pkt(0x32, "a/b", u16(7), own, []byte("1")))
	p.next(rawmqtt.Puback)
	has(s.get("a/b", "1", 1, 0), append(own[1:], more()...))
	p.write(pkt(0x34, "a/b", u16(8), props(), []byte("2")))
	p.next(rawmqtt.Pubrec)
	p.write(rawmqtt.AppendAck(nil, rawmqtt.Pubrel, 8))
	p.next(rawmqtt.Pubcomp)
	has(s.get("a/b", "2", 2, 0), more())
	p.write(pkt(0x30, "a/c", props(0x23, u16(1)), []byte("3")))
	has(s.get("a/c", "3", 0, 0), more())
	p.write(pkt(0x30, "", props(0x23, u16(1)), []byte("4")))
	has(s.get("a/c", "4", 0, 0), more())

	old := h.dial(rawmqtt.Options{ClientID: "old", Clean: true})
	old.pub("a/b", "5", 0, 0)
	has(s.get("a/b", "5", 0, 0), nil)

	site = "" // seen by the reader behind Reauthorize
	h.br.Reauthorize()
	p.write(pkt(0x30, "a/b", props(), []byte("6")))
	has(s.get("a/b", "6", 0, 0), nil)
}
