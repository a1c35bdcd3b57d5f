package broker

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/mochi-mqtt/server/v2/packets"

	"tidegate/gateway/mqtt"
)

// The packets that set up and end things are mochi's to take apart and to put together:
// CONNECT, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT, AUTH and their answers. What mochi 2.7.9
// lets through is caught here: properties given twice, a SUBSCRIBE cut off before its
// options (it would read past the end), reserved option bits.

// decode takes a packet from a client apart. v5 is the connection's version; for CONNECT
// the packet tells.
func decode(f []byte, v5 bool) (pk *packets.Packet, err error) {
	defer func() {
		if r := recover(); r != nil { // a length that lies
			pk, err = nil, errMalformed
		}
	}()
	pk = &packets.Packet{}
	if err := pk.FixedHeader.Decode(f[0]); err != nil {
		return nil, errMalformed
	}
	w, _ := mqtt.Header(f)
	body := bytes.Clone(f[w:]) // the packet's strings point into it
	pk.FixedHeader.Remaining = len(body)
	pk.ProtocolVersion = 4
	if v5 {
		pk.ProtocolVersion = 5
	}
	if err := checkBody(pk.FixedHeader.Type, body, v5); err != nil {
		return nil, err
	}
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectDecode(body)
	case packets.Subscribe:
		err = pk.SubscribeDecode(body)
	case packets.Unsubscribe:
		err = pk.UnsubscribeDecode(body)
	case packets.Disconnect:
		err = decodeDisconnect(pk, body, v5)
	case packets.Auth:
		if !v5 {
			return nil, errProtocol
		}
		if len(body) > 0 {
			err = pk.AuthDecode(body)
		}
	default: // a packet only a server sends
		return nil, errProtocol
	}
	if err != nil {
		var code packets.Code
		if errors.As(err, &code) && code.Code == codeProtocol {
			return nil, &Reason{codeProtocol, code.Reason, "CLIENT_ERROR"}
		}
		return nil, &Reason{codeMalformed, "malformed packet", "CLIENT_ERROR"}
	}
	return pk, nil
}

func decodeDisconnect(pk *packets.Packet, body []byte, v5 bool) error {
	if !v5 {
		if len(body) > 0 {
			return errMalformed
		}
		return nil
	}
	if len(body) == 0 { // normal, without properties (MQTT 5, 3.14.2.1)
		return nil
	}
	if len(body) == 1 {
		pk.ReasonCode = body[0]
		return nil
	}
	return pk.DisconnectDecode(body)
}

// checkBody looks at what mochi does not: where properties stand and whether one is given
// twice (MQTT 5, 3.1.2.11 and its like), and the payload of SUBSCRIBE.
func checkBody(typ byte, b []byte, v5 bool) error {
	cut := errMalformed
	switch typ {
	case packets.Connect:
		return wholeConnect(b)
	case packets.Subscribe, packets.Unsubscribe:
		if len(b) < 2 {
			return cut
		}
		if b[0] == 0 && b[1] == 0 { // [MQTT-2.2.1-3]
			return errProtocol
		}
		b = b[2:]
		if v5 {
			var rest []byte
			if err := onceEach(b, &rest); err != nil {
				return err
			}
			b = rest
		}
		if len(b) == 0 { // [MQTT-3.8.3-2], [MQTT-3.10.3-2]
			return errProtocol
		}
		for len(b) > 0 {
			if len(b) < 2 {
				return cut
			}
			n := 2 + int(b[0])<<8 + int(b[1])
			if typ == packets.Subscribe {
				if n++; n > len(b) {
					return cut
				}
				if o := b[n-1]; o&3 == 3 || !v5 && o > 2 || v5 && (o&0xC0 != 0 || o&0x30 == 0x30) { // [MQTT-3.8.3-4], [MQTT-3.8.3-5]
					return errMalformed
				}
			}
			if n > len(b) {
				return cut
			}
			b = b[n:]
		}
	case packets.Disconnect:
		if v5 && len(b) > 1 {
			return onceEach(b[1:], nil)
		}
	case packets.Auth:
		if v5 && len(b) > 1 {
			return onceEach(b[1:], nil)
		}
	}
	return nil
}

// wholeConnect walks CONNECT to its end: nothing may be missing, and nothing be behind.
func wholeConnect(b []byte) error {
	if len(b) < 8 { // name, level, flags, keep-alive
		return errMalformed
	}
	n := 2 + int(b[0])<<8 + int(b[1]) + 4
	if n > len(b) {
		return errMalformed
	}
	v5, flags, rest := b[n-4] == 5, b[n-3], b[n:]
	fields := 1 // the client id, and after it what the flags announce
	if flags&0x80 != 0 {
		fields++
	}
	if flags&0x40 != 0 {
		fields++
	}
	if flags&4 != 0 {
		fields += 2
	}
	for i := range fields {
		if v5 && (i == 0 || i == 1 && flags&4 != 0) {
			if err := onceEach(rest, &rest); err != nil {
				return err
			}
		}
		if len(rest) < 2 || len(rest)-2 < int(rest[0])<<8+int(rest[1]) {
			return errMalformed
		}
		rest = rest[2+int(rest[0])<<8+int(rest[1]):]
	}
	if len(rest) > 0 {
		return errMalformed
	}
	return nil
}

// onceEach walks properties, with their length in front, and gives what follows them.
func onceEach(b []byte, rest *[]byte) error {
	n, w := mqtt.Varint(b)
	if w <= 0 || w+n > len(b) {
		return errMalformed
	}
	p := b[w : w+n]
	if rest != nil {
		*rest = b[w+n:]
	}
	var seen uint64
	for len(p) > 0 {
		id := p[0]
		if id > 42 {
			return errMalformed
		}
		if id != mqtt.PropUser && id != 0 {
			if seen&(1<<id) != 0 {
				return errProtocol
			}
			seen |= 1 << id
		}
		z := propSizes[id]
		p = p[1:]
		switch {
		case z == 0:
			return errMalformed
		case z == sizeVarint:
			v, w := mqtt.Varint(p)
			if w <= 0 {
				return errMalformed
			}
			if v == 0 { // [MQTT-3.8.2-1]: subscription identifier 0
				return errProtocol
			}
			z = w
		case z < 0:
			k := 0
			for ; z < 0; z++ {
				if len(p) < k+2 {
					return errMalformed
				}
				k += 2 + int(p[k])<<8 + int(p[k+1])
			}
			z = k
		}
		if z > len(p) {
			return errMalformed
		}
		switch id {
		case 23, 25: // request problem and response information
			if p[0] > 1 {
				return errProtocol
			}
		case 33, 39: // receive maximum, maximum packet size: not 0
			if bytes.Count(p[:z], []byte{0}) == z {
				return errProtocol
			}
		}
		p = p[z:]
	}
	if seen&(1<<22) != 0 && seen&(1<<21) == 0 { // authentication data without a method, MQTT 5, 3.1.2.11.10
		return errProtocol
	}
	return nil
}

const sizeVarint = 100

// propSizes gives how long each property's value is: bytes, -1 a string, -2 two of them.
var propSizes = [43]int{1: 1, 2: 4, 3: -1, 8: -1, 9: -1, 11: sizeVarint, 17: 4, 18: -1, 19: 2, 21: -1, 22: -1, 23: 1, 24: 4, 25: 1, 26: -1, 28: -1,
	31: -1, 33: 2, 34: 2, 35: 2, 36: 1, 37: 1, 38: -2, 39: 4, 40: 1, 41: 1, 42: 1}

// encode gives a packet of the gateway's own as it goes over the wire.
func encode(pk *packets.Packet, v5 bool) []byte {
	pk.ProtocolVersion = 4
	if v5 {
		pk.ProtocolVersion = 5
	}
	var buf bytes.Buffer
	var err error
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackEncode(&buf)
	case packets.Suback:
		err = pk.SubackEncode(&buf)
	case packets.Unsuback:
		err = pk.UnsubackEncode(&buf)
	case packets.Disconnect:
		err = pk.DisconnectEncode(&buf)
	default:
		panic(fmt.Sprintf("BUG: packet type %d is not mochi's", pk.FixedHeader.Type))
	}
	if err != nil {
		panic(fmt.Sprintf("BUG: packet type %d of ours cannot be encoded: %v", pk.FixedHeader.Type, err))
	}
	return buf.Bytes()
}

// wordsWithin gives the Mods.MaxSize with which a reason string is left out that would make a packet larger than most:
// mochi compares no more than the properties with it, and before them are head bytes.
func wordsWithin(most, head int) uint32 {
	return uint32(min(max(1, most-head+1), math.MaxInt32))
}
