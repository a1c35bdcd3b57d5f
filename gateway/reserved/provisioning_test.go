package reserved_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"tidegate/gateway/callout"
	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/identity"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/provision"
	"tidegate/gateway/registry"
	"tidegate/gateway/reserved"
	"tidegate/gateway/store"
)

const deviceTemplate = `{"Parameters":{"Serial":{"Type":"String"}},"Resources":{
 "thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Fn::Join":["-",["gh",{"Ref":"Serial"}]]}}},
 "certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":"ACTIVE"}}},
 "DeviceConfiguration":{"interval":15,"label":{"Fn::Sub":"Unit ${Serial}"}}}`

// desk is the provisioning binding with everything below it.
type desk struct {
	*testing.T
	reg *registry.Registry
	p   *reserved.Provisioning
	out chan mqtt.Message
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	dir, clk, log := t.TempDir(), clocktest.New(time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)), slog.New(slog.DiscardHandler)
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
	d := &desk{T: t, reg: reg, out: make(chan mqtt.Message, 16)}
	d.p = reserved.NewProvisioning(provision.NewFleet(reg, id, callout.NewSet(), clk, log), func(m mqtt.Message, _ func(error)) { d.out <- m }, log)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- db.Run(ctx, func() {}) }()
	go func() { ended <- d.p.Run(ctx, func() {}) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		<-ended
		db.Close()
	})
	err = reg.Do("test", func(tx *registry.Tx) error {
		_, e1 := tx.CreateTemplate(registry.TemplateInput{Name: "gh", Body: deviceTemplate, Enabled: true})
		_, e2 := tx.CreateTemplate(registry.TemplateInput{Name: "off", Body: deviceTemplate})
		return errors.Join(e1, e2)
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// ask sends a request and gives the answer.
func (d *desk) ask(topic string, payload []byte) mqtt.Message {
	d.Helper()
	d.p.Note(mqtt.NewRun(&mqtt.Message{Topic: topic, Payload: payload, QoS: 1, From: "dev", Principal: "claim", Origin: mqtt.Client}))
	m := <-d.out
	if m.To != "dev" || m.Principal != "claim" || m.QoS != 1 {
		d.Errorf("%s goes to %q of %q", m.Topic, m.To, m.Principal)
	}
	return m
}

func TestADeviceIsProvisionedInEitherForm(t *testing.T) {
	d := newDesk(t)
	for _, c := range []struct {
		name  string
		read  func([]byte, any) error
		write func(any) ([]byte, error)
	}{{"json", json.Unmarshal, json.Marshal}, {"cbor", cbor.Unmarshal, cbor.Marshal}} {
		m := d.ask("$aws/certificates/create/"+c.name, nil)
		var made map[string]string
		if err := c.read(m.Payload, &made); err != nil || m.Topic != "$aws/certificates/create/"+c.name+"/accepted" || made["privateKey"] == "" || made["certificatePem"] == "" {
			t.Fatalf("%s: %s %q, %v", c.name, m.Topic, m.Payload, err)
		}
		q, err := c.write(map[string]any{"certificateOwnershipToken": made["certificateOwnershipToken"], "parameters": map[string]string{"Serial": c.name}})
		if err != nil {
			t.Fatal(err)
		}
		m = d.ask("$aws/provisioning-templates/gh/provision/"+c.name, q)
		var out struct {
			Configuration struct {
				Interval int    `json:"interval"`
				Label    string `json:"label"`
			} `json:"deviceConfiguration"`
			Thing string `json:"thingName"`
		}
		if err := c.read(m.Payload, &out); err != nil || out.Thing != "gh-"+c.name || out.Configuration.Interval != 15 || out.Configuration.Label != "Unit "+c.name {
			t.Errorf("%s: %s %q, %v", c.name, m.Topic, m.Payload, err)
		}
		if have, err := d.reg.Certificate(made["certificateId"]); err != nil || have.Status != registry.Active {
			t.Errorf("%s: %+v, %v", c.name, have, err)
		}
	}
}

func TestProvisioningRequestsThatAreRefused(t *testing.T) {
	d := newDesk(t)
	deep, _ := cbor.Marshal(map[string]any{"parameters": []any{[]any{[]any{[]any{[]any{[]any{[]any{[]any{[]any{1}}}}}}}}}})
	twice := []byte("\xa2\x61a\x01\x61a\x02")
	for _, c := range []struct {
		topic   string
		payload []byte
		status  int
		code    string
	}{
		{"$aws/certificates/create/json", []byte("["), 400, "InvalidPayload"},
		{"$aws/certificates/create-from-csr/json", []byte(`{}`), 400, "InvalidParameters"},
		{"$aws/certificates/create-from-csr/json", []byte(`{"certificateSigningRequest":"PEM"}`), 400, "InvalidCertificateSigningRequest"},
		{"$aws/provisioning-templates/gh/provision/json", []byte(`{"certificateOwnershipToken":"T","parameters":{"Serial":"1"}}`), 400, "InvalidCertificateOwnershipToken"},
		{"$aws/provisioning-templates/gh/provision/json", []byte(`{"parameters":{"Serial":1}}`), 400, "InvalidPayload"},
		{"$aws/provisioning-templates/off/provision/json", []byte(`{"certificateOwnershipToken":"T"}`), 400, "InvalidParameters"},
		{"$aws/provisioning-templates/none/provision/json", []byte(`{"certificateOwnershipToken":"T"}`), 404, "ResourceNotFound"},
		{"$aws/provisioning-templates/gh/provision/cbor", deep, 400, "InvalidPayload"},
		{"$aws/provisioning-templates/gh/provision/cbor", twice, 400, "InvalidPayload"},
		{"$aws/provisioning-templates/gh/provision/cbor", []byte(`{"certificateOwnershipToken":"T"}`), 400, "InvalidPayload"},
	} {
		m := d.ask(c.topic, c.payload)
		var out struct {
			Status  int    `json:"statusCode"`
			Code    string `json:"errorCode"`
			Message string `json:"errorMessage"`
		}
		read := json.Unmarshal
		if c.topic[len(c.topic)-4:] == "cbor" {
			read = cbor.Unmarshal
		}
		if err := read(m.Payload, &out); err != nil || m.Topic != c.topic+"/rejected" || out.Status != c.status || out.Code != c.code || out.Message == "" {
			t.Errorf("%s %q: %s %+v, %v", c.topic, c.payload, m.Topic, out, err)
		}
	}
}

func TestOnlyConnectionsAreProvisioned(t *testing.T) {
	d := newDesk(t)
	for _, origin := range []mqtt.Origin{mqtt.Will, mqtt.REST, mqtt.Cloud, mqtt.Rule, mqtt.Service} {
		d.p.Note(mqtt.NewRun(&mqtt.Message{Topic: "$aws/certificates/create/json", From: "dev", Origin: origin}))
	}
	if m := d.ask("$aws/certificates/create/json", []byte("x")); m.Topic != "$aws/certificates/create/json/rejected" {
		t.Errorf("somebody else was answered: %s", m.Topic)
	}
}
