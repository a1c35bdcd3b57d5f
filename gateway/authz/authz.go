// Package authz says who somebody is and what they may do.
//
// A credential becomes a [Principal]: a registered client certificate, an
// operator's signed request, or, on a listener for development only, nobody in
// particular. The principal's policies are compiled for the connection and asked
// at every step; when a policy, an attachment, a thing or a certificate changes,
// they are compiled again before the next answer.
//
// The package keeps nothing. Policies, things and certificates are the
// registry's; which certificate a peer holds the key of is TLS's word.
//
//	a := authz.New(reg, clk, authz.Config{Anonymous: []string{"mqtt"}})
//	p, err := a.Connect(&authz.Request{ClientID: "pump1", TLS: state, …})
//	if a.MayPublish(p, "site/pump1/state", false) { … }
package authz

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/policy"
	"tidegate/gateway/registry"
)

// Config says what is let in without a credential.
type Config struct {
	// Anonymous names the listeners whose clients need no credential. They come
	// under the policy [DevPolicy]. Only a gateway for development has any.
	Anonymous []string
}

// DevPolicy is the name of the policy for clients without a credential. A
// registered policy of that name is used; until there is one, it allows all.
const DevPolicy = "dev"

// DevDocument is what DevPolicy says unless it was registered otherwise.
const DevDocument = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`

// Anonymous is the name of a client without a credential.
const Anonymous = "anonymous"

// settle is how long changes are gathered before those who cache answers are
// told to forget them.
const settle = 200 * time.Millisecond

// Authz answers for every door. Its methods may be called concurrently.
type Authz struct {
	reg     *registry.Registry
	clk     clock.Clock
	cfg     Config
	dev     *policy.Document
	waiting []*policy.Document // for sessions of custom authorizers' clients, see Restore
	gen     atomic.Uint64      // counts changes that bear on answers
	told    atomic.Bool        // a call of changed is due
	changed []func()
	revoked []func(principal string)
	contact func(Contact)
	refused func(Refusal)

	lending   lending
	functions Functions      // behind custom authorizers; nil: there are none
	asking    sync.WaitGroup // authorizers that are asked again
	cacheMu   sync.Mutex     // guards what follows
	cache     map[string]*grant
}

// Contact is the appearance of a certificate that waits for its activation:
// unknown so far and signed by an authority with automatic registration, or
// registered that way before.
type Contact struct {
	Certificate *registry.Certificate
	CA          *registry.CA
	New         bool // registered just now
}

// New makes an Authz. It listens to the registry, so it must be made before the
// registry is changed.
func New(reg *registry.Registry, clk clock.Clock, cfg Config) *Authz {
	dev, err := policy.Parse([]byte(DevDocument))
	if err != nil {
		panic("BUG: the built-in policy: " + err.Error())
	}
	dev.Name = DevPolicy
	receive, err := policy.Parse([]byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:Receive","Resource":"*"}}`))
	if err != nil {
		panic("BUG: the built-in policy: " + err.Error())
	}
	a := &Authz{reg: reg, clk: clk, cfg: cfg, dev: dev, waiting: []*policy.Document{receive}, contact: func(Contact) {}, refused: func(Refusal) {}}
	a.gen.Store(1)
	reg.OnCommit(a.commit)
	return a
}

// OnChange adds a function that is called, at most a few times a second, when
// answers may have changed: whoever caches them forgets them. It must not block.
func (a *Authz) OnChange(fn func()) { a.changed = append(a.changed, fn) }

// OnRevoked adds a function that is called with the name of a principal that is
// no longer valid; its connections are to be cut. It must not block.
func (a *Authz) OnRevoked(fn func(principal string)) { a.revoked = append(a.revoked, fn) }

// OnContact names who is told of certificates that wait for their activation
// (just-in-time registration). It may take its time; the connection is refused
// when it returns.
func (a *Authz) OnContact(fn func(Contact)) { a.contact = fn }

// commit is told of changes of the registry.
func (a *Authz) commit(changes []registry.Change) {
	bears := false
	for _, c := range changes {
		switch c.Kind {
		case "cert":
			was, _ := c.Before.(*registry.Certificate)
			is, _ := c.After.(*registry.Certificate)
			if was != nil && was.Status == registry.Active && (is == nil || is.Status != registry.Active) {
				a.gen.Add(1)
				for _, fn := range a.revoked {
					fn(c.Name)
				}
			}
			bears = bears || was != nil
		case "policy", "attachment", "principal", "thing", "thingtype", "thinggroup", "rolealias":
			bears = true
		}
	}
	if bears {
		a.touch()
	}
}

// touch has answers judged again, and those who cache them told soon.
func (a *Authz) touch() {
	a.gen.Add(1)
	if a.told.CompareAndSwap(false, true) {
		a.clk.AfterFunc(settle, func() {
			a.told.Store(false)
			for _, fn := range a.changed {
				fn()
			}
		})
	}
}

// Refusal is somebody who was not let in, or not let do something.
type Refusal struct {
	What      string // "connect", "publish", "subscribe", or an operation
	Name      string // client id, topic or filter
	Principal string // who that is, as far as it was proven; the fingerprint of a certificate that was shown
	Client    string // client id, where there is one
	Remote    netip.Addr
	Err       error
}

// OnRefused names who is told of refusals. It must not block. Doors tell of theirs with
// Refused.
func (a *Authz) OnRefused(fn func(Refusal)) { a.refused = fn }

// Refused tells of a refusal.
func (a *Authz) Refused(r Refusal) { a.refused(r) }

// Request is what a client shows to be let in.
type Request struct {
	ClientID    string
	Username    string
	HasUsername bool
	Password    []byte
	TLS         *tls.ConnectionState // nil without TLS
	Remote      netip.Addr
	Listener    string
	Persistent  bool   // a session that outlives the connection
	Will        bool   // a last will
	WillTopic   string // its topic
	// Header and Query are of the request that became a WebSocket, for custom authorizers;
	// the query with its ? in front.
	Header http.Header
	Query  string
	// Signed is a principal that was proven otherwise, for example by the
	// signature of the WebSocket's URL.
	Signed *Principal
}

// attributes gives iot:ConnectAttributes.
func (r *Request) attributes() []string {
	var out []string
	if r.Persistent {
		out = append(out, "PersistentConnect")
	}
	if r.Will {
		out = append(out, "LastWill")
	}
	return out
}

// context is what is known of the connection itself.
func (a *Authz) context(r *Request) policy.Context {
	c := policy.Context{Base: a.reg.Base(), ClientID: r.ClientID, SourceIP: r.Remote, Connected: true, ConnectAttributes: r.attributes(), Now: a.clk.Now}
	if r.Will {
		c.LastWillTopic = policy.Publish.Resource(c.Base, r.WillTopic)
	}
	if r.TLS != nil {
		c.DomainName = r.TLS.ServerName
	}
	return c
}

// Connect lets a client in or says why not: fault.Unauthorized when it could not
// prove who it is, fault.Forbidden when its policies keep it out.
func (a *Authz) Connect(r *Request) (*Principal, error) {
	p, err := a.identify(r)
	if err == nil && !p.May(policy.Connect, r.ClientID) {
		err = fault.New(fault.Forbidden, "the policies of %s do not allow it to connect as %q", p.Name(), r.ClientID)
	}
	if err != nil {
		who := p.Name()
		if who == "" && r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			who = registry.CertificateID(r.TLS.PeerCertificates[0])
		}
		a.refused(Refusal{What: "connect", Name: r.ClientID, Principal: who, Client: r.ClientID, Remote: r.Remote, Err: err})
		return nil, err
	}
	return p, nil
}

// identify finds out who a client is.
func (a *Authz) identify(r *Request) (*Principal, error) {
	protocol := registry.ProtocolMQTT
	if r.Header != nil {
		protocol = registry.ProtocolWSS
	}
	if err := a.Speaks(r.TLS, protocol); err != nil {
		return nil, err
	}
	if p, err := a.byAuthorizer(r); p != nil || err != nil {
		return p, err
	}
	way := a.way(r.TLS)
	switch {
	case way.custom == always:
		return nil, errWay()
	case r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && way.certificate != never:
		c, err := a.admit(r.TLS.PeerCertificates[0])
		if err != nil {
			return nil, err
		}
		return a.certificate(c, a.context(r)), nil
	case r.Signed != nil && way.signature != never:
		return r.Signed.at(a.context(r)), nil
	case slices.Contains(a.cfg.Anonymous, r.Listener):
		return a.anonymous(a.context(r)), nil
	}
	return nil, fault.New(fault.Unauthorized, "a client certificate or another credential is needed")
}

// Peer gives the principal of an HTTPS client by its certificate. Thing
// variables have no values there (developer guide, "Thing policy variables").
// It gives nil, nil when there is no certificate, and when it does not count, or not alone:
// then an authorizer is to be asked ([Authz.Header]).
func (a *Authz) Peer(state *tls.ConnectionState, remote netip.Addr) (*Principal, error) {
	way := a.way(state)
	shown := state != nil && len(state.PeerCertificates) > 0
	if way.certificate == always && !shown {
		return nil, fault.New(fault.Unauthorized, "a client certificate is needed before an authorizer is asked")
	}
	if !shown || way.certificate == never {
		return nil, nil
	}
	c, err := a.admit(state.PeerCertificates[0])
	if err != nil || way.custom == always {
		return nil, err
	}
	return a.certificate(c, policy.Context{Base: a.reg.Base(), SourceIP: remote, DomainName: state.ServerName, Now: a.clk.Now}), nil
}

// MayPublish says whether a client may publish to a topic, with retain also
// whether it may leave the message there.
func (a *Authz) MayPublish(p *Principal, topic string, retain bool) bool {
	may := p.May(policy.Publish, topic) && (!retain || p.May(policy.RetainPublish, topic))
	if !may {
		a.denied("publish", p, topic)
	}
	return may
}

// MayLeave says whether the will of a client is still to be published. Policies may have
// changed since it connected, when it was judged; but the answer of a custom authorizer is
// gone after a restart, nobody can be asked again, and a device that fell silent together
// with the gateway is what wills are for.
func (a *Authz) MayLeave(p *Principal, topic string, retain bool) bool {
	return p != nil && p.away || a.MayPublish(p, topic, retain)
}

// MaySubscribe says whether a client may subscribe to a filter. Of a shared
// subscription the filter behind the group's name is judged.
func (a *Authz) MaySubscribe(p *Principal, filter string) bool {
	if rest, ok := strings.CutPrefix(filter, "$share/"); ok {
		_, filter, _ = strings.Cut(rest, "/")
	}
	may := p.May(policy.Subscribe, filter)
	if !may {
		a.denied("subscribe", p, filter)
	}
	return may
}

// Trespassed tells of a client who tried for what no policy opens.
func (a *Authz) Trespassed(p *Principal, what, name string) {
	a.tell(what, p, name, "it is closed to every client")
}

func (a *Authz) denied(what string, p *Principal, name string) {
	a.tell(what, p, name, "the policies do not allow it")
}

func (a *Authz) tell(what string, p *Principal, name, why string) {
	r := Refusal{What: what, Name: name, Principal: p.Name(), Err: fault.New(fault.Forbidden, "%s", why)}
	if p != nil {
		r.Client, r.Remote = p.ctx.ClientID, p.ctx.SourceIP
	}
	a.refused(r)
}

// MayReceive says whether a message of a topic may be delivered to a client.
func (a *Authz) MayReceive(p *Principal, topic string) bool { return p.May(policy.Receive, topic) }

// Context gives what decides about a principal that connects with a client id: its
// documents, and what is known of it without a connection. It is for explanations
// ([policy.Explain]); principal is a certificate's ARN or another target of policies, ""
// for none.
func (a *Authz) Context(principal, clientID string) ([]*policy.Document, policy.Context, error) {
	c := policy.Context{Base: a.reg.Base(), ClientID: clientID, Now: a.clk.Now}
	thing := ""
	if clientID != "" {
		if t, attached := a.reg.Stands(principal, clientID); t != nil {
			thing, c.Thing = t.Name, thingOf(t, attached)
		}
	}
	if id := a.reg.Name("cert", principal); id != "" {
		cert, err := a.reg.Certificate(id)
		if err != nil {
			return nil, c, err
		}
		if x, err := registry.ParseCertificate(cert.PEM); err == nil {
			c.Certificate = describe(id, x)
		}
	}
	var docs []*policy.Document
	for _, p := range a.reg.Effective(principal, thing) {
		docs = append(docs, p.Document())
	}
	return docs, c, nil
}
