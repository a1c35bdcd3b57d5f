package provision_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/provision"
	"tidegate/gateway/registry"
)

const anything = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`

// hook is a pre-provisioning hook that answers what it is told to.
type hook struct {
	answer string
	err    error
	event  map[string]any
}

func (h *hook) Call(_ context.Context, function string, event []byte) ([]byte, error) {
	h.event = map[string]any{"function": function}
	json.Unmarshal(event, &h.event)
	return []byte(h.answer), h.err
}

func (h *house) do(fn func(tx *registry.Tx) error) {
	h.Helper()
	if err := h.reg.Do("test", fn); err != nil {
		h.Fatal(err)
	}
}

func (h *house) fleet(calls provision.Caller, hooked *registry.Hook) *provision.Fleet {
	h.Helper()
	f := provision.NewFleet(h.reg, h.id, calls, h.clk, slog.New(slog.DiscardHandler))
	h.do(func(tx *registry.Tx) error {
		_, e1 := tx.CreateGroup(registry.GroupInput{Name: "north"})
		_, e2 := tx.CreatePolicy("gh-device", anything, nil)
		_, e3 := tx.CreateTemplate(registry.TemplateInput{Name: "greenhouse", Body: greenhouse, Enabled: true, Hook: hooked})
		return errors.Join(e1, e2, e3)
	})
	return f
}

func TestADeviceIsProvisionedByItsToken(t *testing.T) {
	h := newHouse(t)
	f := h.fleet(nil, nil)
	c, err := f.CreateFromCSR("claim", request(t))
	if err != nil {
		t.Fatal(err)
	}
	if have, _ := h.reg.Certificate(c.ID); have.Status != registry.PendingActivation || strings.Contains(have.Token, c.Token) {
		t.Fatalf("registered as %+v", have)
	}
	ask := func(change func(*provision.Request)) (*provision.Outcome, error) {
		r := &provision.Request{By: "claim", ClientID: "dev", Template: "greenhouse", Token: c.Token, Parameters: map[string]string{"Serial": "77"}}
		change(r)
		return f.Provision(t.Context(), r)
	}
	for what, x := range map[string]struct {
		change func(*provision.Request)
		code   fault.Code
		why    error
	}{
		"another principal": {func(r *provision.Request) { r.By = "eve" }, fault.Invalid, provision.ErrToken},
		"no token":          {func(r *provision.Request) { r.Token = "" }, fault.Invalid, provision.ErrToken},
		"another secret":    {func(r *provision.Request) { r.Token = r.Token[:80] + "AAAAAA" }, fault.Invalid, provision.ErrToken},
		"another template":  {func(r *provision.Request) { r.Template = "none" }, fault.NotFound, nil},
		"no serial":         {func(r *provision.Request) { r.Parameters = nil }, fault.Invalid, nil},
		"no such group":     {func(r *provision.Request) { r.Parameters["Site"] = "south" }, fault.NotFound, nil},
	} {
		if _, err := ask(x.change); !fault.Is(err, x.code) || x.why != nil && !errors.Is(err, x.why) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := h.reg.Thing("gh-77"); err == nil {
		t.Fatal("a provisioning that failed has left a thing")
	}
	out, err := ask(func(*provision.Request) {})
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]any{"endpointUrl": "https://n.example", "label": "Unit 77"}; out.Thing != "gh-77" || !reflect.DeepEqual(out.DeviceConfiguration, want) {
		t.Errorf("got %+v", out)
	}
	have, _ := h.reg.Certificate(c.ID)
	policies := h.reg.Effective(h.reg.ARN("cert", c.ID), "")
	if have.Status != registry.Active || have.Token != "" || len(policies) != 1 || policies[0].Name != "gh-device" {
		t.Errorf("certificate %+v, policies %v", have, policies)
	}
	if _, err := ask(func(*provision.Request) {}); !errors.Is(err, provision.ErrToken) {
		t.Errorf("the token can be used twice: %v", err)
	}
}

func TestWhatIsNotProvisionedInTimeGoes(t *testing.T) {
	h := newHouse(t)
	f := h.fleet(nil, nil)
	c, err := f.Create("claim")
	if err != nil || c.PrivateKey == "" {
		t.Fatalf("got %+v, %v", c, err)
	}
	claim, err := f.Claim("operator/ada", "greenhouse")
	if err != nil {
		t.Fatal(err)
	}
	if list, _ := h.reg.Certificates("", registry.Page{}); len(list) != 1 {
		t.Errorf("%d certificates are listed, want the one that is no claim", len(list))
	}
	h.clk.Advance(provision.ClaimLife + time.Second)
	f.Sweep()
	if _, err := h.reg.Certificate(claim.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("the claim is still there: %v", err)
	}
	h.clk.Advance(provision.TokenLife)
	if _, err := f.Provision(t.Context(), &provision.Request{By: "claim", Template: "greenhouse", Token: c.Token, Parameters: map[string]string{"Serial": "1"}}); !errors.Is(err, provision.ErrToken) {
		t.Errorf("an expired token: %v", err)
	}
	f.Sweep()
	if _, err := h.reg.Certificate(c.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("the certificate is still there: %v", err)
	}
}

func TestAClaimIsForOneTemplate(t *testing.T) {
	h := newHouse(t)
	f := h.fleet(nil, nil)
	h.do(func(tx *registry.Tx) error {
		_, err := tx.CreateTemplate(registry.TemplateInput{Name: "other", Body: greenhouse, Enabled: true})
		return err
	})
	claim, err := f.Claim("operator/ada", "other")
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.CreateFromCSR(claim.ID, request(t))
	if err != nil {
		t.Fatal(err)
	}
	r := &provision.Request{By: claim.ID, Template: "greenhouse", Token: c.Token, Parameters: map[string]string{"Serial": "1"}}
	if _, err := f.Provision(t.Context(), r); !fault.Is(err, fault.Forbidden) {
		t.Errorf("with another template: %v", err)
	}
	r.Template = "other"
	if _, err := f.Provision(t.Context(), r); err != nil {
		t.Error(err)
	}
}

func TestTheHookDecidesAndOverrides(t *testing.T) {
	h := newHouse(t)
	calls := &hook{}
	f := h.fleet(calls, &registry.Hook{Target: "arn:aws:lambda:x:y:function:gate"})
	c, err := f.CreateFromCSR("claim", request(t))
	if err != nil {
		t.Fatal(err)
	}
	r := &provision.Request{By: "claim", ClientID: "dev", Template: "greenhouse", Token: c.Token, Parameters: map[string]string{"Serial": "77"}}
	for _, x := range []hook{{answer: `{"allowProvisioning":false}`}, {answer: `{}`}, {answer: `nonsense`}, {err: fault.New(fault.Timeout, "slow")}} {
		*calls = x
		if _, err := f.Provision(t.Context(), r); !fault.Is(err, fault.Forbidden) || !errors.Is(err, provision.ErrDenied) {
			t.Errorf("%+v: %v", x, err)
		}
	}
	*calls = hook{answer: `{"allowProvisioning":true,"parameterOverrides":{"Serial":"78","AWS::IoT::Certificate::Id":"forged"}}`}
	out, err := f.Provision(t.Context(), r)
	if err != nil || out.Thing != "gh-78" || out.CertificateID != c.ID {
		t.Fatalf("got %+v, %v", out, err)
	}
	if calls.event["clientId"] != "dev" || calls.event["certificateId"] != c.ID || calls.event["claimCertificateId"] != "claim" {
		t.Errorf("the hook was told %v", calls.event)
	}
}

// signed makes an authority and a device's certificate it has signed.
func signed(t *testing.T, subject pkix.Name) (ca, device string) {
	t.Helper()
	make := func(tpl, parent *x509.Certificate, by *ecdsa.PrivateKey) (string, *x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		tpl.SerialNumber, tpl.NotBefore, tpl.NotAfter = big.NewInt(4711), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC)
		if parent == nil {
			parent, by = tpl, key
		}
		der, err := x509.CreateCertificate(rand.Reader, tpl, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		x, _ := x509.ParseCertificate(der)
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), x, key
	}
	ca, parent, key := make(&x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	device, _, _ = make(&x509.Certificate{Subject: subject}, parent, key)
	return ca, device
}

const jitp = `{"Parameters":{"AWS::IoT::Certificate::CommonName":{"Type":"String"},"AWS::IoT::Certificate::SerialNumber":{"Type":"String"},"AWS::IoT::Certificate::Id":{"Type":"String"}},
 "Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"AWS::IoT::Certificate::CommonName"},"AttributePayload":{"sn":{"Ref":"AWS::IoT::Certificate::SerialNumber"}}}},
  "certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":"ACTIVE"}},
  "policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyDocument":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}}}}}`

func TestFirstContactProvisionsOrTells(t *testing.T) {
	for _, c := range []struct {
		name, template string
		subject        pkix.Name
		status         registry.Status
		events         int
	}{
		{"registration alone", "", pkix.Name{CommonName: "d1"}, registry.PendingActivation, 1},
		{"by template", jitp, pkix.Name{CommonName: "d1", SerialNumber: "S9"}, registry.Active, 0},
		{"by template, with a gap in the subject", jitp, pkix.Name{CommonName: "d1"}, registry.PendingActivation, 0},
		{"by a template that is not one", "{}", pkix.Name{CommonName: "d1"}, registry.PendingActivation, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			caPEM, devPEM := signed(t, c.subject)
			var ca *registry.CA
			var cert *registry.Certificate
			h.do(func(tx *registry.Tx) (err error) {
				if ca, err = tx.AddCA(registry.CAInput{PEM: caPEM, Mode: registry.ModeSNIOnly, Status: registry.Active, Auto: true, Template: c.template}); err == nil {
					cert, err = tx.AddCertificate(registry.CertificateInput{PEM: devPEM, Status: registry.PendingActivation, CA: ca.ID})
				}
				return err
			})
			var sent []mqtt.Message
			f := provision.NewFirstContact(h.reg, h.id, func(m mqtt.Message, _ func(error)) { sent = append(sent, m) }, slog.New(slog.DiscardHandler))
			f.Meet(cert, ca)
			if have, _ := h.reg.Certificate(cert.ID); have.Status != c.status || len(sent) != c.events {
				t.Fatalf("status %s, %d events", have.Status, len(sent))
			}
			if c.events == 1 && (sent[0].Topic != "$aws/events/certificates/registered/"+ca.ID || !strings.Contains(string(sent[0].Payload), `"certificateStatus":"PENDING_ACTIVATION"`)) {
				t.Errorf("sent %s %s", sent[0].Topic, sent[0].Payload)
			}
			if thing, err := h.reg.Thing("d1"); c.status == registry.Active && (err != nil || thing.Attributes["sn"] != "S9") {
				t.Errorf("thing %+v, %v", thing, err)
			}
		})
	}
}
