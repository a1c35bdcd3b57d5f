package control

import (
	"errors"

	"tidegate/gateway/api/restjson"
	"tidegate/gateway/fault"
	"tidegate/gateway/provision"
	"tidegate/gateway/registry"
)

// errRegistration marks a registration that failed on what it referred to.
var errRegistration = errors.New("registration failed")

func (c *Control) provisioning() []restjson.Op {
	return []restjson.Op{
		restjson.Handle("RegisterThing", "POST", "/things", func(call *restjson.Call, in *struct {
			Template   string            `json:"templateBody" need:""`
			Parameters map[string]string `json:"parameters"`
		}) (any, error) {
			tpl, err := provision.ParseTemplate(in.Template)
			if err != nil {
				return nil, err
			}
			resolved, err := tpl.Resolve(in.Parameters, false)
			if err != nil {
				return nil, err
			}
			out, err := provision.Register(c.Registry, who(call), c.Identity, resolved)
			if fault.Is(err, fault.NotFound) || errors.Is(err, registry.ErrPolicy) {
				return nil, fault.Wrap(fault.Invalid, errRegistration, "%s", fault.Message(err))
			}
			if err != nil {
				return nil, err
			}
			return struct {
				PEM  *string           `json:"certificatePem,omitempty"`
				ARNs map[string]string `json:"resourceArns"`
			}{opt(out.CertificatePEM), out.ARNs}, nil
		}),
	}
}
