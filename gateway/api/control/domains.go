package control

import (
	"tidegate/gateway/api/restjson"
	"tidegate/gateway/fault"
	"tidegate/gateway/registry"
)

// authorizerConfig is what a domain configuration says of authorizers.
type authorizerConfig struct {
	Default  string `json:"defaultAuthorizerName,omitempty"`
	Override bool   `json:"allowAuthorizerOverride"`
}

type tlsConfig struct {
	Policy string `json:"securityPolicy,omitempty"`
}

type domainIn struct {
	Name         string            `at:"path,domainConfigurationName"`
	Host         string            `json:"domainName"`
	Certificates []string          `json:"serverCertificateArns"`
	Authorizer   *authorizerConfig `json:"authorizerConfig"`
	Remove       bool              `json:"removeAuthorizerConfig"`
	Status       string            `json:"domainConfigurationStatus"`
	Service      string            `json:"serviceType"`
	Tags         []tag             `json:"tags"`
	TLS          *tlsConfig        `json:"tlsConfig"`
	Auth         *string           `json:"authenticationType"`
	Protocol     *string           `json:"applicationProtocol"`
	Client       *struct {
		Callback string `json:"clientCertificateCallbackArn"`
	} `json:"clientCertificateConfig"`
}

// check refuses what this gateway would not do.
func (in *domainIn) check() error {
	switch {
	case in.Service != "" && in.Service != "DATA":
		return fault.New(fault.Invalid, "serviceType is %s, and the only service that has domain configurations here is DATA", in.Service)
	case in.Client != nil && in.Client.Callback != "":
		return fault.New(fault.Invalid, "clientCertificateCallbackArn is not served by this gateway")
	case in.Status != "" && in.Status != "ENABLED" && in.Status != "DISABLED":
		return fault.New(fault.Invalid, "domainConfigurationStatus is ENABLED or DISABLED")
	case len(in.Certificates) > 1:
		return fault.New(fault.Invalid, "serverCertificateArns has at most one entry")
	}
	return nil
}

// change takes what was given.
func (in *domainIn) change(d *registry.Domain) {
	if in.Remove {
		d.Authorizer, d.Override = "", false
	}
	if x := in.Authorizer; x != nil {
		d.Authorizer, d.Override = x.Default, x.Override
	}
	if in.Status != "" {
		d.Disabled = in.Status == "DISABLED"
	}
	if in.TLS != nil {
		d.TLSPolicy = in.TLS.Policy
	}
	set(&d.Auth, in.Auth)
	set(&d.Protocol, in.Protocol)
}

func (c *Control) domainNames(d *registry.Domain) map[string]string {
	return map[string]string{"domainConfigurationName": d.Name, "domainConfigurationArn": c.Registry.ARN("domainconfiguration", d.Name+"/"+d.ID)}
}

// domains are the operations of domain configurations: which protocol, which authorizer, and
// which way of proving who one is, holds for clients that ask for a host name. The
// gateway's own certificate serves them all; identity.names has it bear theirs.
func (c *Control) domains() []restjson.Op {
	reg := c.Registry
	return []restjson.Op{
		restjson.Handle("CreateDomainConfiguration", "POST", "/domainConfigurations/{domainConfigurationName}", func(call *restjson.Call, in *domainIn) (any, error) {
			if err := in.check(); err != nil {
				return nil, err
			}
			given := registry.Domain{Name: in.Name, Host: in.Host, Certificates: in.Certificates, Tags: tagMap(in.Tags)}
			in.change(&given)
			var d *registry.Domain
			if err := c.do(call, func(tx *registry.Tx) (err error) { d, err = tx.CreateDomain(given); return err }); err != nil {
				return nil, err
			}
			return c.domainNames(d), nil
		}),
		restjson.Handle("UpdateDomainConfiguration", "PUT", "/domainConfigurations/{domainConfigurationName}", func(call *restjson.Call, in *domainIn) (any, error) {
			if err := in.check(); err != nil {
				return nil, err
			}
			var d *registry.Domain
			if err := c.do(call, func(tx *registry.Tx) (err error) { d, err = tx.UpdateDomain(in.Name, in.change); return err }); err != nil {
				return nil, err
			}
			return c.domainNames(d), nil
		}),
		restjson.Handle("DescribeDomainConfiguration", "GET", "/domainConfigurations/{domainConfigurationName}", func(_ *restjson.Call, in *domainIn) (any, error) {
			d, err := reg.Domain(in.Name)
			if err != nil {
				return nil, err
			}
			out := map[string]any{"domainName": d.Host, "domainConfigurationStatus": "ENABLED", "serviceType": "DATA", "domainType": "CUSTOMER_MANAGED", "lastStatusChangeDate": restjson.Time(d.Changed),
				"authenticationType": d.Auth, "applicationProtocol": d.Protocol, "serverCertificates": []map[string]string{}, "tlsConfig": tlsConfig{d.TLSPolicy}}
			for k, v := range c.domainNames(d) {
				out[k] = v
			}
			if d.Disabled {
				out["domainConfigurationStatus"] = "DISABLED"
			}
			if d.Host == "" {
				out["domainType"], out["domainName"] = "AWS_MANAGED", c.host("")
			}
			if d.Authorizer != "" {
				out["authorizerConfig"] = authorizerConfig{d.Authorizer, d.Override}
			}
			for _, arn := range d.Certificates {
				out["serverCertificates"] = []map[string]string{{"serverCertificateArn": arn, "serverCertificateStatus": "VALID"}}
			}
			return out, nil
		}),
		restjson.Handle("DeleteDomainConfiguration", "DELETE", "/domainConfigurations/{domainConfigurationName}", func(call *restjson.Call, in *domainIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.DeleteDomain(in.Name) })
		}),
		restjson.Handle("ListDomainConfigurations", "GET", "/domainConfigurations", func(_ *restjson.Call, in *struct {
			markIn
			Service string `at:"query,serviceType"`
		}) (any, error) {
			p, err := in.page()
			if err != nil {
				return nil, err
			}
			list, next := reg.Domains(p)
			out := []map[string]string{}
			for _, d := range list {
				if in.Service == "" || in.Service == "DATA" {
					x := c.domainNames(d)
					x["serviceType"] = "DATA"
					out = append(out, x)
				}
			}
			return marked("domainConfigurations", out, next), nil
		}),
	}
}
