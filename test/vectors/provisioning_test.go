package vectors_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"tidegate/gateway/provision"
)

// provisioningVector is an element of provisioning.json.
type provisioningVector struct {
	Template   json.RawMessage
	Parameters map[string]string
	Expect     struct{ Resources, DeviceConfiguration json.RawMessage }
	Error      bool
}

func TestProvisioning(t *testing.T) {
	each(t, "provisioning.json", nil, func(v provisioningVector) error {
		tpl, err := provision.ParseTemplate(string(v.Template))
		var r *provision.Resolved
		if err == nil {
			// What a certificate's subject says is declared for just-in-time provisioning alone.
			jit := slices.ContainsFunc(tpl.Parameters(), func(name string) bool {
				return strings.HasPrefix(name, "AWS::IoT::Certificate::") && name != provision.CertificateID
			})
			r, err = tpl.Resolve(v.Parameters, jit)
		}
		if v.Error {
			if err == nil {
				return errors.New("got no error")
			}
			return nil
		}
		if err != nil {
			return err
		}
		props := map[string]any{}
		for name, res := range r.Resources {
			props[name] = res.Properties
		}
		got, err := json.Marshal(props)
		if err != nil {
			return err
		}
		if err := matchExact(v.Expect.Resources, got); err != nil {
			return fmt.Errorf("resources: %w", err)
		}
		if v.Expect.DeviceConfiguration == nil {
			return nil
		}
		if got, err = json.Marshal(r.DeviceConfiguration); err != nil {
			return err
		}
		if err := matchExact(v.Expect.DeviceConfiguration, got); err != nil {
			return fmt.Errorf("device configuration: %w", err)
		}
		return nil
	})
}
