package bearer_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"tidegate/gateway/authz/bearer"
	"tidegate/gateway/clock/clocktest"
)

var start = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// idp is an identity provider.
type idp struct {
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
	ed  ed25519.PrivateKey
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	r, e1 := rsa.GenerateKey(rand.Reader, 2048)
	e, e2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, ed, e3 := ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(e1, e2, e3); err != nil {
		t.Fatal(err)
	}
	return &idp{r, e, ed}
}

func (i *idp) set() []byte {
	point, _ := i.ec.PublicKey.Bytes()
	text, _ := json.Marshal(map[string]any{"keys": []map[string]string{
		{"kty": "RSA", "kid": "r", "use": "sig", "n": b64(i.rsa.N.Bytes()), "e": "AQAB"},
		{"kty": "EC", "kid": "e", "alg": "ES256", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])},
		{"kty": "OKP", "kid": "d", "crv": "Ed25519", "x": b64(i.ed.Public().(ed25519.PublicKey))},
		{"kty": "oct", "kid": "o", "k": b64([]byte("secret"))},
		{"kty": "RSA", "kid": "enc", "use": "enc", "n": b64(i.rsa.N.Bytes()), "e": "AQAB"},
	}})
	return text
}

func claims(change func(jwt.MapClaims)) jwt.MapClaims {
	c := jwt.MapClaims{"iss": "https://idp.example", "aud": "gateway", "sub": "ada", "exp": start.Add(time.Hour).Unix(), "iat": start.Unix(), "site": "north", "groups": []string{"a", "b"}}
	if change != nil {
		change(c)
	}
	return c
}

func sign(t *testing.T, m jwt.SigningMethod, kid string, key any, c jwt.MapClaims) string {
	t.Helper()
	tok := jwt.NewWithClaims(m, c)
	if kid != "" {
		tok.Header["kid"] = kid
	}
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const document = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"arn:aws:iot:*:*:topic/${claim:site}/*"}]}`

func config(keys string) bearer.Config {
	return bearer.Config{Issuer: "https://idp.example", Audience: []string{"gateway"}, Keys: keys, Policies: []string{document}}
}

type answer struct {
	In      bool           `json:"isAuthenticated"`
	ID      string         `json:"principalId"`
	Expires int64          `json:"expiresAt"`
	Claims  map[string]any `json:"claims"`
}

func ask(t *testing.T, v *bearer.Verifier, token string) (answer, error) {
	t.Helper()
	event, _ := json.Marshal(map[string]any{"token": token})
	text, err := v.Call(t.Context(), event)
	var a answer
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	return a, err
}

func TestTokensThatAreTakenAndThoseThatAreNot(t *testing.T) {
	i, foreign := newIDP(t), newIDP(t)
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, i.set(), 0o600); err != nil {
		t.Fatal(err)
	}
	clk := clocktest.New(start)
	v := bearer.New(config(file), nil, clk, slog.New(slog.DiscardHandler))
	der, _ := x509.MarshalPKIXPublicKey(&i.rsa.PublicKey)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	good := sign(t, jwt.SigningMethodRS256, "r", i.rsa, claims(nil))
	parts := strings.Split(good, ".")
	with := func(k string, val any) jwt.MapClaims { return claims(func(c jwt.MapClaims) { c[k] = val }) }
	for _, c := range []struct {
		name, token string
		in          bool
	}{
		{"RS256", good, true},
		{"PS256", sign(t, jwt.SigningMethodPS256, "r", i.rsa, claims(nil)), true},
		{"ES256", sign(t, jwt.SigningMethodES256, "e", i.ec, claims(nil)), true},
		{"EdDSA", sign(t, jwt.SigningMethodEdDSA, "d", i.ed, claims(nil)), true},
		{"a list of audiences", sign(t, jwt.SigningMethodRS256, "r", i.rsa, with("aud", []string{"x", "gateway"})), true},
		{"nothing", "", false},
		{"no token at all", "garbage", false},
		{"alg none", sign(t, jwt.SigningMethodNone, "r", jwt.UnsafeAllowNoneSignatureType, claims(nil)), false},
		{"alg none, another spelling", b64([]byte(`{"alg":"NoNe","typ":"JWT"}`)) + "." + parts[1] + ".", false},
		{"no signature", parts[0] + "." + parts[1] + ".", false},
		{"the public key as a secret", sign(t, jwt.SigningMethodHS256, "r", public, claims(nil)), false},
		{"the secret of the set", sign(t, jwt.SigningMethodHS256, "o", []byte("secret"), claims(nil)), false},
		{"a key for another algorithm", sign(t, jwt.SigningMethodES256, "r", i.ec, claims(nil)), false},
		{"a key for encryption", sign(t, jwt.SigningMethodRS256, "enc", i.rsa, claims(nil)), false},
		{"a foreign key", sign(t, jwt.SigningMethodRS256, "r", foreign.rsa, claims(nil)), false},
		{"an unknown key id", sign(t, jwt.SigningMethodRS256, "x", i.rsa, claims(nil)), false},
		{"other claims under the signature", parts[0] + "." + b64([]byte(`{"iss":"https://idp.example","aud":"gateway","sub":"eve","exp":9999999999}`)) + "." + parts[2], false},
		{"another issuer", sign(t, jwt.SigningMethodRS256, "r", i.rsa, with("iss", "https://evil.example")), false},
		{"another audience", sign(t, jwt.SigningMethodRS256, "r", i.rsa, with("aud", "shop")), false},
		{"expired", sign(t, jwt.SigningMethodRS256, "r", i.rsa, with("exp", start.Add(-time.Minute).Unix())), false},
		{"no end", sign(t, jwt.SigningMethodRS256, "r", i.rsa, claims(func(c jwt.MapClaims) { delete(c, "exp") })), false},
		{"not yet", sign(t, jwt.SigningMethodRS256, "r", i.rsa, with("nbf", start.Add(time.Hour).Unix())), false},
		{"no subject", sign(t, jwt.SigningMethodRS256, "r", i.rsa, with("sub", "")), false},
	} {
		a, err := ask(t, v, c.token)
		if err != nil || a.In != c.in {
			t.Errorf("%s: %+v, %v", c.name, a, err)
		}
		if c.in && (a.ID != "ada" || a.Expires != start.Add(time.Hour).Unix() || a.Claims["site"] != "north") {
			t.Errorf("%s: %+v", c.name, a)
		}
	}
	long, _ := ask(t, v, sign(t, jwt.SigningMethodRS256, "r", i.rsa, with("sub", strings.Repeat("ab", 32))))
	mail, _ := ask(t, v, sign(t, jwt.SigningMethodRS256, "r", i.rsa, with("sub", "ada@example.com")))
	if len(long.ID) != 35 || !strings.HasPrefix(long.ID, "jwt") || len(mail.ID) != 35 || long.ID == mail.ID {
		t.Errorf("names %q and %q", long.ID, mail.ID)
	}
}

func TestKeysAreFetchedKeptAndRotated(t *testing.T) {
	first, second := newIDP(t), newIDP(t)
	var now atomic.Pointer[idp]
	var fetched atomic.Int32
	now.Store(first)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fetched.Add(1); w.Write(now.Load().set()) }))
	defer srv.Close()
	clk, log := clocktest.New(start), slog.New(slog.DiscardHandler)
	c := config(srv.URL)
	c.Cache = filepath.Join(t.TempDir(), "keys", "idp.json")
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	token := func(i *idp) string { return sign(t, jwt.SigningMethodRS256, "r", i.rsa, with(clk.Now())) }
	v := bearer.New(c, srv.Client(), clk, log)
	for range 3 {
		if a, err := ask(t, v, token(first)); err != nil || !a.In {
			t.Fatalf("got %+v, %v", a, err)
		}
	}
	for range 50 { // made-up ids are no reason to ask again and again
		ask(t, v, sign(t, jwt.SigningMethodRS256, "made-up", first.rsa, claims(nil)))
	}
	if n := fetched.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
	now.Store(second)
	clk.Advance(time.Hour + time.Second)
	if a, err := ask(t, v, token(second)); err != nil || !a.In {
		t.Errorf("after a rotation: %+v, %v", a, err)
	}
	srv.Close()
	clk.Advance(48 * time.Hour)
	if a, err := ask(t, v, token(second)); err != nil || !a.In {
		t.Errorf("without the issuer: %+v, %v", a, err)
	}
	again := bearer.New(c, srv.Client(), clk, log) // after a restart, still without
	if a, err := ask(t, again, token(second)); err != nil || !a.In {
		t.Errorf("from what was kept: %+v, %v", a, err)
	}
	c.Cache = ""
	if _, err := ask(t, bearer.New(c, srv.Client(), clk, log), token(second)); err == nil {
		t.Error("without any keys there is an answer")
	}
}

func with(at time.Time) jwt.MapClaims {
	return claims(func(c jwt.MapClaims) { c["exp"], c["iat"] = at.Add(time.Hour).Unix(), at.Unix() })
}

func TestConfigurationsThatCannotBe(t *testing.T) {
	err := bearer.Config{Keys: "http://idp.example/keys", Policies: []string{"{}"}}.Validate()
	for _, want := range []string{"issuer:", "audience:", "keys:", "policies[0]:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: nothing about %s", err, want)
		}
	}
}
