package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/localapi/localclient"
	"tidegate/test/rawmqtt"
)

// device is a plain MQTT client that reads what comes on a topic.
type device struct {
	*rawmqtt.Conn
	t *testing.T
}

func dial(t *testing.T, addr, id string) device {
	t.Helper()
	c, _, err := rawmqtt.Dial(addr, rawmqtt.Options{ClientID: id, Clean: true, ReadBuffer: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Conn.Close() })
	return device{c, t}
}

// ask publishes a request and gives the first message that comes on the answer's topic.
func (d device) ask(topic, payload, answer string) string {
	d.t.Helper()
	if _, err := d.Write(rawmqtt.AppendPublish(nil, false, topic, []byte(payload), 0, 0, 0)); err != nil {
		d.t.Fatal(err)
	}
	d.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		p, err := d.Next()
		if err != nil {
			d.t.Fatalf("waiting for %s: %v", answer, err)
		}
		if p.Type == rawmqtt.Publish && string(p.Topic) == answer {
			return string(p.Payload)
		}
	}
}

func TestJobsFromTheCommandLine(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	ports, stop := start(t, data)
	c := cli{t, data}
	c.ok("group", "create", "pumps")
	c.ok("thing", "create", "pump-1", "--group", "pumps")
	c.ok("thing", "create", "gateway")

	firmware := filepath.Join(t.TempDir(), "fw.bin")
	if err := os.WriteFile(firmware, []byte(strings.Repeat("firmware", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := c.ok("job", "create", "fw-7", "--target", "group:pumps", "--file", firmware, "--continuous", "--rate", "10", "--timeout", "5", "--retries", "1"); out != "arn:aws:iot:local-1:000000000000:job/fw-7\n" {
		t.Errorf("made %q", out)
	}
	c.no("already exists", "job", "create", "fw-7", "--target", "thing:pump-1", "--document", "{}")
	c.no("does not exist", "job", "create", "x", "--target", "thing:nobody", "--document", "{}")
	c.no("expected thing:NAME", "job", "create", "x", "--target", "pump-1", "--document", "{}")
	c.no("not JSON", "job", "create", "x", "--target", "thing:pump-1", "--document", "{")
	c.says([]string{"fw-7", "IN_PROGRESS", "continuous"}, "job", "ls", "--status", "in-progress")
	c.says([]string{"1 queued", "pump-1", "QUEUED", "fw.bin"}, "job", "show", "fw-7")

	d := dial(t, ports["mqtt"], "pump-1")
	jobs := "$aws/things/pump-1/jobs/"
	var answer struct {
		Execution struct {
			Status      string
			JobDocument struct{ Stream, SHA256 string }
		}
	}
	if err := json.Unmarshal([]byte(d.ask(jobs+"start-next", "{}", jobs+"start-next/accepted")), &answer); err != nil || answer.Execution.JobDocument.Stream != "fw-7" {
		t.Fatalf("%+v, %v", answer, err)
	}
	streams := "$aws/things/pump-1/streams/fw-7/"
	if _, err := d.Write(rawmqtt.AppendSubscribe(nil, false, 1, 0, streams+"data/json")); err != nil {
		t.Fatal(err)
	}
	if block := d.ask(streams+"get/json", `{"f":0,"l":256,"o":3}`, streams+"data/json"); !strings.Contains(block, `"l":32,"i":3`) {
		t.Errorf("block %s", block)
	}
	d.ask(jobs+"fw-7/update", `{"status":"SUCCEEDED"}`, jobs+"fw-7/update/accepted")
	var shown job
	c.json(&shown, "job", "show", "fw-7")
	if shown.count("Succeeded") != 1 || len(shown.Executions) != 1 || shown.Executions[0].Summary.Status != "SUCCEEDED" {
		t.Errorf("job %+v", shown)
	}
	c.no("only with force", "job", "rm", "fw-7", "--yes")
	c.ok("job", "cancel", "fw-7", "--yes", "--reason", "OVER")
	c.ok("job", "rm", "fw-7", "--yes")
	c.no("does not exist", "job", "show", "fw-7")

	out := c.ok("job", "create", "diag", "--target", "thing:gateway", "--document", `{"operation":"collect-diagnostics"}`, "--watch")
	if !strings.HasSuffix(out, "diag COMPLETED [##############################] 1/1  1 succeeded\n") {
		t.Errorf("watched %q", out)
	}
	c.ok("job", "create", "turn", "--target", "thing:gateway", "--document", `{"operation":"rotate-certificates"}`, "--watch")
	if code := stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	start(t, data) // and all of it is still there
	c.says([]string{"diag", "turn", "COMPLETED"}, "job", "ls")
}

func TestShadowsFromTheCommandLine(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	_, stop := start(t, data)
	c := cli{t, data}
	c.no("what", "shadow", "set", "kiln")
	c.ok("shadow", "set", "kiln", "--desired", `{"t":1}`)
	c.ok("shadow", "set", "kiln", `{"state":{"desired":{"t":2},"reported":{"t":1}}}`)
	c.ok("shadow", "set", "kiln", "--name", "cfg", "--reported", `{"a":true}`)
	c.no("Invalid JSON", "shadow", "set", "kiln", "{")
	c.no("expected JSON", "shadow", "set", "kiln", "--desired", "{")
	c.says([]string{"kiln   -       2        yes", "kiln   cfg "}, "shadow", "ls", "kiln")
	c.says([]string{"uid:", "command line", `"t": 2`}, "shadow", "show", "kiln")
	if code := stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	start(t, data)
	var log []localclient.ShadowChange
	c.json(&log, "shadow", "log", "kiln")
	if len(log) != 2 {
		t.Fatalf("log %+v", log)
	}
	var s localclient.Shadow
	c.json(&s, "shadow", "show", "kiln", "--at", log[0].At.Format(time.RFC3339Nano))
	if string(s.State) == "" || !strings.Contains(string(s.State), `"t": 1`) || s.Version != 1 {
		t.Errorf("then it was %s, version %d", s.State, s.Version)
	}
	c.no("no such shadow", "shadow", "show", "kiln", "--at", "1h")
	c.ok("shadow", "rm", "kiln", "--yes")
	c.no("no such shadow", "shadow", "show", "kiln")
	c.json(&log, "shadow", "log", "kiln")
	if len(log) != 3 || log[0].Version != 1 || !strings.HasPrefix(log[1].By, "uid:") || !log[2].Deleted {
		t.Errorf("log %+v", log)
	}
	c.says([]string{"deleted", "command line", `{"desired":{"t":2},"reported":{"t":1}}`}, "shadow", "log", "kiln")
	if out := c.ok("shadow", "log", "kiln", "--max", "1"); strings.Contains(out, "reported") || !strings.Contains(out, "deleted") {
		t.Errorf("the last change is %q", out)
	}
	c.no("--max", "shadow", "log", "kiln", "--max", "-1")
	c.no("--at", "shadow", "show", "kiln", "--at", "yesterday")

	c.ok("shadow", "set", "kiln", "--name", "cfg", "--reported", `{"a":false}`, "--if-version", "1")
	c.no("Version conflict", "shadow", "set", "kiln", "--name", "cfg", "--reported", `{"a":true}`, "--if-version", "1")
	c.no("--if-version", "shadow", "set", "kiln", `{"state":{}}`, "--if-version", "1")
	c.says([]string{"CHANGED", "kiln   cfg     2        -      now"}, "shadow", "ls")
}

// What is watched is told as it happens, changes by others and deletions too.
func TestShadowsAreWatched(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	start(t, data)
	c := cli{t, data}
	c.ok("shadow", "set", "kiln", "--desired", `{"t":1}`)
	list, one := follow(t, "shadow", "ls", "--watch", "--data", data), follow(t, "shadow", "show", "kiln", "--name", "cfg", "--watch", "--data", data)
	list.says(t, "kiln   -       1        yes")
	for i := 1; !list.has("kiln  cfg  version") || !one.has(`"n": `); i++ { // until both listen
		if i > 5000 {
			t.Fatalf("nothing is told:\n%s\n%s", list, one)
		}
		c.ok("shadow", "set", "kiln", "--name", "cfg", "--reported", fmt.Sprintf(`{"n":%d}`, i))
	}
	c.ok("shadow", "set", "other", "--desired", `{"t":1}`)
	list.says(t, "other  -  version 1")
	c.ok("shadow", "rm", "kiln", "--name", "cfg", "--yes")
	list.says(t, "kiln  cfg  deleted")
	one.says(t, "deleted")
	if one.has(`"t": 1`) {
		t.Error("another shadow was shown")
	}
}

// follower is what a command has said that goes on until the test ends.
type follower struct{ buffer }

func follow(t *testing.T, args ...string) *follower {
	t.Helper()
	f := new(follower)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		done <- dispatch(ctx, args, func(string) string { return "" }, strings.NewReader(""), f, f)
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("%s: exit %d: %s", strings.Join(args, " "), code, f)
		}
	})
	return f
}

func (f *follower) has(text string) bool { return strings.Contains(f.String(), text) }

func (f *follower) says(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f.has(text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never said %q, but:\n%s", text, f)
		}
	}
}
