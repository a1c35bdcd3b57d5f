package control

import (
	"errors"

	"tidegate/gateway/api/restjson"
	"tidegate/gateway/registry"
)

type billingProperties struct {
	Description string `json:"billingGroupDescription,omitempty"`
}

type billingIn struct {
	Name       string            `at:"path,billingGroupName"`
	Properties billingProperties `json:"billingGroupProperties"`
	Tags       []tag             `json:"tags"`
	Expected   int64             `json:"expectedVersion"`
}

func (c *Control) billed(in *memberIn) (group, thing string, err error) {
	group, e1 := c.nameOr(in.Billing, in.BillingARN, "billinggroup", "billingGroupName")
	thing, e2 := c.nameOr(in.Thing, in.ThingARN, "thing", "thingName")
	return group, thing, errors.Join(e1, e2)
}

func (c *Control) billing() []restjson.Op {
	reg := c.Registry
	return []restjson.Op{
		restjson.Handle("CreateBillingGroup", "POST", "/billing-groups/{billingGroupName}", func(call *restjson.Call, in *billingIn) (any, error) {
			var b *registry.Billing
			err := c.do(call, func(tx *registry.Tx) (err error) {
				b, err = tx.CreateBilling(in.Name, in.Properties.Description, tagMap(in.Tags))
				return err
			})
			if err != nil {
				return nil, err
			}
			return map[string]string{"billingGroupName": b.Name, "billingGroupArn": reg.ARN("billinggroup", b.Name), "billingGroupId": b.ID}, nil
		}),
		restjson.Handle("DescribeBillingGroup", "GET", "/billing-groups/{billingGroupName}", func(_ *restjson.Call, in *billingIn) (any, error) {
			b, err := reg.BillingGroup(in.Name)
			if err != nil {
				return nil, err
			}
			return map[string]any{"billingGroupName": b.Name, "billingGroupId": b.ID, "billingGroupArn": reg.ARN("billinggroup", b.Name), "version": b.Version,
				"billingGroupProperties": billingProperties{b.Description}, "billingGroupMetadata": map[string]any{"creationDate": restjson.Time(b.Created)}}, nil
		}),
		restjson.Handle("UpdateBillingGroup", "PATCH", "/billing-groups/{billingGroupName}", func(call *restjson.Call, in *billingIn) (any, error) {
			var b *registry.Billing
			err := c.do(call, func(tx *registry.Tx) (err error) {
				b, err = tx.UpdateBilling(in.Name, in.Properties.Description, in.Expected)
				return err
			})
			if err != nil {
				return nil, err
			}
			return map[string]int64{"version": b.Version}, nil
		}),
		restjson.Handle("DeleteBillingGroup", "DELETE", "/billing-groups/{billingGroupName}", func(call *restjson.Call, in *struct {
			Name     string `at:"path,billingGroupName"`
			Expected int64  `at:"query,expectedVersion"`
		}) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.DeleteBilling(in.Name, in.Expected) })
		}),
		restjson.Handle("ListBillingGroups", "GET", "/billing-groups", func(_ *restjson.Call, in *struct {
			pageIn
			Prefix string `at:"query,namePrefixFilter"`
		}) (any, error) {
			p, err := in.page()
			if err != nil {
				return nil, err
			}
			groups, next := reg.BillingGroups(in.Prefix, p)
			out := make([]named, 0, len(groups))
			for _, b := range groups {
				out = append(out, named{b.Name, reg.ARN("billinggroup", b.Name)})
			}
			return listing("billingGroups", out, next), nil
		}),
		restjson.Handle("ListThingsInBillingGroup", "GET", "/billing-groups/{billingGroupName}/things", func(_ *restjson.Call, in *struct {
			pageIn
			Name string `at:"path,billingGroupName"`
		}) (any, error) {
			p, err := in.page()
			if err != nil {
				return nil, err
			}
			things, next, err := reg.Billed(in.Name, p)
			if err != nil {
				return nil, err
			}
			return listing("things", append([]string{}, things...), next), nil
		}),
		restjson.Handle("AddThingToBillingGroup", "PUT", "/billing-groups/addThingToBillingGroup", func(call *restjson.Call, in *memberIn) (any, error) {
			group, thing, err := c.billed(in)
			if err != nil {
				return nil, err
			}
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.SetBilling(thing, group) })
		}),
		restjson.Handle("RemoveThingFromBillingGroup", "PUT", "/billing-groups/removeThingFromBillingGroup", func(call *restjson.Call, in *memberIn) (any, error) {
			group, thing, err := c.billed(in)
			if err != nil {
				return nil, err
			}
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.ClearBilling(thing, group) })
		}),
	}
}
