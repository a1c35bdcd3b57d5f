package broker_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"tidegate/gateway/store"
	"tidegate/test/rawmqtt"
)

// The last member's leaving gives up the queue of a shared subscription a moment later, when
// somebody may have joined who was promised it with SUBACK.
func TestTheQueueOfASharedSubscriptionIsNotTakenFromWhoJoins(t *testing.T) {
	h := open(t)
	a := h.dial(rawmqtt.Options{ClientID: "a"})
	a.sub(1, "$share/g/x")

	// Nothing drops the cursor before the newcomer is in, or stands behind it.
	held, free := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		h.db.Do(func(u *store.Unit) error {
			u.Lock(store.KeyJournal + "c/session/share/$share/g/x")
			close(held)
			<-free
			return errors.New("nothing to write")
		}, nil)
	})
	<-held
	release := sync.OnceFunc(func() { close(free); wg.Wait() })
	defer release()
	a.write(rawmqtt.AppendUnsubscribe(nil, false, 9, "$share/g/x"))
	a.next(rawmqtt.Unsuback)
	defer time.AfterFunc(500*time.Millisecond, release).Stop()
	c := h.dial(rawmqtt.Options{ClientID: "c"})
	c.sub(1, "$share/g/x")
	release()
	c.Close()
	waitAway(h, "c")
	a.pub("x", "1", 1, 0)
	h.restart()
	c = h.dial(rawmqtt.Options{ClientID: "c"})
	c.get("x", "1", 1, 0)
}

// Members come while the last one goes, with and without sessions that last.
func TestASharedSubscriptionOutlivesItsLastMember(t *testing.T) {
	for _, clean := range []bool{false, true} {
		t.Run(fmt.Sprint("clean ", clean), func(t *testing.T) {
			h := open(t, func(h *house) { h.disk = store.SyncDelay{Off: true, Delay: 100 * time.Microsecond} })
			p := h.dial(rawmqtt.Options{ClientID: "p", Clean: true})
			here := h.dial(rawmqtt.Options{ClientID: "0", Clean: clean})
			there := h.dial(rawmqtt.Options{ClientID: "1", Clean: clean})
			here.sub(1, "$share/g/x")
			for i := range 200 {
				there.write(rawmqtt.AppendSubscribe(nil, false, 7, 1, "$share/g/x"))
				here.write(rawmqtt.AppendUnsubscribe(nil, false, 8, "$share/g/x"))
				here.next(rawmqtt.Unsuback)
				there.next(rawmqtt.Suback)
				p.pub("x", fmt.Sprint(i), 1, 0)
				there.get("x", fmt.Sprint(i), 1, 0)
				here, there = there, here
			}
			if clean {
				return
			}
			id := fmt.Sprint(200 % 2)
			here.Close()
			waitAway(h, id)
			p.pub("x", "queued", 1, 0)
			h.restart()
			here = h.dial(rawmqtt.Options{ClientID: id})
			here.get("x", "queued", 1, 0)
		})
	}
}
