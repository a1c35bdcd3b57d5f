// Package registry keeps who is who: things, thing types, groups, billing groups,
// certificates, policies, what is attached to what, provisioning templates and custom
// authorizers.
//
// Everything is in memory for readers and in the store for good. A change is a
// transaction ([Registry.Do]): it sees its own steps, is checked against every
// rule and limit, becomes durable as a whole, and only then does Do return.
// Readers see a change from the moment it is accepted.
//
// The registry does not judge whether somebody may do something (gateway/authz)
// and does not make keys (gateway/identity). It tells those who listen what was
// changed, in the order of commits ([Registry.OnCommit]).
//
//	err := reg.Do("operator/ada", func(tx *registry.Tx) error {
//		if _, err := tx.CreateThing(registry.ThingInput{Name: "pump1"}); err != nil {
//			return err
//		}
//		return tx.AttachPrincipal("pump1", certARN, false)
//	})
//
// Errors are *fault.Error. Where AWS tells cases apart that have one code here,
// a sentinel of this package is in the chain ([ErrVersion] and its neighbours).
// Source of rules and limits: developer guide, "Managing things with the
// registry", "Static thing groups", "AWS IoT Core policies", and the quotas.
package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/policy"
	"tidegate/gateway/registry/indexquery"
	"tidegate/gateway/store"
)

// What a code alone does not say; doors turn these into exception names.
var (
	ErrVersion      = errors.New("version conflict")         // VersionConflictException
	ErrInUse        = errors.New("in use")                   // DeleteConflictException
	ErrVersions     = errors.New("too many versions")        // VersionsLimitExceededException
	ErrCertState    = errors.New("certificate state")        // CertificateStateException
	ErrCertConflict = errors.New("certificate conflict")     // CertificateConflictException
	ErrCertificate  = errors.New("certificate is not valid") // CertificateValidationException
	ErrPolicy       = errors.New("policy is malformed")      // MalformedPolicyException
	ErrRegistration = errors.New("registration code")        // RegistrationCodeValidationException
)

// ExistsError is in the chain of a fault.Exists: what stands in the way.
type ExistsError struct{ ID, ARN string }

// Error names the resource.
func (e *ExistsError) Error() string { return e.ARN + " exists" }

// Config says whose registry it is and what limits hold. A limit of 0 is off.
type Config struct {
	Account string // 12 digits
	Region  string
	Limits  Limits
}

// Limits are the quotas of AWS IoT Core that a client can meet here.
type Limits struct {
	AttributesTyped   int // attributes of a thing with a type
	AttributesUntyped int
	GroupsPerThing    int
	GroupDepth        int
	GroupChildren     int
	DynamicGroups     int
	PolicyCharacters  int
	PolicyVersions    int
	PoliciesPerTarget int
	PoliciesPerGroup  int
	ThingsPerCert     int
	IndexFields       int           // custom ones, of an index
	IndexedShadows    int           // named ones that are indexed by name
	TypeDeleteAfter   time.Duration // between deprecation and deletion of a type
}

// DefaultConfig gives the account a gateway has unless told otherwise, with the
// limits of AWS.
func DefaultConfig() Config {
	return Config{Account: "000000000000", Region: "local-1", Limits: Limits{
		AttributesTyped: 50, AttributesUntyped: 3, GroupsPerThing: 10, GroupDepth: 7, GroupChildren: 100, DynamicGroups: 100,
		PolicyCharacters: policy.MaxSize, PolicyVersions: 5, PoliciesPerTarget: 10, PoliciesPerGroup: 2, ThingsPerCert: 10, IndexFields: 5, IndexedShadows: 10,
		TypeDeleteAfter: 5 * time.Minute,
	}}
}

// Validate says what is impossible about c.
func (c Config) Validate() error {
	if len(c.Account) != 12 || strings.Trim(c.Account, "0123456789") != "" {
		return fmt.Errorf("account.id is %q: want 12 digits", c.Account)
	}
	if c.Region == "" || strings.ContainsAny(c.Region, ":/* ") {
		return fmt.Errorf("account.region is %q: want a name such as local-1", c.Region)
	}
	return nil
}

// Registry is an open registry. Its methods may be called concurrently.
type Registry struct {
	cfg  Config
	db   *store.Store
	clk  clock.Clock
	base string // "arn:aws:iot:REGION:ACCOUNT:"

	write sync.Mutex // one transaction at a time; taken before mu

	listening []func([]Change) // these are set while the house is built
	witnesses []func([]Change) func(*store.Unit, func(mqtt.Message))
	commit    func(build func(u *store.Unit, emit func(mqtt.Message)) error, done func(error)) error
	facts     func(Subject) indexquery.Document // nil: there are none

	mu          sync.RWMutex // guards what follows
	things      table[Thing]
	types       table[Type]
	groups      table[Group]
	billing     table[Billing]
	certs       table[Certificate]
	cas         table[CA]
	policies    table[Policy]
	templates   table[Template]
	authorizers table[Authorizer]
	roles       table[RoleAlias]
	domains     table[Domain]
	providers   table[CertificateProvider]
	links       table[link]     // principals of things
	attached    table[struct{}] // policies of targets, key: target NUL policy
	settings    table[json.RawMessage]
	index       index
	indexing    *Indexing
}

// Open reads the registry from the store.
func Open(db *store.Store, clk clock.Clock, cfg Config) (*Registry, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Registry{cfg: cfg, db: db, clk: clk, base: "arn:aws:iot:" + cfg.Region + ":" + cfg.Account + ":"}
	r.commit = r.alone
	r.index.init()
	err := errors.Join(
		load(r, &r.types, keyType, nil), load(r, &r.groups, keyGroup, r.index.addGroup), load(r, &r.billing, keyBilling, nil),
		load(r, &r.things, keyThing, r.index.addThing), load(r, &r.certs, keyCert, nil), load(r, &r.cas, keyCA, nil),
		load(r, &r.policies, keyPolicy, nil), load(r, &r.links, keyLink, r.index.addLink), load(r, &r.attached, keyAttached, r.index.addAttached),
		load(r, &r.settings, keySetting, nil), load(r, &r.templates, keyTemplate, nil), load(r, &r.authorizers, keyAuthorizer, nil),
		load(r, &r.roles, keyRole, nil), load(r, &r.domains, keyDomain, nil), load(r, &r.providers, keyProvider, nil))
	if err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	r.loadIndexing()
	for _, p := range r.policies.m {
		if err := p.compile(r.cfg.Limits.PolicyCharacters); err != nil {
			return nil, fmt.Errorf("open registry: policy %s: %w", p.Name, err)
		}
	}
	for name := range r.index.dynamic {
		if err := r.groups.m[name].compile(); err != nil {
			return nil, fmt.Errorf("open registry: thing group %s: %w", name, err)
		}
	}
	return r, nil
}

// The keys. What follows each is the name, or two names with a NUL between.
const (
	keyThing      = store.KeyThing + "t/"
	keyLink       = store.KeyThing + "p/"
	keySetting    = store.KeyThing + "s/"
	keyRole       = store.KeyThing + "r/"
	keyDomain     = store.KeyThing + "d/"
	keyProvider   = store.KeyThing + "c/"
	keyType       = store.KeyThingType
	keyGroup      = store.KeyGroup + "t/"
	keyBilling    = store.KeyGroup + "b/"
	keyCert       = store.KeyCert + "d/"
	keyCA         = store.KeyCert + "ca/"
	keyPolicy     = store.KeyPolicy + "p/"
	keyAttached   = store.KeyPolicy + "a/"
	keyTemplate   = store.KeyTemplate
	keyAuthorizer = store.KeyAuthorizer
)

// load fills a table from the store.
func load[T any](r *Registry, t *table[T], prefix string, each func(key string, v *T)) error {
	t.prefix = prefix
	t.m = map[string]*T{}
	var bad error
	err := r.db.Scan(prefix, func(key string, val []byte) bool {
		v := new(T)
		if err := json.Unmarshal(val, v); err != nil {
			bad = fmt.Errorf("%s: %w", key, err)
			return false
		}
		name := key[len(prefix):]
		t.m[name] = v
		t.keys = append(t.keys, name) // Scan goes in order
		if each != nil {
			each(name, v)
		}
		return true
	})
	return errors.Join(err, bad)
}

// Base gives the ARN up to and with the account.
func (r *Registry) Base() string { return r.base }

// Account gives the account's id.
func (r *Registry) Account() string { return r.cfg.Account }

// ARN makes an ARN of a resource: ARN("thing", "pump1").
func (r *Registry) ARN(kind, name string) string { return r.base + kind + "/" + name }

// Name takes the name out of an ARN of this account, "" when it is none of that
// kind.
func (r *Registry) Name(kind, arn string) string {
	name, ok := strings.CutPrefix(arn, r.base+kind+"/")
	if !ok {
		return ""
	}
	return name
}

// OnCommit adds a listener. It is called in the order of commits, after what it
// is told is on the disk, and must neither block nor change the registry. Call
// it only before the first Do.
func (r *Registry) OnCommit(fn func([]Change)) { r.listening = append(r.listening, fn) }

// Witness adds somebody who has something to say about every transaction: told of the
// changes it gives a function that adds writes to the transaction's unit and hands
// messages to emit. That function may be called several times for one transaction. Call
// Witness only before the first Do.
func (r *Registry) Witness(fn func([]Change) func(u *store.Unit, emit func(mqtt.Message))) {
	r.witnesses = append(r.witnesses, fn)
}

// Through has transactions committed by commit, which sends what witnesses emit on its
// way in the same unit (ingest.Road.Commit is one). Without it messages go nowhere.
// Call it only before the first Do.
func (r *Registry) Through(commit func(build func(u *store.Unit, emit func(mqtt.Message)) error, done func(error)) error) {
	r.commit = commit
}

// alone commits without anybody who takes messages.
func (r *Registry) alone(build func(u *store.Unit, emit func(mqtt.Message)) error, done func(error)) error {
	return r.db.Do(func(u *store.Unit) error { return build(u, func(mqtt.Message) {}) }, func(_ []uint64, err error) { done(err) })
}

// Subject is a thing as those see it who keep more facts about it.
type Subject struct {
	Thing     string
	Exclusive []string  // ARNs of the principals that stand for this thing alone
	Indexed   *Indexing // what is to be seen of it
}

// SetFacts says where searches find what the registry does not keep: the fields that
// begin with shadow. and connectivity. of a thing's document. fn is called for one thing
// after the other, and its answer is asked at once and not kept; neither may call the
// registry. Call it only before the first search.
func (r *Registry) SetFacts(fn func(Subject) indexquery.Document) { r.facts = fn }

// Change is one step of a transaction.
type Change struct {
	Kind          string // "thing", "thingtype", "thinggroup", "billinggroup", "cert", "cacert", "policy", "principal", "attachment", "setting", "template", "authorizer", "rolealias", "domain", "certificateprovider"
	Name          string // for links of two: "thing principal", "target policy"
	Before, After any    // pointers to this package's types, nil where there is none; not to be changed
	By            string // who did it
	At            time.Time
}

// notFound is the error for a name that is not there.
func notFound(kind, name string) error {
	return fault.New(fault.NotFound, "%s %s does not exist", kind, name)
}
