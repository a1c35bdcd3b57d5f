package reserved_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/jobs"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/registry"
	"tidegate/gateway/reserved"
	"tidegate/gateway/store"
)

// office is jobs behind their topics, with a real registry.
type office struct {
	t      *testing.T
	topics *reserved.Topics
	jobs   *reserved.Jobs
	reg    *registry.Registry
	db     *store.Store
	clk    *clocktest.Manual
	out    []mqtt.Message
}

func newOffice(t *testing.T) *office {
	o := &office{t: t, clk: clocktest.New(time.Unix(t0, 0)), topics: reserved.New()}
	cfg := store.DefaultConfig(t.TempDir())
	cfg.Ballast = -1
	db, err := store.Open(cfg, o.clk)
	if err != nil {
		t.Fatal(err)
	}
	db.Start()
	t.Cleanup(func() { _ = db.Close() })
	o.db = db
	if o.reg, err = registry.Open(db, o.clk, registry.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	fleet := reserved.Fleet{Registry: o.reg}
	room, err := jobs.Open(jobs.Deps{Store: db, Clock: o.clk, Fleet: fleet, Base: o.reg.Base(), Limits: jobs.DefaultLimits(), Events: fleet.Events})
	if err != nil {
		t.Fatal(err)
	}
	fleet.Watch(room.Changed)
	o.jobs = reserved.NewJobs(room, db, o.clk, slog.New(slog.DiscardHandler))
	o.jobs.OnCommit(o.commit)
	o.topics.Serve(awstopic.Jobs, o.jobs.Handle)
	return o
}

// commit is the road, as short as it can be.
func (o *office) commit(build func(u *store.Unit, emit func(mqtt.Message)) error, done func(error)) error {
	var out []mqtt.Message
	err := o.db.Wait(func(u *store.Unit) error {
		out = nil
		return build(u, func(m mqtt.Message) { out = append(out, m) })
	})
	if err != nil {
		return err
	}
	o.out = append(o.out, out...)
	done(nil)
	return nil
}

func (o *office) call(op, input string) string {
	o.t.Helper()
	answer, err := o.jobs.Call(op, []byte(input))
	if err != nil {
		return fault.Of(err).String() + ": " + fault.Message(err)
	}
	b, err := json.Marshal(answer)
	if err != nil {
		o.t.Fatal(err)
	}
	return string(b)
}

func (o *office) registry(fn func(tx *registry.Tx) error) {
	o.t.Helper()
	if err := o.reg.Do("test", fn); err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) thing(name string) {
	o.t.Helper()
	o.registry(func(tx *registry.Tx) error {
		_, err := tx.CreateThing(registry.ThingInput{Name: name})
		return err
	})
}

// send has a client's message handled.
func (o *office) send(topic, payload string, change ...func(*mqtt.Message)) {
	o.t.Helper()
	m := mqtt.Message{Topic: topic, Payload: []byte(payload), QoS: 1, From: "me"}
	for _, f := range change {
		f(&m)
	}
	err := o.commit(func(u *store.Unit, emit func(mqtt.Message)) error { return o.topics.Handle(u, &m, emit) }, func(error) {})
	if err != nil {
		o.t.Fatal(err)
	}
}

// heard gives what was sent since it was called last: receiver, topic, payload.
func (o *office) heard() string {
	var lines []string
	for _, m := range o.out {
		to := m.To
		if to == "" {
			to = "*"
		}
		if awstopic.Direct(m.Topic) && m.To == "" {
			o.t.Errorf("an answer to everybody: %s", m.Topic)
		}
		lines = append(lines, to+" "+strings.TrimPrefix(m.Topic, "$aws/things/p/jobs/")+" "+string(m.Payload))
	}
	o.out = nil
	return strings.ReplaceAll(strings.Join(lines, "\n"), fmt.Sprint(t0), "T")
}

func (o *office) hears(want string) {
	o.t.Helper()
	if got := o.heard(); got != strings.TrimPrefix(want, "\n") {
		o.t.Errorf("got\n%s\nwant%s", got, want)
	}
}

const create = `{"jobId":"j","targets":["arn:aws:iot:local-1:000000000000:thing/p"],"document":"{\"op\": \"x\"}"}`

func TestJobRequestsAreAnswered(t *testing.T) {
	o := newOffice(t)
	o.thing("p")
	if got := o.call("CreateJob", create); got != `{"jobArn":"arn:aws:iot:local-1:000000000000:job/j","jobId":"j"}` {
		t.Error(got)
	}
	o.hears(`
* notify {"timestamp":T,"jobs":{"QUEUED":[{"jobId":"j","queuedAt":T,"lastUpdatedAt":T,"executionNumber":1,"versionNumber":1}]}}
* notify-next {"timestamp":T,"execution":{"jobId":"j","thingName":"p","status":"QUEUED","queuedAt":T,"lastUpdatedAt":T,"versionNumber":1,"executionNumber":1,"jobDocument":{"op": "x"}}}`)
	for _, step := range []struct{ topic, payload, want string }{
		{"get", `{"clientToken":"a"}`, `
me get/accepted {"inProgressJobs":[],"queuedJobs":[{"jobId":"j","queuedAt":T,"lastUpdatedAt":T,"executionNumber":1,"versionNumber":1}],"timestamp":T,"clientToken":"a"}`},
		{"start-next", `{"statusDetails":{"s":"dl"},"stepTimeoutInMinutes":5}`, `
me start-next/accepted {"execution":{"jobId":"j","thingName":"p","status":"IN_PROGRESS","statusDetails":{"s":"dl"},"queuedAt":T,"startedAt":T,"lastUpdatedAt":T,"versionNumber":2,"executionNumber":1,"approximateSecondsBeforeTimedOut":300,"jobDocument":{"op": "x"}},"timestamp":T}`},
		{"$next/get", `{"includeJobDocument":false}`, `
me $next/get/accepted {"execution":{"jobId":"j","thingName":"p","status":"IN_PROGRESS","statusDetails":{"s":"dl"},"queuedAt":T,"startedAt":T,"lastUpdatedAt":T,"versionNumber":2,"executionNumber":1,"approximateSecondsBeforeTimedOut":300},"timestamp":T}`},
		{"j/update", `{"status":"IN_PROGRESS","expectedVersion":"2","includeJobExecutionState":true,"includeJobDocument":true,"stepTimeoutInMinutes":-1}`, `
me j/update/accepted {"executionState":{"status":"IN_PROGRESS","statusDetails":{"s":"dl"},"versionNumber":3},"jobDocument":{"op": "x"},"timestamp":T}`},
		{"j/update", `{"status":"IN_PROGRESS","expectedVersion":2,"clientToken":"b"}`, `
me j/update/rejected {"code":"VersionMismatch","message":"The version is 3 and not 2","executionState":{"status":"IN_PROGRESS","statusDetails":{"s":"dl"},"versionNumber":3},"timestamp":T,"clientToken":"b"}`},
		{"j/update", `{"status":"SUCCEEDED","expectedVersion":0}`, `
me j/update/rejected {"code":"VersionMismatch","message":"The version is 3 and not 0","executionState":{"status":"IN_PROGRESS","statusDetails":{"s":"dl"},"versionNumber":3},"timestamp":T}`},
		{"j/update", `{"status":"SUCCEEDED"}`, `
me j/update/accepted {"timestamp":T}
* notify {"timestamp":T,"jobs":{}}
* notify-next {"timestamp":T}`},
		{"j/get", `{}`, `
me j/get/rejected {"code":"TerminalStateReached","message":"The execution of job j has reached the terminal state SUCCEEDED","timestamp":T}`},
		{"$next/get", ``, `
me $next/get/accepted {"timestamp":T}`},
		{"get", `{"clientToken":""}`, `
me get/accepted {"inProgressJobs":[],"queuedJobs":[],"timestamp":T,"clientToken":""}`},
		{"$next/update", `{"status":"FAILED"}`, `
me $next/update/rejected {"code":"InvalidRequest","message":"Invalid jobId","timestamp":T}`},
		{"k/get", `{}`, `
me k/get/rejected {"code":"ResourceNotFound","message":"Job k has no such execution on thing p","timestamp":T}`},
		{"j/update", `{x`, `
me j/update/rejected {"code":"InvalidJson","message":"The request is not JSON","timestamp":T}`},
		{"j/nonsense", `{"clientToken":"c"}`, `
me j/nonsense/rejected {"code":"InvalidTopic","message":"The topic asks for nothing that jobs know","timestamp":T,"clientToken":"c"}`},
	} {
		topic := "$aws/things/p/jobs/" + step.topic
		if !o.topics.Handles(topic) {
			t.Errorf("%s is not handled", topic)
		}
		o.send(topic, step.payload)
		o.hears(step.want)
	}
}

func TestOnlyConnectionsAreAnswered(t *testing.T) {
	o := newOffice(t)
	o.thing("p")
	o.call("CreateJob", create)
	o.heard()
	for _, origin := range []mqtt.Origin{mqtt.Rule, mqtt.REST, mqtt.Cloud, mqtt.Will, mqtt.Service} {
		o.send("$aws/things/p/jobs/get", "", func(m *mqtt.Message) { m.Origin = origin })
		o.send("$aws/things/p/jobs/nonsense/rejected", "", func(m *mqtt.Message) { m.Origin = origin })
	}
	o.hears("")
	o.send("$aws/things/p/jobs/j/update", `{"status":"FAILED"}`, func(m *mqtt.Message) { m.Origin = mqtt.Will })
	o.hears("")
	o.send("$aws/things/p/jobs/j/update", `{"status":"FAILED"}`, func(m *mqtt.Message) { m.Origin = mqtt.Rule })
	o.hears(`
* notify {"timestamp":T,"jobs":{}}
* notify-next {"timestamp":T}`)
	o.send("$aws/things/p/jobs/get", "", func(m *mqtt.Message) { m.QoS = 0 })
	if len(o.out) != 1 || o.out[0].QoS != 0 {
		t.Errorf("answered %+v", o.out)
	}
}

func TestJobEventsAreSentOnceEnabled(t *testing.T) {
	o := newOffice(t)
	o.thing("p")
	o.registry(func(tx *registry.Tx) error {
		tx.Set(registry.EventSetting, registry.EventSwitches{On: map[string]bool{"JOB": true, "JOB_EXECUTION": true}})
		return nil
	})
	o.call("CreateJob", create)
	o.heard()
	o.send("$aws/things/p/jobs/j/update", `{"status":"SUCCEEDED","statusDetails":{"a":"1"}}`)
	if len(o.out) != 5 {
		t.Fatalf("%d messages", len(o.out))
	}
	for i, want := range map[int]map[string]any{
		3: {"topic": "$aws/events/jobExecution/j/succeeded", "eventType": "JOB_EXECUTION", "operation": "succeeded", "jobId": "j", "thingArn": "arn:aws:iot:local-1:000000000000:thing/p",
			"status": "SUCCEEDED", "timestamp": float64(t0)},
		4: {"topic": "$aws/events/job/j/completed", "eventType": "JOB", "operation": "completed", "jobId": "j", "status": "COMPLETED", "targetSelection": "SNAPSHOT",
			"completedAt": float64(t0 * 1000), "timestamp": float64(t0)},
	} {
		got := map[string]any{}
		if err := json.Unmarshal(o.out[i].Payload, &got); err != nil {
			t.Fatal(err)
		}
		if id, _ := got["eventId"].(string); len(id) != 36 {
			t.Errorf("event id %q", id)
		}
		got["topic"] = o.out[i].Topic
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s is %v, want %v", k, got[k], v)
			}
		}
	}
	o.out = nil
	o.call("DeleteJob", `{"jobId":"j"}`)
	if s := o.heard(); !strings.Contains(s, "deletion_in_progress") || !strings.Contains(s, "jobExecution/j/deleted") || !strings.Contains(s, "job/j/deleted") {
		t.Error(s)
	}
}

func TestJobsFollowTheRegistry(t *testing.T) {
	o := newOffice(t)
	o.thing("p")
	o.registry(func(tx *registry.Tx) error {
		if _, err := tx.CreateGroup(registry.GroupInput{Name: "top"}); err != nil {
			return err
		}
		_, err := tx.CreateGroup(registry.GroupInput{Name: "low", Parent: "top"})
		return err
	})
	o.call("CreateJob", `{"jobId":"j","targets":["arn:aws:iot:local-1:000000000000:thinggroup/top"],"document":"{}","targetSelection":"CONTINUOUS"}`)
	o.hears("")
	move := func(fn func(tx *registry.Tx) error) {
		t.Helper()
		o.registry(fn)
		if err := o.jobs.Work(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	move(func(tx *registry.Tx) error { return tx.AddToGroup("p", "low") })
	if s := o.heard(); strings.Count(s, "\n") != 1 {
		t.Error(s)
	}
	move(func(tx *registry.Tx) error { return tx.RemoveFromGroup("p", "low") })
	o.hears(`
* notify {"timestamp":T,"jobs":{}}
* notify-next {"timestamp":T}`)
	if s := o.call("DescribeJobExecution", `{"jobId":"j","thingName":"p"}`); !strings.Contains(s, `"status":"REMOVED"`) {
		t.Error(s)
	}
}

func TestTheControlPlane(t *testing.T) {
	o := newOffice(t)
	o.thing("p")
	for _, step := range []struct{ op, input, want string }{
		{"CreateJob", create, `{"jobArn":"arn:aws:iot:local-1:000000000000:job/j","jobId":"j"}`},
		{"CreateJob", `{"jobId":5}`, `invalid: jobId must not be a number`},
		{"GetJobDocument", `{"jobId":"j"}`, `{"document":"{\"op\": \"x\"}"}`},
		{"UpdateJob", `{"jobId":"j","description":"d","timeoutConfig":{"inProgressTimeoutInMinutes":3}}`, `null`},
		{"DescribeJob", `{"jobId":"j"}`, `{"job":{"jobArn":"arn:aws:iot:local-1:000000000000:job/j","jobId":"j","targetSelection":"SNAPSHOT","status":"IN_PROGRESS","targets":["arn:aws:iot:local-1:000000000000:thing/p"],` +
			`"createdAt":T,"lastUpdatedAt":T,"jobProcessDetails":{"numberOfCanceledThings":0,"numberOfSucceededThings":0,"numberOfFailedThings":0,"numberOfRejectedThings":0,"numberOfQueuedThings":1,` +
			`"numberOfInProgressThings":0,"numberOfRemovedThings":0,"numberOfTimedOutThings":0},"isConcurrent":false,"description":"d","timeoutConfig":{"inProgressTimeoutInMinutes":3}}}`},
		{"ListJobs", `{"status":"IN_PROGRESS"}`, `{"jobs":[{"jobArn":"arn:aws:iot:local-1:000000000000:job/j","jobId":"j","targetSelection":"SNAPSHOT","status":"IN_PROGRESS","createdAt":T,"lastUpdatedAt":T,"isConcurrent":false}]}`},
		{"ListJobExecutionsForJob", `{"jobId":"j"}`, `{"executionSummaries":[{"thingArn":"arn:aws:iot:local-1:000000000000:thing/p","jobExecutionSummary":{"status":"QUEUED","queuedAt":T,"lastUpdatedAt":T,"executionNumber":1}}]}`},
		{"CancelJobExecution", `{"jobId":"j","thingName":"p","expectedVersion":0}`, `conflict: The version is 1 and not 0`},
		{"CancelJobExecution", `{"jobId":"j","thingName":"p","statusDetails":{"why":"not"},"expectedVersion":1}`, `null`},
		{"DescribeJobExecution", `{"jobId":"j","thingName":"p"}`, `{"execution":{"jobId":"j","status":"CANCELED","statusDetails":{"detailsMap":{"why":"not"}},"thingArn":"arn:aws:iot:local-1:000000000000:thing/p","queuedAt":T,"lastUpdatedAt":T,"executionNumber":1,"versionNumber":2}}`},
		{"ListJobExecutionsForThing", `{"thingName":"p"}`, `{"executionSummaries":[{"jobId":"j","jobExecutionSummary":{"status":"CANCELED","queuedAt":T,"lastUpdatedAt":T,"executionNumber":1}}]}`},
		{"DeleteJobExecution", `{"jobId":"j","thingName":"p","executionNumber":1}`, `null`},
		{"DeleteJob", `{"jobId":"j"}`, `null`},
		{"DescribeJob", `{"jobId":"j"}`, `not found: Job j does not exist`},
		{"CreateJobTemplate", `{"jobTemplateId":"t","document":"{}","description":"d"}`, `{"jobTemplateArn":"arn:aws:iot:local-1:000000000000:jobtemplate/t","jobTemplateId":"t"}`},
		{"CreateJobTemplate", `{"jobTemplateId":"t","document":"{}","description":"d"}`, `conflict: Job template t already exists`},
		{"ListJobTemplates", ``, `{"jobTemplates":[{"createdAt":T,"description":"d","jobTemplateArn":"arn:aws:iot:local-1:000000000000:jobtemplate/t","jobTemplateId":"t"}]}`},
		{"DeleteJobTemplate", `{"jobTemplateId":"t"}`, `null`},
		{"DescribeJobTemplate", `{"jobTemplateId":"t"}`, `not found: Job template t does not exist`},
		{"DescribeManagedJobTemplate", `{"templateName":"x"}`, `not found: Managed job template x does not exist in that version`},
		{"ListManagedJobTemplates", `{"maxResults":1,"templateName":"AWS-Reboot"}`, `{"managedJobTemplates":[{"description":"Restarts the device.","environments":["LINUX"],"templateArn":"arn:aws:iot:local-1::jobtemplate/AWS-Reboot:1.0","templateName":"AWS-Reboot","templateVersion":"1.0"}]}`},
		{"CancelJob", `{"jobId":"nope"}`, `not found: Job nope does not exist`},
		{"Nonsense", `{}`, `unsupported: operation Nonsense is not known`},
	} {
		if got := strings.ReplaceAll(o.call(step.op, step.input), fmt.Sprint(t0), "T"); got != step.want {
			t.Errorf("%s %s:\n got %s\nwant %s", step.op, step.input, got, step.want)
		}
	}
}

func TestListingsOfJobsCanBeNarrowed(t *testing.T) {
	o := newOffice(t)
	o.thing("p")
	o.jobs.GroupID = reserved.Fleet{Registry: o.reg}.GroupID
	var id string
	o.registry(func(tx *registry.Tx) error {
		g, err := tx.CreateGroup(registry.GroupInput{Name: "g"})
		if err == nil {
			id = g.ID
		}
		return err
	})
	o.call("CreateJob", create)
	o.call("CreateJob", `{"jobId":"k","targets":["arn:aws:iot:local-1:000000000000:thinggroup/g"],"document":"{}","targetSelection":"CONTINUOUS"}`)
	for input, want := range map[string]string{
		`{"thingGroupId":"` + id + `"}`:                            `"jobId":"k"`,
		`{"thingGroupId":"` + id + `","thingGroupName":"g"}`:       `"jobId":"k"`,
		`{"thingGroupId":"` + id + `","thingGroupName":"another"}`: "invalid: thingGroupName and thingGroupId are of different groups",
		`{"thingGroupId":"nope"}`:                                  "not found: no thing group has the id nope",
		`{"targetSelection":"SNAPSHOT"}`:                           `"jobId":"j"`,
		`{"targetSelection":"x"}`:                                  "invalid: targetSelection must be",
		`{"status":"QUEUED"}`:                                      "invalid: status must be SCHEDULED",
		`{"maxResults":0}`:                                         "invalid: maxResults must be at least 1",
	} {
		if got := o.call("ListJobs", input); !strings.Contains(got, want) || strings.Count(got, "jobId") > 1 {
			t.Errorf("%s: %s, want %s", input, got, want)
		}
	}
	var names []string
	for token := ""; ; {
		var page struct {
			Templates []struct{ TemplateName string } `json:"managedJobTemplates"`
			NextToken string
		}
		if err := json.Unmarshal([]byte(o.call("ListManagedJobTemplates", `{"maxResults":1`+token+`}`)), &page); err != nil || len(page.Templates) != 1 {
			t.Fatalf("%+v, %v", page, err)
		}
		names = append(names, page.Templates[0].TemplateName)
		if page.NextToken == "" {
			break
		}
		token = `,"nextToken":"` + page.NextToken + `"`
	}
	if got := strings.Join(names, " "); got != "AWS-Download-File AWS-Reboot AWS-Restart-Application AWS-Run-Command" {
		t.Errorf("managed: %s", got)
	}
}

func TestEveryCodeHasANameInJobs(t *testing.T) {
	for _, c := range fault.Codes() {
		if reserved.JobCode(fault.New(c, "x")) == "" {
			t.Errorf("%v has none", c)
		}
	}
}
