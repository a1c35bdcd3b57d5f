package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/test/harness"
)

// The line that enroll prints works as it stands, whatever the policy, the thing's name and the folder are.
func TestTheLineThatEnrollPrintsWorks(t *testing.T) {
	g := harness.Start(t, harness.Options{NoDev: true})
	for name, document := range map[string]string{
		"anything": `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}`,
		"narrow": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Connect"],"Resource":["arn:aws:iot:local-1:000000000000:client/${iot:Connection.Thing.ThingName}"]},
			{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:local-1:000000000000:topic/plant/*/${iot:ClientId}"}]}`,
		"mute": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Connect"],"Resource":"*"}]}`,
	} {
		file := filepath.Join(t.TempDir(), "p.json")
		if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, errOut, code := g.CLI("policy", "create", name, file); code != 0 {
			t.Fatal(errOut)
		}
	}
	for _, c := range []struct{ thing, policy, topic string }{
		{"pump:1", "", "-t pump:1/hello "},
		{"pump_2", "anything", "-t pump_2/hello "},
		{"pump-3", "narrow", "-t plant/hello/pump-3 "},
		{"pump-1", "mute", ""},
	} {
		dir := filepath.Join(t.TempDir(), "it's a folder")
		var args []string
		if c.policy != "" {
			args = []string{"--policy", c.policy}
		}
		line := enroll(t, g, c.thing, dir, args...)
		if c.topic == "" {
			if line != "" {
				t.Errorf("%s: %q for a policy that allows nothing", c.thing, line)
			}
			continue
		}
		if !strings.Contains(line, c.topic) {
			t.Errorf("%s: %q has not %q", c.thing, line, c.topic)
		}
		if out, err := exec.Command("sh", "-c", line).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", line, err, out)
		}
		for name, mode := range map[string]os.FileMode{"device.pem": 0o644, "device.key": 0o600, "ca.pem": 0o644} {
			if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode() != mode {
				t.Errorf("%s: %v, %v", name, st, err)
			}
		}
	}
}
