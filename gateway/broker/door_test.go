package broker_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"tidegate/gateway/broker"
	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/mqtt"
	"tidegate/test/rawmqtt"
)

// stream is a transport that is not a socket: it waits without a buffer, and its end is
// a goodbye.
type stream struct {
	net.Conn
	more chan []byte
	rest []byte
}

func newStream(nc net.Conn) *stream {
	s := &stream{Conn: nc, more: make(chan []byte)}
	go func() {
		defer close(s.more)
		for {
			b := make([]byte, 1024)
			n, err := nc.Read(b)
			if err != nil {
				return
			}
			s.more <- b[:n]
		}
	}()
	return s
}

func (s *stream) Wait() error {
	if len(s.rest) == 0 {
		var ok bool
		if s.rest, ok = <-s.more; !ok {
			return broker.ErrLeft
		}
	}
	return nil
}

func (s *stream) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		return 0, errors.New("Read without Wait")
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// overStream connects a client by way of a stream.
func (h *house) overStream(o rawmqtt.Options, via broker.Via) net.Conn {
	h.t.Helper()
	far, near := net.Pipe()
	h.t.Cleanup(func() { far.Close() })
	via.Remote = h.ln.Addr()
	h.br.Serve(broker.Plain(newStream(near)), via)
	if _, _, err := rawmqtt.Handshake(far, o); err != nil {
		h.t.Fatal(err)
	}
	return far
}

// left waits for the end of a client and gives the reason.
func (h *house) left(client string) string {
	h.t.Helper()
	for {
		select {
		case e := <-h.ev:
			if e.Kind == broker.Disconnected && e.ClientID == client {
				return e.Reason
			}
		case <-time.After(patience):
			h.t.Fatal("no event tells of the end")
		}
	}
}

func TestATransportThatWaitsAndSaysGoodbye(t *testing.T) {
	h := open(t)
	w := h.dial(rawmqtt.Options{ClientID: "watch", Clean: true})
	w.sub(0, "a")
	far := h.overStream(rawmqtt.Options{ClientID: "s", Clean: true}, broker.Via{})
	if _, err := far.Write(rawmqtt.AppendPublish(nil, false, "a", []byte("hello"), 0, 0, 0)); err != nil {
		t.Fatal(err)
	}
	w.get("a", "hello", 0, 0)
	far.Close()
	if why := h.left("s"); why != "CLIENT_INITIATED_DISCONNECT" {
		t.Errorf("left for %s", why)
	}
}

func TestAPrincipalIsExpelled(t *testing.T) {
	h := open(t)
	eve := h.dial(rawmqtt.Options{ClientID: "a", Clean: true, V5: true, User: "eve"})
	bob := h.dial(rawmqtt.Options{ClientID: "b", Clean: true, User: "bob"})
	if n := h.br.Expel("p:eve"); n != 1 {
		t.Errorf("expelled %d, want 1", n)
	}
	if code := eve.closed(); code != 0x87 {
		t.Errorf("DISCONNECT 0x%02x, want 0x87", code)
	}
	if why := h.left("a"); why != "AUTH_ERROR" {
		t.Errorf("left for %s", why)
	}
	bob.pub("x", "y", 1, 0)
}

func TestAnAnswerIsForTheOneWhoAsked(t *testing.T) {
	h := open(t)
	eve := h.dial(rawmqtt.Options{ClientID: "a", Clean: true, User: "eve"})
	for _, principal := range []string{"p:bob", "p:eve"} {
		run := mqtt.NewRun(&mqtt.Message{Topic: "reply", Payload: []byte(principal), To: "a", Principal: principal})
		var ob broker.Outbox
		h.br.Deliver(run, 0, nil, &ob)
		h.br.Flush(&ob)
	}
	eve.get("reply", "p:eve", 0, 0)
	eve.silent()
}

func TestTheHousesOwnTopicsAreClosed(t *testing.T) {
	h := open(t)
	c := h.dial(rawmqtt.Options{ClientID: "a", Clean: true, V5: true})
	c.write(rawmqtt.AppendSubscribe(nil, true, 1, 0, mqtt.House+"audit/#"))
	if p := c.next(mqtt.SUBACK); p.Code != 0x87 {
		t.Errorf("SUBACK 0x%02x", p.Code)
	}
	c.write(rawmqtt.AppendPublish(nil, true, mqtt.House+"audit/x", []byte("forged"), 0, 0, 0))
	if code := c.closed(); code != 0x87 {
		t.Errorf("DISCONNECT 0x%02x, want 0x87", code)
	}
}

// brief is a principal whose proof has an end.
type brief struct {
	broker.Principal
	at time.Time
}

func (b brief) Until() (time.Time, string) { return b.at, "CUSTOMAUTH_TTL_EXPIRATION" }

func TestAConnectionEndsWithItsCredential(t *testing.T) {
	clk := clocktest.New(time.Now())
	h := open(t, func(h *house) { h.clk = clk })
	h.auth.wrap = func(p broker.Principal) broker.Principal { return brief{p, clk.Now().Add(30 * time.Second)} }
	h.dial(rawmqtt.Options{ClientID: "old", Clean: true})
	clk.Advance(31 * time.Second)
	if why := h.left("old"); why != "CUSTOMAUTH_TTL_EXPIRATION" {
		t.Errorf("left for %s", why)
	}
}

func TestAConnectionEndsAtItsGreatestAge(t *testing.T) {
	clk := clocktest.New(time.Now())
	h := open(t, func(h *house) { h.clk = clk })
	h.overStream(rawmqtt.Options{ClientID: "old", Clean: true}, broker.Via{Until: clk.Now().Add(30 * time.Second), UntilWhy: "WEBSOCKET_TTL_EXPIRATION"})
	young := h.dial(rawmqtt.Options{ClientID: "young", Clean: true})
	clk.Advance(31 * time.Second)
	if why := h.left("old"); why != "WEBSOCKET_TTL_EXPIRATION" {
		t.Errorf("left for %s", why)
	}
	young.silent()
}
