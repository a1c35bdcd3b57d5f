package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tidegate/gateway/localapi/localclient"
)

// call runs one command line in process.
func call(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = dispatch(t.Context(), args, func(string) string { return "" }, strings.NewReader(stdin), &out, &errOut)
	return code, out.String(), errOut.String()
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) { b.mu.Lock(); defer b.mu.Unlock(); return b.b.Write(p) }
func (b *buffer) String() string              { b.mu.Lock(); defer b.mu.Unlock(); return b.b.String() }

// start runs a gateway with --dev in process until the returned function, which gives
// its exit code, is called.
func start(t *testing.T, dir string, args ...string) (ports map[string]string, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var log buffer
	done := make(chan int, 1)
	go func() {
		done <- dispatch(ctx, append([]string{"run", "--dev", "--data", dir, "--mqtt", "127.0.0.1:0", "--ws", "127.0.0.1:0",
			"--mqtts", "127.0.0.1:0", "--https", "127.0.0.1:0", "--metrics", "127.0.0.1:0"}, args...), func(string) string { return "" }, nil, io.Discard, &log)
	}()
	stop = sync.OnceValue(func() int { cancel(); return <-done })
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(filepath.Join(dir, "run", "listeners.json"))
		if err == nil && json.Unmarshal(b, &ports) == nil {
			return ports, stop
		}
		if time.Now().After(end) || len(done) > 0 {
			t.Fatalf("the gateway does not start:\n%s", log.String())
		}
	}
}

func TestWrongUseEndsWithTwoAndSaysHowItIsUsed(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"frobnicate", `unknown command "frobnicate"`},
		{"status --nope", "unknown flag: --nope"},
		{"pub", "accepts 1 arg(s), received 0"},
		{"pub a b", "accepts 1 arg(s), received 2"},
		{"pub a --qos 3 -m x", "--qos is 3, expected 0, 1 or 2"},
		{"tail a --since yesterday", `--since is "yesterday", expected a duration`},
		{"tail a --since -1h", `--since is "-1h", expected a duration`},
		{"ledger --max 0", "--max is 0, expected a number above 0"},
		{"thing rm", "requires at least 1 arg"},
		{"pub", "expected `tidegate pub TOPIC [flags]`"},
		{"completion", "accepts 1 arg(s), received 0"},
		{"completion tcsh", `invalid argument "tcsh"`},
		{"device", "tidegate device what? expected one of ls, scan, test"},
		{"run --mqtt nonsense --dev", `--mqtt: listen.mqtt: is "nonsense", expected HOST:PORT`},
		{"run --mqtt 127.0.0.1:1883", "is there with --dev only"},
	} {
		code, out, errOut := call(t, "", strings.Fields(c.args)...)
		if code != 2 || out != "" || !strings.Contains(errOut, c.want) || !strings.HasPrefix(errOut, "tidegate: ") || strings.Count(errOut, "\n") != 1 {
			t.Errorf("%s: exit %d, stdout %q, stderr %q; want 2 and one line with %q", c.args, code, out, errOut, c.want)
		}
	}
}

func TestWithoutAGatewayTheLineSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	for _, args := range []string{"status", "pub a -m x", "tail #", "device ls", "device test x", "upstream ls", "ledger", "env"} {
		code, out, errOut := call(t, "", append(strings.Fields(args), "--data", dir)...)
		want := "tidegate: no gateway is running on the data folder " + dir + "; start one with `tidegate run`, or name its folder with --data\n"
		if code != 1 || out != "" || errOut != want {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", args, code, out, errOut)
		}
	}
}

func TestCheckReportsEverythingAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("log:\n  levle: info\n  format: 7\nupstreams:\n- name: a\n")
	code, _, errOut := call(t, "", "run", "--check", "--config", file)
	lines := strings.Split(strings.TrimSpace(errOut), "\n")
	if code != 2 || len(lines) != 4 {
		t.Errorf("exit %d, %d lines:\n%s", code, len(lines), errOut)
	}
	for _, want := range []string{":2: log.levle: ", ":3: log.format: ", ":5: upstreams[0].url: ", ":5: upstreams[0].up: "} {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "tidegate: "+file+want) }) {
			t.Errorf("no line begins with %s in\n%s", want, errOut)
		}
	}
	write("log: {level: debug}\n")
	if code, out, errOut := call(t, "", "run", "--check", "--config", file); code != 0 || out != "" || !strings.Contains(errOut, "good") {
		t.Errorf("exit %d, %q, %q", code, out, errOut)
	}
}

func TestVersionAndCompletion(t *testing.T) {
	if code, out, _ := call(t, "", "version"); code != 0 || !strings.HasPrefix(out, "tidegate ") || !strings.Contains(out, "commit ") || !strings.Contains(out, "built ") {
		t.Errorf("exit %d, %q", code, out)
	}
	var v localclient.Version
	if code, out, _ := call(t, "", "version", "--json"); code != 0 || json.Unmarshal([]byte(out), &v) != nil || v.Go == "" {
		t.Errorf("exit %d, %q", code, out)
	}
	if code, out, _ := call(t, "", "completion", "bash"); code != 0 || !strings.Contains(out, "__start_tidegate") {
		t.Errorf("exit %d", code)
	}
	if code, out, _ := call(t, "", "--help"); code != 0 || !strings.Contains(out, "ledger") {
		t.Errorf("exit %d, %q", code, out)
	}
}

func TestAGatewayIsRunAskedAndDrained(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(config, []byte("upstreams:\n- {name: site7, url: mqtt://127.0.0.1:1, up: [{filter: own/#}]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	ports, stop := start(t, data, "--config", config)
	if res, err := http.Get("http://" + ports["metrics"] + "/readyz"); err != nil || res.StatusCode != 200 {
		t.Errorf("readyz: %v, %v", res, err)
	} else {
		res.Body.Close()
	}

	// the upstream is down: a warning, not the end
	var code int
	var out, errOut string
	for code = 0; code == 0; code, out, errOut = call(t, "", "status", "--data", data) {
	}
	if code != 1 || errOut != "" || !strings.Contains(out, "UNHEALTHY") || !strings.Contains(out, "! upstream site7 (mqtt://127.0.0.1:1) is down") || !strings.Contains(out, "upstream-down/site7") {
		t.Errorf("exit %d\n%s%s", code, out, errOut)
	}
	var s localclient.Status
	if code, out, _ := call(t, "", "status", "--data", data, "--json"); code != 1 || json.Unmarshal([]byte(out), &s) != nil || s.Healthy || !s.Ready || len(s.Warnings) != 1 || len(s.Upstreams) != 1 {
		t.Errorf("exit %d, %s", code, out)
	}
	if code, out, _ := call(t, "", "upstream", "ls", "--data", data); code != 0 || !strings.Contains(out, "site7") {
		t.Errorf("exit %d, %s", code, out)
	}
	if code, out, _ := call(t, "", "ledger", "--data", data, "--json"); code != 0 || strings.TrimSpace(out) != "[]" {
		t.Errorf("exit %d, %s", code, out)
	}
	if code, out, _ := call(t, "", "env", "--data", data); code != 0 || !strings.Contains(out, "export TIDEGATE_DATA='"+data+"'\n") {
		t.Errorf("exit %d, %s", code, out)
	}

	// what the upstream wants is in the journal
	if code, _, errOut := call(t, "from stdin", "pub", "own/a", "--qos", "1", "--data", data); code != 0 {
		t.Fatalf("exit %d, %s", code, errOut)
	}
	if code, _, errOut := call(t, "", "pub", "own/b", "-q1", "-m", "two", "--data", data); code != 0 {
		t.Fatalf("exit %d, %s", code, errOut)
	}
	code, out, errOut = call(t, "", "tail", "own/#", "--since", "1h", "-n", "2", "--data", data)
	if lines := strings.Split(out, "\n"); code != 0 || len(lines) != 3 || !strings.HasSuffix(lines[0], " own/a from stdin") || !strings.HasSuffix(lines[1], " own/b two") {
		t.Errorf("exit %d, %q, %s", code, out, errOut)
	}
	var m localclient.Message
	if code, out, _ := call(t, "", "tail", "own/b", "--since", "1d", "-n", "1", "--json", "--data", data); code != 0 || json.Unmarshal([]byte(out), &m) != nil || m.Payload != "two" || m.QoS != 1 {
		t.Errorf("exit %d, %q", code, out)
	}
	if code, _, errOut := call(t, "", "pub", "a/#", "-m", "x", "--data", data); code != 1 || errOut != "tidegate: the topic contains a wildcard\n" {
		t.Errorf("exit %d, %q", code, errOut)
	}

	// a second one on the same folder is refused
	if code, _, errOut := call(t, "", "run", "--dev", "--data", data, "--mqtt", "127.0.0.1:0", "--ws", "off", "--metrics", "off"); code != 1 || strings.Count(errOut, "\n") != 1 {
		t.Errorf("exit %d, %q", code, errOut)
	}
	if code := stop(); code != 0 {
		t.Errorf("the gateway ends with %d", code)
	}
	if left, _ := os.ReadDir(filepath.Join(data, "run")); len(left) != 0 {
		t.Errorf("left in run/: %v", left)
	}

	// and what was in the journal is still there
	_, stop = start(t, data, "--config", config)
	if code, out, _ := call(t, "", "tail", "own/+", "--since", "1h", "-n", "2", "--data", data); code != 0 || !strings.Contains(out, "own/a from stdin") || !strings.Contains(out, "own/b two") {
		t.Errorf("after a restart: exit %d, %q", code, out)
	}
	if code, _, errOut := call(t, "", "upstream", "rm", "site7", "--yes", "--data", data); code != 1 || !strings.Contains(errOut, "is configured") {
		t.Errorf("exit %d, %q", code, errOut)
	}
	if code := stop(); code != 0 {
		t.Errorf("the gateway ends with %d", code)
	}

	// without its upstream what waits is kept until somebody decides
	_, stop = start(t, data)
	if code, out, _ := call(t, "", "status", "--data", data); code != 1 || !strings.Contains(out, " messages wait for upstream site7, which is no longer configured") {
		t.Errorf("exit %d, %s", code, out)
	}
	if code, _, errOut := call(t, "n\n", "upstream", "rm", "site7", "--data", data); code != 1 || !strings.Contains(errOut, "Give up every message") {
		t.Errorf("exit %d, %q", code, errOut)
	}
	if code, _, errOut := call(t, "y\n", "upstream", "rm", "site7", "--data", data); code != 0 {
		t.Errorf("exit %d, %q", code, errOut)
	}
	if code, out, _ := call(t, "", "status", "--data", data); strings.Contains(out, "site7") {
		t.Errorf("exit %d, %s", code, out)
	}
	if code, _, _ := call(t, "", "upstream", "rm", "site7", "--yes", "--data", data); code != 1 {
		t.Errorf("exit %d for an upstream that is not there", code)
	}
	if code := stop(); code != 0 {
		t.Errorf("the gateway ends with %d", code)
	}
}

func TestRulesAndUpstreamsAreShown(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(config, []byte(`
rules:
  - {name: hot, sql: "SELECT v FROM 'in/+' WHERE v > 5", actions: [{republish: {topic: 'out/${topic(2)}', qos: 1}}]}
  - {name: idle, disabled: true, sql: "SELECT * FROM '#'"}
upstreams:
- {name: site7, url: mqtt://127.0.0.1:1, up: [{filter: own/#}]}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	start(t, data, "--config", config)
	for _, m := range []string{`{"v":4}`, `{"v":6}`} {
		if code, _, errOut := call(t, "", "pub", "in/a", "-q1", "-m", m, "--data", data); code != 0 {
			t.Fatalf("exit %d, %s", code, errOut)
		}
	}
	if code, out, _ := call(t, "", "rule", "ls", "--data", data); code != 0 ||
		strings.Join(strings.Fields(out), " ") != "RULE STATE MATCHED PASSED FAILED TOPIC hot enabled 2 1 0 in/+ idle disabled 0 0 0 #" {
		t.Errorf("exit %d, %s", code, out)
	}
	var rs []localclient.Rule
	if code, out, _ := call(t, "", "rule", "ls", "--json", "--data", data); code != 0 || json.Unmarshal([]byte(out), &rs) != nil || len(rs) != 2 || rs[0].Passed != 1 || !rs[1].Disabled {
		t.Errorf("exit %d, %s", code, out)
	}
	if code, out, _ := call(t, "", "rule", "show", "hot", "--data", data); code != 0 || !strings.Contains(out, "republish to out/${topic(2)} at QoS 1") || !strings.Contains(out, "2 looked at, 1 selected, 0 failed") {
		t.Errorf("exit %d, %s", code, out)
	}
	if code, out, _ := call(t, "", "upstream", "show", "site7", "--data", data); code != 0 || !strings.Contains(out, "mqtt://127.0.0.1:1") {
		t.Errorf("exit %d, %s", code, out)
	}
	// SIGHUP puts other rules in their place
	if err := os.WriteFile(config, []byte(`
rules: [{name: new, sql: "SELECT * FROM 'b/#'"}]
upstreams:
- {name: site7, url: mqtt://127.0.0.1:1, up: [{filter: own/#}]}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); len(rs) != 1; time.Sleep(5 * time.Millisecond) {
		if _, out, _ := call(t, "", "rule", "ls", "--json", "--data", data); json.Unmarshal([]byte(out), &rs) != nil || time.Now().After(end) {
			t.Fatalf("the rules are still %s", out)
		}
	}
	if rs[0].Name != "new" || rs[0].Topic != "b/#" {
		t.Errorf("rules: %+v", rs)
	}
	for _, kind := range []string{"rule", "upstream"} {
		if code, out, errOut := call(t, "", kind, "show", "nobody", "--data", data); code != 1 || out != "" || !strings.Contains(errOut, `no `+kind+` is called "nobody"`) {
			t.Errorf("exit %d, %q, %q", code, out, errOut)
		}
	}
}

func TestAPortInUseIsOneClearLine(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	code, _, errOut := call(t, "", "run", "--dev", "--data", t.TempDir(), "--mqtt", ln.Addr().String(), "--metrics", "off")
	want := "tidegate: the address " + ln.Addr().String() + " (mqtt) is in use by another program; stop that one, or choose another address with --mqtt or listen.mqtt\n"
	if code != 1 || errOut != want {
		t.Errorf("exit %d, %q", code, errOut)
	}
}
