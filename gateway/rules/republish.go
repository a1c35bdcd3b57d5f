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
	topic   topic
	qos     byte
	headers *headers
}

// topic is a topic template. A leading $$ stands for $ (spec/rules.md §7).
type topic struct {
	source string
	t      *iotsql.Template
}

func newTopic(source string, st *iotsql.Statement) (topic, error) {
	template := source
	if strings.HasPrefix(source, "$$") {
		template = source[1:]
	}
	t, err := st.Template(template)
	if err == nil {
		err = served(t.External())
	}
	if err != nil {
		return topic{}, err
	}
	if name, ok := t.Fixed(); ok {
		err = allowed(name)
	}
	return topic{source, t}, err
}

// allowed says what keeps a rule from publishing to a topic. Those of jobs are refused as AWS does: their
// answers go to the one who asked.
func allowed(name string) error {
	if err := mqtt.ValidTopic(name); err != nil {
		return err
	}
	if strings.HasPrefix(name, mqtt.House) || strings.HasPrefix(name, mqtt.Sys) {
		return fault.New(fault.Forbidden, "a rule may not publish to the gateway's own topic %q", name)
	}
	if !awstopic.Is(name) {
		return nil
	}
	if t, ok := awstopic.Parse(name); ok && t.Service == awstopic.Jobs || !awstopic.MayPublish(name) {
		return fault.New(fault.Forbidden, "a rule may not publish to the reserved topic %q", name)
	}
	return nil
}

// message makes the message that follows from msg, with payload.
func (a *republish) message(in *iotsql.Input, msg *mqtt.Message, payload []byte) (mqtt.Message, error) {
	name, err := a.topic.t.Expand(in)
	if err != nil {
		return mqtt.Message{}, err
	}
	if err := allowed(name); err != nil {
		return mqtt.Message{}, err
	}
	props, err := a.headers.expand(in)
	if err != nil {
		return mqtt.Message{}, err
	}
	m := mqtt.Message{Topic: name, Payload: payload, QoS: a.qos, Props: props, From: msg.From, Principal: msg.Principal, Origin: mqtt.Rule,
		Hops: msg.Hops + 1, At: msg.At}
	return m, m.Check()
}
