package conformance_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"tidegate/gateway/mqttclient"
	"tidegate/test/harness"
)

// The basics once more with clients that others wrote: who reads the specification another
// way than we do is found here.

func TestMosquittosClients(t *testing.T) {
	w := open(t)
	for _, version := range []string{"311", "5"} {
		t.Run(version, func(t *testing.T) {
			topic := "mosquitto/" + version
			keep := []string{"-V", version, "-i", "keeper" + version, "-c"}
			if version == "5" {
				keep = append(keep, "-x", "100")
			}
			pub := func(payload string, qos int, more ...string) {
				t.Helper()
				harness.MosquittoPub(t, w.addr, topic, payload, append([]string{"-V", version, "-q", strconv.Itoa(qos)}, more...)...)
			}
			heard := func(s *harness.MosquittoSub, payload string, qos, retained int) {
				t.Helper()
				if h := s.Next(); h.Payload != payload || h.QoS != qos || h.Retain != retained || h.Topic != topic {
					t.Errorf("heard %+v, want %q QoS %d", h, payload, qos)
				}
			}
			s := harness.StartMosquittoSub(t, w.addr, topic, "-V", version, "-q", "2")
			for qos := range 3 {
				pub(fmt.Sprint("qos ", qos), qos)
				heard(s, fmt.Sprint("qos ", qos), qos, 0)
			}
			// One message is enough for this one; then it leaves, and its session stays.
			k := harness.StartMosquittoSub(t, w.addr, topic, append(keep, "-q", "2", "-C", "1")...)
			pub("first", 1)
			heard(k, "first", 1, 0)
			heard(s, "first", 1, 0)
			w.t = t
			w.left("keeper" + version)
			pub("second", 2)
			pub("third", 1, "-r")
			k = harness.StartMosquittoSub(t, w.addr, topic, append(keep, "-q", "2")...)
			got := map[string]bool{}
			for range 3 { // both from the session, and what is retained
				h := k.Next()
				got[fmt.Sprint(h.Payload, h.QoS, h.Retain)] = true
			}
			if !got["second2 0"] || !got["third1 0"] || !got["third1 1"] {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestPahoGo311(t *testing.T) {
	w := open(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	got := make(chan string, 10000)
	connect := func(id string, keep bool) *mqttclient.Client {
		t.Helper()
		c, err := mqttclient.Connect(ctx, mqttclient.Config{URL: "mqtt://" + w.addr, ClientID: id, KeepSession: keep, OnMessage: func(m *mqttclient.Message) {
			got <- fmt.Sprint(m.QoS, " ", string(m.Payload))
			m.Ack()
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	s, p := connect("paho-sub", true), connect("paho-pub", false)
	if err := s.Subscribe(ctx, map[string]byte{"paho/#": 2}); err != nil {
		t.Fatal(err)
	}
	const n = 900
	send := func() {
		t.Helper()
		var last [3]*mqttclient.Token
		for i := range n {
			last[i%3] = p.Publish("paho/x", byte(i%3), false, fmt.Append(nil, i))
		}
		for _, tok := range last {
			if err := tok.Wait(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(qoss ...int) {
		t.Helper()
		next := map[int]int{0: 0, 1: 1, 2: 2}
		for range n / 3 * len(qoss) {
			select {
			case m := <-got:
				var qos, i int
				fmt.Sscan(m, &qos, &i)
				if i != next[qos] {
					t.Fatalf("%s, want %d", m, next[qos])
				}
				next[qos] += 3
			case <-ctx.Done():
				t.Fatalf("waiting: %v", next)
			}
		}
	}
	send()
	check(0, 1, 2)
	s.Close()
	w.left("paho-sub")
	send()
	if s = connect("paho-sub", true); !s.SessionPresent() {
		t.Error("no session present")
	}
	check(1, 2)
}

func TestPahoGo5(t *testing.T) {
	w := open(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	got := make(chan *paho.Publish, 10000)
	dial := func(cp *paho.Connect) (*paho.Client, *paho.Connack) {
		t.Helper()
		nc, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		c := paho.NewClient(paho.ClientConfig{Conn: nc, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
			func(r paho.PublishReceived) (bool, error) { got <- r.Packet; return true, nil }}})
		ca, err := c.Connect(ctx, cp)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Disconnect(&paho.Disconnect{}) })
		return c, ca
	}
	ptr := func(v uint16) *uint16 { return &v }
	day := uint32(86400)
	asks := &paho.ConnectProperties{ReceiveMaximum: ptr(7), TopicAliasMaximum: ptr(3), SessionExpiryInterval: &day}
	s, _ := dial(&paho.Connect{ClientID: "paho5-sub", KeepAlive: 60, CleanStart: true, Properties: asks})
	p, ca := dial(&paho.Connect{KeepAlive: 60, CleanStart: true})
	if ca.Properties.AssignedClientID == "" || ca.Properties.TopicAliasMaximum == nil || *ca.Properties.TopicAliasMaximum == 0 {
		t.Errorf("CONNACK %+v", ca.Properties)
	}
	one := 1
	if _, err := s.Subscribe(ctx, &paho.Subscribe{Properties: &paho.SubscribeProperties{SubscriptionIdentifier: &one},
		Subscriptions: []paho.SubscribeOptions{{Topic: "paho5/+", QoS: 2}}}); err != nil {
		t.Fatal(err)
	}
	const n = 300
	send := func() {
		t.Helper()
		for i := range n {
			topic := "paho5/x"
			if i > 0 { // by its alias
				topic = ""
			}
			m := &paho.Publish{Topic: topic, QoS: byte(1 + i%2), Payload: fmt.Append(nil, i), Properties: &paho.PublishProperties{TopicAlias: ptr(1),
				ContentType: "text/plain", ResponseTopic: "back", CorrelationData: []byte{0, 1}, User: paho.UserProperties{{Key: "k", Value: "1"}, {Key: "k", Value: "2"}}}}
			if r, err := p.Publish(ctx, m); err != nil || r.ReasonCode >= 0x80 {
				t.Fatalf("%d: %+v, %v", i, r, err)
			}
		}
	}
	check := func() {
		t.Helper()
		next := [3]int{0, 0, 1}
		alias := map[uint16]string{}
		for range n {
			var m *paho.Publish
			select {
			case m = <-got:
			case <-ctx.Done():
				t.Fatalf("waiting: %v", next)
			}
			x := m.Properties
			if x.TopicAlias != nil {
				if m.Topic != "" {
					alias[*x.TopicAlias] = m.Topic
				}
				m.Topic = alias[*x.TopicAlias]
			}
			if m.Topic != "paho5/x" || string(m.Payload) != fmt.Sprint(next[m.QoS]) || x.ContentType != "text/plain" || x.ResponseTopic != "back" ||
				string(x.CorrelationData) != "\x00\x01" || len(x.User) != 2 || x.User[1].Value != "2" || x.SubscriptionIdentifier == nil || *x.SubscriptionIdentifier != 1 {
				t.Fatalf("%s %s %+v, want %d", m.Topic, m.Payload, x, next[m.QoS])
			}
			next[m.QoS] += 2
		}
	}
	send()
	check()
	s.Disconnect(&paho.Disconnect{})
	w.left("paho5-sub")
	p.Disconnect(&paho.Disconnect{})
	p, _ = dial(&paho.Connect{KeepAlive: 60, CleanStart: true})
	send()
	if _, ca = dial(&paho.Connect{ClientID: "paho5-sub", KeepAlive: 60, Properties: asks}); !ca.SessionPresent {
		t.Error("no session present")
	}
	check()
	if r, err := p.Publish(ctx, &paho.Publish{Topic: "nopublish", QoS: 1}); r == nil || r.ReasonCode != 0x87 {
		t.Errorf("%+v, %v", r, err)
	}
}
