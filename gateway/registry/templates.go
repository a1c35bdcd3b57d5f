package registry

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"tidegate/gateway/fault"
)

// The kinds of provisioning templates.
const (
	TemplateFleet = "FLEET_PROVISIONING"
	TemplateJITP  = "JITP"
)

// The bounds of templates (developer guide, "Provisioning templates"; quotas).
const maxTemplateVersions = 5

var (
	ruleTemplate     = newRule("templateName", 1, 36, `[0-9A-Za-z_-]+`)
	ruleTemplateText = newRule("description", 0, 500, `[^\p{C}]*`)
	ruleHookVersion  = newRule("payloadVersion", 10, 32, `[!-~]+`)
)

// Template is a provisioning template with its versions. Records are read-only.
type Template struct {
	Name        string
	Type        string // TemplateFleet or TemplateJITP
	Description string `json:",omitempty"`
	Enabled     bool
	Role        string            `json:",omitempty"`
	Hook        *Hook             `json:",omitempty"`
	Versions    []TemplateVersion // in the order of their making
	Default     int               // id of the version in force
	Last        int               // id of the last version ever made
	Tags        map[string]string `json:",omitempty"`
	Created     time.Time
	Modified    time.Time
}

// Hook is asked before a device is provisioned.
type Hook struct {
	PayloadVersion string `json:",omitempty"`
	Target         string // ARN of a function
}

// TemplateVersion is one body of a template.
type TemplateVersion struct {
	ID      int
	Body    string
	Created time.Time
}

// Version gives a version by its id, nil when there is none.
func (t *Template) Version(id int) *TemplateVersion {
	for i := range t.Versions {
		if t.Versions[i].ID == id {
			return &t.Versions[i]
		}
	}
	return nil
}

// Body gives the body in force.
func (t *Template) Body() string { return t.Version(t.Default).Body }

// Template gives a provisioning template.
func (r *Registry) Template(name string) (*Template, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.template(name)
}

func (r *Registry) template(name string) (*Template, error) {
	if t := r.templates.m[name]; t != nil {
		return t, nil
	}
	return nil, notFound("Provisioning template", name)
}

// Templates lists provisioning templates by name.
func (r *Registry) Templates(p Page) (templates []*Template, next string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names, next := page(r.templates.keys, p, nil)
	return pick(&r.templates, names), next
}

// TemplateInput is what CreateTemplate takes. The body was parsed by the caller.
type TemplateInput struct {
	Name        string
	Type        string // "" means TemplateFleet
	Description string
	Enabled     bool
	Role        string
	Hook        *Hook
	Body        string
	Tags        map[string]string
}

// CreateTemplate adds a template with its first version.
func (tx *Tx) CreateTemplate(in TemplateInput) (*Template, error) {
	if err := ruleTemplate.check(in.Name); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	if in.Type == "" {
		in.Type = TemplateFleet
	}
	if in.Type != TemplateFleet && in.Type != TemplateJITP {
		return nil, fault.New(fault.Invalid, "the type of a provisioning template is %s or %s", TemplateFleet, TemplateJITP)
	}
	if tx.r.templates.m[in.Name] != nil {
		return nil, fault.Wrap(fault.Exists, &ExistsError{in.Name, tx.r.ARN("provisioningtemplate", in.Name)}, "Provisioning template %s already exists", in.Name)
	}
	t := &Template{Name: in.Name, Type: in.Type, Description: in.Description, Enabled: in.Enabled, Role: in.Role, Hook: in.Hook, Default: 1, Last: 1,
		Versions: []TemplateVersion{{1, in.Body, tx.now}}, Tags: maps.Clone(in.Tags), Created: tx.now, Modified: tx.now}
	return t, tx.setTemplate(t)
}

func (tx *Tx) setTemplate(t *Template) error {
	if err := ruleTemplateText.check(t.Description); err != nil {
		return err
	}
	if t.Hook != nil && t.Type == TemplateJITP {
		return fault.New(fault.Invalid, "a template of the type %s has no pre-provisioning hook", TemplateJITP)
	}
	if t.Hook != nil {
		if t.Hook.Target == "" {
			return fault.New(fault.Invalid, "the pre-provisioning hook has no targetArn")
		}
		if v := t.Hook.PayloadVersion; v != "" {
			if err := ruleHookVersion.check(v); err != nil {
				return err
			}
		}
	}
	set(tx, &tx.r.templates, "template", t.Name, t)
	return nil
}

// UpdateTemplate changes a template by a function that is given a copy; its name, type
// and versions stay.
func (tx *Tx) UpdateTemplate(name string, change func(*Template)) error {
	have, err := tx.r.template(name)
	if err != nil {
		return err
	}
	t := *have
	change(&t)
	if t.Version(t.Default) == nil {
		return notFound("Provisioning template version", name+" "+strconv.Itoa(t.Default))
	}
	t.Name, t.Type, t.Versions, t.Last, t.Created, t.Modified = have.Name, have.Type, have.Versions, have.Last, have.Created, tx.now
	return tx.setTemplate(&t)
}

// DeleteTemplate removes a template that has only its default version and that no
// authority names.
func (tx *Tx) DeleteTemplate(name string) error {
	t, err := tx.r.template(name)
	if err != nil {
		return err
	}
	if len(t.Versions) > 1 {
		return fault.Wrap(fault.Conflict, ErrInUse, "The provisioning template %s has versions besides its default; delete them first", name)
	}
	for _, ca := range tx.r.cas.m {
		if ca.Named == name {
			return fault.Wrap(fault.Conflict, ErrInUse, "The provisioning template %s is used by the CA certificate %s", name, ca.ID)
		}
	}
	set(tx, &tx.r.templates, "template", name, nil)
	return nil
}

// CreateTemplateVersion adds a body and, if asked, puts it in force.
func (tx *Tx) CreateTemplateVersion(name, body string, asDefault bool) (*TemplateVersion, error) {
	have, err := tx.r.template(name)
	if err != nil {
		return nil, err
	}
	if len(have.Versions) >= maxTemplateVersions {
		return nil, fault.Wrap(fault.LimitExceeded, ErrVersions, "The provisioning template %s already has the maximum number of versions (%d)", name, maxTemplateVersions)
	}
	t := *have
	t.Last++
	v := TemplateVersion{t.Last, body, tx.now}
	t.Versions, t.Modified = append(slices.Clone(t.Versions), v), tx.now
	if asDefault {
		t.Default = v.ID
	}
	return &v, tx.setTemplate(&t)
}

// DeleteTemplateVersion removes a version that is not in force.
func (tx *Tx) DeleteTemplateVersion(name string, id int) error {
	have, err := tx.r.template(name)
	if err != nil {
		return err
	}
	switch {
	case have.Version(id) == nil:
		return notFound("Provisioning template version", name+" "+strconv.Itoa(id))
	case have.Default == id:
		return fault.Wrap(fault.Conflict, ErrInUse, "Cannot delete the default version of a provisioning template")
	}
	t := *have
	t.Versions = slices.DeleteFunc(slices.Clone(t.Versions), func(v TemplateVersion) bool { return v.ID == id })
	t.Modified = tx.now
	return tx.setTemplate(&t)
}
