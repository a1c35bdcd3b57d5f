package authz

import (
	"crypto/tls"

	"tidegate/gateway/fault"
	"tidegate/gateway/registry"
)

// The protocols of TLS (ALPN) by which AWS IoT's clients say how they prove who they are
// (spec/mqtt.md §1). With "mqtt" it is a custom authorizer; here a certificate is taken,
// too, from whoever names no authorizer while there is no default one.
const (
	alpnCertificate = "x-amzn-mqtt-ca"
	alpnCustom      = "mqtt"
)

// use says whether something counts for a connection.
type use int

const (
	never  use = iota
	atLast     // when nothing else is shown
	first      // before anything else, if it can be had
	always     // nothing else does without it
)

// way is how clients of a connection prove who they are.
type way struct{ certificate, signature, custom use }

// way follows the domain configuration of the host that a client has asked for, or the
// protocol of its TLS.
func (a *Authz) way(state *tls.ConnectionState) way {
	if state == nil {
		return way{never, first, atLast}
	}
	if d := a.reg.DomainOf(state.ServerName); d != nil {
		switch d.Auth {
		case registry.AuthX509:
			return way{certificate: first}
		case registry.AuthSigV4:
			return way{signature: first}
		case registry.AuthCustom:
			return way{custom: always}
		case registry.AuthBothX509:
			return way{certificate: always, custom: always}
		}
	}
	switch state.NegotiatedProtocol {
	case alpnCertificate:
		return way{certificate: first, signature: first}
	case alpnCustom:
		return way{certificate: atLast, signature: first, custom: first}
	}
	return way{first, first, atLast}
}

// Speaks refuses a client that speaks another protocol than the domain configuration of
// the host it has asked for wants, or by an older TLS: protocol is one of registry's. The
// control plane is not asked for, as the configurations are about devices.
func (a *Authz) Speaks(state *tls.ConnectionState, protocol string) error {
	if state == nil {
		return nil
	}
	d := a.reg.DomainOf(state.ServerName)
	switch {
	case d == nil:
		return nil
	case d.Protocol != registry.ProtocolDefault && d.Protocol != protocol:
		return fault.New(fault.Forbidden, "the host that was asked for takes %s, and not %s", d.Protocol, protocol)
	case state.Version < tls.VersionTLS13 && !d.TLS12():
		return fault.New(fault.Forbidden, "the host that was asked for takes TLS 1.3 alone")
	}
	return nil
}

// Wants says whether the domain configuration of a host wants a protocol, so that no ALPN
// is needed.
func (a *Authz) Wants(host, protocol string) bool {
	d := a.reg.DomainOf(host)
	return d != nil && d.Protocol == protocol
}

// errWay is the answer to who shows what does not count.
func errWay() error {
	return fault.New(fault.Unauthorized, "the host that was asked for takes other credentials")
}
