package control

import (
	"errors"

	"tidegate/gateway/api/restjson"
	"tidegate/gateway/fault"
	"tidegate/gateway/registry"
	"tidegate/gateway/registry/indexquery"
)

// groupProperties describe a thing group on the wire.
type groupProperties struct {
	Description string            `json:"thingGroupDescription,omitempty"`
	Attributes  *attributePayload `json:"attributePayload,omitempty"`
}

type groupIn struct {
	Name       string           `at:"path,thingGroupName"`
	Parent     string           `json:"parentGroupName"`
	Properties *groupProperties `json:"thingGroupProperties"`
	Tags       []tag            `json:"tags"`
	Expected   int64            `json:"expectedVersion"`
	Index      string           `json:"indexName"`
	Query      string           `json:"queryString"`
	Version    string           `json:"queryVersion"`
}

func (in *groupIn) input() registry.GroupInput {
	g := registry.GroupInput{Name: in.Name, Parent: in.Parent, Query: in.Query, Tags: tagMap(in.Tags)}
	if p := in.Properties; p != nil {
		g.Description, g.Attributes = p.Description, p.Attributes.attributes()
	}
	return g
}

func (in *groupIn) update(dynamic bool) registry.GroupUpdate {
	up := registry.GroupUpdate{Dynamic: dynamic, Query: in.Query, Expected: in.Expected}
	if p := in.Properties; p != nil {
		up.Description, up.Attributes = p.Description, p.Attributes.attributes()
		up.Merge = p.Attributes != nil && p.Attributes.Merge
	}
	return up
}

// dynamic checks what a dynamic group names beside its query.
func (in *groupIn) dynamic() error {
	if in.Index != "" && in.Index != "AWS_Things" {
		return fault.New(fault.NotFound, "the index %s does not exist", in.Index)
	}
	if in.Version != "" && in.Version != indexquery.Version {
		return fault.New(fault.Invalid, "the query version is %s", indexquery.Version)
	}
	return nil
}

type groupDelete struct {
	Name     string `at:"path,thingGroupName"`
	Expected int64  `at:"query,expectedVersion"`
}

// memberIn names a group and a thing, each by name or ARN.
type memberIn struct {
	Group      string `json:"thingGroupName"`
	GroupARN   string `json:"thingGroupArn"`
	Billing    string `json:"billingGroupName"`
	BillingARN string `json:"billingGroupArn"`
	Thing      string `json:"thingName"`
	ThingARN   string `json:"thingArn"`
	Override   bool   `json:"overrideDynamicGroups"`
}

// join is how a thing comes into a group.
func join(override bool) func(tx *registry.Tx, thing, group string) error {
	if override {
		return (*registry.Tx).AddToGroupFirst
	}
	return (*registry.Tx).AddToGroup
}

func (c *Control) member(in *memberIn) (group, thing string, err error) {
	group, e1 := c.nameOr(in.Group, in.GroupARN, "thinggroup", "thingGroupName")
	thing, e2 := c.nameOr(in.Thing, in.ThingARN, "thing", "thingName")
	return group, thing, errors.Join(e1, e2)
}

// named is a name with its ARN.
type named struct {
	Name string `json:"groupName"`
	ARN  string `json:"groupArn"`
}

func (c *Control) named(groups []*registry.Group) []named {
	out := make([]named, 0, len(groups))
	for _, g := range groups {
		out = append(out, named{g.Name, c.Registry.ARN("thinggroup", g.Name)})
	}
	return out
}

func (c *Control) groups() []restjson.Op {
	reg := c.Registry
	create := func(dynamic bool) func(call *restjson.Call, in *groupIn) (any, error) {
		return func(call *restjson.Call, in *groupIn) (any, error) {
			if dynamic && in.Query == "" {
				return nil, fault.New(fault.Invalid, "1 validation error detected: Value null at 'queryString' failed to satisfy constraint: Member must not be null")
			}
			if err := in.dynamic(); err != nil {
				return nil, err
			}
			if !dynamic {
				in.Query = ""
			}
			var g *registry.Group
			err := c.do(call, func(tx *registry.Tx) (err error) { g, err = tx.CreateGroup(in.input()); return err })
			if err != nil {
				return nil, err
			}
			out := map[string]string{"thingGroupName": g.Name, "thingGroupArn": reg.ARN("thinggroup", g.Name), "thingGroupId": g.ID}
			if dynamic {
				out["indexName"], out["queryString"], out["queryVersion"] = "AWS_Things", g.Query, indexquery.Version
			}
			return out, nil
		}
	}
	update := func(dynamic bool) func(call *restjson.Call, in *groupIn) (any, error) {
		return func(call *restjson.Call, in *groupIn) (any, error) {
			if err := in.dynamic(); err != nil {
				return nil, err
			}
			if !dynamic {
				in.Query = ""
			}
			var g *registry.Group
			err := c.do(call, func(tx *registry.Tx) (err error) { g, err = tx.UpdateGroup(in.Name, in.update(dynamic)); return err })
			if err != nil {
				return nil, err
			}
			return map[string]int64{"version": g.Version}, nil
		}
	}
	remove := func(dynamic bool) func(call *restjson.Call, in *groupDelete) (any, error) {
		return func(call *restjson.Call, in *groupDelete) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.DeleteGroup(in.Name, dynamic, in.Expected) })
		}
	}
	return []restjson.Op{
		restjson.Handle("CreateThingGroup", "POST", "/thing-groups/{thingGroupName}", create(false)),
		restjson.Handle("CreateDynamicThingGroup", "POST", "/dynamic-thing-groups/{thingGroupName}", create(true)),
		restjson.Handle("UpdateThingGroup", "PATCH", "/thing-groups/{thingGroupName}", update(false)),
		restjson.Handle("UpdateDynamicThingGroup", "PATCH", "/dynamic-thing-groups/{thingGroupName}", update(true)),
		restjson.Handle("DeleteThingGroup", "DELETE", "/thing-groups/{thingGroupName}", remove(false)),
		restjson.Handle("DeleteDynamicThingGroup", "DELETE", "/dynamic-thing-groups/{thingGroupName}", remove(true)),
		restjson.Handle("DescribeThingGroup", "GET", "/thing-groups/{thingGroupName}", c.describeGroup),
		restjson.Handle("ListThingGroups", "GET", "/thing-groups", func(_ *restjson.Call, in *struct {
			pageIn
			Parent    string `at:"query,parentGroup"`
			Prefix    string `at:"query,namePrefixFilter"`
			Recursive *bool  `at:"query,recursive"`
		}) (any, error) {
			p, err := in.page()
			if err != nil {
				return nil, err
			}
			groups, next, err := reg.Groups(in.Parent, in.Prefix, in.Recursive == nil || *in.Recursive, p)
			if err != nil {
				return nil, err
			}
			return listing("thingGroups", c.named(groups), next), nil
		}),
		restjson.Handle("ListThingGroupsForThing", "GET", "/things/{thingName}/thing-groups", func(_ *restjson.Call, in *thingIn) (any, error) {
			groups, err := reg.GroupsOf(in.Name)
			if err != nil {
				return nil, err
			}
			return listing("thingGroups", c.named(groups), ""), nil
		}),
		restjson.Handle("ListThingsInThingGroup", "GET", "/thing-groups/{thingGroupName}/things", func(_ *restjson.Call, in *struct {
			pageIn
			Name      string `at:"path,thingGroupName"`
			Recursive bool   `at:"query,recursive"`
		}) (any, error) {
			p, err := in.page()
			if err != nil {
				return nil, err
			}
			things, next, err := reg.Members(in.Name, in.Recursive, p)
			if err != nil {
				return nil, err
			}
			return listing("things", append([]string{}, things...), next), nil
		}),
		restjson.Handle("AddThingToThingGroup", "PUT", "/thing-groups/addThingToThingGroup", func(call *restjson.Call, in *memberIn) (any, error) {
			group, thing, err := c.member(in)
			if err != nil {
				return nil, err
			}
			return empty, c.do(call, func(tx *registry.Tx) error { return join(in.Override)(tx, thing, group) })
		}),
		restjson.Handle("RemoveThingFromThingGroup", "PUT", "/thing-groups/removeThingFromThingGroup", func(call *restjson.Call, in *memberIn) (any, error) {
			group, thing, err := c.member(in)
			if err != nil {
				return nil, err
			}
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.RemoveFromGroup(thing, group) })
		}),
		restjson.Handle("UpdateThingGroupsForThing", "PUT", "/thing-groups/updateThingGroupsForThing", func(call *restjson.Call, in *struct {
			Thing    string   `json:"thingName" need:""`
			Add      []string `json:"thingGroupsToAdd"`
			Remove   []string `json:"thingGroupsToRemove"`
			Override bool     `json:"overrideDynamicGroups"`
		}) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error {
				for _, g := range in.Remove {
					if err := tx.RemoveFromGroup(in.Thing, g); err != nil {
						return err
					}
				}
				for _, g := range in.Add {
					if err := join(in.Override)(tx, in.Thing, g); err != nil {
						return err
					}
				}
				return nil
			})
		}),
	}
}

func (c *Control) describeGroup(_ *restjson.Call, in *groupDelete) (any, error) {
	g, err := c.Registry.Group(in.Name)
	if err != nil {
		return nil, err
	}
	type metadata struct {
		Parent  *string       `json:"parentGroupName,omitempty"`
		Path    []named       `json:"rootToParentThingGroups,omitempty"`
		Created restjson.Time `json:"creationDate"`
	}
	out := struct {
		Name       string          `json:"thingGroupName"`
		ID         string          `json:"thingGroupId"`
		ARN        string          `json:"thingGroupArn"`
		Version    int64           `json:"version"`
		Properties groupProperties `json:"thingGroupProperties"`
		Metadata   metadata        `json:"thingGroupMetadata"`
		Index      *string         `json:"indexName,omitempty"`
		Query      *string         `json:"queryString,omitempty"`
		QueryVer   *string         `json:"queryVersion,omitempty"`
		Status     *string         `json:"status,omitempty"`
	}{g.Name, g.ID, c.Registry.ARN("thinggroup", g.Name), g.Version, groupProperties{g.Description, nil},
		metadata{opt(g.Parent), c.named(c.Registry.Path(g.Name)), restjson.Time(g.Created)}, nil, nil, nil, nil}
	if len(g.Attributes) > 0 {
		out.Properties.Attributes = &attributePayload{Attributes: g.Attributes}
	}
	if g.Dynamic() {
		out.Index, out.Query, out.QueryVer, out.Status = opt("AWS_Things"), &g.Query, opt(indexquery.Version), opt("ACTIVE")
	}
	return out, nil
}
