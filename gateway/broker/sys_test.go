package broker_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/broker"
	"tidegate/gateway/clock/clocktest"
	"tidegate/test/rawmqtt"
)

// still is open with a clock of its own.
func still(t *testing.T, change ...func(*house)) (*house, *clocktest.Manual) {
	t.Helper()
	man := clocktest.New(time.Now())
	h := open(t, append([]func(*house){func(h *house) { h.clk = man }}, change...)...)
	return h, man
}

// tick lets one second go by and waits until the broker has looked at it.
func tick(t *testing.T, man *clocktest.Manual) {
	t.Helper()
	n := man.Waiting()
	man.Advance(time.Second)
	for end := time.Now().Add(patience); man.Waiting() < n; {
		if time.Now().After(end) {
			t.Fatal("the broker does not look at the clock any more")
		}
		time.Sleep(100 * time.Microsecond) // polls what has no channel
	}
}

// tree takes all that comes at once for a new subscription to filter.
func (p *peer) tree(filter string) map[string]string {
	p.t.Helper()
	p.sub(0, filter)
	got := map[string]string{}
	p.write([]byte{rawmqtt.Pingreq << 4, 0})
	for quiet := false; !quiet; {
		p.SetReadDeadline(time.Now().Add(patience))
		pk, err := p.Next()
		if err != nil {
			p.t.Fatal(err)
		}
		switch pk.Type {
		case rawmqtt.Publish:
			if pk.Flags != rawmqtt.Retain {
				p.t.Errorf("%s: flags %d", pk.Topic, pk.Flags)
			}
			got[string(pk.Topic)] = string(pk.Payload)
			if len(got) == sysTopics || got[filter] != "" {
				return got
			}
		case rawmqtt.Pingresp: // retained messages come from a goroutine of their own
			time.Sleep(time.Millisecond)
			p.write([]byte{rawmqtt.Pingreq << 4, 0})
		}
	}
	return got
}

// sysTopics is how many there are.
const sysTopics = 27 + 9*3

func TestTheBrokerTellsOfItself(t *testing.T) {
	h, man := still(t)
	keeper := h.dial(rawmqtt.Options{ClientID: "keeper"})
	keeper.sub(1, "a/#", "b")
	keeper.Conn.Close()
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true})
	p.pub("r", "x", 1, rawmqtt.Retain)
	for range 10 {
		p.pub("a/1", "12345", 1, 0)
	}
	for h.br.Clients() > 1 {
		time.Sleep(time.Millisecond) // until the keeper is known to have gone
	}
	for range 10 {
		tick(t, man)
		p.silent()
	}
	s := h.dial(rawmqtt.Options{ClientID: "s", Clean: true, V5: true})
	got := s.tree("$SYS/#")
	for topic, want := range map[string]string{"version": "tidegate version 1.2.3", "uptime": "10 seconds", "clients/connected": "2", "clients/active": "2",
		"clients/disconnected": "1", "clients/total": "3", "clients/maximum": "2", "clients/expired": "0", "publish/messages/received": "11", "publish/messages/dropped": "0", "publish/bytes/received": "51",
		"retained messages/count": "1", "subscriptions/count": "3", "messages/stored": "11", "load/publish/received/1min": "10.13"} {
		if got["$SYS/broker/"+topic] != want {
			t.Errorf("%s: %q, want %q", topic, got["$SYS/broker/"+topic], want)
		}
	}
	for _, topic := range []string{"bytes/received", "bytes/sent", "messages/received", "messages/sent", "heap/current", "load/messages/sent/15min", "store/messages/bytes"} {
		if f, err := strconv.ParseFloat(got["$SYS/broker/"+topic], 64); err != nil || f < 0 || f == 0 && !strings.HasPrefix(topic, "store") {
			t.Errorf("%s: %q", topic, got["$SYS/broker/"+topic])
		}
	}

	// What was sent is counted whichever way it went, and in each version without properties.
	const bytesSent = "$SYS/broker/publish/bytes/sent"
	sent, _ := strconv.Atoi(h.dial(rawmqtt.Options{ClientID: "s1", Clean: true}).tree(bytesSent)[bytesSent])
	for i, v5 := range []bool{false, true} {
		q := h.dial(rawmqtt.Options{ClientID: fmt.Sprint("q", i), Clean: true, V5: v5, ReceiveMax: 1})
		q.sub(byte(2-i), "bytes/#")
		for qos := range byte(3) {
			p.pub("bytes/x", "1234567", qos, 0)
			q.get("bytes/x", "1234567", min(qos, byte(2-i)), 0)
		}
		q.Close()
	}
	more := h.dial(rawmqtt.Options{ClientID: "s2", Clean: true}).tree(bytesSent)[bytesSent]
	if want := fmt.Sprint(sent + len(fmt.Sprint(sent)) + 6*7); more != want {
		t.Errorf("publish/bytes/sent: %s, want %s", more, want)
	}

	// Who has subscribed is told what has changed, no more often than the interval, and not as retained.
	up := h.dial(rawmqtt.Options{ClientID: "up", Clean: true})
	up.sub(2, "$SYS/broker/uptime")
	up.get("$SYS/broker/uptime", "10 seconds", 0, rawmqtt.Retain)
	for range 10 {
		tick(t, man)
		for _, c := range []*peer{p, up} {
			c.write([]byte{rawmqtt.Pingreq << 4, 0})
		}
		p.next(rawmqtt.Pingresp)
		up.SetReadDeadline(time.Now().Add(patience))
		pk, err := up.Next()
		if err == nil && pk.Type == rawmqtt.Publish {
			if string(pk.Payload) != "20 seconds" || pk.Flags != 0 {
				t.Errorf("%s %s, flags %d", pk.Topic, pk.Payload, pk.Flags)
			}
			return
		}
	}
	t.Error("what has changed was not told")
}

func TestOnlyTheBrokerPublishesToSys(t *testing.T) {
	h := open(t)
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true, V5: true})
	p.id++
	p.write(rawmqtt.AppendPublish(nil, true, "$SYS/broker/uptime", []byte("x"), 1, p.id, 0))
	if pk := p.next(rawmqtt.Puback); pk.Code != 0x87 {
		t.Errorf("code 0x%02x, want 0x87", pk.Code)
	}
	q := h.dial(rawmqtt.Options{ClientID: "q", Clean: true})
	q.write(rawmqtt.AppendPublish(nil, false, "$SYS/x", []byte("x"), 0, 0, rawmqtt.Retain))
	q.closed()
}

func TestSysTopicsAreForThoseWhoMay(t *testing.T) {
	h, man := still(t, func(h *house) { h.cfg.SysInterval = time.Second })
	h.auth.hide = "$SYS/"
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true})
	p.sub(0, "$SYS/#")
	q := h.dial(rawmqtt.Options{ClientID: "q", Clean: true})
	q.sub(0, "#", "+/broker/uptime") // [MQTT-4.7.2-1]
	for range 3 {
		tick(t, man)
	}
	p.silent()
	q.silent()
}

func TestSysTopicsCanBeOff(t *testing.T) {
	h, man := still(t, func(h *house) { h.cfg.SysInterval = 0 })
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true})
	p.sub(0, "$SYS/#")
	for range 21 {
		tick(t, man)
	}
	p.silent()
	c := broker.DefaultConfig()
	c.SysInterval = time.Millisecond
	if errs := c.Validate(); len(errs) != 1 || !strings.Contains(errs[0].Error(), "broker.sys_interval") {
		t.Errorf("%v", errs)
	}
}
