package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/test/harness"
)

// access is what `tidegate status --json` says of keys.
type access struct {
	Healthy  bool
	Vault    string
	Warnings []struct{ Code, Text string }
}

func statusOf(t *testing.T, g *harness.Gateway) (s access) {
	t.Helper()
	out, errOut, _ := g.CLI("status", "--json")
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("tidegate status: %v: %s%s", err, out, errOut)
	}
	return s
}

// enroll makes a thing with a certificate and returns the line that is printed to try it.
func enroll(t *testing.T, g *harness.Gateway, thing, dir string, args ...string) (line string) {
	t.Helper()
	out, errOut, code := g.CLI(append([]string{"enroll", thing, "--out", dir}, args...)...)
	if code != 0 {
		t.Fatalf("tidegate enroll %s: exit %d: %s", thing, code, errOut)
	}
	return strings.TrimSpace(out)
}

// tryOut publishes with the files in dir as a client of that id.
func tryOut(g *harness.Gateway, dir, id, topic string, args ...string) (string, error) {
	argv := append(device(g, dir, id), "-q", "1", "-t", topic, "-m", "hello")
	out, err := exec.Command("mosquitto_pub", append(argv, args...)...).CombinedOutput()
	return string(out), err
}

// device is how mosquitto's clients connect with the files in dir.
func device(g *harness.Gateway, dir, id string) []string {
	port := g.MQTTS[strings.LastIndexByte(g.MQTTS, ':')+1:]
	return []string{"-h", "localhost", "-p", port, "--cafile", filepath.Join(dir, "ca.pem"), "--cert", filepath.Join(dir, "device.pem"),
		"--key", filepath.Join(dir, "device.key"), "-i", id}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
