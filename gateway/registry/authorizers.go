package registry

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"time"

	"tidegate/gateway/fault"
)

// Authorizer is a custom authorizer: which function judges a credential, and who must
// have signed it. Records are read-only.
type Authorizer struct {
	Name            string
	Function        string            // ARN of the function that is asked
	TokenKey        string            `json:",omitempty"` // name of the header or parameter with the token
	Keys            map[string]string `json:",omitempty"` // PEM of public keys that sign tokens, by name
	Status          Status            // Active or Inactive
	SigningDisabled bool
	CacheHTTP       bool              // an answer serves further requests with the same credentials
	Tags            map[string]string `json:",omitempty"`
	Created         time.Time
	Modified        time.Time
}

var (
	ruleAuthorizer = newRule("authorizerName", 1, 128, `[\w=,@-]+`)
	ruleFunction   = newRule("authorizerFunctionArn", 0, 2048, `[\s\S]*`)
	ruleTokenKey   = newRule("tokenKeyName", 1, 128, `[a-zA-Z0-9_-]+`)
	ruleKeyName    = newRule("tokenSigningPublicKeys", 1, 128, `[a-zA-Z0-9:_-]+`)
)

// defaultAuthorizer is the setting with the name of the default authorizer.
const defaultAuthorizer = "defaultAuthorizer"

// Authorizer gives a custom authorizer.
func (r *Registry) Authorizer(name string) (*Authorizer, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.authorizer(name)
}

func (r *Registry) authorizer(name string) (*Authorizer, error) {
	if a := r.authorizers.m[name]; a != nil {
		return a, nil
	}
	return nil, notFound("Authorizer", name)
}

// DefaultAuthorizer gives the authorizer for those who name none. Without one it is
// fault.NotFound.
func (r *Registry) DefaultAuthorizer() (*Authorizer, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var name string
	if !r.setting(defaultAuthorizer, &name) {
		return nil, fault.New(fault.NotFound, "there is no default authorizer")
	}
	return r.authorizer(name)
}

// Authorizers lists custom authorizers by name, those of a status if one is given.
func (r *Registry) Authorizers(s Status, p Page) (authorizers []*Authorizer, next string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names, next := page(r.authorizers.keys, p, func(n string) bool { return s == "" || r.authorizers.m[n].Status == s })
	return pick(&r.authorizers, names), next
}

// TokenKey reads a public key that signs tokens: RSA of at least 2048 bits.
func TokenKey(text string) (*rsa.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, fault.New(fault.Invalid, "the public key is not in PEM form")
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		if pub, err = x509.ParsePKCS1PublicKey(block.Bytes); err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "the public key cannot be read")
		}
	}
	key, ok := pub.(*rsa.PublicKey)
	if !ok || key.N.BitLen() < 2048 {
		return nil, fault.New(fault.Invalid, "a key that signs tokens is an RSA key of at least 2048 bits")
	}
	return key, nil
}

// CreateAuthorizer adds a custom authorizer. A zero status means Inactive.
func (tx *Tx) CreateAuthorizer(a Authorizer) (*Authorizer, error) {
	if err := ruleAuthorizer.check(a.Name); err != nil {
		return nil, err
	}
	if err := checkTags(a.Tags); err != nil {
		return nil, err
	}
	if tx.r.authorizers.m[a.Name] != nil {
		return nil, fault.Wrap(fault.Exists, &ExistsError{a.Name, tx.r.ARN("authorizer", a.Name)}, "Authorizer %s already exists", a.Name)
	}
	a.Keys, a.Tags, a.Created, a.Modified = maps.Clone(a.Keys), maps.Clone(a.Tags), tx.now, tx.now
	return &a, tx.setAuthorizer(&a)
}

func (tx *Tx) setAuthorizer(a *Authorizer) error {
	if a.Status == "" {
		a.Status = Inactive
	}
	if a.Status != Active && a.Status != Inactive {
		return fault.New(fault.Invalid, "the status of an authorizer is ACTIVE or INACTIVE")
	}
	if err := ruleFunction.check(a.Function); err != nil {
		return err
	}
	if a.Function == "" {
		return fault.New(fault.Invalid, "1 validation error detected: Value null at 'authorizerFunctionArn' failed to satisfy constraint: Member must not be null")
	}
	if !a.SigningDisabled && (a.TokenKey == "" || len(a.Keys) == 0) {
		return fault.New(fault.Invalid, "tokenKeyName and tokenSigningPublicKeys are needed unless signingDisabled is true")
	}
	if a.TokenKey != "" {
		if err := ruleTokenKey.check(a.TokenKey); err != nil {
			return err
		}
	}
	for name, text := range a.Keys {
		if err := ruleKeyName.check(name); err != nil {
			return err
		}
		if _, err := TokenKey(text); err != nil {
			return err
		}
	}
	set(tx, &tx.r.authorizers, "authorizer", a.Name, a)
	return nil
}

// UpdateAuthorizer changes an authorizer by a function that is given a copy; its name
// and whether tokens are signed stay.
func (tx *Tx) UpdateAuthorizer(name string, change func(*Authorizer)) error {
	have, err := tx.r.authorizer(name)
	if err != nil {
		return err
	}
	a := *have
	a.Keys = maps.Clone(have.Keys)
	change(&a)
	a.Name, a.SigningDisabled, a.Created, a.Modified = have.Name, have.SigningDisabled, have.Created, tx.now
	return tx.setAuthorizer(&a)
}

// DeleteAuthorizer removes an authorizer that is not the default one.
func (tx *Tx) DeleteAuthorizer(name string) error {
	if _, err := tx.r.authorizer(name); err != nil {
		return err
	}
	var def string
	if tx.Setting(defaultAuthorizer, &def) && def == name {
		return fault.Wrap(fault.Conflict, ErrInUse, "The authorizer %s is the default authorizer", name)
	}
	set(tx, &tx.r.authorizers, "authorizer", name, nil)
	return nil
}

// SetDefaultAuthorizer makes an authorizer the one for those who name none. While there
// is one already it is fault.Exists; "" ends it.
func (tx *Tx) SetDefaultAuthorizer(name string) error {
	var have string
	if name == "" {
		if !tx.Setting(defaultAuthorizer, &have) {
			return fault.New(fault.NotFound, "there is no default authorizer")
		}
		tx.Set(defaultAuthorizer, nil)
		return nil
	}
	if _, err := tx.r.authorizer(name); err != nil {
		return err
	}
	if tx.Setting(defaultAuthorizer, &have) && have != name {
		return fault.Wrap(fault.Exists, &ExistsError{have, tx.r.ARN("authorizer", have)}, "The default authorizer is %s; clear it first", have)
	}
	tx.Set(defaultAuthorizer, name)
	return nil
}
