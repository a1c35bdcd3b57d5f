package authz

import (
	"crypto/x509"
	"encoding/json"
	"strings"
	"sync/atomic"

	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/policy"
	"tidegate/gateway/registry"
)

// Principal is somebody who was proven to be who they are, on one connection.
// Its answers follow the registry. A nil Principal may do nothing.
type Principal struct {
	a    *Authz
	name string
	ctx  policy.Context
	// docs gives the documents in force and completes the context; ok is false
	// when the principal is no longer valid.
	docs  func(c *policy.Context) (docs []*policy.Document, ok bool)
	cache atomic.Pointer[compiled]
	grant *grant // of a custom authorizer
	away  bool   // a custom authorizer's, restored: what it may do is known only when it is back
	role  *role  // of one with credentials of a role
}

type compiled struct {
	gen     uint64
	decider *policy.Decider // nil: nothing is allowed
	props   []mqtt.UserProp
}

// Name gives the name by which rules and lifecycle events call the principal:
// the certificate's id, "operator/NAME", "assumed-role/ROLE/CERTIFICATE", or "anonymous".
func (p *Principal) Name() string {
	if p == nil {
		return ""
	}
	return p.name
}

// May says whether the principal may do something now; name as in
// [policy.Decider.May].
func (p *Principal) May(action policy.Action, name string) bool { return p.decider().May(action, name) }

// Named answers for an operation of the control plane ("iot:CreateThing"). It is for
// operators: policies of devices do not speak of it, whatever their wildcards would cover.
func (p *Principal) Named(action, resource string) bool {
	return p != nil && p.role == nil && p.decider().Named(action, resource) == policy.Allow
}

// decider gives the principal's compiled policies.
func (p *Principal) decider() *policy.Decider {
	if p == nil {
		return nil
	}
	return p.compiled().decider
}

// UserProps gives the user properties that a client's messages of MQTT 5 get: those that the
// type of its thing propagates and that have a value.
func (p *Principal) UserProps() []mqtt.UserProp {
	if p == nil {
		return nil
	}
	return p.compiled().props
}

// compiled gives what the registry says of the principal, worked out anew if something has
// changed.
func (p *Principal) compiled() *compiled {
	gen := p.a.gen.Load()
	if c := p.cache.Load(); c != nil && c.gen == gen {
		return c
	}
	c := &compiled{gen: gen}
	ctx := p.ctx
	if docs, ok := p.docs(&ctx); ok {
		c.decider = policy.Compile(docs, ctx)
		c.props = p.a.propagated(&ctx)
	}
	p.cache.Store(c)
	return c
}

// propagated gives what the type of a connection's thing propagates. As with policy variables
// the thing counts when the principal is attached to it, or cannot be.
func (a *Authz) propagated(c *policy.Context) (props []mqtt.UserProp) {
	if c.Thing == nil || c.Thing.Type == "" || !c.Thing.Attached && !c.Unattachable {
		return nil
	}
	t, err := a.reg.Type(c.Thing.Type)
	if err != nil {
		return nil
	}
	for _, p := range t.Propagating {
		value := c.Thing.Attributes[p.ThingAttribute]
		switch p.ConnectionAttribute {
		case "iot:ClientId":
			value = c.ClientID
		case "iot:Thing.ThingName":
			value = c.Thing.Name
		}
		if value != "" {
			props = append(props, mqtt.UserProp{Key: p.UserPropertyKey, Value: value})
		}
	}
	return props
}

// at gives the same principal on another connection.
func (p *Principal) at(ctx policy.Context) *Principal {
	return &Principal{a: p.a, name: p.name, ctx: ctx, docs: p.docs, role: p.role}
}

// anonymous is a client without a credential.
func (a *Authz) anonymous(ctx policy.Context) *Principal {
	return &Principal{a: a, name: Anonymous, ctx: ctx, docs: func(c *policy.Context) ([]*policy.Document, bool) {
		// A thing is believed by its name: there is nothing to attach it to.
		c.Unattachable = true
		if t, _ := a.reg.Stands(Anonymous, c.ClientID); t != nil {
			c.Thing = thingOf(t, false)
		}
		if p, err := a.reg.Policy(DevPolicy); err == nil {
			return []*policy.Document{p.Document()}, true
		}
		return []*policy.Document{a.dev}, true
	}}
}

// Operator gives the principal of a local administrator. docs gives the
// documents of the operator's role, or false once the operator is gone.
func (a *Authz) Operator(name string, docs func() ([]*policy.Document, bool)) *Principal {
	return &Principal{a: a, name: "operator/" + name, ctx: policy.Context{Base: a.reg.Base(), Now: a.clk.Now},
		docs: func(*policy.Context) ([]*policy.Document, bool) { return docs() }}
}

// certificate is a client with a registered certificate.
func (a *Authz) certificate(cert *registry.Certificate, ctx policy.Context) *Principal {
	return a.device(cert, ctx, "")
}

// device is a client with a registered certificate, under the policies also of the groups
// of a thing: the one that its client id stands for, or the one named.
func (a *Authz) device(cert *registry.Certificate, ctx policy.Context, named string) *Principal {
	arn := a.reg.ARN("cert", cert.ID)
	if x, err := registry.ParseCertificate(cert.PEM); err == nil {
		ctx.Certificate = describe(cert.ID, x)
	}
	return &Principal{a: a, name: cert.ID, ctx: ctx, docs: func(c *policy.Context) ([]*policy.Document, bool) {
		now, err := a.reg.Certificate(cert.ID)
		if err != nil || now.Status != registry.Active {
			return nil, false
		}
		thing := named
		if c.ClientID != "" {
			if t, attached := a.reg.Stands(arn, c.ClientID); t != nil {
				thing, c.Thing = t.Name, thingOf(t, attached)
			}
		}
		var docs []*policy.Document
		for _, p := range a.reg.Effective(arn, thing) {
			docs = append(docs, p.Document())
		}
		if now.Claim {
			docs = append(docs, a.claim(now.Template))
		}
		return docs, true
	}}
}

// claim is what a provisioning claim may do: ask for a certificate, and for its template.
func (a *Authz) claim(template string) *policy.Document {
	var topics, filters []string
	for _, name := range []string{"certificates/create/*", "certificates/create-from-csr/*", "provisioning-templates/" + template + "/provision/*"} {
		topics = append(topics, policy.Publish.Resource(a.reg.Base(), awstopic.Prefix+name))
		filters = append(filters, policy.Subscribe.Resource(a.reg.Base(), awstopic.Prefix+name))
	}
	type statement struct{ Effect, Action, Resource any }
	text, _ := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []statement{ // texts: cannot fail
		{"Allow", "iot:Connect", "*"}, {"Allow", []string{"iot:Publish", "iot:Receive"}, topics}, {"Allow", "iot:Subscribe", filters}}})
	doc, err := policy.Parse(text)
	if err != nil {
		panic("BUG: the policy of claims: " + err.Error())
	}
	doc.Name = "claim"
	return doc
}

func thingOf(t *registry.Thing, attached bool) *policy.Thing {
	return &policy.Thing{Name: t.Name, Type: t.Type, Attributes: t.Attributes, Attached: attached}
}

// Restore gives the principal of a stored session by its name. Nobody the
// registry does not know any more may do anything.
func (a *Authz) Restore(name, clientID string) *Principal {
	ctx := policy.Context{Base: a.reg.Base(), ClientID: clientID, Now: a.clk.Now}
	if name == Anonymous && len(a.cfg.Anonymous) > 0 {
		return a.anonymous(ctx)
	}
	if c, err := a.reg.Certificate(name); err == nil {
		return a.certificate(c, ctx)
	}
	if r := a.roleNamed(name, clientID); r != nil {
		return r.principal(ctx)
	}
	if a.functions != nil && principalID.MatchString(name) && !certificateID.MatchString(name) && name != Anonymous {
		// A custom authorizer's client is away: messages go on being kept for it, and are
		// judged by what its authorizer says when it is back.
		return &Principal{a: a, name: name, ctx: ctx, away: true, docs: func(*policy.Context) ([]*policy.Document, bool) { return a.waiting, true }}
	}
	return &Principal{a: a, name: name, ctx: ctx, docs: func(*policy.Context) ([]*policy.Document, bool) { return nil, false }}
}

// admit finds the registered certificate of a peer and judges its state. TLS has
// shown that the peer holds the key; that the certificate is the registered one,
// byte for byte, makes its chain irrelevant.
func (a *Authz) admit(x *x509.Certificate) (*registry.Certificate, error) {
	id := registry.CertificateID(x)
	c, err := a.reg.Certificate(id)
	if fault.Is(err, fault.NotFound) {
		return nil, a.unknown(x)
	} else if err != nil {
		return nil, err
	}
	switch c.Status {
	case registry.Active:
		return c, a.inTime(x)
	case registry.PendingActivation:
		if ca, err := a.reg.CA(c.CA); err == nil && ca.Status == registry.Active {
			a.contact(Contact{Certificate: c, CA: ca})
		}
		return nil, fault.New(fault.Unauthorized, "certificate %s waits for its activation", id)
	}
	return nil, fault.New(fault.Unauthorized, "certificate %s is %s", id, strings.ToLower(string(c.Status)))
}

// inTime judges the dates of a certificate. While the clock is not trusted only
// an end that has passed by the last known time counts: a box that boots in 1970
// must not lock its devices out.
func (a *Authz) inTime(x *x509.Certificate) error {
	now := a.clk.Now()
	switch {
	case now.After(x.NotAfter):
		return fault.New(fault.Unauthorized, "the certificate has expired")
	case now.Before(x.NotBefore) && a.clk.Trusted():
		return fault.New(fault.Unauthorized, "the certificate is not yet valid")
	}
	return nil
}

// unknown registers a certificate at its first contact when the authority that
// signed it is set up so. The connection is refused in any case.
func (a *Authz) unknown(x *x509.Certificate) error {
	refused := fault.New(fault.Unauthorized, "the certificate is not registered")
	ca := a.reg.Signer(x)
	if ca == nil || ca.Status != registry.Active || !ca.Auto || a.inTime(x) != nil {
		return refused
	}
	var added *registry.Certificate
	err := a.reg.Do("certificate/"+registry.CertificateID(x), func(tx *registry.Tx) (err error) {
		added, err = tx.AddCertificate(registry.CertificateInput{PEM: pemOf(x), Status: registry.PendingActivation, Mode: ca.Mode, CA: ca.ID})
		return err
	})
	if err != nil && !fault.Is(err, fault.Exists) {
		return err
	}
	if added != nil {
		a.contact(Contact{Certificate: added, CA: ca, New: true})
	}
	return refused
}
