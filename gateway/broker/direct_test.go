package broker_test

import (
	"testing"

	"tidegate/gateway/broker"
	"tidegate/gateway/mqtt"
	"tidegate/test/rawmqtt"
)

func TestAnAnswerGoesToWhoAskedAndNobodyElse(t *testing.T) {
	h := open(t)
	const topic = "$aws/things/pump1/jobs/get/accepted"
	asked := h.dial(rawmqtt.Options{ClientID: "pump1", Clean: true})
	kept := h.dial(rawmqtt.Options{ClientID: "pump2", V5: true, SessionExpiry: 100})
	spy := h.dial(rawmqtt.Options{ClientID: "spy", Clean: true})
	spy.sub(1, "$aws/things/pump1/jobs/#", "#")
	kept.sub(1, topic)
	seen := 0
	defer h.br.Watch("$aws/#", func(*mqtt.Run) { seen++ })()
	answer := func(to, payload string, qos byte) {
		run := mqtt.NewRun(&mqtt.Message{Topic: topic, Payload: []byte(payload), QoS: qos, To: to, Origin: mqtt.Service})
		var ob broker.Outbox
		h.br.Deliver(run, 0, h.br.Route(topic), &ob)
		h.br.Flush(&ob)
	}
	answer("pump1", "0", 0)
	asked.get(topic, "0", 0, 0)
	answer("pump1", "1", 1)
	asked.get(topic, "1", 1, 0)
	asked.sub(0, topic) // it comes once all the same
	answer("pump1", "2", 1)
	asked.get(topic, "2", 1, 0)
	asked.silent()
	answer("pump2", "3", 1)
	kept.get(topic, "3", 1, 0)
	kept.silent()
	answer("nobody", "4", 1)
	kept.write([]byte{rawmqtt.Disconnect << 4, 0})
	kept.closed()
	h.left("pump2")
	answer("pump2", "5", 1) // an answer does not wait for its client
	back := h.dial(rawmqtt.Options{ClientID: "pump2", V5: true, SessionExpiry: 100})
	back.silent()
	spy.silent()
	asked.silent()
	if seen != 0 {
		t.Errorf("a follower has seen %d answers", seen)
	}
}
