package node_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/gateway/node"
)

// example loads the nth configuration that README.md shows, from 0.
func example(t *testing.T, n int) node.Config {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := strings.Split(string(text), "```yaml\n")
	if len(shown) < n+2 {
		t.Fatalf("README.md shows %d configurations", len(shown)-1)
	}
	example, _, end := strings.Cut(shown[n+1], "```")
	if !end {
		t.Fatal("README.md has a configuration without an end")
	}
	file := filepath.Join(t.TempDir(), "tidegate.yaml")
	if err := os.WriteFile(file, []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := node.LoadConfig(node.Flags{Config: file}, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestTheExampleInTheReadmeIsValid(t *testing.T) {
	cfg := example(t, 0)
	if len(cfg.Devices.Buses) != 2 || len(cfg.Rules) != 1 || len(cfg.Upstreams) != 1 {
		t.Errorf("read %d buses, %d rules, %d upstreams", len(cfg.Devices.Buses), len(cfg.Rules), len(cfg.Upstreams))
	}
}

func TestThePinsInTheReadmeAreValid(t *testing.T) {
	cfg := example(t, 1)
	if b := cfg.Devices.Buses; len(b) != 2 || b[0].Devices[0].Address != 0x76 || len(cfg.Devices.Profiles["hall"].Points) != 3 {
		t.Errorf("read %+v", cfg.Devices)
	}
}
