package control

import (
	"tidegate/gateway/api/restjson"
	"tidegate/gateway/fault"
	"tidegate/gateway/registry"
)

type roleIn struct {
	Name     string `at:"path,roleAlias"`
	Role     string `json:"roleArn"`
	Duration int    `json:"credentialDurationSeconds"`
	Tags     []tag  `json:"tags"`
}

// roles are the operations of role aliases. Devices get credentials for them from
// gateway/api/lend.
func (c *Control) roles() []restjson.Op {
	reg := c.Registry
	names := func(name string) map[string]string {
		return map[string]string{"roleAlias": name, "roleAliasArn": reg.ARN("rolealias", name)}
	}
	return []restjson.Op{
		restjson.Handle("CreateRoleAlias", "POST", "/role-aliases/{roleAlias}", func(call *restjson.Call, in *roleIn) (any, error) {
			return names(in.Name), c.do(call, func(tx *registry.Tx) error {
				return tx.CreateRoleAlias(registry.RoleAlias{Name: in.Name, Role: in.Role, Duration: in.Duration, Tags: tagMap(in.Tags)})
			})
		}),
		restjson.Handle("UpdateRoleAlias", "PUT", "/role-aliases/{roleAlias}", func(call *restjson.Call, in *roleIn) (any, error) {
			return names(in.Name), c.do(call, func(tx *registry.Tx) error { return tx.UpdateRoleAlias(in.Name, in.Role, in.Duration) })
		}),
		restjson.Handle("DescribeRoleAlias", "GET", "/role-aliases/{roleAlias}", func(_ *restjson.Call, in *roleIn) (any, error) {
			a, err := reg.RoleAlias(in.Name)
			if err != nil {
				return nil, err
			}
			return map[string]any{"roleAliasDescription": map[string]any{"roleAlias": a.Name, "roleAliasArn": reg.ARN("rolealias", a.Name), "roleArn": a.Role, "owner": reg.Account(),
				"credentialDurationSeconds": a.Duration, "creationDate": restjson.Time(a.Created), "lastModifiedDate": restjson.Time(a.Modified)}}, nil
		}),
		restjson.Handle("DeleteRoleAlias", "DELETE", "/role-aliases/{roleAlias}", func(call *restjson.Call, in *roleIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.DeleteRoleAlias(in.Name) })
		}),
		restjson.Handle("ListRoleAliases", "GET", "/role-aliases", func(_ *restjson.Call, in *markIn) (any, error) {
			p, err := in.page()
			if err != nil {
				return nil, err
			}
			list, next := reg.RoleAliases(p)
			out := []string{}
			for _, a := range list {
				out = append(out, a.Name)
			}
			return marked("roleAliases", out, next), nil
		}),
	}
}

type providerIn struct {
	Name       string   `at:"path,certificateProviderName"`
	Function   string   `json:"lambdaFunctionArn"`
	Operations []string `json:"accountDefaultForOperations"`
	Tags       []tag    `json:"tags"`
}

const signsCSR = "CreateCertificateFromCsr"

func (in *providerIn) check(needed bool) error {
	if needed && len(in.Operations) == 0 {
		return fault.New(fault.Invalid, "accountDefaultForOperations is needed")
	}
	for _, op := range in.Operations {
		if op != signsCSR {
			return fault.New(fault.Invalid, "accountDefaultForOperations is %q, expected %s", op, signsCSR)
		}
	}
	return nil
}

// providers are the operations of certificate providers.
func (c *Control) providers() []restjson.Op {
	reg := c.Registry
	names := func(name string) map[string]any {
		return map[string]any{"certificateProviderName": name, "certificateProviderArn": reg.ARN("certificateprovider", name)}
	}
	return []restjson.Op{
		restjson.Handle("CreateCertificateProvider", "POST", "/certificate-providers/{certificateProviderName}", func(call *restjson.Call, in *providerIn) (any, error) {
			if err := in.check(true); err != nil {
				return nil, err
			}
			return names(in.Name), c.do(call, func(tx *registry.Tx) error {
				return tx.CreateCertificateProvider(registry.CertificateProvider{Name: in.Name, Function: in.Function, Tags: tagMap(in.Tags)})
			})
		}),
		restjson.Handle("UpdateCertificateProvider", "PUT", "/certificate-providers/{certificateProviderName}", func(call *restjson.Call, in *providerIn) (any, error) {
			if err := in.check(false); err != nil {
				return nil, err
			}
			return names(in.Name), c.do(call, func(tx *registry.Tx) error { return tx.UpdateCertificateProvider(in.Name, in.Function) })
		}),
		restjson.Handle("DescribeCertificateProvider", "GET", "/certificate-providers/{certificateProviderName}", func(_ *restjson.Call, in *providerIn) (any, error) {
			p, err := reg.CertificateProvider(in.Name)
			if err != nil {
				return nil, err
			}
			out := names(p.Name)
			out["lambdaFunctionArn"], out["accountDefaultForOperations"] = p.Function, []string{signsCSR}
			out["creationDate"], out["lastModifiedDate"] = restjson.Time(p.Created), restjson.Time(p.Modified)
			return out, nil
		}),
		restjson.Handle("DeleteCertificateProvider", "DELETE", "/certificate-providers/{certificateProviderName}", func(call *restjson.Call, in *providerIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.DeleteCertificateProvider(in.Name) })
		}),
		restjson.Handle("ListCertificateProviders", "GET", "/certificate-providers", func(*restjson.Call, *struct{}) (any, error) {
			out := []map[string]any{}
			if p := reg.SignsRequests(); p != nil { // there is at most one
				out = append(out, names(p.Name))
			}
			return listing("certificateProviders", out, ""), nil
		}),
	}
}
