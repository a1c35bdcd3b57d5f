// Package reserved speaks the topic API of the AWS dialect: a message on a request topic
// under $aws/ becomes the call of a room, and what the room answers becomes messages on
// the reply topics (spec/mqtt.md §11).
//
// It is a door for MQTT as the data plane is one for HTTPS, and both take the same calls:
// Shadows makes a change and hands out the messages that tell of it, whoever asked. All
// of it goes into the unit of the store that the caller commits. The package keeps
// nothing and decides nothing about documents.
//
//	topics := reserved.New()
//	topics.Serve(awstopic.Shadow, reserved.NewShadows(room, clk, log).Handle)
package reserved

import (
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/store"
)

// Handler serves the request topics of one service. It fills u, hands its replies to
// emit in the order in which they are to be delivered, and has no other effect: it may
// run several times for one message. What is wrong with the request becomes a reply; an
// error means that nothing can be answered and the message fails as a whole.
type Handler func(u *store.Unit, t awstopic.Topic, m *mqtt.Message, emit func(mqtt.Message)) error

// Topics leads requests to their services. Serve before the first message comes; after
// that its methods may be called concurrently.
type Topics struct{ handlers map[awstopic.Service]Handler }

// New makes a table without any service.
func New() *Topics { return &Topics{handlers: map[awstopic.Service]Handler{}} }

// Serve has h answer the requests to s.
func (t *Topics) Serve(s awstopic.Service, h Handler) { t.handlers[s] = h }

// Handles says whether messages on topic are requests that some service here answers.
func (t *Topics) Handles(topic string) bool {
	if !awstopic.Is(topic) || !awstopic.MayPublish(topic) {
		return false
	}
	at, _ := awstopic.Parse(topic)
	return t.handlers[at.Service] != nil
}

// Handle serves the request m, for which Handles is true.
func (t *Topics) Handle(u *store.Unit, m *mqtt.Message, emit func(mqtt.Message)) error {
	at, ok := awstopic.Parse(m.Topic)
	if h := t.handlers[at.Service]; ok && h != nil {
		return h(u, at, m, emit)
	}
	return nil
}

// message makes a reply. Its QoS is 1, so that each receiver gets it with the QoS of its
// subscription (spec/shadow.md §5).
func message(topic string, payload []byte) mqtt.Message {
	return mqtt.Message{Topic: topic, Payload: payload, QoS: 1, Origin: mqtt.Service}
}
