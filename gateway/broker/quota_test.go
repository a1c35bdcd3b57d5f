package broker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/journal"
	"tidegate/test/rawmqtt"
)

// within waits until a session has given up at least so many messages, and gives how many: the
// session and the ledger must say the same.
func (h *house) within(client string, least uint64) uint64 {
	h.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; {
		in, _ := h.br.Session(client)
		var said, entered uint64
		for _, g := range in.Gaps {
			said += g.Count
		}
		for _, l := range h.losses("session/" + client) {
			entered += l.Count
		}
		if said >= least && said == entered {
			return said
		}
		if time.Now().After(end) {
			h.t.Fatalf("lost %d, the ledger says %d, want at least %d: %+v", said, entered, least, in.Gaps)
		}
		time.Sleep(time.Millisecond) // polls what has no channel
	}
}

// losses gives the entries of the ledger under name.
func (h *house) losses(name string) (ls []journal.Loss) {
	for _, l := range h.jr.Ledger(time.Time{}, 0) {
		if l.Name == name {
			ls = append(ls, l)
		}
	}
	return ls
}

// away makes a session that waits for filter.
func (h *house) away(id string, qos byte, filter string) {
	h.t.Helper()
	p := h.dial(rawmqtt.Options{ClientID: id})
	p.sub(qos, filter)
	p.Conn.Close()
	for in, _ := h.br.Session(id); in.Connected; in, _ = h.br.Session(id) {
		time.Sleep(time.Millisecond) // until its end is known
	}
}

func TestASessionPastItsQuotaHasAGapThatIsTold(t *testing.T) {
	h := open(t, func(h *house) { h.cfg.SessionMessages, h.cfg.Limits.Outbound = 32, 10 })
	h.away("keeper", 1, "a")
	h.away("other", 1, "b")
	pub := h.dial(rawmqtt.Options{ClientID: "pub", Clean: true})
	for i := range 100 {
		pub.pub("a", fmt.Sprint(i), byte(1+i%2), 0)
		pub.pub("b", "x", 1, 0)
		if i < 32 && len(h.losses("session/keeper")) > 0 {
			t.Fatalf("%d messages are no more than the quota", i)
		}
	}
	check := func(lost uint64) {
		t.Helper()
		in, _ := h.br.Session("keeper")
		ls := h.losses("session/keeper")
		if len(in.Gaps) != 1 || len(ls) != 1 {
			t.Fatalf("gaps %+v, ledger %+v", in.Gaps, ls)
		}
		g, l := in.Gaps[0], ls[0]
		if l.From != g.From || l.To != g.To || l.Count != g.Count || l.Why != g.Why || !strings.Contains(g.Why, "32 messages") || g.At.IsZero() || g.Count != lost {
			t.Fatalf("the session says %+v, the ledger %+v, want %d", g, l, lost)
		}
		if g.To-g.From+1 != 2*g.Count-1 {
			t.Fatalf("%d of numbers %d to %d, where every other one is another's", g.Count, g.From, g.To)
		}
	}
	lost := h.within("keeper", 68)
	if lost > 70 { // to a sixteenth below the quota, and no more
		t.Fatalf("lost %d", lost)
	}
	check(lost)
	if n := h.within("other", 68); n > 70 {
		t.Fatalf("the other has lost %d", n)
	}

	h.restart()
	check(lost)
	pub = h.dial(rawmqtt.Options{ClientID: "pub", Clean: true})
	for i := 100; i < 130; i++ { // what waits is counted from where it was, but for what may have been under way
		pub.pub("a", fmt.Sprint(i), byte(1+i%2), 0)
	}
	more := h.within("keeper", 88) - lost
	if lost+more > 90 {
		t.Fatalf("lost %d and, after the restart, %d", lost, more)
	}
	p := h.dial(rawmqtt.Options{ClientID: "keeper"})
	for i := int(lost); i < 130; i++ {
		if i == int(lost)+10 {
			i += int(more)
		}
		p.get("a", fmt.Sprint(i), 1, 0)
	}
	p.silent()
	if n := len(h.losses("session/keeper")); n != 2 {
		t.Errorf("%d entries, want one before and one after the restart", n)
	}
	h.br.Delete("keeper")
	for _, ok := h.br.Session("keeper"); ok; _, ok = h.br.Session("keeper") {
		time.Sleep(time.Millisecond) // until it is gone
	}
	h.away("keeper", 1, "a")
	for range 2 {
		if in, _ := h.br.Session("keeper"); len(in.Gaps) != 0 {
			t.Errorf("a new session has the gaps of the old one: %+v", in.Gaps)
		}
		h.restart()
	}
}

// A restart finds the cursor below the gap when something older was not acknowledged.
func TestWhatWasGivenUpStaysSo(t *testing.T) {
	h := open(t, func(h *house) { h.cfg.SessionBytes, h.cfg.SessionMemory = 8000, 1 })
	stuck := h.dial(rawmqtt.Options{ClientID: "stuck", V5: true, SessionExpiry: 3600, ReceiveMax: 5})
	stuck.sub(1, "a")
	pub := h.dial(rawmqtt.Options{ClientID: "pub", Clean: true})
	body := strings.Repeat("x", 984)
	for i := range 30 {
		pub.pub("a", fmt.Sprintf("%02d%s", i, body), 1, 0)
	}
	for range 5 {
		stuck.next(rawmqtt.Publish)
	}
	lost := h.within("stuck", 17) // of 25 behind the window, seven are within the quota, or eight
	h.restart()
	p := h.dial(rawmqtt.Options{ClientID: "stuck", V5: true, SessionExpiry: 3600})
	for i := range 30 {
		if i < 5 || i >= 5+int(lost) {
			pk := p.next(rawmqtt.Publish)
			if got := string(pk.Payload[:2]); got != fmt.Sprintf("%02d", i) {
				t.Fatalf("got %s, want %02d", got, i)
			}
			p.write(rawmqtt.AppendAck(nil, rawmqtt.Puback, pk.ID))
		}
	}
	p.silent()
	if ls := h.losses("session/stuck"); len(ls) != 1 || ls[0].Count != lost {
		t.Errorf("%+v", ls)
	}
}
