package reserved_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"tidegate/gateway/mqtt"
	"tidegate/gateway/registry"
	"tidegate/gateway/reserved"
	"tidegate/gateway/store"
)

func TestRegistryEventsAreSwitched(t *testing.T) {
	d := newDesk(t)
	var sent []mqtt.Message
	events := reserved.NewRegistryEvents(d.reg)
	d.reg.Witness(func(c []registry.Change) func(*store.Unit, func(mqtt.Message)) {
		fn := events.Witness(c)
		return func(u *store.Unit, _ func(mqtt.Message)) {
			fn(u, func(m mqtt.Message) { sent = append(sent, m) })
		}
	})
	do := func(fn func(tx *registry.Tx) error) (topics []string) {
		t.Helper()
		sent = nil
		if err := d.reg.Do("test", fn); err != nil {
			t.Fatal(err)
		}
		for _, m := range sent {
			topics = append(topics, strings.TrimPrefix(m.Topic, "$aws/events/"))
		}
		return topics
	}
	if got := do(func(tx *registry.Tx) error { _, err := tx.CreateThing(registry.ThingInput{Name: "early"}); return err }); got != nil {
		t.Errorf("before they are on: %v", got)
	}
	do(func(tx *registry.Tx) error {
		tx.Set(registry.EventSetting, registry.EventSwitches{On: map[string]bool{"THING": true, "THING_TYPE": true, "THING_GROUP": true, "THING_GROUP_MEMBERSHIP": true,
			"THING_GROUP_HIERARCHY": true, "THING_TYPE_ASSOCIATION": true}})
		return nil
	})
	for _, c := range []struct {
		name string
		do   func(tx *registry.Tx) error
		want []string
	}{
		{"groups", func(tx *registry.Tx) error {
			_, e1 := tx.CreateGroup(registry.GroupInput{Name: "root"})
			_, e2 := tx.CreateGroup(registry.GroupInput{Name: "leaf", Parent: "root"})
			return errors.Join(e1, e2)
		}, []string{"thingGroup/root/created", "thingGroup/leaf/created", "thingGroupHierarchy/thingGroup/root/childThingGroup/leaf/added"}},
		{"a type", func(tx *registry.Tx) error { _, err := tx.CreateType(registry.TypeInput{Name: "pump"}); return err }, []string{"thingType/pump/created"}},
		{"a thing of a type", func(tx *registry.Tx) error {
			_, err := tx.CreateThing(registry.ThingInput{Name: "p1", Type: "pump", Attributes: map[string]string{"a": "b"}})
			return err
		}, []string{"thing/p1/created", "thingTypeAssociation/thing/p1/thingType/pump/added"}},
		{"into a group", func(tx *registry.Tx) error { return tx.AddToGroup("p1", "leaf") }, []string{"thingGroupMembership/thingGroup/leaf/thing/p1/added"}},
		{"an update", func(tx *registry.Tx) error {
			_, err := tx.UpdateThing("p1", registry.ThingUpdate{Attributes: map[string]string{"a": "c"}, RemoveType: true})
			return err
		}, []string{"thing/p1/updated", "thingTypeAssociation/thing/p1/thingType/pump/removed"}},
		{"out of it", func(tx *registry.Tx) error { return tx.RemoveFromGroup("p1", "leaf") }, []string{"thingGroupMembership/thingGroup/leaf/thing/p1/removed"}},
		{"a deprecation", func(tx *registry.Tx) error { return tx.DeprecateType("pump", false) }, []string{"thingType/pump/updated"}},
	} {
		if got := do(c.do); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if c.name == "a thing of a type" {
			var e map[string]any
			if err := json.Unmarshal(sent[0].Payload, &e); err != nil || e["eventType"] != "THING_EVENT" || e["operation"] != "CREATED" || e["thingName"] != "p1" || e["versionNumber"] != 1.0 ||
				e["accountId"] != "000000000000" || e["thingTypeName"] != "pump" || e["eventId"] == "" {
				t.Errorf("event %s, %v", sent[0].Payload, err)
			}
		}
	}
}
