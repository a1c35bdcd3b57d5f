// Package bearer verifies JSON Web Tokens for a custom authorizer, without any code of
// the operator's: who issued them, for whom, and what their holders may do is
// configuration.
//
// A [Verifier] is a function for gateway/callout: it takes the event of a custom
// authorizer and answers as one. Its keys are a JWK set in a file or at an address; what
// was fetched is kept in a file, so that a gateway without its identity provider goes on.
// What a token claims stands in policies as ${claim:NAME}.
//
// Only signatures by a key of the set are taken, only by the algorithm that fits the kind
// of that key, and never one with a shared secret: "none", and a public key used as a
// secret, are not tokens.
//
//	v, err := bearer.New(bearer.Config{Issuer: "https://idp.example", Audience: []string{"gateway"}, Keys: "/etc/tidegate/jwks.json", …}, clk, log)
//	set.Add("staff", v.Call)
//
// Sources: RFC 7515, 7517, 7518, 7519, 8725.
package bearer

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"tidegate/gateway/clock"
	"tidegate/gateway/policy"
)

// Config says which tokens are taken and what they are good for.
type Config struct {
	Issuer    string        `yaml:"issuer"`    // claim iss
	Audience  []string      `yaml:"audience"`  // one of these is in the claim aud
	Keys      string        `yaml:"keys"`      // JWK set: a file, or an https address
	Roots     string        `yaml:"roots"`     // file with the authorities to trust for that address; empty for the system's
	Principal string        `yaml:"principal"` // claim with the name of the client; empty for sub
	Policies  []string      `yaml:"policies"`  // policy documents; ${claim:NAME} in them stands for what the token claims
	Leeway    time.Duration `yaml:"leeway"`    // by which clocks may differ
	Refresh   time.Duration `yaml:"refresh"`   // how old keys from an address get before they are fetched again
	Cache     string        `yaml:"-"`         // file for the keys that were fetched
}

// The defaults of what is zero.
const (
	defaultLeeway  = 30 * time.Second
	defaultRefresh = time.Hour
)

// Set says whether there is a configuration at all.
func (c Config) Set() bool { return c.Issuer != "" || c.Keys != "" || len(c.Audience) > 0 }

// Validate says what is impossible in c. It reads no file.
func (c Config) Validate() error {
	var errs []error
	no := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Issuer == "" {
		no("issuer: is empty, expected the claim iss of the tokens")
	}
	if len(c.Audience) == 0 || slices.Contains(c.Audience, "") {
		no("audience: is empty, expected the claim aud of the tokens")
	}
	u, err := url.Parse(c.Keys)
	if err != nil || u.Scheme != "https" && !loopback(u) && !filepath.IsAbs(c.Keys) {
		no("keys: is %q, expected a file with its whole path, or an https address", c.Keys)
	}
	if len(c.Policies) == 0 {
		no("policies: there are none, expected policy documents")
	}
	for i, p := range c.Policies {
		if _, err := policy.Parse([]byte(p)); err != nil {
			no("policies[%d]: %w", i, err)
		}
	}
	if c.Leeway < 0 || c.Refresh < 0 {
		no("leeway, refresh: must not be negative")
	}
	return errors.Join(errs...)
}

// loopback says whether keys come from this machine, where http does no harm.
func loopback(u *url.URL) bool {
	return u.Scheme == "http" && (u.Hostname() == "127.0.0.1" || u.Hostname() == "::1" || u.Hostname() == "localhost")
}

// algorithms are those taken: signatures with a private key.
var algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// Verifier verifies tokens. Its methods may be called concurrently.
type Verifier struct {
	cfg    Config
	clk    clock.Clock
	keys   *keys
	parser *jwt.Parser
}

// New makes a Verifier. Keys are read when the first token comes.
func New(c Config, client *http.Client, clk clock.Clock, log *slog.Logger) *Verifier {
	if c.Principal == "" {
		c.Principal = "sub"
	}
	if c.Leeway == 0 {
		c.Leeway = defaultLeeway
	}
	if c.Refresh == 0 {
		c.Refresh = defaultRefresh
	}
	// Dates are judged here: the library cannot tell a clock that is not to be trusted.
	return &Verifier{cfg: c, clk: clk, keys: newKeys(c, client, clk, log),
		parser: jwt.NewParser(jwt.WithValidMethods(algorithms), jwt.WithoutClaimsValidation(), jwt.WithStrictDecoding())}
}

// Call answers the event of a custom authorizer. The token is the event's, or the
// password of CONNECT, or that of an Authorization header.
func (v *Verifier) Call(ctx context.Context, event []byte) ([]byte, error) {
	var in struct {
		Token string `json:"token"`
		Data  struct {
			HTTP struct {
				Headers map[string]string `json:"headers"`
			} `json:"http"`
			MQTT struct {
				Password []byte `json:"password"`
			} `json:"mqtt"`
		} `json:"protocolData"`
	}
	if err := json.Unmarshal(event, &in); err != nil {
		return nil, err
	}
	token := in.Token
	if token == "" {
		token = string(in.Data.MQTT.Password)
	}
	for k, h := range in.Data.HTTP.Headers {
		if kind, rest, ok := strings.Cut(h, " "); ok && token == "" && strings.EqualFold(k, "Authorization") && strings.EqualFold(kind, "Bearer") {
			token = rest
		}
	}
	claims, err := v.verify(ctx, token)
	if err != nil {
		if errors.Is(err, errNoKeys) {
			return nil, err
		}
		return json.Marshal(map[string]any{"isAuthenticated": false, "reason": err.Error()})
	}
	return v.answer(claims)
}

// maxToken bounds a token, in bytes.
const maxToken = 16 << 10

// verify checks a token's signature and what it says of itself.
func (v *Verifier) verify(ctx context.Context, token string) (jwt.MapClaims, error) {
	if token == "" || len(token) > maxToken {
		return nil, errors.New("there is no token, or it is too long")
	}
	claims := jwt.MapClaims{}
	_, err := v.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) { return v.keys.find(ctx, t) })
	if err != nil {
		return nil, err
	}
	return claims, v.judge(claims)
}

func (v *Verifier) judge(c jwt.MapClaims) error {
	if iss, err := c.GetIssuer(); err != nil || iss != v.cfg.Issuer {
		return errors.New("the token has another issuer")
	}
	aud, err := c.GetAudience()
	if err != nil || !slices.ContainsFunc(aud, func(a string) bool { return slices.Contains(v.cfg.Audience, a) }) {
		return errors.New("the token is for another audience")
	}
	now := v.clk.Now()
	exp, err := c.GetExpirationTime()
	if err != nil || exp == nil || !now.Before(exp.Add(v.cfg.Leeway)) {
		return errors.New("the token has expired, or has no end")
	}
	for _, get := range []func() (*jwt.NumericDate, error){c.GetNotBefore, c.GetIssuedAt} {
		at, err := get()
		if err != nil || at != nil && v.clk.Trusted() && now.Add(v.cfg.Leeway).Before(at.Time) {
			return errors.New("the token is not valid yet")
		}
	}
	if name, ok := c[v.cfg.Principal].(string); !ok || name == "" {
		return fmt.Errorf("the token has no claim %s", v.cfg.Principal)
	}
	return nil
}

// plainName is what a client can be called as it is.
var plainName = regexp.MustCompile(`^[a-zA-Z0-9]{1,63}$`)

// nameOf gives the principal for a claim: itself, or where it has other characters, or
// could be taken for somebody else's, a digest of it.
func (v *Verifier) nameOf(c jwt.MapClaims) string {
	name := c[v.cfg.Principal].(string)
	if plainName.MatchString(name) && name != "anonymous" {
		return name
	}
	sum := sha256.Sum256([]byte(v.cfg.Issuer + "\x00" + name))
	return "jwt" + hex.EncodeToString(sum[:16])
}

// answer makes an authorizer's answer of claims. Those that are neither text nor number
// nor truth, nor lists of texts, are left out.
func (v *Verifier) answer(c jwt.MapClaims) ([]byte, error) {
	claims := map[string]any{}
	for k, value := range c {
		switch value := value.(type) {
		case string:
			claims[k] = value
		case bool, float64:
			text, _ := json.Marshal(value) // cannot fail
			claims[k] = string(text)
		case []any:
			list := make([]string, 0, len(value))
			for _, e := range value {
				if s, ok := e.(string); ok {
					list = append(list, s)
				}
			}
			if len(list) == len(value) {
				claims[k] = list
			}
		}
	}
	exp, _ := c.GetExpirationTime() // judged
	return json.Marshal(map[string]any{"isAuthenticated": true, "principalId": v.nameOf(c), "disconnectAfterInSeconds": 86400, "expiresAt": exp.Unix(),
		"policyDocuments": v.cfg.Policies, "claims": claims})
}

// decode reads the base64url of JWKs (RFC 7515, appendix C).
func decode(s string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
}
