package reserved_test

import (
	"log/slog"
	"testing"
	"time"

	"tidegate/gateway/broker"
	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/registry"
	"tidegate/gateway/reserved"
	"tidegate/gateway/shadow"
	"tidegate/gateway/store"
)

// The goodbye of a connection that was taken over does not make its client look away, and clients that stand for nothing are forgotten.
func TestConnectivityFollowsTheLatestConnection(t *testing.T) {
	clk := clocktest.New(time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC))
	cfg := store.DefaultConfig(t.TempDir())
	cfg.LogFileSize, cfg.Ballast = 1<<20, -1
	db, err := store.Open(cfg, clk)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.Start()
	reg, err := registry.Open(db, clk, registry.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	f := reserved.NewFacts(reg, shadow.New(clk, shadow.DefaultLimits()), db, slog.New(slog.DiscardHandler))
	if err := reg.Do("test", func(tx *registry.Tx) error {
		_, err := tx.CreateThing(registry.ThingInput{Name: "pump"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	left := time.UnixMilli(1_700_000_000_000)
	f.Remember([]broker.SessionInfo{{ClientID: "pump", Since: left}, {ClientID: "new"}})
	for _, c := range []struct {
		what   string
		event  broker.Event
		thing  string
		on, ok bool
		reason string
	}{
		{"the second connection", broker.Event{Kind: broker.Connected, ClientID: "pump", Version: 2, At: clk.Now()}, "pump", true, true, ""},
		{"the end of the first", broker.Event{Kind: broker.Disconnected, ClientID: "pump", Version: 1, At: clk.Now(), Reason: "DUPLICATE_CLIENTID"}, "pump", true, true, ""},
		{"a subscription", broker.Event{Kind: broker.Subscribed, ClientID: "pump", At: clk.Now()}, "pump", true, true, ""},
		{"the end of the second", broker.Event{Kind: broker.Disconnected, ClientID: "pump", Version: 2, At: clk.Now(), Reason: "CONNECTION_LOST"}, "pump", false, true, "CONNECTION_LOST"},
		{"nobody in particular comes", broker.Event{Kind: broker.Connected, ClientID: "x", Version: 1, At: clk.Now()}, "x", true, true, ""},
		{"and goes", broker.Event{Kind: broker.Disconnected, ClientID: "x", Version: 1, At: clk.Now()}, "x", false, false, ""},
	} {
		if c.what == "the second connection" {
			if on, since, _, ok := f.Connectivity("pump"); on || !ok || since != left.UnixMilli() {
				t.Errorf("after the start: %v %v %v", on, since, ok)
			}
		}
		f.Note(c.event)
		on, _, reason, ok := f.Connectivity(c.thing)
		if on != c.on || ok != c.ok || reason != c.reason {
			t.Errorf("%s: connected %v, known %v, %q; want %v, %v, %q", c.what, on, ok, reason, c.on, c.ok, c.reason)
		}
	}
	if body, err := f.Shadows("pump"); err != nil || body != nil {
		t.Errorf("no shadows: %s, %v", body, err)
	}
}
