package control

import (
	"tidegate/gateway/api/restjson"
	"tidegate/gateway/fault"
	"tidegate/gateway/policy"
	"tidegate/gateway/registry"
)

type policyIn struct {
	Name     string `at:"path,policyName"`
	Version  string `at:"path,policyVersionId"`
	Default  bool   `at:"query,setAsDefault"`
	Document string `json:"policyDocument"`
	Target   string `json:"target"`
	Tags     []tag  `json:"tags"`
}

type policyOut struct {
	Name string `json:"policyName"`
	ARN  string `json:"policyArn"`
}

func (c *Control) policyList(ps []*registry.Policy) []policyOut {
	out := make([]policyOut, 0, len(ps))
	for _, p := range ps {
		out = append(out, policyOut{p.Name, c.Registry.ARN("policy", p.Name)})
	}
	return out
}

func (c *Control) policies() []restjson.Op {
	reg := c.Registry
	arn := func(name string) string { return reg.ARN("policy", name) }
	return []restjson.Op{
		restjson.Handle("CreatePolicy", "POST", "/policies/{policyName}", func(call *restjson.Call, in *policyIn) (any, error) {
			var p *registry.Policy
			err := c.do(call, func(tx *registry.Tx) (err error) {
				p, err = tx.CreatePolicy(in.Name, in.Document, tagMap(in.Tags))
				return err
			})
			if err != nil {
				return nil, err
			}
			return map[string]string{"policyName": p.Name, "policyArn": arn(p.Name), "policyDocument": in.Document, "policyVersionId": p.Default}, nil
		}),
		restjson.Handle("CreatePolicyVersion", "POST", "/policies/{policyName}/version", func(call *restjson.Call, in *policyIn) (any, error) {
			var v *registry.PolicyVersion
			err := c.do(call, func(tx *registry.Tx) (err error) {
				v, err = tx.CreatePolicyVersion(in.Name, in.Document, in.Default)
				return err
			})
			if err != nil {
				return nil, err
			}
			return map[string]any{"policyArn": arn(in.Name), "policyDocument": v.Document, "policyVersionId": v.ID, "isDefaultVersion": in.Default}, nil
		}),
		restjson.Handle("GetPolicy", "GET", "/policies/{policyName}", func(_ *restjson.Call, in *policyIn) (any, error) {
			p, err := reg.Policy(in.Name)
			if err != nil {
				return nil, err
			}
			return map[string]any{"policyName": p.Name, "policyArn": arn(p.Name), "policyDocument": p.Version(p.Default).Document, "defaultVersionId": p.Default,
				"creationDate": restjson.Time(p.Created), "lastModifiedDate": restjson.Time(p.Modified), "generationId": p.Default}, nil
		}),
		restjson.Handle("GetPolicyVersion", "GET", "/policies/{policyName}/version/{policyVersionId}", func(_ *restjson.Call, in *policyIn) (any, error) {
			p, err := reg.Policy(in.Name)
			if err != nil {
				return nil, err
			}
			v := p.Version(in.Version)
			if v == nil {
				return nil, fault.New(fault.NotFound, "Policy version %s of %s does not exist", in.Version, in.Name)
			}
			return map[string]any{"policyName": p.Name, "policyArn": arn(p.Name), "policyDocument": v.Document, "policyVersionId": v.ID, "isDefaultVersion": v.ID == p.Default,
				"creationDate": restjson.Time(v.Created), "lastModifiedDate": restjson.Time(v.Created), "generationId": v.ID}, nil
		}),
		restjson.Handle("ListPolicies", "GET", "/policies", func(_ *restjson.Call, in *markIn) (any, error) {
			p, err := in.page()
			if err != nil {
				return nil, err
			}
			ps, next := reg.Policies(p)
			return marked("policies", c.policyList(ps), next), nil
		}),
		restjson.Handle("ListPolicyVersions", "GET", "/policies/{policyName}/version", func(_ *restjson.Call, in *policyIn) (any, error) {
			p, err := reg.Policy(in.Name)
			if err != nil {
				return nil, err
			}
			out := []map[string]any{}
			for i := len(p.Versions) - 1; i >= 0; i-- { // the newest first
				v := p.Versions[i]
				out = append(out, map[string]any{"versionId": v.ID, "isDefaultVersion": v.ID == p.Default, "createDate": restjson.Time(v.Created)})
			}
			return map[string]any{"policyVersions": out}, nil
		}),
		restjson.Handle("SetDefaultPolicyVersion", "PATCH", "/policies/{policyName}/version/{policyVersionId}", func(call *restjson.Call, in *policyIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.SetDefaultVersion(in.Name, in.Version) })
		}),
		restjson.Handle("DeletePolicyVersion", "DELETE", "/policies/{policyName}/version/{policyVersionId}", func(call *restjson.Call, in *policyIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.DeletePolicyVersion(in.Name, in.Version) })
		}),
		restjson.Handle("DeletePolicy", "DELETE", "/policies/{policyName}", func(call *restjson.Call, in *policyIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.DeletePolicy(in.Name) })
		}),
		restjson.Handle("AttachPolicy", "PUT", "/target-policies/{policyName}", func(call *restjson.Call, in *policyIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.AttachPolicy(in.Name, in.Target) })
		}),
		restjson.Handle("DetachPolicy", "POST", "/target-policies/{policyName}", func(call *restjson.Call, in *policyIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.DetachPolicy(in.Name, in.Target) })
		}),
		restjson.Handle("AttachPrincipalPolicy", "PUT", "/principal-policies/{policyName}", func(call *restjson.Call, in *principalPolicyIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.AttachPolicy(in.Name, in.Principal) })
		}),
		restjson.Handle("DetachPrincipalPolicy", "DELETE", "/principal-policies/{policyName}", func(call *restjson.Call, in *principalPolicyIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.DetachPolicy(in.Name, in.Principal) })
		}),
		restjson.Handle("ListAttachedPolicies", "POST", "/attached-policies/{target}", func(_ *restjson.Call, in *struct {
			markIn
			Target    string `at:"path,target"`
			Recursive bool   `at:"query,recursive"`
		}) (any, error) {
			return c.attachedPolicies(unquote(in.Target), in.Recursive, in.markIn)
		}),
		restjson.Handle("ListPrincipalPolicies", "GET", "/principal-policies", func(_ *restjson.Call, in *struct {
			markIn
			Principal string `at:"header,x-amzn-iot-principal" need:""`
		}) (any, error) {
			return c.attachedPolicies(in.Principal, false, in.markIn)
		}),
		restjson.Handle("ListTargetsForPolicy", "POST", "/policy-targets/{policyName}", func(_ *restjson.Call, in *struct {
			markIn
			Name string `at:"path,policyName"`
		}) (any, error) {
			return c.targets("targets", in.Name, in.markIn)
		}),
		restjson.Handle("ListPolicyPrincipals", "GET", "/policy-principals", func(_ *restjson.Call, in *struct {
			markIn
			Name string `at:"header,x-amzn-iot-policy" need:""`
		}) (any, error) {
			return c.targets("principals", in.Name, in.markIn)
		}),
		restjson.Handle("GetEffectivePolicies", "POST", "/effective-policies", func(_ *restjson.Call, in *struct {
			Thing     string `at:"query,thingName"`
			Principal string `json:"principal"`
		}) (any, error) {
			ps, err := c.effective(in.Principal, in.Thing)
			if err != nil {
				return nil, err
			}
			out := []map[string]string{}
			for _, p := range ps {
				out = append(out, map[string]string{"policyName": p.Name, "policyArn": arn(p.Name), "policyDocument": p.Version(p.Default).Document})
			}
			return map[string]any{"effectivePolicies": out}, nil
		}),
		restjson.Handle("TestAuthorization", "POST", "/test-authorization", c.testAuthorization),
	}
}

type principalPolicyIn struct {
	Name      string `at:"path,policyName"`
	Principal string `at:"header,x-amzn-iot-principal" need:""`
}

func (c *Control) attachedPolicies(target string, recursive bool, in markIn) (any, error) {
	p, err := in.page()
	if err != nil {
		return nil, err
	}
	ps, next, err := c.Registry.AttachedPolicies(target, recursive, p)
	if err != nil {
		return nil, err
	}
	return marked("policies", c.policyList(ps), next), nil
}

// effective gives the policies a connection would have: those of the principal and, for a thing attached to it, of the
// thing's groups. Of a thing alone it gives those of its groups.
func (c *Control) effective(principal, thing string) ([]*registry.Policy, error) {
	if thing != "" {
		if _, err := c.Registry.Thing(thing); err != nil {
			return nil, err
		}
	}
	if principal == "" {
		return c.Registry.Inherited(thing), nil
	}
	if _, _, err := c.Registry.AttachedPolicies(principal, false, registry.Page{Max: 1}); err != nil {
		return nil, err
	}
	return c.Registry.Effective(principal, thing), nil
}

func (c *Control) targets(member, name string, in markIn) (any, error) {
	p, err := in.page()
	if err != nil {
		return nil, err
	}
	targets, next, err := c.Registry.Targets(name, p)
	if err != nil {
		return nil, err
	}
	return marked(member, append([]string{}, targets...), next), nil
}

// testActions are the kinds of TestAuthorization.
var testActions = map[string]policy.Action{"PUBLISH": policy.Publish, "SUBSCRIBE": policy.Subscribe, "RECEIVE": policy.Receive, "CONNECT": policy.Connect}

type authInfo struct {
	Action    string   `json:"actionType,omitempty"`
	Resources []string `json:"resources"`
}

type testIn struct {
	Client    string     `at:"query,clientId"`
	Principal string     `json:"principal"`
	Infos     []authInfo `json:"authInfos" need:""`
	Add       []string   `json:"policyNamesToAdd"`
	Skip      []string   `json:"policyNamesToSkip"`
}

// testAuthorization says what the policies would say, and why.
func (c *Control) testAuthorization(_ *restjson.Call, in *testIn) (any, error) {
	if len(in.Infos) > 10 {
		return nil, fault.New(fault.Invalid, "authInfos has at most 10 elements")
	}
	docs, ctx, err := c.Auth.Context(in.Principal, in.Client)
	if err != nil {
		return nil, err
	}
	skip := map[string]bool{}
	for _, n := range in.Skip {
		skip[n] = true
	}
	var all []*policy.Document
	for _, d := range docs {
		if !skip[d.Name] {
			all = append(all, d)
		}
	}
	for _, n := range in.Add {
		p, err := c.Registry.Policy(n)
		if err != nil {
			return nil, err
		}
		all = append(all, p.Document())
	}
	results := []any{}
	for _, info := range in.Infos {
		action, ok := testActions[info.Action]
		if !ok {
			return nil, fault.New(fault.Invalid, "actionType is PUBLISH, SUBSCRIBE, RECEIVE or CONNECT")
		}
		for _, resource := range info.Resources {
			results = append(results, c.result(info.Action, resource, policy.Explain(all, ctx, action, resource)))
		}
	}
	return map[string]any{"authResults": results}, nil
}

func (c *Control) result(action, resource string, e policy.Explanation) any {
	list := func(names []string) map[string]any {
		out := []policyOut{}
		for _, n := range names {
			out = append(out, policyOut{n, c.Registry.ARN("policy", n)})
		}
		return map[string]any{"policies": out}
	}
	denied := map[string]any{}
	switch e.Decision {
	case policy.ExplicitDeny:
		denied["explicitDeny"] = list(e.Denied)
	case policy.ImplicitDeny:
		denied["implicitDeny"] = list(nil)
	}
	return map[string]any{"authInfo": authInfo{action, []string{resource}}, "allowed": list(e.Allowed), "denied": denied,
		"authDecision": e.Decision.String(), "missingContextValues": append([]string{}, e.Missing...)}
}
