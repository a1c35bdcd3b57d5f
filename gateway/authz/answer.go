package authz

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/policy"
)

// ErrAnswer is in the chain when the answer of an authorizer's function is not one; doors
// turn it into InvalidResponseException.
var ErrAnswer = errors.New("invalid answer of the authorizer")

// The bounds of answers (developer guide, "Defining your Lambda function").
const (
	minLasting   = 300   // seconds
	maxLasting   = 86400 // seconds
	maxDocuments = 10
)

// principalID is what an authorizer may call a client. Names of certificates and of
// clients without a credential are not to be had: sessions are found by them.
var (
	principalID   = regexp.MustCompile(`^[a-zA-Z0-9]{1,128}$`)
	certificateID = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Answer is what an authorizer says of a client.
type Answer struct {
	Authenticated   bool
	PrincipalID     string
	Documents       []string      // policy documents
	DisconnectAfter time.Duration // how long the connection may last
	RefreshAfter    time.Duration // when the authorizer is asked again; 0: never

	docs    []*policy.Document
	claims  map[string][]string
	expires time.Time // zero: see DisconnectAfter
}

// Judge asks an authorizer about credentials. An answer that lets nobody in is no error.
// Errors: fault.NotFound, fault.Unauthorized for credentials that are not passed on,
// those of the function, and fault.Invalid with [ErrAnswer].
func (a *Authz) Judge(ctx context.Context, c *Credentials) (*Answer, error) {
	if a.functions == nil {
		return nil, fault.New(fault.Unsupported, "custom authorizers are not served")
	}
	rec, err := a.authorizer(c)
	if err != nil {
		return nil, err
	}
	if err := checkSignature(rec, c); err != nil {
		return nil, err
	}
	event, err := c.event(!rec.SigningDisabled)
	if err != nil {
		return nil, err
	}
	text, err := a.functions.Call(ctx, rec.Function, event)
	if err != nil {
		return nil, err
	}
	return readAnswer(rec.Name, text)
}

// readAnswer reads and checks the answer of a function. Beyond AWS it may hold claims,
// which become the policy variables ${claim:NAME}, and expiresAt, in seconds of the
// epoch, when the connection ends whatever else it says.
func readAnswer(name string, text []byte) (*Answer, error) {
	wrong := func(format string, args ...any) error {
		return fault.Wrap(fault.Invalid, ErrAnswer, "the authorizer "+name+" answered something else than expected: "+format, args...)
	}
	var in struct {
		Authenticated *bool                      `json:"isAuthenticated"`
		Principal     string                     `json:"principalId"`
		Disconnect    *int                       `json:"disconnectAfterInSeconds"`
		Refresh       *int                       `json:"refreshAfterInSeconds"`
		Documents     []json.RawMessage          `json:"policyDocuments"`
		Claims        map[string]json.RawMessage `json:"claims"`
		Expires       int64                      `json:"expiresAt"`
	}
	if err := json.Unmarshal(text, &in); err != nil || in.Authenticated == nil {
		return nil, wrong("it is no object with isAuthenticated")
	}
	out := &Answer{Authenticated: *in.Authenticated, PrincipalID: in.Principal, claims: map[string][]string{}}
	if !out.Authenticated {
		return out, nil
	}
	if !principalID.MatchString(in.Principal) || certificateID.MatchString(in.Principal) || in.Principal == Anonymous {
		return nil, wrong("principalId is no name of 1 to 128 letters and digits")
	}
	for _, x := range []struct {
		member  string
		seconds *int
		to      *time.Duration
	}{{"disconnectAfterInSeconds", in.Disconnect, &out.DisconnectAfter}, {"refreshAfterInSeconds", in.Refresh, &out.RefreshAfter}} {
		if x.seconds == nil {
			continue
		}
		if *x.seconds < minLasting || *x.seconds > maxLasting {
			return nil, wrong("%s is %d, not %d to %d", x.member, *x.seconds, minLasting, maxLasting)
		}
		*x.to = time.Duration(*x.seconds) * time.Second
	}
	if out.DisconnectAfter == 0 {
		out.DisconnectAfter = maxLasting * time.Second
	}
	if in.Expires > 0 {
		out.expires = time.Unix(in.Expires, 0)
	}
	if len(in.Documents) > maxDocuments {
		return nil, wrong("there are more than %d policy documents", maxDocuments)
	}
	for _, raw := range in.Documents {
		doc := string(raw)
		if raw[0] == '"' {
			json.Unmarshal(raw, &doc) //nolint:errcheck // it is a JSON text
		}
		parsed, err := policy.Parse([]byte(doc))
		if err != nil {
			return nil, wrong("a policy document is not valid: %s", fault.Message(err))
		}
		parsed.Name = name
		out.Documents, out.docs = append(out.Documents, doc), append(out.docs, parsed)
	}
	for k, raw := range in.Claims {
		var one string
		var list []string
		if json.Unmarshal(raw, &one) == nil {
			list = []string{one}
		} else if json.Unmarshal(raw, &list) != nil {
			return nil, wrong("the claim %q is neither a text nor a list of texts", k)
		}
		out.claims["claim:"+k] = list
	}
	return out, nil
}
