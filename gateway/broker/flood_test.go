package broker

import (
	"sync"
	"testing"
	"time"
)

func TestAFloodIsToldByItsRateAndEnds(t *testing.T) {
	var f flood
	at := time.Unix(1700000000, 0)
	send := func(n int, gap time.Duration) (told bool) {
		for range n {
			at = at.Add(gap)
			told = f.came(1, at)
		}
		return told
	}
	if send(10*floodStep, time.Second/floodRate*2) {
		t.Error("half the rate is told as a flood")
	}
	if !send(2*floodStep, time.Second/floodRate/2) {
		t.Error("twice the rate is not")
	}
	if send(1, time.Second) {
		t.Error("a second of rest does not end it")
	}
	if send(floodStep, time.Second/floodRate*2) {
		t.Error("it begins again by itself")
	}
}

func TestAllWhoRestGoOn(t *testing.T) {
	var f flood
	for range 3 {
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(f.rest)
		}
		wg.Wait()
	}
	if f.over != nil {
		t.Error("a rest is left over")
	}
}
