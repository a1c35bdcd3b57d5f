package authz

import (
	"crypto/tls"
	"net/netip"
	"strings"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/policy"
	"tidegate/gateway/registry"
)

// A device exchanges its certificate for credentials of a role (spec/identity.md §4), to
// sign requests with where TLS client certificates cannot be had: behind a proxy, in a
// browser, with the aws command. What a role allows is the policy of the role's name,
// arn:aws:iam::ACCOUNT:role/NAME, as it is registered here; a role without one allows
// nothing and is not lent. The credentials are good for the data plane, never for the
// control plane.

// rolePrefix begins the names of principals with credentials of a role. They end with the
// certificate, as session names of roles do that AWS IoT lends.
const rolePrefix = "assumed-role/"

// roleEnd is the disconnectReason of a connection whose credentials have ended.
const roleEnd = "WEBSOCKET_TTL_EXPIRATION"

// role is what credentials of a role are for.
type role struct {
	a *Authz
	loan
}

// loan is what a session token says.
type loan struct {
	AccessKey   string `json:"k"`
	Alias       string `json:"a"` // "" when it is not known any more, see Restore
	Role        string `json:"r"` // name
	Certificate string `json:"c"`
	Thing       string `json:"t,omitempty"`
	Expires     int64  `json:"e"` // seconds since 1970; 0: not known any more
}

// Loan is what a device asks for when it asks for credentials.
type Loan struct {
	Certificate string // its id
	Alias, Role string // the role's alias, and its ARN
	Thing       string // "" when none was named
	Duration    time.Duration
}

// Assume judges a device that asks for the credentials of a role: Unauthorized without a
// good certificate, Forbidden when its policies do not have iot:AssumeRoleWithCertificate,
// when thing, if any, is not attached to the certificate, or when the role has no policy
// here, and NotFound for an alias that is not known. Thing variables have no values, and
// the policies of the thing's groups count.
func (a *Authz) Assume(state *tls.ConnectionState, remote netip.Addr, alias, thing string) (*Loan, error) {
	if way := a.way(state); state == nil || len(state.PeerCertificates) == 0 || way.certificate == never || way.custom == always {
		return nil, fault.New(fault.Unauthorized, "a client certificate is needed")
	}
	cert, err := a.admit(state.PeerCertificates[0])
	if err != nil {
		return nil, err
	}
	if thing != "" {
		if !a.attached(cert.ID, thing) {
			return nil, fault.New(fault.Forbidden, "the certificate is not attached to the thing %s", thing)
		}
	}
	p := a.device(cert, policy.Context{Base: a.reg.Base(), SourceIP: remote, DomainName: state.ServerName, Now: a.clk.Now}, thing)
	if !p.May(policy.AssumeRoleWithCertificate, alias) {
		return nil, fault.New(fault.Forbidden, "the policies of %s do not allow iot:AssumeRoleWithCertificate on the role alias %s", cert.ID, alias)
	}
	r, err := a.reg.RoleAlias(alias)
	if err != nil {
		return nil, err
	}
	if _, err := a.reg.Policy(a.roleName(r.Role)); err != nil {
		return nil, fault.Wrap(fault.Forbidden, err, "the role %s can do nothing here: it needs a policy of its name, in the account %s", r.Role, a.reg.Account())
	}
	return &Loan{Certificate: cert.ID, Alias: alias, Role: r.Role, Thing: thing, Duration: time.Duration(r.Duration) * time.Second}, nil
}

// roleName gives the name of a role of this account, without its path, "" for another ARN.
func (a *Authz) roleName(arn string) string {
	p := strings.SplitN(arn, ":", 6)
	if len(p) != 6 || p[0] != "arn" || p[2] != "iam" || p[4] != a.reg.Account() || !strings.HasPrefix(p[5], "role/") {
		return ""
	}
	return p[5][strings.LastIndexByte(p[5], '/')+1:]
}

// roleNamed gives the role of a stored session by the name of its principal, nil for other
// names. Which thing was named is forgotten; it is the one that the client id names.
func (a *Authz) roleNamed(name, clientID string) *role {
	rest, ok := strings.CutPrefix(name, rolePrefix)
	if !ok {
		return nil
	}
	r := &role{a: a}
	r.Role, r.Certificate, _ = strings.Cut(rest, "/")
	if a.attached(r.Certificate, clientID) {
		r.Thing = clientID
	}
	return r
}

// attached says whether a thing is one of a certificate's.
func (a *Authz) attached(certificate, thing string) bool {
	t, attached := a.reg.Stands(a.reg.ARN("cert", certificate), thing)
	return attached && t.Name == thing
}

// principal gives who has the credentials.
func (r *role) principal(ctx policy.Context) *Principal {
	return &Principal{a: r.a, name: rolePrefix + r.Role + "/" + r.Certificate, ctx: ctx, role: r, docs: func(c *policy.Context) ([]*policy.Document, bool) {
		p, err := r.a.reg.Policy(r.Role)
		if err != nil || !r.holds() {
			return nil, false
		}
		c.Extra = map[string][]string{"credentials-iot:AwsCertificateId": {r.Certificate}}
		if t, err := r.a.reg.Thing(r.Thing); err == nil && r.a.attached(r.Certificate, t.Name) {
			c.Extra["credentials-iot:ThingName"] = []string{t.Name}
			if t.Type != "" {
				c.Extra["credentials-iot:ThingTypeName"] = []string{t.Type}
			}
		}
		return []*policy.Document{p.Document()}, true
	}}
}

// holds says whether what the credentials were lent for is still so: the certificate is
// active, and the alias is one of the role.
func (r *role) holds() bool {
	c, err := r.a.reg.Certificate(r.Certificate)
	if err != nil || c.Status != registry.Active {
		return false
	}
	if r.Alias == "" {
		return true
	}
	alias, err := r.a.reg.RoleAlias(r.Alias)
	return err == nil && r.a.roleName(alias.Role) == r.Role
}

// until says when a connection ends that was opened with the credentials: with them, or
// long ago, if they do not hold any more.
func (r *role) until() (time.Time, string) {
	if !r.holds() {
		return time.Unix(0, 0), roleEnd
	}
	if r.Expires == 0 {
		return time.Time{}, ""
	}
	return time.Unix(r.Expires, 0), roleEnd
}
