package control

import (
	"tidegate/gateway/api/restjson"
	"tidegate/gateway/fault"
	"tidegate/gateway/registry"
)

// attributePayload is how attributes come in.
type attributePayload struct {
	Attributes map[string]string `json:"attributes"`
	Merge      bool              `json:"merge"`
}

// attributes gives what is to be set: nil for nothing.
func (p *attributePayload) attributes() map[string]string {
	if p == nil {
		return nil
	}
	return attributesOf(p.Attributes)
}

type createThingIn struct {
	Name       string            `at:"path,thingName"`
	Type       string            `json:"thingTypeName"`
	Attributes *attributePayload `json:"attributePayload"`
	Billing    string            `json:"billingGroupName"`
}

type updateThingIn struct {
	Name       string            `at:"path,thingName"`
	Type       string            `json:"thingTypeName"`
	Attributes *attributePayload `json:"attributePayload"`
	Expected   int64             `json:"expectedVersion"`
	RemoveType bool              `json:"removeThingType"`
}

type thingIn struct {
	Name     string `at:"path,thingName"`
	Expected int64  `at:"query,expectedVersion"`
}

type principalIn struct {
	Thing     string `at:"path,thingName"`
	Principal string `at:"header,x-amzn-principal" need:""`
	Kind      string `at:"query,thingPrincipalType"`
}

const (
	exclusive    = "EXCLUSIVE_THING"
	nonExclusive = "NON_EXCLUSIVE_THING"
)

func kindOf(exclusively bool) string {
	if exclusively {
		return exclusive
	}
	return nonExclusive
}

func checkKind(kind string) error {
	switch kind {
	case "", exclusive, nonExclusive:
		return nil
	}
	return fault.New(fault.Invalid, "thingPrincipalType is %s or %s", exclusive, nonExclusive)
}

// thingDocument is a thing in the answer of a search or a listing.
type thingDocument struct {
	Name       string            `json:"thingName"`
	ID         string            `json:"thingId,omitempty"`
	ARN        string            `json:"thingArn,omitempty"`
	Type       *string           `json:"thingTypeName,omitempty"`
	Groups     []string          `json:"thingGroupNames,omitempty"`
	Attributes map[string]string `json:"attributes"`
	Version    int64             `json:"version,omitempty"`
	Shadow     string            `json:"shadow,omitempty"` // the text of a JSON object
	Connection *connection       `json:"connectivity,omitempty"`
}

// connection is whether a thing's client is connected, in the answer of a search.
type connection struct {
	Connected bool   `json:"connected"`
	Timestamp int64  `json:"timestamp,omitempty"` // milliseconds
	Reason    string `json:"disconnectReason,omitempty"`
}

func (c *Control) connectivity(thing string) *connection {
	if c.Connectivity != nil && c.Registry.Indexing().Online() {
		if on, since, why, ok := c.Connectivity(thing); ok {
			if on {
				why = ""
			}
			return &connection{on, since, why}
		}
	}
	return nil
}

// found is a thing as a search shows it.
func (c *Control) found(t *registry.Thing) (thingDocument, error) {
	d := thingDocument{Name: t.Name, ID: t.ID, Type: opt(t.Type), Attributes: attributesOf(t.Attributes), Connection: c.connectivity(t.Name)}
	if groups, err := c.Registry.GroupsOf(t.Name); err == nil { // not gone meanwhile
		for _, g := range groups {
			d.Groups = append(d.Groups, g.Name)
		}
	}
	if c.Shadows == nil {
		return d, nil
	}
	shadows, err := c.Shadows(t.Name)
	d.Shadow = string(shadows)
	return d, err
}

func (c *Control) things() []restjson.Op {
	reg := c.Registry
	return []restjson.Op{
		restjson.Handle("CreateThing", "POST", "/things/{thingName}", func(call *restjson.Call, in *createThingIn) (any, error) {
			var t *registry.Thing
			err := c.do(call, func(tx *registry.Tx) (err error) {
				t, err = tx.CreateThing(registry.ThingInput{Name: in.Name, Type: in.Type, Attributes: in.Attributes.attributes(), Billing: in.Billing})
				return err
			})
			if err != nil {
				return nil, err
			}
			return map[string]string{"thingName": t.Name, "thingArn": reg.ARN("thing", t.Name), "thingId": t.ID}, nil
		}),
		restjson.Handle("DescribeThing", "GET", "/things/{thingName}", func(_ *restjson.Call, in *thingIn) (any, error) {
			t, err := reg.Thing(in.Name)
			if err != nil {
				return nil, err
			}
			return struct {
				DefaultClientID string            `json:"defaultClientId"`
				Name            string            `json:"thingName"`
				ID              string            `json:"thingId"`
				ARN             string            `json:"thingArn"`
				Type            *string           `json:"thingTypeName,omitempty"`
				Attributes      map[string]string `json:"attributes"`
				Version         int64             `json:"version"`
				Billing         *string           `json:"billingGroupName,omitempty"`
			}{t.Name, t.Name, t.ID, reg.ARN("thing", t.Name), opt(t.Type), attributesOf(t.Attributes), t.Version, opt(t.Billing)}, nil
		}),
		restjson.Handle("UpdateThing", "PATCH", "/things/{thingName}", func(call *restjson.Call, in *updateThingIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error {
				up := registry.ThingUpdate{Type: in.Type, RemoveType: in.RemoveType, Expected: in.Expected, Attributes: in.Attributes.attributes()}
				if in.Attributes != nil {
					up.Merge = in.Attributes.Merge
				}
				_, err := tx.UpdateThing(in.Name, up)
				return err
			})
		}),
		restjson.Handle("DeleteThing", "DELETE", "/things/{thingName}", func(call *restjson.Call, in *thingIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.DeleteThing(in.Name, in.Expected) })
		}),
		restjson.Handle("ListThings", "GET", "/things", func(_ *restjson.Call, in *struct {
			pageIn
			Attribute string `at:"query,attributeName"`
			Value     string `at:"query,attributeValue"`
			Type      string `at:"query,thingTypeName"`
			Prefix    bool   `at:"query,usePrefixAttributeValue"`
		}) (any, error) {
			p, err := in.page()
			if err != nil {
				return nil, err
			}
			if (in.Attribute == "") != (in.Value == "") {
				return nil, fault.New(fault.Invalid, "attributeName and attributeValue are used together")
			}
			things, next := reg.Things(registry.ThingFilter{Type: in.Type, AttributeName: in.Attribute, AttributeValue: in.Value, ValuePrefix: in.Prefix}, p)
			out := make([]thingDocument, 0, len(things))
			for _, t := range things {
				out = append(out, thingDocument{Name: t.Name, ARN: reg.ARN("thing", t.Name), Type: opt(t.Type), Attributes: attributesOf(t.Attributes), Version: t.Version})
			}
			return struct {
				Things []thingDocument `json:"things"`
				Next   *string         `json:"nextToken,omitempty"`
			}{out, token(next)}, nil
		}),
		restjson.Handle("AttachThingPrincipal", "PUT", "/things/{thingName}/principals", func(call *restjson.Call, in *principalIn) (any, error) {
			if err := checkKind(in.Kind); err != nil {
				return nil, err
			}
			return empty, c.do(call, func(tx *registry.Tx) error {
				return tx.AttachPrincipal(in.Thing, in.Principal, in.Kind == exclusive)
			})
		}),
		restjson.Handle("DetachThingPrincipal", "DELETE", "/things/{thingName}/principals", func(call *restjson.Call, in *principalIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.DetachPrincipal(in.Thing, in.Principal) })
		}),
		restjson.Handle("ListThingPrincipals", "GET", "/things/{thingName}/principals", c.thingPrincipals(false)),
		restjson.Handle("ListThingPrincipalsV2", "GET", "/things/{thingName}/principals-v2", c.thingPrincipals(true)),
		restjson.Handle("ListPrincipalThings", "GET", "/principals/things", c.principalThings(false)),
		restjson.Handle("ListPrincipalThingsV2", "GET", "/principals/things-v2", c.principalThings(true)),
		restjson.Handle("GetThingConnectivityData", "POST", "/things/{thingName}/connectivity-data", func(_ *restjson.Call, in *thingIn) (any, error) {
			if _, err := reg.Thing(in.Name); err != nil {
				return nil, err
			}
			if !reg.Indexing().Online() {
				return nil, indexIsOff("connectivity")
			}
			out := map[string]any{"thingName": in.Name, "connected": false}
			if on := c.connectivity(in.Name); on != nil {
				if out["connected"] = on.Connected; on.Timestamp > 0 {
					out["timestamp"] = float64(on.Timestamp) / 1000
				}
				if on.Reason != "" {
					out["disconnectReason"] = on.Reason
				}
			}
			return out, nil
		}),
	}
}

type thingPrincipalsIn struct {
	pageIn
	Thing string `at:"path,thingName"`
	Kind  string `at:"query,thingPrincipalType"`
}

func (c *Control) thingPrincipals(v2 bool) func(*restjson.Call, *thingPrincipalsIn) (any, error) {
	return func(_ *restjson.Call, in *thingPrincipalsIn) (any, error) {
		p, err := in.page()
		if err != nil {
			return nil, err
		}
		links, next, err := c.Registry.Principals(in.Thing, p)
		if err != nil {
			return nil, err
		}
		names, objects := []string{}, []map[string]string{}
		for _, l := range links {
			names = append(names, l.Principal)
			if kind := kindOf(l.Exclusive); in.Kind == "" || in.Kind == kind {
				objects = append(objects, map[string]string{"principal": l.Principal, "thingPrincipalType": kind})
			}
		}
		if v2 {
			return listing("thingPrincipalObjects", objects, next), nil
		}
		return listing("principals", names, next), nil
	}
}

type principalThingsIn struct {
	pageIn
	Principal string `at:"header,x-amzn-principal" need:""`
	Kind      string `at:"query,thingPrincipalType"`
}

func (c *Control) principalThings(v2 bool) func(*restjson.Call, *principalThingsIn) (any, error) {
	return func(_ *restjson.Call, in *principalThingsIn) (any, error) {
		p, err := in.page()
		if err != nil {
			return nil, err
		}
		links, next, err := c.Registry.ThingsOf(in.Principal, p)
		if err != nil {
			return nil, err
		}
		names, objects := []string{}, []map[string]string{}
		for _, l := range links {
			names = append(names, l.Thing)
			if kind := kindOf(l.Exclusive); in.Kind == "" || in.Kind == kind {
				objects = append(objects, map[string]string{"thingName": l.Thing, "thingPrincipalType": kind})
			}
		}
		if v2 {
			return listing("principalThingObjects", objects, next), nil
		}
		return listing("things", names, next), nil
	}
}

// listing is a page of one member.
func listing(member string, items any, next string) map[string]any {
	out := map[string]any{member: items}
	if next != "" {
		out["nextToken"] = token(next)
	}
	return out
}

// marked is a page of the older kind.
func marked(member string, items any, next string) map[string]any {
	out := map[string]any{member: items}
	if next != "" {
		out["nextMarker"] = token(next)
	}
	return out
}
