package bearer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"tidegate/gateway/clock"
	"tidegate/gateway/logs"
)

const (
	maxKeys   = 256 << 10        // bytes of a JWK set
	fetchTime = 3 * time.Second  // for fetching one
	notAgain  = 30 * time.Second // between two fetches, whatever tokens ask for
)

// errNoKeys is in the chain when tokens cannot be judged, which is nobody's fault who
// shows one.
var errNoKeys = errors.New("the keys of the issuer are not known")

// keys is a JWK set that is read when it is needed.
type keys struct {
	cfg    Config
	client *http.Client
	clk    clock.Clock
	log    *slog.Logger

	mu      sync.Mutex // guards what follows; held while keys are read
	set     map[string]key
	read    time.Time // when the set was read
	tried   time.Time // when that was last tried
	failing bool
}

// key is a public key with what it may be used for.
type key struct {
	pub crypto.PublicKey
	alg string // "" for any that fits its kind
}

func newKeys(c Config, client *http.Client, clk clock.Clock, log *slog.Logger) *keys {
	return &keys{cfg: c, client: client, clk: clk, log: log}
}

// find gives the key for a token's header. An unknown key id has the set read again, as
// issuers rotate their keys, but not for every token that makes one up.
func (k *keys) find(ctx context.Context, t *jwt.Token) (any, error) {
	id, _ := t.Header["kid"].(string)
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clk.Now()
	if k.set == nil || now.Sub(k.read) >= k.cfg.Refresh {
		k.load(ctx, now)
	}
	one, ok := k.pick(id)
	if !ok && now.Sub(k.read) > notAgain {
		k.load(ctx, now)
		one, ok = k.pick(id)
	}
	switch {
	case k.set == nil:
		return nil, errNoKeys
	case !ok:
		return nil, fmt.Errorf("the issuer has no key %q", id)
	case one.alg != "" && one.alg != t.Method.Alg():
		return nil, fmt.Errorf("key %q is not for %s", id, t.Method.Alg())
	}
	// The library's methods take only keys of their own kind; a curve has its one method.
	if pub, ok := one.pub.(*ecdsa.PublicKey); ok {
		if m, ok := t.Method.(*jwt.SigningMethodECDSA); !ok || m.CurveBits != pub.Curve.Params().BitSize {
			return nil, fmt.Errorf("key %q is not for %s", id, t.Method.Alg())
		}
	}
	return one.pub, nil
}

// pick gives a key by its id; without an id, the only one there is.
func (k *keys) pick(id string) (key, bool) {
	if one, ok := k.set[id]; ok {
		return one, true
	}
	if id == "" && len(k.set) == 1 {
		for _, one := range k.set {
			return one, true
		}
	}
	return key{}, false
}

// load reads the set: from its address, else from what was kept of it, or from its file.
// When that fails the keys at hand stay.
func (k *keys) load(ctx context.Context, now time.Time) {
	if !k.tried.IsZero() && now.Sub(k.tried) < notAgain {
		return
	}
	k.tried = now
	set, err := k.fetch(ctx)
	if err == nil {
		k.set, k.read = set, now
	} else if k.set == nil && k.cfg.Cache != "" && k.remote() {
		if text, e := os.ReadFile(k.cfg.Cache); e == nil {
			if set, e := parseSet(text); e == nil {
				k.set, k.read = set, now
			}
		}
	}
	if failing := err != nil; failing != k.failing {
		k.failing = failing
		if failing {
			k.log.Warn("keys of a token issuer cannot be read", "issuer", k.cfg.Issuer, logs.Err(err))
		} else {
			k.log.Info("keys of a token issuer can be read again", "issuer", k.cfg.Issuer)
		}
	}
}

func (k *keys) remote() bool {
	return strings.HasPrefix(k.cfg.Keys, "https:") || strings.HasPrefix(k.cfg.Keys, "http:")
}

func (k *keys) fetch(ctx context.Context) (map[string]key, error) {
	if !k.remote() {
		text, err := os.ReadFile(k.cfg.Keys)
		if err != nil {
			return nil, err
		}
		return parseSet(text)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.cfg.Keys, nil)
	if err != nil {
		return nil, err
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", k.cfg.Keys, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxKeys+1))
	if err != nil {
		return nil, err
	}
	set, err := parseSet(text)
	if err == nil && k.cfg.Cache != "" {
		if e := keep(k.cfg.Cache, text); e != nil {
			k.log.Warn("keys of a token issuer cannot be kept", "issuer", k.cfg.Issuer, logs.Err(e))
		}
	}
	return set, err
}

// keep writes a file as a whole or not at all.
func keep(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// parseSet reads a JWK set (RFC 7517). Keys that are not for signatures, or of a kind
// that is not taken, are left out; secrets (oct) are of such a kind.
func parseSet(text []byte) (map[string]key, error) {
	if len(text) > maxKeys {
		return nil, fmt.Errorf("the key set has more than %d bytes", maxKeys)
	}
	var in struct{ Keys []jwk }
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, fmt.Errorf("the key set cannot be read: %w", err)
	}
	set := map[string]key{}
	for _, j := range in.Keys {
		if j.Use != "" && j.Use != "sig" {
			continue
		}
		pub, err := j.public()
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", j.ID, err)
		}
		if pub != nil {
			set[j.ID] = key{pub, j.Alg}
		}
	}
	if len(set) == 0 {
		return nil, errors.New("the key set has no key for signatures")
	}
	return set, nil
}

// jwk is a JSON Web Key (RFC 7518 §6, RFC 8037).
type jwk struct {
	Kind  string `json:"kty"`
	ID    string `json:"kid"`
	Use   string `json:"use"`
	Alg   string `json:"alg"`
	Curve string `json:"crv"`
	N     string `json:"n"`
	E     string `json:"e"`
	X     string `json:"x"`
	Y     string `json:"y"`
}

// public gives the key, nil for one of another kind.
func (j *jwk) public() (crypto.PublicKey, error) {
	switch j.Kind {
	case "RSA":
		n, e1 := decode(j.N)
		e, e2 := decode(j.E)
		if err := errors.Join(e1, e2); err != nil {
			return nil, err
		}
		exp := new(big.Int).SetBytes(e)
		pub := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exp.Int64())}
		if !exp.IsInt64() || exp.Int64() > 1<<31-1 || pub.E < 3 || pub.N.BitLen() < 2048 || pub.N.BitLen() > 8192 {
			return nil, errors.New("an RSA key has 2048 bits or more")
		}
		return pub, nil
	case "EC":
		curves := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}
		c := curves[j.Curve]
		if c == nil {
			return nil, nil
		}
		x, e1 := decode(j.X)
		y, e2 := decode(j.Y)
		if err := errors.Join(e1, e2); err != nil {
			return nil, err
		}
		size := (c.Params().BitSize + 7) / 8
		if len(x) > size || len(y) > size {
			return nil, errors.New("a coordinate is too long")
		}
		point := make([]byte, 1+2*size)
		point[0] = 4
		copy(point[1+size-len(x):], x)
		copy(point[1+2*size-len(y):], y)
		return ecdsa.ParseUncompressedPublicKey(c, point)
	case "OKP":
		x, err := decode(j.X)
		if err != nil || j.Curve != "Ed25519" {
			return nil, err
		}
		if len(x) != ed25519.PublicKeySize {
			return nil, errors.New("an Ed25519 key has 32 bytes")
		}
		return ed25519.PublicKey(x), nil
	}
	return nil, nil
}
