package data

import (
	"encoding/base64"
	"encoding/json"
	"time"

	"tidegate/gateway/api/restjson"
	"tidegate/gateway/broker/session"
	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/policy"
)

// maxRetained is the longest page of retained messages.
const maxRetained = 200

// summary is a retained message in a listing.
type summary struct {
	Topic    string `json:"topic"`
	Size     int    `json:"payloadSize"`
	QoS      byte   `json:"qos"`
	Modified int64  `json:"lastModifiedTime"` // milliseconds
}

// over says whether a message is no longer good.
func over(m *mqtt.Message, now time.Time) bool {
	return m.Props.HasExpiry && now.After(m.At.Add(time.Duration(m.Props.Expiry)*time.Second))
}

func (d *Data) retained(c *restjson.Call, in *struct {
	Topic string `at:"path,topic"`
}) (any, error) {
	if err := may(c, policy.GetRetainedMessage, in.Topic); err != nil {
		return nil, err
	}
	m, ok, err := session.Retained(d.Store, in.Topic)
	if err != nil {
		return nil, err
	}
	if !ok || over(&m, d.Clock.Now()) {
		return nil, fault.New(fault.NotFound, "the topic %s retains no message", in.Topic)
	}
	out := map[string]any{"topic": m.Topic, "payload": m.Payload, "qos": m.QoS, "lastModifiedTime": m.At.UnixMilli()}
	if len(m.Props.User) > 0 {
		list := make([]map[string]string, len(m.Props.User))
		for i, p := range m.Props.User {
			list[i] = map[string]string{p.Key: p.Value}
		}
		b, err := json.Marshal(list)
		if err != nil {
			return nil, err
		}
		out["userProperties"] = b
	}
	return out, nil
}

func (d *Data) listRetained(c *restjson.Call, in *struct {
	Token string `at:"query,nextToken"`
	Max   int    `at:"query,maxResults"`
}) (any, error) {
	if err := may(c, policy.ListRetainedMessages, ""); err != nil {
		return nil, err
	}
	after, err := base64.RawURLEncoding.DecodeString(in.Token)
	if err != nil || in.Max < 0 || in.Max > maxRetained {
		return nil, fault.New(fault.Invalid, "nextToken is one of an earlier answer, and maxResults is 1 to %d", maxRetained)
	}
	n := in.Max
	if n == 0 {
		n = maxRetained
	}
	list, more := []summary{}, false
	err = session.EachRetainedAfter(d.Store, string(after), func(m mqtt.Message) bool {
		if over(&m, d.Clock.Now()) {
			return true
		}
		if len(list) == n {
			more = true
			return false
		}
		list = append(list, summary{m.Topic, len(m.Payload), m.QoS, m.At.UnixMilli()})
		return true
	})
	if err != nil {
		return nil, err
	}
	out := map[string]any{"retainedTopics": list}
	if more {
		out["nextToken"] = base64.RawURLEncoding.EncodeToString([]byte(list[n-1].Topic))
	}
	return out, nil
}
