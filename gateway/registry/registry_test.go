package registry_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/registry"
	"tidegate/gateway/registry/indexquery"
	"tidegate/gateway/store"
)

var start = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// rig is a registry on a real store that can be opened again.
type rig struct {
	t   *testing.T
	dir string
	clk *clocktest.Manual
	cfg registry.Config
	db  *store.Store
	end func()
	*registry.Registry
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), clk: clocktest.New(start), cfg: registry.DefaultConfig()}
	r.open()
	t.Cleanup(func() { r.end() })
	return r
}

func (r *rig) open() {
	r.t.Helper()
	cfg := store.DefaultConfig(r.dir)
	cfg.LogFileSize, cfg.Ballast = 1<<20, -1
	db, err := store.Open(cfg, r.clk)
	if err != nil {
		r.t.Fatal(err)
	}
	reg, err := registry.Open(db, r.clk, r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := db.Run(ctx, func() {}); err != nil && !errors.Is(err, context.Canceled) {
			r.t.Error(err)
		}
	}()
	r.db, r.Registry = db, reg
	r.end = func() {
		cancel()
		<-ended
		if err := db.Close(); err != nil {
			r.t.Error(err)
		}
	}
}

func (r *rig) reopen() {
	r.t.Helper()
	r.end()
	r.open()
}

func (r *rig) do(fn func(*registry.Tx) error) error { return r.Do("test", fn) }

func (r *rig) must(fn func(*registry.Tx) error) {
	r.t.Helper()
	if err := r.do(fn); err != nil {
		r.t.Fatal(err)
	}
}

func want(t *testing.T, err error, code fault.Code, sentinel error) {
	t.Helper()
	if !fault.Is(err, code) || sentinel != nil && !errors.Is(err, sentinel) {
		t.Errorf("got %v, want %v (%v)", err, code, sentinel)
	}
}

// selfSigned makes a certificate with an EC key.
func selfSigned(t *testing.T, change func(*x509.Certificate)) (string, *x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: start, NotAfter: start.AddDate(1, 0, 0)}
	if change != nil {
		change(tpl)
	}
	text, c := signed(t, tpl, tpl, &key.PublicKey, key)
	return text, c, key
}

func signed(t *testing.T, tpl, parent *x509.Certificate, pub, key any) (string, *x509.Certificate) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), c
}

func (r *rig) certificate(status registry.Status) (id, arn string) {
	r.t.Helper()
	text, c, _ := selfSigned(r.t, nil)
	r.must(func(tx *registry.Tx) error {
		_, err := tx.AddCertificate(registry.CertificateInput{PEM: text, Status: status, Mode: registry.ModeDefault})
		return err
	})
	id = registry.CertificateID(c)
	return id, r.ARN("cert", id)
}

const open = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`

func TestEverythingSurvivesARestart(t *testing.T) {
	r := newRig(t)
	id, arn := r.certificate(registry.Active)
	r.must(func(tx *registry.Tx) error {
		_, e1 := tx.CreateType(registry.TypeInput{Name: "pump", Searchable: []string{"site"}})
		_, e2 := tx.CreateBilling("plant", "text", nil)
		_, e3 := tx.CreateGroup(registry.GroupInput{Name: "site"})
		_, e4 := tx.CreateGroup(registry.GroupInput{Name: "hall", Parent: "site", Attributes: map[string]string{"a": "b"}})
		_, e5 := tx.CreateThing(registry.ThingInput{Name: "p1", Type: "pump", Attributes: map[string]string{"site": "north"}, Billing: "plant"})
		_, e6 := tx.CreatePolicy("dev", open, map[string]string{"k": "v"})
		_, e7 := tx.CreatePolicy("more", open, nil)
		tx.Set("events", map[string]bool{"THING": true})
		return errors.Join(e1, e2, e3, e4, e5, e6, e7, tx.AddToGroup("p1", "hall"), tx.AttachPrincipal("p1", arn, true),
			tx.AttachPolicy("dev", arn), tx.AttachPolicy("more", tx.Registry().ARN("thinggroup", "site")))
	})
	before, _ := r.Thing("p1")
	r.reopen()
	after, err := r.Thing("p1")
	if err != nil || !reflect.DeepEqual(before, after) {
		t.Errorf("thing: got %+v, %v, want %+v", after, err, before)
	}
	if c, err := r.Certificate(id); err != nil || c.Status != registry.Active {
		t.Errorf("certificate: %+v, %v", c, err)
	}
	if names := policyNames(r.Effective(arn, "p1")); names != "dev more" {
		t.Errorf("effective policies: %q", names)
	}
	if th, attached := r.Stands(arn, "any client"); th == nil || th.Name != "p1" || !attached {
		t.Errorf("an exclusive principal stands for %+v, %v", th, attached)
	}
	if things, _, _ := r.Members("site", true, registry.Page{}); fmt.Sprint(things) != "[p1]" {
		t.Errorf("members: %v", things)
	}
	if things, _, _ := r.Billed("plant", registry.Page{}); fmt.Sprint(things) != "[p1]" {
		t.Errorf("billed: %v", things)
	}
	var events map[string]bool
	if !r.Setting("events", &events) || !events["THING"] {
		t.Errorf("setting: %v", events)
	}
	if tags, err := r.Tags(r.ARN("policy", "dev")); err != nil || tags["k"] != "v" {
		t.Errorf("tags: %v, %v", tags, err)
	}
}

func policyNames(ps []*registry.Policy) string {
	var names []string
	for _, p := range ps {
		names = append(names, p.Name)
	}
	return strings.Join(names, " ")
}

func TestATransactionIsAllOrNothing(t *testing.T) {
	r := newRig(t)
	told := 0
	r.OnCommit(func([]registry.Change) { told++ })
	r.must(func(tx *registry.Tx) error {
		_, e1 := tx.CreateThing(registry.ThingInput{Name: "a", Attributes: map[string]string{"k": "v"}})
		_, e2 := tx.CreateGroup(registry.GroupInput{Name: "g"})
		return errors.Join(e1, e2, tx.AddToGroup("a", "g"))
	})
	fail := errors.New("changed my mind")
	spoil := func(tx *registry.Tx) {
		tx.CreateThing(registry.ThingInput{Name: "b"})
		tx.RemoveFromGroup("a", "g")
		tx.UpdateThing("a", registry.ThingUpdate{Attributes: map[string]string{}})
		tx.DeleteGroup("g", false, 0)
		tx.DeleteThing("a", 0)
	}
	if err := r.do(func(tx *registry.Tx) error { spoil(tx); return fail }); !errors.Is(err, fail) {
		t.Fatalf("got %v", err)
	}
	func() {
		defer func() { recover() }()
		r.do(func(tx *registry.Tx) error { spoil(tx); panic("BUG") })
	}()
	for range 2 {
		th, err := r.Thing("a")
		if err != nil || th.Version != 1 || th.Attributes["k"] != "v" {
			t.Errorf("thing: %+v, %v", th, err)
		}
		if _, err := r.Thing("b"); !fault.Is(err, fault.NotFound) {
			t.Errorf("b: %v", err)
		}
		if things, _, err := r.Members("g", false, registry.Page{}); err != nil || fmt.Sprint(things) != "[a]" {
			t.Errorf("members: %v, %v", things, err)
		}
		if told > 1 {
			t.Errorf("listeners were told %d times", told)
		}
		r.reopen()
	}
}

func TestChangesAreToldInOrder(t *testing.T) {
	r := newRig(t)
	var seen []string
	r.OnCommit(func(changes []registry.Change) {
		for _, c := range changes {
			seen = append(seen, fmt.Sprintf("%s %s %v %v %s", c.Kind, c.Name, c.Before != nil, c.After != nil, c.By))
		}
	})
	r.must(func(tx *registry.Tx) error { _, err := tx.CreateThing(registry.ThingInput{Name: "a"}); return err })
	r.must(func(tx *registry.Tx) error { _, err := tx.UpdateThing("a", registry.ThingUpdate{}); return err })
	r.must(func(tx *registry.Tx) error { return tx.DeleteThing("a", 2) })
	r.must(func(tx *registry.Tx) error { return tx.DeleteThing("a", 0) })
	if got := strings.Join(seen, "\n"); got != "thing a false true test\nthing a true true test\nthing a true false test" {
		t.Errorf("got\n%s", got)
	}
}

func TestThings(t *testing.T) {
	r := newRig(t)
	create := func(in registry.ThingInput) error {
		return r.do(func(tx *registry.Tx) error { _, err := tx.CreateThing(in); return err })
	}
	r.must(func(tx *registry.Tx) error { _, err := tx.CreateType(registry.TypeInput{Name: "pump"}); return err })
	attrs := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint("a", i)] = "v"
		}
		return m
	}
	in := registry.ThingInput{Name: "a", Attributes: attrs(3)}
	if err := create(in); err != nil {
		t.Fatal(err)
	}
	first, _ := r.Thing("a")
	if err := create(in); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if again, _ := r.Thing("a"); again.ID != first.ID || again.Version != 1 {
		t.Errorf("the same again made %+v", again)
	}
	err := create(registry.ThingInput{Name: "a"})
	want(t, err, fault.Exists, nil)
	var exists *registry.ExistsError
	if !errors.As(err, &exists) || exists.ID != first.ID || exists.ARN != r.ARN("thing", "a") {
		t.Errorf("got %+v", exists)
	}
	want(t, create(registry.ThingInput{Name: "b", Attributes: attrs(4)}), fault.Invalid, nil)
	want(t, create(registry.ThingInput{Name: "b", Type: "pump", Attributes: attrs(51)}), fault.Invalid, nil)
	if err := create(registry.ThingInput{Name: "b", Type: "pump", Attributes: attrs(50)}); err != nil {
		t.Error(err)
	}
	want(t, create(registry.ThingInput{Name: "c", Type: "none"}), fault.NotFound, nil)
	want(t, create(registry.ThingInput{Name: "c", Billing: "none"}), fault.NotFound, nil)
	want(t, create(registry.ThingInput{Name: "a b"}), fault.Invalid, nil)
	want(t, create(registry.ThingInput{Name: ""}), fault.Invalid, nil)
	want(t, create(registry.ThingInput{Name: strings.Repeat("x", 129)}), fault.Invalid, nil)
	want(t, create(registry.ThingInput{Name: "c", Attributes: map[string]string{"k": "two words"}}), fault.Invalid, nil)
	if msg := fault.Message(create(registry.ThingInput{Name: "a b"})); msg != "1 validation error detected: Value 'a b' at 'thingName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9:_-]+" {
		t.Errorf("message: %s", msg)
	}
	update := func(name string, up registry.ThingUpdate) (*registry.Thing, error) {
		var out *registry.Thing
		err := r.do(func(tx *registry.Tx) (err error) { out, err = tx.UpdateThing(name, up); return err })
		return out, err
	}
	if th, err := update("a", registry.ThingUpdate{Attributes: map[string]string{"a0": "", "a1": "w"}, Merge: true, Expected: 1}); err != nil || th.Version != 2 || fmt.Sprint(th.Attributes) != "map[a1:w a2:v]" {
		t.Errorf("merge: %+v, %v", th, err)
	}
	if th, err := update("a", registry.ThingUpdate{Attributes: map[string]string{"z": "1"}, Type: "pump"}); err != nil || fmt.Sprint(th.Attributes) != "map[z:1]" || th.Type != "pump" {
		t.Errorf("replace: %+v, %v", th, err)
	}
	_, err = update("a", registry.ThingUpdate{Expected: 1})
	want(t, err, fault.Conflict, registry.ErrVersion)
	_, err = update("a", registry.ThingUpdate{Type: "pump", RemoveType: true})
	want(t, err, fault.Invalid, nil)
	_, err = update("b", registry.ThingUpdate{RemoveType: true})
	want(t, err, fault.Invalid, nil) // 50 attributes need a type
	_, err = update("none", registry.ThingUpdate{})
	want(t, err, fault.NotFound, nil)
	things, _ := r.Things(registry.ThingFilter{Type: "pump", AttributeName: "z", AttributeValue: "1"}, registry.Page{})
	if len(things) != 1 || things[0].Name != "a" {
		t.Errorf("filter: %v", things)
	}
	if things, _ := r.Things(registry.ThingFilter{AttributeName: "a1", AttributeValue: ""}, registry.Page{}); len(things) != 0 {
		t.Errorf("empty value: %v", things)
	}
	if things, _ := r.Things(registry.ThingFilter{AttributeName: "a1", AttributeValue: "", ValuePrefix: true}, registry.Page{}); len(things) != 1 {
		t.Errorf("prefix: %v", things)
	}
	_, arn := r.certificate(registry.Active)
	r.must(func(tx *registry.Tx) error { return tx.AttachPrincipal("a", arn, false) })
	want(t, r.do(func(tx *registry.Tx) error { return tx.DeleteThing("a", 0) }), fault.Invalid, nil)
	r.must(func(tx *registry.Tx) error {
		return errors.Join(tx.DetachPrincipal("a", arn), tx.DetachPrincipal("a", arn))
	})
	want(t, r.do(func(tx *registry.Tx) error { return tx.DeleteThing("a", 9) }), fault.Conflict, registry.ErrVersion)
	r.must(func(tx *registry.Tx) error { return tx.DeleteThing("a", 3) })
}

func TestPagesCoverEverythingOnce(t *testing.T) {
	r := newRig(t)
	r.must(func(tx *registry.Tx) error {
		for i := range 523 {
			if _, err := tx.CreateThing(registry.ThingInput{Name: fmt.Sprintf("t%04d", i)}); err != nil {
				return err
			}
		}
		return nil
	})
	for _, p := range []registry.Page{{}, {Max: 100}, {Max: 1000}, {Max: 7, Desc: true}, {Max: 523}} {
		seen := map[string]bool{}
		last := ""
		for {
			things, next := r.Things(registry.ThingFilter{}, p)
			for _, th := range things {
				if seen[th.Name] || last != "" && (th.Name > last) == p.Desc {
					t.Fatalf("%+v: %s after %s", p, th.Name, last)
				}
				seen[th.Name], last = true, th.Name
			}
			if next == "" {
				break
			}
			p.After = next
		}
		if len(seen) != 523 {
			t.Errorf("%+v: saw %d", p, len(seen))
		}
	}
}

func TestThingTypes(t *testing.T) {
	r := newRig(t)
	do := func(fn func(tx *registry.Tx) error) error { return r.do(fn) }
	create := func(in registry.TypeInput) error {
		return do(func(tx *registry.Tx) error { _, err := tx.CreateType(in); return err })
	}
	if err := create(registry.TypeInput{Name: "pump"}); err != nil {
		t.Fatal(err)
	}
	if err := create(registry.TypeInput{Name: "pump"}); err != nil {
		t.Errorf("the same again: %v", err)
	}
	want(t, create(registry.TypeInput{Name: "pump", Description: "x"}), fault.Exists, nil)
	want(t, create(registry.TypeInput{Name: "fan", Searchable: []string{"a", "b", "c", "d"}}), fault.Invalid, nil)
	want(t, create(registry.TypeInput{Name: "fan", Tags: map[string]string{"aws:x": "y"}}), fault.Invalid, nil)
	for _, p := range []registry.Propagating{{"k", "", ""}, {"k", "site", "iot:ClientId"}, {"a b", "site", ""}, {"", "site", ""}, {"k", "a b", ""}, {"k", "", "iot:$x"}} {
		want(t, create(registry.TypeInput{Name: "fan", Propagating: []registry.Propagating{p}}), fault.Invalid, nil)
	}
	if err := create(registry.TypeInput{Name: "fan", Propagating: []registry.Propagating{{"k", "site", ""}, {"$c", "", "iot:ClientId"}}}); err != nil {
		t.Errorf("propagating attributes: %v", err)
	}
	r.must(func(tx *registry.Tx) error {
		_, err := tx.CreateThing(registry.ThingInput{Name: "a", Type: "pump"})
		return err
	})
	del := func() error { return do(func(tx *registry.Tx) error { return tx.DeleteType("pump") }) }
	want(t, del(), fault.Invalid, nil) // not deprecated
	r.must(func(tx *registry.Tx) error { return tx.DeprecateType("pump", false) })
	want(t, do(func(tx *registry.Tx) error {
		_, err := tx.CreateThing(registry.ThingInput{Name: "b", Type: "pump"})
		return err
	}), fault.Invalid, nil)
	if err := do(func(tx *registry.Tx) error {
		_, err := tx.UpdateThing("a", registry.ThingUpdate{Type: "pump"})
		return err
	}); err != nil {
		t.Errorf("a thing that has the type already: %v", err)
	}
	r.clk.Advance(4 * time.Minute)
	want(t, del(), fault.Invalid, nil) // too early
	r.clk.Advance(time.Minute)
	want(t, del(), fault.Invalid, nil) // in use
	r.must(func(tx *registry.Tx) error { return tx.DeleteThing("a", 0) })
	if err := del(); err != nil {
		t.Error(err)
	}
	want(t, del(), fault.NotFound, nil)
}

func TestGroups(t *testing.T) {
	r := newRig(t)
	group := func(name, parent string) error {
		return r.do(func(tx *registry.Tx) error {
			_, err := tx.CreateGroup(registry.GroupInput{Name: name, Parent: parent})
			return err
		})
	}
	for _, g := range [][2]string{{"site", ""}, {"hall1", "site"}, {"hall2", "site"}, {"cell", "hall1"}, {"other", ""}} {
		if err := group(g[0], g[1]); err != nil {
			t.Fatal(err)
		}
	}
	want(t, group("x", "none"), fault.NotFound, nil)
	want(t, group("hall1", ""), fault.Exists, nil)
	r.must(func(tx *registry.Tx) error {
		_, e1 := tx.CreateThing(registry.ThingInput{Name: "a"})
		_, e2 := tx.CreateThing(registry.ThingInput{Name: "b"})
		return errors.Join(e1, e2, tx.AddToGroup("a", "cell"), tx.AddToGroup("a", "cell"), tx.AddToGroup("a", "other"), tx.AddToGroup("b", "hall2"))
	})
	want(t, r.do(func(tx *registry.Tx) error { return tx.AddToGroup("a", "hall2") }), fault.Invalid, nil)
	want(t, r.do(func(tx *registry.Tx) error { return tx.AddToGroup("a", "none") }), fault.NotFound, nil)
	want(t, r.do(func(tx *registry.Tx) error { return tx.AddToGroup("none", "site") }), fault.NotFound, nil)
	for _, c := range []struct {
		group     string
		recursive bool
		want      string
	}{{"site", false, "[]"}, {"site", true, "[a b]"}, {"hall1", true, "[a]"}, {"cell", false, "[a]"}, {"other", false, "[a]"}} {
		if things, _, err := r.Members(c.group, c.recursive, registry.Page{}); err != nil || fmt.Sprint(things) != c.want {
			t.Errorf("members of %s: got %v, %v, want %s", c.group, things, err, c.want)
		}
	}
	if !r.Within("a", "site") || !r.Within("a", "cell") || r.Within("a", "hall2") || r.Within("none", "site") {
		t.Error("Within is wrong")
	}
	path := r.Path("cell")
	if len(path) != 2 || path[0].Name != "site" || path[1].Name != "hall1" {
		t.Errorf("path: %v", path)
	}
	list := func(parent, prefix string, recursive bool) string {
		gs, _, err := r.Groups(parent, prefix, recursive, registry.Page{})
		if err != nil {
			return err.Error()
		}
		var names []string
		for _, g := range gs {
			names = append(names, g.Name)
		}
		return strings.Join(names, " ")
	}
	for _, c := range []struct{ got, want string }{
		{list("", "", true), "cell hall1 hall2 other site"}, {list("", "", false), "other site"}, {list("site", "", false), "hall1 hall2"},
		{list("site", "", true), "cell hall1 hall2"}, {list("", "hall", true), "hall1 hall2"},
	} {
		if c.got != c.want {
			t.Errorf("listing: got %q, want %q", c.got, c.want)
		}
	}
	err := r.do(func(tx *registry.Tx) error { return tx.DeleteGroup("site", false, 0) })
	if want(t, err, fault.Invalid, nil); fault.Message(err) != "Cannot delete thing group : site when there are still child groups attached to it." {
		t.Errorf("message: %v", err)
	}
	r.must(func(tx *registry.Tx) error {
		return errors.Join(tx.DeleteGroup("cell", false, 1), tx.DeleteGroup("cell", false, 0))
	})
	if th, _ := r.Thing("a"); fmt.Sprint(th.Groups) != "[other]" {
		t.Errorf("after the group is gone: %v", th.Groups)
	}
	r.must(func(tx *registry.Tx) error {
		g, err := tx.UpdateGroup("site", registry.GroupUpdate{Description: "d", Attributes: map[string]string{"k": "v"}, Expected: 1})
		if err == nil && (g.Version != 2 || g.Attributes["k"] != "v") {
			t.Errorf("got %+v", g)
		}
		return err
	})
	parent := "other"
	for i := range 6 {
		name := fmt.Sprint("level", i+2)
		if err := group(name, parent); err != nil {
			t.Fatal(err)
		}
		parent = name
	}
	want(t, group("level8", parent), fault.Invalid, nil)
	r.must(func(tx *registry.Tx) error {
		for i := range 9 {
			name := fmt.Sprint("g", i)
			if _, err := tx.CreateGroup(registry.GroupInput{Name: name}); err != nil {
				return err
			}
			if err := tx.AddToGroup("a", name); err != nil {
				return err
			}
		}
		_, err := tx.CreateGroup(registry.GroupInput{Name: "eleventh"})
		return err
	})
	want(t, r.do(func(tx *registry.Tx) error { return tx.AddToGroup("a", "eleventh") }), fault.Invalid, nil)
}

func TestDynamicGroupsFollowTheirQuery(t *testing.T) {
	r := newRig(t)
	connected := map[string]bool{"a": true}
	r.SetFacts(func(s registry.Subject) indexquery.Document {
		return indexquery.Doc{"connectivity.connected": {indexquery.Bool(connected[s.Thing])}}
	})
	r.must(func(tx *registry.Tx) error {
		for _, n := range []string{"a", "b"} {
			if _, err := tx.CreateThing(registry.ThingInput{Name: n, Attributes: map[string]string{"watt": "60"}}); err != nil {
				return err
			}
		}
		_, e1 := tx.CreateGroup(registry.GroupInput{Name: "online", Query: "connectivity.connected:true AND attributes.watt>50"})
		_, e2 := tx.CreateGroup(registry.GroupInput{Name: "static"})
		_, e3 := tx.CreatePolicy("p", open, nil)
		return errors.Join(e1, e2, e3, tx.AddToGroup("a", "static"))
	})
	if things, _, err := r.Members("online", false, registry.Page{}); err != nil || fmt.Sprint(things) != "[a]" {
		t.Errorf("members: %v, %v", things, err)
	}
	groups, err := r.GroupsOf("a")
	if err != nil || len(groups) != 2 || groups[0].Name != "online" || !r.Within("a", "online") || r.Within("b", "online") {
		t.Errorf("groups: %v, %v", groups, err)
	}
	if th, _ := r.Thing("a"); len(th.Groups) != 1 {
		t.Errorf("the listing changed the thing: %v", th.Groups)
	}
	q, _ := indexquery.Parse("thingGroupNames:static")
	if things, _ := r.Search(q, registry.Page{}); len(things) != 1 || things[0].Name != "a" {
		t.Errorf("search: %v", things)
	}
	for name, err := range map[string]error{
		"member by hand": r.do(func(tx *registry.Tx) error { return tx.AddToGroup("b", "online") }),
		"as a parent": r.do(func(tx *registry.Tx) error {
			_, err := tx.CreateGroup(registry.GroupInput{Name: "x", Parent: "online"})
			return err
		}),
		"with a parent": r.do(func(tx *registry.Tx) error {
			_, err := tx.CreateGroup(registry.GroupInput{Name: "x", Parent: "static", Query: "*"})
			return err
		}),
		"a bad query": r.do(func(tx *registry.Tx) error {
			_, err := tx.CreateGroup(registry.GroupInput{Name: "x", Query: "a:"})
			return err
		}),
		"a policy":          r.do(func(tx *registry.Tx) error { return tx.AttachPolicy("p", r.ARN("thinggroup", "online")) }),
		"deleted as static": r.do(func(tx *registry.Tx) error { return tx.DeleteGroup("online", false, 0) }),
		"updated as static": r.do(func(tx *registry.Tx) error { _, err := tx.UpdateGroup("online", registry.GroupUpdate{}); return err }),
	} {
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want fault.Invalid", name, err)
		}
	}
}

func TestPolicies(t *testing.T) {
	r := newRig(t)
	version := func(doc string, def bool) error {
		return r.do(func(tx *registry.Tx) error { _, err := tx.CreatePolicyVersion("p", doc, def); return err })
	}
	create := func(name, doc string) error {
		return r.do(func(tx *registry.Tx) error { _, err := tx.CreatePolicy(name, doc, nil); return err })
	}
	want(t, create("p", `{}`), fault.Invalid, registry.ErrPolicy)
	want(t, create("p", `{"Version":"2012-10-17","Statement":[],"Id":"`+strings.Repeat("x", 2048)+`"}`), fault.Invalid, registry.ErrPolicy)
	want(t, create("p q", open), fault.Invalid, nil)
	if err := create("p", open); err != nil {
		t.Fatal(err)
	}
	want(t, create("p", open), fault.Exists, nil)
	want(t, version(`{"Version":"2012-10-17"}`, true), fault.Invalid, registry.ErrPolicy)
	const shut = `{"Version":"2012-10-17","Statement":[]}`
	for i := range 4 {
		if err := version(shut, i == 0); err != nil {
			t.Fatal(err)
		}
	}
	want(t, version(shut, false), fault.LimitExceeded, registry.ErrVersions)
	p, _ := r.Policy("p")
	if p.Default != "2" || len(p.Versions) != 5 || p.Version("5").Document != shut || p.Document() == nil {
		t.Errorf("got %+v", p)
	}
	want(t, r.do(func(tx *registry.Tx) error { return tx.DeletePolicyVersion("p", "2") }), fault.Conflict, registry.ErrInUse)
	want(t, r.do(func(tx *registry.Tx) error { return tx.DeletePolicyVersion("p", "9") }), fault.NotFound, nil)
	want(t, r.do(func(tx *registry.Tx) error { return tx.SetDefaultVersion("p", "9") }), fault.NotFound, nil)
	want(t, r.do(func(tx *registry.Tx) error { return tx.DeletePolicy("p") }), fault.Conflict, registry.ErrInUse)
	r.must(func(tx *registry.Tx) error {
		return errors.Join(tx.SetDefaultVersion("p", "1"), tx.DeletePolicyVersion("p", "2"), tx.DeletePolicyVersion("p", "5"))
	})
	if err := version(shut, false); err != nil {
		t.Fatal(err)
	}
	if p, _ := r.Policy("p"); p.Version("6") == nil {
		t.Error("a version's number was used again")
	}
	_, arn := r.certificate(registry.Active)
	r.must(func(tx *registry.Tx) error {
		return errors.Join(tx.DeletePolicyVersion("p", "3"), tx.DeletePolicyVersion("p", "4"), tx.DeletePolicyVersion("p", "6"), tx.AttachPolicy("p", arn), tx.AttachPolicy("p", arn))
	})
	want(t, r.do(func(tx *registry.Tx) error { return tx.DeletePolicy("p") }), fault.Conflict, registry.ErrInUse)
	if targets, _, err := r.Targets("p", registry.Page{}); err != nil || fmt.Sprint(targets) != fmt.Sprint([]string{arn}) {
		t.Errorf("targets: %v, %v", targets, err)
	}
	for _, target := range []string{r.ARN("cert", strings.Repeat("0", 64)), r.ARN("thinggroup", "none")} {
		want(t, r.do(func(tx *registry.Tx) error { return tx.AttachPolicy("p", target) }), fault.NotFound, nil)
	}
	for _, target := range []string{"arn:aws:iot:elsewhere:1:cert/x", "nonsense", r.ARN("thing", "a")} {
		want(t, r.do(func(tx *registry.Tx) error { return tx.AttachPolicy("p", target) }), fault.Invalid, nil)
	}
	r.must(func(tx *registry.Tx) error {
		return errors.Join(tx.AttachPolicy("p", "eu-1:0123-abcd"), tx.DetachPolicy("p", "eu-1:0123-abcd"), tx.DetachPolicy("p", arn), tx.DetachPolicy("p", arn), tx.DeletePolicy("p"))
	})
}

func TestPoliciesOfGroupsReachMembersBelow(t *testing.T) {
	r := newRig(t)
	_, arn := r.certificate(registry.Active)
	_, stranger := r.certificate(registry.Active)
	r.must(func(tx *registry.Tx) error {
		_, e1 := tx.CreateGroup(registry.GroupInput{Name: "building"})
		_, e2 := tx.CreateGroup(registry.GroupInput{Name: "floor", Parent: "building"})
		_, e3 := tx.CreateThing(registry.ThingInput{Name: "low"})
		_, e4 := tx.CreateThing(registry.ThingInput{Name: "high"})
		_, e5 := tx.CreatePolicy("b", open, nil)
		_, e6 := tx.CreatePolicy("f", open, nil)
		_, e7 := tx.CreatePolicy("own", open, nil)
		return errors.Join(e1, e2, e3, e4, e5, e6, e7, tx.AddToGroup("low", "floor"), tx.AddToGroup("high", "building"),
			tx.AttachPolicy("b", r.ARN("thinggroup", "building")), tx.AttachPolicy("f", r.ARN("thinggroup", "floor")), tx.AttachPolicy("own", arn),
			tx.AttachPrincipal("low", arn, false), tx.AttachPrincipal("high", arn, false))
	})
	for _, c := range []struct{ principal, thing, want string }{
		{arn, "low", "b f own"}, {arn, "high", "b own"}, {arn, "none", "own"}, {arn, "", "own"}, {stranger, "low", ""},
	} {
		if got := policyNames(r.Effective(c.principal, c.thing)); got != c.want {
			t.Errorf("%s as %q: got %q, want %q", c.principal[len(c.principal)-4:], c.thing, got, c.want)
		}
	}
	for thing, want := range map[string]string{"low": "b f", "high": "b", "none": "", "": ""} {
		if got := policyNames(r.Inherited(thing)); got != want {
			t.Errorf("the groups of %q: got %q, want %q", thing, got, want)
		}
	}
	ps, _, err := r.AttachedPolicies(r.ARN("thinggroup", "floor"), true, registry.Page{})
	if err != nil || policyNames(ps) != "b f" {
		t.Errorf("attached: %v, %v", policyNames(ps), err)
	}
	r.must(func(tx *registry.Tx) error { return tx.DeleteGroup("floor", false, 0) })
	if got := policyNames(r.Effective(arn, "low")); got != "own" {
		t.Errorf("after the group is gone: %q", got)
	}
	if targets, _, _ := r.Targets("f", registry.Page{}); len(targets) != 0 {
		t.Errorf("the policy is still attached to %v", targets)
	}
}

func TestExclusiveAttachment(t *testing.T) {
	r := newRig(t)
	_, arn := r.certificate(registry.Active)
	r.must(func(tx *registry.Tx) error {
		_, e1 := tx.CreateThing(registry.ThingInput{Name: "a"})
		_, e2 := tx.CreateThing(registry.ThingInput{Name: "b"})
		return errors.Join(e1, e2, tx.AttachPrincipal("a", arn, true))
	})
	want(t, r.do(func(tx *registry.Tx) error { return tx.AttachPrincipal("b", arn, false) }), fault.Invalid, nil)
	r.must(func(tx *registry.Tx) error {
		return errors.Join(tx.AttachPrincipal("a", arn, false), tx.AttachPrincipal("b", arn, false))
	})
	want(t, r.do(func(tx *registry.Tx) error { return tx.AttachPrincipal("b", arn, true) }), fault.Invalid, nil)
	if th, attached := r.Stands(arn, "b"); th == nil || th.Name != "b" || !attached {
		t.Errorf("stands for %v, %v", th, attached)
	}
	if th, attached := r.Stands("someone", "b"); th == nil || attached {
		t.Errorf("a stranger: %v, %v", th, attached)
	}
	if th, _ := r.Stands(arn, "c"); th != nil {
		t.Errorf("a client id that is no thing: %v", th)
	}
	links, _, err := r.ThingsOf(arn, registry.Page{Max: 1})
	if err != nil || len(links) != 1 || links[0].Thing != "a" || links[0].Exclusive {
		t.Errorf("things: %v, %v", links, err)
	}
}

func TestCertificates(t *testing.T) {
	r := newRig(t)
	id, arn := r.certificate(registry.Inactive)
	c, _ := r.Certificate(id)
	add := func(text string, s registry.Status) error {
		return r.do(func(tx *registry.Tx) error {
			_, err := tx.AddCertificate(registry.CertificateInput{PEM: text, Status: s, Mode: registry.ModeSNIOnly})
			return err
		})
	}
	want(t, add(c.PEM, registry.Active), fault.Exists, nil)
	want(t, add("nonsense", registry.Active), fault.Invalid, registry.ErrCertificate)
	fresh, _, _ := selfSigned(t, nil)
	want(t, add(fresh, registry.Revoked), fault.Invalid, nil)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: start.AddDate(1, 0, 0)}
	text, _ := signed(t, tpl, tpl, &weak.PublicKey, weak)
	want(t, add(text, registry.Active), fault.Invalid, registry.ErrCertificate)
	sound, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tpl.SignatureAlgorithm = x509.SHA1WithRSA
	text, _ = signed(t, tpl, tpl, &sound.PublicKey, sound)
	want(t, add(text, registry.Active), fault.Invalid, registry.ErrCertificate)
	status := func(s registry.Status) error {
		return r.do(func(tx *registry.Tx) error { return tx.SetCertificateStatus(id, s) })
	}
	del := func(force bool) error {
		return r.do(func(tx *registry.Tx) error { return tx.DeleteCertificate(id, force) })
	}
	want(t, status(registry.PendingActivation), fault.Invalid, nil)
	if err := status(registry.Active); err != nil {
		t.Fatal(err)
	}
	if c, _ := r.Certificate(id); c.Status != registry.Active || c.Version != 2 {
		t.Errorf("got %+v", c)
	}
	want(t, del(true), fault.Conflict, registry.ErrCertState)
	r.must(func(tx *registry.Tx) error {
		_, e1 := tx.CreatePolicy("p", open, nil)
		_, e2 := tx.CreateThing(registry.ThingInput{Name: "a"})
		return errors.Join(e1, e2, tx.AttachPolicy("p", arn), tx.AttachPrincipal("a", arn, false), tx.SetCertificateStatus(id, registry.Revoked))
	})
	want(t, del(true), fault.Conflict, registry.ErrInUse)
	r.must(func(tx *registry.Tx) error { return tx.DetachPrincipal("a", arn) })
	want(t, del(false), fault.Conflict, registry.ErrInUse)
	if err := del(true); err != nil {
		t.Error(err)
	}
	if targets, _, _ := r.Targets("p", registry.Page{}); len(targets) != 0 {
		t.Errorf("still attached to %v", targets)
	}
}

func TestCertificatesOfUnfinishedProvisioningGo(t *testing.T) {
	r := newRig(t)
	text, c, _ := selfSigned(t, nil)
	kept, k, _ := selfSigned(t, nil)
	r.must(func(tx *registry.Tx) error {
		for _, p := range []string{text, kept} {
			if _, err := tx.AddCertificate(registry.CertificateInput{PEM: p, Status: registry.PendingActivation, Mode: registry.ModeDefault, Expires: start.Add(time.Hour)}); err != nil {
				return err
			}
		}
		return tx.SetCertificateStatus(registry.CertificateID(k), registry.Active)
	})
	r.clk.Advance(61 * time.Minute)
	r.must(func(tx *registry.Tx) error { return tx.DropExpired() })
	_, err := r.Certificate(registry.CertificateID(c))
	want(t, err, fault.NotFound, nil)
	if _, err := r.Certificate(registry.CertificateID(k)); err != nil {
		t.Error(err)
	}
}

func TestAuthorities(t *testing.T) {
	r := newRig(t)
	caPEM, ca, key := selfSigned(t, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.Subject.CommonName = true, true, "their CA"
		c.KeyUsage = x509.KeyUsageCertSign
	})
	leaf := func(cn string) (string, *x509.Certificate) {
		k, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		return signed(t, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: cn}, NotAfter: start.AddDate(1, 0, 0)}, ca, &k.PublicKey, key)
	}
	add := func(in registry.CAInput) error {
		return r.do(func(tx *registry.Tx) error { _, err := tx.AddCA(in); return err })
	}
	verification, _ := leaf("code")
	wrongCode, _ := leaf("other")
	foreign, _, _ := selfSigned(t, func(c *x509.Certificate) { c.Subject.CommonName = "code" })
	want(t, add(registry.CAInput{PEM: caPEM, Mode: registry.ModeDefault, Code: "code", Verification: wrongCode}), fault.Invalid, registry.ErrRegistration)
	want(t, add(registry.CAInput{PEM: caPEM, Mode: registry.ModeDefault, Code: "code", Verification: foreign}), fault.Invalid, registry.ErrCertificate)
	want(t, add(registry.CAInput{PEM: foreign, Mode: registry.ModeSNIOnly}), fault.Invalid, registry.ErrCertificate)
	if err := add(registry.CAInput{PEM: caPEM, Mode: registry.ModeDefault, Code: "code", Verification: verification, Status: registry.Active, Auto: true}); err != nil {
		t.Fatal(err)
	}
	want(t, add(registry.CAInput{PEM: caPEM, Mode: registry.ModeSNIOnly}), fault.Exists, nil)
	_, device := leaf("device")
	signer := r.Signer(device)
	if signer == nil || signer.Status != registry.Active || !signer.Auto {
		t.Fatalf("signer: %+v", signer)
	}
	_, other, _ := selfSigned(t, nil)
	if r.Signer(other) != nil {
		t.Error("a foreign certificate has a signer")
	}
	want(t, r.do(func(tx *registry.Tx) error { return tx.DeleteCA(signer.ID) }), fault.Conflict, registry.ErrCertState)
	r.must(func(tx *registry.Tx) error {
		return errors.Join(tx.UpdateCA(signer.ID, func(c *registry.CA) { c.Status = registry.Inactive }), tx.DeleteCA(signer.ID))
	})
}

func TestBillingGroupsAndTags(t *testing.T) {
	r := newRig(t)
	r.must(func(tx *registry.Tx) error {
		_, e1 := tx.CreateBilling("one", "", nil)
		_, e2 := tx.CreateBilling("two", "", map[string]string{"k": "v"})
		_, e3 := tx.CreateThing(registry.ThingInput{Name: "a", Billing: "one"})
		return errors.Join(e1, e2, e3, tx.SetBilling("a", "two"), tx.ClearBilling("a", "one"))
	})
	if th, _ := r.Thing("a"); th.Billing != "two" {
		t.Errorf("billing group: %q", th.Billing)
	}
	arn := r.ARN("billinggroup", "two")
	r.must(func(tx *registry.Tx) error {
		_, err := tx.UpdateBilling("two", "text", 1)
		return errors.Join(err, tx.Tag(arn, map[string]string{"x": "y"}), tx.Untag(arn, []string{"k", "none"}))
	})
	if tags, err := r.Tags(arn); err != nil || fmt.Sprint(tags) != "map[x:y]" {
		t.Errorf("tags: %v, %v", tags, err)
	}
	want(t, r.do(func(tx *registry.Tx) error { return tx.Tag(r.ARN("thing", "a"), nil) }), fault.Invalid, nil)
	many := map[string]string{}
	for i := range 50 {
		many[fmt.Sprint(i)] = ""
	}
	want(t, r.do(func(tx *registry.Tx) error { return tx.Tag(arn, many) }), fault.LimitExceeded, nil)
	r.must(func(tx *registry.Tx) error { return tx.DeleteBilling("two", 2) })
	if th, _ := r.Thing("a"); th.Billing != "" {
		t.Errorf("billing group: %q", th.Billing)
	}
}
