// Package operators keeps the people who may administer the gateway: their names,
// roles and access keys.
//
// Who may do what is a role, and a role is a policy document evaluated by
// gateway/policy. There is no password and no default: the first operator is made
// at the first start, with a key that is written to a file once. Secret keys are
// kept readable, as a signature can only be verified with them; the store is
// encrypted where the gateway has a vault.
//
//	ops, err := operators.Open(db, clk)
//	key, err := ops.Create("ada", operators.Admin)
//	err = operators.WriteCredentials(path, key)
package operators

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"tidegate/gateway/api/sigv4"
	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/policy"
	"tidegate/gateway/store"
)

// Role is what an operator may do.
type Role string

// The roles. An admin may do everything; an operator everything but change who
// is trusted (policies, certificates, authorities, authorizers); a viewer looks.
const (
	Admin    Role = "admin"
	Operator Role = "operator"
	Viewer   Role = "viewer"
)

// documents of the roles. Every data-plane action a device can have is in
// "iot:*", too.
var documents = func() map[Role]*policy.Document {
	m := map[Role]*policy.Document{}
	for role, text := range map[Role]string{
		Admin: `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`,
		Operator: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"},
			{"Effect":"Deny","Resource":"*","Action":["iot:CreatePolicy*","iot:DeletePolicy*","iot:SetDefaultPolicyVersion","iot:AttachPolicy","iot:DetachPolicy",
			"iot:AttachPrincipalPolicy","iot:DetachPrincipalPolicy","iot:CreateKeysAndCertificate","iot:*CertificateFromCsr","iot:RegisterC*","iot:Update*Certificate",
			"iot:Delete*Certificate","iot:*CertificateTransfer","iot:TransferCertificate","iot:CreateAuthorizer","iot:UpdateAuthorizer","iot:DeleteAuthorizer",
			"iot:*DefaultAuthorizer","iot:CreateRoleAlias","iot:UpdateRoleAlias","iot:DeleteRoleAlias","iot:CreateProvisioning*","iot:UpdateProvisioning*",
			"iot:DeleteProvisioning*","iot:*RegistrationCode","iot:RegisterThing","iot:StartThingRegistrationTask"]}]}`,
		Viewer: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Get*","iot:List*","iot:Describe*","iot:Search*","iot:Connect","iot:Subscribe","iot:Receive"],"Resource":"*"},
			{"Effect":"Deny","Action":"iot:GetRegistrationCode","Resource":"*"}]}`,
	} {
		doc, err := policy.Parse([]byte(text))
		if err != nil {
			panic("BUG: the role " + string(role) + ": " + err.Error())
		}
		doc.Name = string(role)
		m[role] = doc
	}
	return m
}()

// Roles lists the roles.
func Roles() []Role { return []Role{Admin, Operator, Viewer} }

// Documents gives what the role allows.
func (r Role) Documents() []*policy.Document { return []*policy.Document{documents[r]} }

// Person is one operator. Records are read-only.
type Person struct {
	Name    string
	Role    Role
	Keys    []Key // at most two, so that one can follow the other
	Created time.Time
}

// Key is an access key.
type Key struct {
	ID      string // "AKIA" and 16 characters
	Secret  string
	Created time.Time
	Active  bool
}

// maxKeys is how many keys an operator can have, as in IAM.
const maxKeys = 2

// Operators is the open room. Its methods may be called concurrently.
type Operators struct {
	db  *store.Store
	clk clock.Clock

	witnesses []func(before, after *Person) func(*store.Unit, func(mqtt.Message)) // set while the house is built
	commit    func(build func(u *store.Unit, emit func(mqtt.Message)) error, done func(error)) error

	write sync.Mutex // one change at a time; taken before mu

	mu     sync.RWMutex // guards what follows
	people map[string]*Person
	keys   map[string]*Person // by access key
}

// Open reads the operators from the store.
func Open(db *store.Store, clk clock.Clock) (*Operators, error) {
	o := &Operators{db: db, clk: clk, people: map[string]*Person{}, keys: map[string]*Person{}}
	o.commit = func(build func(*store.Unit, func(mqtt.Message)) error, done func(error)) error {
		return db.Do(func(u *store.Unit) error { return build(u, func(mqtt.Message) {}) }, func(_ []uint64, err error) { done(err) })
	}
	var bad error
	err := db.Scan(store.KeyOperator, func(key string, val []byte) bool {
		p := new(Person)
		if bad = json.Unmarshal(val, p); bad != nil {
			bad = fmt.Errorf("%s: %w", key, bad)
			return false
		}
		o.assign(p.Name, p)
		return true
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return nil, fmt.Errorf("open operators: %w", err)
	}
	return o, nil
}

// Witness adds somebody who has something to say about every change of a person: the
// function it gives adds writes to the change's unit and hands messages to emit, and may
// be called several times. Call it only before the first change.
func (o *Operators) Witness(fn func(before, after *Person) func(u *store.Unit, emit func(mqtt.Message))) {
	o.witnesses = append(o.witnesses, fn)
}

// Through has changes committed by commit, which sends what witnesses emit; see
// registry.Registry.Through.
func (o *Operators) Through(commit func(build func(u *store.Unit, emit func(mqtt.Message)) error, done func(error)) error) {
	o.commit = commit
}

// assign replaces a person in memory; nil removes.
func (o *Operators) assign(name string, p *Person) {
	if old := o.people[name]; old != nil {
		for _, k := range old.Keys {
			delete(o.keys, k.ID)
		}
		delete(o.people, name)
	}
	if p != nil {
		o.people[name] = p
		for _, k := range p.Keys {
			o.keys[k.ID] = p
		}
	}
}

// change replaces a person for good. fn is given the present one, nil when there
// is none, and returns the new one, nil to remove.
func (o *Operators) change(name string, fn func(have *Person) (*Person, error)) error {
	o.write.Lock()
	defer o.write.Unlock()
	o.mu.RLock()
	have := o.people[name]
	o.mu.RUnlock()
	p, err := fn(have)
	if err != nil {
		return err
	}
	key := store.KeyOperator + name
	var tell []func(*store.Unit, func(mqtt.Message))
	for _, w := range o.witnesses {
		tell = append(tell, w(have, p))
	}
	done := make(chan error, 1)
	err = o.commit(func(u *store.Unit, emit func(mqtt.Message)) error {
		u.Vital = true // whoever may administer must be found out, or locked out, on a full disk, too
		for _, fn := range tell {
			fn(u, emit)
		}
		if p == nil {
			u.Del(key)
			return nil
		}
		val, err := json.Marshal(p)
		u.Put(key, val)
		return err
	}, func(err error) { done <- err })
	if err == nil {
		err = <-done
	}
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.assign(name, p)
	return nil
}

var validName = regexp.MustCompile(`^[A-Za-z0-9+=,.@_-]{1,64}$`)

// Create adds an operator with a first key.
func (o *Operators) Create(name string, role Role) (Key, error) {
	if !validName.MatchString(name) {
		return Key{}, fault.New(fault.Invalid, "an operator's name has 1 to 64 letters, digits and + = , . @ _ -")
	}
	if documents[role] == nil {
		return Key{}, fault.New(fault.Invalid, "the role %q is unknown; there are %v", role, Roles())
	}
	key := o.newKey()
	return key, o.change(name, func(have *Person) (*Person, error) {
		if have != nil {
			return nil, fault.New(fault.Exists, "operator %s exists", name)
		}
		return &Person{Name: name, Role: role, Keys: []Key{key}, Created: o.clk.Now().UTC()}, nil
	})
}

// First makes the first operator, an admin, when there is none. made says
// whether it did.
func (o *Operators) First(name string) (key Key, made bool, err error) {
	o.mu.RLock()
	n := len(o.people)
	o.mu.RUnlock()
	if n > 0 {
		return Key{}, false, nil
	}
	key, err = o.Create(name, Admin)
	return key, err == nil, err
}

func (o *Operators) newKey() Key {
	var id [10]byte
	var secret [30]byte
	rand.Read(id[:])
	rand.Read(secret[:])
	return Key{ID: "AKIA" + base32.StdEncoding.EncodeToString(id[:]), Secret: base64.StdEncoding.EncodeToString(secret[:]), Created: o.clk.Now().UTC(), Active: true}
}

// person copies an operator to be changed.
func person(have *Person, name string) (*Person, error) {
	if have == nil {
		return nil, fault.New(fault.NotFound, "operator %s does not exist", name)
	}
	p := *have
	p.Keys = slices.Clone(have.Keys)
	return &p, nil
}

// AddKey gives an operator a second key, for the time both are in use.
func (o *Operators) AddKey(name string) (Key, error) {
	key := o.newKey()
	return key, o.change(name, func(have *Person) (*Person, error) {
		p, err := person(have, name)
		if err != nil {
			return nil, err
		}
		if len(p.Keys) >= maxKeys {
			return nil, fault.New(fault.LimitExceeded, "operator %s has %d keys already; remove one first", name, maxKeys)
		}
		p.Keys = append(p.Keys, key)
		return p, nil
	})
}

// ReplaceKeys gives an operator a new key in place of all there were, which are of no use
// from now on.
func (o *Operators) ReplaceKeys(name string) (Key, error) {
	key := o.newKey()
	return key, o.change(name, func(have *Person) (*Person, error) {
		p, err := person(have, name)
		if err != nil {
			return nil, err
		}
		p.Keys = []Key{key}
		return p, nil
	})
}

// RemoveKey takes a key away at once. An operator's last key can be taken, too;
// the last admin's cannot.
func (o *Operators) RemoveKey(name, id string) error {
	return o.change(name, func(have *Person) (*Person, error) {
		p, err := person(have, name)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(p.Keys, func(k Key) bool { return k.ID == id })
		if i < 0 {
			return nil, fault.New(fault.NotFound, "operator %s has no key %s", name, id)
		}
		p.Keys = slices.Delete(p.Keys, i, i+1)
		return p, o.stillAdmin(name, p)
	})
}

// SetRole gives an operator another role.
func (o *Operators) SetRole(name string, role Role) error {
	if documents[role] == nil {
		return fault.New(fault.Invalid, "the role %q is unknown; there are %v", role, Roles())
	}
	return o.change(name, func(have *Person) (*Person, error) {
		p, err := person(have, name)
		if err != nil {
			return nil, err
		}
		p.Role = role
		return p, o.stillAdmin(name, p)
	})
}

// Remove removes an operator; the last admin stays.
func (o *Operators) Remove(name string) error {
	return o.change(name, func(have *Person) (*Person, error) {
		if _, err := person(have, name); err != nil {
			return nil, err
		}
		return nil, o.stillAdmin(name, nil)
	})
}

// stillAdmin refuses a change after which nobody could administer the gateway.
func (o *Operators) stillAdmin(name string, p *Person) error {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for n, other := range o.people {
		if n == name {
			other = p
		}
		if other != nil && other.Role == Admin && slices.ContainsFunc(other.Keys, func(k Key) bool { return k.Active }) {
			return nil
		}
	}
	return fault.New(fault.Conflict, "%s is the last admin with a key; make another one first", name)
}

// List gives the operators by name. Their secrets are left out.
func (o *Operators) List() []Person {
	o.mu.RLock()
	defer o.mu.RUnlock()
	var out []Person
	for _, name := range slices.Sorted(maps.Keys(o.people)) {
		p, _ := person(o.people[name], name)
		for i := range p.Keys {
			p.Keys[i].Secret = ""
		}
		out = append(out, *p)
	}
	return out
}

// Secret gives the secret of an access key, for sigv4.Verifier. Keys of
// operators have no session token.
func (o *Operators) Secret(accessKey, token string) (string, error) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	p := o.keys[accessKey]
	if p == nil || token != "" {
		return "", sigv4.ErrKey
	}
	for _, k := range p.Keys {
		if k.ID == accessKey && k.Active {
			return k.Secret, nil
		}
	}
	return "", sigv4.ErrKey
}

// Name gives the operator an access key belongs to, "" for none.
func (o *Operators) Name(accessKey string) string {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if p := o.keys[accessKey]; p != nil {
		return p.Name
	}
	return ""
}

// Documents gives what an operator's role allows, or false once the operator is
// gone.
func (o *Operators) Documents(name string) ([]*policy.Document, bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	p := o.people[name]
	if p == nil {
		return nil, false
	}
	return []*policy.Document{documents[p.Role]}, true
}

// WriteCredentials writes a key to a file in the format of the AWS shared
// credentials, mode 0600, in a folder of mode 0700. What was there is replaced.
func WriteCredentials(path string, k Key) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".credentials-*") // 0600
	if err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	defer os.Remove(f.Name()) // gone after the rename
	_, err = fmt.Fprintf(f, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", k.ID, k.Secret)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	return nil
}
