package registry_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"tidegate/gateway/fault"
	"tidegate/gateway/registry"
	"tidegate/gateway/registry/indexquery"
)

func TestWhatIsIndexedIsKept(t *testing.T) {
	r := newRig(t)
	if got := r.Indexing(); !reflect.DeepEqual(got, registry.DefaultIndexing()) || !got.NamedShadow("any") || !got.Online() || !got.Shadow() {
		t.Errorf("at first %+v", got)
	}
	want := &registry.Indexing{Things: registry.IndexShadow, Named: true, Names: []string{"cfg"}, Fields: []registry.IndexField{
		{Name: "attributes.watt", Type: "Number"}, {Name: "shadow.reported.on", Type: "Boolean"}, {Name: "shadow.name.cfg.desired.x", Type: "String"}}}
	r.must(func(tx *registry.Tx) error { return tx.SetIndexing(want) })
	if err := r.do(func(tx *registry.Tx) error {
		return errors.Join(tx.SetIndexing(&registry.Indexing{Things: registry.IndexOff}), fault.New(fault.Conflict, "no"))
	}); !fault.Is(err, fault.Conflict) {
		t.Fatal(err)
	}
	if got := r.Indexing(); got != want {
		t.Errorf("after what was taken back: %+v", got)
	}
	r.reopen()
	if got := r.Indexing(); !reflect.DeepEqual(got, want) || got.NamedShadow("other") || !got.NamedShadow("cfg") || got.Online() {
		t.Errorf("after a restart: %+v", got)
	}
}

func TestIndexingThatCannotBe(t *testing.T) {
	r := newRig(t)
	field := func(name, kind string) []registry.IndexField { return []registry.IndexField{{Name: name, Type: kind}} }
	for what, c := range map[string]struct {
		x    registry.Indexing
		want fault.Code
	}{
		"a mode nobody knows":      {registry.Indexing{Things: "ALL"}, fault.Invalid},
		"no mode":                  {registry.Indexing{}, fault.Invalid},
		"off with connectivity":    {registry.Indexing{Things: "OFF", Connectivity: true}, fault.Invalid},
		"off with named shadows":   {registry.Indexing{Things: "OFF", Named: true}, fault.Invalid},
		"names without the mode":   {registry.Indexing{Things: "REGISTRY", Names: []string{"a"}}, fault.Invalid},
		"a name that is none":      {registry.Indexing{Things: "REGISTRY", Named: true, Names: []string{"a b"}}, fault.Invalid},
		"too many names":           {registry.Indexing{Things: "REGISTRY", Named: true, Names: strings.Split("abcdefghijk", "")}, fault.LimitExceeded},
		"too many fields":          {registry.Indexing{Things: "REGISTRY", Fields: make([]registry.IndexField, 6)}, fault.LimitExceeded},
		"an unknown type":          {registry.Indexing{Things: "REGISTRY", Fields: field("attributes.a", "Date")}, fault.Invalid},
		"an unknown place":         {registry.Indexing{Things: "REGISTRY", Fields: field("thingName", "String")}, fault.Invalid},
		"a field with a space":     {registry.Indexing{Things: "REGISTRY", Fields: field("attributes.a b", "String")}, fault.Invalid},
		"a shadow that is not":     {registry.Indexing{Things: "REGISTRY", Fields: field("shadow.reported.a", "String")}, fault.Invalid},
		"another shadow's name":    {registry.Indexing{Things: "REGISTRY", Named: true, Names: []string{"a"}, Fields: field("shadow.name.b.reported.x", "String")}, fault.Invalid},
		"fields of groups, off":    {registry.Indexing{Things: "REGISTRY", GroupFields: field("attributes.a", "String")}, fault.Invalid},
		"a field that groups lack": {registry.Indexing{Things: "REGISTRY", Groups: true, GroupFields: field("shadow.reported.a", "String")}, fault.Invalid},
	} {
		if err := r.do(func(tx *registry.Tx) error { return tx.SetIndexing(&c.x) }); !fault.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
}

func TestDynamicGroupsAreEmptyWithoutAnIndex(t *testing.T) {
	r := newRig(t)
	r.must(func(tx *registry.Tx) error {
		_, e1 := tx.CreateThing(registry.ThingInput{Name: "a"})
		_, e2 := tx.CreateGroup(registry.GroupInput{Name: "all", Query: "thingName:*"})
		return errors.Join(e1, e2, tx.SetIndexing(&registry.Indexing{Things: registry.IndexOff}))
	})
	if things, _, err := r.Members("all", false, registry.Page{}); err != nil || len(things) != 0 || r.Within("a", "all") {
		t.Errorf("members: %v, %v", things, err)
	}
	err := r.do(func(tx *registry.Tx) error {
		_, err := tx.CreateGroup(registry.GroupInput{Name: "more", Query: "thingName:*"})
		return err
	})
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("another dynamic group: %v", err)
	}
	r.must(func(tx *registry.Tx) error { return tx.SetIndexing(registry.DefaultIndexing()) })
	if !r.Within("a", "all") {
		t.Error("it stays empty")
	}
}

func TestGroupsAreSearched(t *testing.T) {
	r := newRig(t)
	r.must(func(tx *registry.Tx) error {
		_, e1 := tx.CreateGroup(registry.GroupInput{Name: "plant", Description: "the whole plant"})
		_, e2 := tx.CreateGroup(registry.GroupInput{Name: "hall", Parent: "plant", Attributes: map[string]string{"floor": "2"}})
		_, e3 := tx.CreateGroup(registry.GroupInput{Name: "corner", Parent: "hall"})
		return errors.Join(e1, e2, e3)
	})
	for query, want := range map[string]string{
		"parentGroupNames:plant": "[corner hall] [[hall plant] [plant]]",
		"attributes.floor>1":     "[hall] [[plant]]",
		"description:whole":      "[plant] [[]]",
		"thingGroupName:x*":      "[] []",
		"plant":                  "[corner hall plant] [[hall plant] [plant] []]",
	} {
		q, err := indexquery.Parse(query)
		if err != nil {
			t.Fatal(err)
		}
		groups, above, next := r.SearchGroups(q, registry.Page{})
		names := []string{}
		for _, g := range groups {
			names = append(names, g.Name)
		}
		if got := fmt.Sprint(names, " ", above); got != want || next != "" {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}
