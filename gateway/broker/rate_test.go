package broker_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/metrics"
	"tidegate/test/rawmqtt"
)

// burst publishes n messages at once with QoS 1 and says how many are acknowledged; the others
// must be refused with 0x97. Neighbours are on different topics: a run is taken or not as a whole.
func (p *peer) burst(n int) (taken int) {
	p.t.Helper()
	var all []byte
	for i := range n {
		all = rawmqtt.AppendPublish(all, p.V5, fmt.Sprint("t", i%2), []byte("x"), 1, uint16(i+1), 0)
	}
	p.write(all)
	for range n {
		switch pk := p.next(rawmqtt.Puback); pk.Code {
		case 0:
			taken++
		case 0x97:
		default:
			p.t.Errorf("PUBACK 0x%02x", pk.Code)
		}
	}
	return taken
}

func limitedInAll(t *testing.T) (*house, *clocktest.Manual) {
	return still(t, func(h *house) { h.cfg.Limits.TotalPublishRate = 20 })
}

func TestTheRateOfAllPublishersTogetherIsBounded(t *testing.T) {
	h, man := limitedInAll(t)
	flood := h.dial(rawmqtt.Options{ClientID: "flood", Clean: true, V5: true})
	other := h.dial(rawmqtt.Options{ClientID: "other", Clean: true, V5: true})
	for range 3 {
		tick(t, man)
		if n := flood.burst(35); n != 20 {
			t.Errorf("%d of 35 messages were taken, the limit is 20", n)
		}
		if n := other.burst(12); n != 10 { // half of it is its own
			t.Errorf("the other got %d through", n)
		}
	}
	if n := h.metric("tidegate_broker_throttled_total"); n != "51" {
		t.Errorf("15 and 2 in each of three seconds were refused, the metrics say %s", n)
	}
}

// metric gives a number of the broker's as it is told.
func (h *house) metric(name string) string {
	set := metrics.New()
	h.br.Metrics(set)
	w := httptest.NewRecorder()
	set.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	_, after, _ := strings.Cut(w.Body.String(), "\n"+name+" ")
	n, _, _ := strings.Cut(after, "\n")
	return n
}

func TestWhoIsBeyondTheRateOfAllAndCannotBeTold(t *testing.T) {
	h, man := limitedInAll(t)
	s := h.dial(rawmqtt.Options{ClientID: "s", Clean: true})
	s.sub(0, "+")
	p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true})
	var all []byte
	for i := range 30 {
		all = rawmqtt.AppendPublish(all, false, fmt.Sprint("t", i%2), []byte{byte(i)}, 0, 0, 0)
	}
	p.write(all)
	p.silent()
	for range 20 {
		s.next(rawmqtt.Publish)
	}
	s.silent()
	if ls := h.losses("qos0"); len(ls) != 1 || ls[0].Count != 10 || ls[0].Why == "" {
		t.Errorf("ledger: %+v", ls)
	}
	p.write(rawmqtt.AppendPublish(nil, false, "a", []byte("x"), 1, 7, 0)) // no acknowledgement, and the end
	end := time.Now().Add(patience)
	for h.metric("tidegate_broker_throttled_total") != "11" {
		if time.Now().After(end) {
			t.Fatal("it was not refused")
		}
		time.Sleep(time.Millisecond) // polls what has no channel
	}
	for h.br.Clients() > 1 {
		if time.Now().After(end) {
			t.Fatal("the client is still there")
		}
		man.Advance(time.Second)
		time.Sleep(time.Millisecond)
	}
	p.SetReadDeadline(end)
	if pk, err := p.Next(); err == nil {
		t.Errorf("answered: %+v", pk)
	}
	for h.br.Admit(20) != nil { // in the next second
		if time.Now().After(end) {
			t.Fatal("no message is taken any more")
		}
		man.Advance(time.Second)
		time.Sleep(time.Millisecond)
	}
	if err := h.br.Admit(1); !fault.Is(err, fault.Throttled) {
		t.Errorf("the 21st by another door: %v", err)
	}
}
