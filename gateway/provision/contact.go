package provision

import (
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/logs"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/registry"
)

// subjects gives the pseudo-parameters for the attributes of a certificate's subject
// (developer guide, "Just-in-time provisioning"). SerialNumber is the attribute, not the
// certificate's own number.
var subjects = map[string]string{
	"2.5.4.6":  "AWS::IoT::Certificate::Country",
	"2.5.4.10": "AWS::IoT::Certificate::Organization",
	"2.5.4.11": "AWS::IoT::Certificate::OrganizationalUnit",
	"2.5.4.46": "AWS::IoT::Certificate::DistinguishedNameQualifier",
	"2.5.4.8":  "AWS::IoT::Certificate::StateName",
	"2.5.4.3":  "AWS::IoT::Certificate::CommonName",
	"2.5.4.5":  "AWS::IoT::Certificate::SerialNumber",
}

// subjectOf gives the parameters of a certificate; of several values the first.
func subjectOf(x *x509.Certificate) map[string]string {
	params := map[string]string{CertificateID: registry.CertificateID(x)}
	for _, a := range x.Subject.Names {
		name := subjects[a.Type.String()]
		if _, have := params[name]; name == "" || have {
			continue
		}
		if v, ok := a.Value.(string); ok {
			params[name] = v
		}
	}
	return params
}

// FirstContact deals with certificates that show up before anybody has activated them:
// with a template their authority was given they are provisioned, without one an event
// tells whoever is to decide.
type FirstContact struct {
	reg    *registry.Registry
	issuer Issuer
	submit func(mqtt.Message, func(error))
	log    *slog.Logger
}

// NewFirstContact makes one that publishes its events by submit.
func NewFirstContact(reg *registry.Registry, issuer Issuer, submit func(mqtt.Message, func(error)), log *slog.Logger) *FirstContact {
	return &FirstContact{reg, issuer, submit, log}
}

// Meet deals with a certificate that an authority with automatic registration has signed.
// It returns when that is done; the device has to connect again.
func (f *FirstContact) Meet(c *registry.Certificate, ca *registry.CA) {
	if ca.Template == "" && ca.Named == "" {
		f.submit(registered(f.reg, c, ca), nil)
		return
	}
	if err := f.provision(c, ca); err != nil {
		f.log.Warn("just-in-time provisioning did not succeed", "certificate", c.ID, "authority", ca.ID, logs.Err(err))
	}
}

func (f *FirstContact) provision(c *registry.Certificate, ca *registry.CA) error {
	body := ca.Template
	if ca.Named != "" {
		rec, err := f.reg.Template(ca.Named)
		if err != nil {
			return err
		}
		if rec.Type != registry.TemplateJITP || !rec.Enabled {
			return fault.New(fault.Invalid, "the provisioning template %s is not one for just-in-time provisioning, or not enabled", rec.Name)
		}
		body = rec.Body()
	}
	t, err := ParseTemplate(body)
	if err != nil {
		return err
	}
	x, err := registry.ParseCertificate(c.PEM)
	if err != nil {
		return err
	}
	resolved, err := t.Resolve(subjectOf(x), true)
	if err != nil {
		return err
	}
	_, err = register(f.reg, "certificate/"+c.ID, f.issuer, resolved, c.ID, nil)
	return err
}

// registered is the event of just-in-time registration.
func registered(reg *registry.Registry, c *registry.Certificate, ca *registry.CA) mqtt.Message {
	doc, _ := json.Marshal(map[string]any{ // texts and a number: cannot fail
		"certificateId": c.ID, "caCertificateId": ca.ID, "timestamp": c.Created.UnixMilli(), "certificateStatus": c.Status,
		"awsAccountId": reg.Account(), "certificateRegistrationTimestamp": c.Created.UTC().Format(time.RFC3339),
	})
	t := awstopic.Topic{Service: awstopic.Events, Reply: "certificates", Op: "registered", Name: ca.ID}
	return mqtt.Message{Topic: t.String(), Payload: doc, QoS: 1, Origin: mqtt.Service}
}
