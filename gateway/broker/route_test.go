package broker_test

import (
	"sync/atomic"
	"testing"

	"tidegate/gateway/broker"
	"tidegate/test/rawmqtt"
)

// TestRoutesMadeAtTheSameTimeBothEnd holds the first route of a topic up while another is made.
// The later one to be kept used to push the other out, whose holder then never heard of a change.
func TestRoutesMadeAtTheSameTimeBothEnd(t *testing.T) {
	h := open(t)
	a := h.dial(rawmqtt.Options{ClientID: "a", Clean: true})
	a.sub(0, "t")
	var deep atomic.Bool
	var second *broker.Route
	h.auth.receive = func(topic string) {
		if topic == "t" && deep.CompareAndSwap(false, true) {
			second = h.br.Route("t")
		}
	}
	first := h.br.Route("t")
	b := h.dial(rawmqtt.Options{ClientID: "b", Clean: true})
	b.sub(0, "t")
	if second == nil || first.Fresh() || second.Fresh() {
		t.Error("a route without its newest subscriber is still fresh")
	}
}
