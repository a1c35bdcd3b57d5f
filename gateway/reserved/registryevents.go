package reserved

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/registry"
	"tidegate/gateway/store"
)

// RegistryEvents publishes what happens to things, types and groups as the events that AWS
// IoT publishes, as far as they are switched on (spec/registry.md §8). They are committed
// with the change they tell of.
type RegistryEvents struct{ reg *registry.Registry }

// NewRegistryEvents makes the publisher for a registry.
func NewRegistryEvents(reg *registry.Registry) *RegistryEvents { return &RegistryEvents{reg} }

// Witness is a witness of the registry.
func (e *RegistryEvents) Witness(changes []registry.Change) func(u *store.Unit, emit func(mqtt.Message)) {
	var out []mqtt.Message
	say := func(switched string, t awstopic.Topic, at time.Time, fields fields) {
		if !e.reg.EventOn(switched) {
			return
		}
		out = append(out, e.event(at, t, fields))
	}
	for _, c := range changes {
		switch c.Kind {
		case "thing":
			e.thing(c, say)
		case "thingtype":
			e.thingType(c, say)
		case "thinggroup":
			e.group(c, say)
		}
	}
	return func(_ *store.Unit, emit func(mqtt.Message)) {
		for _, m := range out {
			emit(m)
		}
	}
}

// event makes the message of an event.
func (e *RegistryEvents) event(at time.Time, t awstopic.Topic, f fields) mqtt.Message {
	f["eventId"], f["timestamp"], f["accountId"], f["operation"] = newID(), at.UnixMilli(), e.reg.Account(), operations[t.Op]
	doc, _ := json.Marshal(f) // texts, numbers and lists of them: cannot fail
	t.Service = awstopic.Events
	m := message(t.String(), doc)
	m.At = at
	return m
}

type (
	fields map[string]any
	sayer  func(switched string, t awstopic.Topic, at time.Time, f fields)
)

var operations = map[awstopic.Op]string{"created": "CREATED", "updated": "UPDATED", "deleted": "DELETED", "added": "ADDED", "removed": "REMOVED"}

// opOf says what happened to a record.
func opOf[T any](was, is *T) awstopic.Op {
	switch {
	case was == nil:
		return "created"
	case is == nil:
		return "deleted"
	}
	return "updated"
}

func (e *RegistryEvents) thing(c registry.Change, say sayer) {
	was, _ := c.Before.(*registry.Thing)
	is, _ := c.After.(*registry.Thing)
	now := is
	if now == nil {
		now = was
	}
	if was == nil || is == nil || was.Version != is.Version {
		say("THING", awstopic.Topic{Reply: "thing", Thing: now.Name, Op: opOf(was, is)}, c.At, fields{"eventType": "THING_EVENT", "thingId": now.ID, "thingName": now.Name,
			"versionNumber": now.Version, "thingTypeName": nullable(now.Type), "attributes": attributesOf(now.Attributes)})
	}
	var oldType, newType string
	var oldGroups, newGroups []string
	if was != nil {
		oldType, oldGroups = was.Type, was.Groups
	}
	if is != nil {
		newType, newGroups = is.Type, is.Groups
	}
	if oldType != newType {
		for _, x := range []struct {
			op   awstopic.Op
			name string
		}{{"removed", oldType}, {"added", newType}} {
			if x.name != "" {
				say("THING_TYPE_ASSOCIATION", awstopic.Topic{Reply: "thingTypeAssociation", Thing: now.Name, Name: x.name, Op: x.op}, c.At,
					fields{"eventType": "THING_TYPE_ASSOCIATION_EVENT", "thingId": now.ID, "thingName": now.Name, "thingTypeName": x.name})
			}
		}
	}
	for _, g := range oldGroups {
		if !slices.Contains(newGroups, g) {
			e.membership(c.At, now, g, "removed", say)
		}
	}
	for _, g := range newGroups {
		if !slices.Contains(oldGroups, g) {
			e.membership(c.At, now, g, "added", say)
		}
	}
}

func (e *RegistryEvents) membership(at time.Time, t *registry.Thing, group string, op awstopic.Op, say sayer) {
	id := ""
	if g, err := e.reg.Group(group); err == nil {
		id = g.ID
	}
	say("THING_GROUP_MEMBERSHIP", membershipTopic(group, t.Name, op), at, e.membershipFields(group, id, t.Name, t.ID))
}

func membershipTopic(group, thing string, op awstopic.Op) awstopic.Topic {
	return awstopic.Topic{Reply: "thingGroupMembership", Thing: thing, Name: group, Op: op}
}

func (e *RegistryEvents) membershipFields(group, groupID, thing, thingID string) fields {
	return fields{"eventType": "THING_GROUP_MEMBERSHIP_EVENT", "groupArn": e.reg.ARN("thinggroup", group), "groupId": groupID,
		"thingArn": e.reg.ARN("thing", thing), "thingId": thingID, "membershipId": membershipID(groupID, thingID)}
}

func (e *RegistryEvents) thingType(c registry.Change, say sayer) {
	was, _ := c.Before.(*registry.Type)
	is, _ := c.After.(*registry.Type)
	now := is
	if now == nil {
		now = was
	}
	var deprecated any
	if now.Deprecated {
		deprecated = now.DeprecatedAt.UnixMilli()
	}
	say("THING_TYPE", awstopic.Topic{Reply: "thingType", Name: now.Name, Op: opOf(was, is)}, c.At, fields{"eventType": "THING_TYPE_EVENT", "thingTypeId": now.ID,
		"thingTypeName": now.Name, "isDeprecated": now.Deprecated, "deprecationDate": deprecated, "searchableAttributes": append([]string{}, now.Searchable...),
		"propagatingAttributes": append([]registry.Propagating{}, now.Propagating...), "description": now.Description})
}

func (e *RegistryEvents) group(c registry.Change, say sayer) {
	was, _ := c.Before.(*registry.Group)
	is, _ := c.After.(*registry.Group)
	now := is
	if now == nil {
		now = was
	}
	parentID, roots := "", []fields{}
	for name := now.Parent; name != ""; {
		g, err := e.reg.Group(name)
		if err != nil {
			break
		}
		if parentID == "" {
			parentID = g.ID
		}
		roots = append(roots, fields{"groupArn": e.reg.ARN("thinggroup", g.Name), "groupId": g.ID})
		name = g.Parent
	}
	slices.Reverse(roots)
	var mapping any
	if now.Dynamic() {
		mapping = membershipID(now.ID, now.Query)
	}
	say("THING_GROUP", awstopic.Topic{Reply: "thingGroup", Name: now.Name, Op: opOf(was, is)}, c.At, fields{"eventType": "THING_GROUP_EVENT", "thingGroupId": now.ID,
		"thingGroupName": now.Name, "versionNumber": now.Version, "parentGroupName": nullable(now.Parent), "parentGroupId": nullable(parentID), "description": nullable(now.Description),
		"rootToParentThingGroups": roots, "attributes": attributesOf(now.Attributes), "dynamicGroupMappingId": mapping})
	if now.Parent != "" && (was == nil || is == nil) {
		op := awstopic.Op("added")
		if is == nil {
			op = "removed"
		}
		say("THING_GROUP_HIERARCHY", awstopic.Topic{Reply: "thingGroupHierarchy", Name: now.Parent, Rest: now.Name, Op: op}, c.At, fields{"eventType": "THING_GROUP_HIERARCHY_EVENT",
			"thingGroupId": parentID, "thingGroupName": now.Parent, "childGroupId": now.ID, "childGroupName": now.Name})
	}
}

func nullable(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func attributesOf(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// membershipID names a membership by who is in what: the same again has the same name.
func membershipID(group, member string) string {
	sum := sha256.Sum256([]byte(group + "\x00" + member))
	return uuid([16]byte(sum[:16]))
}

// uuid writes 16 bytes as a UUID of version 4.
func uuid(b [16]byte) string {
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
