package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"tidegate/gateway/audit"
	"tidegate/gateway/authz"
	"tidegate/gateway/broker"
	"tidegate/gateway/fault"
	"tidegate/gateway/identity"
	"tidegate/gateway/listen"
	"tidegate/gateway/operators"
	"tidegate/gateway/policy"
	"tidegate/gateway/registry"
)

// IdentityConfig says where the gateway's keys are kept and what its server certificate
// is for.
type IdentityConfig struct {
	Vault    string        `yaml:"vault"`    // auto, file, or the device of a TPM such as /dev/tpmrm0
	PCRs     []uint        `yaml:"pcrs"`     // of the TPM, whose values secrets are sealed to
	Names    []string      `yaml:"names"`    // host names and addresses beyond the usual ones
	Lifetime time.Duration `yaml:"lifetime"` // of a server certificate
}

// DefaultIdentityConfig takes the TPM where there is one.
func DefaultIdentityConfig() IdentityConfig {
	return IdentityConfig{Vault: "auto", Lifetime: identity.DefaultConfig("").Lifetime}
}

// Validate says what is impossible in c.
func (c IdentityConfig) Validate() error {
	var errs []error
	if c.Vault != "auto" && c.Vault != "file" && !filepath.IsAbs(c.Vault) {
		errs = append(errs, fmt.Errorf("vault: is %q, expected auto, file or the device of a TPM such as %s", c.Vault, tpmDevice))
	}
	if c.Lifetime < 24*time.Hour {
		errs = append(errs, fmt.Errorf("lifetime: is %v, expected a day or more", c.Lifetime))
	}
	for _, p := range c.PCRs {
		if p > 23 {
			errs = append(errs, fmt.Errorf("pcrs: %d is not a register, these are 0 to 23", p))
		}
	}
	return errors.Join(errs...)
}

// openAccess opens what decides who may do what.
func (n *Node) openAccess() (err error) {
	rc := registry.DefaultConfig()
	rc.Account, rc.Region = n.cfg.Account.ID, n.cfg.Account.Region
	if n.registry, err = registry.Open(n.store, n.Clock, rc); err != nil {
		return err
	}
	if n.operators, err = operators.Open(n.store, n.Clock); err != nil {
		return err
	}
	var ac authz.Config
	if n.cfg.Dev {
		ac.Anonymous = []string{"mqtt", "ws"}
	}
	n.authz = authz.New(n.registry, n.Clock, ac)
	n.authz.Lends(func() ([]byte, error) { return n.identity.Secret("sessions") })
	return nil
}

// firstOperator makes the first administrator once the store runs, and leaves the key
// where the contract says.
func (n *Node) firstOperator(ctx context.Context, ready func()) error {
	key, made, err := n.operators.First("admin")
	if err == nil && made {
		err = operators.WriteCredentials(filepath.Join(n.cfg.Data, "operator", "credentials"), key)
	}
	if err != nil {
		return fmt.Errorf("make the first operator: %w", err)
	}
	ready()
	<-ctx.Done()
	return nil
}

// recordLoan writes down who was given credentials of a role.
func (n *Node) recordLoan(to *authz.Loan, what *authz.Lent) error {
	return n.audit.Lent(audit.Loan{By: to.Certificate, AccessKey: what.AccessKey, Alias: to.Alias, Role: to.Role, Thing: to.Thing, Expires: what.Expires})
}

// gate is the broker's authorizer.
type gate struct {
	*authz.Authz
	operators *operators.Operators
}

// Connect lets a client in or says why not.
func (g gate) Connect(r *broker.ConnectRequest) (broker.Principal, error) {
	q := &authz.Request{ClientID: r.ClientID, Username: r.Username, HasUsername: r.HasUsername, Password: r.Password, TLS: r.TLS,
		Remote: authz.Remote(r.Remote), Listener: r.Via.Listener, Persistent: r.Persistent, Will: r.Will, WillTopic: r.WillTopic}
	if up, ok := r.Via.Hint.(*listen.Upgrade); ok {
		q.TLS, q.Header, q.Query = up.TLS, up.Header, up.Query
		if q.Query != "" {
			q.Query = "?" + q.Query
		}
		q.Signed, _ = up.Credential.(*authz.Principal)
	}
	p, err := g.Authz.Connect(q)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Restore gives the principal of a stored session.
func (g gate) Restore(name, clientID string) broker.Principal {
	if who, ok := strings.CutPrefix(name, "operator/"); ok {
		return g.Operator(who, func() ([]*policy.Document, bool) { return g.operators.Documents(who) })
	}
	return g.Authz.Restore(name, clientID)
}

// MayPublish asks the policies of p.
func (g gate) MayPublish(p broker.Principal, topic string, retain bool) bool {
	return g.Authz.MayPublish(principal(p), topic, retain)
}

// MayLeave asks the policies of p about its will.
func (g gate) MayLeave(p broker.Principal, topic string, retain bool) bool {
	return g.Authz.MayLeave(principal(p), topic, retain)
}

// MaySubscribe asks the policies of p.
func (g gate) MaySubscribe(p broker.Principal, filter string) bool {
	return g.Authz.MaySubscribe(principal(p), filter)
}

// MayReceive asks the policies of p.
func (g gate) MayReceive(p broker.Principal, topic string) bool {
	return g.Authz.MayReceive(principal(p), topic)
}

// Estranged writes down who asked for a session that is somebody else's.
func (g gate) Estranged(p broker.Principal, clientID, owner string) {
	g.Refused(authz.Refusal{What: "resume", Name: clientID, Principal: p.Name(), Client: clientID, Err: fault.New(fault.Forbidden, "the session is of %s", owner)})
}

// Trespassed writes down who tried for what is closed to every client.
func (g gate) Trespassed(p broker.Principal, what, name string) {
	g.Authz.Trespassed(principal(p), what, name)
}

func principal(p broker.Principal) *authz.Principal { q, _ := p.(*authz.Principal); return q }
