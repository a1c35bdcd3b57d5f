package provision_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/identity"
	"tidegate/gateway/provision"
	"tidegate/gateway/registry"
	"tidegate/gateway/store"
)

func rooms(t *testing.T) (*registry.Registry, *identity.Identity) {
	t.Helper()
	h := newHouse(t)
	return h.reg, h.id
}

type house struct {
	*testing.T
	dir string
	clk *clocktest.Manual
	db  *store.Store
	reg *registry.Registry
	id  *identity.Identity
}

func newHouse(t *testing.T) *house {
	t.Helper()
	dir, clk := t.TempDir(), clocktest.New(time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC))
	cfg := store.DefaultConfig(dir)
	cfg.LogFileSize, cfg.Ballast = 1<<20, -1
	db, err := store.Open(cfg, clk)
	if err != nil {
		t.Fatal(err)
	}
	reg, err := registry.Open(db, clk, registry.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	vault, err := identity.FileVault(filepath.Join(dir, "pki"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.Open(vault, clk, identity.DefaultConfig(filepath.Join(dir, "pki")))
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
	return &house{t, dir, clk, db, reg, id}
}

func request(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func register(t *testing.T, reg *registry.Registry, id *identity.Identity, body string, params map[string]string) (*provision.Outcome, error) {
	t.Helper()
	tpl, err := provision.ParseTemplate(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := tpl.Resolve(params, false)
	if err != nil {
		return nil, err
	}
	return provision.Register(reg, "test", id, r)
}

const device = `{"Parameters":{"Name":{"Type":"String"},"CSR":{"Type":"String"},"Site":{"Type":"String","Default":"north"}},"Resources":{
 "thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"Name"},"AttributePayload":{"site":{"Ref":"Site"}},"ThingGroups":["g1"]},"OverrideSettings":{%s}},
 "certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":{"Ref":"CSR"},"Status":"Active"}},
 "policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyDocument":{"Version":"2012-10-17","Statement":[]}}}}}`

func TestRegister(t *testing.T) {
	reg, id := rooms(t)
	params := func(site string) map[string]string {
		return map[string]string{"Name": "pump", "CSR": request(t), "Site": site}
	}
	if _, err := register(t, reg, id, fmt.Sprintf(device, ""), params("a")); !fault.Is(err, fault.NotFound) {
		t.Errorf("without the group: %v", err)
	}
	if _, err := reg.Thing("pump"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a failed registration left its thing: %v", err)
	}
	if certs, _ := reg.Certificates("", registry.Page{}); len(certs) != 0 {
		t.Errorf("a failed registration left %d certificates", len(certs))
	}
	err := reg.Do("test", func(tx *registry.Tx) error {
		_, e1 := tx.CreateGroup(registry.GroupInput{Name: "g1"})
		_, e2 := tx.CreateGroup(registry.GroupInput{Name: "g2"})
		return errors.Join(e1, e2)
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := register(t, reg, id, fmt.Sprintf(device, ""), params("a"))
	if err != nil {
		t.Fatal(err)
	}
	arn := reg.ARN("cert", out.CertificateID)
	policies := reg.Effective(arn, "pump")
	if out.Thing != "pump" || out.ARNs["thing"] != reg.ARN("thing", "pump") || out.ARNs["certificate"] != arn || len(policies) != 1 ||
		out.ARNs["policy"] != reg.ARN("policy", policies[0].Name) || len(policies[0].Name) != 40 || strings.ToUpper(policies[0].Name) != policies[0].Name {
		t.Errorf("got %+v, %v", out, policies)
	}
	if c, err := reg.Certificate(out.CertificateID); err != nil || c.Status != registry.Active || c.PEM != out.CertificatePEM {
		t.Errorf("certificate: %+v, %v", c, err)
	}
	if th, attached := reg.Stands(arn, "pump"); th == nil || !attached || th.Attributes["site"] != "a" || fmt.Sprint(th.Groups) != "[g1]" {
		t.Errorf("thing: %+v, %v", th, attached)
	}
	for _, c := range []struct{ override, attributes string }{
		{`"AttributePayload":"DO_NOTHING"`, "map[site:a]"}, {``, "map[site:b]"}, {`"AttributePayload":"REPLACE","ThingGroups":"REPLACE"`, "map[site:b]"},
	} {
		if _, err := register(t, reg, id, fmt.Sprintf(device, c.override), params("b")); err != nil {
			t.Errorf("%s: %v", c.override, err)
		}
		if th, _ := reg.Thing("pump"); fmt.Sprint(th.Attributes) != c.attributes {
			t.Errorf("%s: %v", c.override, th.Attributes)
		}
	}
	for override, site := range map[string]string{`"AttributePayload":"FAIL"`: "c", `"AttributePayload":"FAIL","ThingGroups":"MERGE"`: "b", `"ThingGroups":"FAIL"`: "b"} {
		if _, err := register(t, reg, id, fmt.Sprintf(device, override), params(site)); !fault.Is(err, fault.Conflict) || !errors.Is(err, provision.ErrConflict) {
			t.Errorf("%s with %s: %v", override, site, err)
		}
	}
	if links, _, _ := reg.Principals("pump", registry.Page{}); len(links) != 4 {
		t.Errorf("the thing has %d certificates, want 4", len(links))
	}
}

func TestACertificateThatWaitsIsActivated(t *testing.T) {
	reg, id := rooms(t)
	text, err := id.IssueCSR(request(t))
	if err != nil {
		t.Fatal(err)
	}
	var cert *registry.Certificate
	err = reg.Do("test", func(tx *registry.Tx) (err error) {
		cert, err = tx.AddCertificate(registry.CertificateInput{PEM: text, Status: registry.PendingActivation, Mode: registry.ModeDefault})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	body := `{"Resources":{"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"}},"OverrideSettings":{"Status":"DO_NOTHING"}}}}`
	if _, err := register(t, reg, id, body, map[string]string{provision.CertificateID: cert.ID}); err != nil {
		t.Fatal(err)
	}
	if c, _ := reg.Certificate(cert.ID); c.Status != registry.Active {
		t.Errorf("status: %s", c.Status)
	}
	if _, err := register(t, reg, id, body, map[string]string{provision.CertificateID: strings.Repeat("0", 64)}); !fault.Is(err, fault.NotFound) {
		t.Errorf("an unknown certificate: %v", err)
	}
}

func TestPropertiesThatDoNotFitAreRefused(t *testing.T) {
	reg, id := rooms(t)
	for name, resources := range map[string]string{
		"no name":                `"t":{"Type":"AWS::IoT::Thing","Properties":{}}`,
		"a name without a value": `"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"None"}}}`,
		"an unknown property":    `"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"x","Colour":"red"}}`,
		"groups not a list":      `"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"x","ThingGroups":"g"}}`,
		"attributes not flat":    `"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"x","AttributePayload":{"a":{"b":"c"}}}}`,
		"two things":             `"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"x"}},"u":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"y"}}`,
		"two certificates":       `"t":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":"x"}},"u":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":"y"}}`,
		"two kinds in one":       `"t":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":"x","CertificatePem":"y"}}`,
		"an unknown status":      `"t":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":"x","Status":"REVOKED"}}`,
		"a policy without all":   `"t":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":"x"}},"p":{"Type":"AWS::IoT::Policy","Properties":{}}`,
		"a policy for nobody":    `"p":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"x"}}`,
		"an unsound request":     `"t":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":"x"}}`,
	} {
		if _, err := register(t, reg, id, `{"Resources":{`+resources+`}}`, nil); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want fault.Invalid", name, err)
		}
	}
}
