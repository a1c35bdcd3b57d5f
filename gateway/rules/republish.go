package rules

import (
	"strings"

	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/rules/iotsql"
)

// republish is the republish action, compiled.
type republish struct {
	topic topic
	qos   byte
}

// topic is a topic template. A leading $$ stands for $ (spec/rules.md §7).
type topic struct {
	source string
	t      *iotsql.Template
}

func newTopic(source string, st *iotsql.Statement) (topic, error) {
	t, err := st.Template(strings.Replace(source, "$$", "$", 1))
	if !strings.HasPrefix(source, "$$") {
		t, err = st.Template(source)
	}
	return topic{source, t}, err
}

// message makes the message that follows from msg, with payload.
func (a *republish) message(in *iotsql.Input, msg *mqtt.Message, payload []byte) (mqtt.Message, error) {
	name, err := a.topic.t.Expand(in)
	if err != nil {
		return mqtt.Message{}, err
	}
	if err := mqtt.ValidTopic(name); err != nil {
		return mqtt.Message{}, err
	}
	if awstopic.Is(name) && !awstopic.MayPublish(name) {
		return mqtt.Message{}, fault.New(fault.Forbidden, "nobody may publish to the reserved topic %q", name)
	}
	return mqtt.Message{Topic: name, Payload: payload, QoS: a.qos, From: msg.From, Principal: msg.Principal, Origin: mqtt.Rule,
		Hops: msg.Hops + 1, At: msg.At}, nil
}
