package e2e_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/api/sigv4"
	"tidegate/test/harness"
	"tidegate/test/rawmqtt"
)

// signedCall sends a request as an operator, signed for a service, and gives the status and the error's name.
func (s *site) signedCall(service, method, path, body string) (status int, kind, answer string) {
	s.t.Helper()
	req, err := http.NewRequest(method, s.port()+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	sigv4.Sign(req, []byte(body), sigv4.Credentials{AccessKey: s.env["AWS_ACCESS_KEY_ID"], Secret: s.env["AWS_SECRET_ACCESS_KEY"]}, "local-1", service, time.Now())
	return s.send(&http.Client{Transport: &http.Transport{TLSClientConfig: s.tls(""), DisableKeepAlives: true}}, req)
}

func (s *site) send(c *http.Client, req *http.Request) (status int, kind, answer string) {
	s.t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	kind, _, _ = strings.Cut(resp.Header.Get("x-amzn-ErrorType"), ":")
	return resp.StatusCode, kind, string(b)
}

// Every 4xx that the specification of jobs knows is provoked, in the order in which things come to pass.
func TestEveryRefusalOfJobs(t *testing.T) {
	s := newSite(t, harness.Options{Config: "limits: {jobs: {active: 4}}\n"})
	for _, name := range []string{"p", "q"} {
		s.enroll(name)
	}
	s.cli("group", "create", "g")
	s.cli("group", "create", "empty")
	const arn = "arn:aws:iot:local-1:000000000000:"
	job := func(more string) string {
		return `{"targets":["` + arn + `thing/p"],"document":"{}"` + more + `}`
	}
	const (
		bad      = "InvalidRequestException"
		none     = "ResourceNotFoundException"
		exists   = "ResourceAlreadyExistsException"
		state    = "InvalidStateTransitionException"
		version  = "VersionConflictException"
		limit    = "LimitExceededException"
		conflict = "ConflictException"
		over     = "TerminalStateException"
	)
	const plane, device = "iot", "iot-jobs-data"
	for i, c := range []struct {
		service, method, path, body string
		status                      int
		kind                        string
	}{
		// CreateJob
		{plane, "PUT", "/jobs/a.b", job(""), 400, bad},
		{plane, "PUT", "/jobs/" + strings.Repeat("x", 65), job(""), 400, bad},
		{plane, "PUT", "/jobs/j", `{`, 400, bad},
		{plane, "PUT", "/jobs/j", `[]`, 400, bad},
		{plane, "PUT", "/jobs/j", `{"targets":[],"document":"{}"}`, 400, bad},
		{plane, "PUT", "/jobs/j", `{"targets":"x","document":"{}"}`, 400, bad},
		{plane, "PUT", "/jobs/j", `{"targets":["arn:aws:iot:elsewhere:1:thing/p"],"document":"{}"}`, 400, bad},
		{plane, "PUT", "/jobs/j", `{"targets":["` + arn + `thing/nobody"],"document":"{}"}`, 404, none},
		{plane, "PUT", "/jobs/j", `{"targets":["` + arn + `thinggroup/none"],"document":"{}"}`, 404, none},
		{plane, "PUT", "/jobs/j", `{"targets":["` + arn + `thing/p"]}`, 400, bad},
		{plane, "PUT", "/jobs/j", `{"targets":["` + arn + `thing/p"],"document":"{"}`, 400, bad},
		{plane, "PUT", "/jobs/j", `{"targets":["` + arn + `thing/p"],"document":"\"` + strings.Repeat("x", 32<<10) + `\""}`, 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"documentSource":"https://s3.amazonaws.com/b/k"`), 400, bad},
		{plane, "PUT", "/jobs/j", `{"targets":["` + arn + `thing/p"],"documentSource":"https://s3.amazonaws.com/b/k"}`, 404, none},
		{plane, "PUT", "/jobs/j", `{"targets":["` + arn + `thing/p"],"documentSource":"ftp://x/y"}`, 400, bad},
		{plane, "PUT", "/jobs/j", `{"targets":["` + arn + `thing/p"],"document":"{\"u\":\"${aws:iot:s3-presigned-url:http://x/y}\"}"}`, 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"targetSelection":"SOMETIMES"`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"description":"` + strings.Repeat("x", 2029) + `"`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"namespaceId":"a b"`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"jobExecutionsRolloutConfig":{"maximumPerMinute":0}`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"jobExecutionsRolloutConfig":{"maximumPerMinute":1001}`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"jobExecutionsRolloutConfig":{"maximumPerMinute":1.5}`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"jobExecutionsRolloutConfig":{"exponentialRate":{"baseRatePerMinute":1,"incrementFactor":1.05,"rateIncreaseCriteria":{"numberOfNotifiedThings":1}}}`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"jobExecutionsRolloutConfig":{"exponentialRate":{"baseRatePerMinute":1,"incrementFactor":1.55,"rateIncreaseCriteria":{"numberOfNotifiedThings":1}}}`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"jobExecutionsRolloutConfig":{"exponentialRate":{"baseRatePerMinute":1,"incrementFactor":2,"rateIncreaseCriteria":{"numberOfNotifiedThings":1,"numberOfSucceededThings":1}}}`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"abortConfig":{"criteriaList":[{"failureType":"FAILED","action":"CANCEL","thresholdPercentage":10.999,"minNumberOfExecutedThings":1}]}`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"abortConfig":{"criteriaList":[{"failureType":"FAILED","action":"CANCEL","thresholdPercentage":101,"minNumberOfExecutedThings":1}]}`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"abortConfig":{"criteriaList":[{"failureType":"FAILED","action":"CANCEL","thresholdPercentage":1,"minNumberOfExecutedThings":0}]}`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"abortConfig":{"criteriaList":[{"failureType":"CANCELED","action":"CANCEL","thresholdPercentage":1,"minNumberOfExecutedThings":1}]}`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"timeoutConfig":{"inProgressTimeoutInMinutes":10081}`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"timeoutConfig":{"inProgressTimeoutInMinutes":0}`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"jobExecutionsRetryConfig":{"criteriaList":[{"failureType":"FAILED","numberOfRetries":11}]}`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"jobExecutionsRetryConfig":{"criteriaList":[{"failureType":"TIMED_OUT","numberOfRetries":1}]}`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"presignedUrlConfig":{"roleArn":"r","expiresInSec":59}`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"schedulingConfig":{"startTime":"tomorrow"}`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"schedulingConfig":{"startTime":"` + time.Now().UTC().Add(10*time.Minute).Format("2006-01-02 15:04") + `"}`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"schedulingConfig":{"endBehavior":"CANCEL"}`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"schedulingConfig":{"maintenanceWindows":[{"startTime":"cron(0 0 * * ? *)","durationInMinutes":60}]}`), 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"targetSelection":"CONTINUOUS","schedulingConfig":{"maintenanceWindows":[{"startTime":"daily","durationInMinutes":60}]}`), 400, bad},
		{plane, "PUT", "/jobs/j", `{"targets":["` + arn + `thing/p"],"jobTemplateArn":"` + arn + `jobtemplate/none"}`, 404, none},
		{plane, "PUT", "/jobs/j", `{"targets":["` + arn + `thing/p"],"jobTemplateArn":"x"}`, 400, bad},
		{plane, "PUT", "/jobs/j", job(`,"documentParameters":{"a":5}`), 400, bad},
		{plane, "PUT", "/jobs/j", `{"targets":["` + arn + `thing/p"],"jobTemplateArn":"arn:aws:iot:local-1::jobtemplate/AWS-Run-Command:1.0"}`, 400, bad}, // without its parameter
		{plane, "PUT", "/jobs/j", job(""), 200, ""},
		{plane, "PUT", "/jobs/j", job(""), 409, exists},
		{plane, "PUT", "/jobs/c", `{"targets":["` + arn + `thinggroup/g"],"document":"{}","targetSelection":"CONTINUOUS"}`, 200, ""},
		{plane, "PUT", "/jobs/k", `{"targets":["` + arn + `thing/p","` + arn + `thing/q"],"document":"{}"}`, 200, ""},
		{plane, "PUT", "/jobs/m", job(""), 200, ""},
		{plane, "PUT", "/jobs/n", job(""), 410, limit},
		// what is not there
		{plane, "GET", "/jobs/none", "", 404, none},
		{plane, "GET", "/jobs/none/job-document", "", 404, none},
		{plane, "PATCH", "/jobs/none", "{}", 404, none},
		{plane, "PUT", "/jobs/none/cancel", "{}", 404, none},
		{plane, "DELETE", "/jobs/none", "", 404, none},
		{plane, "POST", "/jobs/none/targets", `{"targets":["` + arn + `thing/p"]}`, 404, none},
		{plane, "GET", "/jobs/none/things", "", 404, none},
		{plane, "GET", "/things/p/jobs/none", "", 404, none},
		{plane, "GET", "/things/p/jobs/j?executionNumber=2", "", 404, none},
		{plane, "PUT", "/things/p/jobs/none/cancel", "{}", 404, none},
		{plane, "DELETE", "/things/p/jobs/j/executionNumber/7", "", 404, none},
		{plane, "GET", "/job-templates/none", "", 404, none},
		{plane, "DELETE", "/job-templates/none", "", 404, none},
		{plane, "GET", "/managed-job-templates/none", "", 404, none},
		{plane, "GET", "/managed-job-templates/AWS-Reboot?templateVersion=9", "", 404, none},
		{plane, "GET", "/jobs?thingGroupId=none", "", 404, none},
		// what cannot be asked
		{plane, "GET", "/jobs?status=ODD", "", 400, bad},
		{plane, "GET", "/jobs?targetSelection=ODD", "", 400, bad},
		{plane, "GET", "/jobs?maxResults=0", "", 400, bad},
		{plane, "GET", "/jobs?maxResults=251", "", 400, bad},
		{plane, "GET", "/jobs?maxResults=x", "", 400, bad},
		{plane, "GET", "/jobs?nextToken=%21", "", 400, bad},
		{plane, "GET", "/jobs/j?beforeSubstitution=maybe", "", 400, bad},
		{plane, "GET", "/jobs/j/things?status=ODD", "", 400, bad},
		{plane, "GET", "/things/p/jobs?status=ODD", "", 400, bad},
		{plane, "GET", "/things/p/jobs/j?executionNumber=x", "", 400, bad},
		{plane, "GET", "/job-templates?maxResults=0", "", 400, bad},
		{plane, "GET", "/managed-job-templates?maxResults=999", "", 400, bad},
		{plane, "DELETE", "/things/p/jobs/j/executionNumber/x", "", 400, bad},
		{plane, "DELETE", "/things/p/jobs/j/executionNumber/0", "", 400, bad},
		// what cannot be done now
		{plane, "PATCH", "/jobs/j", `{"jobExecutionsRetryConfig":{"criteriaList":[{"failureType":"FAILED","numberOfRetries":1}]}}`, 400, bad},
		{plane, "PATCH", "/jobs/j", `{"timeoutConfig":{"inProgressTimeoutInMinutes":99999}}`, 400, bad},
		{plane, "PUT", "/jobs/j/cancel", `{"reasonCode":"lower case"}`, 400, bad},
		{plane, "PUT", "/jobs/j/cancel", `{"comment":"` + strings.Repeat("x", 2029) + `"}`, 400, bad},
		{plane, "PUT", "/jobs/j/cancel?force=maybe", `{}`, 400, bad},
		{plane, "DELETE", "/jobs/j", "", 409, state},
		{plane, "POST", "/jobs/j/targets", `{"targets":["` + arn + `thing/q"]}`, 400, bad}, // a snapshot
		{plane, "POST", "/jobs/c/targets", `{"targets":[]}`, 400, bad},
		{plane, "POST", "/jobs/c/targets", `{"targets":["` + arn + `thing/nobody"]}`, 404, none},
		{plane, "PUT", "/things/p/jobs/j/cancel", `{"expectedVersion":9}`, 409, version},
		{plane, "PUT", "/things/p/jobs/j/cancel", `{"statusDetails":{"a b":"c"}}`, 400, bad},
		{plane, "DELETE", "/things/p/jobs/j/executionNumber/1", "", 409, state},
		// the device's side
		{device, "PUT", "/things/p/jobs/$next", `{`, 400, bad},
		{device, "PUT", "/things/p/jobs/$next", `{"stepTimeoutInMinutes":0}`, 400, bad},
		{device, "PUT", "/things/p/jobs/$next", `{"statusDetails":{"k":"` + strings.Repeat("x", 1025) + `"}}`, 400, bad},
		{device, "PUT", "/things/p/jobs/j", `{}`, 404, none},
		{device, "GET", "/things/p/jobs/none", "", 404, none},
		{device, "GET", "/things/p/jobs/j?executionNumber=9", "", 404, none},
		{device, "GET", "/things/p/jobs/j?includeJobDocument=maybe", "", 400, bad},
		{device, "POST", "/things/p/jobs/none", `{"status":"FAILED"}`, 404, none},
		{device, "POST", "/things/p/jobs/j", `{}`, 400, bad},
		{device, "POST", "/things/p/jobs/j", `{"status":"CANCELED"}`, 400, bad},
		{device, "POST", "/things/p/jobs/j", `{"status":"QUEUED"}`, 400, bad},
		{device, "POST", "/things/p/jobs/j", `{"status":"IN_PROGRESS","expectedVersion":7}`, 409, state},
		{device, "PUT", "/things/p/jobs/%24next", `{}`, 200, ""},
		{plane, "PUT", "/things/p/jobs/j/cancel", `{}`, 409, state}, // in progress, without force
		{device, "POST", "/things/p/jobs/j", `{"status":"SUCCEEDED"}`, 200, ""},
		{device, "POST", "/things/p/jobs/j", `{"status":"IN_PROGRESS"}`, 409, state},
		{device, "GET", "/things/p/jobs/j", "", 410, over},
		{plane, "PUT", "/things/p/jobs/j/cancel?force=true", `{}`, 409, state},
		{plane, "PUT", "/jobs/j/cancel", `{}`, 400, bad},
		{plane, "PATCH", "/jobs/j", `{"description":"late"}`, 400, bad},
		{plane, "GET", "/things/p/jobs/j", "", 200, ""},         // the control plane still shows it
		{"execute-api", "GET", "/things/p/jobs/j", "", 200, ""}, // and so it does to older tools
		// templates
		{plane, "PUT", "/job-templates/t", `{"document":"{}"}`, 400, bad},
		{plane, "PUT", "/job-templates/t.t", `{"document":"{}","description":"d"}`, 400, bad},
		{plane, "PUT", "/job-templates/t", `{"jobArn":"` + arn + `job/none","description":"d"}`, 404, none},
		{plane, "PUT", "/job-templates/t", `{"jobArn":"x","description":"d"}`, 400, bad},
		{plane, "PUT", "/job-templates/t", `{"document":"{}","description":"d"}`, 200, ""},
		{plane, "PUT", "/job-templates/t", `{"document":"{}","description":"d"}`, 409, conflict},
	} {
		if status, kind, answer := s.signedCall(c.service, c.method, c.path, c.body); status != c.status || kind != c.kind {
			t.Errorf("%d: %s %s %.100s: got %d %s %.200s, want %d %s", i, c.method, c.path, c.body, status, kind, answer, c.status, c.kind)
		}
	}

	// A certificate that is not good any more, and one that may not.
	s.cli("cert", "set", s.certificateOf("q"), "--inactive", "--yes")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: s.tls("q"), DisableKeepAlives: true}}
	for _, path := range []string{"/things/q/jobs", "/things/q/jobs/k"} {
		req, err := http.NewRequest("GET", s.port()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if status, kind, answer := s.send(client, req); status != 400 || kind != "CertificateValidationException" {
			t.Errorf("a certificate that is not active: %d %s %s", status, kind, answer)
		}
	}
	s.refusalsOverMQTT()
	s.Stop()
}

// refusalsOverMQTT provokes every code of spec/jobs.md §3.4 that a device can.
func (s *site) refusalsOverMQTT() {
	s.t.Helper()
	c, _, err := rawmqtt.Dial(s.MQTT, rawmqtt.Options{ClientID: "p", Clean: true})
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Conn.Close()
	for i, x := range []struct{ what, payload, code, state string }{
		{"nonsense", `{}`, "InvalidTopic", ""},
		{"k/nonsense", `{}`, "InvalidTopic", ""},
		{"a/b/c/d", `{}`, "InvalidTopic", ""},
		{"get", `{`, "InvalidJson", ""},
		{"start-next", "\xff", "InvalidJson", ""},
		{"k/update", `{"status":"FAILED"`, "InvalidJson", ""},
		{"k/update", `[]`, "InvalidRequest", ""},
		{"k/update", `{}`, "InvalidRequest", ""},
		{"k/update", `{"status":"REMOVED"}`, "InvalidRequest", ""},
		{"k/update", `{"status":7}`, "InvalidRequest", ""},
		{"k/update", `{"status":"IN_PROGRESS","statusDetails":{"a":1}}`, "InvalidRequest", ""},
		{"k/update", `{"status":"IN_PROGRESS","statusDetails":{"a":"b\u0000"}}`, "InvalidRequest", ""},
		{"k/update", `{"status":"IN_PROGRESS","statusDetails":{"` + strings.Repeat("k", 129) + `":"b"}}`, "InvalidRequest", ""},
		{"k/update", `{"status":"IN_PROGRESS","expectedVersion":"x"}`, "InvalidRequest", ""},
		{"k/update", `{"status":"IN_PROGRESS","stepTimeoutInMinutes":10081}`, "InvalidRequest", ""},
		{"k/update", `{"status":"IN_PROGRESS","includeJobDocument":"yes"}`, "InvalidRequest", ""},
		{"k/get", `{"executionNumber":0}`, "InvalidRequest", ""},
		{"start-next", `{"stepTimeoutInMinutes":-2}`, "InvalidRequest", ""},
		{"none/get", `{}`, "ResourceNotFound", ""},
		{"none/update", `{"status":"FAILED"}`, "ResourceNotFound", ""},
		{"k/get", `{"executionNumber":5}`, "ResourceNotFound", ""},
		{"k/update", `{"status":"IN_PROGRESS","expectedVersion":5}`, "VersionMismatch", "QUEUED"},
		{"k/update", `{"status":"SUCCEEDED"}`, "", ""},
		{"k/update", `{"status":"IN_PROGRESS"}`, "InvalidStateTransition", "SUCCEEDED"},
		{"k/get", `{}`, "TerminalStateReached", ""},
	} {
		topic := "$aws/things/p/jobs/" + x.what
		c.SetDeadline(time.Now().Add(harness.Patience))
		if _, err := c.Write(rawmqtt.AppendPublish(nil, false, topic, []byte(x.payload), 0, 0, 0)); err != nil {
			s.t.Fatal(err)
		}
		var p rawmqtt.Packet
		for p.Type != rawmqtt.Publish || !strings.HasPrefix(string(p.Topic), topic+"/") {
			if p, err = c.Next(); err != nil {
				s.t.Fatalf("%d: no answer to %s: %v", i, x.what, err)
			}
		}
		var answer struct {
			Code, Message  string
			ExecutionState struct{ Status string }
		}
		verdict := map[bool]string{true: "/accepted", false: "/rejected"}[x.code == ""]
		if err := json.Unmarshal(p.Payload, &answer); err != nil || string(p.Topic) != topic+verdict || answer.Code != x.code || answer.ExecutionState.Status != x.state || (x.code != "") != (answer.Message != "") {
			s.t.Errorf("%d: %s %.80s: %s %s, want %s", i, x.what, x.payload, p.Topic, p.Payload, x.code)
		}
	}
}
