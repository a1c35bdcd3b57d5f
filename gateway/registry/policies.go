package registry

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/policy"
)

// Policy is a policy with its versions. Records are read-only.
type Policy struct {
	Name     string
	Versions []PolicyVersion   // in the order of their making
	Default  string            // id of the version in force
	Last     int               // number of the last version ever made
	Tags     map[string]string `json:",omitempty"`
	Created  time.Time
	Modified time.Time

	doc *policy.Document // of the default version
}

// PolicyVersion is one document of a policy.
type PolicyVersion struct {
	ID       string
	Document string
	Created  time.Time
}

// Version gives a version by its id.
func (p *Policy) Version(id string) *PolicyVersion {
	for i := range p.Versions {
		if p.Versions[i].ID == id {
			return &p.Versions[i]
		}
	}
	return nil
}

// Document gives the parsed document in force.
func (p *Policy) Document() *policy.Document { return p.doc }

// compile parses the version in force.
func (p *Policy) compile(size int) error {
	doc, err := parsePolicy(p.Version(p.Default).Document, size)
	if err != nil {
		return err
	}
	doc.Name, p.doc = p.Name, doc
	return nil
}

func parsePolicy(text string, size int) (*policy.Document, error) {
	if size <= 0 {
		size = 1 << 20
	}
	doc, err := policy.ParseSize([]byte(text), size)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, ErrPolicy, "%s", fault.Message(err))
	}
	return doc, nil
}

// Policy gives a policy.
func (r *Registry) Policy(name string) (*Policy, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.policy(name)
}

func (r *Registry) policy(name string) (*Policy, error) {
	if p := r.policies.m[name]; p != nil {
		return p, nil
	}
	return nil, notFound("Policy", name)
}

// Policies lists policies by name.
func (r *Registry) Policies(p Page) (policies []*Policy, next string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names, next := page(r.policies.keys, p, nil)
	return pick(&r.policies, names), next
}

// CreatePolicy adds a policy with its first version. A name that is taken is
// fault.Exists whatever the document.
func (tx *Tx) CreatePolicy(name, document string, tags map[string]string) (*Policy, error) {
	if err := rulePolicy.check(name); err != nil {
		return nil, err
	}
	if err := checkTags(tags); err != nil {
		return nil, err
	}
	if tx.r.policies.m[name] != nil {
		return nil, fault.Wrap(fault.Exists, &ExistsError{name, tx.r.ARN("policy", name)}, "Policy cannot be created - name already exists (name=%s)", name)
	}
	p := &Policy{Name: name, Default: "1", Last: 1, Versions: []PolicyVersion{{"1", document, tx.now}}, Tags: maps.Clone(tags), Created: tx.now, Modified: tx.now}
	return p, tx.setPolicy(p)
}

func (tx *Tx) setPolicy(p *Policy) error {
	if err := p.compile(tx.r.cfg.Limits.PolicyCharacters); err != nil {
		return err
	}
	set(tx, &tx.r.policies, "policy", p.Name, p)
	return nil
}

// CreatePolicyVersion adds a version and, if asked, puts it in force.
func (tx *Tx) CreatePolicyVersion(name, document string, asDefault bool) (*PolicyVersion, error) {
	have, err := tx.r.policy(name)
	if err != nil {
		return nil, err
	}
	if _, err := parsePolicy(document, tx.r.cfg.Limits.PolicyCharacters); err != nil {
		return nil, err
	}
	if max := tx.r.cfg.Limits.PolicyVersions; max > 0 && len(have.Versions) >= max {
		return nil, fault.Wrap(fault.LimitExceeded, ErrVersions, "The policy %s already has the maximum number of versions (%d)", name, max)
	}
	p := *have
	p.Last++
	v := PolicyVersion{strconv.Itoa(p.Last), document, tx.now}
	p.Versions = append(slices.Clone(p.Versions), v)
	p.Modified = tx.now
	if asDefault {
		p.Default = v.ID
	}
	return &v, tx.setPolicy(&p)
}

// SetDefaultVersion puts a version in force.
func (tx *Tx) SetDefaultVersion(name, id string) error {
	have, err := tx.r.policy(name)
	if err != nil {
		return err
	}
	if have.Version(id) == nil {
		return notFound("Policy version", name+" "+id)
	}
	p := *have
	p.Default, p.Modified = id, tx.now
	return tx.setPolicy(&p)
}

// DeletePolicyVersion removes a version that is not in force.
func (tx *Tx) DeletePolicyVersion(name, id string) error {
	have, err := tx.r.policy(name)
	if err != nil {
		return err
	}
	switch {
	case have.Version(id) == nil:
		return notFound("Policy version", name+" "+id)
	case have.Default == id:
		return fault.Wrap(fault.Conflict, ErrInUse, "Cannot delete the default version of a policy")
	}
	p := *have
	p.Versions = slices.DeleteFunc(slices.Clone(p.Versions), func(v PolicyVersion) bool { return v.ID == id })
	p.Modified = tx.now
	return tx.setPolicy(&p)
}

// DeletePolicy removes a policy that is attached to nothing and has only its
// default version.
func (tx *Tx) DeletePolicy(name string) error {
	p, err := tx.r.policy(name)
	if err != nil {
		return err
	}
	switch {
	case len(tx.r.index.targets[name]) > 0:
		return fault.Wrap(fault.Conflict, ErrInUse, "The policy cannot be deleted as the policy is attached to one or more principals (name=%s)", name)
	case len(p.Versions) > 1:
		return fault.Wrap(fault.Conflict, ErrInUse, "Cannot delete the policy because it has one or more policy versions attached to it (name=%s)", name)
	}
	set(tx, &tx.r.policies, "policy", name, nil)
	return nil
}

// AttachPolicy attaches a policy to a certificate, a static group or a Cognito
// identity. What is attached already is no error.
func (tx *Tx) AttachPolicy(name, target string) error {
	r := tx.r
	if _, err := r.policy(name); err != nil {
		return err
	}
	max, err := r.target(target)
	if err != nil {
		return err
	}
	have := r.index.policies[target]
	if _, ok := have[name]; ok {
		return nil
	}
	if err := limit(len(have)+1, max, "policies attached to "+target); err != nil {
		return err
	}
	key := target + "\x00" + name
	set(tx, &r.attached, "attachment", key, &struct{}{})
	tx.indexed(func() { r.index.addAttached(key, nil) }, func() { r.index.dropAttached(key) })
	return nil
}

// DetachPolicy takes a policy off a target; one that is not attached is no error.
func (tx *Tx) DetachPolicy(name, target string) error {
	r := tx.r
	if _, err := r.policy(name); err != nil {
		return err
	}
	key := target + "\x00" + name
	if r.attached.m[key] == nil {
		return nil
	}
	set(tx, &r.attached, "attachment", key, nil)
	tx.indexed(func() { r.index.dropAttached(key) }, func() { r.index.addAttached(key, nil) })
	return nil
}

// target checks that policies can be attached to something and says how many.
func (r *Registry) target(target string) (max int, err error) {
	if group := r.Name("thinggroup", target); group != "" {
		g, err := r.group(group)
		if err == nil && g.Dynamic() {
			err = fault.New(fault.Invalid, "policies cannot be attached to the dynamic thing group %s", group)
		}
		return r.cfg.Limits.PoliciesPerGroup, err
	}
	return r.cfg.Limits.PoliciesPerTarget, r.principal(target)
}

// AttachedPolicies lists the policies of a target by name; with recursive, for a
// group, those of the groups above it, too.
func (r *Registry) AttachedPolicies(target string, recursive bool, p Page) (policies []*Policy, next string, err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if _, err := r.target(target); err != nil {
		return nil, "", err
	}
	in := r.index.policies[target]
	if group := r.Name("thinggroup", target); recursive && group != "" {
		in = set1{}
		for _, g := range r.chain(group) {
			maps.Copy(in, r.index.policies[r.ARN("thinggroup", g.Name)])
		}
	}
	names, next := page(slices.Sorted(maps.Keys(in)), p, nil)
	return pick(&r.policies, names), next, nil
}

// Targets lists what a policy is attached to.
func (r *Registry) Targets(name string, p Page) (targets []string, next string, err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if _, err := r.policy(name); err != nil {
		return nil, "", err
	}
	targets, next = page(slices.Sorted(maps.Keys(r.index.targets[name])), p, nil)
	return targets, next, nil
}

// Effective gives the policies in force for a principal that connects as a
// thing: its own, and, when it is attached to the thing, those of the thing's
// static groups and the groups above them. thing may be "".
func (r *Registry) Effective(principal, thing string) []*Policy {
	r.mu.RLock()
	defer r.mu.RUnlock()
	in := set1{}
	maps.Copy(in, r.index.policies[principal])
	if _, attached := r.index.principals[thing][principal]; attached {
		r.inherited(thing, in)
	}
	return pick(&r.policies, slices.Sorted(maps.Keys(in)))
}

// Inherited gives the policies of the static groups of a thing and of the groups above
// them, by name; none for a thing there is not.
func (r *Registry) Inherited(thing string) []*Policy {
	r.mu.RLock()
	defer r.mu.RUnlock()
	in := set1{}
	r.inherited(thing, in)
	return pick(&r.policies, slices.Sorted(maps.Keys(in)))
}

// inherited adds the names of the policies that a thing's groups have.
func (r *Registry) inherited(thing string, in set1) {
	t := r.things.m[thing]
	if t == nil {
		return
	}
	for _, name := range t.Groups {
		for _, g := range r.chain(name) {
			maps.Copy(in, r.index.policies[r.ARN("thinggroup", g.Name)])
		}
	}
}
