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

// The keys of a gateway with a TPM outlive restarts, kill -9 and power cycles of the chip, and its store is of no use
// without it. A chip that was cleared is recognised, and the recovery code brings the store and its clients back.
func TestKeysInATPM(t *testing.T) {
	chip := tpmtest.Start(t)
	g := harness.Start(t, harness.Options{NoDev: true, Config: "identity:\n  vault: " + chip.Path() + "\n"})
	codes := regexp.MustCompile(`\b(?:[A-Z2-7]{4}-){7}[A-Z2-7]{4}\b`)
	said := codes.FindAllString(g.Stderr(), -1)
	if len(said) != 1 {
		t.Fatalf("%d recovery codes were shown at the first start", len(said))
	}
	code := said[0]
	if s := statusOf(t, g); s.Vault != "tpm" || !s.Healthy {
		t.Errorf("status: %+v", s)
	}
	dir := filepath.Join(t.TempDir(), "dev")
	enroll(t, g, "sealed-pump", dir)
	authority := read(t, filepath.Join(g.Dir, "pki", "ca.pem"))
	if blob := read(t, filepath.Join(g.Dir, "pki", "ca.key")); !bytes.Contains(blob, []byte("TSS2 PRIVATE KEY")) {
		t.Error("the authority's key is not the TPM's")
	}
	works := func(when string) {
		t.Helper()
		if out, err := tryOut(g, dir, "sealed-pump", "sealed-pump/hello"); err != nil {
			t.Errorf("%s: mosquitto_pub: %v: %s", when, err, out)
		}
	}
	works("at first")

	g.Stop()
	sealedStore(t, g.Dir, "sealed-pump")
	chip.Stop() // a power cycle
	chip.Run()
	g.Restart()
	works("after a power cycle")
	g.Kill()
	g.Restart()
	works("after kill -9")
	if n := len(codes.FindAllString(g.Stderr(), -1)); n != 1 {
		t.Errorf("the recovery code was shown %d times", n)
	}
	if !bytes.Equal(read(t, filepath.Join(g.Dir, "pki", "ca.pem")), authority) {
		t.Error("a restart has made another authority")
	}
	g.Stop()

	chip.Wipe()
	g.Launch()
	if exit := g.Wait(); exit != 1 {
		t.Errorf("on a cleared TPM: exit %d, want 1", exit)
	}
	g.Says("the TPM was cleared or exchanged", "tidegate recover --data "+g.Dir)
	config := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(config, []byte("identity: {vault: "+chip.Path()+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	recovery := func(stdin string, want int, says string, args ...string) {
		t.Helper()
		cmd := exec.Command(harness.Binary(t), append([]string{"recover", "--data", g.Dir, "--config", config}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want || !strings.Contains(string(out), says) {
			t.Fatalf("tidegate recover: exit %d, want %d and %q:\n%s", got, want, says, out)
		}
	}
	recovery("AAAA"+code[4:]+"\n", 1, "is not the one of this gateway")
	recovery(strings.ToLower(strings.ReplaceAll(code, "-", " "))+"\n", 0, "can be opened again")
	g.Restart()
	works("after the recovery")
	if s := statusOf(t, g); s.Healthy || len(s.Warnings) != 1 || s.Warnings[0].Code != "vault" || !strings.Contains(s.Warnings[0].Text, "--new-authority") {
		t.Errorf("status without the authority's key: %+v", s)
	}
	if _, errOut, code := g.CLI("enroll", "late", "--out", filepath.Join(dir, "late")); code != 1 || !strings.Contains(errOut, "the key of the local authority is not available") {
		t.Errorf("enroll without the authority's key: exit %d, %s", code, errOut)
	}
	recovery(code+"\n", 1, "stop it first")
	g.Stop()

	recovery("", 0, "makes another authority", "--new-authority", "--yes")
	g.Restart()
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), read(t, filepath.Join(g.Dir, "pki", "ca.pem")), 0o600); err != nil {
		t.Fatal(err)
	}
	works("with the new authority")
	enroll(t, g, "late", filepath.Join(dir, "late"))
	g.Stop()
}

// sealedStore checks that no file of the store has a word in the clear.
func sealedStore(t *testing.T, data, word string) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(filepath.Join(data, "store"), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		n++
		if bytes.Contains(read(t, path), []byte(word)) {
			t.Errorf("%s has %q in the clear", path, word)
		}
		return nil
	})
	if err != nil || n == 0 {
		t.Errorf("%d files, %v", n, err)
	}
}

// A TPM that does not answer, or is taken out, is a warning that says what to do; the broker goes on.
func TestATPMThatIsSlowOrGone(t *testing.T) {
	chip := tpmtest.Start(t)
	g := harness.Start(t, harness.Options{NoDev: true, Config: "identity:\n  vault: " + chip.Path() + "\n"})
	dir := filepath.Join(t.TempDir(), "dev")
	enroll(t, g, "pump", dir)
	warned := func(code string) bool {
		for _, w := range g.Status().Warnings {
			if w.Code == code && strings.Contains(w.Text, "TPM") {
				return true
			}
		}
		return false
	}
	chip.Pause()
	type answer struct {
		errOut string
		code   int
	}
	late := make(chan answer, 1)
	go func() {
		_, errOut, code := g.CLI("enroll", "late", "--out", filepath.Join(dir, "late"))
		late <- answer{errOut, code}
	}()
	harness.Until(t, "the TPM is said to be slow", func() bool { return warned("vault-slow") })
	if out, err := tryOut(g, dir, "pump", "pump/hello"); err != nil {
		t.Errorf("while the TPM does not answer: %v: %s", err, out)
	}
	chip.Resume()
	if a := <-late; a.code != 0 {
		t.Errorf("enroll: exit %d: %s", a.code, a.errOut)
	}
	harness.Until(t, "the warning is gone", func() bool { return !warned("vault-slow") })

	chip.Stop()
	if _, errOut, code := g.CLI("enroll", "later", "--out", filepath.Join(dir, "later")); code != 1 || errOut == "" {
		t.Errorf("enroll without the TPM: exit %d: %s", code, errOut)
	}
	if out, err := tryOut(g, dir, "pump", "pump/hello"); err != nil {
		t.Errorf("without the TPM: %v: %s", err, out)
	}
	chip.Run()
	enroll(t, g, "again", filepath.Join(dir, "again"))
	g.Stop()
}
