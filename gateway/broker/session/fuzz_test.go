package session

import (
	"reflect"
	"testing"
	"time"

	"tidegate/gateway/mqtt"
)

// What does not read is refused, and what reads is written again as it was: no byte of a
// damaged disk becomes an exchange that nobody began.
func FuzzOut(f *testing.F) {
	for _, o := range []Out{{PID: 1, State: Sent}, {PID: 65535, State: Done, Filter: "a/+", Topic: "a/b", At: 1}, {PID: 49152, State: Released, Filter: "$share/g/x", At: 7}} {
		f.Add(o.encode())
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		o, ok := parseOut(9, v)
		if !ok {
			return
		}
		if o.PID == 0 || o.State < Sent || o.State > Done || (o.Topic != "" || o.At != 0) && o.Filter == "" {
			t.Fatalf("%x passed as %+v", v, o)
		}
		if got := o.encode(); string(got) != string(v) {
			t.Fatalf("%x was written as %x", v, got)
		}
	})
}

// Wills and retained messages: what reads comes to the same message when it is written again.
func FuzzMessage(f *testing.F) {
	f.Add(appendMessage(nil, &mqtt.Message{Topic: "a", Payload: []byte("x"), At: time.UnixMilli(1)}))
	f.Add(appendMessage(nil, &mqtt.Message{Topic: "a/b", Payload: []byte("x"), QoS: 2, Retain: true, From: "me", Principal: "who", Origin: mqtt.Will, Hops: 3, At: time.UnixMilli(1 << 40),
		Props: mqtt.Props{HasExpiry: true, Expiry: 9, HasFormat: true, Format: 1, ContentType: "t", ResponseTopic: "r", Correlation: []byte("c"), User: []mqtt.UserProp{{Key: "k", Value: "v"}}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			return
		}
		again, err := parseMessage(appendMessage(nil, &m))
		if err != nil {
			t.Fatalf("%+v does not read again: %v", m, err)
		}
		if !again.At.Equal(m.At) {
			t.Fatalf("received at %v, read again as %v", m.At, again.At)
		}
		again.At = m.At
		if !reflect.DeepEqual(again, m) {
			t.Fatalf("got  %+v\nwant %+v", again, m)
		}
	})
}
