package e2e_test

import (
	"strings"
	"testing"
	"time"

	"tidegate/test/harness"
	"tidegate/test/rawmqtt"
)

// A thing about which too much is asked hears so, over MQTT and over HTTPS, and the others hear nothing of it
// (spec/shadow.md §6 and §8, jobs.md §3.4).
func TestTooManyRequestsAboutAThing(t *testing.T) {
	s := newSite(t, harness.Options{Config: "limits: {total_publish_rate: 1000, shadow: {requests: 3}, jobs: {requests: 3}}\n"})
	s.enroll("x")
	c := listenIn(t, s.MQTT, "asker", "$aws/things/+/shadow/+/+")
	var burst []byte
	for _, topic := range []string{"shadow/get", "jobs/get"} {
		for range 40 { // in no more than a few seconds
			burst = rawmqtt.AppendPublish(burst, false, "$aws/things/x/"+topic, []byte(`{"clientToken":"k"}`), 0, 0, 0)
		}
	}
	if _, err := c.Write(burst); err != nil {
		t.Fatal(err)
	}
	served, refused := map[string]int{}, map[string]int{}
	for range 80 {
		topic, payload := c.next()
		kind := strings.Split(topic, "/")[3]
		switch doc := string(payload); {
		case !strings.Contains(doc, `"clientToken":"k"`):
			t.Errorf("%s without the token: %s", topic, doc)
		case strings.HasPrefix(doc, `{"code":429,"message":"Too many requests`), strings.HasPrefix(doc, `{"code":"RequestThrottled","message":"Too many requests`):
			refused[kind]++
		default:
			served[kind]++
		}
	}
	for _, kind := range []string{"shadow", "jobs"} {
		if served[kind] < 3 || refused[kind] == 0 {
			t.Errorf("%s: %d served, %d refused", kind, served[kind], refused[kind])
		}
	}
	c.send("$aws/things/other/shadow/get", "") // is not about x
	if topic, payload := c.next(); !strings.HasSuffix(topic, "/rejected") || !strings.HasPrefix(string(payload), `{"code":404,`) {
		t.Errorf("%s %s", topic, payload)
	}

	for service, path := range map[string]string{"iotdata": "/things/x/shadow", "iot-jobs-data": "/things/x/jobs"} {
		status, kind := 0, ""
		for end := time.Now().Add(30 * time.Second); status != 429; { // four within one second, at last
			done := make(chan struct{})
			for range 8 {
				go func() { s.signedCall(service, "GET", path, ""); done <- struct{}{} }()
			}
			status, kind, _ = s.signedCall(service, "GET", path, "")
			for range 8 {
				<-done
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %d %s, never 429", path, status, kind)
			}
		}
		if kind != "ThrottlingException" {
			t.Errorf("%s: 429 %s", path, kind)
		}
	}
	if n, ok := s.Metric("tidegate_requests_throttled_total"); !ok || n == 0 {
		t.Errorf("the metrics say %v %v", n, ok)
	}
}
