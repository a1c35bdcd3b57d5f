package broker_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidegate/gateway/store"
	"tidegate/test/rawmqtt"
)

// modelSub is a subscriber with a persistent session and the memory MQTT asks of a client:
// the packet ids of QoS 2 messages it has and the server has not released.
type modelSub struct {
	id   string
	v5   bool
	peer *peer
	have map[uint16]bool
	seen map[string][]int // per publisher and QoS, in the order they came
}

func (m *modelSub) connect(h *house) {
	m.peer = h.dial(rawmqtt.Options{ClientID: m.id, V5: m.v5, SessionExpiry: 1000, ReceiveMax: 5})
}

func (m *modelSub) drop() {
	if m.peer != nil {
		m.peer.Conn.Conn.Close()
		m.peer = nil
	}
}

// take deals with one packet; ack says whether it answers. It gives false for the answer
// to a ping.
func (m *modelSub) take(t *rapid.T, ack bool) bool {
	p := m.peer
	p.SetReadDeadline(time.Now().Add(patience))
	pk, err := p.Next()
	if err != nil {
		t.Fatalf("%s reads: %v", m.id, err)
	}
	switch pk.Type {
	case rawmqtt.Pingresp:
		return false
	case rawmqtt.Publish:
		who, num, _ := strings.Cut(string(pk.Payload), " ")
		n, _ := strconv.Atoi(num)
		key := fmt.Sprint(who, " qos ", pk.QoS())
		if pk.QoS() == 2 {
			if !m.have[pk.ID] {
				m.have[pk.ID] = true
				m.seen[key] = append(m.seen[key], n)
			} else if pk.Flags&rawmqtt.Dup == 0 {
				t.Fatalf("%s: packet id %d used again before its release", m.id, pk.ID)
			}
			if ack {
				p.write(rawmqtt.AppendAck(nil, rawmqtt.Pubrec, pk.ID))
			}
			return true
		}
		m.seen[key] = append(m.seen[key], n)
		if ack && pk.QoS() == 1 {
			p.write(rawmqtt.AppendAck(nil, rawmqtt.Puback, pk.ID))
		}
	case rawmqtt.Pubrel:
		delete(m.have, pk.ID)
		if ack {
			p.write(rawmqtt.AppendAck(nil, rawmqtt.Pubcomp, pk.ID))
		}
	default:
		t.Fatalf("%s: packet type %d", m.id, pk.Type)
	}
	return true
}

// TestSessionsKeepTheirPromise plays random histories of connects, drops, publishes,
// acknowledgements and restarts. Lost, out of order, and QoS 2 twice are failures. Nothing is
// killed, so that syncs need no disk, but only the time of one; a busy machine's takes what it
// likes. So many are played as fit, and at least some.
func TestSessionsKeepTheirPromise(t *testing.T) {
	base := open(t, func(h *house) {
		h.cfg.SessionMemory, h.cfg.ClientBuffer = 200, 4096
		h.disk = store.SyncDelay{Off: true, Delay: 200 * time.Microsecond}
	})
	const fit, some = 6 * time.Second, 6
	run, began, failed := 0, time.Now(), false
	rapid.Check(t, func(t *rapid.T) {
		if !failed && run >= some && time.Since(began) > fit {
			return
		}
		run++
		done := false
		defer func() { failed = failed || !done }() // then it is made smaller, for as long as that takes
		h := base
		sent := map[string]int{}
		var subs []*modelSub
		for i := range 2 {
			s := &modelSub{id: fmt.Sprint("sub", run, "-", i), v5: i == 1, have: map[uint16]bool{}, seen: map[string][]int{}}
			s.connect(h)
			s.peer.sub(2, fmt.Sprint("m", run, "/#"))
			subs = append(subs, s)
		}
		pub := h.dial(rawmqtt.Options{ClientID: fmt.Sprint("pub", run), Clean: true})
		pick := rapid.SampledFrom(subs)
		t.Repeat(map[string]func(*rapid.T){
			"publish": func(t *rapid.T) {
				qos := byte(rapid.IntRange(1, 2).Draw(t, "qos"))
				key := fmt.Sprint("p qos ", qos)
				for range rapid.IntRange(1, 8).Draw(t, "n") {
					pub.pub(fmt.Sprint("m", run, "/x"), fmt.Sprint("p ", sent[key]), qos, 0)
					sent[key]++
				}
			},
			"read": func(t *rapid.T) {
				s := pick.Draw(t, "who")
				if s.peer == nil {
					return
				}
				ack := rapid.Bool().Draw(t, "ack")
				s.peer.write([]byte{rawmqtt.Pingreq << 4, 0})
				for s.take(t, ack) {
				}
			},
			"drop": func(t *rapid.T) { pick.Draw(t, "who").drop() },
			"connect": func(t *rapid.T) { // also a take-over
				s := pick.Draw(t, "who")
				s.connect(h)
			},
			"restart": func(t *rapid.T) {
				if rapid.IntRange(0, 4).Draw(t, "really") > 0 {
					return
				}
				for _, s := range subs {
					s.drop()
				}
				h.restart()
				pub = h.dial(rawmqtt.Options{ClientID: fmt.Sprint("pub", run), Clean: true})
			},
		})
		for _, s := range subs { // whatever happened: who comes back gets the rest
			s.drop()
			s.connect(h)
			deadline := time.Now().Add(patience)
			for !complete(s.seen, sent) || len(s.have) > 0 {
				s.peer.write([]byte{rawmqtt.Pingreq << 4, 0})
				for s.take(t, true) {
				}
				if time.Now().After(deadline) {
					in, _ := h.br.Session(s.id)
					t.Fatalf("%s has %v of %v, holds %v; session %+v", s.id, s.seen, sent, s.have, in)
				}
			}
			for key, seq := range s.seen {
				next := 0
				for _, n := range seq {
					if n > next || n < next && strings.HasSuffix(key, "2") {
						t.Fatalf("%s, %s: %d came when %d was due: %v", s.id, key, n, next, seq)
					}
					next = max(next, n+1)
				}
			}
			s.drop()
			h.br.Delete(s.id)
		}
		done = true
	})
	t.Log(run, "histories in", time.Since(began).Round(time.Millisecond))
}

func complete(seen map[string][]int, sent map[string]int) bool {
	for key, n := range sent {
		got := map[int]bool{}
		for _, x := range seen[key] {
			got[x] = true
		}
		if len(got) < n {
			return false
		}
	}
	return true
}
