package broker_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"tidegate/gateway/broker"
	"tidegate/gateway/mqtt"
	"tidegate/test/rawmqtt"
)

// TestSUBACKWaitsForTheSubscription holds a subscription up just before it is made, while somebody flushes who had something
// else for the client. SUBACK used to go along: what others, told of it, published in that moment was not for the client yet.
func TestSUBACKWaitsForTheSubscription(t *testing.T) {
	for name, o := range map[string]rawmqtt.Options{
		"not persistent": {ClientID: "a", Clean: true},
		"persistent":     {ClientID: "a", V5: true, SessionExpiry: 100},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t)
			a := h.dial(o)
			var ob broker.Outbox
			h.br.Deliver(mqtt.NewRun(&mqtt.Message{Topic: "aside", To: "a", Payload: []byte("x")}), 0, nil, &ob)
			release := h.br.HoldTable()
			a.write(rawmqtt.AppendSubscribe(nil, a.V5, 1, 1, "t", "$share/g/t"))
			for end := time.Now().Add(patience); !h.br.TableAwaited(); time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					release()
					t.Fatal("nobody subscribes")
				}
			}
			h.br.Flush(&ob) // what it writes can be read when it returns
			a.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			pk, err := a.Next()
			for ; err == nil && pk.Type == rawmqtt.Publish; pk, err = a.Next() { // aside
			}
			release()
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("packet type %d, %v, before there is a subscription", pk.Type, err)
			}
			a.SetReadDeadline(time.Now().Add(patience))
			for pk, err = a.Next(); err == nil && pk.Type == rawmqtt.Publish; pk, err = a.Next() {
			}
			if err != nil || pk.Type != rawmqtt.Suback || pk.Code != 1 {
				t.Errorf("packet type %d, code 0x%02x, %v", pk.Type, pk.Code, err)
			}
		})
	}
}

// TestAClientThatSubscribesCanBeCutOff ends a connection whose output is held back for a subscription: it ends all the same,
// with SUBACK and the reason as its last words.
func TestAClientThatSubscribesCanBeCutOff(t *testing.T) {
	h := open(t)
	a := h.dial(rawmqtt.Options{ClientID: "a", V5: true, Clean: true})
	release := h.br.HoldTable()
	a.write(rawmqtt.AppendSubscribe(nil, true, 1, 1, "t"))
	for end := time.Now().Add(patience); !h.br.TableAwaited(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			release()
			t.Fatal("nobody subscribes")
		}
	}
	h.br.Disconnect("a", true)
	release()
	a.next(rawmqtt.Suback)
	if code := a.closed(); code < 0x80 {
		t.Errorf("ended with 0x%02x", code)
	}
}
