package e2e_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/test/harness"
)

// AWS's IoT Device SDK for JavaScript, as it comes from the registry, keeps shadows and works through jobs over mutual TLS:
// the older clients and the request-response clients, over MQTT 3.1.1 and 5.
func TestTheDeviceSDKKeepsShadowsAndWorksThroughJobs(t *testing.T) {
	s := newSite(t, harness.Options{NoDev: true})
	const thing = "pump-1"
	s.enroll(thing)
	for n, job := range []string{"first", "second"} {
		doc, err := json.Marshal(map[string]any{"operation": "test", "n": n + 1})
		if err != nil {
			t.Fatal(err)
		}
		s.cli("job", "create", job, "--target", "thing:"+thing, "--document", string(doc))
	}
	port := s.MQTTS[strings.LastIndexByte(s.MQTTS, ':')+1:]
	said, err := harness.Node(t, 3*time.Minute, filepath.Join("testdata", "sdk.js"), "localhost", port, filepath.Join(s.dir, thing), thing)
	if err != nil {
		t.Fatalf("%v:\n%s", err, said)
	}
	want := []string{"shadow v2 over MQTT 5", "named shadow v2 over MQTT 5", "jobs v2 over MQTT 5", "shadow v1 over MQTT 3.1.1",
		"jobs v1 over MQTT 3.1.1", "named shadow v2 over MQTT 3.1.1", "shadow v1 over MQTT 5"}
	if got := strings.Split(strings.TrimSpace(said), "\n"); !slices.Equal(got, want) {
		t.Errorf("it says\n%s", said)
	}
	// what it did is there, in its name
	for job, state := range map[string]string{"first": "SUCCEEDED", "second": "FAILED"} {
		if out := s.cli("job", "show", job); !strings.Contains(out, state) {
			t.Errorf("job %s is not %s:\n%s", job, state, out)
		}
	}
	var log []struct {
		By, From string
		Deleted  bool
	}
	if err := json.Unmarshal([]byte(s.cli("shadow", "log", thing, "--json")), &log); err != nil || len(log) == 0 {
		t.Fatalf("the log: %v, %v", log, err)
	}
	for _, e := range log {
		if !strings.Contains(e.By, s.certificateOf(thing)) || e.From != thing {
			t.Errorf("a change is by %q from %q", e.By, e.From)
		}
	}
	if !log[len(log)-1].Deleted {
		t.Errorf("the last change is no deletion: %+v", log[len(log)-1])
	}
}
