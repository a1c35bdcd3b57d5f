package awstopic_test

import (
	"strings"
	"testing"

	. "tidegate/gateway/mqtt/awstopic"
)

func TestTopicsComeApartAndTogether(t *testing.T) {
	for topic, want := range map[string]Topic{
		"$aws/things/pump1/shadow/get":                                           {Service: Shadow, Thing: "pump1", Op: Get},
		"$aws/things/pump1/shadow/update/accepted":                               {Service: Shadow, Thing: "pump1", Op: Update, Reply: Accepted},
		"$aws/things/pump1/shadow/update/documents":                              {Service: Shadow, Thing: "pump1", Op: Update, Reply: Documents},
		"$aws/things/pump1/shadow/name/cfg/delete":                               {Service: Shadow, Thing: "pump1", Name: "cfg", Op: Delete},
		"$aws/things/pump1/shadow/name/get/update/delta":                         {Service: Shadow, Thing: "pump1", Name: "get", Op: Update, Reply: Delta},
		"$aws/things/shadow/shadow/name/name/get/rejected":                       {Service: Shadow, Thing: "shadow", Name: "name", Op: Get, Reply: Rejected},
		"$aws/things/p/jobs/get":                                                 {Service: Jobs, Thing: "p", Op: Get},
		"$aws/things/p/jobs/start-next/accepted":                                 {Service: Jobs, Thing: "p", Op: StartNext, Reply: Accepted},
		"$aws/things/p/jobs/$next/get":                                           {Service: Jobs, Thing: "p", Name: "$next", Op: Get},
		"$aws/things/p/jobs/get/get":                                             {Service: Jobs, Thing: "p", Name: "get", Op: Get},
		"$aws/things/p/jobs/get/get/accepted":                                    {Service: Jobs, Thing: "p", Name: "get", Op: Get, Reply: Accepted},
		"$aws/things/p/jobs/notify/update/rejected":                              {Service: Jobs, Thing: "p", Name: "notify", Op: Update, Reply: Rejected},
		"$aws/things/p/jobs/notify":                                              {Service: Jobs, Thing: "p", Op: Notify},
		"$aws/things/p/jobs/notify-next":                                         {Service: Jobs, Thing: "p", Op: NotifyNext},
		"$aws/things/p/jobs/notify-namespace-east":                               {Service: Jobs, Thing: "p", Name: "east", Op: Notify},
		"$aws/things/p/jobs/what/is/this":                                        {Service: Jobs, Thing: "p", Op: Unknown, Rest: "what/is/this"},
		"$aws/rules/r1":                                                          {Service: Rules, Name: "r1"},
		"$aws/rules/r1/a/b":                                                      {Service: Rules, Name: "r1", Rest: "a/b"},
		"$aws/rules/r1//":                                                        {Service: Rules, Name: "r1", Rest: "/"},
		"$aws/things/p/defender/metrics/cbor/rejected":                           {Service: Defender, Thing: "p", Format: CBOR, Reply: Rejected},
		"$aws/things/p/tunnels/notify":                                           {Service: Tunnels, Thing: "p", Op: Notify},
		"$aws/things/p/streams/fw/get/json":                                      {Service: Streams, Thing: "p", Name: "fw", Op: Get, Format: JSON},
		"$aws/things/p/streams/fw/rejected/cbor":                                 {Service: Streams, Thing: "p", Name: "fw", Reply: Rejected, Format: CBOR},
		"$aws/certificates/create-from-csr/json":                                 {Service: Certificates, Op: CreateFromCSR, Format: JSON},
		"$aws/certificates/create/cbor/accepted":                                 {Service: Certificates, Op: Create, Format: CBOR, Reply: Accepted},
		"$aws/provisioning-templates/tmpl/provision/json":                        {Service: Provisioning, Name: "tmpl", Format: JSON},
		"$aws/events/certificates/registered/ca1":                                {Service: Events, Reply: "certificates", Op: "registered", Name: "ca1"},
		"$aws/events/job/j1/cancellation_in_progress":                            {Service: Events, Reply: "job", Op: "cancellation_in_progress", Name: "j1"},
		"$aws/events/jobExecution/j1/timed_out":                                  {Service: Events, Reply: "jobExecution", Op: "timed_out", Name: "j1"},
		"$aws/events/presence/connected/c1":                                      {Service: Events, Reply: "presence", Op: "connected", Name: "c1"},
		"$aws/events/thing/pump1/created":                                        {Service: Events, Reply: "thing", Op: "created", Thing: "pump1"},
		"$aws/events/thingTypeAssociation/thing/pump1/Pump":                      {Service: Events, Reply: "thingTypeAssociation", Thing: "pump1", Name: "Pump"},
		"$aws/events/thingGroupMembership/thingGroup/g/thing/p/added":            {Service: Events, Reply: "thingGroupMembership", Op: "added", Name: "g", Thing: "p"},
		"$aws/events/thingGroupHierarchy/thingGroup/p/childThingGroup/c/removed": {Service: Events, Reply: "thingGroupHierarchy", Op: "removed", Name: "p", Rest: "c"},
		"$aws/commands/clients/c1/executions/e1/request/json":                    {Service: Commands, Op: "clients", Thing: "c1", Name: "e1", Format: JSON},
		"$aws/commands/things/c1/executions/e1/response/json":                    {Service: Commands, Op: "things", Thing: "c1", Name: "e1", Format: JSON, Reply: "response"},
		"$aws/commands/things/c1/executions/e1/response/json/accepted":           {Service: Commands, Op: "things", Thing: "c1", Name: "e1", Format: JSON, Reply: Accepted},
		"$aws/device_location/d1/get_position_estimate/accepted":                 {Service: Location, Thing: "d1", Reply: Accepted},
		"$aws/sitewise/asset-models/m/assets/a/properties/p":                     {Service: SiteWise, Name: "m", Thing: "a", Rest: "p"},
		"$aws/iotwireless/a/b":                                                   {Service: Wireless, Op: "iotwireless", Rest: "a/b"},
		"$aws/alexa/ais/v1/c/x":                                                  {Service: Alexa, Name: "c", Rest: "x"},
	} {
		got, ok := Parse(topic)
		if !ok || got != want {
			t.Errorf("%s: got %+v %v, want %+v", topic, got, ok, want)
			continue
		}
		if back := got.String(); back != topic {
			t.Errorf("%s comes back as %s", topic, back)
		}
	}
}

func TestWhatIsNoReservedTopic(t *testing.T) {
	for _, topic := range []string{"", "$aws", "$aws/", "a/b", "$SYS/x", "aws/things/x/shadow/get", "$aws/things", "$aws/things/", "$aws/things//shadow/get",
		"$aws/things/x/shadow", "$aws/things/x/shadow/", "$aws/things/x/shadow/get/", "$aws/things/x/shadow/patch", "$aws/things/x/shadow/get/delta",
		"$aws/things/x/shadow/name/get", "$aws/things/x/shadow/name//get", "$aws/things/x/shadow/name/n/get/accepted/x", "$aws/things/x/y/shadow/get",
		"$aws/things/x/jobs", "$aws/things/x/jobs/", "$aws/rules", "$aws/rules/", "$aws/events/thing/x/exploded", "$aws/things/x/streams/s/get",
		"$aws/things/x/streams/s/get/xml", "$aws//things/x/shadow/get", "$AWS/things/x/shadow/get"} {
		if got, ok := Parse(topic); ok {
			t.Errorf("%q parsed as %+v", topic, got)
		}
	}
}

// The direction column of spec/mqtt.md §11.
func TestWhatClientsMayDo(t *testing.T) {
	for topic, want := range map[string]string{
		"dt/x": "PS", "$SYS/broker": "", "$aws/foo": "", "$aws/things/p/shadow/get": "PS", "$aws/things/p/shadow/name/n/update": "PS",
		"$aws/things/p/shadow/update/accepted": "S", "$aws/things/p/shadow/update/delta": "S", "$aws/things/p/jobs/get": "P", "$aws/things/p/jobs/j/update": "P",
		"$aws/things/p/jobs/j/update/accepted": "S", "$aws/things/p/jobs/notify": "S", "$aws/things/p/jobs/nonsense": "P", "$aws/rules/r/a": "P", "$aws/rules/r": "P",
		"$aws/things/p/tunnels/notify": "S", "$aws/things/p/streams/s/get/json": "P", "$aws/things/p/streams/s/data/json": "S", "$aws/certificates/create/json": "P",
		"$aws/certificates/create/json/accepted": "S", "$aws/provisioning-templates/t/provision/cbor": "P", "$aws/events/presence/connected/c": "S",
		"$aws/things/p/defender/metrics/json": "P", "$aws/things/p/defender/metrics/json/accepted": "S", "$aws/alexa/ais/v1/c/x": "PS",
	} {
		got := ""
		if MayPublish(topic) {
			got += "P"
		}
		if MaySubscribe(topic) {
			got += "S"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", topic, got, want)
		}
	}
	for filter, want := range map[string]bool{
		"$aws/#": true, "$aws/things/#": true, "$aws/things/+/shadow/#": true, "$aws/things/+/shadow/update/+": true, "$aws/things/p/shadow/name/+/update/delta": true,
		"$aws/+/+/shadow/get": true, "$aws/rules/#": false, "$aws/rules/+": false, "$aws/rules/r/x": false, "$aws/certificates/+/json": false, "$aws/certificates/create/json/+": true,
		"$aws/events/#": true, "$aws/events/presence/+/c1": true, "$aws/events/nothing/#": false, "$aws/things/p/jobs/+/get": false, "$aws/things/p/jobs/#": true,
		"$aws/things/p/jobs/+": true, "$aws/things/p/jobs/notify-namespace-x": true, "$aws/things/p/jobs/notify-namespace-": false, "$aws/things/+/jobs/+/get/accepted": true,
		"$aws/iotwireless/a/b": true, "$aws/iotwireless/#": true, "$aws/+": false, "$aws/things/p/shadow/get/#": true, "$aws/things/p/shadow/get/accepted/#": true, "$aws": false, "$SYS/#": false,
		"+/things/p": true, "#": true,
	} {
		if got := MaySubscribe(filter); got != want {
			t.Errorf("subscribe %s: %v, want %v", filter, got, want)
		}
	}
	for topic, want := range map[string]bool{"$aws/things/p/jobs/get/accepted": true, "$aws/things/p/jobs/j/update/rejected": true, "$aws/things/p/jobs/notify": false, "$aws/certificates/create/cbor/accepted": true, "$aws/provisioning-templates/t/provision/json/rejected": true, "$aws/things/p/shadow/get/accepted": false, "a": false} {
		if got := Direct(topic); got != want {
			t.Errorf("direct %s: %v, want %v", topic, got, want)
		}
	}
	if !Is("$aws/whatever") || Is("$awsome/x") || Is("aws/") {
		t.Error("Is answers wrongly")
	}
}

func TestBuildingAnImpossibleTopicIsADefect(t *testing.T) {
	defer func() {
		if s, ok := recover().(string); !ok || !strings.HasPrefix(s, "BUG: ") {
			t.Errorf("recovered %q", s)
		}
	}()
	_ = Topic{Service: Shadow, Thing: "x", Op: Delete, Reply: Delta}.String()
}

func TestParsingDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { Parse("$aws/things/pump1/shadow/name/cfg/update/accepted") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("$aws/things/pump1/shadow/name/cfg/update/accepted")
	f.Add("$aws/things/p/jobs/notify-namespace-east/x")
	f.Add("$aws/rules/r/a/b")
	f.Fuzz(func(t *testing.T, topic string) {
		got, ok := Parse(topic)
		if !ok {
			return
		}
		if back := got.String(); back != topic {
			t.Fatalf("%q became %+v and then %q", topic, got, back)
		}
		if !MayPublish(topic) && !strings.ContainsAny(topic, "+#") && !MaySubscribe(topic) {
			t.Fatalf("%q is of no use to anybody", topic)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		Parse("$aws/things/pump1/shadow/name/cfg/update")
	}
}

func BenchmarkString(b *testing.B) {
	t := Topic{Service: Shadow, Thing: "pump1", Name: "cfg", Op: Update, Reply: Accepted}
	for b.Loop() {
		_ = t.String()
	}
}
