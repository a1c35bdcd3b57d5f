package reserved_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/registry"
	"tidegate/gateway/registry/indexquery"
	"tidegate/gateway/reserved"
	"tidegate/gateway/store"
)

// crowd is a registry whose things are warm or not.
type crowd struct {
	*testing.T
	db   *store.Store
	reg  *registry.Registry
	clk  *clocktest.Manual
	warm map[string]bool
	full error // of the store
	sent chan mqtt.Message
	m    *reserved.Memberships
}

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	c := &crowd{T: t, clk: clocktest.New(time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)), warm: map[string]bool{}, sent: make(chan mqtt.Message, 1000)}
	cfg := store.DefaultConfig(t.TempDir())
	cfg.LogFileSize, cfg.Ballast = 1<<20, -1
	var err error
	if c.db, err = store.Open(cfg, c.clk); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.db.Run(ctx, func() {}) }()
	t.Cleanup(func() { cancel(); <-ended; c.db.Close() })
	if c.reg, err = registry.Open(c.db, c.clk, registry.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	c.reg.SetFacts(func(s registry.Subject) indexquery.Document {
		return indexquery.Doc{"shadow.reported.warm": {indexquery.Bool(c.warm[s.Thing])}}
	})
	c.restart()
	c.must(func(tx *registry.Tx) error {
		for _, n := range []string{"a", "b", "c"} {
			if _, err := tx.CreateThing(registry.ThingInput{Name: n}); err != nil {
				return err
			}
		}
		_, e1 := tx.CreateGroup(registry.GroupInput{Name: "warm", Query: "shadow.reported.warm:true"})
		_, e2 := tx.CreateGroup(registry.GroupInput{Name: "static"})
		return errors.Join(e1, e2, tx.AddToGroup("a", "static"))
	})
	return c
}

// restart makes the watcher anew, as a restart of the gateway does.
func (c *crowd) restart() {
	c.m = reserved.NewMemberships(reserved.NewRegistryEvents(c.reg), c.db, c.clk, slog.New(slog.DiscardHandler), func(build func(*store.Unit, func(mqtt.Message)) error, done func(error)) error {
		if c.full != nil {
			return c.full
		}
		return c.db.Do(func(u *store.Unit) error { return build(u, func(m mqtt.Message) { c.sent <- m }) }, func(_ []uint64, err error) { done(err) })
	})
}

func (c *crowd) must(fn func(tx *registry.Tx) error) {
	c.Helper()
	if err := c.reg.Do("test", fn); err != nil {
		c.Fatal(err)
	}
}

func (c *crowd) turn(on bool) {
	c.Helper()
	c.must(func(tx *registry.Tx) error {
		tx.Set(registry.EventSetting, registry.EventSwitches{On: map[string]bool{"THING_GROUP_MEMBERSHIP": on}})
		return nil
	})
}

// looks gives what a look tells.
func (c *crowd) looks(what, want string) {
	c.Helper()
	if err := c.m.Look(c.Context()); err != nil {
		c.Fatalf("%s: %v", what, err)
	}
	var got []string
	for len(c.sent) > 0 {
		m := <-c.sent
		got = append(got, strings.TrimPrefix(m.Topic, "$aws/events/thingGroupMembership/thingGroup/"))
		g, _ := c.reg.Group("warm")
		if !strings.Contains(string(m.Payload), `"eventType":"THING_GROUP_MEMBERSHIP_EVENT"`) || g != nil && !strings.Contains(string(m.Payload), `"groupId":"`+g.ID+`"`) {
			c.Errorf("%s: %s", what, m.Payload)
		}
	}
	if fmt.Sprint(got) != want {
		c.Errorf("%s: told %v, want %s", what, got, want)
	}
}

func (c *crowd) kept(want int) {
	c.Helper()
	n := 0
	if err := c.db.Scan(store.KeyMember, func(string, []byte) bool { n++; return true }); err != nil || n != want {
		c.Errorf("%d records are kept, want %d, %v", n, want, err)
	}
}

func TestWhoJoinsAndLeavesDynamicGroupsIsTold(t *testing.T) {
	c := newCrowd(t)
	c.warm["a"] = true
	c.looks("while events are off", "[]")
	c.kept(0)
	c.turn(true)
	c.looks("who was there before", "[]")
	c.warm["b"] = true
	c.looks("one more", "[warm/thing/b/added]")
	c.looks("nothing new", "[]")
	c.restart()
	c.looks("after a restart", "[]")
	delete(c.warm, "a")
	c.restart()
	c.looks("a change while it was off", "[warm/thing/a/removed]")
	c.warm["c"], c.full = true, fault.New(fault.Full, "no room")
	if err := c.m.Look(t.Context()); !fault.Is(err, fault.Full) {
		t.Errorf("with a full disk: %v", err)
	}
	c.full = nil
	c.looks("once there is room", "[warm/thing/c/added]")
	c.must(func(tx *registry.Tx) error { return tx.SetIndexing(&registry.Indexing{Things: registry.IndexOff}) })
	c.looks("without an index", "[warm/thing/b/removed warm/thing/c/removed]")
	c.must(func(tx *registry.Tx) error { return tx.SetIndexing(registry.DefaultIndexing()) })
	c.looks("with one", "[warm/thing/b/added warm/thing/c/added]")
	c.must(func(tx *registry.Tx) error {
		if err := tx.DeleteThing("b", 0); err != nil {
			return err
		}
		_, err := tx.CreateThing(registry.ThingInput{Name: "b"})
		return err
	})
	c.looks("another thing of the name", "[warm/thing/b/removed warm/thing/b/added]")
	c.must(func(tx *registry.Tx) error { return tx.DeleteGroup("warm", true, 0) })
	c.looks("without the group", "[warm/thing/b/removed warm/thing/c/removed]")
	c.kept(1)
	c.turn(false)
	c.looks("switched off", "[]")
	c.kept(0)
}

func TestALargeDynamicGroupIsTakenInParts(t *testing.T) {
	c := newCrowd(t)
	c.turn(true)
	c.looks("at first", "[]")
	c.must(func(tx *registry.Tx) error {
		for i := range 250 {
			name := fmt.Sprintf("t%03d", i)
			c.warm[name] = true
			if _, err := tx.CreateThing(registry.ThingInput{Name: name}); err != nil {
				return err
			}
		}
		return nil
	})
	if err := c.m.Look(t.Context()); err != nil || len(c.sent) != 250 {
		t.Errorf("%d events, %v", len(c.sent), err)
	}
	c.kept(251)
	c.turn(false)
	c.turn(true)
	c.restart()
	for len(c.sent) > 0 {
		<-c.sent
	}
	c.looks("on again before anybody looked", "[]")
}

func TestMembershipsAreLookedAtFromTimeToTime(t *testing.T) {
	c := newCrowd(t)
	c.turn(true)
	c.looks("at first", "[]")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.m.Run(ctx, func() {}) }()
	c.must(func(tx *registry.Tx) error { // wakes it
		_, err := tx.CreateGroup(registry.GroupInput{Name: "all", Query: "thingName:*"})
		return err
	})
	for n, deadline := 0, time.Now().Add(30*time.Second); n < 3; {
		select {
		case <-c.sent:
			n++
		case <-time.After(10 * time.Millisecond):
			c.clk.Advance(time.Second)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d events", n)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
