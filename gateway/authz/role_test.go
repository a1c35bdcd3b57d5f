package authz_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/api/sigv4"
	"tidegate/gateway/authz"
	"tidegate/gateway/fault"
	"tidegate/gateway/policy"
	"tidegate/gateway/registry"
)

// lender is a rig with a device, a role of which it may have credentials, and the thing "fridge" that it is.
type lender struct {
	*rig
	peer *tls.ConnectionState
	id   string
}

const (
	roleARN  = "arn:aws:iam::000000000000:role/service/cold"
	mayHave  = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:AssumeRoleWithCertificate","Resource":"arn:aws:iot:local-1:000000000000:rolealias/cold*"}}`
	ofRole   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Connect","iot:CreateThing"],"Resource":"*"},{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:*:*:topic/${credentials-iot:ThingName}/${credentials-iot:ThingTypeName}"}]}`
	noThings = `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"iot:AssumeRoleWithCertificate","Resource":"*"}}`
)

var (
	thirtyTwo = []byte("0123456789abcdef0123456789abcdef")
	near      = netip.MustParseAddr("10.0.0.7")
)

func newLender(t *testing.T) *lender {
	r := newRig(t)
	r.Lends(func() ([]byte, error) { return thirtyTwo, nil })
	x, _ := r.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "fridge"}}, nil, nil)
	arn := r.register(x, registry.Active, mayHave)
	r.must(func(tx *registry.Tx) error {
		_, e1 := tx.CreateType(registry.TypeInput{Name: "appliance"})
		_, e2 := tx.CreateThing(registry.ThingInput{Name: "fridge", Type: "appliance"})
		_, e3 := tx.CreateThing(registry.ThingInput{Name: "oven"})
		_, e4 := tx.CreatePolicy("cold", ofRole, nil)
		return errors.Join(e1, e2, e3, e4, tx.AttachPrincipal("fridge", arn, false), tx.CreateRoleAlias(registry.RoleAlias{Name: "cold", Role: roleARN, Duration: 900}),
			tx.CreateRoleAlias(registry.RoleAlias{Name: "cold-foreign", Role: "arn:aws:iam::111111111111:role/cold"}),
			tx.CreateRoleAlias(registry.RoleAlias{Name: "cold-nothing", Role: "arn:aws:iam::000000000000:role/nothing"}))
	})
	return &lender{r, &tls.ConnectionState{PeerCertificates: []*x509.Certificate{x}, ServerName: "gw.local"}, registry.CertificateID(x)}
}

func (r *lender) lend(thing string) *authz.Lent {
	r.Helper()
	to, err := r.Assume(r.peer, near, "cold", thing)
	if err != nil {
		r.Fatal(err)
	}
	lent, err := r.Lend(to)
	if err != nil {
		r.Fatal(err)
	}
	return lent
}

// use signs a request with credentials and gives who that is.
func (r *lender) use(c sigv4.Credentials, by *authz.Authz) (*authz.Principal, error) {
	req := httptest.NewRequest("GET", "https://gw.local/topics/x", nil)
	sigv4.Sign(req, nil, c, "local-1", "iotdata", r.clk.Now())
	return by.Signed(keys{}, req, nil, "iotdata")
}

func TestCredentialsOfARole(t *testing.T) {
	r := newLender(t)
	lent := r.lend("fridge")
	if !lent.Expires.Equal(start.Add(15*time.Minute)) || len(lent.AccessKey) != 20 || len(lent.Secret) != 40 || len(lent.Token) > 1000 {
		t.Errorf("lent %+v", lent)
	}
	p, err := r.use(lent.Credentials, r.Authz)
	if err != nil || p.Name() != "assumed-role/cold/"+r.id {
		t.Fatalf("got %s, %v", p.Name(), err)
	}
	if !p.May(policy.Publish, "fridge/appliance") || p.May(policy.Publish, "oven/appliance") || p.May(policy.Subscribe, "x") {
		t.Error("it may do something else than the role")
	}
	if p.Named("iot:CreateThing", "*") {
		t.Error("a device manages the gateway")
	}
	again := authz.New(r.reg, r.clk, authz.Config{}) // a restart
	again.Lends(func() ([]byte, error) { return thirtyTwo, nil })
	if _, err := r.use(lent.Credentials, again); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	nobody := r.lend("")
	if p, err := r.use(nobody.Credentials, r.Authz); err != nil || p.May(policy.Publish, "fridge/appliance") {
		t.Errorf("a device that names no thing is one: %v", err)
	}
	for what, c := range map[string]sigv4.Credentials{
		"another secret":     {AccessKey: lent.AccessKey, Secret: nobody.Secret, Token: lent.Token},
		"no token":           {AccessKey: lent.AccessKey, Secret: lent.Secret},
		"another's token":    {AccessKey: lent.AccessKey, Secret: lent.Secret, Token: nobody.Token},
		"another's key":      {AccessKey: nobody.AccessKey, Secret: lent.Secret, Token: lent.Token},
		"a changed token":    {AccessKey: lent.AccessKey, Secret: lent.Secret, Token: flipped(lent.Token)},
		"a huge token":       {AccessKey: lent.AccessKey, Secret: lent.Secret, Token: strings.Repeat("A", 1<<16)},
		"an operator's key ": {AccessKey: "AKIX", Secret: lent.Secret, Token: lent.Token},
	} {
		if _, err := r.use(c, r.Authz); !fault.Is(err, fault.Unauthorized) || !errors.Is(err, sigv4.ErrKey) && !errors.Is(err, sigv4.ErrSignature) {
			t.Errorf("%s: %v", what, err)
		}
	}
	foreign := authz.New(r.reg, r.clk, authz.Config{})
	foreign.Lends(func() ([]byte, error) { return make([]byte, 32), nil })
	if _, err := r.use(lent.Credentials, foreign); !errors.Is(err, sigv4.ErrKey) {
		t.Errorf("with another key of the gateway: %v", err)
	}
	r.clk.Advance(15 * time.Minute)
	if _, err := r.use(lent.Credentials, r.Authz); !errors.Is(err, sigv4.ErrToken) {
		t.Errorf("after their end: %v", err)
	}
}

func flipped(token string) string {
	c := byte('A')
	if token[40] == c {
		c = 'B'
	}
	return token[:40] + string(c) + token[41:]
}

func TestWhoIsLentNothing(t *testing.T) {
	r := newLender(t)
	stranger, _ := r.issue(&x509.Certificate{}, nil, nil)
	other, _ := r.issue(&x509.Certificate{}, nil, nil)
	r.register(other, registry.Active, noThings)
	off, _ := r.issue(&x509.Certificate{}, nil, nil)
	r.register(off, registry.Inactive, mayHave)
	shows := func(x *x509.Certificate) *tls.ConnectionState {
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{x}}
	}
	for what, c := range map[string]struct {
		peer         *tls.ConnectionState
		alias, thing string
		want         fault.Code
	}{
		"no TLS":                   {nil, "cold", "", fault.Unauthorized},
		"no certificate":           {&tls.ConnectionState{}, "cold", "", fault.Unauthorized},
		"an unknown certificate":   {shows(stranger), "cold", "", fault.Unauthorized},
		"an inactive certificate":  {shows(off), "cold", "", fault.Unauthorized},
		"no such permission":       {shows(other), "cold", "", fault.Forbidden},
		"another alias":            {r.peer, "hot", "", fault.Forbidden},
		"an unknown alias":         {r.peer, "cold-not", "", fault.NotFound},
		"a role without a policy":  {r.peer, "cold-nothing", "", fault.Forbidden},
		"a role elsewhere":         {r.peer, "cold-foreign", "", fault.Forbidden},
		"another's thing":          {r.peer, "cold", "oven", fault.Forbidden},
		"a thing that is not here": {r.peer, "cold", "no", fault.Forbidden},
	} {
		if l, err := r.Assume(c.peer, near, c.alias, c.thing); !fault.Is(err, c.want) {
			t.Errorf("%s: %+v, %v, want %v", what, l, err, c.want)
		}
	}
	// What a group of the thing is denied, its certificate is when it comes as that thing.
	r.must(func(tx *registry.Tx) error {
		_, e1 := tx.CreateGroup(registry.GroupInput{Name: "sealed"})
		_, e2 := tx.CreatePolicy("none", noThings, nil)
		return errors.Join(e1, e2, tx.AttachPolicy("none", r.reg.ARN("thinggroup", "sealed")), tx.AddToGroup("fridge", "sealed"))
	})
	if _, err := r.Assume(r.peer, near, "cold", "fridge"); !fault.Is(err, fault.Forbidden) {
		t.Errorf("denied by a group: %v", err)
	}
}

func TestCredentialsEndWithWhatTheyWereLentFor(t *testing.T) {
	for what, change := range map[string]func(r *lender) func(tx *registry.Tx) error{
		"the certificate is revoked": func(r *lender) func(tx *registry.Tx) error {
			return func(tx *registry.Tx) error { return tx.SetCertificateStatus(r.id, registry.Revoked) }
		},
		"the alias is deleted": func(*lender) func(tx *registry.Tx) error {
			return func(tx *registry.Tx) error { return tx.DeleteRoleAlias("cold") }
		},
		"the alias is of another role": func(*lender) func(tx *registry.Tx) error {
			return func(tx *registry.Tx) error {
				return tx.UpdateRoleAlias("cold", "arn:aws:iam::000000000000:role/warm", 0)
			}
		},
	} {
		r := newLender(t)
		lent := r.lend("fridge")
		p, err := r.use(lent.Credentials, r.Authz)
		if err != nil {
			t.Fatal(err)
		}
		if end, _ := p.Until(); !end.Equal(lent.Expires) {
			t.Errorf("a connection lasts until %v, want %v", end, lent.Expires)
		}
		r.must(change(r))
		if p.May(policy.Publish, "fridge/appliance") {
			t.Errorf("%s: it may go on", what)
		}
		if end, _ := p.Until(); end.After(r.clk.Now()) {
			t.Errorf("%s: the connection lasts", what)
		}
		if _, err := r.use(lent.Credentials, r.Authz); !errors.Is(err, sigv4.ErrToken) {
			t.Errorf("%s: %v", what, err)
		}
	}
	r := newLender(t)
	p, err := r.use(r.lend("fridge").Credentials, r.Authz)
	if err != nil {
		t.Fatal(err)
	}
	r.must(func(tx *registry.Tx) error { return tx.DetachPrincipal("fridge", r.reg.ARN("cert", r.id)) })
	if p.May(policy.Publish, "fridge/appliance") || !p.May(policy.Connect, "x") {
		t.Error("it is still that thing")
	}
}

func TestASessionOfARoleIsRestored(t *testing.T) {
	r := newLender(t)
	name := "assumed-role/cold/" + r.id
	p := r.Restore(name, "fridge")
	if p.Name() != name || !p.May(policy.Publish, "fridge/appliance") || p.Named("iot:CreateThing", "*") {
		t.Errorf("restored %s", p.Name())
	}
	if end, _ := p.Until(); !end.IsZero() {
		t.Errorf("it ends at %v", end)
	}
	for _, x := range []struct{ name, client string }{{name, "oven"}, {"assumed-role/cold/" + strings.Repeat("0", 64), "fridge"}, {"assumed-role/no/" + r.id, "fridge"}, {"assumed-role/", "fridge"}} {
		if r.Restore(x.name, x.client).May(policy.Publish, "fridge/appliance") {
			t.Errorf("%+v may publish", x)
		}
	}
}

func TestAVaultInTroubleIsAskedRarely(t *testing.T) {
	r := newLender(t)
	to, err := r.Assume(r.peer, near, "cold", "")
	if err != nil {
		t.Fatal(err)
	}
	asked, wrong := 0, errors.New("no answer")
	a := authz.New(r.reg, r.clk, authz.Config{})
	a.Lends(func() ([]byte, error) { asked++; return thirtyTwo, wrong })
	for range 3 {
		if _, err := a.Lend(to); !fault.Is(err, fault.Unavailable) {
			t.Errorf("got %v", err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	wrong = nil
	r.clk.Advance(10 * time.Second)
	if _, err := a.Lend(to); err != nil || asked != 2 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	if _, err := authz.New(r.reg, r.clk, authz.Config{}).Lend(to); !fault.Is(err, fault.Unavailable) {
		t.Errorf("where there is no lending: %v", err)
	}
}

// What strangers send as a session token is no way in, and no way to stop the gateway.
func FuzzSessionToken(f *testing.F) {
	f.Add("", "")
	f.Add("ASIAAAAAAAAAAAAAAAAA", "AAAA")
	f.Add("ASIA", strings.Repeat("A", 200))
	var r *lender
	f.Fuzz(func(t *testing.T, accessKey, token string) {
		if r == nil {
			r = newLender(t)
		}
		req := httptest.NewRequest("GET", "https://gw.local/topics/x", nil)
		req.Header = http.Header{"X-Amz-Security-Token": {token}}
		sigv4.Sign(req, nil, sigv4.Credentials{AccessKey: accessKey, Secret: "secret", Token: token}, "local-1", "iotdata", start)
		if p, err := r.Signed(keys{}, req, nil, "iotdata"); err == nil && p.Name() != "operator/ada" {
			t.Errorf("%q %q is %s", accessKey, token, p.Name())
		}
	})
}
