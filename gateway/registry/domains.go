package registry

import (
	"crypto/rand"
	"maps"
	"slices"
	"strings"
	"time"

	"tidegate/gateway/fault"
)

// Domain is a domain configuration: what holds for clients that ask for a host name in
// their TLS handshake. Records are read-only.
type Domain struct {
	Name         string
	ID           string            // the end of its ARN
	Host         string            `json:",omitempty"` // the name clients ask for, in lower case
	Certificates []string          `json:",omitempty"` // ARNs, for whoever wrote them; the gateway has its own certificate
	Authorizer   string            `json:",omitempty"` // the default one for this name
	Override     bool              `json:",omitempty"` // a client may name another authorizer
	Auth         string            // how clients prove who they are, one of the Auth constants
	Protocol     string            // what clients speak, one of the Protocol constants
	Disabled     bool              `json:",omitempty"` // it has no effect
	TLSPolicy    string            `json:",omitempty"` // name of a security policy
	Tags         map[string]string `json:",omitempty"`
	Created      time.Time
	Changed      time.Time // its status
}

// How clients of a domain configuration prove who they are (spec/mqtt.md §1).
const (
	AuthDefault  = "DEFAULT" // by what they show
	AuthX509     = "AWS_X509"
	AuthCustom   = "CUSTOM_AUTH"
	AuthSigV4    = "AWS_SIGV4"
	AuthBothX509 = "CUSTOM_AUTH_X509" // a certificate, and then an authorizer
)

// What clients of a domain configuration speak.
const (
	ProtocolDefault = "DEFAULT" // whatever is served on the port
	ProtocolMQTT    = "SECURE_MQTT"
	ProtocolWSS     = "MQTT_WSS"
	ProtocolHTTPS   = "HTTPS"
)

// securityPolicies are the names of what TLS AWS has for a domain, and whether version 1.2
// is taken. Those that go below are not among them: TLS 1.2 is the least there is here.
var securityPolicies = map[string]bool{"": true, "IotSecurityPolicy_TLS13_1_3_2022_10": false, "IotSecurityPolicy_TLS13_1_2_2022_10": true, "IotSecurityPolicy_TLS12_1_2_2022_10": true}

// TLS12 says whether clients may come by TLS 1.2.
func (d *Domain) TLS12() bool { return securityPolicies[d.TLSPolicy] }

var (
	ruleDomain = newRule("domainConfigurationName", 1, 128, `[\w.-]+`)
	ruleHost   = newRule("domainName", 0, 253, `(?i:[a-z0-9*]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*)?`)
)

// Domain gives a domain configuration.
func (r *Registry) Domain(name string) (*Domain, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.domain(name)
}

func (r *Registry) domain(name string) (*Domain, error) {
	if d := r.domains.m[name]; d != nil {
		return d, nil
	}
	return nil, notFound("Domain configuration", name)
}

// Domains lists domain configurations by name.
func (r *Registry) Domains(p Page) (domains []*Domain, next string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names, next := page(r.domains.keys, p, nil)
	return pick(&r.domains, names), next
}

// DomainOf gives the domain configuration that holds for a host name, nil for none.
func (r *Registry) DomainOf(host string) *Domain {
	if host == "" {
		return nil
	}
	host = strings.ToLower(host)
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, d := range r.domains.m {
		if d.Host == host && !d.Disabled {
			return d
		}
	}
	return nil
}

// CreateDomain adds a domain configuration.
func (tx *Tx) CreateDomain(d Domain) (*Domain, error) {
	if err := ruleDomain.check(d.Name); err != nil {
		return nil, err
	}
	if err := checkTags(d.Tags); err != nil {
		return nil, err
	}
	if tx.r.domains.m[d.Name] != nil {
		return nil, fault.Wrap(fault.Exists, &ExistsError{d.Name, tx.r.ARN("domainconfiguration", d.Name)}, "Domain configuration %s already exists", d.Name)
	}
	d.ID, d.Tags, d.Created, d.Changed = strings.ToLower(rand.Text()[:5]), maps.Clone(d.Tags), tx.now, tx.now
	return &d, tx.setDomain(&d)
}

func (tx *Tx) setDomain(d *Domain) error {
	if err := ruleHost.check(d.Host); err != nil {
		return err
	}
	d.Host = strings.ToLower(d.Host)
	for _, other := range tx.r.domains.m {
		if d.Host != "" && other.Host == d.Host && other.Name != d.Name {
			return fault.Wrap(fault.Exists, &ExistsError{other.Name, tx.r.ARN("domainconfiguration", other.Name)}, "The domain name %s belongs to the domain configuration %s", d.Host, other.Name)
		}
	}
	if d.Authorizer != "" {
		if _, err := tx.r.authorizer(d.Authorizer); err != nil {
			return err
		}
	}
	switch d.Auth {
	case "":
		d.Auth = AuthDefault
	case AuthDefault, AuthX509, AuthCustom, AuthSigV4, AuthBothX509:
	default:
		return fault.New(fault.Invalid, "authenticationType is %q, expected %s, %s, %s, %s or %s", d.Auth, AuthX509, AuthCustom, AuthSigV4, AuthBothX509, AuthDefault)
	}
	switch d.Protocol {
	case "":
		d.Protocol = ProtocolDefault
	case ProtocolDefault, ProtocolMQTT, ProtocolWSS, ProtocolHTTPS:
	default:
		return fault.New(fault.Invalid, "applicationProtocol is %q, expected %s, %s, %s or %s", d.Protocol, ProtocolMQTT, ProtocolWSS, ProtocolHTTPS, ProtocolDefault)
	}
	if d.Protocol == ProtocolMQTT && d.Auth == AuthSigV4 {
		return fault.New(fault.Invalid, "nobody could come in: %s carries no signature, it needs another authenticationType than %s", ProtocolMQTT, AuthSigV4)
	}
	if _, known := securityPolicies[d.TLSPolicy]; !known {
		return fault.New(fault.Invalid, "securityPolicy is %q, expected one of %s", d.TLSPolicy, strings.Join(slices.Sorted(maps.Keys(securityPolicies))[1:], ", "))
	}
	set(tx, &tx.r.domains, "domain", d.Name, d)
	return nil
}

// UpdateDomain changes a domain configuration by a function that is given a copy; its
// names stay.
func (tx *Tx) UpdateDomain(name string, change func(*Domain)) (*Domain, error) {
	have, err := tx.r.domain(name)
	if err != nil {
		return nil, err
	}
	d := *have
	change(&d)
	d.Name, d.ID, d.Host = have.Name, have.ID, have.Host
	if d.Disabled != have.Disabled {
		d.Changed = tx.now
	}
	return &d, tx.setDomain(&d)
}

// DeleteDomain removes a domain configuration that is disabled.
func (tx *Tx) DeleteDomain(name string) error {
	have, err := tx.r.domain(name)
	if err != nil {
		return err
	}
	if !have.Disabled {
		return fault.New(fault.Invalid, "The domain configuration %s is enabled; disable it first", name)
	}
	set(tx, &tx.r.domains, "domain", name, nil)
	return nil
}
