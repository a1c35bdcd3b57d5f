package clocktest_test

import (
	"testing"
	"time"

	"tidegate/gateway/clock/clocktest"
)

func TestTimersFireInOrderAndOnce(t *testing.T) {
	m := clocktest.New(time.Unix(1000, 0))
	var got []int
	m.AfterFunc(3*time.Second, func() { got = append(got, 3) })
	m.AfterFunc(time.Second, func() { got = append(got, 1) })
	off := m.AfterFunc(2*time.Second, func() { got = append(got, 2) })
	if !off.Stop() || off.Stop() {
		t.Error("Stop does not say what it did")
	}
	tm := m.NewTimer(2 * time.Second)
	m.Advance(5 * time.Second)
	m.Advance(5 * time.Second)
	if len(got) != 2 || got[0] != 1 || got[1] != 3 {
		t.Errorf("fired %v, want [1 3]", got)
	}
	if at := <-tm.C(); !at.Equal(time.Unix(1002, 0)) {
		t.Errorf("timer saw %v", at)
	}
	if m.Waiting() != 0 {
		t.Errorf("%d timers left", m.Waiting())
	}
}

func TestATimerThatIsDueFiresAtOnce(t *testing.T) {
	m := clocktest.New(time.Unix(1000, 0))
	<-m.NewTimer(0).C()
	ran := make(chan bool)
	m.AfterFunc(-time.Second, func() { ran <- true })
	<-ran
}
