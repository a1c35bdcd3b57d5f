package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/test/harness"
)

// ending makes a job for the gateway's own thing, waits for its end, and gives its state and details.
func (s *site) ending(id, document string) (state string, details map[string]string) {
	s.t.Helper()
	s.cli("job", "create", id, "--target", "thing:gateway", "--document", document)
	return s.outcome(id)
}

func (s *site) outcome(id string) (state string, details map[string]string) {
	s.t.Helper()
	var shown struct {
		Executions []struct {
			StatusDetails map[string]string
			Summary       struct{ Status string } `json:"jobExecutionSummary"`
		}
	}
	s.cli("job", "show", id, "--watch")
	if out := s.cli("job", "show", id, "--json"); json.Unmarshal([]byte(out), &shown) != nil || len(shown.Executions) != 1 {
		s.t.Fatalf("the job %s: %s", id, out)
	}
	return shown.Executions[0].Summary.Status, shown.Executions[0].StatusDetails
}

// The gateway carries out what is asked of itself, and says how it went: what a person at the other end of a cloud would see.
func TestJobsForTheGatewayItself(t *testing.T) {
	// A file in place of the kernel's name for this boot makes two boots of one.
	boot := filepath.Join(t.TempDir(), "boot_id")
	booted := func(name string) {
		t.Helper()
		if err := os.WriteFile(boot, []byte(name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	booted("first")
	config := func(level, command string) string {
		return fmt.Sprintf(`
log: {level: %s}
jobs:
  commands:
    greet: {run: [echo, hello, world]}
    sulk: {run: [sh, -c, 'echo no; exit 3']}
    sleep: {run: [sleep, '600'], timeout: 1s}
    nap: {run: [sleep, '20']}
    touch: {run: [touch, '%s']}
  reboot: [sh, -c, 'kill -TERM $PPID']
  boot_file: %s
`, level, command, boot)
	}
	touched := filepath.Join(t.TempDir(), "touched")
	s := newSite(t, harness.Options{NoDev: true, Config: config("info", touched)})
	s.cli("thing", "create", "gateway")

	for _, c := range []struct{ id, document, state, detail, says string }{
		{"greet", `{"operation":"run","command":"greet"}`, "SUCCEEDED", "output", "hello world"},
		{"sulk", `{"operation":"run","command":"sulk"}`, "FAILED", "exit", "3"},
		{"sleep", `{"operation":"run","command":"sleep"}`, "FAILED", "reason", "longer than 1s"},
		{"unlisted", `{"operation":"run","command":"touch x"}`, "REJECTED", "reason", "not among those that the configuration allows"},
		{"inject", `{"operation":"run","command":"greet; touch ` + touched + `"}`, "REJECTED", "reason", "not among"},
		{"unknown", `{"operation":"self-destruct"}`, "REJECTED", "reason", "self-destruct"},
		{"aws-style", `{"version":"1.0","steps":[{"action":{"name":"n","type":"runCommand","input":{"command":"greet"}}}]}`, "SUCCEEDED", "output", "hello world"},
		{"diag", `{"operation":"collect-diagnostics"}`, "SUCCEEDED", "file", "diagnostics/diag.json"},
	} {
		if state, details := s.ending(c.id, c.document); state != c.state || !strings.Contains(details[c.detail], c.says) {
			t.Errorf("%s: %s %v, want %s and %s with %q", c.id, state, details, c.state, c.detail, c.says)
		}
	}
	if _, err := os.Stat(touched); err == nil {
		t.Error("a job has run a command of its own")
	}
	if out, errw, code := s.AWS(nil, "iot", "describe-job-execution", "--job-id", "greet", "--thing-name", "gateway", "--output", "text"); code != 0 || !strings.Contains(out, "SUCCEEDED") {
		t.Errorf("aws sees the end of greet: exit %d: %s%s", code, out, errw)
	}
	var report struct {
		Status   map[string]any
		Devices  []any
		Warnings []any
	}
	if out := s.cli("job", "fetch", "diag"); json.Unmarshal([]byte(out), &report) != nil || report.Status["version"] == nil {
		t.Errorf("diagnostics: %.300s", out)
	}

	pem := func() string { return string(read(t, filepath.Join(s.Dir, "pki", "server.pem"))) }
	before := pem()
	if state, details := s.ending("turn", `{"operation":"rotate-certificates"}`); state != "SUCCEEDED" || details["until"] == "" {
		t.Errorf("rotated: %s %v", state, details)
	}
	if pem() == before {
		t.Error("the certificate is the old one")
	}
	s.enroll("fan-1")
	if status, body := s.curl("fan-1", s.port()+"/things/fan-1/jobs"); status != 200 {
		t.Errorf("with the new certificate: %d %s", status, body)
	}

	set := func(id, text string) (string, map[string]string) {
		t.Helper()
		doc, err := json.Marshal(map[string]string{"operation": "set-configuration", "configuration": text})
		if err != nil {
			t.Fatal(err)
		}
		return s.ending(id, string(doc))
	}
	if state, details := set("wrong", "log: {level: loud}"); state != "REJECTED" || !strings.Contains(details["reason"], "level") {
		t.Errorf("a wrong configuration: %s %v", state, details)
	}
	if state, details := set("live", config("debug", touched)); state != "SUCCEEDED" || details["restart"] != "" {
		t.Errorf("what can change live: %s %v", state, details)
	}
	s.Says("configuration was read again", "level=debug")
	if state, details := set("later", config("debug", touched+"2")); state != "SUCCEEDED" || details["restart"] != "jobs" {
		t.Errorf("what needs a restart: %s %v", state, details)
	}

	s.cli("job", "create", "again", "--target", "thing:gateway", "--document", `{"operation":"reboot"}`)
	if code := s.Wait(); code != 0 {
		t.Errorf("rebooting: exit %d", code)
	}
	s.Restart() // without the machine having been restarted
	if state, details := s.outcome("again"); state != "FAILED" || !strings.Contains(details["reason"], "the machine was not") {
		t.Errorf("a reboot that was none: %s %v", state, details)
	}
	s.cli("job", "create", "reboot", "--target", "thing:gateway", "--document", `{"operation":"reboot"}`)
	s.Wait()
	booted("second")
	s.Restart()
	if state, details := s.outcome("reboot"); state != "SUCCEEDED" || details["boot"] != "second" {
		t.Errorf("a reboot: %s %v", state, details)
	}
	if state, _ := s.ending("new", `{"operation":"run","command":"touch"}`); state != "SUCCEEDED" {
		t.Errorf("after the restart: %s", state)
	}
	if _, err := os.Stat(touched + "2"); err != nil {
		t.Errorf("the new configuration does not hold: %v", err)
	}

	// Killed in the middle of a command, the gateway does not run it again.
	s.cli("job", "create", "nap", "--target", "thing:gateway", "--document", `{"operation":"run","command":"nap"}`)
	harness.Until(t, "the command runs", func() bool { return strings.Contains(s.cli("job", "show", "nap"), "1 in progress") })
	s.Kill()
	s.Restart()
	if state, details := s.outcome("nap"); state != "FAILED" || !strings.Contains(details["reason"], "in the middle of it") {
		t.Errorf("killed in the middle: %s %v", state, details)
	}
	s.Stop()
}
