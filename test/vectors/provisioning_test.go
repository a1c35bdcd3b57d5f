package vectors_test

import (
	"encoding/json"
	"errors"
	"fmt"
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
			r, err = tpl.Resolve(v.Parameters, false)
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
