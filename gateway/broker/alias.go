package broker

import (
	"encoding/binary"

	"tidegate/gateway/mqtt"
)

func hasAlias(props []byte) bool { return aliasOf(props) != 0 }

// aliasOf gives the topic alias in props, 0 when there is none.
func aliasOf(props []byte) int {
	for len(props) > 0 {
		id, val, rest, err := mqtt.NextProp(props)
		if err != nil {
			return 0
		}
		if id == mqtt.PropTopicAlias {
			return int(binary.BigEndian.Uint16(val))
		}
		props = rest
	}
	return 0
}

// publishAliased takes in a PUBLISH with a topic alias (MQTT 5, 3.3.2.3.4): nobody behind
// the connection sees one, so the frame is written anew with its topic and without it.
func (c *Conn) publishAliased(f []byte, p *mqtt.Publish) bool {
	in := &c.in
	alias := aliasOf(p.Props)
	if alias == 0 { // no topic and no alias
		return !c.fail(errProtocol)
	}
	if alias > c.b.cfg.Limits.TopicAliases { // [MQTT-3.3.2-9]
		return !c.fail(errBadAlias)
	}
	if in.aliases == nil {
		in.aliases = make([]string, c.b.cfg.Limits.TopicAliases)
	}
	if len(p.Topic) > 0 {
		if string(p.Topic) != in.aliases[alias-1] {
			in.aliases[alias-1] = string(p.Topic)
		}
	}
	topic := in.aliases[alias-1]
	if topic == "" {
		return !c.fail(errBadAlias)
	}
	return c.publishAnew(f, p, topic)
}

// publishAnew takes in a PUBLISH of MQTT 5 as a frame that is written anew: with this topic,
// without an alias, and with what the connection adds to its messages.
func (c *Conn) publishAnew(f []byte, p *mqtt.Publish, topic string) bool {
	in := &c.in
	c.flushRun()
	if in.err != nil {
		return false
	}
	if p.QoS == 2 && !c.sess.receive2(p.ID, c) {
		return true
	}
	if p.QoS > 0 && int(c.unacked.Add(1)) > c.inbound() {
		return !c.fail(errReceiveMax)
	}
	props := p.Props
	if more := c.added(); len(more) > 0 {
		props = append(props[:len(props):len(props)], more...)
	}
	b := appendWithAlias(in.scratch[:0], f[0]&^8, topic, p.ID, props, 0, p.Payload)
	in.scratch = b
	w, _ := mqtt.Header(b)
	in.run.Buf = b
	in.run.Frames = append(in.run.Frames[:0], mqtt.Frame{ID: uint32(w + 2 + len(topic))})
	c.hand([]byte(topic))
	if cap(in.scratch) > readBuffer {
		in.scratch = nil
	}
	return in.err == nil
}

// appendWithAlias appends a PUBLISH of MQTT 5 whose properties are props without any topic
// alias, and with alias when that is not 0.
func appendWithAlias(b []byte, first byte, topic string, id uint16, props []byte, alias uint16, payload []byte) []byte {
	np := 0
	eachOther(props, func(p []byte) { np += len(p) })
	if alias != 0 {
		np += 3
	}
	n := 2 + len(topic) + varintLen(uint32(np)) + np + len(payload)
	qos := first >> 1 & 3
	if qos > 0 {
		n += 2
	}
	b = mqtt.AppendVarint(append(b, first), n)
	b = mqtt.AppendString(b, topic)
	if qos > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	b = mqtt.AppendVarint(b, np)
	if alias != 0 {
		b = binary.BigEndian.AppendUint16(append(b, mqtt.PropTopicAlias), alias)
	}
	eachOther(props, func(p []byte) { b = append(b, p...) })
	return append(b, payload...)
}

// eachOther gives each property but the topic alias, as encoded.
func eachOther(props []byte, fn func([]byte)) {
	for len(props) > 0 {
		id, _, rest, err := mqtt.NextProp(props)
		if err != nil {
			return
		}
		if id != mqtt.PropTopicAlias {
			fn(props[:len(props)-len(rest)])
		}
		props = rest
	}
}

// special is what a client may ask for that makes its copy of a message unlike the
// others': a small maximum packet size, and topic aliases. The output's lock guards it.
type special struct {
	maxPacket  int // largest packet the client takes
	maxAliases int
	aliases    map[string]uint16
}

// sendSpecial appends one PUBLISH to the output, with the packet id given when its QoS
// asks for one, and says whether it went: what is larger than the client takes is not
// sent (MQTT 5, [MQTT-3.1.2-25]). The caller holds out.mu.
func (c *Conn) sendSpecial(f []byte, idAt uint32, id uint16, dup bool) bool {
	x := c.special
	first := f[0]
	if dup {
		first |= 8
	}
	if x.maxAliases == 0 || !c.v5 {
		if len(f) > x.maxPacket {
			return false
		}
		at := len(c.out.buf)
		c.out.buf = append(c.out.buf, f...)
		c.out.buf[at] = first
		if first>>1&3 > 0 {
			binary.BigEndian.PutUint16(c.out.buf[at+int(idAt):], id)
		}
		return true
	}
	w, _ := mqtt.Header(f)
	topic := string(f[w+2 : idAt])
	body := f[idAt:]
	if first>>1&3 > 0 {
		body = body[2:]
	}
	n, pw := mqtt.Varint(body)
	props, payload := body[pw:pw+n], body[pw+n:]
	at := len(c.out.buf)
	alias, known := x.aliases[topic]
	fresh := false
	if !known && len(x.aliases) < x.maxAliases {
		alias, fresh = uint16(len(x.aliases)+1), true
	}
	sent := topic
	if known {
		sent = ""
	}
	c.out.buf = appendWithAlias(c.out.buf, first, sent, id, props, alias, payload)
	if len(c.out.buf)-at > x.maxPacket {
		c.out.buf = c.out.buf[:at]
		return false
	}
	if fresh {
		if x.aliases == nil {
			x.aliases = map[string]uint16{}
		}
		x.aliases[topic] = alias
	}
	return true
}
