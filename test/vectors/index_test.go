package vectors_test

import (
	"fmt"
	"slices"
	"testing"

	"tidegate/gateway/registry/indexquery"
)

// indexedThing is a thing of index-query.json.
type indexedThing struct {
	ThingName, ThingTypeName string
	ThingGroupNames          []string
	Attributes               map[string]string
	Shadow                   map[string]any
	HasDelta                 *bool
	Named                    map[string]any
	Connectivity             map[string]any
}

func (t *indexedThing) document() indexquery.Doc {
	d := indexquery.Doc{"thingName": {indexquery.Text(t.ThingName)}}
	if t.ThingTypeName != "" {
		d["thingTypeName"] = []indexquery.Value{indexquery.Text(t.ThingTypeName)}
	}
	for _, g := range t.ThingGroupNames {
		d["thingGroupNames"] = append(d["thingGroupNames"], indexquery.Text(g))
	}
	for k, v := range t.Attributes {
		d["attributes."+k] = []indexquery.Value{indexquery.Attribute(v)}
	}
	d.AddJSON("shadow", t.Shadow)
	if t.HasDelta != nil {
		d.AddJSON("shadow.hasDelta", *t.HasDelta)
	}
	d.AddJSON("shadow.name", t.Named)
	d.AddJSON("connectivity", t.Connectivity)
	return d
}

func TestIndexQuery(t *testing.T) {
	var set struct {
		Things  []indexedThing
		Queries []struct {
			ID, Query string
			Expect    []string
			Error     bool
		}
	}
	if !load(t, "index-query.json", &set) {
		return
	}
	for _, v := range set.Queries {
		run(t, v.ID, nil, func() error {
			q, err := indexquery.Parse(v.Query)
			switch {
			case v.Error && err != nil:
				return nil
			case v.Error:
				return fmt.Errorf("%s: got no error", v.Query)
			case err != nil:
				return err
			}
			var got []string
			for i := range set.Things {
				if q.Match(set.Things[i].document()) {
					got = append(got, set.Things[i].ThingName)
				}
			}
			slices.Sort(got)
			slices.Sort(v.Expect)
			if !slices.Equal(got, v.Expect) {
				return fmt.Errorf("%s: got %v, want %v", v.Query, got, v.Expect)
			}
			return nil
		})
	}
}
