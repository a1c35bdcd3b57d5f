package control

import (
	"tidegate/gateway/api/restjson"
	"tidegate/gateway/fault"
	"tidegate/gateway/registry"
	"tidegate/gateway/registry/indexquery"
)

// The indexes there are.
const (
	indexOfThings = "AWS_Things"
	indexOfGroups = "AWS_ThingGroups"
)

const (
	on     = "ON"
	off    = registry.IndexOff
	status = "STATUS"
)

// indexFilter narrows what is indexed.
type indexFilter struct {
	Names []string `json:"namedShadowNames,omitempty"`
	Geo   []any    `json:"geoLocations,omitempty"`
}

// thingIndexing is what is indexed of things.
type thingIndexing struct {
	Mode         string                `json:"thingIndexingMode"`
	Connectivity string                `json:"thingConnectivityIndexingMode,omitempty"`
	Defender     string                `json:"deviceDefenderIndexingMode,omitempty"`
	Named        string                `json:"namedShadowIndexingMode,omitempty"`
	Managed      []registry.IndexField `json:"managedFields,omitempty"`
	Custom       []registry.IndexField `json:"customFields,omitempty"`
	Filter       *indexFilter          `json:"filter,omitempty"`
}

// groupIndexing is what is indexed of thing groups.
type groupIndexing struct {
	Mode    string                `json:"thingGroupIndexingMode"`
	Managed []registry.IndexField `json:"managedFields,omitempty"`
	Custom  []registry.IndexField `json:"customFields,omitempty"`
}

// switched reads a mode of two values; absent is off.
func switched(member, mode, yes string) (bool, error) {
	switch mode {
	case yes:
		return true, nil
	case "", off:
		return false, nil
	}
	return false, fault.New(fault.Invalid, "%s is %q, expected %s or %s", member, mode, off, yes)
}

// into takes what is given, which replaces all there was about things.
func (in *thingIndexing) into(x *registry.Indexing) (err error) {
	if in.Defender != "" && in.Defender != off {
		return fault.New(fault.Invalid, "deviceDefenderIndexingMode is %s, and there are no violations of Device Defender here", in.Defender)
	}
	x.Things, x.Fields, x.Names = in.Mode, in.Custom, nil
	if in.Filter != nil {
		if len(in.Filter.Geo) > 0 {
			return fault.New(fault.Invalid, "geoLocations are not served by this gateway")
		}
		x.Names = in.Filter.Names
	}
	if x.Connectivity, err = switched("thingConnectivityIndexingMode", in.Connectivity, status); err != nil {
		return err
	}
	x.Named, err = switched("namedShadowIndexingMode", in.Named, on)
	return err
}

func (in *groupIndexing) into(x *registry.Indexing) (err error) {
	x.Groups, err = switched("thingGroupIndexingMode", in.Mode, on)
	x.GroupFields = in.Custom
	return err
}

func mode(is bool, yes string) string {
	if is {
		return yes
	}
	return off
}

func fieldsOf(kind string, names ...string) (out []registry.IndexField) {
	for _, n := range names {
		out = append(out, registry.IndexField{Name: n, Type: kind})
	}
	return out
}

// managed lists the fields that need no declaration (spec/ops.md §1.1).
func managed(x *registry.Indexing) (out []registry.IndexField) {
	add := func(fields []registry.IndexField) { out = append(out, fields...) }
	if x.On() {
		add(fieldsOf("String", "thingId", "thingName", "registry.thingTypeName", "registry.thingGroupNames"))
		add(fieldsOf("Number", "registry.version"))
	}
	if x.Shadow() {
		add(fieldsOf("Number", "shadow.version"))
		add(fieldsOf("Boolean", "shadow.hasDelta"))
	}
	if x.On() && x.Named {
		add(fieldsOf("Number", "shadow.name.*.version"))
		add(fieldsOf("Boolean", "shadow.name.*.hasDelta"))
	}
	if x.Online() {
		add(fieldsOf("Number", "connectivity.timestamp", "connectivity.version"))
		add(fieldsOf("Boolean", "connectivity.connected"))
		add(fieldsOf("String", "connectivity.disconnectReason"))
	}
	return out
}

// schema names what is in the index of things.
func schema(x *registry.Indexing) string {
	switch {
	case !x.On():
		return off
	case x.Named:
		return "MULTI_INDEXING_MODE"
	case x.Shadow() && x.Online():
		return "REGISTRY_AND_SHADOW_AND_CONNECTIVITY_STATUS"
	case x.Online():
		return "REGISTRY_AND_CONNECTIVITY_STATUS"
	}
	return x.Things
}

// indexIsOff is the answer of an index that is off.
func indexIsOff(what string) error {
	return fault.Wrap(fault.Invalid, registry.ErrIndex, "%s is not indexed; UpdateIndexingConfiguration turns it on", what)
}

// indexing are the operations about what searches see.
func (c *Control) indexing() []restjson.Op {
	reg := c.Registry
	return []restjson.Op{
		restjson.Handle("GetIndexingConfiguration", "GET", "/indexing/config", func(*restjson.Call, *struct{}) (any, error) {
			x := reg.Indexing()
			things := thingIndexing{Mode: x.Things, Connectivity: mode(x.Connectivity, status), Defender: off, Named: mode(x.Named, on), Managed: managed(x), Custom: x.Fields}
			if len(x.Names) > 0 {
				things.Filter = &indexFilter{Names: x.Names}
			}
			groups := groupIndexing{Mode: mode(x.Groups, on), Custom: x.GroupFields}
			if x.Groups {
				groups.Managed = append(fieldsOf("String", "description", "parentGroupNames", "thingGroupId", "thingGroupName"), fieldsOf("Number", "version")...)
			}
			return map[string]any{"thingIndexingConfiguration": things, "thingGroupIndexingConfiguration": groups}, nil
		}),
		restjson.Handle("UpdateIndexingConfiguration", "POST", "/indexing/config", func(call *restjson.Call, in *struct {
			Things *thingIndexing `json:"thingIndexingConfiguration"`
			Groups *groupIndexing `json:"thingGroupIndexingConfiguration"`
		}) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error {
				x := *tx.Indexing()
				if in.Things != nil {
					if err := in.Things.into(&x); err != nil {
						return err
					}
				}
				if in.Groups != nil {
					if err := in.Groups.into(&x); err != nil {
						return err
					}
				}
				return tx.SetIndexing(&x)
			})
		}),
		restjson.Handle("ListIndices", "GET", "/indices", func(*restjson.Call, *pageIn) (any, error) {
			names := []string{}
			x := reg.Indexing()
			if x.Groups {
				names = append(names, indexOfGroups)
			}
			if x.On() {
				names = append(names, indexOfThings)
			}
			return map[string]any{"indexNames": names}, nil
		}),
		restjson.Handle("DescribeIndex", "GET", "/indices/{indexName}", func(_ *restjson.Call, in *struct {
			Index string `at:"path,indexName"`
		}) (any, error) {
			x := reg.Indexing()
			out := map[string]string{"indexName": in.Index, "indexStatus": "ACTIVE", "schema": schema(x)} // what is on is searched at once
			switch in.Index {
			case indexOfThings:
			case indexOfGroups:
				if out["schema"] = "THING_GROUPS"; !x.Groups {
					out["schema"] = off
				}
			default:
				return nil, noIndex(in.Index)
			}
			return out, nil
		}),
		restjson.Handle("SearchIndex", "POST", "/indices/search", c.search),
	}
}

func noIndex(name string) error {
	return fault.New(fault.NotFound, "the index %s does not exist", name)
}

// maxFound is the largest page a search may ask for (SearchIndex, maxResults).
const maxFound = 500

type searchIn struct {
	Index   string `json:"indexName"`
	Query   string `json:"queryString" need:""`
	Token   string `json:"nextToken"`
	Max     *int   `json:"maxResults"`
	Version string `json:"queryVersion"`
}

func (c *Control) search(_ *restjson.Call, in *searchIn) (any, error) {
	if in.Index != "" && in.Index != indexOfThings && in.Index != indexOfGroups {
		return nil, noIndex(in.Index)
	}
	if in.Version != "" && in.Version != indexquery.Version {
		return nil, fault.New(fault.Invalid, "the query version is %s", indexquery.Version)
	}
	q, err := indexquery.Parse(in.Query)
	if err != nil {
		return nil, err
	}
	p, err := pageOf(in.Token, in.Max, "maxResults", maxFound)
	if err != nil {
		return nil, err
	}
	if in.Index == indexOfGroups {
		return c.searchGroups(q, p)
	}
	if !c.Registry.Indexing().On() {
		return nil, indexIsOff(indexOfThings)
	}
	things, next := c.Registry.Search(q, p)
	out := make([]thingDocument, len(things))
	for i, t := range things {
		if out[i], err = c.found(t); err != nil {
			return nil, err
		}
	}
	return struct {
		Things []thingDocument `json:"things"`
		Next   *string         `json:"nextToken,omitempty"`
	}{out, token(next)}, nil
}

// groupDocument is a thing group as a search shows it.
type groupDocument struct {
	Name        string            `json:"thingGroupName"`
	ID          string            `json:"thingGroupId"`
	Description *string           `json:"thingGroupDescription,omitempty"`
	Attributes  map[string]string `json:"attributes"`
	Parents     []string          `json:"parentGroupNames"`
}

func (c *Control) searchGroups(q *indexquery.Query, p registry.Page) (any, error) {
	if !c.Registry.Indexing().Groups {
		return nil, indexIsOff(indexOfGroups)
	}
	groups, above, next := c.Registry.SearchGroups(q, p)
	out := make([]groupDocument, len(groups))
	for i, g := range groups {
		out[i] = groupDocument{g.Name, g.ID, opt(g.Description), attributesOf(g.Attributes), above[i]}
	}
	return struct {
		Groups []groupDocument `json:"thingGroups"`
		Next   *string         `json:"nextToken,omitempty"`
	}{out, token(next)}, nil
}
