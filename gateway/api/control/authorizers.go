package control

import (
	"net/http"
	"time"

	"tidegate/gateway/api/restjson"
	"tidegate/gateway/authz"
	"tidegate/gateway/fault"
	"tidegate/gateway/registry"
)

type authorizerIn struct {
	Name     string            `at:"path,authorizerName"`
	Function *string           `json:"authorizerFunctionArn"`
	TokenKey *string           `json:"tokenKeyName"`
	Keys     map[string]string `json:"tokenSigningPublicKeys"`
	Status   *registry.Status  `json:"status"`
	Tags     []tag             `json:"tags"`
	Unsigned bool              `json:"signingDisabled"`
	Cache    *bool             `json:"enableCachingForHttp"`
}

// change takes what was given.
func (in *authorizerIn) change(a *registry.Authorizer) {
	set(&a.Function, in.Function)
	set(&a.TokenKey, in.TokenKey)
	set(&a.Status, in.Status)
	set(&a.CacheHTTP, in.Cache)
	if in.Keys != nil {
		a.Keys = in.Keys
	}
}

func (c *Control) authorizerNames(name string) map[string]string {
	return map[string]string{"authorizerName": name, "authorizerArn": c.Registry.ARN("authorizer", name)}
}

func (c *Control) describeAuthorizer(a *registry.Authorizer, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return map[string]any{"authorizerDescription": struct {
		Name     string            `json:"authorizerName"`
		ARN      string            `json:"authorizerArn"`
		Function string            `json:"authorizerFunctionArn"`
		TokenKey *string           `json:"tokenKeyName,omitempty"`
		Keys     map[string]string `json:"tokenSigningPublicKeys,omitempty"`
		Status   registry.Status   `json:"status"`
		Created  restjson.Time     `json:"creationDate"`
		Modified restjson.Time     `json:"lastModifiedDate"`
		Unsigned bool              `json:"signingDisabled"`
		Cache    bool              `json:"enableCachingForHttp"`
	}{a.Name, c.Registry.ARN("authorizer", a.Name), a.Function, opt(a.TokenKey), a.Keys, a.Status, restjson.Time(a.Created), restjson.Time(a.Modified), a.SigningDisabled, a.CacheHTTP}}, nil
}

func (c *Control) authorizers() []restjson.Op {
	reg := c.Registry
	return []restjson.Op{
		restjson.Handle("CreateAuthorizer", "POST", "/authorizer/{authorizerName}", func(call *restjson.Call, in *authorizerIn) (any, error) {
			a := registry.Authorizer{Name: in.Name, Status: registry.Active, SigningDisabled: in.Unsigned, Tags: tagMap(in.Tags)}
			in.change(&a)
			err := c.do(call, func(tx *registry.Tx) error { _, err := tx.CreateAuthorizer(a); return err })
			return c.authorizerNames(in.Name), err
		}),
		restjson.Handle("UpdateAuthorizer", "PUT", "/authorizer/{authorizerName}", func(call *restjson.Call, in *authorizerIn) (any, error) {
			return c.authorizerNames(in.Name), c.do(call, func(tx *registry.Tx) error { return tx.UpdateAuthorizer(in.Name, in.change) })
		}),
		restjson.Handle("DescribeAuthorizer", "GET", "/authorizer/{authorizerName}", func(_ *restjson.Call, in *authorizerIn) (any, error) {
			return c.describeAuthorizer(reg.Authorizer(in.Name))
		}),
		restjson.Handle("DeleteAuthorizer", "DELETE", "/authorizer/{authorizerName}", func(call *restjson.Call, in *authorizerIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.DeleteAuthorizer(in.Name) })
		}),
		restjson.Handle("ListAuthorizers", "GET", "/authorizers", func(_ *restjson.Call, in *struct {
			markIn
			Status registry.Status `at:"query,status"`
		}) (any, error) {
			p, err := in.page()
			if err != nil {
				return nil, err
			}
			list, next := reg.Authorizers(in.Status, p)
			out := make([]map[string]string, 0, len(list))
			for _, a := range list {
				out = append(out, c.authorizerNames(a.Name))
			}
			return marked("authorizers", out, next), nil
		}),
		restjson.Handle("SetDefaultAuthorizer", "POST", "/default-authorizer", func(call *restjson.Call, in *struct {
			Name string `json:"authorizerName" need:""`
		}) (any, error) {
			return c.authorizerNames(in.Name), c.do(call, func(tx *registry.Tx) error { return tx.SetDefaultAuthorizer(in.Name) })
		}),
		restjson.Handle("DescribeDefaultAuthorizer", "GET", "/default-authorizer", func(*restjson.Call, *struct{}) (any, error) {
			return c.describeAuthorizer(reg.DefaultAuthorizer())
		}),
		restjson.Handle("ClearDefaultAuthorizer", "DELETE", "/default-authorizer", func(call *restjson.Call, _ *struct{}) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.SetDefaultAuthorizer("") })
		}),
		restjson.Handle("TestInvokeAuthorizer", "POST", "/authorizer/{authorizerName}/test", c.testAuthorizer),
	}
}

type invokeIn struct {
	Name      string `at:"path,authorizerName"`
	Token     string `json:"token"`
	Signature string `json:"tokenSignature"`
	HTTP      *struct {
		Headers map[string]string `json:"headers"`
		Query   string            `json:"queryString"`
	} `json:"httpContext"`
	MQTT *struct {
		Username string `json:"username"`
		Password []byte `json:"password"`
		ClientID string `json:"clientId"`
	} `json:"mqttContext"`
	TLS *struct {
		ServerName string `json:"serverName"`
	} `json:"tlsContext"`
}

// testAuthorizer asks an authorizer as a client would.
func (c *Control) testAuthorizer(call *restjson.Call, in *invokeIn) (any, error) {
	if _, err := c.Registry.Authorizer(in.Name); err != nil {
		return nil, err
	}
	q := &authz.Credentials{Authorizer: in.Name, Token: in.Token, Signature: in.Signature}
	if x := in.HTTP; x != nil {
		q.Header, q.Query = http.Header{}, x.Query
		for k, v := range x.Headers {
			q.Header.Set(k, v)
		}
	}
	if x := in.MQTT; x != nil {
		q.MQTT, q.Username, q.Password, q.ClientID = true, x.Username, x.Password, x.ClientID
	}
	if in.TLS != nil {
		q.ServerName = in.TLS.ServerName
	}
	a, err := c.Auth.Judge(call.Context(), q)
	if fault.Is(err, fault.NotFound) { // the function, not the authorizer
		return nil, fault.New(fault.Invalid, "%s", fault.Message(err))
	}
	if err != nil {
		return nil, err
	}
	return struct {
		Authenticated bool     `json:"isAuthenticated"`
		Principal     *string  `json:"principalId,omitempty"`
		Documents     []string `json:"policyDocuments"`
		Refresh       *int     `json:"refreshAfterInSeconds,omitempty"`
		Disconnect    *int     `json:"disconnectAfterInSeconds,omitempty"`
	}{a.Authenticated, opt(a.PrincipalID), append([]string{}, a.Documents...), seconds(a.RefreshAfter), seconds(a.DisconnectAfter)}, nil
}

func seconds(d time.Duration) *int {
	if d == 0 {
		return nil
	}
	n := int(d / time.Second)
	return &n
}
