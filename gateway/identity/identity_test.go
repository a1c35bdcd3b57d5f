package identity_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/identity"
	"tidegate/hw/tpm"
	"tidegate/hw/tpm/tpmtest"
)

var start = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// vaults runs a test on each kind of vault. open opens it anew, as a restart does.
func vaults(t *testing.T, fn func(t *testing.T, dir string, open func() identity.Vault)) {
	t.Run("file", func(t *testing.T) {
		dir := t.TempDir()
		fn(t, dir, func() identity.Vault {
			v, err := identity.FileVault(dir)
			if err != nil {
				t.Fatal(err)
			}
			return v
		})
	})
	t.Run("tpm", func(t *testing.T) {
		dir, chip := t.TempDir(), tpmtest.Start(t)
		fn(t, dir, func() identity.Vault {
			chip.Stop()
			chip.Run()
			v, err := identity.TPMVault(chip.Path(), dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			return v
		})
	})
}

func open(t *testing.T, v identity.Vault, clk *clocktest.Manual, dir string) *identity.Identity {
	t.Helper()
	id, err := identity.Open(v, clk, identity.DefaultConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// handshake connects a client that trusts the authority and judges by its own time.
func handshake(t *testing.T, id *identity.Identity, name string, at time.Time) error {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if c, err := ln.Accept(); err == nil {
			s := tls.Server(c, id.ServerTLS())
			s.Handshake() //nolint:errcheck // the client says it
			s.Close()
		}
	}()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(id.CAPEM())
	c, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{RootCAs: pool, ServerName: name, Time: func() time.Time { return at }})
	if err == nil {
		io.Copy(io.Discard, c) //nolint:errcheck // waits for the server's close
		c.Close()
	}
	<-ended
	return err
}

func TestTheAuthorityAndItsKeysSurviveARestart(t *testing.T) {
	vaults(t, func(t *testing.T, dir string, vault func() identity.Vault) {
		clk := clocktest.New(start)
		id := open(t, vault(), clk, dir)
		up, err := id.Key("upstream")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
			if err := handshake(t, id, name, start); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		server, _ := os.ReadFile(filepath.Join(dir, "server.pem"))
		again := open(t, vault(), clk, dir)
		if !bytes.Equal(again.CAPEM(), id.CAPEM()) {
			t.Error("another authority")
		}
		if now, _ := os.ReadFile(filepath.Join(dir, "server.pem")); !bytes.Equal(now, server) {
			t.Error("the server certificate was renewed without need")
		}
		upAgain, err := again.Key("upstream")
		if err != nil || !upAgain.Public().(*ecdsa.PublicKey).Equal(up.Public()) {
			t.Errorf("the upstream key: %v", err)
		}
		for file, mode := range map[string]os.FileMode{"ca.pem": 0o644, "server.pem": 0o644, "ca.key": 0o600, "server.key": 0o600, "upstream.key": 0o600} {
			if st, err := os.Stat(filepath.Join(dir, file)); err != nil || st.Mode().Perm() != mode {
				t.Errorf("%s: %v, %v, want mode %v", file, st, err, mode)
			}
		}
	})
}

func TestServerCertificateIsRenewedWithoutDroppingConnections(t *testing.T) {
	clk := clocktest.New(start)
	dir := t.TempDir()
	v, err := identity.FileVault(dir)
	if err != nil {
		t.Fatal(err)
	}
	id := open(t, v, clk, dir)
	cfg := id.ServerTLS()
	first, _ := cfg.GetCertificate(nil)
	ends := id.ServerExpires()
	for day := 1; day <= 400; day++ {
		clk.Advance(24 * time.Hour)
		if err := id.Renew(); err != nil {
			t.Fatal(err)
		}
		if left := id.ServerExpires().Sub(clk.Now()); left < 30*24*time.Hour-time.Hour {
			t.Fatalf("day %d: %v left", day, left)
		}
		if day == 59 && !id.ServerExpires().Equal(ends) {
			t.Error("renewed too early")
		}
		if day == 61 {
			if id.ServerExpires().Equal(ends) {
				t.Error("not renewed when two thirds were over")
			}
			if clk.Now().After(first.Leaf.NotAfter) {
				t.Error("no overlap")
			}
		}
	}
	if err := handshake(t, id, "localhost", clk.Now()); err != nil {
		t.Error(err)
	}
	cfg2 := identity.DefaultConfig(dir)
	cfg2.Names = []string{"Gw.Example", "192.0.2.7"}
	more, err := identity.Open(v, clk, cfg2)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gw.example", "192.0.2.7", "localhost"} {
		if err := handshake(t, more, name, clk.Now()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A board without a battery starts in 1970 after a year offline; its clients know the
// date.
func TestNothingExpiresByBeingOffline(t *testing.T) {
	dir := t.TempDir()
	v, err := identity.FileVault(dir)
	if err != nil {
		t.Fatal(err)
	}
	clk := clocktest.New(start)
	open(t, v, clk, dir)
	later := start.Add(400 * 24 * time.Hour)
	reset := clocktest.New(time.Unix(60, 0))
	reset.SetTrusted(false)
	os.Remove(filepath.Join(dir, "server.pem"))
	id := open(t, v, reset, dir)
	if err := handshake(t, id, "localhost", later); err != nil {
		t.Errorf("a client that knows the date: %v", err)
	}
	text, err := id.IssueCSR(csr(t, nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	if c := parse(t, text); !c.NotBefore.Before(start) || c.NotAfter.Year() != 2049 {
		t.Errorf("a device's certificate made in 1970: %v to %v", c.NotBefore, c.NotAfter)
	}
	reset.Set(later)
	reset.SetTrusted(true)
	if err := id.Renew(); err != nil {
		t.Fatal(err)
	}
	if left := id.ServerExpires().Sub(later); left > 90*24*time.Hour {
		t.Errorf("the lasting server certificate stays although the date is known: %v", left)
	}
}

// The certificate that was in use when the clock was lost has expired, as far as anybody
// else can tell. It is replaced by one that lasts.
func TestAnExpiredServerCertificateDoesNotSurviveALostClock(t *testing.T) {
	dir := t.TempDir()
	v, err := identity.FileVault(dir)
	if err != nil {
		t.Fatal(err)
	}
	open(t, v, clocktest.New(start), dir)
	reset := clocktest.New(time.Unix(60, 0))
	reset.SetTrusted(false)
	id := open(t, v, reset, dir)
	if err := handshake(t, id, "localhost", start.Add(400*24*time.Hour)); err != nil {
		t.Error(err)
	}
}

func csr(t *testing.T, key any, change func(*x509.CertificateRequest)) string {
	t.Helper()
	if key == nil {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key = k
	}
	tpl := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "dev", Organization: []string{"a", "b"}, SerialNumber: "77"}}
	if change != nil {
		change(tpl)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, tpl, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func parse(t *testing.T, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestIssuing(t *testing.T) {
	vaults(t, func(t *testing.T, dir string, vault func() identity.Vault) {
		id := open(t, vault(), clocktest.New(start), dir)
		request := csr(t, nil, nil)
		one, err := id.IssueCSR(request)
		if err != nil {
			t.Fatal(err)
		}
		two, err := id.IssueCSR(request)
		if err != nil || one == two {
			t.Errorf("the same request again: %v", err)
		}
		c := parse(t, one)
		if c.Subject.CommonName != "dev" || len(c.Subject.Organization) != 2 || c.Subject.SerialNumber != "77" || c.IsCA {
			t.Errorf("subject: %v", c.Subject)
		}
		if err := c.CheckSignatureFrom(id.CA()); err != nil {
			t.Error(err)
		}
		pair, err := id.IssueKeys(0)
		if err != nil {
			t.Fatal(err)
		}
		tlsPair, err := tls.X509KeyPair([]byte(pair.Certificate), []byte(pair.PrivateKey))
		if err != nil {
			t.Fatal(err)
		}
		if n := tlsPair.PrivateKey.(*rsa.PrivateKey).N.BitLen(); n != 2048 {
			t.Errorf("a key of %d bits", n)
		}
		if !strings.Contains(pair.PublicKey, "BEGIN PUBLIC KEY") || !strings.Contains(pair.PrivateKey, "BEGIN RSA PRIVATE KEY") {
			t.Error("keys in an unusual form")
		}
		claim, err := id.IssueKeys(5 * time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if c := parse(t, claim.Certificate); !c.NotAfter.Equal(start.Add(5 * time.Minute)) {
			t.Errorf("a claim until %v", c.NotAfter)
		}
	})
}

func TestUnsoundRequestsAreRefused(t *testing.T) {
	dir := t.TempDir()
	v, err := identity.FileVault(dir)
	if err != nil {
		t.Fatal(err)
	}
	id := open(t, v, clocktest.New(start), dir)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	short, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := csr(t, nil, nil)
	block, _ := pem.Decode([]byte(good))
	block.Bytes[len(block.Bytes)-5] ^= 1
	for name, text := range map[string]string{
		"empty": "", "junk": "junk", "too long": good + strings.Repeat("\n", 9000), "a weak RSA key": csr(t, weak, nil), "a short curve": csr(t, short, nil),
		"another kind of PEM": strings.ReplaceAll(good, "CERTIFICATE REQUEST", "CERTIFICATE"), "a broken signature": string(pem.EncodeToMemory(block)),
		"cut off": string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes[:50]})),
	} {
		if _, err := id.IssueCSR(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want fault.Invalid", name, err)
		}
	}
}

func TestStorageKey(t *testing.T) {
	vaults(t, func(t *testing.T, dir string, vault func() identity.Vault) {
		key, code, err := identity.StorageKey(vault(), dir)
		if err != nil || len(key) != 32 || len(code) != 39 {
			t.Fatalf("%d bytes, code of %d, %v", len(key), len(code), err)
		}
		again, none, err := identity.StorageKey(vault(), dir)
		if err != nil || !bytes.Equal(key, again) || none != "" {
			t.Errorf("again: %v, %q", err, none)
		}
		for _, file := range []string{"storage.key", "storage.recovery"} {
			b, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil || bytes.Contains(b, key) {
				t.Errorf("%s: %v, or the key stands in it", file, err)
			}
		}
		os.Remove(filepath.Join(dir, "storage.key"))
		if _, _, err := identity.StorageKey(vault(), dir); !fault.Is(err, fault.Unavailable) {
			t.Errorf("with the sealed key gone: %v, want fault.Unavailable", err)
		}
		if err := identity.RecoverStorageKey(vault(), dir, strings.Repeat("AAAA-", 7)+"AAAA"); !fault.Is(err, fault.Forbidden) {
			t.Errorf("another code: %v", err)
		}
		if err := identity.RecoverStorageKey(vault(), dir, "short"); !fault.Is(err, fault.Invalid) {
			t.Errorf("a short code: %v", err)
		}
		if err := identity.RecoverStorageKey(vault(), dir, " "+strings.ToLower(strings.ReplaceAll(code, "-", " "))); err != nil {
			t.Fatal(err)
		}
		if again, _, err := identity.StorageKey(vault(), dir); err != nil || !bytes.Equal(key, again) {
			t.Errorf("recovered: %v", err)
		}
	})
}

func TestAClearedTPMIsTroubleButNotTheEnd(t *testing.T) {
	dir, chip := t.TempDir(), tpmtest.Start(t)
	clk := clocktest.New(start)
	v, err := identity.TPMVault(chip.Path(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	open(t, v, clk, dir)
	key, code, err := identity.StorageKey(v, dir)
	if err != nil {
		t.Fatal(err)
	}
	chip.Wipe()
	if _, err := identity.TPMVault(chip.Path(), dir, nil); !errors.Is(err, tpm.ErrOther) {
		t.Fatalf("got %v, want tpm.ErrOther", err)
	}
	id := open(t, nil, clk, dir)
	if id.Trouble() == nil || id.Vault() != "none" {
		t.Error("no trouble")
	}
	if err := handshake(t, id, "localhost", start); err != nil {
		t.Errorf("the doors are shut: %v", err)
	}
	if _, err := id.IssueKeys(0); !fault.Is(err, fault.Unavailable) {
		t.Errorf("issuing: %v", err)
	}
	if _, err := id.Key("upstream"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("the upstream key: %v", err)
	}
	os.Remove(filepath.Join(dir, "tpm.root")) // the operator accepts the new chip
	fresh, err := identity.TPMVault(chip.Path(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if id := open(t, fresh, clk, dir); id.Trouble() == nil {
		t.Error("the old authority's key was opened by a new chip")
	}
	if _, _, err := identity.StorageKey(fresh, dir); !fault.Is(err, fault.Unavailable) {
		t.Errorf("storage key: %v, want fault.Unavailable", err)
	}
	if err := identity.RecoverStorageKey(fresh, dir, code); err != nil {
		t.Fatal(err)
	}
	if again, _, err := identity.StorageKey(fresh, dir); err != nil || !bytes.Equal(key, again) {
		t.Errorf("recovered: %v", err)
	}
	if _, err := identity.Open(nil, clk, identity.DefaultConfig(t.TempDir())); err == nil {
		t.Error("an authority without a vault")
	}
}

// With another chip the recovery code opens the store again, and a wrong one changes
// nothing; another authority is made only when somebody wants it.
func TestAnotherChipAndAnotherAuthority(t *testing.T) {
	chip := tpmtest.Start(t)
	dir := t.TempDir()
	open := func() (identity.Vault, error) {
		v, err := identity.OpenVault(chip.Path(), dir, nil)
		if err == nil {
			t.Cleanup(func() { v.(io.Closer).Close() })
		}
		return v, err
	}
	if identity.HasStorageKey(dir) {
		t.Error("a key before there is one")
	}
	v, err := open()
	if err != nil {
		t.Fatal(err)
	}
	key, code, err := identity.StorageKey(v, dir)
	if err != nil || !identity.HasStorageKey(dir) {
		t.Fatal(err)
	}
	v.(io.Closer).Close()
	chip.Wipe()
	if _, err := open(); !errors.Is(err, tpm.ErrOther) {
		t.Fatalf("a cleared chip: %v", err)
	}
	if err := identity.Recover(chip.Path(), dir, nil, "AAAA"+code[4:]); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a wrong code: %v", err)
	}
	if _, err := open(); !errors.Is(err, tpm.ErrOther) {
		t.Errorf("a wrong code has changed something: %v", err)
	}
	if err := identity.Recover(chip.Path(), dir, nil, code); err != nil {
		t.Fatal(err)
	}
	if v, err = open(); err != nil {
		t.Fatal(err)
	}
	if again, code, err := identity.StorageKey(v, dir); err != nil || !bytes.Equal(again, key) || code != "" {
		t.Errorf("the key after the recovery: %v", err)
	}

	a, err := identity.Open(v, clocktest.New(start), identity.DefaultConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := identity.NewAuthority(dir); err != nil {
		t.Fatal(err)
	}
	b, err := identity.Open(v, clocktest.New(start), identity.DefaultConfig(dir))
	if err != nil || b.Trouble() != nil || b.CA().Equal(a.CA()) {
		t.Errorf("another authority: %v, %v", err, b.Trouble())
	}
}

func TestSecretsSurviveARestartAndAreReplacedWhenTheyCannotBeOpened(t *testing.T) {
	vaults(t, func(t *testing.T, dir string, vault func() identity.Vault) {
		clk := clocktest.New(start)
		secret := func() []byte {
			t.Helper()
			s, err := open(t, vault(), clk, dir).Secret("sessions")
			if err != nil || len(s) != 32 {
				t.Fatalf("%d bytes, %v", len(s), err)
			}
			return s
		}
		first := secret()
		if !bytes.Equal(secret(), first) {
			t.Error("it is another one after a restart")
		}
		path := filepath.Join(dir, "sessions.secret")
		blob, err := os.ReadFile(path)
		if info, e := os.Stat(path); err != nil || e != nil || info.Mode().Perm() != 0o600 || bytes.Contains(blob, first) {
			t.Errorf("the file: %v, %v, %v", info, err, e)
		}
		if err := os.WriteFile(path, blob[:len(blob)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		next := secret()
		if bytes.Equal(next, first) || !bytes.Equal(secret(), next) {
			t.Error("what cannot be opened is not replaced for good")
		}
	})
}
