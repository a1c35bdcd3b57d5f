package control

import (
	"tidegate/gateway/api/restjson"
	"tidegate/gateway/fault"
	"tidegate/gateway/provision"
	"tidegate/gateway/registry"
)

// hook is a pre-provisioning hook on the wire.
type hook struct {
	PayloadVersion string `json:"payloadVersion,omitempty"`
	Target         string `json:"targetArn"`
}

func (h *hook) record() *registry.Hook {
	if h == nil {
		return nil
	}
	return &registry.Hook{PayloadVersion: h.PayloadVersion, Target: h.Target}
}

// defaultPayload is the version of what a hook is told.
const defaultPayload = "2020-04-01"

func hookOf(h *registry.Hook) *hook {
	if h == nil {
		return nil
	}
	out := &hook{h.PayloadVersion, h.Target}
	if out.PayloadVersion == "" {
		out.PayloadVersion = defaultPayload
	}
	return out
}

type templateIn struct {
	Name string `at:"path,templateName"`
}

type versionIn struct {
	Name    string `at:"path,templateName"`
	Version int    `at:"path,versionId"`
}

type templateOut struct {
	ARN         string        `json:"templateArn"`
	Name        string        `json:"templateName"`
	Description *string       `json:"description,omitempty"`
	Created     restjson.Time `json:"creationDate"`
	Modified    restjson.Time `json:"lastModifiedDate"`
	Enabled     bool          `json:"enabled"`
	Type        string        `json:"type"`
}

func (c *Control) templateOut(t *registry.Template) templateOut {
	return templateOut{c.templateARN(t.Name), t.Name, opt(t.Description), restjson.Time(t.Created), restjson.Time(t.Modified), t.Enabled, t.Type}
}

func (c *Control) templateARN(name string) string {
	return c.Registry.ARN("provisioningtemplate", name)
}

// checkBody reads a template's body before it is kept.
func checkBody(body, kind string) error {
	t, err := provision.ParseTemplate(body)
	if err != nil {
		return err
	}
	return t.CheckFor(kind)
}

func (c *Control) templates() []restjson.Op {
	reg := c.Registry
	return []restjson.Op{
		restjson.Handle("CreateProvisioningTemplate", "POST", "/provisioning-templates", func(call *restjson.Call, in *struct {
			Name        string `json:"templateName" need:""`
			Description string `json:"description"`
			Body        string `json:"templateBody" need:""`
			Enabled     bool   `json:"enabled"`
			Role        string `json:"provisioningRoleArn" need:""`
			Hook        *hook  `json:"preProvisioningHook"`
			Tags        []tag  `json:"tags"`
			Type        string `json:"type"`
		}) (any, error) {
			if err := checkBody(in.Body, in.Type); err != nil {
				return nil, err
			}
			var t *registry.Template
			err := c.do(call, func(tx *registry.Tx) (err error) {
				t, err = tx.CreateTemplate(registry.TemplateInput{Name: in.Name, Type: in.Type, Description: in.Description, Enabled: in.Enabled, Role: in.Role,
					Hook: in.Hook.record(), Body: in.Body, Tags: tagMap(in.Tags)})
				return err
			})
			if err != nil {
				return nil, err
			}
			return map[string]any{"templateArn": c.templateARN(t.Name), "templateName": t.Name, "defaultVersionId": t.Default}, nil
		}),
		restjson.Handle("DescribeProvisioningTemplate", "GET", "/provisioning-templates/{templateName}", func(_ *restjson.Call, in *templateIn) (any, error) {
			t, err := reg.Template(in.Name)
			if err != nil {
				return nil, err
			}
			return struct {
				templateOut
				Default int     `json:"defaultVersionId"`
				Body    string  `json:"templateBody"`
				Role    *string `json:"provisioningRoleArn,omitempty"`
				Hook    *hook   `json:"preProvisioningHook,omitempty"`
			}{c.templateOut(t), t.Default, t.Body(), opt(t.Role), hookOf(t.Hook)}, nil
		}),
		restjson.Handle("UpdateProvisioningTemplate", "PATCH", "/provisioning-templates/{templateName}", func(call *restjson.Call, in *struct {
			Name        string  `at:"path,templateName"`
			Description *string `json:"description"`
			Enabled     *bool   `json:"enabled"`
			Default     *int    `json:"defaultVersionId"`
			Role        *string `json:"provisioningRoleArn"`
			Hook        *hook   `json:"preProvisioningHook"`
			RemoveHook  bool    `json:"removePreProvisioningHook"`
		}) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error {
				return tx.UpdateTemplate(in.Name, func(t *registry.Template) {
					set(&t.Description, in.Description)
					set(&t.Enabled, in.Enabled)
					set(&t.Default, in.Default)
					set(&t.Role, in.Role)
					if in.Hook != nil {
						t.Hook = in.Hook.record()
					}
					if in.RemoveHook {
						t.Hook = nil
					}
				})
			})
		}),
		restjson.Handle("DeleteProvisioningTemplate", "DELETE", "/provisioning-templates/{templateName}", func(call *restjson.Call, in *templateIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.DeleteTemplate(in.Name) })
		}),
		restjson.Handle("ListProvisioningTemplates", "GET", "/provisioning-templates", func(_ *restjson.Call, in *pageIn) (any, error) {
			p, err := in.page()
			if err != nil {
				return nil, err
			}
			list, next := reg.Templates(p)
			out := make([]templateOut, 0, len(list))
			for _, t := range list {
				out = append(out, c.templateOut(t))
			}
			return map[string]any{"templates": out, "nextToken": token(next)}, nil
		}),
		restjson.Handle("CreateProvisioningTemplateVersion", "POST", "/provisioning-templates/{templateName}/versions", func(call *restjson.Call, in *struct {
			Name    string `at:"path,templateName"`
			Default bool   `at:"query,setAsDefault"`
			Body    string `json:"templateBody" need:""`
		}) (any, error) {
			have, err := reg.Template(in.Name)
			if err != nil {
				return nil, err
			}
			if err := checkBody(in.Body, have.Type); err != nil {
				return nil, err
			}
			var v *registry.TemplateVersion
			err = c.do(call, func(tx *registry.Tx) (err error) {
				v, err = tx.CreateTemplateVersion(in.Name, in.Body, in.Default)
				return err
			})
			if err != nil {
				return nil, err
			}
			return map[string]any{"templateArn": c.templateARN(in.Name), "templateName": in.Name, "versionId": v.ID, "isDefaultVersion": in.Default}, nil
		}),
		restjson.Handle("DescribeProvisioningTemplateVersion", "GET", "/provisioning-templates/{templateName}/versions/{versionId}", func(_ *restjson.Call, in *versionIn) (any, error) {
			t, err := reg.Template(in.Name)
			if err != nil {
				return nil, err
			}
			v := t.Version(in.Version)
			if v == nil {
				return nil, fault.New(fault.NotFound, "Version %d of the provisioning template %s does not exist", in.Version, in.Name)
			}
			return map[string]any{"versionId": v.ID, "creationDate": restjson.Time(v.Created), "templateBody": v.Body, "isDefaultVersion": v.ID == t.Default}, nil
		}),
		restjson.Handle("DeleteProvisioningTemplateVersion", "DELETE", "/provisioning-templates/{templateName}/versions/{versionId}", func(call *restjson.Call, in *versionIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.DeleteTemplateVersion(in.Name, in.Version) })
		}),
		restjson.Handle("ListProvisioningTemplateVersions", "GET", "/provisioning-templates/{templateName}/versions", func(_ *restjson.Call, in *templateIn) (any, error) {
			t, err := reg.Template(in.Name)
			if err != nil {
				return nil, err
			}
			out := []map[string]any{}
			for i := len(t.Versions) - 1; i >= 0; i-- { // the newest first
				v := t.Versions[i]
				out = append(out, map[string]any{"versionId": v.ID, "creationDate": restjson.Time(v.Created), "isDefaultVersion": v.ID == t.Default})
			}
			return map[string]any{"versions": out}, nil
		}),
		restjson.Handle("CreateProvisioningClaim", "POST", "/provisioning-templates/{templateName}/provisioning-claim", func(call *restjson.Call, in *templateIn) (any, error) {
			if c.Fleet == nil {
				return nil, notServed()
			}
			claim, err := c.Fleet.Claim(who(call), in.Name)
			if err != nil {
				return nil, err
			}
			return map[string]any{"certificateId": claim.ID, "certificatePem": claim.Certificate,
				"keyPair": map[string]string{"PublicKey": claim.PublicKey, "PrivateKey": claim.PrivateKey}, "expiration": restjson.Time(claim.Expires)}, nil
		}),
	}
}

// set takes a value that was given.
func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

func notServed() error {
	return fault.New(fault.Unavailable, "this part of the gateway does not run")
}
