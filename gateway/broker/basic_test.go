package broker_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/fault"
	"tidegate/test/rawmqtt"
)

var unauthorized = fault.New(fault.Unauthorized, "who are you")

func TestMessagesArriveAtEachQoS(t *testing.T) {
	h := open(t)
	for _, v5 := range []bool{false, true} {
		s := h.dial(rawmqtt.Options{ClientID: fmt.Sprint("s", v5), Clean: true, V5: v5})
		s.sub(2, "a/#")
		for _, pv5 := range []bool{false, true} {
			p := h.dial(rawmqtt.Options{ClientID: fmt.Sprint("p", v5, pv5), Clean: true, V5: pv5})
			for qos := range byte(3) {
				p.pub("a/b", fmt.Sprint("x", qos), qos, 0)
				s.get("a/b", fmt.Sprint("x", qos), qos, 0)
			}
		}
		s.silent()
		s.Close()
	}
}

func TestSubscriptionLowersQoS(t *testing.T) {
	h := open(t)
	s := h.dial(rawmqtt.Options{ClientID: "s", Clean: true})
	s.sub(1, "one")
	s.sub(0, "zero")
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true, V5: true})
	p.pub("one", "x", 2, 0)
	s.get("one", "x", 1, 0)
	p.pub("zero", "y", 1, 0)
	s.get("zero", "y", 0, 0)
}

func TestPersistentSessionGetsWhatItMissed(t *testing.T) {
	h := open(t)
	for _, restart := range []bool{false, true} {
		id := fmt.Sprint("s", restart)
		o := rawmqtt.Options{ClientID: id}
		s := h.dial(o)
		if s.present {
			t.Error("session present at first")
		}
		s.sub(1, id+"/#")
		s.Close()
		p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true})
		for i := range 100 {
			p.pub(id+"/x", fmt.Sprint(i), 1, 0)
		}
		p.pub(id+"/x", "qos0 is not queued", 0, 0)
		p.Close()
		if restart {
			h.restart()
		}
		s = h.dial(o)
		if !s.present { // [MQTT-3.2.2-2]
			t.Error("no session present")
		}
		for i := range 100 {
			s.get(id+"/x", fmt.Sprint(i), 1, 0)
		}
		s.silent()
		p = h.dial(rawmqtt.Options{ClientID: "p", Clean: true})
		p.pub(id+"/x", "live", 1, 0)
		s.get(id+"/x", "live", 1, 0)
		s.silent()
	}
}

func TestUnacknowledgedComesAgainWithDUPAndItsPacketID(t *testing.T) {
	h := open(t)
	o := rawmqtt.Options{ClientID: "s"}
	s := h.dial(o)
	s.sub(1, "a")
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true})
	p.pub("a", "1", 1, 0)
	p.pub("a", "2", 1, 0)
	first := s.next(rawmqtt.Publish).ID
	s.get("a", "2", 1, 0)
	s.silent()
	s.Conn.Conn.Close()
	s = h.dial(o)
	again := s.get("a", "1", 1, rawmqtt.Dup) // [MQTT-4.4.0-1], [MQTT-3.3.1-1]
	if again.ID != first {
		t.Errorf("packet id %d, was %d", again.ID, first)
	}
	s.silent()
	s.Close()
	s = h.dial(o)
	s.silent()
	p.pub("a", "3", 1, 0)
	s.get("a", "3", 1, 0)
}

func TestQoS2ComesOnceAcrossRestart(t *testing.T) {
	h := open(t)
	o := rawmqtt.Options{ClientID: "s"}
	s := h.dial(o)
	s.sub(2, "a")
	po := rawmqtt.Options{ClientID: "p"}
	p := h.dial(po)
	p.write(rawmqtt.AppendPublish(nil, false, "a", []byte("1"), 2, 7, 0))
	p.next(rawmqtt.Pubrec)
	pid := s.next(rawmqtt.Publish).ID
	s.write(rawmqtt.AppendAck(nil, rawmqtt.Pubrec, pid))
	s.next(rawmqtt.Pubrel)
	h.restart()
	p = h.dial(po)
	p.write(rawmqtt.AppendPublish(nil, false, "a", []byte("1"), 2, 7, rawmqtt.Dup))
	p.next(rawmqtt.Pubrec) // [MQTT-4.3.3-2]: not a second message
	p.write(rawmqtt.AppendAck(nil, rawmqtt.Pubrel, 7))
	p.next(rawmqtt.Pubcomp)
	s = h.dial(o)
	if rel := s.next(rawmqtt.Pubrel); rel.ID != pid { // [MQTT-4.4.0-1]
		t.Errorf("PUBREL %d, want %d", rel.ID, pid)
	}
	s.write(rawmqtt.AppendAck(nil, rawmqtt.Pubcomp, pid))
	s.silent()
	h.restart()
	s = h.dial(o)
	s.silent()
	p = h.dial(po)
	p.pub("a", "2", 2, 0)
	s.get("a", "2", 2, 0)
}

func TestRetained(t *testing.T) {
	h := open(t)
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true})
	p.pub("r/a", "old", 1, rawmqtt.Retain)
	p.pub("r/a", "new", 1, rawmqtt.Retain)
	p.pub("r/b/c", "deep", 0, rawmqtt.Retain)
	p.pub("r/gone", "x", 1, rawmqtt.Retain)
	p.pub("r/gone", "", 1, rawmqtt.Retain) // [MQTT-3.3.1-6]
	p.silent()
	for range 2 {
		s := h.dial(rawmqtt.Options{ClientID: "s", Clean: true})
		s.sub(1, "r/a/#") // a/# includes a
		s.get("r/a", "new", 1, rawmqtt.Retain)
		s.silent()
		s.sub(1, "+/b/+")
		s.get("r/b/c", "deep", 0, rawmqtt.Retain)
		s.silent()
		p.pub("r/a", "live", 1, 0)
		s.get("r/a", "live", 1, 0) // [MQTT-3.3.1-9]
		s.Close()
		p.Close()
		h.restart()
		p = h.dial(rawmqtt.Options{ClientID: "p", Clean: true})
	}
}

func TestStuckSubscriberHarmsNobody(t *testing.T) {
	// Four times SessionMemory is more than is published: nobody is cut off before its cursor is on the disk, however slow that is.
	h := open(t, func(h *house) { h.cfg.ClientBuffer, h.cfg.SessionMemory = 64<<10, 1<<20 })
	var stuck []*peer
	for i := range 3 {
		s := h.dial(rawmqtt.Options{ClientID: fmt.Sprint("stuck", i), Clean: i > 0})
		s.sub(byte(min(i, 1)), "a/#")
		stuck = append(stuck, s)
	}
	good := h.dial(rawmqtt.Options{ClientID: "good", Clean: true})
	good.sub(1, "a/#")
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true})
	payload := strings.Repeat("x", 1000)
	for i := range 3000 {
		p.pub("a/b", fmt.Sprint(i, payload), 1, 0)
		good.get("a/b", fmt.Sprint(i, payload), 1, 0)
	}
	for i := range 3000 { // one that catches up gets all of it, in order
		stuck[2].get("a/b", fmt.Sprint(i, payload), 1, 0)
	}
	stuck[2].silent()
}

func TestGarbageIsCutOff(t *testing.T) {
	h := open(t, func(h *house) { h.cfg.ConnectTimeout = time.Second })
	for name, b := range map[string][]byte{
		"nothing of MQTT":         []byte("GET / HTTP/1.1\r\n\r\n"),
		"256 MiB claimed":         {0x10, 0xff, 0xff, 0xff, 0x7f},
		"length of five bytes":    {0x10, 0xff, 0xff, 0xff, 0xff, 0x01},
		"PUBLISH first":           {0x30, 5, 0, 1, 'a', 'x', 'y'},
		"CONNECT cut short":       {0x10, 2, 0, 4},
		"CONNECT with bad string": {0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 9},
		"silence":                 {},
		"half a CONNECT":          {0x10, 12, 0, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nc := h.raw()
			nc.Write(b)
			nc.SetReadDeadline(time.Now().Add(2 * patience))
			if n, err := io.Copy(io.Discard, nc); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("open after %d bytes: %v", n, err)
			}
		})
	}
}

func TestManySilentConnectionsLetOthersIn(t *testing.T) {
	h := open(t, func(h *house) { h.cfg.Unconnected, h.cfg.ConnectTimeout = 100, time.Second })
	for range 500 {
		h.raw()
	}
	// Those beyond the bound were turned away; the rest time out. A client is let in as soon as one has.
	deadline := time.Now().Add(15 * time.Second)
	for {
		c, _, err := rawmqtt.Dial(h.addr, rawmqtt.Options{ClientID: "c", Clean: true})
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond) // between attempts
	}
}

func TestTakeOver(t *testing.T) {
	h := open(t)
	o := rawmqtt.Options{ClientID: "s", V5: true, SessionExpiry: 100}
	old := h.dial(o)
	old.sub(1, "a")
	s := h.dial(o)
	if code := old.closed(); code != 0x8e || !s.present { // [MQTT-3.1.4-3]
		t.Errorf("DISCONNECT 0x%02x, session present %v", code, s.present)
	}
	s.pub("b", "x", 1, 0)
	s.pub("a", "x", 0, 0)
	s.get("a", "x", 0, 0)
	s.write(rawmqtt.AppendConnect(nil, o))
	if code := s.closed(); code != 0x82 { // [MQTT-3.1.0-2]
		t.Errorf("second CONNECT: 0x%02x", code)
	}
}

func TestAFloodOneByOneArrivesInOrder(t *testing.T) {
	const senders, each = 4, 5000
	h := open(t)
	s := h.dial(rawmqtt.Options{ClientID: "s", Clean: true})
	s.sub(0, "flood/+")
	for i := range senders {
		p := h.dial(rawmqtt.Options{ClientID: fmt.Sprint("p", i), Clean: true})
		go func() {
			for n := range each {
				if _, err := p.Write(rawmqtt.AppendPublish(nil, false, fmt.Sprint("flood/", i), []byte(fmt.Sprint(n)), 0, 0, 0)); err != nil {
					return
				}
			}
		}()
	}
	var next [senders]int
	for range senders * each {
		pk := s.next(rawmqtt.Publish)
		i := pk.Topic[len("flood/")] - '0'
		if string(pk.Payload) != fmt.Sprint(next[i]) {
			t.Fatalf("sender %d: got %s, want %d", i, pk.Payload, next[i])
		}
		next[i]++
	}
}
