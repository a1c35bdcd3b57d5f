package ingest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/gateway/broker"
	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/ingest"
	"tidegate/gateway/journal"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/reserved"
	"tidegate/gateway/rules"
	"tidegate/gateway/shadow"
	"tidegate/gateway/store"
)

// house is the road over real rooms, without a door: messages go in by Submit and are watched at the broker.
type house struct {
	t    *testing.T
	dir  string
	db   *store.Store
	jr   *journal.Journal
	br   *broker.Broker
	road *ingest.Road
	down func()
}

// everybody is an Authorizer that lets everybody do everything.
type everybody struct{}

func (everybody) Connect(*broker.ConnectRequest) (broker.Principal, error) { return anybody{}, nil }
func (everybody) Restore(string, string) broker.Principal                  { return anybody{} }
func (everybody) MayPublish(broker.Principal, string, bool) bool           { return true }
func (everybody) MaySubscribe(broker.Principal, string) bool               { return true }
func (everybody) MayReceive(broker.Principal, string) bool                 { return true }

type anybody struct{}

func (anybody) Name() string { return "anybody" }

func open(t *testing.T, rc rules.Config) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir()}
	h.up(rc)
	t.Cleanup(func() { h.down() })
	return h
}

func (h *house) up(rc rules.Config) {
	t := h.t
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	clk := clock.System()
	sc := store.DefaultConfig(h.dir)
	sc.Ballast = 0
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	h.db, err = store.Open(sc, clk)
	must(err)
	h.jr, err = journal.Open(h.db, clk, log, journal.DefaultConfig())
	must(err)
	h.br, err = broker.Open(broker.DefaultConfig(), broker.Deps{Store: h.db, Journal: h.jr, Clock: clk, Log: log, Auth: everybody{}})
	must(err)
	eng, err := rules.New(rc, rules.Deps{Clock: clk, Log: log, Account: "000000000000"})
	must(err)
	topics := reserved.New()
	topics.Serve(awstopic.Shadow, reserved.NewShadows(shadow.New(clk, shadow.DefaultLimits()), clk, log).Handle)
	h.road = ingest.New(h.db, h.jr, h.br, eng, topics, clk, log)
	h.br.OnPublish(h.road)
	h.db.Start()
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		if err := h.br.Run(ctx, func() { close(ready) }); err != nil {
			t.Error(err)
		}
	}()
	<-ready
	h.down = sync.OnceFunc(func() {
		stop()
		<-ended
		if err := h.db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// send submits a message and waits for its fate.
func (h *house) send(m mqtt.Message) error {
	ch := make(chan error, 1)
	h.road.Submit(m, func(err error) { ch <- err })
	return <-ch
}

// watch gives the topics and payloads of what is delivered under filter, in order.
func (h *house) watch(filter string) <-chan string {
	ch := make(chan string, 1000)
	cancel := h.br.Watch(filter, func(run *mqtt.Run) {
		for i := range run.Frames {
			ch <- run.Topic + " " + string(run.Payload(i))
		}
	})
	h.t.Cleanup(cancel)
	return ch
}

func (h *house) journalled(filter string) []string {
	h.t.Helper()
	var got []string
	for r := h.jr.Reader(h.jr.Oldest()); ; {
		_, run, ok, err := r.Next()
		if err != nil {
			h.t.Fatal(err)
		}
		if !ok {
			return got
		}
		for i := range run.Frames {
			if mqtt.Match(filter, run.Topic) {
				got = append(got, run.Topic+" "+string(run.Payload(i)))
			}
		}
	}
}

func TestNothingIsWrittenForNobody(t *testing.T) {
	h := open(t, rules.DefaultConfig())
	seen := h.watch("#")
	if err := h.send(mqtt.Message{Topic: "a/b", Payload: []byte("1"), QoS: 1}); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got != "a/b 1" {
		t.Errorf("delivered %q", got)
	}
	if n := h.jr.Next(); n != 1 {
		t.Errorf("%d records were written", n-1)
	}
}

func TestKeptTopicsAreJournalledWithAnyQoS(t *testing.T) {
	h := open(t, rules.DefaultConfig())
	h.road.Keep("up", []string{"dt/#"})
	for qos := byte(0); qos < 3; qos++ {
		if err := h.send(mqtt.Message{Topic: "dt/x", Payload: fmt.Append(nil, qos), QoS: qos}); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.send(mqtt.Message{Topic: "other", Payload: []byte("no"), QoS: 1}); err != nil {
		t.Fatal(err)
	}
	if err := h.db.Wait(func(*store.Unit) error { return nil }); err != nil { // QoS 0 waits for nobody
		t.Fatal(err)
	}
	if got, want := strings.Join(h.journalled("#"), ","), "dt/x 0,dt/x 1,dt/x 2"; got != want {
		t.Errorf("journalled %q, want %q", got, want)
	}
	h.road.Keep("up", nil)
	n := h.jr.Next()
	if err := h.send(mqtt.Message{Topic: "dt/x", QoS: 1}); err != nil || h.jr.Next() != n {
		t.Errorf("after the keeper has gone: %v, %d records", err, h.jr.Next()-n)
	}
}

func TestAnAcknowledgedShadowUpdateIsOnDiskWithItsReplies(t *testing.T) {
	h := open(t, rules.DefaultConfig())
	seen := h.watch("$aws/things/pump1/shadow/update/#")
	if err := h.send(mqtt.Message{Topic: "$aws/things/pump1/shadow/update", Payload: []byte(`{"state":{"desired":{"on":true}}}`), QoS: 1}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"", "/delta", "/documents", "/accepted"} {
		if got := <-seen; !strings.HasPrefix(got, "$aws/things/pump1/shadow/update"+want+" ") {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	h.down()
	h.up(rules.DefaultConfig())
	get := h.watch("$aws/things/pump1/shadow/get/+")
	if err := h.send(mqtt.Message{Topic: "$aws/things/pump1/shadow/get"}); err != nil {
		t.Fatal(err)
	}
	topic, doc, _ := strings.Cut(<-get, " ")
	var d struct {
		State   struct{ Desired map[string]any }
		Version int
	}
	if err := json.Unmarshal([]byte(doc), &d); err != nil || !strings.HasSuffix(topic, "accepted") || d.Version != 1 || d.State.Desired["on"] != true {
		t.Errorf("after a restart: %s %s (%v)", topic, doc, err)
	}
}

func TestConcurrentUpdatesOfOneShadowAllCount(t *testing.T) {
	h := open(t, rules.DefaultConfig())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 25 {
				if err := h.send(mqtt.Message{Topic: "$aws/things/t/shadow/update", QoS: 1,
					Payload: fmt.Appendf(nil, `{"state":{"reported":{"k%d":%d}}}`, i, k)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	get := h.watch("$aws/things/t/shadow/get/accepted")
	if err := h.send(mqtt.Message{Topic: "$aws/things/t/shadow/get"}); err != nil {
		t.Fatal(err)
	}
	if got := <-get; !strings.Contains(got, `"version":200`) {
		t.Errorf("after 200 updates: %s", got)
	}
}

func TestAWillDoesNotReachTheShadow(t *testing.T) {
	h := open(t, rules.DefaultConfig())
	seen := h.watch("$aws/things/t/shadow/#")
	for _, o := range []mqtt.Origin{mqtt.Will, mqtt.Client} {
		if err := h.send(mqtt.Message{Topic: "$aws/things/t/shadow/update", QoS: 1, Origin: o, Payload: []byte(`{"state":{"reported":{"a":1}}}`)}); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"update", "update", "update/documents", "update/accepted"}
	for _, w := range want {
		if got, _, _ := strings.Cut(<-seen, " "); got != "$aws/things/t/shadow/"+w {
			t.Errorf("got %s, want %s", got, w)
		}
	}
}

func TestRetainedValueIsThereAfterARestart(t *testing.T) {
	h := open(t, rules.DefaultConfig())
	if err := h.send(mqtt.Message{Topic: "r/1", Payload: []byte("kept"), QoS: 1, Retain: true}); err != nil {
		t.Fatal(err)
	}
	h.down()
	h.up(rules.DefaultConfig())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		if nc, err := ln.Accept(); err == nil {
			h.br.Serve(broker.Plain(nc), broker.Via{Listener: "test"})
		}
	}()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	c.Write([]byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c"))
	c.Write([]byte("\x82\x08\x00\x01\x00\x03r/1\x00"))
	var got []byte
	for b := make([]byte, 100); !strings.Contains(string(got), "kept"); {
		n, err := c.Read(b)
		if err != nil {
			t.Fatalf("%v after %q", err, got)
		}
		got = append(got, b[:n]...)
	}
}

func TestARefusedMessageHasNoEffect(t *testing.T) {
	h := open(t, rules.DefaultConfig())
	h.road.Keep("up", []string{"#"})
	seen := h.watch("#")
	h.db.Refuse("test", fault.New(fault.Full, "the disk is full"))
	for _, topic := range []string{"a", "$aws/things/t/shadow/update"} {
		if err := h.send(mqtt.Message{Topic: topic, QoS: 1, Payload: []byte(`{"state":{}}`)}); !fault.Is(err, fault.Full) {
			t.Errorf("%s: %v", topic, err)
		}
	}
	h.db.Refuse("test", nil)
	if err := h.send(mqtt.Message{Topic: "b", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got != "b " {
		t.Errorf("delivered %q", got)
	}
}

// A refusal of QoS 0 reaches nobody, so the ledger tells of what somebody wanted kept; of what nobody did, and of what its
// sender is told, it does not.
func TestRefusedQoS0IsInTheLedger(t *testing.T) {
	h := open(t, nil)
	h.road.Keep("up", []string{"dt/#"})
	live := h.watch("dt/#")
	h.db.Refuse("disk-full", fault.New(fault.Full, "the disk is nearly full"))
	for _, m := range []mqtt.Message{{Topic: "dt/a"}, {Topic: "dt/b"}, {Topic: "other"}, {Topic: "dt/c", QoS: 1}} {
		m.Origin = mqtt.Client
		if err := h.send(m); (err != nil) != (m.QoS == 1) {
			t.Errorf("%s: %v", m.Topic, err)
		}
	}
	if got, want := <-live+<-live, "dt/a dt/b "; got != want { // whoever listens has it all the same
		t.Errorf("delivered %q, want %q", got, want)
	}
	if ls := h.jr.Ledger(time.Time{}, 0); len(ls) != 1 || ls[0].Name != "qos0" || ls[0].Count != 2 || ls[0].Why != "the disk is nearly full" {
		t.Errorf("ledger %+v", ls)
	}
}

func TestWrongMessagesAreToldSo(t *testing.T) {
	h := open(t, rules.DefaultConfig())
	for _, m := range []mqtt.Message{{}, {Topic: "a/#"}, {Topic: "a", QoS: 3}, {Topic: "\xff"}} {
		if err := h.send(m); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

func TestCommitTellsWhatARoomHasToSayInTheSameUnit(t *testing.T) {
	h := open(t, rules.DefaultConfig())
	seen := h.watch("$aws/events/#")
	done := make(chan error, 1)
	err := h.road.Commit(func(u *store.Unit, emit func(mqtt.Message)) error {
		u.Put("job/x", []byte("1"))
		emit(mqtt.Message{Topic: "$aws/events/job/x/completed", Payload: []byte("{}"), QoS: 1})
		return nil
	}, func(err error) { done <- err })
	if err != nil || <-done != nil {
		t.Fatal(err)
	}
	if got := <-seen; got != "$aws/events/job/x/completed {}" {
		t.Errorf("got %q", got)
	}
}

func TestRuleResultsTravelInTheUnitOfTheirMessage(t *testing.T) {
	h := open(t, rules.Config{
		{Name: "mirror", SQL: "SELECT temp AS state.reported.temp FROM 'dt/+/climate' WHERE temp > 10",
			Actions: []rules.Action{{Republish: &rules.Republish{Topic: "$$aws/things/${topic(2)}/shadow/update", QoS: 1}}}},
		{Name: "loop", SQL: "SELECT * FROM 'loop'", Actions: []rules.Action{{Republish: &rules.Republish{Topic: "loop"}}}},
		{Name: "only", SQL: "SELECT * FROM 'x'", Actions: []rules.Action{{Republish: &rules.Republish{Topic: "out/${topic()}", QoS: 1}}}},
	})
	h.road.Keep("up", []string{"dt/#"})
	seen := h.watch("$aws/things/oven/shadow/update/accepted")
	if err := h.send(mqtt.Message{Topic: "dt/oven/climate", Payload: []byte(`{"temp":21.50}`), QoS: 1}); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; !strings.Contains(got, `"temp":21.5`) {
		t.Errorf("shadow says %s", got)
	}
	loop := h.watch("loop")
	if err := h.send(mqtt.Message{Topic: "loop", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	if n := len(loop); n != 1+rules.MaxHops {
		t.Errorf("a rule that feeds itself made %d messages", n)
	}
	all := h.watch("#")
	secret := h.watch("$aws/rules/#")
	if err := h.send(mqtt.Message{Topic: "$aws/rules/only/a/b", Payload: []byte("{}"), QoS: 1}); err != nil {
		t.Fatal(err)
	}
	if got := <-all; got != "out/a/b {}" || len(secret) != 0 {
		t.Errorf("Basic Ingest gave %q, and %d to others", got, len(secret))
	}
}
