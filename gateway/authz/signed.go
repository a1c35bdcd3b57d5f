package authz

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"tidegate/gateway/api/sigv4"
	"tidegate/gateway/fault"
	"tidegate/gateway/policy"
	"tidegate/gateway/registry"
)

// Keys knows the access keys of those who sign requests. *operators.Operators is one.
type Keys interface {
	// Secret is what sigv4.Verifier asks.
	Secret(accessKey, token string) (string, error)
	// Name gives whose key it is.
	Name(accessKey string) string
	// Documents gives what that operator may do, or false when there is no such one.
	Documents(name string) ([]*policy.Document, bool)
}

// Signed gives the principal of a request by its signature over the request line, the
// headers and body: an operator, or a device with credentials of a role. services are the signing names that may stand in it. Errors are
// fault.Unauthorized with a reason of sigv4 in their chain.
func (a *Authz) Signed(keys Keys, r *http.Request, body []byte, services ...string) (*Principal, error) {
	var lent *role
	v := sigv4.Verifier{Now: a.clk.Now, Trusted: a.clk.Trusted, Secret: func(accessKey, token string) (secret string, err error) {
		if strings.HasPrefix(accessKey, lentPrefix) {
			lent, secret, err = a.lent(accessKey, token)
			return secret, err
		}
		return keys.Secret(accessKey, token)
	}}
	id, err := v.Verify(r, body)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(services, id.Service) {
		return nil, fault.Wrap(fault.Unauthorized, sigv4.ErrSignature, "Credential should be scoped to correct service: '%s'.", services[0])
	}
	if lent != nil {
		ctx := policy.Context{Base: a.reg.Base(), SourceIP: RemoteOf(r), Now: a.clk.Now}
		if r.TLS != nil {
			ctx.DomainName = r.TLS.ServerName
		}
		return lent.principal(ctx), nil
	}
	name := keys.Name(id.AccessKey)
	return a.Operator(name, func() ([]*policy.Document, bool) { return keys.Documents(name) }), nil
}

// Caller is Signed for the data plane, where the host that was asked for may take other
// credentials.
func (a *Authz) Caller(keys Keys, r *http.Request, body []byte, services ...string) (*Principal, error) {
	p, err := a.Signed(keys, r, body, services...)
	if err == nil && a.way(r.TLS).signature == never {
		return nil, errWay()
	}
	return p, err
}

// Upgrade judges the request with which an HTTP connection is to become an MQTT one. The
// principal is nil when the request is not signed: the client's certificate is judged at
// CONNECT, as are credentials there. What cannot come to a good end is refused here.
func (a *Authz) Upgrade(keys Keys, r *http.Request, listener string) (*Principal, error) {
	p, err := a.upgrade(keys, r, listener)
	if err != nil {
		a.refused(Refusal{What: "upgrade", Name: r.URL.Path, Remote: RemoteOf(r), Err: err})
	}
	return p, err
}

func (a *Authz) upgrade(keys Keys, r *http.Request, listener string) (*Principal, error) {
	if err := a.Speaks(r.TLS, registry.ProtocolWSS); err != nil {
		return nil, err
	}
	switch {
	case sigv4.Signed(r):
		return a.Caller(keys, r, nil, "iotdevicegateway", "iotdata")
	case r.TLS != nil && len(r.TLS.PeerCertificates) > 0, a.vouching(), slices.Contains(a.cfg.Anonymous, listener):
		return nil, nil
	}
	return nil, fault.Wrap(fault.Unauthorized, sigv4.ErrMissing, "a signed URL, a client certificate or another credential is needed")
}

// RemoteOf gives the address a request came from.
func RemoteOf(r *http.Request) netip.Addr { return parseRemote(r.RemoteAddr) }

// Remote gives the address of a connection's peer.
func Remote(a net.Addr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	return parseRemote(a.String())
}

func parseRemote(s string) netip.Addr {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
