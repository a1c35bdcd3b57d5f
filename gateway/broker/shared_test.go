package broker_test

import (
	"fmt"
	"sort"
	"testing"

	"tidegate/test/rawmqtt"
)

func TestSharedSubscriptionGivesEachMessageOnce(t *testing.T) {
	h := open(t)
	var members []*peer
	for i := range 3 {
		m := h.dial(rawmqtt.Options{ClientID: fmt.Sprint("m", i), Clean: true, V5: i == 0})
		m.sub(1, "$share/g/a/#")
		members = append(members, m)
	}
	other := h.dial(rawmqtt.Options{ClientID: "other", Clean: true})
	other.sub(0, "$share/h/a/#")
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true})
	for i := range 30 {
		p.pub("a/b", fmt.Sprint(i), byte(i%2), 0)
		other.get("a/b", fmt.Sprint(i), 0, 0) // another group gets its own copy
	}
	got := map[string]int{}
	for i, m := range members {
		n := 0
		for m.write([]byte{rawmqtt.Pingreq << 4, 0}); ; n++ {
			pk, err := m.Next()
			if err != nil {
				t.Fatal(err)
			}
			if pk.Type == rawmqtt.Pingresp {
				break
			}
			got[string(pk.Payload)]++
		}
		if n == 0 {
			t.Errorf("member %d got nothing", i)
		}
	}
	if len(got) != 30 {
		t.Errorf("%d of 30 arrived", len(got))
	}
	for p, n := range got {
		if n != 1 {
			t.Errorf("%q came %d times", p, n)
		}
	}
}

func TestSharedSubscriptionPassesOnWhatAMemberLeft(t *testing.T) {
	h := open(t)
	a := h.dial(rawmqtt.Options{ClientID: "a", Clean: true})
	a.sub(1, "$share/g/x")
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true})
	for i := range 5 {
		p.pub("x", fmt.Sprint(i), 1, 0)
	}
	for range 5 {
		a.next(rawmqtt.Publish)
	}
	b := h.dial(rawmqtt.Options{ClientID: "b", Clean: true})
	b.sub(1, "$share/g/x")
	b.silent()
	a.Conn.Conn.Close()
	for i := range 5 {
		b.get("x", fmt.Sprint(i), 1, 0)
	}
	b.silent()
}

func TestSharedSubscriptionWithAPersistentMemberIsAQueue(t *testing.T) {
	h := open(t)
	o := rawmqtt.Options{ClientID: "a"}
	a := h.dial(o)
	a.sub(1, "$share/g/x/#")
	a.Close()
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true})
	for i := range 50 {
		p.pub("x/y", fmt.Sprint(i), 1, 0)
	}
	h.restart()
	b := h.dial(rawmqtt.Options{ClientID: "b"}) // another member finds the queue
	b.sub(1, "$share/g/x/#")
	for i := range 20 {
		b.get("x/y", fmt.Sprint(i), 1, 0)
	}
	b.silentBut()
	b.Close()
	a = h.dial(o)
	var rest []string
	for range 30 {
		pk := a.next(rawmqtt.Publish)
		rest = append(rest, string(pk.Payload))
		a.write(rawmqtt.AppendAck(nil, rawmqtt.Puback, pk.ID))
	}
	a.silent()
	sort.Strings(rest)
	if rest[0] != "20" || rest[29] != "49" {
		t.Errorf("the rest: %v", rest)
	}
}

// silentBut pings and passes over messages until the answer.
func (p *peer) silentBut() {
	p.t.Helper()
	p.write([]byte{rawmqtt.Pingreq << 4, 0})
	for {
		pk, err := p.Next()
		if err != nil {
			p.t.Fatal(err)
		}
		if pk.Type == rawmqtt.Pingresp {
			return
		}
	}
}
