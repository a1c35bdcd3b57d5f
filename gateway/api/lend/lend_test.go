package lend_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"tidegate/gateway/api/lend"
	"tidegate/gateway/authz"
	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/registry"
	"tidegate/gateway/store"
)

const mayHave = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:AssumeRoleWithCertificate","Resource":"*"}}`

func openRegistry(t *testing.T, clk *clocktest.Manual) *registry.Registry {
	t.Helper()
	cfg := store.DefaultConfig(t.TempDir())
	cfg.LogFileSize, cfg.Ballast = 1<<20, -1
	db, err := store.Open(cfg, clk)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- db.Run(ctx, func() {}) }()
	t.Cleanup(func() { cancel(); <-ended; db.Close() })
	reg, err := registry.Open(db, clk, registry.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

// certificate makes one that may have credentials of the role that the alias web stands for.
func certificate(t *testing.T, reg *registry.Registry, now time.Time) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	x, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	err = reg.Do("test", func(tx *registry.Tx) error {
		c, err := tx.AddCertificate(registry.CertificateInput{PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), Status: registry.Active, Mode: registry.ModeDefault})
		if err != nil {
			return err
		}
		_, e1 := tx.CreatePolicy("web", mayHave, nil)
		return errors.Join(e1, tx.AttachPolicy("web", reg.ARN("cert", c.ID)), tx.CreateRoleAlias(registry.RoleAlias{Name: "web", Role: "arn:aws:iam::000000000000:role/web"}))
	})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestNothingIsHandedOutThatIsNotWrittenDown(t *testing.T) {
	clk := clocktest.New(time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC))
	reg := openRegistry(t, clk)
	x := certificate(t, reg, clk.Now())
	az := authz.New(reg, clk, authz.Config{})
	az.Lends(func() ([]byte, error) { return make([]byte, 32), nil })
	var refused []string
	az.OnRefused(func(r authz.Refusal) { refused = append(refused, r.What+" "+r.Principal) })
	var full error
	var written []string
	door := lend.New(lend.Deps{Auth: az, Clock: clk, Record: func(to *authz.Loan, what *authz.Lent) error {
		if full == nil {
			written = append(written, to.Alias+" "+what.AccessKey)
		}
		return full
	}})
	ask := func(path string, peers ...*x509.Certificate) (int, string, string) {
		t.Helper()
		req := httptest.NewRequest("GET", path, nil)
		req.TLS = &tls.ConnectionState{PeerCertificates: peers}
		if !door.Serves(req) {
			t.Fatalf("%s is not served", path)
		}
		w := httptest.NewRecorder()
		door.ServeHTTP(w, req)
		var out struct {
			Credentials struct{ AccessKeyID, Expiration string }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			t.Fatalf("%v: %s", err, w.Body)
		}
		return w.Code, out.Credentials.AccessKeyID, out.Credentials.Expiration
	}
	status, first, end := ask("/role-aliases/web/credentials", x)
	if status != 200 || end != "2026-05-04T13:00:00Z" || len(written) != 1 || written[0] != "web "+first {
		t.Errorf("%d %s %s, written %v", status, first, end, written)
	}
	clk.Advance(59 * time.Second)
	if _, again, _ := ask("/role-aliases/web/credentials", x); again != first || len(written) != 1 {
		t.Errorf("within a minute: %s, written %v", again, written)
	}
	clk.Advance(time.Second)
	full = fault.New(fault.Full, "no room")
	if status, key, _ := ask("/role-aliases/web/credentials", x); status != http.StatusServiceUnavailable || key != "" {
		t.Errorf("with a full disk: %d %s", status, key)
	}
	full = nil
	if _, next, _ := ask("/role-aliases/web/credentials", x); next == first || len(written) != 2 {
		t.Errorf("after a minute: %s, written %v", next, written)
	}
	refused = nil
	if status, _, _ := ask("/role-aliases/none/credentials", x); status != http.StatusNotFound {
		t.Errorf("an unknown alias: %d", status)
	}
	if status, _, _ := ask("/role-aliases/web/credentials"); status != http.StatusForbidden {
		t.Errorf("nobody: %d", status)
	}
	if len(refused) != 2 || refused[0] != "AssumeRoleWithCertificate "+registry.CertificateID(x) || refused[1] != "AssumeRoleWithCertificate " {
		t.Errorf("refused %q", refused)
	}
}
