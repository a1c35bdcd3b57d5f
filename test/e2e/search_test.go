package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"tidegate/test/harness"
)

// Searches and dynamic groups see what the registry keeps, what shadows say and who is connected, as it is now.
func TestSearchesSeeShadowsAndConnections(t *testing.T) {
	s := newSite(t, harness.Options{NoDev: true})
	c, data, ctx := sdk(t, s.Gateway), dataSDK(t, s.Gateway), t.Context()
	s.enroll("pump1")
	s.enroll("pump2")
	s.enroll("badge")
	// The certificate of badge stands for the thing gate alone, whatever the client calls itself.
	badge := aws.String("arn:aws:iot:local-1:000000000000:cert/" + s.certificateOf("badge"))
	if _, err := c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("gate")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: aws.String("badge"), Principal: badge}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: aws.String("gate"), Principal: badge, ThingPrincipalType: types.ThingPrincipalTypeExclusiveThing}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateDynamicThingGroup(ctx, &iot.CreateDynamicThingGroupInput{ThingGroupName: aws.String("hot"), QueryString: aws.String("shadow.reported.celsius>80 AND connectivity.connected:true")}); err != nil {
		t.Fatal(err)
	}
	search := func(query string) (names []string, first types.ThingDocument) {
		t.Helper()
		out, err := c.SearchIndex(ctx, &iot.SearchIndexInput{QueryString: &query})
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		for i, x := range out.Things {
			if i == 0 {
				first = x
			}
			names = append(names, *x.ThingName)
		}
		return names, first
	}
	finds := func(query string, want ...string) {
		t.Helper()
		harness.Until(t, fmt.Sprintf("%s finds %v", query, want), func() bool {
			got, _ := search(query)
			return fmt.Sprint(got) == fmt.Sprint(want)
		})
	}
	update := func(thing, name, doc string) {
		t.Helper()
		in := &iotdataplane.UpdateThingShadowInput{ThingName: &thing, Payload: []byte(doc)}
		if name != "" {
			in.ShadowName = &name
		}
		if _, err := data.UpdateThingShadow(ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	finds("connectivity.connected:true")
	update("pump1", "", `{"state":{"desired":{"on":true},"reported":{"celsius":95,"tags":["wet","dry"],"on":false}}}`)
	update("pump2", "", `{"state":{"reported":{"celsius":20}}}`)
	update("pump2", "cfg", `{"state":{"desired":{"rate":5},"reported":{"rate":7}}}`)
	update("stranger", "", `{"state":{"reported":{"celsius":99}}}`) // no thing of this name is registered
	finds("shadow.reported.celsius>80", "pump1")
	finds("shadow.hasDelta:true", "pump1")
	finds("shadow.delta.on:true", "pump1")
	finds("shadow.reported.tags:wet", "pump1")
	finds("dry", "pump1")
	finds("shadow.name.cfg.hasDelta:true AND shadow.name.cfg.reported.rate:7", "pump2")
	finds("shadow.reported.celsius:* NOT shadow.name.cfg.desired.rate:5", "pump1")

	one := s.paho("ssl://"+s.MQTTS, "pump1", s.tls("pump1"), nil)
	s.connect(one)
	finds("connectivity.connected:true", "pump1")
	finds("thingGroupNames:none OR connectivity.timestamp>1600000000000", "pump1")
	if _, doc := search("thingName:pump1"); doc.Connectivity == nil || !aws.ToBool(doc.Connectivity.Connected) || len(doc.ThingGroupNames) != 1 || doc.ThingGroupNames[0] != "hot" {
		t.Errorf("pump1: %+v", doc)
	} else {
		var shadow struct {
			Reported map[string]any
			HasDelta bool
			Metadata map[string]any
		}
		if err := json.Unmarshal([]byte(*doc.Shadow), &shadow); err != nil || shadow.Reported["celsius"] != 95.0 || !shadow.HasDelta || shadow.Metadata["reported"] == nil {
			t.Errorf("the shadow of pump1: %s, %v", *doc.Shadow, err)
		}
	}
	members, err := c.ListThingsInThingGroup(ctx, &iot.ListThingsInThingGroupInput{ThingGroupName: aws.String("hot")})
	if err != nil || fmt.Sprint(members.Things) != "[pump1]" {
		t.Errorf("the dynamic group: %+v, %v", members, err)
	}
	other := s.paho("ssl://"+s.MQTTS, "some-badge", s.tls("badge"), nil)
	s.connect(other)
	finds("connectivity.connected:true", "gate", "pump1")
	other.Disconnect(250)
	finds("connectivity.connected:true", "pump1")
	finds("connectivity.disconnectReason:CLIENT_INITIATED_DISCONNECT", "gate")

	online, err := c.GetThingConnectivityData(ctx, &iot.GetThingConnectivityDataInput{ThingName: aws.String("pump1")})
	if err != nil || !*online.Connected || time.Since(*online.Timestamp) > time.Minute || online.DisconnectReason != "" {
		t.Errorf("connected: %+v, %v", online, err)
	}
	s.cli("cert", "set", s.certificateOf("pump1"), "--revoked", "--yes")
	finds("connectivity.connected:true")
	harness.Until(t, "the group is empty", func() bool {
		members, err := c.ListThingsInThingGroup(ctx, &iot.ListThingsInThingGroupInput{ThingGroupName: aws.String("hot")})
		return err == nil && len(members.Things) == 0
	})
	online, err = c.GetThingConnectivityData(ctx, &iot.GetThingConnectivityDataInput{ThingName: aws.String("pump1")})
	if err != nil || *online.Connected || online.DisconnectReason == "" {
		t.Errorf("cut off: %+v, %v", online, err)
	}
	if _, err := data.DeleteThingShadow(ctx, &iotdataplane.DeleteThingShadowInput{ThingName: aws.String("pump1")}); err != nil {
		t.Fatal(err)
	}
	finds("shadow.reported.celsius:*", "pump2")
}

// A thing in as many groups as it may be joins another only when a dynamic one gives way.
func TestAStaticGroupTakesTheRoomOfADynamicOne(t *testing.T) {
	g := harness.Start(t, harness.Options{NoDev: true})
	c, ctx := sdk(t, g), t.Context()
	group := func(i int) *string { return aws.String(fmt.Sprintf("static-%02d", i)) }
	if _, err := c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("t")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateDynamicThingGroup(ctx, &iot.CreateDynamicThingGroupInput{ThingGroupName: aws.String("all"), QueryString: aws.String("thingName:*")}); err != nil {
		t.Fatal(err)
	}
	join := func(i int, override bool) error {
		_, err := c.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: aws.String("t"), ThingGroupName: group(i), OverrideDynamicGroups: override})
		return err
	}
	groups := func() (n int, dynamic bool) {
		out, err := c.ListThingGroupsForThing(ctx, &iot.ListThingGroupsForThingInput{ThingName: aws.String("t")})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range out.ThingGroups {
			dynamic = dynamic || *x.GroupName == "all"
		}
		return len(out.ThingGroups), dynamic
	}
	for i := range 11 {
		if _, err := c.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: group(i)}); err != nil {
			t.Fatal(err)
		}
		if i < 9 {
			if err := join(i, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n, dynamic := groups(); n != 10 || !dynamic {
		t.Errorf("%d groups, in the dynamic one: %v", n, dynamic)
	}
	refused[*types.InvalidRequestException](t, "the tenth static group", join(9, false), 400)
	if err := join(9, true); err != nil {
		t.Fatal(err)
	}
	if n, dynamic := groups(); n != 10 || dynamic {
		t.Errorf("%d groups, in the dynamic one: %v", n, dynamic)
	}
	members, err := c.ListThingsInThingGroup(ctx, &iot.ListThingsInThingGroupInput{ThingGroupName: aws.String("all")})
	if err != nil || len(members.Things) != 0 {
		t.Errorf("the dynamic group: %+v, %v", members, err)
	}
	refused[*types.InvalidRequestException](t, "the eleventh", join(10, true), 400)
}

// AWS's own client drives the data plane: messages, retained ones, shadows, and errors of the types its model has.
func TestAnSDKDrivesTheDataPlane(t *testing.T) {
	s := newSite(t, harness.Options{NoDev: true})
	s.enroll("watch")
	c, ctx := dataSDK(t, s.Gateway), t.Context()
	heard := make(chan string, 1)
	cl := s.paho("ssl://"+s.MQTTS, "watch", s.tls("watch"), nil)
	s.connect(cl)
	s.done(cl.Subscribe("sdk/#", 1, func(_ mqtt.Client, m mqtt.Message) { heard <- m.Topic() + " " + string(m.Payload()) }))
	if _, err := c.Publish(ctx, &iotdataplane.PublishInput{Topic: aws.String("sdk/a b/ä"), Payload: []byte("hello"), Qos: 1, Retain: true}); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-heard:
		if got != "sdk/a b/ä hello" {
			t.Errorf("heard %q", got)
		}
	case <-time.After(harness.Patience):
		t.Error("nothing was heard")
	}
	kept, err := c.GetRetainedMessage(ctx, &iotdataplane.GetRetainedMessageInput{Topic: aws.String("sdk/a b/ä")})
	if err != nil || string(kept.Payload) != "hello" || kept.Qos != 1 {
		t.Errorf("retained: %+v, %v", kept, err)
	}
	for i := range 5 {
		if _, err := c.Publish(ctx, &iotdataplane.PublishInput{Topic: aws.String(fmt.Sprintf("kept/%d", i)), Payload: []byte("x"), Retain: true}); err != nil {
			t.Fatal(err)
		}
	}
	topics, pages := 0, 0
	for p := iotdataplane.NewListRetainedMessagesPaginator(c, &iotdataplane.ListRetainedMessagesInput{MaxResults: aws.Int32(2)}); p.HasMorePages(); pages++ {
		page, err := p.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		topics += len(page.RetainedTopics)
	}
	if topics != 6 || pages != 3 {
		t.Errorf("%d topics on %d pages", topics, pages)
	}

	shadow := func(doc string) error {
		_, err := c.UpdateThingShadow(ctx, &iotdataplane.UpdateThingShadowInput{ThingName: aws.String("a:b"), ShadowName: aws.String("cfg"), Payload: []byte(doc)})
		return err
	}
	if err := shadow(`{"state":{"desired":{"on":true}},"version":0}`); err != nil {
		t.Fatal(err)
	}
	got, err := c.GetThingShadow(ctx, &iotdataplane.GetThingShadowInput{ThingName: aws.String("a:b"), ShadowName: aws.String("cfg")})
	if err != nil || !strings.Contains(string(got.Payload), `"delta":{"on":true}`) {
		t.Errorf("the shadow: %s, %v", got.Payload, err)
	}
	names, err := c.ListNamedShadowsForThing(ctx, &iotdataplane.ListNamedShadowsForThingInput{ThingName: aws.String("a:b")})
	if err != nil || len(names.Results) != 1 || names.Results[0] != "cfg" || names.Timestamp == 0 {
		t.Errorf("named shadows: %+v, %v", names, err)
	}
	dataErrors(t, c, shadow)
	if _, err := c.DeleteThingShadow(ctx, &iotdataplane.DeleteThingShadowInput{ThingName: aws.String("a:b"), ShadowName: aws.String("cfg")}); err != nil {
		t.Error(err)
	}
}

// Everything is indexed until somebody says otherwise; what is not cannot be found, and that outlives a restart.
func TestWhatIsNotIndexedIsNotFound(t *testing.T) {
	s := newSite(t, harness.Options{NoDev: true})
	command := &cloud{t: t, g: s.Gateway}
	c, data, ctx := sdk(t, s.Gateway), dataSDK(t, s.Gateway), t.Context()
	s.enroll("pump")
	for _, name := range []string{"", "cfg", "log"} {
		in := &iotdataplane.UpdateThingShadowInput{ThingName: aws.String("pump"), Payload: []byte(`{"state":{"reported":{"n":1}}}`)}
		if name != "" {
			in.ShadowName = &name
		}
		if _, err := data.UpdateThingShadow(ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	cl := s.paho("ssl://"+s.MQTTS, "pump", s.tls("pump"), nil)
	s.connect(cl)
	queries := []string{"thingName:pump", "shadow.reported.n:1", "shadow.name.cfg.reported.n:1", "shadow.name.log.reported.n:1", "connectivity.connected:true"}
	finds := func(c *iot.Client, what, want string) {
		t.Helper()
		got := func() (out string) {
			for _, q := range queries {
				x, err := c.SearchIndex(ctx, &iot.SearchIndexInput{QueryString: &q})
				if err != nil {
					return err.Error()
				}
				out += fmt.Sprint(len(x.Things))
			}
			return out
		}
		harness.Until(t, what+" finds "+want, func() bool { return got() == want })
	}
	schema := func(c *iot.Client, want string) {
		t.Helper()
		if d, err := c.DescribeIndex(ctx, &iot.DescribeIndexInput{IndexName: aws.String("AWS_Things")}); err != nil || *d.Schema != want || d.IndexStatus != types.IndexStatusActive {
			t.Errorf("the index: %+v, %v, want %s", d, err, want)
		}
	}
	finds(c, "at first", "11111")
	schema(c, "MULTI_INDEXING_MODE")
	have, err := c.GetIndexingConfiguration(ctx, &iot.GetIndexingConfigurationInput{})
	if err != nil || have.ThingIndexingConfiguration.ThingIndexingMode != types.ThingIndexingModeRegistryAndShadow || have.ThingIndexingConfiguration.ThingConnectivityIndexingMode != types.ThingConnectivityIndexingModeStatus ||
		have.ThingIndexingConfiguration.NamedShadowIndexingMode != types.NamedShadowIndexingModeOn || have.ThingGroupIndexingConfiguration.ThingGroupIndexingMode != types.ThingGroupIndexingModeOn ||
		len(have.ThingIndexingConfiguration.ManagedFields) != 13 {
		t.Errorf("at first: %+v, %v", have, err)
	}
	if _, err := c.UpdateIndexingConfiguration(ctx, &iot.UpdateIndexingConfigurationInput{ThingIndexingConfiguration: have.ThingIndexingConfiguration}); err != nil {
		t.Errorf("what it says of itself cannot be set: %v", err)
	}

	command.ok(nil, "update-indexing-configuration --thing-indexing-configuration", "thingIndexingMode=REGISTRY,namedShadowIndexingMode=ON,filter={namedShadowNames=[cfg]},customFields=[{name=attributes.site,type=String}]")
	finds(c, "the registry and one shadow", "10100")
	doc, err := c.SearchIndex(ctx, &iot.SearchIndexInput{QueryString: aws.String("thingName:pump")})
	if err != nil || len(doc.Things) != 1 || doc.Things[0].Connectivity != nil || strings.Contains(*doc.Things[0].Shadow, "log") || !strings.Contains(*doc.Things[0].Shadow, "cfg") {
		t.Errorf("it shows %+v, %v", doc, err)
	}
	_, err = c.GetThingConnectivityData(ctx, &iot.GetThingConnectivityDataInput{ThingName: aws.String("pump")})
	refused[*types.IndexNotReadyException](t, "connectivity that is not indexed", err, 400)
	s.Stop()
	s.Restart()
	c = sdk(t, s.Gateway)
	finds(c, "the registry after a restart", "10100")

	command.no("InvalidRequestException", "update-indexing-configuration --thing-indexing-configuration thingIndexingMode=REGISTRY,deviceDefenderIndexingMode=VIOLATIONS")
	command.no("InvalidRequestException", "update-indexing-configuration --thing-indexing-configuration", "thingIndexingMode=REGISTRY,customFields=[{name=shadow.reported.n,type=Number}]")
	command.ok(nil, "update-indexing-configuration --thing-indexing-configuration thingIndexingMode=OFF --thing-group-indexing-configuration thingGroupIndexingMode=OFF")
	command.no("IndexNotReadyException", "search-index --query-string thingName:pump")
	command.no("IndexNotReadyException", "search-index --index-name AWS_ThingGroups --query-string thingGroupName:*")
	command.no("InvalidRequestException", "create-dynamic-thing-group --thing-group-name hot --query-string thingName:*")
	schema(c, "OFF")
	if list, err := c.ListIndices(ctx, &iot.ListIndicesInput{}); err != nil || len(list.IndexNames) != 0 {
		t.Errorf("indices: %+v, %v", list, err)
	}
	command.ok(nil, "update-indexing-configuration --thing-group-indexing-configuration thingGroupIndexingMode=ON")
	command.ok(nil, "create-thing-group --thing-group-name plant")
	var groups struct {
		ThingGroups []struct{ ThingGroupName string }
	}
	if command.ok(&groups, "search-index --index-name AWS_ThingGroups --query-string thingGroupName:pl*"); len(groups.ThingGroups) != 1 || groups.ThingGroups[0].ThingGroupName != "plant" {
		t.Errorf("groups: %+v", groups)
	}
	_, err = c.DescribeIndex(ctx, &iot.DescribeIndexInput{IndexName: aws.String("AWS_Nothing")})
	refused[*types.ResourceNotFoundException](t, "an index nobody knows", err, 404)
}

// Where events are on, who joins and leaves a dynamic group by what its shadow says is told.
func TestDynamicGroupsTellWhoJoins(t *testing.T) {
	s := newSite(t, harness.Options{NoDev: true})
	c, data, ctx := sdk(t, s.Gateway), dataSDK(t, s.Gateway), t.Context()
	s.enroll("pump")
	if _, err := c.UpdateEventConfigurations(ctx, &iot.UpdateEventConfigurationsInput{EventConfigurations: map[string]types.Configuration{"THING_GROUP_MEMBERSHIP": {Enabled: true}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateDynamicThingGroup(ctx, &iot.CreateDynamicThingGroupInput{ThingGroupName: aws.String("hot"), QueryString: aws.String("shadow.reported.celsius>80")}); err != nil {
		t.Fatal(err)
	}
	sub := harness.StartMosquittoSub(t, strings.Replace(s.MQTTS, "127.0.0.1", "localhost", 1), "$aws/events/thingGroupMembership/#", s.enroll("watch")...)
	for _, x := range []struct{ celsius, op string }{{"95", "added"}, {"20", "removed"}} {
		if _, err := data.UpdateThingShadow(ctx, &iotdataplane.UpdateThingShadowInput{ThingName: aws.String("pump"), Payload: []byte(`{"state":{"reported":{"celsius":` + x.celsius + `}}}`)}); err != nil {
			t.Fatal(err)
		}
		if h := sub.Next(); h.Topic != "$aws/events/thingGroupMembership/thingGroup/hot/thing/pump/"+x.op || !strings.Contains(h.Payload, `"operation":"`+strings.ToUpper(x.op)+`"`) {
			t.Errorf("heard %+v, want %s", h, x.op)
		}
	}
}
