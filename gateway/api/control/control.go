// Package control is the control plane: the operations with which operators manage
// things, groups, certificates and policies, as AWS IoT's API has them.
//
// An operation authorizes, calls the room and shapes the answer; no rule of the
// registry is decided here. Callers are operators who sign their requests (SigV4,
// service iot). Names of errors and their statuses are in one table (dialect.go).
// What is not in the list is answered with UnknownOperationException.
//
//	h := control.New(control.Deps{Registry: reg, Identity: id, Operators: ops, Auth: az, Clock: clk}, control.Config{Endpoint: "gw.local:8443"})
//
// Source: botocore's model iot/2015-05-28 for paths, members and errors.
package control

import (
	"crypto/rand"
	_ "embed" // the list of operations that are not served
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"

	"tidegate/gateway/api/restjson"
	"tidegate/gateway/authz"
	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/identity"
	"tidegate/gateway/operators"
	"tidegate/gateway/policy"
	"tidegate/gateway/provision"
	"tidegate/gateway/registry"
)

// Deps are the rooms behind the door.
type Deps struct {
	Registry  *registry.Registry
	Identity  *identity.Identity
	Operators *operators.Operators
	Auth      *authz.Authz
	Clock     clock.Clock
	Log       *slog.Logger     // nil: silent
	Jobs      Caller           // nil: no operations about jobs
	Streams   Caller           // nil: none about streams
	Fleet     *provision.Fleet // nil: no claims
	Tasks     *provision.Tasks // nil: no registration tasks
	// Connectivity says whether a thing's client is connected, since when, and why it
	// is not. Nil: not known.
	Connectivity func(thing string) (connected bool, sinceMillis int64, reason string, ok bool)
	// Shadows gives the shadows of a thing as search results show them, nil for none.
	// Nil: not known.
	Shadows func(thing string) (json.RawMessage, error)
}

// Config says what the door tells of the gateway.
type Config struct {
	Endpoint string // host and port DescribeEndpoint names
	MaxBody  int64  // bytes of a request; 0 means 1 MiB
}

// Control is the door. It is an http.Handler.
type Control struct {
	Deps
	cfg    Config
	server restjson.Server
}

// New makes the door.
func New(d Deps, cfg Config) *Control {
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 1 << 20
	}
	c := &Control{Deps: d, cfg: cfg}
	var ops []restjson.Op
	for _, list := range [][]restjson.Op{c.things(), c.indexing(), c.types(), c.groups(), c.billing(), c.certificates(), c.authorities(), c.policies(), c.provisioning(), c.templates(), c.tasks(), c.authorizers(), c.domains(), c.roles(), c.providers(), c.account(), c.jobs(), c.streams()} {
		ops = append(ops, list...)
	}
	c.server = restjson.Server{Ops: ops, Authorize: c.authorize, Dialect: dialect, Label: registry.CheckName, MaxBody: cfg.MaxBody, Refused: c.refused, Unknown: c.unknown, Unserved: unserved(), Log: d.Log}
	return c
}

//go:embed unserved.txt
var unservedList string

// unserved gives the operations of AWS IoT that are not served, to name them.
func unserved() (ops []restjson.Op) {
	for line := range strings.Lines(unservedList) {
		if f := strings.Fields(line); len(f) == 3 {
			ops = append(ops, restjson.Named(f[2], f[0], f[1]))
		}
	}
	return ops
}

// ServeHTTP answers a request.
func (c *Control) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.server.ServeHTTP(w, r) }

// Knows says whether there is an operation for r.
func (c *Control) Knows(r *http.Request) bool { return c.server.Knows(r) }

// Local gives the same door for whoever sits at the machine, who is an admin: requests
// are not signed, and caller names who makes them.
func (c *Control) Local(caller func(*http.Request) string) http.Handler {
	s := c.server
	s.Authorize = func(_ *restjson.Op, r *http.Request, _ []byte) (any, error) {
		return c.Auth.Operator(caller(r), func() ([]*policy.Document, bool) { return operators.Admin.Documents(), true }), nil
	}
	return &s
}

// Operations lists the names of what is served.
func (c *Control) Operations() []string {
	names := make([]string, len(c.server.Ops))
	for i := range c.server.Ops {
		names[i] = c.server.Ops[i].Name
	}
	return names
}

// authorize verifies the signature and asks the operator's role.
func (c *Control) authorize(op *restjson.Op, r *http.Request, body []byte) (any, error) {
	p, err := c.Auth.Signed(c.Operators, r, body, "iot", "execute-api")
	if err != nil {
		return nil, err
	}
	if !p.Named("iot:"+op.Name, "*") {
		return p, fault.New(fault.Forbidden, "User: %s is not authorized to perform: iot:%s", p.Name(), op.Name)
	}
	return p, nil
}

// refused tells of a request that was: those of strangers, and those that would have
// changed something.
func (c *Control) refused(op *restjson.Op, r *http.Request, caller any, err error) {
	if caller != nil && !fault.Is(err, fault.Forbidden) && (op.Method == http.MethodGet || fault.Is(err, fault.NotFound)) {
		return
	}
	p, _ := caller.(*authz.Principal)
	c.Auth.Refused(authz.Refusal{What: op.Name, Name: r.URL.Path, Principal: p.Name(), Remote: authz.RemoteOf(r), Err: err})
}

// unknown tells of a request for something that is not served: who tries doors that are
// not there should be seen.
func (c *Control) unknown(r *http.Request, what string) {
	c.Auth.Refused(authz.Refusal{What: "unknown operation", Name: what, Remote: authz.RemoteOf(r), Err: fault.New(fault.NotFound, "it is not served")})
}

// who names the caller.
func who(call *restjson.Call) string { return call.Who.(*authz.Principal).Name() }

// do runs a transaction in the name of the caller.
func (c *Control) do(call *restjson.Call, fn func(tx *registry.Tx) error) error {
	return c.Registry.Do(who(call), fn)
}

// empty is the answer of operations that say nothing.
var empty struct{}

// Listings page by a token that is nobody's business.
type (
	pageIn struct {
		Token string `at:"query,nextToken"`
		Max   *int   `at:"query,maxResults"`
	}
	markIn struct {
		Marker string `at:"query,marker"`
		Size   *int   `at:"query,pageSize"`
		Asc    *bool  `at:"query,isAscendingOrder"` // nil: ascending
	}
)

func (p pageIn) page() (registry.Page, error) {
	return pageOf(p.Token, p.Max, "maxResults", registry.MaxPage)
}

func (p markIn) page() (registry.Page, error) {
	page, err := pageOf(p.Marker, p.Size, "pageSize", registry.MaxPage)
	page.Desc = p.Asc != nil && !*p.Asc
	return page, err
}

// pageOf checks the token and the size of a page, nil for the longest; the registry gives no more at once than its own
// longest, whatever the limit of the member.
func pageOf(token string, size *int, member string, limit int) (registry.Page, error) {
	after, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return registry.Page{}, fault.New(fault.Invalid, "the token of the next page is not valid")
	}
	p := registry.Page{After: string(after)}
	if size != nil {
		if *size < 1 || *size > limit {
			return p, fault.New(fault.Invalid, "1 validation error detected: Value '%d' at '%s' failed to satisfy constraint: Member must have value between 1 and %d", *size, member, limit)
		}
		p.Max = min(*size, registry.MaxPage)
	}
	return p, nil
}

// token makes the token of what follows a name; nil leaves the member out.
func token(next string) *string {
	if next == "" {
		return nil
	}
	t := base64.RawURLEncoding.EncodeToString([]byte(next))
	return &t
}

// opt leaves an empty text out of an answer.
func opt(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// attributesOf never gives null.
func attributesOf(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// tag is a tag on the wire.
type tag struct {
	Key   string `json:"Key"`
	Value string `json:"Value"`
}

func tagMap(tags []tag) map[string]string {
	m := map[string]string{}
	for _, t := range tags {
		m[t.Key] = t.Value
	}
	return m
}

// nameOr takes a name, or the one in an ARN of the kind.
func (c *Control) nameOr(name, arn, kind, member string) (string, error) {
	if name == "" && arn != "" {
		if name = c.Registry.Name(kind, arn); name == "" {
			return "", fault.New(fault.Invalid, "%s is not the ARN of a %s of this account", arn, kind)
		}
	}
	if name == "" {
		return "", fault.New(fault.Invalid, "1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", member)
	}
	return name, nil
}

// code makes a registration code.
func code() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// unquote takes the percent-encoding out of an ARN that some clients encode twice.
func unquote(arn string) string {
	return strings.NewReplacer("%3A", ":", "%3a", ":", "%2F", "/", "%2f", "/").Replace(arn)
}
