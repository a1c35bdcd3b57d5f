package node_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/gateway/node"
)

func TestTheExampleInTheReadmeIsValid(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, ok := strings.Cut(string(text), "```yaml\n")
	example, _, end := strings.Cut(example, "```")
	if !ok || !end {
		t.Fatal("README.md shows no configuration")
	}
	file := filepath.Join(t.TempDir(), "tidegate.yaml")
	if err := os.WriteFile(file, []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := node.LoadConfig(node.Flags{Config: file}, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Devices.Buses) != 2 || len(cfg.Rules) != 1 || len(cfg.Upstreams) != 1 {
		t.Errorf("read %d buses, %d rules, %d upstreams", len(cfg.Devices.Buses), len(cfg.Rules), len(cfg.Upstreams))
	}
}
