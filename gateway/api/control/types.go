package control

import (
	"tidegate/gateway/api/restjson"
	"tidegate/gateway/registry"
)

// typeProperties describe a thing type on the wire.
type typeProperties struct {
	Description string    `json:"thingTypeDescription,omitempty"`
	Searchable  []string  `json:"searchableAttributes"`
	MQTT5       *mqttConf `json:"mqtt5Configuration,omitempty"`
}

type mqttConf struct {
	Propagating []propagating `json:"propagatingAttributes"`
}

type propagating struct {
	Key        string `json:"userPropertyKey"`
	Thing      string `json:"thingAttribute,omitempty"`
	Connection string `json:"connectionAttribute,omitempty"`
}

func (p *typeProperties) input(name string, tags []tag) registry.TypeInput {
	in := registry.TypeInput{Name: name, Tags: tagMap(tags)}
	if p == nil {
		return in
	}
	in.Description, in.Searchable = p.Description, p.Searchable
	if p.MQTT5 != nil {
		for _, a := range p.MQTT5.Propagating {
			in.Propagating = append(in.Propagating, registry.Propagating{UserPropertyKey: a.Key, ThingAttribute: a.Thing, ConnectionAttribute: a.Connection})
		}
	}
	return in
}

// typeOut is a thing type in answers.
type typeOut struct {
	Name       string         `json:"thingTypeName"`
	ID         string         `json:"thingTypeId,omitempty"`
	ARN        string         `json:"thingTypeArn"`
	Properties typeProperties `json:"thingTypeProperties"`
	Metadata   struct {
		Deprecated   bool           `json:"deprecated"`
		DeprecatedAt *restjson.Time `json:"deprecationDate,omitempty"`
		Created      restjson.Time  `json:"creationDate"`
	} `json:"thingTypeMetadata"`
}

func (c *Control) typeOut(t *registry.Type) typeOut {
	out := typeOut{Name: t.Name, ARN: c.Registry.ARN("thingtype", t.Name), Properties: typeProperties{Description: t.Description, Searchable: t.Searchable}}
	if out.Properties.Searchable == nil {
		out.Properties.Searchable = []string{}
	}
	if len(t.Propagating) > 0 {
		out.Properties.MQTT5 = &mqttConf{}
		for _, p := range t.Propagating {
			out.Properties.MQTT5.Propagating = append(out.Properties.MQTT5.Propagating, propagating{p.UserPropertyKey, p.ThingAttribute, p.ConnectionAttribute})
		}
	}
	out.Metadata.Deprecated, out.Metadata.Created = t.Deprecated, restjson.Time(t.Created)
	if t.Deprecated {
		at := restjson.Time(t.DeprecatedAt)
		out.Metadata.DeprecatedAt = &at
	}
	return out
}

type typeIn struct {
	Name       string          `at:"path,thingTypeName"`
	Properties *typeProperties `json:"thingTypeProperties"`
	Tags       []tag           `json:"tags"`
	Undo       bool            `json:"undoDeprecate"`
}

func (c *Control) types() []restjson.Op {
	reg := c.Registry
	return []restjson.Op{
		restjson.Handle("CreateThingType", "POST", "/thing-types/{thingTypeName}", func(call *restjson.Call, in *typeIn) (any, error) {
			var t *registry.Type
			err := c.do(call, func(tx *registry.Tx) (err error) {
				t, err = tx.CreateType(in.Properties.input(in.Name, in.Tags))
				return err
			})
			if err != nil {
				return nil, err
			}
			return map[string]string{"thingTypeName": t.Name, "thingTypeArn": reg.ARN("thingtype", t.Name), "thingTypeId": t.ID}, nil
		}),
		restjson.Handle("DescribeThingType", "GET", "/thing-types/{thingTypeName}", func(_ *restjson.Call, in *typeIn) (any, error) {
			t, err := reg.Type(in.Name)
			if err != nil {
				return nil, err
			}
			out := c.typeOut(t)
			out.ID = t.ID
			return out, nil
		}),
		restjson.Handle("UpdateThingType", "PATCH", "/thing-types/{thingTypeName}", func(call *restjson.Call, in *typeIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.UpdateType(in.Properties.input(in.Name, nil)) })
		}),
		restjson.Handle("DeprecateThingType", "POST", "/thing-types/{thingTypeName}/deprecate", func(call *restjson.Call, in *typeIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.DeprecateType(in.Name, in.Undo) })
		}),
		restjson.Handle("DeleteThingType", "DELETE", "/thing-types/{thingTypeName}", func(call *restjson.Call, in *typeIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.DeleteType(in.Name) })
		}),
		restjson.Handle("ListThingTypes", "GET", "/thing-types", func(_ *restjson.Call, in *struct {
			pageIn
			Name string `at:"query,thingTypeName"`
		}) (any, error) {
			p, err := in.page()
			if err != nil {
				return nil, err
			}
			types, next := reg.Types(in.Name, p)
			out := make([]typeOut, 0, len(types))
			for _, t := range types {
				out = append(out, c.typeOut(t))
			}
			return listing("thingTypes", out, next), nil
		}),
	}
}
