package node_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/node"
)

// load writes text as a configuration file and loads it.
func load(t *testing.T, text string, f node.Flags, env map[string]string) (node.Config, error) {
	t.Helper()
	if text != "" {
		f.Config = filepath.Join(t.TempDir(), "tidegate.yaml")
		if err := os.WriteFile(f.Config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := node.LoadConfig(f, func(name string) string { return env[name] })
	if err != nil && text != "" {
		err = errors.New(strings.ReplaceAll(err.Error(), filepath.Dir(f.Config)+"/", ""))
	}
	return cfg, err
}

func TestWhatComesLaterWins(t *testing.T) {
	cfg, err := load(t, `
# a comment
log: {level: warn, format: json}
limits: {payload: 64KiB}
broker: {qos2: false}
memory:
  heap_floor: 16MiB
listen:
  metrics: 127.0.0.1:1
upstreams:
  - name: site7
    url: mqtts://h
    user: &u gw
    password: env:PW
    client_id: 0017
    tls: {ca: /ca.pem}
    up:
      - {filter: "dt/#", topic: "site7/{topic}", qos: 0}
      - filter: alarm/+
    down:
      - filter: cmd/site7/#
        topic: cmd/{rest}
    window: 100
    backoff_max: 90s
  - name: other
    url: mqtt://h:1884
    user: *u
    up: [{filter: x}]
`, node.Flags{Dev: true, MQTT: "127.0.0.1:0"}, map[string]string{"TIDEGATE_LOG_LEVEL": "error", "TIDEGATE_LISTEN_METRICS": "off", "TIDEGATE_LISTEN_MQTT": "x:y", "TIDEGATE_SYNC_DELAY": "5ms"})
	if err != nil {
		t.Fatal(err)
	}
	up := cfg.Upstreams
	if len(up) != 2 {
		t.Fatalf("%d upstreams", len(up))
	}
	for _, c := range []struct{ what, got, want any }{
		{"from the file", cfg.Log.Format, "json"},
		{"variable over file", cfg.Log.Level, "error"},
		{"variable over file", cfg.Listen.Metrics, "off"},
		{"a room's own type", cfg.Store.SyncDelay.Delay, 5 * time.Millisecond},
		{"an embedded table", cfg.Broker.Limits.Payload, 64 << 10},
		{"a key in capitals", cfg.Broker.QoS2, false},
		{"flag over variable", cfg.Listen.MQTT, "127.0.0.1:0"},
		{"a size", cfg.Memory.HeapFloor, int64(16 << 20)},
		{"digits as text", up[0].ClientID, "0017"},
		{"window", up[0].Window, 100},
		{"duration", up[0].BackoffMax, 90 * time.Second},
		{"default beside what is given", up[0].BackoffMin, time.Second},
		{"QoS given", *up[0].Up[0].QoS, byte(0)},
		{"QoS not given", up[0].Up[1].QoS == nil, true},
		{"alias", up[1].User, "gw"},
		{"made client id", strings.HasPrefix(up[1].ClientID, "tidegate-") && strings.HasSuffix(up[1].ClientID, "-other"), true},
		{"data folder is absolute", filepath.IsAbs(cfg.Data), true},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", c.what, c.got, c.want)
		}
	}
}

func TestAnEmptyFileIsValid(t *testing.T) {
	for _, text := range []string{"\n", "# nothing\n", "---\n", "log:\n"} {
		cfg, err := load(t, text, node.Flags{}, nil)
		if err != nil || cfg.Data != "/var/lib/tidegate" || cfg.Listen.MQTT != "off" || cfg.Log.Level != "info" {
			t.Errorf("%q: %+v, %v", text, cfg, err)
		}
	}
}

func TestErrorsSayWhereAndWhatWasExpected(t *testing.T) {
	tests := []struct {
		name  string
		text  string
		flags node.Flags
		env   map[string]string
		want  []string // every line of the error
	}{
		{name: "unknown key", text: "log:\n  levle: warn\n", want: []string{"tidegate.yaml:2: log.levle: there is no such key; did you mean level?"}},
		{name: "unknown key at the top", text: "zebra: 1\n",
			want: []string{"tidegate.yaml:1: zebra: there is no such key; expected one of …"}},
		{name: "group instead of text", text: "log:\n  level: {a: 1}\n", want: []string{"tidegate.yaml:2: log.level: is a group of keys, expected text"}},
		{name: "text instead of group", text: "\nlog: loud\n", want: []string{`tidegate.yaml:2: log: is "loud", expected a group of keys`}},
		{name: "list instead of text", text: "data: [a]\n", want: []string{"tidegate.yaml:1: data: is a list, expected text"}},
		{name: "group instead of list", text: "upstreams: {a: b}\n", want: []string{"tidegate.yaml:1: upstreams: is a group of keys, expected a list"}},
		{name: "text instead of number", text: "memory:\n  heap_floor: lots\n",
			want: []string{`tidegate.yaml:2: memory.heap_floor: is "lots", expected a whole number, or a size such as 64KiB`}},
		{name: "size that overflows", text: "memory: {heap_floor: 99999999TiB}\n",
			want: []string{`tidegate.yaml:1: memory.heap_floor: is "99999999TiB", expected a whole number, or a size such as 64KiB`}},
		{name: "duration without a unit", text: "upstreams:\n- name: a\n  url: mqtt://h\n  up: [{filter: x}]\n  keep_alive: 30\n",
			want: []string{`tidegate.yaml:5: upstreams[0].keep_alive: is "30", expected a duration such as 15s or 5m`}},
		{name: "impossible value", text: "log:\n  format: xml\n", want: []string{`tidegate.yaml:2: log.format: is "xml", expected text or json`}},
		{name: "impossible value deep down", text: "upstreams:\n- name: a\n  url: mqtt://h\n  up:\n  - filter: a/#\n    qos: 2\n",
			want: []string{"tidegate.yaml:6: upstreams[0].up[0].qos: is 2, expected 0 or 1"}},
		{name: "QoS out of range", text: "upstreams:\n- name: a\n  url: mqtt://h\n  up: [{filter: a, qos: 300}]\n",
			want: []string{"tidegate.yaml:4: upstreams[0].up[0].qos: is 300, which is out of range"}},
		{name: "two of one name", text: "upstreams:\n- {name: a, url: mqtt://h, up: [{filter: x}]}\n- {name: a, url: mqtt://h, up: [{filter: x}]}\n",
			want: []string{`tidegate.yaml:3: upstreams[1].name: "a" is the name of upstreams[0] already`}},
		{name: "not YAML", text: "log: [\n", want: []string{"tidegate.yaml:1: not YAML: sequence end token ']' not found"}},
		{name: "one key twice", text: "data: a\ndata: b\n", want: []string{`tidegate.yaml:2: not YAML: mapping key "data" already defined at [1:1]`}},
		{name: "two documents", text: "data: a\n---\ndata: b\n", want: []string{"tidegate.yaml: holds 2 documents, expected one"}},
		{name: "alias to nothing", text: "data: *x\n", want: []string{"tidegate.yaml:1: data: *x refers to nothing before it"}},
		{name: "no such file", flags: node.Flags{Config: "/nowhere/x.yaml"},
			want: []string{"the configuration file cannot be read: open /nowhere/x.yaml: no such file or directory"}},
		{name: "variable", env: map[string]string{"TIDEGATE_LOG_LEVEL": "loud"}, want: []string{`TIDEGATE_LOG_LEVEL: log.level: is "loud", expected debug, info, warn or error`}},
		{name: "variable of a wrong type", env: map[string]string{"TIDEGATE_MEMORY_LIMIT": "much"},
			want: []string{`TIDEGATE_MEMORY_LIMIT: memory.limit: is "much", expected a whole number, or a size such as 64KiB`}},
		{name: "flag", flags: node.Flags{Metrics: "1883"}, want: []string{`--metrics: listen.metrics: is "1883", expected HOST:PORT such as 127.0.0.1:1883, or off`}},
		{name: "open listener without --dev", flags: node.Flags{MQTT: "127.0.0.1:1883"},
			want: []string{"--mqtt: listen.mqtt: this listener asks nobody who they are and is there with --dev only"}},
		{name: "one address twice", flags: node.Flags{Dev: true, Metrics: "127.0.0.1:1883"},
			want: []string{"--metrics: listen.metrics: 127.0.0.1:1883 is the address of mqtt already"}},
		{name: "what is not for the file", text: "store: {dir: /x}\nbroker: {limits: {}}\n",
			want: []string{"tidegate.yaml:1: store.dir: there is no such key; expected one of …", "tidegate.yaml:2: broker.limits: there is no such key; expected one of …"}},
		{name: "a room's own check", text: "journal:\n  when_full: panic\nbroker:\n  connections: -1\n",
			want: []string{`tidegate.yaml:1: journal: "panic" when full: want drop-oldest or refuse-new`, "tidegate.yaml:4: broker.connections: -1 is not between 0 and 1048576"}},
		{name: "one complaint for each value", text: "upstreams:\n- name: [a]\n  url: mqtt://h\n  up: [{filter: x}]\n",
			want: []string{"tidegate.yaml:2: upstreams[0].name: is a list, expected text"}},
		{name: "several at once", text: "log: {level: loud, colour: red}\nmemory:\n  limit: 1KiB\nlisten: 5\nupstreams:\n- name: bad name\n  url: h\n  up: [{filter: x}]\n",
			want: []string{
				"tidegate.yaml:1: log.colour: there is no such key; expected one of format, level",
				`tidegate.yaml:4: listen: is "5", expected a group of keys`,
				`tidegate.yaml:1: log.level: is "loud", expected debug, info, warn or error`,
				"tidegate.yaml:3: memory.limit: is 1024, expected 64MiB or more, or 0 for half of the memory",
				`tidegate.yaml:6: upstreams[0].name: is "bad name", expected 1 to 64 letters, digits, - and _`,
				`tidegate.yaml:7: upstreams[0].url: is "h", expected mqtt://HOST:PORT or mqtts://HOST:PORT`,
			}},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(t, c.text, c.flags, c.env)
			got := strings.Split(fmt.Sprint(err), "\n")
			slices.Sort(got)
			slices.Sort(c.want)
			if !slices.EqualFunc(got, c.want, func(got, want string) bool {
				start, open := strings.CutSuffix(want, "…") // the list of keys grows
				return got == want || open && strings.HasPrefix(got, start)
			}) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(c.want, "\n  "))
			}
		})
	}
}
