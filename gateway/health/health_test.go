package health_test

import (
	"errors"
	"testing"
	"time"

	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/health"
)

func TestAWarningKeepsItsBeginning(t *testing.T) {
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	clk := clocktest.New(start)
	h := health.New(clk)
	h.Raise("upstream-down/b", "refused")
	clk.Advance(time.Minute)
	h.Raise("upstream-down/b", "timeout")
	h.Raise("disk-low", "3 MB left")
	got := h.Warnings()
	want := []health.Warning{
		{Code: "disk-low", Text: "3 MB left", Since: start.Add(time.Minute)},
		{Code: "upstream-down/b", Text: "timeout", Since: start},
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %v, want %v", got, want)
	}
	h.Clear("upstream-down/b")
	h.Clear("never-raised")
	if got := h.Warnings(); len(got) != 1 || got[0].Code != "disk-low" {
		t.Errorf("after clearing: %v", got)
	}
}

func TestAliveAsksEveryProbe(t *testing.T) {
	h := health.New(clocktest.New(time.Unix(0, 0)))
	if h.Alive() != nil || h.Ready() {
		t.Error("a new state is alive and not ready")
	}
	var broken error
	h.Probe("store", func() error { h.Raise("x", "a probe may raise"); return broken })
	h.Probe("broker", func() error { return nil })
	if err := h.Alive(); err != nil {
		t.Errorf("got %v", err)
	}
	broken = errors.New("no commit for 30s")
	if err := h.Alive(); err == nil || err.Error() != "store: no commit for 30s" {
		t.Errorf("got %v", err)
	}
	h.SetReady(true)
	if !h.Ready() {
		t.Error("not ready")
	}
}
