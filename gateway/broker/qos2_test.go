package broker_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
	"tidegate/test/rawmqtt"
)

// stall makes the store commit nothing until the function it gives is called.
func (h *house) stall() (goOn func()) {
	h.t.Helper()
	here, free := make(chan struct{}), make(chan struct{})
	err := h.db.Do(func(u *store.Unit) error { u.Put("test/stall", nil); return nil }, func([]uint64, error) { close(here); <-free })
	if err != nil {
		h.t.Fatal(err)
	}
	<-here
	goOn = sync.OnceFunc(func() { close(free) })
	h.t.Cleanup(goOn)
	return goOn
}

// hold makes the road wait with the first message on topic until the function it gives is called.
func (h *house) hold(topic string) (arrived chan struct{}, goOn func()) {
	arrived, free := make(chan struct{}), make(chan struct{})
	var once sync.Once
	h.road.err = func(run *mqtt.Run) error {
		if run.Topic == topic {
			once.Do(func() { close(arrived); <-free })
		}
		return nil
	}
	goOn = sync.OnceFunc(func() { close(free) })
	h.t.Cleanup(goOn)
	return arrived, goOn
}

// TestQoS2IsAnsweredWhereTheClientIsNow has a client move to another connection, and ask there
// again, while what it sent on the first is on its way. The answer used to go to the first
// alone, and the client waited for ever.
func TestQoS2IsAnsweredWhereTheClientIsNow(t *testing.T) {
	h := open(t)
	o := rawmqtt.Options{ClientID: "p"}
	arrived, goOn := h.hold("a")
	old := h.dial(o)
	old.write(rawmqtt.AppendPublish(nil, false, "a", []byte("1"), 2, 7, 0))
	<-arrived
	p := h.dial(o)
	p.write(rawmqtt.AppendPublish(nil, false, "a", []byte("1"), 2, 7, rawmqtt.Dup))
	p.silent()
	goOn()
	if k := p.next(rawmqtt.Pubrec); k.ID != 7 {
		t.Errorf("PUBREC %d", k.ID)
	}
	p.write(rawmqtt.AppendAck(nil, rawmqtt.Pubrel, 7))
	if k := p.next(rawmqtt.Pubcomp); k.ID != 7 {
		t.Errorf("PUBCOMP %d", k.ID)
	}

	arrived, goOn = h.hold("hold")
	old = p
	old.pub("a", "2", 1, 0)
	old.write(rawmqtt.AppendPublish(nil, false, "a", []byte("3"), 2, 8, 0))
	old.next(rawmqtt.Pubrec)
	old.write(rawmqtt.AppendAck(rawmqtt.AppendPublish(nil, false, "hold", nil, 0, 0, 0), rawmqtt.Pubrel, 8))
	<-arrived
	p = h.dial(o)
	disk := h.stall()
	goOn() // PUBREL of the first connection is read now
	p.write(rawmqtt.AppendAck(nil, rawmqtt.Pubrel, 8))
	p.silent()
	disk()
	if k := p.next(rawmqtt.Pubcomp); k.ID != 8 {
		t.Errorf("PUBCOMP %d", k.ID)
	}
	p.silent()
}

// TestARefusalReachesTheClientWhereItIsNow is the same for a message that is refused.
func TestARefusalReachesTheClientWhereItIsNow(t *testing.T) {
	h := open(t)
	o := rawmqtt.Options{ClientID: "p"}
	arrived, goOn := h.hold("a")
	held := h.road.err
	h.road.err = func(run *mqtt.Run) error {
		held(run)
		return unauthorized
	}
	old := h.dial(o)
	old.write(rawmqtt.AppendPublish(nil, false, "a", []byte("1"), 2, 7, 0))
	<-arrived
	p := h.dial(o)
	p.write(rawmqtt.AppendPublish(nil, false, "a", []byte("1"), 2, 7, rawmqtt.Dup))
	p.silent()
	goOn()
	p.closed()
}

// TestAMessageIsKeptUntilItsReleaseIsOnTheDisk looks at the session while PUBREC has come and
// is not on the disk: a restart would find the message sent and must be able to read it.
func TestAMessageIsKeptUntilItsReleaseIsOnTheDisk(t *testing.T) {
	h := open(t)
	s := h.dial(rawmqtt.Options{ClientID: "s"})
	s.sub(2, "a")
	h.dial(rawmqtt.Options{ClientID: "p", Clean: true}).pub("a", "1", 2, 0)
	k := s.next(rawmqtt.Publish)
	at := func() uint64 { in, _ := h.br.Session("s"); return in.Position }
	if at() == 0 {
		t.Fatal("nothing is pending before PUBREC")
	}
	disk := h.stall()
	s.write(rawmqtt.AppendAck(nil, rawmqtt.Pubrec, k.ID))
	s.silent()
	if at() == 0 {
		t.Error("nothing is pending although PUBREC is not on the disk")
	}
	disk()
	s.next(rawmqtt.Pubrel)
	if at() != 0 {
		t.Error("the message is pending after PUBREL")
	}
}

// TestNothingOfAnEndedSessionIsLeft ends sessions in the midst of exchanges, and looks at what
// is on the disk afterwards: a mark that came behind the end would be taken for the next session's.
func TestNothingOfAnEndedSessionIsLeft(t *testing.T) {
	h := open(t)
	feed := h.dial(rawmqtt.Options{ClientID: "feed", Clean: true})
	for i := range 60 {
		id := fmt.Sprint("s", i)
		s := h.dial(rawmqtt.Options{ClientID: id})
		s.sub(2, "a")
		for k := range 5 {
			feed.write(rawmqtt.AppendPublish(nil, false, "a", []byte("x"), 2, uint16(10*i+k+1), 0))
			s.write(rawmqtt.AppendPublish(nil, false, "b", []byte("x"), 2, uint16(k+1), 0))
		}
		if i%2 == 0 { // by a clean start
			h.dial(rawmqtt.Options{ClientID: id, Clean: true}).Close()
		} else {
			s.Close()
			h.br.Delete(id)
		}
		for range 5 {
			feed.next(rawmqtt.Pubrec)
		}
		for k := range 5 {
			feed.write(rawmqtt.AppendAck(nil, rawmqtt.Pubrel, uint16(10*i+k+1)))
		}
		for range 5 {
			feed.next(rawmqtt.Pubcomp)
		}
	}
	h.down()
	cfg := store.DefaultConfig(h.dir)
	cfg.Ballast = -1
	db, err := store.Open(cfg, system)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Scan("", func(key string, _ []byte) bool {
		if strings.HasPrefix(key, store.KeySession) || strings.HasPrefix(key, store.KeyJournal+"c/") {
			t.Errorf("%q is left", key)
		}
		return true
	})
	if err != nil {
		t.Error(err)
	}
}
