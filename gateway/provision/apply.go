package provision

import (
	"crypto/sha1"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"tidegate/gateway/fault"
	"tidegate/gateway/registry"
)

// ErrConflict is in the chain when an override setting FAIL met a resource that exists;
// doors turn it into ResourceConflictsException or its like.
var ErrConflict = errors.New("resource conflict")

// Issuer signs certificates; gateway/identity is one.
type Issuer interface {
	IssueCSR(csr string) (pem string, err error)
}

// Outcome is what a provisioning has made or found.
type Outcome struct {
	CertificatePEM      string
	CertificateID       string
	Thing               string            // its name, "" when the template has none
	ARNs                map[string]string // by logical name
	DeviceConfiguration map[string]any
}

// plan is a resolved template, checked and typed.
type plan struct {
	thing    *thingPlan
	cert     *certPlan
	policies []policyPlan
}

type thingPlan struct {
	logical    string
	name       string
	typeName   string
	billing    string
	groups     []string
	attributes map[string]string
	override   map[string]string
}

type certPlan struct {
	logical  string
	csr      string
	id       string
	pem      string
	status   registry.Status
	override map[string]string
}

type policyPlan struct{ logical, name, document string }

// Register carries out a resolved template in one transaction, in the name of by:
// certificate, thing, policies, what ties them, and at last the certificate's status.
// All of it happens or nothing.
//
// Errors: fault.Invalid for properties that do not fit, fault.NotFound for a type, group,
// policy or certificate that is not there, fault.Conflict with [ErrConflict] for a FAIL.
func Register(reg *registry.Registry, by string, issuer Issuer, r *Resolved) (*Outcome, error) {
	return register(reg, by, issuer, r, "", nil)
}

// register is Register for one certificate only, where id is given, and after check within
// the transaction, where there is one.
func register(reg *registry.Registry, by string, issuer Issuer, r *Resolved, id string, check func(tx *registry.Tx) error) (*Outcome, error) {
	p, err := r.plan()
	if err != nil {
		return nil, err
	}
	if id != "" && (p.cert == nil || p.cert.id != id) {
		return nil, wrong("it has no certificate whose CertificateId is {\"Ref\": %q}", CertificateID)
	}
	// Signing may take a TPM's time; it is done before the registry is held.
	if p.cert != nil && p.cert.csr != "" {
		if p.cert.pem, err = issuer.IssueCSR(p.cert.csr); err != nil {
			return nil, err
		}
	}
	out := &Outcome{ARNs: map[string]string{}, DeviceConfiguration: r.DeviceConfiguration}
	err = reg.Do(by, func(tx *registry.Tx) error {
		if check != nil {
			if err := check(tx); err != nil {
				return err
			}
		}
		return p.apply(tx, out)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// reader reads the properties of a resource and remembers what was wrong.
type reader struct {
	logical string
	props   map[string]any
	err     error
}

func (x *reader) fail(key, want string) {
	if x.err == nil {
		x.err = fault.New(fault.Invalid, "resource %q: the property %s is not %s", x.logical, key, want)
	}
}

// text reads a property; a Ref that was left has no value and is an error.
func (x *reader) text(key string) string {
	v, ok := x.props[key]
	if !ok {
		return ""
	}
	s, ok := scalarText(v)
	if !ok {
		x.fail(key, "a text; a parameter may have no value")
	}
	return s
}

func scalarText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return fmt.Sprint(v), true
	}
	return "", false
}

// allowed refuses properties the resource does not have.
func (x *reader) allowed(keys ...string) {
	for _, k := range slices.Sorted(maps.Keys(x.props)) {
		if !slices.Contains(keys, k) {
			x.fail(k, "one of "+strings.Join(keys, ", "))
		}
	}
}

// plan checks the resources: at most one thing and one certificate.
func (r *Resolved) plan() (*plan, error) {
	p := &plan{}
	for _, logical := range slices.Sorted(maps.Keys(r.Resources)) {
		res := r.Resources[logical]
		x := &reader{logical: logical, props: res.Properties}
		switch res.Type {
		case TypeThing:
			if p.thing != nil {
				return nil, wrong("it has more than one thing")
			}
			p.thing = x.thing(res.Override)
		case TypeCertificate:
			if p.cert != nil {
				return nil, wrong("it has more than one certificate")
			}
			p.cert = x.certificate(res.Override)
		case TypePolicy:
			p.policies = append(p.policies, x.policy())
		}
		if x.err != nil {
			return nil, x.err
		}
	}
	if len(p.policies) > 0 && p.cert == nil {
		return nil, wrong("its policies have no certificate to be attached to")
	}
	return p, nil
}

func (x *reader) thing(override map[string]string) *thingPlan {
	x.allowed("ThingName", "ThingTypeName", "BillingGroup", "ThingGroups", "AttributePayload")
	t := &thingPlan{logical: x.logical, name: x.text("ThingName"), typeName: x.text("ThingTypeName"), billing: x.text("BillingGroup"), attributes: map[string]string{}, override: override}
	if t.name == "" {
		x.fail("ThingName", "there")
	}
	if v, ok := x.props["ThingGroups"]; ok {
		list, ok := v.([]any)
		if !ok {
			x.fail("ThingGroups", "a list")
		}
		for _, e := range list {
			g, ok := scalarText(e)
			if !ok {
				x.fail("ThingGroups", "a list of texts; a parameter may have no value")
			}
			t.groups = append(t.groups, g)
		}
	}
	if v, ok := x.props["AttributePayload"]; ok {
		m, ok := v.(map[string]any)
		if !ok {
			x.fail("AttributePayload", "an object")
		}
		for k, e := range m {
			s, ok := scalarText(e)
			if !ok {
				x.fail("AttributePayload", "an object of texts; a parameter may have no value")
			}
			t.attributes[k] = s
		}
	}
	return t
}

func (x *reader) certificate(override map[string]string) *certPlan {
	x.allowed("CertificateSigningRequest", "CertificateId", "CertificatePem", "CACertificatePem", "Status")
	c := &certPlan{logical: x.logical, csr: x.text("CertificateSigningRequest"), id: x.text("CertificateId"), pem: x.text("CertificatePem"), override: override}
	n := 0
	for _, s := range []string{c.csr, c.id, c.pem} {
		if s != "" {
			n++
		}
	}
	if n != 1 {
		x.fail("CertificateSigningRequest, CertificateId, CertificatePem", "given exactly once")
	}
	switch s := strings.ToUpper(x.text("Status")); s {
	case "", "ACTIVE":
		c.status = registry.Active
	case "INACTIVE":
		c.status = registry.Inactive
	default:
		x.fail("Status", "ACTIVE or INACTIVE")
	}
	return c
}

// policy reads a policy. One that is given by its document is named after it, so that the
// same document is the same policy.
func (x *reader) policy() policyPlan {
	x.allowed("PolicyName", "PolicyDocument")
	p := policyPlan{logical: x.logical, name: x.text("PolicyName")}
	switch v := x.props["PolicyDocument"].(type) {
	case nil:
	case string:
		p.document = v
	default:
		b, err := json.Marshal(v)
		if err != nil {
			x.fail("PolicyDocument", "JSON")
		}
		p.document = string(b)
	}
	if (p.name == "") == (p.document == "") {
		x.fail("PolicyName, PolicyDocument", "given exactly once")
	}
	if p.name == "" {
		p.name = fmt.Sprintf("%X", sha1.Sum([]byte(p.document)))
	}
	return p
}

// apply carries the plan out.
func (p *plan) apply(tx *registry.Tx, out *Outcome) error {
	reg := tx.Registry()
	var certARN string
	if c := p.cert; c != nil {
		cert, err := c.find(tx)
		if err != nil {
			return err
		}
		certARN = reg.ARN("cert", cert.ID)
		out.CertificateID, out.CertificatePEM, out.ARNs[c.logical] = cert.ID, cert.PEM, certARN
	}
	if t := p.thing; t != nil {
		if err := t.apply(tx); err != nil {
			return err
		}
		out.Thing, out.ARNs[t.logical] = t.name, reg.ARN("thing", t.name)
	}
	for _, pol := range p.policies {
		_, err := tx.Policy(pol.name)
		if fault.Is(err, fault.NotFound) && pol.document != "" {
			_, err = tx.CreatePolicy(pol.name, pol.document, nil)
		}
		if err == nil {
			err = tx.AttachPolicy(pol.name, certARN)
		}
		if err != nil {
			return err
		}
		out.ARNs[pol.logical] = reg.ARN("policy", pol.name)
	}
	if p.cert == nil {
		return nil
	}
	if p.thing != nil {
		if err := tx.AttachPrincipal(p.thing.name, certARN, false); err != nil {
			return err
		}
	}
	cert, err := tx.Certificate(out.CertificateID)
	if err != nil || cert.Status == p.cert.status {
		return err
	}
	switch p.cert.override["Status"] {
	case "DO_NOTHING":
		if cert.Status != registry.PendingActivation { // it was not in anybody's use yet
			return nil
		}
	case "FAIL":
		if cert.Status != registry.PendingActivation {
			return conflict("certificate %s has the status %s", cert.ID, cert.Status)
		}
	}
	return tx.SetCertificateStatus(cert.ID, p.cert.status)
}

func conflict(format string, args ...any) error {
	return fault.Wrap(fault.Conflict, ErrConflict, format, args...)
}

// find gives the certificate, registered now if it is not yet.
func (c *certPlan) find(tx *registry.Tx) (*registry.Certificate, error) {
	if c.id != "" {
		return tx.Certificate(c.id)
	}
	x, err := registry.ParseCertificate(c.pem)
	if err != nil {
		return nil, err
	}
	if have, err := tx.Certificate(registry.CertificateID(x)); err == nil {
		return have, nil
	}
	mode := registry.ModeDefault
	if c.csr == "" {
		mode = registry.ModeSNIOnly
	}
	return tx.AddCertificate(registry.CertificateInput{PEM: c.pem, Status: c.status, Mode: mode})
}

// apply makes the thing, or changes one that is there as the override settings say:
// attributes and groups are merged and the type replaced unless they say otherwise. FAIL
// refuses a thing that is there at all.
func (t *thingPlan) apply(tx *registry.Tx) error {
	have, err := tx.Thing(t.name)
	if fault.Is(err, fault.NotFound) {
		if _, err = tx.CreateThing(registry.ThingInput{Name: t.name, Type: t.typeName, Attributes: t.attributes, Billing: t.billing}); err != nil {
			return err
		}
		return t.join(tx)
	} else if err != nil {
		return err
	}
	for key, given := range map[string]bool{"ThingTypeName": t.typeName != "", "AttributePayload": len(t.attributes) > 0, "ThingGroups": len(t.groups) > 0} {
		if given && t.override[key] == "FAIL" { // even for the value that is there
			return conflict("thing %s exists already", t.name)
		}
	}
	up := registry.ThingUpdate{}
	if t.typeName != "" && t.typeName != have.Type && t.override["ThingTypeName"] != "DO_NOTHING" {
		up.Type = t.typeName
	}
	if len(t.attributes) > 0 && !maps.Equal(t.attributes, have.Attributes) {
		switch t.override["AttributePayload"] {
		case "DO_NOTHING":
		case "REPLACE":
			up.Attributes = t.attributes
		default:
			up.Attributes, up.Merge = t.attributes, true
		}
	}
	if up.Type != "" || up.Attributes != nil {
		if _, err := tx.UpdateThing(t.name, up); err != nil {
			return err
		}
	}
	if t.billing != "" && have.Billing == "" {
		if err := tx.SetBilling(t.name, t.billing); err != nil {
			return err
		}
	}
	want := slices.Sorted(slices.Values(t.groups))
	if slices.Equal(want, have.Groups) || len(want) == 0 {
		return nil
	}
	switch t.override["ThingGroups"] {
	case "DO_NOTHING":
		return nil
	case "REPLACE":
		for _, g := range have.Groups {
			if err := tx.RemoveFromGroup(t.name, g); err != nil {
				return err
			}
		}
	}
	return t.join(tx)
}

func (t *thingPlan) join(tx *registry.Tx) error {
	for _, g := range t.groups {
		if err := tx.AddToGroup(t.name, g); err != nil {
			return err
		}
	}
	return nil
}
