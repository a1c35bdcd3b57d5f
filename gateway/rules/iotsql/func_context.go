package iotsql

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

func orUndefined(s string) value {
	if s == "" {
		return undef
	}
	return textValue(s)
}

func accountID(in *Input, _ []value) value { return orUndefined(in.Context.AccountID) }

func clientID(in *Input, _ []value) value {
	if in.Context.ClientID == "" {
		return textValue("n/a")
	}
	return textValue(in.Context.ClientID)
}

func principal(in *Input, _ []value) value { return orUndefined(in.Context.Principal) }

// topic gives the topic, or one of its levels counted from 1.
func topic(in *Input, args []value) value {
	if len(args) == 0 {
		return textValue(in.Topic)
	}
	n, ok := args[0].toNumber()
	if !ok {
		return undef
	}
	i := n.clamp(0, 1<<17)
	if i == 0 {
		return undef
	}
	rest := in.Topic
	for {
		level, after, more := strings.Cut(rest, "/")
		if i--; i == 0 {
			return textValue(level)
		}
		if !more {
			return undef
		}
		rest = after
	}
}

func timestamp(in *Input, _ []value) value {
	if in.Context.Now == nil {
		return undef
	}
	return intValue(in.Context.Now().UnixMilli())
}

func traceID(in *Input, _ []value) value { return orUndefined(in.TraceID()) }

// TraceID gives what traceid() tells: a UUID that is the same for all rules of a message,
// empty for a message that did not come over MQTT.
func (in *Input) TraceID() string {
	if in.Context.MQTT && in.Context.TraceID == "" {
		in.Context.TraceID = in.uuid()
	}
	return in.Context.TraceID
}

func newUUID(in *Input, _ []value) value { return in.built(in.uuid()) }

// uuid makes a random UUID (RFC 9562, 5.4).
func (in *Input) uuid() string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], in.random())
	binary.LittleEndian.PutUint64(b[8:], in.random())
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var s [36]byte
	hex.Encode(s[:8], b[:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:], b[10:])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}

func sqlVersion(c *compiler, _ *term, _ []expr) expr {
	v := textValue(c.version.String())
	return func(*Input) value { return v }
}

// mqttProperty gives a property of an MQTT 5 message.
func mqttProperty(in *Input, args []value) value {
	p := in.Context.Props
	if p == nil || args[0].kind != text {
		return undef
	}
	switch args[0].str {
	case "content_type":
		return orUndefined(p.ContentType)
	case "response_topic":
		return orUndefined(p.ResponseTopic)
	case "correlation_data":
		if p.Correlation != nil {
			return in.built(base64.StdEncoding.EncodeToString(p.Correlation))
		}
	case "format_indicator":
		if p.HasFormat && p.Format == 0 {
			return textValue("UNSPECIFIED_BYTES")
		}
		if p.HasFormat {
			return textValue("UTF8_DATA")
		}
	}
	return undef
}

// userProperties gives all values of a key, or all pairs as objects of one member each.
func userProperties(in *Input, args []value) value {
	p := in.Context.Props
	if p == nil {
		return undef
	}
	var list []value
	if len(args) == 0 {
		for _, u := range p.User {
			list = append(list, objectValue([]member{{u.Key, textValue(u.Value)}}))
		}
		return arrayValue(list)
	}
	key, ok := in.toText(args[0])
	if !ok {
		return undef
	}
	for _, u := range p.User {
		if u.Key == key {
			list = append(list, textValue(u.Value))
		}
	}
	if list == nil {
		return undef
	}
	return arrayValue(list)
}
