package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/gateway/node"
)

// A file that is wrong is told line by line, and one that is taken can be read again.
func FuzzConfigFile(f *testing.F) {
	for _, s := range []string{"", "log: {level: debug}\n", "upstreams:\n- name: a\n  url: mqtt://h\n  up: [{filter: x}]\n", "devices: {buses: [{port: /dev/x, devices: [{thing: a, profile: nmea0183}]}]}\n",
		"rules: [{name: a, sql: \"SELECT * FROM 'a'\", actions: [{republish: {topic: b}}]}]\n", "a: &x {b: *x}\n", "limits: {payload: 1e9GiB}\n", "- 1\n", "log: !!int 5\n", "? {a: b}\n: c\n", "---\n---\n", "a: |\n  b\n"} {
		f.Add(s)
	}
	none := func(string) string { return "" }
	file := filepath.Join(f.TempDir(), "tidegate.yaml")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "file:") {
			return // secrets of other files are read
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := node.LoadConfig(node.Flags{Config: file}, none)
		if err == nil {
			return
		}
		var all interface{ Unwrap() []error }
		if !errors.As(err, &all) {
			t.Fatalf("%q: %v", text, err)
		}
		for _, e := range all.Unwrap() {
			var p *node.Problem
			if !errors.As(e, &p) || p.Text == "" {
				t.Errorf("%q: %v", text, e)
			}
		}
	})
}
