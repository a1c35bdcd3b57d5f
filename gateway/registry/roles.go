package registry

import (
	"maps"
	"time"

	"tidegate/gateway/fault"
)

// RoleAlias is a second name of a role. Records are read-only.
type RoleAlias struct {
	Name     string
	Role     string            // ARN
	Duration int               // of credentials, seconds: 900 to 43200
	Tags     map[string]string `json:",omitempty"`
	Created  time.Time
	Modified time.Time
}

// DefaultRoleDuration is how long credentials are good unless an alias says otherwise.
const DefaultRoleDuration = 3600 // seconds

var (
	ruleRoleAlias = newRule("roleAlias", 1, 128, `[\w=,@-]+`)
	ruleRole      = newRule("roleArn", 20, 2048, `[\s\S]*`)
)

// RoleAlias gives a role alias.
func (r *Registry) RoleAlias(name string) (*RoleAlias, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.roleAlias(name)
}

func (r *Registry) roleAlias(name string) (*RoleAlias, error) {
	if a := r.roles.m[name]; a != nil {
		return a, nil
	}
	return nil, notFound("Role alias", name)
}

// RoleAliases lists role aliases by name.
func (r *Registry) RoleAliases(p Page) (aliases []*RoleAlias, next string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names, next := page(r.roles.keys, p, nil)
	return pick(&r.roles, names), next
}

// CreateRoleAlias adds a role alias; a zero duration means [DefaultRoleDuration].
func (tx *Tx) CreateRoleAlias(a RoleAlias) error {
	if err := ruleRoleAlias.check(a.Name); err != nil {
		return err
	}
	if err := checkTags(a.Tags); err != nil {
		return err
	}
	if tx.r.roles.m[a.Name] != nil {
		return fault.Wrap(fault.Exists, &ExistsError{a.Name, tx.r.ARN("rolealias", a.Name)}, "Role alias %s already exists", a.Name)
	}
	a.Tags, a.Created = maps.Clone(a.Tags), tx.now
	return tx.setRoleAlias(a)
}

func (tx *Tx) setRoleAlias(a RoleAlias) error {
	if a.Duration == 0 {
		a.Duration = DefaultRoleDuration
	}
	if a.Duration < 900 || a.Duration > 43200 {
		return fault.New(fault.Invalid, "credentialDurationSeconds is %d, expected 900 to 43200", a.Duration)
	}
	if err := ruleRole.check(a.Role); err != nil {
		return err
	}
	a.Modified = tx.now
	set(tx, &tx.r.roles, "rolealias", a.Name, &a)
	return nil
}

// UpdateRoleAlias changes what is not zero.
func (tx *Tx) UpdateRoleAlias(name, role string, duration int) error {
	have, err := tx.r.roleAlias(name)
	if err != nil {
		return err
	}
	a := *have
	if role != "" {
		a.Role = role
	}
	if duration != 0 {
		a.Duration = duration
	}
	return tx.setRoleAlias(a)
}

// DeleteRoleAlias removes a role alias.
func (tx *Tx) DeleteRoleAlias(name string) error {
	if _, err := tx.r.roleAlias(name); err != nil {
		return err
	}
	set(tx, &tx.r.roles, "rolealias", name, nil)
	return nil
}
