package listen

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

var here, there = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")

func TestNobodyTakesAllPlaces(t *testing.T) {
	s := newShare(3, 2, 0)
	a, ok1 := s.try(here)
	_, ok2 := s.try(here)
	_, ok3 := s.try(here)
	_, ok4 := s.try(there)
	_, ok5 := s.try(there)
	if !ok1 || !ok2 || ok3 || !ok4 || ok5 {
		t.Errorf("got %v %v %v %v %v", ok1, ok2, ok3, ok4, ok5)
	}
	a.give()
	if _, ok := s.try(there); !ok || s.held() != 3 {
		t.Error("a place that was given back is not free")
	}
}

func TestPlacesGoToTheFirstWhoMayHaveThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShare(2, 1, time.Minute)
		a, _ := s.try(here)
		b, _ := s.try(there)
		came := make(chan string, 3)
		for _, w := range []struct {
			name string
			addr netip.Addr
		}{{"here 1", here}, {"here 2", here}, {"there", there}} {
			go func() {
				p, err := s.wait(t.Context(), w.addr, nil)
				if err != nil {
					t.Error(err)
					return
				}
				came <- w.name
				time.Sleep(time.Second)
				p.give()
			}()
			synctest.Wait()
		}
		b.give()
		synctest.Wait()
		a.give()
		synctest.Wait()
		time.Sleep(5 * time.Second)
		for _, want := range []string{"there", "here 1", "here 2"} {
			if got := <-came; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		if s.held() != 0 || len(s.by) != 0 {
			t.Error("places are not free at the end")
		}
	})
}

func TestWhoLingersIsToldToGoWhenOthersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShare(1, 1, time.Second)
		var p *place
		begin := time.Now()
		var cut time.Duration
		p, err := s.wait(t.Context(), here, func() { cut = time.Since(begin); p.give() })
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if cut != 0 {
			t.Error("cut though nobody waits")
		}
		begin = time.Now()
		q, err := s.wait(t.Context(), there, nil)
		if err != nil || cut == 0 || cut > time.Second || s.hurried() != 1 {
			t.Errorf("%v, cut after %v", err, cut)
		}
		q.give()
	})
}

func TestAWaitCanBeGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShare(1, 1, time.Hour)
		p, _ := s.try(here)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.wait(ctx, there, nil); err == nil {
			t.Error("there is no place")
		}
		p.give()
		if len(s.queue) != 0 {
			t.Error("who gave up still waits")
		}
	})
}

func TestAddressesCountByMachine(t *testing.T) {
	for _, c := range []struct{ a, b string }{{"10.1.2.3:1", "10.1.2.3:2"}, {"[2001:db8::1]:1", "[2001:db8::ffff:0:0:2]:9"}, {"[::ffff:10.1.2.3]:1", "10.1.2.3:5"}} {
		var x [2]netip.Addr
		for i, s := range []string{c.a, c.b} {
			x[i] = addrOf(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)))
		}
		if x[0] != x[1] || !x[0].IsValid() {
			t.Errorf("%s and %s are %v and %v", c.a, c.b, x[0], x[1])
		}
	}
	if addrOf(nil).IsValid() || addrOf(&net.UnixAddr{Name: "x"}).IsValid() {
		t.Error("an address where there is none")
	}
}
