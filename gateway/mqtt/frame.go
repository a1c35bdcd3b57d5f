package mqtt

import (
	"encoding/binary"
	"errors"

	"tidegate/gateway/fault"
)

// MaxRemaining is the largest remaining length a packet can state (MQTT 5, 1.5.5).
const MaxRemaining = 268_435_455

var (
	errQoS  = fault.New(fault.Invalid, "the QoS must be 0, 1 or 2")
	errSize = fault.New(fault.TooLarge, "the message is larger than MQTT can carry")
)

// What ParsePublish finds wrong with a frame. Both close the connection; MQTT 5 has a
// reason code for each.
var (
	ErrMalformed = errors.New("mqtt: malformed packet")
	ErrProtocol  = errors.New("mqtt: protocol violation")
)

// Packet types, the upper half of the first byte (MQTT 5, 2.1.2).
const (
	CONNECT     = 1
	CONNACK     = 2
	PUBLISH     = 3
	PUBACK      = 4
	PUBREC      = 5
	PUBREL      = 6
	PUBCOMP     = 7
	SUBSCRIBE   = 8
	SUBACK      = 9
	UNSUBSCRIBE = 10
	UNSUBACK    = 11
	PINGREQ     = 12
	PINGRESP    = 13
	DISCONNECT  = 14
	AUTH        = 15
)

// Varint reads a variable byte integer (MQTT 5, 1.5.5): its value and width, width 0
// when b ends inside it and -1 when it has more than four bytes.
func Varint(b []byte) (v, width int) {
	for i := 0; i < 4; i++ {
		if i >= len(b) {
			return 0, 0
		}
		v |= int(b[i]&127) << (7 * i)
		if b[i] < 128 {
			return v, i + 1
		}
	}
	return 0, -1
}

// AppendVarint appends v, 0 to MaxRemaining, as a variable byte integer.
func AppendVarint(b []byte, v int) []byte { return binary.AppendUvarint(b, uint64(v)) }

// varintLen gives the width of v.
func varintLen(v int) int {
	n := 1
	for ; v > 127; v >>= 7 {
		n++
	}
	return n
}

// Header reads a fixed header: its width and the packet's whole length with it.
// width is 0 when b ends too early and -1 when the length is malformed.
func Header(b []byte) (width, total int) {
	if len(b) < 2 {
		return 0, 0
	}
	rl, w := Varint(b[1:])
	if w <= 0 {
		return w, 0
	}
	return 1 + w, 1 + w + rl
}

// frameID gives the offset right behind the topic of a PUBLISH that is known to be good.
func frameID(f []byte) uint32 {
	w, _ := Header(f)
	return uint32(w + 2 + int(binary.BigEndian.Uint16(f[w:])))
}

// AppendPublish appends m as one PUBLISH frame of MQTT 5 (v5) or 3.1.1, with packet
// id id where its QoS asks for one. DUP is not set. m must pass Check.
func AppendPublish(b []byte, m *Message, v5 bool, id uint16) []byte {
	n := 2 + len(m.Topic) + len(m.Payload)
	props := 0
	if m.QoS > 0 {
		n += 2
	}
	if v5 {
		props = m.Props.size()
		n += varintLen(props) + props
	}
	first := byte(PUBLISH<<4) | m.QoS<<1
	if m.Retain {
		first |= 1
	}
	b = AppendVarint(append(b, first), n)
	b = AppendString(b, m.Topic)
	if m.QoS > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	if v5 {
		b = m.Props.append(AppendVarint(b, props))
	}
	return append(b, m.Payload...)
}

// AppendString appends s with its two-byte length (MQTT 5, 1.5.4). s must be at most
// 65,535 bytes long.
func AppendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// Publish is a PUBLISH frame, located but not copied.
type Publish struct {
	Topic   []byte // may be empty in MQTT 5, with a topic alias
	QoS     byte
	Retain  bool
	Dup     bool
	ID      uint16 // 0 with QoS 0
	IDAt    uint32 // offset of the packet id in the frame, see Frame.ID
	Props   []byte // without their length
	Payload []byte
}

// ParsePublish takes a whole PUBLISH frame apart: lengths, QoS, packet id and, for MQTT 5,
// the properties a client may send. It does not judge the topic's characters.
func ParsePublish(f []byte, v5 bool) (Publish, error) {
	w, total := Header(f)
	if w <= 0 || total != len(f) || f[0]>>4 != PUBLISH {
		return Publish{}, ErrMalformed
	}
	p := Publish{QoS: f[0] >> 1 & 3, Retain: f[0]&1 != 0, Dup: f[0]&8 != 0}
	if p.QoS == 3 || p.QoS == 0 && p.Dup { // [MQTT-3.3.1-4], [MQTT-3.3.1-2]
		return p, ErrMalformed
	}
	if len(f) < w+2 {
		return p, ErrMalformed
	}
	at := w + 2 + int(binary.BigEndian.Uint16(f[w:]))
	if at > len(f) {
		return p, ErrMalformed
	}
	p.Topic, p.IDAt = f[w+2:at], uint32(at)
	if p.QoS > 0 {
		if at+2 > len(f) {
			return p, ErrMalformed
		}
		if p.ID = binary.BigEndian.Uint16(f[at:]); p.ID == 0 { // [MQTT-2.2.1-3]
			return p, ErrProtocol
		}
		at += 2
	}
	if v5 {
		n, w := Varint(f[at:])
		if w <= 0 || at+w+n > len(f) {
			return p, ErrMalformed
		}
		p.Props = f[at+w : at+w+n]
		at += w + n
		if n > 0 {
			if err := checkProps(p.Props); err != nil {
				return p, err
			}
		}
	} else if len(p.Topic) == 0 {
		return p, ErrProtocol
	}
	p.Payload = f[at:]
	return p, nil
}
