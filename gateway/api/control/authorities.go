package control

import (
	"strconv"

	"tidegate/gateway/api/restjson"
	"tidegate/gateway/fault"
	"tidegate/gateway/registry"
)

// registrationConfig is the template of just-in-time provisioning.
type registrationConfig struct {
	Body string `json:"templateBody,omitempty"`
	Name string `json:"templateName,omitempty"`
	Role string `json:"roleArn,omitempty"`
}

// codeSetting is where the registration code is kept.
const codeSetting = "registrationCode"

// autoOf reads ENABLE or DISABLE.
func autoOf(s string) (bool, error) {
	switch s {
	case "ENABLE":
		return true, nil
	case "DISABLE":
		return false, nil
	}
	return false, fault.New(fault.Invalid, "the automatic registration status is ENABLE or DISABLE")
}

func autoName(on bool) string {
	if on {
		return "ENABLE"
	}
	return "DISABLE"
}

type authorityIn struct {
	ID     string              `at:"path,caCertificateId"`
	Status string              `at:"query,newStatus"`
	Auto   string              `at:"query,newAutoRegistrationStatus"`
	Config *registrationConfig `json:"registrationConfig"`
	Remove bool                `json:"removeAutoRegistration"`
}

func (c *Control) authorities() []restjson.Op {
	reg := c.Registry
	return []restjson.Op{
		restjson.Handle("GetRegistrationCode", "GET", "/registrationcode", func(call *restjson.Call, _ *struct{}) (any, error) {
			var text string
			err := c.do(call, func(tx *registry.Tx) error {
				if !tx.Setting(codeSetting, &text) {
					text = code()
					tx.Set(codeSetting, text)
				}
				return nil
			})
			return map[string]string{"registrationCode": text}, err
		}),
		restjson.Handle("DeleteRegistrationCode", "DELETE", "/registrationcode", func(call *restjson.Call, _ *struct{}) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { tx.Set(codeSetting, nil); return nil })
		}),
		restjson.Handle("RegisterCACertificate", "POST", "/cacertificate", func(call *restjson.Call, in *struct {
			PEM          string              `json:"caCertificate" need:""`
			Verification string              `json:"verificationCertificate"`
			Config       *registrationConfig `json:"registrationConfig"`
			Tags         []tag               `json:"tags"`
			Mode         string              `json:"certificateMode"`
			Active       bool                `at:"query,setAsActive"`
			Auto         bool                `at:"query,allowAutoRegistration"`
		}) (any, error) {
			add := registry.CAInput{PEM: in.PEM, Verification: in.Verification, Mode: in.Mode, Auto: in.Auto, Status: registry.Inactive, Tags: tagMap(in.Tags)}
			if add.Mode == "" {
				add.Mode = registry.ModeDefault
			}
			if in.Active {
				add.Status = registry.Active
			}
			if x := in.Config; x != nil {
				add.Template, add.Named, add.Role = x.Body, x.Name, x.Role
			}
			var ca *registry.CA
			err := c.do(call, func(tx *registry.Tx) (err error) {
				tx.Setting(codeSetting, &add.Code)
				ca, err = tx.AddCA(add)
				return err
			})
			if err != nil {
				return nil, err
			}
			return map[string]string{"certificateArn": reg.ARN("cacert", ca.ID), "certificateId": ca.ID}, nil
		}),
		restjson.Handle("DescribeCACertificate", "GET", "/cacertificate/{caCertificateId}", func(_ *restjson.Call, in *authorityIn) (any, error) {
			ca, err := reg.CA(in.ID)
			if err != nil {
				return nil, err
			}
			out := map[string]any{"certificateDescription": map[string]any{
				"certificateArn": reg.ARN("cacert", ca.ID), "certificateId": ca.ID, "status": ca.Status, "certificatePem": ca.PEM, "ownedBy": reg.Account(),
				"creationDate": restjson.Time(ca.Created), "lastModifiedDate": restjson.Time(ca.Modified), "customerVersion": ca.Version, "generationId": strconv.FormatInt(ca.Version, 10),
				"autoRegistrationStatus": autoName(ca.Auto), "certificateMode": ca.Mode,
				"validity": map[string]any{"notBefore": restjson.Time(ca.NotBefore), "notAfter": restjson.Time(ca.NotAfter)}}}
			if ca.Template != "" || ca.Named != "" || ca.Role != "" {
				out["registrationConfig"] = registrationConfig{ca.Template, ca.Named, ca.Role}
			}
			return out, nil
		}),
		restjson.Handle("UpdateCACertificate", "PUT", "/cacertificate/{caCertificateId}", func(call *restjson.Call, in *authorityIn) (any, error) {
			auto := false
			if in.Auto != "" {
				var err error
				if auto, err = autoOf(in.Auto); err != nil {
					return nil, err
				}
			}
			return empty, c.do(call, func(tx *registry.Tx) error {
				return tx.UpdateCA(in.ID, func(ca *registry.CA) {
					if in.Status != "" {
						ca.Status = registry.Status(in.Status)
					}
					if in.Auto != "" {
						ca.Auto = auto
					}
					if x := in.Config; x != nil {
						ca.Template, ca.Named, ca.Role = x.Body, x.Name, x.Role
					}
					if in.Remove {
						ca.Auto, ca.Template, ca.Named, ca.Role = false, "", "", ""
					}
				})
			})
		}),
		restjson.Handle("DeleteCACertificate", "DELETE", "/cacertificate/{caCertificateId}", func(call *restjson.Call, in *authorityIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.DeleteCA(in.ID) })
		}),
		restjson.Handle("ListCACertificates", "GET", "/cacertificates", func(_ *restjson.Call, in *markIn) (any, error) {
			p, err := in.page()
			if err != nil {
				return nil, err
			}
			cas, next := reg.CAs(p)
			out := make([]certificateOut, 0, len(cas))
			for _, ca := range cas {
				out = append(out, certificateOut{ARN: reg.ARN("cacert", ca.ID), ID: ca.ID, Status: string(ca.Status), Created: restjson.Time(ca.Created)})
			}
			return marked("certificates", out, next), nil
		}),
	}
}
