package provision

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/identity"
	"tidegate/gateway/logs"
	"tidegate/gateway/registry"
)

// What a code alone does not say; doors turn these into names.
var (
	ErrToken  = errors.New("certificate ownership token")
	ErrCSR    = errors.New("certificate signing request")
	ErrDenied = errors.New("denied by the pre-provisioning hook")
)

// The times and bounds of fleet provisioning (developer guide, "Device provisioning MQTT
// API", "Provisioning by trusted user").
const (
	TokenLife  = time.Hour       // from a certificate's making to its use
	ClaimLife  = 5 * time.Minute // of a claim made for a trusted user
	hookTime   = 5 * time.Second
	maxPending = 2000 // certificates that wait for their provisioning, so that a stolen claim cannot fill the registry
	sweepEvery = time.Minute
)

// Keys makes keys and certificates; gateway/identity is one.
type Keys interface {
	Issuer
	IssueKeys(lifetime time.Duration) (identity.Pair, error)
}

// Caller asks functions by their ARN; gateway/callout is one.
type Caller interface {
	Call(ctx context.Context, function string, event []byte) ([]byte, error)
}

// Fleet provisions devices that have only a claim so far: first a certificate, then, for
// the proof that it is theirs, a thing and what the template gives them. Its methods may
// be called concurrently.
type Fleet struct {
	reg   *registry.Registry
	keys  Keys
	calls Caller
	clk   clock.Clock
	log   *slog.Logger

	passing atomic.Int64 // certificates with an end, claims among them
}

// NewFleet makes a Fleet. It listens to the registry, so it must be made before the
// registry is changed.
func NewFleet(reg *registry.Registry, keys Keys, calls Caller, clk clock.Clock, log *slog.Logger) *Fleet {
	f := &Fleet{reg: reg, keys: keys, calls: calls, clk: clk, log: log}
	f.passing.Store(int64(reg.Passing()))
	reg.OnCommit(func(changes []registry.Change) {
		for _, c := range changes {
			if was, ok := c.Before.(*registry.Certificate); ok && !was.Expires.IsZero() {
				f.passing.Add(-1)
			}
			if is, ok := c.After.(*registry.Certificate); ok && !is.Expires.IsZero() {
				f.passing.Add(1)
			}
		}
	})
	return f
}

// Created is a certificate that waits for its provisioning.
type Created struct {
	ID         string
	PEM        string
	PrivateKey string // "" for a certificate made from a request
	Token      string // proves that the certificate is the caller's, for [TokenLife]
}

// Create makes a key and a certificate for by, a client's principal.
func (f *Fleet) Create(by string) (*Created, error) {
	if err := f.room(); err != nil {
		return nil, err
	}
	pair, err := f.keys.IssueKeys(0)
	if err != nil {
		return nil, err
	}
	c, err := f.keep(by, pair.Certificate)
	if err != nil {
		return nil, err
	}
	c.PrivateKey = pair.PrivateKey
	return c, nil
}

// CreateFromCSR makes a certificate for by from a signing request. A request that is not
// sound is fault.Invalid with [ErrCSR].
func (f *Fleet) CreateFromCSR(by, csr string) (*Created, error) {
	if err := f.room(); err != nil {
		return nil, err
	}
	pem, err := f.Sign(by, csr)
	if fault.Is(err, fault.Invalid) {
		return nil, fault.Wrap(fault.Invalid, errors.Join(ErrCSR, err), "%s", fault.Message(err))
	}
	if err != nil {
		return nil, err
	}
	return f.keep(by, pem)
}

func (f *Fleet) room() error {
	if f.passing.Load() >= maxPending {
		return fault.New(fault.Throttled, "%d certificates wait for their provisioning; no more are made until some are used or expire", maxPending)
	}
	return nil
}

// keep registers a fresh certificate. Of the token only a digest is kept.
func (f *Fleet) keep(by, pem string) (*Created, error) {
	x, err := registry.ParseCertificate(pem)
	if err != nil {
		return nil, err
	}
	var secret [32]byte
	rand.Read(secret[:])
	sum := sha256.Sum256(x.Raw)
	digest := sha256.Sum256(secret[:])
	out := &Created{ID: registry.CertificateID(x), PEM: pem, Token: base64.RawURLEncoding.EncodeToString(append(sum[:], secret[:]...))}
	err = f.reg.Do(by, func(tx *registry.Tx) error {
		_, err := tx.AddCertificate(registry.CertificateInput{PEM: pem, Status: registry.PendingActivation, Mode: registry.ModeDefault,
			Expires: f.clk.Now().Add(TokenLife), Owner: by, Token: hex.EncodeToString(digest[:])})
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Request asks for a provisioning.
type Request struct {
	By         string // the client's principal
	ClientID   string
	Template   string
	Token      string
	Parameters map[string]string
}

// Provision carries out a template for the certificate that the token stands for, and
// activates it. Errors: fault.NotFound for the template, fault.Invalid with [ErrToken],
// fault.Forbidden with [ErrDenied] when the hook says no, fails or lingers, and those of
// [Register].
func (f *Fleet) Provision(ctx context.Context, r *Request) (*Outcome, error) {
	rec, err := f.reg.Template(r.Template)
	if err != nil {
		return nil, err
	}
	if rec.Type != registry.TemplateFleet {
		return nil, fault.New(fault.Invalid, "the provisioning template %s is not one for fleet provisioning", rec.Name)
	}
	if !rec.Enabled {
		return nil, fault.New(fault.Invalid, "the provisioning template %s is not enabled", rec.Name)
	}
	if claim, err := f.reg.Certificate(r.By); err == nil && claim.Claim && claim.Template != rec.Name {
		return nil, fault.New(fault.Forbidden, "the claim is for another provisioning template")
	}
	id, digest, err := readToken(r.Token)
	if err != nil {
		return nil, err
	}
	cert, err := f.reg.Certificate(id)
	if err != nil || f.owns(cert, r.By, digest) != nil {
		return nil, errToken()
	}
	body, err := ParseTemplate(rec.Body())
	if err != nil {
		return nil, err
	}
	params := maps.Clone(r.Parameters)
	if params == nil {
		params = map[string]string{}
	}
	if rec.Hook != nil {
		if err := f.ask(ctx, rec, r, cert, params); err != nil {
			return nil, err
		}
	}
	params[CertificateID] = id
	resolved, err := body.Resolve(params, false)
	if err != nil {
		return nil, err
	}
	return register(f.reg, r.By, f.keys, resolved, id, func(tx *registry.Tx) error {
		now, err := tx.Certificate(id) // it may have been used meanwhile
		if err != nil {
			return errToken()
		}
		return f.owns(now, r.By, digest)
	})
}

// readToken takes a token apart into the certificate's id and the digest of the secret.
func readToken(token string) (id, digest string, err error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != 64 {
		return "", "", errToken()
	}
	sum := sha256.Sum256(b[32:])
	return hex.EncodeToString(b[:32]), hex.EncodeToString(sum[:]), nil
}

func errToken() error {
	return fault.Wrap(fault.Invalid, ErrToken, "the certificate ownership token is not valid, was used, or has expired")
}

// owns says whether the token with a digest activates the certificate now, for by.
func (f *Fleet) owns(c *registry.Certificate, by, digest string) error {
	if c.Status != registry.PendingActivation || c.Token == "" || c.Owner != by || !f.clk.Now().Before(c.Expires) ||
		subtle.ConstantTimeCompare([]byte(c.Token), []byte(digest)) != 1 {
		return errToken()
	}
	return nil
}

// ask asks the hook of a template and adds what it overrides to params.
func (f *Fleet) ask(ctx context.Context, rec *registry.Template, r *Request, cert *registry.Certificate, params map[string]string) error {
	denied := func(err error) error {
		return fault.Wrap(fault.Forbidden, errors.Join(ErrDenied, err), "ACCESS_DENIED: the pre-provisioning hook did not allow the provisioning")
	}
	event, err := json.Marshal(map[string]any{
		"claimCertificateId": r.By, "certificateId": cert.ID, "certificatePem": cert.PEM, "templateArn": f.reg.ARN("provisioningtemplate", rec.Name),
		"clientId": r.ClientID, "parameters": params,
	})
	if err != nil {
		return denied(err)
	}
	ctx, cancel := context.WithTimeout(ctx, hookTime)
	defer cancel()
	answer, err := f.calls.Call(ctx, rec.Hook.Target, event)
	if err != nil {
		f.log.Warn("pre-provisioning hook gave no answer", "template", rec.Name, logs.Err(err))
		return denied(err)
	}
	var out struct {
		Allow     *bool             `json:"allowProvisioning"`
		Overrides map[string]string `json:"parameterOverrides"`
	}
	if err := json.Unmarshal(answer, &out); err != nil || out.Allow == nil {
		f.log.Warn("pre-provisioning hook gave an answer that is none", "template", rec.Name, logs.Err(err))
		return denied(err)
	}
	if !*out.Allow {
		return denied(nil)
	}
	maps.Copy(params, out.Overrides)
	return nil
}

// Claim is a certificate with which a trusted user has one device provisioned.
type Claim struct {
	identity.Pair
	ID      string
	Expires time.Time
}

// Claim makes a claim for a template, in the name of by. It is valid for [ClaimLife] and
// may do nothing but ask for a certificate and for this template.
func (f *Fleet) Claim(by, template string) (*Claim, error) {
	rec, err := f.reg.Template(template)
	if err != nil {
		return nil, err
	}
	if rec.Type != registry.TemplateFleet || !rec.Enabled {
		return nil, fault.New(fault.Invalid, "the provisioning template %s is not enabled for fleet provisioning", template)
	}
	if err := f.room(); err != nil {
		return nil, err
	}
	pair, err := f.keys.IssueKeys(ClaimLife)
	if err != nil {
		return nil, err
	}
	out := &Claim{Pair: pair, Expires: f.clk.Now().Add(ClaimLife)}
	err = f.reg.Do(by, func(tx *registry.Tx) error {
		c, err := tx.AddCertificate(registry.CertificateInput{PEM: pair.Certificate, Status: registry.Active, Mode: registry.ModeDefault, Claim: true,
			Expires: out.Expires, Template: template})
		if err == nil {
			out.ID = c.ID
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Run removes what was not used in time, until ctx ends.
func (f *Fleet) Run(ctx context.Context, ready func()) error {
	ready()
	timer := f.clk.NewTimer(sweepEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C():
		}
		f.Sweep()
		timer.Reset(sweepEvery)
	}
}

// Sweep removes certificates whose time to be provisioned is over, and claims that are.
func (f *Fleet) Sweep() {
	if f.passing.Load() == 0 {
		return
	}
	if err := f.reg.Do("tidegate", func(tx *registry.Tx) error { return tx.DropExpired() }); err != nil {
		f.log.Warn("expired certificates could not be removed", logs.Err(err))
	}
}
