package conformance_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/broker"
)

// aws switches the broker to AWS IoT Core's own limits and answers.
func aws(c *broker.Config) {
	c.Limits = broker.AWSLimits()
	c.QoS2, c.SubscriptionIDs, c.RetainedWildcards = false, false, false
}

func TestAWSConnack(t *testing.T) { // spec/mqtt.md §2
	w := open(t, aws)
	p := w.dial(connect{id: w.name(), v5: true, clean: true, keep: 10, props: []prop{num(sessionExpiry, 30*24*3600)}})
	for id, want := range map[byte]uint32{receiveMaximum: 100, maximumQoS: 1, aliasMaximum: 8, subIDAvailable: 0, serverKeepAlive: 30, sessionExpiry: 7 * 24 * 3600, maximumPacket: 149504} {
		if got, ok := p.hello.get(id); !ok || got.num != want {
			t.Errorf("property %d: %d (%v), want %d", id, got.num, ok, want)
		}
	}
}

func TestAWSHasNoQoS2(t *testing.T) { // spec/mqtt.md §4, [MQTT-3.2.2-11]
	w := open(t, aws)
	both(t, w, func(t *testing.T, v5 bool) {
		p := w.client(v5)
		p.write(publish(v5, "a", "x", 2, 1, 0))
		if code := p.ended(); v5 && code != 0x9b {
			t.Errorf("PUBLISH: 0x%02x", code)
		}
		p = w.client(v5)
		if codes := p.trySub(nil, filter{"a", 1}, filter{"b", 2}); codes[0] != 1 || codes[1] != 0x80 {
			t.Errorf("SUBSCRIBE: % x", codes)
		}
		if code := w.refused(connect{id: w.name(), v5: v5, clean: true, will: &will{topic: "a", qos: 2}}); v5 && code != 0x9b { // [MQTT-3.2.2-12]
			t.Errorf("will: 0x%02x", code)
		}
	})
}

func TestAWSHasNoSubscriptionIdentifiers(t *testing.T) { // spec/mqtt.md §5
	w := open(t, aws)
	p := w.client(true)
	p.write(subscribe(true, 1, []prop{num(subscriptionID, 1)}, filter{"a", 1}))
	if code := p.ended(); code != 0xa1 {
		t.Errorf("0x%02x", code)
	}
}

func TestAWSLimits(t *testing.T) { // spec/mqtt.md §12
	w := open(t, aws, func(c *broker.Config) { c.Limits.PublishRate, c.Limits.ByteRate = 0, 0 })
	long := strings.Repeat("x", 256)
	both(t, w, func(t *testing.T, v5 bool) {
		ok := func(topic string) {
			t.Helper()
			p := w.client(v5)
			p.sub(1, topic)
			p.pub(topic, "x", 1, 0)
			p.get(topic, "x", 1, 0)
		}
		ok(long)
		ok("1/2/3/4/5/6/7/8")
		for _, topic := range []string{long + "x", "1/2/3/4/5/6/7/8/9"} {
			p := w.client(v5)
			if codes := p.trySub(nil, filter{topic, 1}); v5 && codes[0] != 0x8f || codes[0] < 0x80 {
				t.Errorf("SUBSCRIBE to %.30s: % x", topic, codes)
			}
			p.write(publish(v5, topic, "x", 1, 9, 0))
			if code := p.ended(); v5 && code != 0x90 {
				t.Errorf("PUBLISH to %.30s: 0x%02x", topic, code)
			}
		}
		// Basic Ingest: the first three levels do not count.
		p := w.client(v5)
		p.pub("$aws/rules/a_rule/1/2/3/4/5/6/7/8", "x", 1, 0)
		p.write(publish(v5, "$aws/rules/a_rule/1/2/3/4/5/6/7/8/9", "x", 1, 9, 0))
		if code := p.ended(); v5 && code != 0x90 {
			t.Errorf("Basic Ingest with nine levels: 0x%02x", code)
		}
		p = w.client(v5)
		for i := range 50 {
			p.sub(0, fmt.Sprint("n/", i))
		}
		if codes := p.trySub(nil, filter{"n/50", 0}); v5 && codes[0] != 0x97 || codes[0] < 0x80 {
			t.Errorf("51st subscription: % x", codes)
		}
		var nine []filter
		for i := range 9 {
			nine = append(nine, filter{fmt.Sprint("n/", i), 0})
		}
		for _, code := range p.trySub(nil, nine...) {
			if code < 0x80 {
				t.Errorf("nine filters: 0x%02x", code)
			}
		}
	})
}

func TestAWSPublishRate(t *testing.T) { // spec/mqtt.md §12: 100 a second, 512 KiB a second
	w := openStill(t, aws)
	for name, payload := range map[string]string{"messages": "x", "bytes": strings.Repeat("x", 60<<10)} {
		p := w.client(true)
		for range 3 { // as fast as one may, for three seconds
			w.pass(1100 * time.Millisecond)
			for range 8 {
				p.pub("a", payload, 1, 0)
			}
		}
		w.pass(1100 * time.Millisecond)
		var flood []byte
		for i := range 150 {
			flood = append(flood, publish(true, "a", payload, 0, uint16(i+1), 0)...)
		}
		go p.Write(flood)
		if code := p.ended(); code != 0x96 {
			t.Errorf("%s: 0x%02x", name, code)
		}
	}
}

func TestAWSReservedTopics(t *testing.T) { // spec/mqtt.md §11
	w := open(t)
	both(t, w, func(t *testing.T, v5 bool) {
		p := w.client(v5)
		p.sub(1, "$aws/things/lamp/shadow/#", "$aws/things/+/jobs/notify")
		w.client(v5).sub(1, "$aws/events/presence/connected/+") // another's: word of p's own coming may come after its SUBACK
		p.pub("$aws/things/lamp/shadow/get", "", 1, 0)
		p.get("$aws/things/lamp/shadow/get", "", 1, 0)
		p.settle(p.next(PUBLISH)) // the answer
		for _, f := range []string{"$aws/nonsense", "$aws/rules/#", "$aws/rules/a", "$aws/things/x/what/#"} {
			if codes := p.trySub(nil, filter{f, 1}); codes[0] < 0x80 {
				t.Errorf("SUBSCRIBE to %s: % x", f, codes)
			}
		}
		for _, topic := range []string{"$aws/nonsense", "$aws/events/presence/connected/x", "$aws/things/lamp/shadow/update/accepted", "$aws/", "$SYS/broker/uptime"} {
			p := w.client(v5)
			p.write(publish(v5, topic, "{}", 1, 9, 0))
			if v5 {
				if k := p.answer(PUBACK, 9); k.code != 0x87 {
					t.Errorf("PUBLISH to %s: 0x%02x", topic, k.code)
				}
			} else {
				p.ended()
			}
		}
		spy := w.client(v5)
		spy.sub(1, "#", "+/rules/#", "+/+/+/#")
		p.pub("$aws/rules/none/a", "x", 1, 0) // seen by rules alone
		spy.silent()
	})
}

// event is the payload of a lifecycle event.
type event struct {
	ClientID, EventType, SessionIdentifier, PrincipalIdentifier, IPAddress, DisconnectReason, ConnectFailureReason string
	ClientInitiatedDisconnect                                                                                      *bool
	VersionNumber                                                                                                  *int
	Timestamp                                                                                                      int64
	Topics                                                                                                         []string
}

func (p *peer) event(topic string) (e event) {
	p.t.Helper()
	k := p.next(PUBLISH)
	p.settle(k)
	if err := json.Unmarshal([]byte(k.payload), &e); k.topic != topic || err != nil {
		p.t.Fatalf("event %v (%v), want %s", k, err, topic)
	}
	if id := topic[strings.LastIndexByte(topic, '/')+1:]; e.ClientID != id || e.Timestamp < 1e12 || e.SessionIdentifier == "" {
		p.t.Fatalf("event %s", k.payload)
	}
	return e
}

func TestLifecycleEvents(t *testing.T) { // spec/mqtt.md §8
	w := openStill(t, func(c *broker.Config) { c.Limits.KeepAliveMin = 0 })
	watch := w.client(true)
	watch.sub(1, "$aws/events/presence/disconnected/+")
	bye := func(code byte) []byte { return frame(DISCONNECT<<4, []byte{code}) }
	for _, c := range []struct {
		reason   string
		byClient bool
		end      func(p *peer, id string)
	}{
		{"CLIENT_INITIATED_DISCONNECT", true, func(p *peer, _ string) { p.write(bye(0)) }},
		{"CLIENT_INITIATED_DISCONNECT", true, func(p *peer, _ string) { p.write(bye(4)) }},
		{"CLIENT_ERROR", false, func(p *peer, _ string) { p.write([]byte{0xf0, 0}) }},
		{"CLIENT_ERROR", false, func(p *peer, id string) { p.write(connect{id: id, v5: true}.bytes()) }},
		{"CLIENT_ERROR", false, func(p *peer, _ string) { p.write(publish(true, "big", strings.Repeat("x", 132000), 0, 0, 0)) }},
		{"AUTH_ERROR", false, func(p *peer, _ string) { p.write(publish(true, "nopublish", "x", 0, 0, 0)) }},
		{"CONNECTION_LOST", false, func(p *peer, _ string) { p.cut() }},
		{"DUPLICATE_CLIENTID", false, func(_ *peer, id string) { w.dial(connect{id: id, v5: true, clean: true}) }},
		{"MQTT_KEEP_ALIVE_TIMEOUT", false, func(*peer, string) { w.pass(5 * time.Second) }},
		{"API_INITIATED_DISCONNECT", false, func(_ *peer, id string) { w.br.Disconnect(id, true) }},
	} {
		id := w.name()
		p := w.dial(connect{id: id, v5: true, clean: true, keep: 2})
		c.end(p, id)
		e := watch.event("$aws/events/presence/disconnected/" + id)
		if e.DisconnectReason != c.reason || e.ClientInitiatedDisconnect == nil || *e.ClientInitiatedDisconnect != c.byClient || e.EventType != "disconnected" {
			t.Errorf("%+v, want %s", e, c.reason)
		}
	}
	watch.leave()

	watch = w.client(true)
	watch.sub(1, "$aws/events/presence/+/chatty", "$aws/events/subscriptions/+/chatty")
	session := ""
	for n := range 2 { // the version number grows, and is one for connect and disconnect
		p := w.dial(connect{id: "chatty", clean: true, user: "alice"})
		on := watch.event("$aws/events/presence/connected/chatty")
		p.sub(0, "a", "b/#")
		subs := watch.event("$aws/events/subscriptions/subscribed/chatty")
		p.unsub("a")
		unsubs := watch.event("$aws/events/subscriptions/unsubscribed/chatty")
		p.leave()
		off := watch.event("$aws/events/presence/disconnected/chatty")
		if on.EventType != "connected" || on.IPAddress != "127.0.0.1" || on.PrincipalIdentifier != "user:alice" || *on.VersionNumber != n || *off.VersionNumber != n {
			t.Errorf("%+v, %+v", on, off)
		}
		if on.SessionIdentifier == session || off.SessionIdentifier != on.SessionIdentifier || subs.SessionIdentifier != on.SessionIdentifier {
			t.Errorf("session identifiers %s, %s, %s", on.SessionIdentifier, subs.SessionIdentifier, off.SessionIdentifier)
		}
		session = on.SessionIdentifier
		if fmt.Sprint(subs.Topics, unsubs.Topics) != "[a b/#] [a]" || subs.EventType != "subscribed" || unsubs.EventType != "unsubscribed" {
			t.Errorf("%+v, %+v", subs, unsubs)
		}
	}
	w.refused(connect{id: "chatty", clean: true, user: "banned"})
	if e := watch.event("$aws/events/presence/connect_failed/chatty"); e.ConnectFailureReason != "AUTHORIZATION_FAILED" || e.EventType != "connect_failed" {
		t.Errorf("%+v", e)
	}
	w.refused(connect{id: "chatty", clean: true, will: &will{topic: "nopublish"}}) // spec/mqtt.md §2
	watch.event("$aws/events/presence/connect_failed/chatty")
	watch.silent()

	all := w.client(true)
	subscribed := fmt.Sprint("$aws/events/subscriptions/subscribed/n", w.seq)
	all.sub(1, "$aws/events/subscriptions/#")
	all.event(subscribed) // so its own connection, which was told before, is not heard of
	all.sub(1, "$aws/events/presence/#")
	all.event(subscribed)
	for _, id := range []string{"a+b", "#", "x#"} { // these cause none
		p := w.dial(connect{id: id, clean: true})
		p.sub(1, "a")
		p.leave()
	}
	p := w.client(false)
	all.event(fmt.Sprint("$aws/events/presence/connected/n", w.seq))
	p.leave()
}
