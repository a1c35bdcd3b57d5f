package vectors_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/policy"
)

// policyVector is an element of policy.json.
type policyVector struct {
	Policies []json.RawMessage
	Context  policyContext
	Action   string
	Resource string
	Allowed  bool
}

// policyContext is what is known of the connection. Members that a set does not use are
// read leniently, as their spelling is only known from the format's description.
type policyContext struct {
	ClientID          string
	PrincipalKind     string
	SourceIP          string
	Protocol          string // a thing's variables are for MQTT alone
	Retain            bool
	DomainName        string
	Now               json.RawMessage
	ConnectAttributes *[]string
	LastWillTopic     string
	Thing             *struct {
		Name, Type string
		Attributes map[string]string
		Attached   bool
		Groups     []struct {
			Name string
			Path []string
		}
	}
	Cert *struct {
		CertificateID   string
		SerialNumber    string
		Subject, Issuer map[string]json.RawMessage
	}
	GroupPolicies map[string][]json.RawMessage
}

// attributes reads a distinguished name: values alone or in lists, alternative names in an
// object of their own.
func attributes(in map[string]json.RawMessage, prefix string, out policy.Name) policy.Name {
	for k, raw := range in {
		var list []string
		var one string
		var deeper map[string]json.RawMessage
		switch {
		case json.Unmarshal(raw, &list) == nil:
			out[prefix+k] = list
		case json.Unmarshal(raw, &one) == nil:
			out[prefix+k] = []string{one}
		case json.Unmarshal(raw, &deeper) == nil:
			attributes(deeper, prefix+k+".", out)
		}
	}
	return out
}

func (c *policyContext) compiled(base string) (policy.Context, error) {
	out := policy.Context{Base: base, ClientID: c.ClientID, DomainName: c.DomainName, LastWillTopic: c.LastWillTopic, Unattachable: strings.HasPrefix(c.PrincipalKind, "custom")}
	if c.SourceIP != "" {
		ip, err := netip.ParseAddr(c.SourceIP)
		if err != nil {
			return out, err
		}
		out.SourceIP = ip
	}
	if c.ConnectAttributes != nil {
		out.Connected, out.ConnectAttributes = true, *c.ConnectAttributes
	}
	if t := c.Thing; t != nil && !strings.HasPrefix(strings.ToLower(c.Protocol), "http") {
		out.Thing = &policy.Thing{Name: t.Name, Type: t.Type, Attributes: t.Attributes, Attached: t.Attached}
	}
	if x := c.Cert; x != nil {
		out.Certificate = &policy.Certificate{ID: x.CertificateID, SerialNumber: x.SerialNumber,
			Subject: attributes(x.Subject, "", policy.Name{}), Issuer: attributes(x.Issuer, "", policy.Name{})}
	}
	now := time.Now()
	var text string
	var seconds float64
	if json.Unmarshal(c.Now, &text) == nil {
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return out, err
		}
		now = t
	} else if json.Unmarshal(c.Now, &seconds) == nil {
		now = time.Unix(int64(seconds), 0)
	}
	out.Now = func() time.Time { return now }
	return out, nil
}

// documents gives the policies of the principal and those of the groups above the thing. A
// document that is malformed could not have been attached: it says nothing.
func (v *policyVector) documents() []*policy.Document {
	all := v.Policies
	if t := v.Context.Thing; t != nil && t.Attached {
		for _, g := range t.Groups {
			for _, name := range g.Path {
				all = append(all, v.Context.GroupPolicies[name]...)
			}
		}
	}
	var docs []*policy.Document
	for _, raw := range all {
		if d, err := policy.Parse(raw); err == nil {
			docs = append(docs, d)
		}
	}
	return docs
}

func TestPolicy(t *testing.T) {
	each(t, "policy.json", nil, func(v policyVector) error {
		base := "arn:aws:iot:us-east-1:123456789012:"
		if parts := strings.SplitN(v.Resource, ":", 6); len(parts) == 6 {
			base = strings.Join(parts[:5], ":") + ":"
		}
		c, err := v.Context.compiled(base)
		if err != nil {
			return err
		}
		d := policy.Compile(v.documents(), c)
		action, ok := policy.ParseAction(v.Action)
		if !ok { // one that devices do not ask for
			if got := d.Named(v.Action, v.Resource); (got == policy.Allow) != v.Allowed {
				return fmt.Errorf("got %v, want allowed: %v", got, v.Allowed)
			}
			return nil
		}
		resource := v.Resource
		if resource == "" && action == policy.Connect {
			resource = action.Resource(base, v.Context.ClientID)
		}
		got := d.Decide(action, resource)
		if action == policy.Publish && v.Context.Retain && got == policy.Allow { // both are asked for
			got = d.Decide(policy.RetainPublish, resource)
		}
		if (got == policy.Allow) != v.Allowed {
			return fmt.Errorf("got %v, want allowed: %v", got, v.Allowed)
		}
		if name, ok := strings.CutPrefix(resource, action.Resource(base, "")); ok && !v.Context.Retain && d.May(action, name) != v.Allowed {
			return fmt.Errorf("by name it is %v, want %v", !v.Allowed, v.Allowed)
		}
		return nil
	})
}
