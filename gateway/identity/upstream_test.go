package identity_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/identity"
)

// The key for upstreams has a certificate and a signing request from the first start on, and takes no certificate that is not its own.
func TestTheKeyForUpstreams(t *testing.T) {
	dir, clk := t.TempDir(), clocktest.New(time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC))
	vault, err := identity.FileVault(dir)
	if err != nil {
		t.Fatal(err)
	}
	open := func() *identity.Identity {
		t.Helper()
		id, err := identity.Open(vault, clk, identity.DefaultConfig(dir))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	id := open()
	own, err := id.Upstream("")
	if err != nil || own.Leaf.CheckSignatureFrom(id.CA()) != nil || len(own.Certificate) != 2 {
		t.Fatalf("its certificate: %+v, %v", own, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "upstream.csr"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if csr, err := x509.ParseCertificateRequest(block.Bytes); err != nil || csr.CheckSignature() != nil {
		t.Errorf("its signing request: %v", err)
	}
	if _, err := id.IssueCSR(string(text)); err != nil {
		t.Errorf("an authority cannot sign it: %v", err)
	}
	if again, err := open().Upstream(filepath.Join(dir, "upstream.pem")); err != nil || !again.Leaf.Equal(own.Leaf) {
		t.Errorf("a restart has made another: %v", err)
	}
	for _, file := range []string{"server.pem", "vault.key", "none"} {
		if _, err := id.Upstream(filepath.Join(dir, file)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", file, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "upstream.key"), []byte("-----BEGIN TSS2 PRIVATE KEY-----\nAAAA\n-----END TSS2 PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := open().Upstream("")
	if err != nil || other.Leaf.Equal(own.Leaf) {
		t.Errorf("after the key was lost: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "upstream.key.old")); err != nil {
		t.Errorf("the lost key is gone: %v", err)
	}
}
