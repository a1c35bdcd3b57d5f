package e2e_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tidegate/hw/tpm/tpmtest"
	"tidegate/test/harness"
)

// An upstream that asks for certificates is shown one whose key is in the TPM. When the chip is lost, a recovery code that
// was made anew opens the store, and what waited goes up with another key.
func TestAnUpstreamIsShownTheKeyInTheTPM(t *testing.T) {
	chip := tpmtest.Start(t)
	vault := "identity:\n  vault: " + chip.Path() + "\n"
	g := harness.Start(t, harness.Options{NoDev: true, Config: vault})
	codes := regexp.MustCompile(`\b(?:[A-Z2-7]{4}-){7}[A-Z2-7]{4}\b`)
	first := codes.FindString(g.Stderr())
	pki := filepath.Join(g.Dir, "pki")
	if !bytes.Contains(read(t, filepath.Join(pki, "upstream.key")), []byte("TSS2 PRIVATE KEY")) {
		t.Error("the key for upstreams is not the TPM's")
	}
	ear := t.TempDir()
	enroll(t, g, "ear", ear)
	// The upstream lets in whoever shows a certificate of the local authority. Its own is the gateway's.
	server := t.TempDir()
	copyTo := func(names ...string) {
		t.Helper()
		for _, n := range names {
			if err := os.WriteFile(filepath.Join(server, n), read(t, filepath.Join(pki, n)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	copyTo("ca.pem", "server.pem", "server.key")
	up := harness.StartMosquitto(t, "cafile "+server+"/ca.pem", "certfile "+server+"/server.pem", "keyfile "+server+"/server.key",
		"require_certificate true", "use_identity_as_username true", "log_type all")
	port := up.Addr[strings.LastIndexByte(up.Addr, ':')+1:]
	g.Stop()
	config := vault + "upstreams:\n  - name: cloud\n    url: mqtts://localhost:" + port + "\n    backoff_max: 1s\n    tls: {ca: " + server + "/ca.pem, key: gateway}\n    up: [{filter: 'up/#'}]\n"
	g.SetConfig(config)
	g.Restart()
	g.Says("upstream is up")
	hear := func(want string) {
		t.Helper()
		sub := exec.CommandContext(t.Context(), "mosquitto_sub", "-h", "localhost", "-p", port, "--cafile", server+"/ca.pem", "--cert", ear+"/device.pem", "--key", ear+"/device.key",
			"-i", "ear", "-t", "up/#", "-q", "1", "-c", "-W", "20", "-C", "1")
		out, err := sub.CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("the upstream has %q, %v; want %q", out, err, want)
		}
	}
	subscribe := func() { // leaves a session that keeps what comes
		t.Helper()
		out, err := exec.Command("mosquitto_sub", "-h", "localhost", "-p", port, "--cafile", server+"/ca.pem", "--cert", ear+"/device.pem", "--key", ear+"/device.key",
			"-i", "ear", "-t", "up/#", "-q", "1", "-c", "-E").CombinedOutput()
		if err != nil {
			t.Fatalf("mosquitto_sub: %v: %s", err, out)
		}
	}
	publish := func(text string) {
		t.Helper()
		if _, errOut, code := g.CLI("pub", "up/x", "-q", "1", "-m", text); code != 0 {
			t.Fatal(errOut)
		}
	}
	subscribe()
	publish("with the first key")
	hear("with the first key")
	if out, err := exec.Command("mosquitto_pub", "-h", "localhost", "-p", port, "--cafile", server+"/ca.pem", "-t", "up/x", "-m", "x").CombinedOutput(); err == nil {
		t.Errorf("the upstream takes messages without a certificate: %s", out)
	}
	g.Stop()

	file := write(t, filepath.Join(t.TempDir(), "c.yaml"), config)
	recovery := func(stdin string, want int, says string, args ...string) (out string) {
		t.Helper()
		cmd := exec.Command(harness.Binary(t), append([]string{"recover", "--data", g.Dir, "--config", file}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		text, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want || !strings.Contains(string(text), says) {
			t.Fatalf("tidegate recover: exit %d, want %d and %q:\n%s", got, want, says, text)
		}
		return string(text)
	}
	second := codes.FindString(recovery("", 0, "the old one is void", "--new-code", "--yes"))
	if second == "" || second == first {
		t.Fatalf("the new code is %q", second)
	}
	g.Restart() // the TPM still opens the store
	up.Stop()
	publish("while it was away")
	g.Stop()
	chip.Wipe()
	recovery("", 1, "cleared or exchanged", "--new-code", "--yes")
	recovery(first+"\n", 1, "is not the one of this gateway")
	recovery(second+"\n", 0, "can be opened again")
	recovery("", 0, "makes another authority", "--new-authority", "--yes")
	g.Restart()
	g.Says("the key shown to upstreams is lost, another was made")
	copyTo("ca.pem", "server.pem", "server.key")
	ear = t.TempDir()
	enroll(t, g, "ear2", ear)
	if s := g.Status().Upstreams; len(s) != 1 || s[0].State == "up" || s[0].Lag == 0 {
		t.Errorf("while the upstream is away: %+v", s)
	}
	up.Start()
	harness.Until(t, "what waited has gone up", func() bool {
		s := g.Status().Upstreams
		return len(s) == 1 && s[0].State == "up" && s[0].Lag == 0
	})
	subscribe()
	publish("with the second key")
	hear("with the second key")
	g.Stop()
}
