package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/audit"
	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/operators"
	"tidegate/gateway/registry"
	"tidegate/gateway/store"
)

type house struct {
	*testing.T
	dir  string
	clk  *clocktest.Manual
	cfg  audit.Config
	reg  *registry.Registry
	log  *audit.Log
	sent chan mqtt.Message
	end  func()
}

func newHouse(t *testing.T, cfg audit.Config) *house {
	t.Helper()
	h := &house{T: t, dir: t.TempDir(), clk: clocktest.New(time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)), cfg: cfg, sent: make(chan mqtt.Message, 1000)}
	h.open()
	t.Cleanup(func() { h.end() })
	return h
}

func (h *house) open() {
	h.Helper()
	cfg := store.DefaultConfig(h.dir)
	cfg.LogFileSize, cfg.Ballast = 1<<20, -1
	db, err := store.Open(cfg, h.clk)
	if err != nil {
		h.Fatal(err)
	}
	if h.reg, err = registry.Open(db, h.clk, registry.DefaultConfig()); err != nil {
		h.Fatal(err)
	}
	if h.log, err = audit.Open(db, h.clk, slog.New(slog.DiscardHandler), h.cfg); err != nil {
		h.Fatal(err)
	}
	commit := func(build func(*store.Unit, func(mqtt.Message)) error, done func(error)) error {
		return db.Do(func(u *store.Unit) error { return build(u, func(m mqtt.Message) { h.sent <- m }) }, func(_ []uint64, err error) { done(err) })
	}
	h.reg.Through(commit)
	h.log.Through(commit)
	h.reg.Witness(h.log.Witness)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- db.Run(ctx, func() {}) }()
	stop, cancelLog := context.WithCancel(context.Background())
	logEnded := make(chan error, 1)
	go func() { logEnded <- h.log.Run(stop, func() {}) }()
	h.end = func() {
		cancelLog()
		<-logEnded
		cancel()
		<-ended
		db.Close()
	}
}

func (h *house) entries() (out []mqtt.Message) {
	h.Helper()
	if err := h.log.Entries(time.Time{}, func(m mqtt.Message) bool { out = append(out, m); return true }); err != nil {
		h.Fatal(err)
	}
	return out
}

func (h *house) do(fn func(tx *registry.Tx) error) {
	h.Helper()
	if err := h.reg.Do("operator/ada", fn); err != nil {
		h.Fatal(err)
	}
}

type entry struct {
	At      time.Time
	By      string
	Changes []struct {
		Kind, Name, Action string
		Before, After      map[string]any
	}
	More                  int
	What, Name, Code, Why string
	Address, Client       string
	Count                 int
}

func read(t *testing.T, m mqtt.Message) (e entry) {
	t.Helper()
	if err := json.Unmarshal(m.Payload, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestAChangeAndItsEntryAreOne(t *testing.T) {
	h := newHouse(t, audit.DefaultConfig())
	h.do(func(tx *registry.Tx) error {
		_, err := tx.CreateThing(registry.ThingInput{Name: "pump", Attributes: map[string]string{"site": "north"}})
		return err
	})
	h.clk.Advance(time.Second)
	h.do(func(tx *registry.Tx) error {
		_, e1 := tx.UpdateThing("pump", registry.ThingUpdate{Attributes: map[string]string{"site": "south"}})
		_, e2 := tx.CreatePolicy("p", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`, nil)
		return errors.Join(e1, e2)
	})
	if err := h.reg.Do("eve", func(tx *registry.Tx) error {
		_, err := tx.CreateThing(registry.ThingInput{Name: "other"})
		return errors.Join(err, fault.New(fault.Invalid, "no"))
	}); err == nil {
		t.Fatal("it passed")
	}
	h.end()
	h.open()
	got := h.entries()
	if len(got) != 2 || len(h.sent) != 2 {
		t.Fatalf("%d entries, %d messages", len(got), len(h.sent))
	}
	m := <-h.sent
	if m.Topic != audit.Change || m.QoS != 1 || string(m.Payload) != string(got[0].Payload) {
		t.Errorf("sent %s %s", m.Topic, m.Payload)
	}
	first, second := read(t, got[0]), read(t, got[1])
	if c := first.Changes[0]; first.By != "operator/ada" || c.Kind != "thing" || c.Name != "pump" || c.Action != "create" || c.Before != nil || c.After["Name"] != "pump" {
		t.Errorf("first %+v", first)
	}
	if len(second.Changes) != 2 || second.Changes[0].Action != "update" || second.Changes[1].Kind != "policy" || !second.At.Equal(first.At.Add(time.Second)) {
		t.Fatalf("second %+v", second)
	}
	before, after := second.Changes[0].Before["Attributes"].(map[string]any), second.Changes[0].After["Attributes"].(map[string]any)
	if before["site"] != "north" || after["site"] != "south" {
		t.Errorf("from %v to %v", before, after)
	}
	n := 0
	if err := h.log.Entries(second.At, func(mqtt.Message) bool { n++; return true }); err != nil || n != 1 {
		t.Errorf("since the second: %d, %v", n, err)
	}
}

func TestTheOldestEntriesGo(t *testing.T) {
	h := newHouse(t, audit.Config{Entries: 5, Bytes: 1 << 20})
	for i := range 12 {
		if i == 8 {
			h.end()
			h.open()
		}
		h.do(func(tx *registry.Tx) error {
			_, err := tx.CreateThing(registry.ThingInput{Name: fmt.Sprintf("t%d", i)})
			return err
		})
	}
	got := h.entries()
	if len(got) != 5 || read(t, got[0]).Changes[0].Name != "t7" || read(t, got[4]).Changes[0].Name != "t11" {
		t.Errorf("%d entries: %v", len(got), got)
	}
}

func TestABigChangeIsNamedAtLeast(t *testing.T) {
	h := newHouse(t, audit.DefaultConfig())
	h.do(func(tx *registry.Tx) error {
		for i := range 600 {
			if _, err := tx.CreateThing(registry.ThingInput{Name: fmt.Sprintf("thing-with-a-long-name-%s-%d", strings.Repeat("x", 60), i)}); err != nil {
				return err
			}
		}
		return nil
	})
	got := h.entries()
	e := read(t, got[0])
	if len(got) != 1 || len(got[0].Payload) > 64<<10 || e.More == 0 || len(e.Changes)+e.More != 600 {
		t.Errorf("%d entries, %d bytes, %d changes and %d more", len(got), len(got[0].Payload), len(e.Changes), e.More)
	}
}

func TestTheSameRefusalIsCounted(t *testing.T) {
	h := newHouse(t, audit.DefaultConfig())
	no := fault.New(fault.Unauthorized, "the certificate is not registered")
	for range 100 {
		h.log.Refuse(audit.Refusal{What: "connect", Name: "pump", Client: "pump", Address: "10.0.0.7", Err: no})
	}
	h.log.Refuse(audit.Refusal{What: "publish", Name: strings.Repeat("x", 600) + "\xff", Err: no})
	h.end() // what waits is written
	h.open()
	got := h.entries()
	if len(got) != 3 {
		t.Fatalf("%d entries: %v", len(got), got)
	}
	first, last := read(t, got[0]), read(t, got[2])
	if first.What != "connect" || first.Count != 1 || first.Code != "unauthorized" || first.Why == "" || first.Address != "10.0.0.7" || last.What != "connect" || last.Count != 99 {
		t.Errorf("first %+v, last %+v", first, last)
	}
	if e := read(t, got[1]); got[1].Topic != audit.Refused || len(e.Name) > 510 {
		t.Errorf("a long name: %+v", e)
	}
}

func TestAFloodOfRefusalsIsSummedUp(t *testing.T) {
	h := newHouse(t, audit.DefaultConfig())
	total := 0
	for i := range 3000 {
		h.log.Refuse(audit.Refusal{What: "connect", Name: fmt.Sprint(i)})
		total++
	}
	h.end()
	h.open()
	got := h.entries()
	if len(got) > 502 {
		t.Errorf("%d entries", len(got))
	}
	for _, m := range got {
		total -= read(t, m).Count
	}
	if total != 0 {
		t.Errorf("%d refusals are not accounted for", total)
	}
}

func TestOperatorsAreNamedWithoutTheirSecrets(t *testing.T) {
	h := newHouse(t, audit.DefaultConfig())
	w := h.log.Person(nil, &operators.Person{Name: "ada", Role: operators.Admin, Keys: []operators.Key{{ID: "AKIA1", Secret: "hidden"}}})
	w(nopUnit(t), func(m mqtt.Message) {
		e := read(t, m)
		if c := e.Changes[0]; c.Kind != "operator" || c.Name != "ada" || c.Action != "create" || c.After["Role"] != "admin" || strings.Contains(string(m.Payload), "hidden") {
			t.Errorf("entry %s", m.Payload)
		}
	})
}

func TestALoanIsWrittenDownWithWhoHasIt(t *testing.T) {
	h := newHouse(t, audit.DefaultConfig())
	if err := h.log.Lent(audit.Loan{By: "cert1", AccessKey: "ASIA1", Alias: "web", Role: "arn", Thing: "pump", Expires: h.clk.Now()}); err != nil {
		t.Fatal(err)
	}
	want := `"by":"cert1","changes":[{"kind":"credentials","name":"ASIA1","action":"create","after":{"accessKeyId":"ASIA1","roleAlias":"web","roleArn":"arn","thingName":"pump","expiration":"2026-05-04T12:00:00Z"}}]}`
	if m := <-h.sent; m.Topic != audit.Change || !strings.HasSuffix(string(m.Payload), want) {
		t.Errorf("sent %s %s", m.Topic, m.Payload)
	}
	if all := h.entries(); len(all) != 1 {
		t.Errorf("%d entries are kept", len(all))
	}
}

func TestDigestsOfTokensAreNotShown(t *testing.T) {
	h := newHouse(t, audit.DefaultConfig())
	w := h.log.Witness([]registry.Change{{Kind: "cert", Name: "c", After: &registry.Certificate{ID: "c", Token: "digest"}}})
	w(nopUnit(t), func(m mqtt.Message) {
		if strings.Contains(string(m.Payload), "digest") {
			t.Errorf("shown: %s", m.Payload)
		}
	})
}

// nopUnit is a unit that is never committed.
func nopUnit(t *testing.T) *store.Unit {
	t.Helper()
	cfg := store.DefaultConfig(t.TempDir())
	cfg.LogFileSize, cfg.Ballast = 1<<20, -1
	db, err := store.Open(cfg, clocktest.New(time.Unix(0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db.NewUnit()
}
