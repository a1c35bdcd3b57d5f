package registry

import (
	"maps"
	"slices"
	"strings"
	"time"

	"tidegate/gateway/fault"
)

// Billing is a billing group. Records are read-only.
type Billing struct {
	Name        string
	ID          string
	Description string            `json:",omitempty"`
	Tags        map[string]string `json:",omitempty"`
	Version     int64
	Created     time.Time
}

// BillingGroup gives a billing group.
func (r *Registry) BillingGroup(name string) (*Billing, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.billingGroup(name)
}

func (r *Registry) billingGroup(name string) (*Billing, error) {
	if b := r.billing.m[name]; b != nil {
		return b, nil
	}
	return nil, notFound("Billing group", name)
}

// BillingGroups lists billing groups by name.
func (r *Registry) BillingGroups(prefix string, p Page) (groups []*Billing, next string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names, next := page(r.billing.keys, p, func(n string) bool { return strings.HasPrefix(n, prefix) })
	return pick(&r.billing, names), next
}

// Billed lists the things of a billing group by name.
func (r *Registry) Billed(group string, p Page) (things []string, next string, err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if _, err := r.billingGroup(group); err != nil {
		return nil, "", err
	}
	things, next = page(slices.Sorted(maps.Keys(r.index.billed[group])), p, nil)
	return things, next, nil
}

// CreateBilling adds a billing group. The same input again gives the group that
// is there; another one for the name is fault.Exists.
func (tx *Tx) CreateBilling(name, description string, tags map[string]string) (*Billing, error) {
	if err := ruleBilling.check(name); err != nil {
		return nil, err
	}
	if err := ruleBillText.check(description); err != nil {
		return nil, err
	}
	if err := checkTags(tags); err != nil {
		return nil, err
	}
	if have := tx.r.billing.m[name]; have != nil {
		if have.Description == description {
			return have, nil
		}
		return nil, fault.Wrap(fault.Exists, &ExistsError{have.ID, tx.r.ARN("billinggroup", name)}, "Billing Group %s already exists in account with different properties", name)
	}
	b := &Billing{Name: name, ID: newID(), Description: description, Tags: maps.Clone(tags), Version: 1, Created: tx.now}
	set(tx, &tx.r.billing, "billinggroup", name, b)
	return b, nil
}

// UpdateBilling changes the description and counts the version up.
func (tx *Tx) UpdateBilling(name, description string, expected int64) (*Billing, error) {
	have, err := tx.r.billingGroup(name)
	if err != nil {
		return nil, err
	}
	if err := expect(expected, have.Version, "billing group "+name); err != nil {
		return nil, err
	}
	if err := ruleBillText.check(description); err != nil {
		return nil, err
	}
	b := *have
	b.Description = description
	b.Version++
	set(tx, &tx.r.billing, "billinggroup", name, &b)
	return &b, nil
}

// DeleteBilling removes a billing group and its things from it. A group that is
// not there is no error.
func (tx *Tx) DeleteBilling(name string, expected int64) error {
	b := tx.r.billing.m[name]
	if b == nil {
		return ruleBilling.check(name)
	}
	if err := expect(expected, b.Version, "billing group "+name); err != nil {
		return err
	}
	for _, thing := range slices.Sorted(maps.Keys(tx.r.index.billed[name])) {
		t := *tx.r.things.m[thing]
		t.Billing = ""
		tx.setThing(&t)
	}
	set(tx, &tx.r.billing, "billinggroup", name, nil)
	return nil
}

// SetBilling puts a thing into a billing group, out of the one it was in.
func (tx *Tx) SetBilling(thing, group string) error {
	if _, err := tx.r.billingGroup(group); err != nil {
		return err
	}
	return tx.bill(thing, group, "")
}

// ClearBilling takes a thing out of a billing group; a thing that is not in it
// is no error.
func (tx *Tx) ClearBilling(thing, group string) error {
	if _, err := tx.r.billingGroup(group); err != nil {
		return err
	}
	return tx.bill(thing, "", group)
}

// bill sets the group of a thing; from, unless "", must be the present one.
func (tx *Tx) bill(thing, group, from string) error {
	have, err := tx.r.thing(thing)
	if err != nil {
		return err
	}
	if have.Billing == group || from != "" && have.Billing != from {
		return nil
	}
	t := *have
	t.Billing = group
	tx.setThing(&t)
	return nil
}
