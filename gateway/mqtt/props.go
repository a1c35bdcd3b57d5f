package mqtt

import (
	"encoding/binary"
	"unicode/utf8"

	"tidegate/gateway/fault"
)

// Property identifiers that a PUBLISH may carry (MQTT 5, 2.2.2.2).
const (
	PropPayloadFormat   = 0x01
	PropExpiry          = 0x02
	PropContentType     = 0x03
	PropResponseTopic   = 0x08
	PropCorrelation     = 0x09
	PropSubscriptionID  = 0x0b
	PropTopicAlias      = 0x23
	PropUser            = 0x26
	maxProps            = 1 << 16 // bytes of properties one message may carry through us
	errPropsTooLargeMsg = "the message's properties are larger than 64 KiB"
)

// Props are the properties of MQTT 5 that travel with a message to whoever receives it
// (MQTT 5, 3.3.2.3). Topic alias and subscription identifiers belong to a connection and
// are not among them.
type Props struct {
	Format        byte // payload format indicator: 0 bytes, 1 UTF-8 text
	HasFormat     bool
	Expiry        uint32 // seconds the message stays good, from when it was received
	HasExpiry     bool
	ContentType   string
	ResponseTopic string
	Correlation   []byte // nil: none
	User          []UserProp
}

// UserProp is one user property; names may repeat and their order counts.
type UserProp struct{ Key, Value string }

// Empty says whether no property is set.
func (p *Props) Empty() bool {
	return !p.HasFormat && !p.HasExpiry && p.ContentType == "" && p.ResponseTopic == "" && p.Correlation == nil && len(p.User) == 0
}

func (p *Props) size() int {
	n := 0
	if p.HasFormat {
		n += 2
	}
	if p.HasExpiry {
		n += 5
	}
	if p.ContentType != "" {
		n += 3 + len(p.ContentType)
	}
	if p.ResponseTopic != "" {
		n += 3 + len(p.ResponseTopic)
	}
	if p.Correlation != nil {
		n += 3 + len(p.Correlation)
	}
	for i := range p.User {
		n += 5 + len(p.User[i].Key) + len(p.User[i].Value)
	}
	return n
}

func (p *Props) check() error {
	if p.size() > maxProps {
		return fault.New(fault.TooLarge, errPropsTooLargeMsg)
	}
	if p.Format > 1 {
		return fault.New(fault.Invalid, "the payload format indicator must be 0 or 1")
	}
	if len(p.ResponseTopic) > 0 {
		return ValidTopic(p.ResponseTopic)
	}
	return nil
}

func (p *Props) append(b []byte) []byte {
	if p.HasFormat {
		b = append(b, PropPayloadFormat, p.Format)
	}
	if p.HasExpiry {
		b = binary.BigEndian.AppendUint32(append(b, PropExpiry), p.Expiry)
	}
	if p.ContentType != "" {
		b = AppendString(append(b, PropContentType), p.ContentType)
	}
	if p.ResponseTopic != "" {
		b = AppendString(append(b, PropResponseTopic), p.ResponseTopic)
	}
	if p.Correlation != nil {
		b = binary.BigEndian.AppendUint16(append(b, PropCorrelation), uint16(len(p.Correlation)))
		b = append(b, p.Correlation...)
	}
	for i := range p.User {
		b = AppendString(AppendString(append(b, PropUser), p.User[i].Key), p.User[i].Value)
	}
	return b
}

// propWidth gives how a property's value is laid out: bytes, or -1 a length-prefixed
// string or binary, -2 a pair of strings, -3 a variable byte integer; 0 is not legal in
// a PUBLISH.
func propWidth(id byte) int {
	switch id {
	case PropPayloadFormat:
		return 1
	case PropTopicAlias:
		return 2
	case PropExpiry:
		return 4
	case PropContentType, PropResponseTopic, PropCorrelation:
		return -1
	case PropUser:
		return -2
	case PropSubscriptionID:
		return -3
	}
	return 0
}

// NextProp takes the first property off b: its id, its value without length prefixes
// for strings (both strings with theirs for a user property), and what is left.
func NextProp(b []byte) (id byte, val, rest []byte, err error) {
	id, b = b[0], b[1:]
	n := propWidth(id)
	switch {
	case n == 0:
		return id, nil, nil, ErrProtocol
	case n == -1:
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return id, nil, nil, ErrMalformed
		}
		n = 2 + int(binary.BigEndian.Uint16(b))
		return id, b[2:n:n], b[n:], nil
	case n == -2:
		n = 0
		for range 2 {
			if len(b) < n+2 || len(b)-n-2 < int(binary.BigEndian.Uint16(b[n:])) {
				return id, nil, nil, ErrMalformed
			}
			n += 2 + int(binary.BigEndian.Uint16(b[n:]))
		}
	case n == -3:
		if _, n = Varint(b); n <= 0 {
			return id, nil, nil, ErrMalformed
		}
	case len(b) < n:
		return id, nil, nil, ErrMalformed
	}
	return id, b[:n:n], b[n:], nil
}

// checkProps walks the properties of a PUBLISH from a client.
func checkProps(b []byte) error {
	var seen uint64
	for len(b) > 0 {
		id, val, rest, err := NextProp(b)
		if err != nil {
			return err
		}
		if id == PropSubscriptionID { // [MQTT-3.3.4-6]: only a server sends it
			return ErrProtocol
		}
		if id != PropUser {
			if seen&(1<<id) != 0 { // each at most once, MQTT 5 3.3.2.3
				return ErrProtocol
			}
			seen |= 1 << id
		}
		switch id {
		case PropPayloadFormat:
			if val[0] > 1 {
				return ErrProtocol
			}
		case PropTopicAlias:
			if val[0] == 0 && val[1] == 0 { // judged by whoever keeps the aliases
				return ErrProtocol
			}
		case PropContentType:
			if !utf8.Valid(val) {
				return ErrMalformed
			}
		case PropResponseTopic:
			if ValidTopic(string(val)) != nil {
				return ErrProtocol
			}
		case PropUser:
			if !utf8.Valid(val) && !validPair(val) {
				return ErrMalformed
			}
		}
		b = rest
	}
	return nil
}

// validPair looks at the two strings of a user property apart from their lengths,
// which need not be UTF-8.
func validPair(b []byte) bool {
	n := 2 + int(binary.BigEndian.Uint16(b))
	return utf8.Valid(b[2:n]) && utf8.Valid(b[n+2:])
}

// ParseProps decodes properties as they stand in a PUBLISH, without their length. Topic
// alias and subscription identifiers are passed over. Correlation aliases b.
func ParseProps(b []byte) (Props, error) {
	var p Props
	for len(b) > 0 {
		id, val, rest, err := NextProp(b)
		if err != nil {
			return p, err
		}
		switch id {
		case PropPayloadFormat:
			p.Format, p.HasFormat = val[0], true
		case PropExpiry:
			p.Expiry, p.HasExpiry = binary.BigEndian.Uint32(val), true
		case PropContentType:
			p.ContentType = string(val)
		case PropResponseTopic:
			p.ResponseTopic = string(val)
		case PropCorrelation:
			p.Correlation = val
		case PropUser:
			n := 2 + int(binary.BigEndian.Uint16(val))
			p.User = append(p.User, UserProp{string(val[2:n]), string(val[n+2:])})
		}
		b = rest
	}
	return p, nil
}
