package authz

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"tidegate/gateway/fault"
	"tidegate/gateway/registry"
)

// The names under which credentials for a custom authorizer travel, in a header, a query
// or the user name of CONNECT (developer guide, "Connecting with custom authentication").
const (
	nameKey      = "x-amz-customauthorizer-name"
	signatureKey = "x-amz-customauthorizer-signature"
)

// Functions asks a function by its ARN; *callout.Set is one.
type Functions interface {
	Call(ctx context.Context, function string, event []byte) ([]byte, error)
}

// Custom lets clients in that a custom authorizer vouches for. Call it before the first
// Connect.
func (a *Authz) Custom(f Functions) { a.functions = f }

// vouching says whether there is an authorizer that could vouch for a client.
func (a *Authz) vouching() bool {
	if a.functions == nil {
		return false
	}
	active, _ := a.reg.Authorizers(registry.Active, registry.Page{Max: 1})
	return len(active) > 0
}

// Credentials is what a client shows to a custom authorizer. Empty parts are not passed
// on.
type Credentials struct {
	Authorizer string // its name, "" for the default one
	Token      string // what is signed
	Signature  string // of the token, base64
	ServerName string
	Header     http.Header
	Query      string // with the ? in front
	MQTT       bool   // there was a CONNECT packet with what follows
	Username   string
	Password   []byte
	ClientID   string
}

// named finds the authorizer that a client names, or that the domain configuration of the
// host it has asked for does. It gives false for neither.
func (a *Authz) named(c *Credentials) bool {
	named := c.named("")
	if d := a.reg.DomainOf(c.ServerName); d != nil && d.Authorizer != "" && (!named || !d.Override) {
		c.Authorizer, named = d.Authorizer, true
	}
	return named
}

// byAuthorizer identifies clients who name a custom authorizer, and those who have
// nothing else to show when there is a default one. It gives nil, nil for all others.
func (a *Authz) byAuthorizer(r *Request) (*Principal, error) {
	way := a.way(r.TLS)
	if a.functions == nil || way.custom == never {
		return nil, nil
	}
	c := Credentials{MQTT: true, Username: r.Username, Password: r.Password, ClientID: r.ClientID, Header: r.Header, Query: r.Query}
	if r.TLS != nil {
		c.ServerName = r.TLS.ServerName
	}
	named := a.named(&c)
	if way.certificate == always {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			return nil, fault.New(fault.Unauthorized, "a client certificate is needed before an authorizer is asked")
		}
		if _, err := a.admit(r.TLS.PeerCertificates[0]); err != nil {
			return nil, err
		}
	}
	if !named && way.custom == atLast && (r.TLS != nil && len(r.TLS.PeerCertificates) > 0 || r.Signed != nil || slices.Contains(a.cfg.Anonymous, r.Listener)) {
		return nil, nil
	}
	rec, err := a.authorizer(&c)
	if err != nil {
		if !named && way.custom != always && fault.Is(err, fault.NotFound) {
			return nil, nil
		}
		return nil, unproven(err)
	}
	g := &grant{a: a, authorizer: rec.Name, creds: c, ctx: a.context(r)}
	if err := g.obtain(); err != nil {
		return nil, unproven(err)
	}
	return g.principal(), nil
}

// unproven makes a refusal of what an authorizer said or did not say. The reason is for
// the log: it could help whoever is guessing.
func unproven(err error) error {
	if fault.Is(err, fault.Throttled) {
		return err
	}
	return fault.Wrap(fault.Unauthorized, err, "the custom authorizer did not let the client in")
}

// Header gives the principal of an HTTPS request by a custom authorizer: one that it
// names, or the default one. It gives nil, nil when there is neither.
func (a *Authz) Header(r *http.Request) (*Principal, error) {
	if a.functions == nil {
		return nil, nil
	}
	c := Credentials{Header: r.Header, Query: queryOf(r.URL.RawQuery)}
	if r.TLS != nil {
		c.ServerName = r.TLS.ServerName
	}
	if a.way(r.TLS).custom == never {
		return nil, nil
	}
	named := a.named(&c)
	rec, err := a.authorizer(&c)
	if err != nil {
		if !named && fault.Is(err, fault.NotFound) {
			return nil, nil
		}
		return nil, unproven(err)
	}
	key := ""
	if rec.CacheHTTP {
		key = c.digest(rec.Name)
		if g := a.cached(key); g != nil {
			return g.principal(), nil
		}
	}
	g := &grant{a: a, authorizer: rec.Name, creds: c}
	g.ctx.Base, g.ctx.SourceIP, g.ctx.DomainName, g.ctx.Now = a.reg.Base(), RemoteOf(r), c.ServerName, a.clk.Now
	if err := g.obtain(); err != nil {
		return nil, unproven(err)
	}
	if key != "" {
		a.keep(key, g)
	}
	return g.principal(), nil
}

func queryOf(raw string) string {
	if raw == "" {
		return ""
	}
	return "?" + raw
}

// named says whether the credentials name an authorizer, and takes its name.
func (c *Credentials) named(have string) bool {
	c.Authorizer = have
	if c.Authorizer == "" {
		c.Authorizer = c.value(nameKey)
	}
	return c.Authorizer != ""
}

// value looks a parameter up where clients put them: a header, the query of the URL, the
// query behind the user name.
func (c *Credentials) value(key string) string {
	if v := c.Header.Get(key); v != "" {
		return v
	}
	_, behind, _ := strings.Cut(c.Username, "?")
	for _, raw := range []string{strings.TrimPrefix(c.Query, "?"), behind} {
		q, _ := url.ParseQuery(raw) // what can be read of it
		for k, v := range q {
			if strings.EqualFold(k, key) && len(v) > 0 && v[0] != "" {
				return v[0]
			}
		}
	}
	return ""
}

// authorizer finds the authorizer for credentials, and takes the token out of them.
func (a *Authz) authorizer(c *Credentials) (rec *registry.Authorizer, err error) {
	if c.Authorizer == "" {
		rec, err = a.reg.DefaultAuthorizer()
	} else {
		rec, err = a.reg.Authorizer(c.Authorizer)
	}
	if err != nil {
		return nil, err
	}
	if rec.Status != registry.Active {
		return nil, fault.New(fault.Unauthorized, "the authorizer %s is not active", rec.Name)
	}
	c.Authorizer = rec.Name
	if rec.TokenKey != "" && c.Token == "" {
		c.Token = c.value(rec.TokenKey)
	}
	if c.Signature == "" {
		c.Signature = c.value(signatureKey)
	}
	return rec, nil
}

// checkSignature verifies the signature over the token, before anybody is asked.
func checkSignature(rec *registry.Authorizer, c *Credentials) error {
	if rec.SigningDisabled {
		return nil
	}
	wrong := fault.New(fault.Unauthorized, "the token has no valid signature")
	sig, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(c.Signature, " ", "+")) // a + that was not encoded
	if err != nil || c.Token == "" || len(sig) == 0 {
		return wrong
	}
	sum := sha256.Sum256([]byte(c.Token))
	for _, text := range rec.Keys {
		key, err := registry.TokenKey(text)
		if err == nil && rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig) == nil {
			return nil
		}
	}
	return wrong
}

// event is what the function is told.
func (c *Credentials) event(verified bool) ([]byte, error) {
	type object = map[string]any
	data, protocols := object{}, []string{}
	if c.ServerName != "" {
		protocols, data["tls"] = append(protocols, "tls"), object{"serverName": c.ServerName}
	}
	if c.Header != nil || c.Query != "" {
		headers := map[string]string{}
		for k, v := range c.Header {
			headers[k] = strings.Join(v, ",")
		}
		protocols, data["http"] = append(protocols, "http"), object{"headers": headers, "queryString": c.Query}
	}
	if c.MQTT {
		m := object{"clientId": c.ClientID}
		if c.Username != "" {
			m["username"] = c.Username
		}
		if c.Password != nil {
			m["password"] = base64.StdEncoding.EncodeToString(c.Password)
		}
		protocols, data["mqtt"] = append(protocols, "mqtt"), m
	}
	out := object{"signatureVerified": verified, "protocols": protocols, "protocolData": data, "connectionMetadata": object{"id": newUUID()}}
	if c.Token != "" {
		out["token"] = c.Token
	}
	return json.Marshal(out)
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// passing are headers that say nothing about who sends a request.
var passing = regexp.MustCompile(`^(?i:content-(length|type)|date|user-agent|accept.*|connection|host|x-amzn-trace-id)$`)

// digest tells credentials apart for the cache.
func (c *Credentials) digest(authorizer string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q\n", authorizer, c.ServerName, c.Query)
	for _, k := range slices.Sorted(maps.Keys(c.Header)) {
		if !passing.MatchString(k) {
			fmt.Fprintf(h, "%q %q\n", k, c.Header[k])
		}
	}
	return string(h.Sum(nil))
}
