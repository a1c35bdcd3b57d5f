package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tidegate/test/harness"
)

// ARCHITECTURE.md says for every queue where it is seen that it is full: those metrics are there.
func TestTheBoundsOfQueuesCanBeSeen(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(harness.Root(t), "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n## Queues\n")
	table, _, _ = strings.Cut(table, "\n## ")
	names := regexp.MustCompile("`(tidegate_[a-z0-9_]+)`").FindAllStringSubmatch(table, -1)
	if len(names) < 30 {
		t.Fatalf("the table names %d metrics", len(names))
	}
	g := harness.Start(t, harness.Options{Config: "upstreams: [{name: cloud, url: 'mqtt://127.0.0.1:1', up: [{filter: a, topic: a}]}]\n"})
	for _, name := range names {
		if _, ok := g.Metric(name[1]); !ok {
			t.Errorf("no %s", name[1])
		}
	}
	g.Stop()
}
