package bearer_test

import (
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"tidegate/gateway/authz/bearer"
	"tidegate/gateway/clock/clocktest"
)

// signer gives a private key and the JWK set with its public half.
func signer(seed byte) (ed25519.PrivateKey, []byte) {
	private := ed25519.NewKeyFromSeed(append(make([]byte, ed25519.SeedSize-1), seed))
	set, _ := json.Marshal(map[string]any{"keys": []map[string]string{{"kty": "OKP", "kid": "d", "crv": "Ed25519", "x": b64(private.Public().(ed25519.PublicKey))}}})
	return private, set
}

// token gives one that is signed with a key.
func token(f *testing.F, key ed25519.PrivateKey) string {
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims(nil))
	t.Header["kid"] = "d"
	s, err := t.SignedString(key)
	if err != nil {
		f.Fatal(err)
	}
	return s
}

// Nothing but the one token that was signed opens the door.
func FuzzToken(f *testing.F) {
	key, set := signer(1)
	foreign, _ := signer(2)
	file := filepath.Join(f.TempDir(), "jwks.json")
	if err := os.WriteFile(file, set, 0o600); err != nil {
		f.Fatal(err)
	}
	v := bearer.New(config(file), nil, clocktest.New(start), slog.New(slog.DiscardHandler))
	good := token(f, key)
	for _, s := range []string{good, token(f, foreign), good + ".", "a.b.c", "..", "eyJhbGciOiJub25lIn0.e30."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ask(t, v, s)
		if err != nil {
			t.Fatal(err)
		}
		if a.In != (s == good) {
			t.Errorf("%q: in: %v", s, a.In)
		}
	})
}

// Whatever an issuer's address answers, no token of somebody else is taken for it.
func FuzzKeySet(f *testing.F) {
	_, set := signer(1)
	foreign, _ := signer(2)
	bad := token(f, foreign)
	for _, s := range []string{string(set), `{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`, `{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`, `{"keys":null}`, `[]`, ``} {
		f.Add(s)
	}
	file := filepath.Join(f.TempDir(), "jwks.json")
	f.Fuzz(func(t *testing.T, s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		v := bearer.New(config(file), nil, clocktest.New(start), slog.New(slog.DiscardHandler))
		if a, err := ask(t, v, bad); err == nil && a.In {
			t.Errorf("a foreign token is taken with %q", s)
		}
	})
}
