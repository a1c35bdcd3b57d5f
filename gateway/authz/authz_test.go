package authz_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"tidegate/gateway/authz"
	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/policy"
	"tidegate/gateway/registry"
	"tidegate/gateway/store"
)

var start = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

type rig struct {
	*testing.T
	clk *clocktest.Manual
	reg *registry.Registry
	*authz.Authz
}

func newRig(t *testing.T, anonymous ...string) *rig {
	t.Helper()
	clk := clocktest.New(start)
	cfg := store.DefaultConfig(t.TempDir())
	cfg.LogFileSize, cfg.Ballast = 1<<20, -1
	db, err := store.Open(cfg, clk)
	if err != nil {
		t.Fatal(err)
	}
	reg, err := registry.Open(db, clk, registry.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- db.Run(ctx, func() {}) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		db.Close()
	})
	return &rig{t, clk, reg, authz.New(reg, clk, authz.Config{Anonymous: anonymous})}
}

func (r *rig) must(fn func(tx *registry.Tx) error) {
	r.Helper()
	if err := r.reg.Do("test", fn); err != nil {
		r.Fatal(err)
	}
}

// issue makes a certificate, signed by parent or by itself.
func (r *rig) issue(tpl, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	r.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.Fatal(err)
	}
	if tpl.SerialNumber == nil {
		tpl.SerialNumber = big.NewInt(77)
	}
	if tpl.NotAfter.IsZero() {
		tpl.NotBefore, tpl.NotAfter = start.Add(-time.Hour), start.AddDate(1, 0, 0)
	}
	if parent == nil {
		parent, parentKey = tpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, &key.PublicKey, parentKey)
	if err != nil {
		r.Fatal(err)
	}
	x, err := x509.ParseCertificate(der)
	if err != nil {
		r.Fatal(err)
	}
	return x, key
}

func text(x *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: x.Raw}))
}

// register adds a certificate with a policy of its own.
func (r *rig) register(x *x509.Certificate, status registry.Status, document string) (arn string) {
	r.Helper()
	arn = r.reg.ARN("cert", registry.CertificateID(x))
	r.must(func(tx *registry.Tx) error {
		_, e1 := tx.AddCertificate(registry.CertificateInput{PEM: text(x), Status: status, Mode: registry.ModeDefault})
		_, e2 := tx.CreatePolicy("p"+registry.CertificateID(x)[:8], document, nil)
		return errors.Join(e1, e2, tx.AttachPolicy("p"+registry.CertificateID(x)[:8], arn))
	})
	return arn
}

func request(clientID string, x *x509.Certificate) *authz.Request {
	r := &authz.Request{ClientID: clientID, Listener: "mqtts", Remote: netip.MustParseAddr("10.0.0.7"), TLS: &tls.ConnectionState{ServerName: "gw.local"}}
	if x != nil {
		r.TLS.PeerCertificates = []*x509.Certificate{x}
	}
	return r
}

const (
	everything = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`
	byThing    = `{"Version":"2012-10-17","Statement":[
	{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:*:*:client/${iot:Connection.Thing.ThingName}"},
	{"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":"arn:aws:iot:*:*:topic/${iot:Connection.Thing.Attributes[site]}/*"},
	{"Effect":"Allow","Action":"iot:Subscribe","Resource":"arn:aws:iot:*:*:topicfilter/${iot:ClientId}/#"}]}`
)

func TestAnonymousClientsAreLetInOnlyWhereTheyMay(t *testing.T) {
	r := newRig(t, "mqtt", "ws")
	p, err := r.Connect(&authz.Request{ClientID: "a", Listener: "mqtt"})
	if err != nil || p.Name() != authz.Anonymous {
		t.Fatalf("got %v, %v", p, err)
	}
	if !r.MayPublish(p, "a/b", true) || !r.MaySubscribe(p, "#") || !r.MayReceive(p, "x") {
		t.Error("the dev policy does not allow all")
	}
	for _, listener := range []string{"mqtts", "", "mqtt2"} {
		if _, err := r.Connect(&authz.Request{ClientID: "a", Listener: listener}); !fault.Is(err, fault.Unauthorized) {
			t.Errorf("on %q: %v, want fault.Unauthorized", listener, err)
		}
	}
	r.must(func(tx *registry.Tx) error {
		_, err := tx.CreatePolicy(authz.DevPolicy, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Connect","iot:Publish"],"Resource":["*"]}]}`, nil)
		return err
	})
	if !r.MayPublish(p, "a", false) || r.MayPublish(p, "a", true) || r.MaySubscribe(p, "a") {
		t.Error("a registered policy dev is not in force at once")
	}
	if q := r.Restore(authz.Anonymous, "a"); !r.MayPublish(q, "a", false) {
		t.Error("a stored session has lost its rights")
	}
	if q := newRig(t).Restore(authz.Anonymous, "a"); q.May(policy.Publish, "a") {
		t.Error("a stored session of an anonymous client has rights where there are none")
	}
}

func TestCertificateWithThingVariables(t *testing.T) {
	r := newRig(t)
	x, _ := r.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "c"}}, nil, nil)
	arn := r.register(x, registry.Active, byThing)
	r.must(func(tx *registry.Tx) error {
		_, e1 := tx.CreateThing(registry.ThingInput{Name: "pump", Attributes: map[string]string{"site": "north"}})
		_, e2 := tx.CreateThing(registry.ThingInput{Name: "foreign", Attributes: map[string]string{"site": "north"}})
		return errors.Join(e1, e2, tx.AttachPrincipal("pump", arn, false))
	})
	p, err := r.Connect(request("pump", x))
	if err != nil {
		t.Fatal(err)
	}
	if p.Name() != registry.CertificateID(x) {
		t.Errorf("name: %s", p.Name())
	}
	for _, c := range []struct {
		what      string
		got, want bool
	}{
		{"publish below its site", r.MayPublish(p, "north/a", false), true},
		{"publish elsewhere", r.MayPublish(p, "south/a", false), false},
		{"retain", r.MayPublish(p, "north/a", true), false},
		{"its filter", r.MaySubscribe(p, "pump/#"), true},
		{"its filter, shared", r.MaySubscribe(p, "$share/g/pump/#"), true},
		{"another filter", r.MaySubscribe(p, "#"), false},
		{"another filter, shared", r.MaySubscribe(p, "$share/pump/#"), false},
		{"receive", r.MayReceive(p, "north/x"), true},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", c.what, c.got, c.want)
		}
	}
	for _, id := range []string{"foreign", "none", "*", "${iot:Connection.Thing.ThingName}"} {
		if _, err := r.Connect(request(id, x)); !fault.Is(err, fault.Forbidden) {
			t.Errorf("client id %q: %v, want fault.Forbidden", id, err)
		}
	}
	r.must(func(tx *registry.Tx) error {
		_, err := tx.UpdateThing("pump", registry.ThingUpdate{Attributes: map[string]string{"site": "south"}})
		return err
	})
	if r.MayPublish(p, "north/a", false) || !r.MayPublish(p, "south/a", false) {
		t.Error("a changed attribute is not in force at once")
	}
	if q := r.Restore(p.Name(), "pump"); !r.MayReceive(q, "south/x") {
		t.Error("a stored session has lost its rights")
	}
	if q := r.Restore("nobody", "pump"); r.MayReceive(q, "south/x") {
		t.Error("nobody has rights")
	}
}

func TestStatusAndDatesOfCertificates(t *testing.T) {
	r := newRig(t)
	ok, _ := r.issue(&x509.Certificate{}, nil, nil)
	expired, _ := r.issue(&x509.Certificate{NotBefore: start.AddDate(-1, 0, 0), NotAfter: start.Add(-time.Second)}, nil, nil)
	early, _ := r.issue(&x509.Certificate{NotBefore: start.Add(time.Hour), NotAfter: start.AddDate(1, 0, 0)}, nil, nil)
	inactive, _ := r.issue(&x509.Certificate{}, nil, nil)
	pending, _ := r.issue(&x509.Certificate{}, nil, nil)
	unknown, _ := r.issue(&x509.Certificate{}, nil, nil)
	for x, s := range map[*x509.Certificate]registry.Status{ok: registry.Active, expired: registry.Active, early: registry.Active, inactive: registry.Inactive, pending: registry.PendingActivation} {
		r.register(x, s, everything)
	}
	if _, err := r.Connect(request("c", ok)); err != nil {
		t.Error(err)
	}
	for name, x := range map[string]*x509.Certificate{"expired": expired, "not yet valid": early, "inactive": inactive, "pending": pending, "unknown": unknown, "none": nil} {
		if _, err := r.Connect(request("c", x)); !fault.Is(err, fault.Unauthorized) {
			t.Errorf("%s: %v, want fault.Unauthorized", name, err)
		}
	}
	r.clk.SetTrusted(false)
	r.clk.Set(time.Unix(100, 0))
	for name, x := range map[string]*x509.Certificate{"valid": ok, "of the future": early} {
		if _, err := r.Connect(request("c", x)); err != nil {
			t.Errorf("in 1970, %s: %v", name, err)
		}
	}
}

func TestRevocationWorksAtOnce(t *testing.T) {
	r := newRig(t)
	x, _ := r.issue(&x509.Certificate{}, nil, nil)
	arn := r.register(x, registry.Active, everything)
	var cut []string
	told := 0
	r.OnRevoked(func(p string) { cut = append(cut, p) })
	r.OnChange(func() { told++ })
	p, err := r.Connect(request("c", x))
	if err != nil {
		t.Fatal(err)
	}
	name := "p" + registry.CertificateID(x)[:8]
	r.must(func(tx *registry.Tx) error { return tx.DetachPolicy(name, arn) })
	if r.MayPublish(p, "a", false) {
		t.Error("a detached policy still allows")
	}
	r.must(func(tx *registry.Tx) error { return tx.AttachPolicy(name, arn) })
	if !r.MayPublish(p, "a", false) {
		t.Error("an attached policy does not allow")
	}
	r.must(func(tx *registry.Tx) error { return tx.SetCertificateStatus(p.Name(), registry.Revoked) })
	if r.MayPublish(p, "a", false) || r.MayReceive(p, "a") {
		t.Error("a revoked certificate still may")
	}
	if len(cut) != 1 || cut[0] != p.Name() {
		t.Errorf("to be cut: %v", cut)
	}
	r.clk.Advance(time.Second)
	if told != 1 {
		t.Errorf("caches were told %d times, want once", told)
	}
	if _, err := r.Connect(request("c", x)); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("connecting again: %v", err)
	}
}

func TestConnectAttributesAndWill(t *testing.T) {
	r := newRig(t)
	x, _ := r.issue(&x509.Certificate{}, nil, nil)
	r.register(x, registry.Active, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*",
		"Condition":{"ForAllValues:StringEquals":{"iot:ConnectAttributes":["LastWill"]},"ArnLikeIfExists":{"iot:LastWillTopic":"arn:aws:iot:*:*:topic/will/*"},
		"IpAddress":{"aws:SourceIp":"10.0.0.0/8"},"StringEquals":{"iot:DomainName":"gw.local"}}}]}`)
	for _, c := range []struct {
		persistent bool
		will       string
		ok         bool
	}{{false, "", true}, {false, "will/x", true}, {false, "other", false}, {true, "", false}} {
		req := request("c", x)
		req.Persistent, req.Will, req.WillTopic = c.persistent, c.will != "", c.will
		if _, err := r.Connect(req); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestJustInTimeRegistration(t *testing.T) {
	r := newRig(t)
	ca, caKey := r.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	device, _ := r.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "d"}}, ca, caKey)
	forged, _ := r.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "d"}, Issuer: ca.Subject}, nil, nil)
	var seen []authz.Contact
	r.OnContact(func(c authz.Contact) { seen = append(seen, c) })
	var caID string
	r.must(func(tx *registry.Tx) error {
		c, err := tx.AddCA(registry.CAInput{PEM: text(ca), Mode: registry.ModeSNIOnly, Status: registry.Active})
		if err == nil {
			caID = c.ID
		}
		return err
	})
	connect := func(x *x509.Certificate) {
		t.Helper()
		if _, err := r.Connect(request("d", x)); !fault.Is(err, fault.Unauthorized) {
			t.Errorf("got %v, want fault.Unauthorized", err)
		}
	}
	connect(device)
	r.must(func(tx *registry.Tx) error { return tx.UpdateCA(caID, func(c *registry.CA) { c.Auto = true }) })
	connect(forged)
	if len(seen) != 0 {
		t.Fatalf("seen before automatic registration: %+v", seen)
	}
	connect(device)
	connect(device)
	if len(seen) != 2 || !seen[0].New || seen[1].New || seen[1].CA.ID != caID || seen[0].Certificate.Status != registry.PendingActivation {
		t.Fatalf("seen: %+v", seen)
	}
	r.must(func(tx *registry.Tx) error {
		id := seen[0].Certificate.ID
		_, err := tx.CreatePolicy("p", everything, nil)
		return errors.Join(err, tx.AttachPolicy("p", r.reg.ARN("cert", id)), tx.SetCertificateStatus(id, registry.Active))
	})
	if _, err := r.Connect(request("d", device)); err != nil {
		t.Error(err)
	}
}

func TestATypePropagatesWhatItsThingsHave(t *testing.T) {
	r := newRig(t)
	x, _ := r.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "c"}}, nil, nil)
	arn := r.register(x, registry.Active, authz.DevDocument)
	propagate := func(tx *registry.Tx, ps ...registry.Propagating) error {
		return tx.UpdateType(registry.TypeInput{Name: "pump", Propagating: ps})
	}
	r.must(func(tx *registry.Tx) error {
		_, e1 := tx.CreateType(registry.TypeInput{Name: "pump"})
		_, e2 := tx.CreateThing(registry.ThingInput{Name: "p1", Type: "pump", Attributes: map[string]string{"site": "north"}})
		_, e3 := tx.CreateThing(registry.ThingInput{Name: "p2", Type: "pump", Attributes: map[string]string{"site": "south"}})
		return errors.Join(e1, e2, e3, tx.AttachPrincipal("p1", arn, false))
	})
	p, err := r.Connect(request("p1", x))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := r.Connect(request("p2", x))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.UserProps(); got != nil {
		t.Errorf("before the type propagates anything: %v", got)
	}
	r.must(func(tx *registry.Tx) error {
		return propagate(tx, registry.Propagating{UserPropertyKey: "s", ThingAttribute: "site"}, registry.Propagating{UserPropertyKey: "none", ThingAttribute: "none"},
			registry.Propagating{UserPropertyKey: "c", ConnectionAttribute: "iot:ClientId"}, registry.Propagating{UserPropertyKey: "t", ConnectionAttribute: "iot:Thing.ThingName"})
	})
	if got := fmt.Sprint(p.UserProps()); got != "[{s north} {c p1} {t p1}]" {
		t.Errorf("got %s", got)
	}
	if got := foreign.UserProps(); got != nil {
		t.Errorf("of a thing it is not attached to: %v", got)
	}
	r.must(func(tx *registry.Tx) error { return tx.DetachPrincipal("p1", arn) })
	if got := p.UserProps(); got != nil {
		t.Errorf("after it was detached: %v", got)
	}
}

func TestPeersOverHTTPSHaveNoThingVariables(t *testing.T) {
	r := newRig(t)
	x, _ := r.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "cn", Country: []string{"DE", "FR"}}, DNSNames: []string{"h.example"}}, nil, nil)
	arn := r.register(x, registry.Active, `{"Version":"2012-10-17","Statement":[
	{"Effect":"Allow","Action":"iot:Publish","Resource":["arn:aws:iot:*:*:topic/${iot:Connection.Thing.ThingName}","arn:aws:iot:*:*:topic/${iot:Certificate.Subject.CommonName}/${iot:Certificate.Subject.AlternativeName.DNSName}/${iot:Certificate.SerialNumber}"]}]}`)
	r.must(func(tx *registry.Tx) error {
		_, err := tx.CreateThing(registry.ThingInput{Name: "t"})
		return errors.Join(err, tx.AttachPrincipal("t", arn, true))
	})
	p, err := r.Peer(request("", x).TLS, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	if p.May(policy.Publish, "t") || !p.May(policy.Publish, "cn/h.example/77") {
		t.Error("wrong variables")
	}
	if p, err := r.Peer(nil, netip.Addr{}); p != nil || err != nil {
		t.Errorf("without a certificate: %v, %v", p, err)
	}
}

func TestOperatorsAndFurtherMethods(t *testing.T) {
	r := newRig(t)
	doc, err := policy.Parse([]byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Describe*","iot:Connect"],"Resource":"*"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	there := true
	op := r.Operator("ada", func() ([]*policy.Document, bool) { return []*policy.Document{doc}, there })
	if op.Name() != "operator/ada" || !op.Named("iot:DescribeThing", "*") || op.Named("iot:CreateThing", "*") {
		t.Error("the role is not in force")
	}
	p, err := r.Connect(&authz.Request{ClientID: "console", Signed: op, Listener: "https"})
	if err != nil || !p.May(policy.Connect, "console") || p.May(policy.Publish, "a") {
		t.Errorf("over WebSocket: %v, %v", p, err)
	}
	var nobody *authz.Principal
	if nobody.May(policy.Publish, "a") || nobody.Named("iot:X", "*") || nobody.Name() != "" {
		t.Error("a nil principal may something")
	}
}
