package registry

import (
	"maps"
	"strings"

	"tidegate/gateway/fault"
)

// tagged finds the tags of a resource and how to set them. Things and
// certificates have none.
func (r *Registry) tagged(arn string) (tags map[string]string, write func(*Tx, map[string]string), err error) {
	if n := r.Name("thingtype", arn); n != "" {
		t, err := r.thingType(n)
		if err != nil {
			return nil, nil, err
		}
		return t.Tags, func(tx *Tx, tags map[string]string) { c := *t; c.Tags = tags; set(tx, &r.types, "thingtype", n, &c) }, nil
	}
	if n := r.Name("thinggroup", arn); n != "" {
		g, err := r.group(n)
		if err != nil {
			return nil, nil, err
		}
		return g.Tags, func(tx *Tx, tags map[string]string) { c := *g; c.Tags = tags; set(tx, &r.groups, "thinggroup", n, &c) }, nil
	}
	if n := r.Name("billinggroup", arn); n != "" {
		b, err := r.billingGroup(n)
		if err != nil {
			return nil, nil, err
		}
		return b.Tags, func(tx *Tx, tags map[string]string) {
			c := *b
			c.Tags = tags
			set(tx, &r.billing, "billinggroup", n, &c)
		}, nil
	}
	if n := r.Name("policy", arn); n != "" {
		p, err := r.policy(n)
		if err != nil {
			return nil, nil, err
		}
		return p.Tags, func(tx *Tx, tags map[string]string) { c := *p; c.Tags = tags; set(tx, &r.policies, "policy", n, &c) }, nil
	}
	if n := r.Name("cacert", arn); n != "" {
		ca, err := r.ca(n)
		if err != nil {
			return nil, nil, err
		}
		return ca.Tags, func(tx *Tx, tags map[string]string) { c := *ca; c.Tags = tags; set(tx, &r.cas, "cacert", n, &c) }, nil
	}
	if n := r.Name("provisioningtemplate", arn); n != "" {
		t, err := r.template(n)
		if err != nil {
			return nil, nil, err
		}
		return t.Tags, func(tx *Tx, tags map[string]string) { c := *t; c.Tags = tags; set(tx, &r.templates, "template", n, &c) }, nil
	}
	if n := r.Name("authorizer", arn); n != "" {
		a, err := r.authorizer(n)
		if err != nil {
			return nil, nil, err
		}
		return a.Tags, func(tx *Tx, tags map[string]string) {
			c := *a
			c.Tags = tags
			set(tx, &r.authorizers, "authorizer", n, &c)
		}, nil
	}
	if n := r.Name("rolealias", arn); n != "" {
		a, err := r.roleAlias(n)
		if err != nil {
			return nil, nil, err
		}
		return a.Tags, func(tx *Tx, tags map[string]string) { c := *a; c.Tags = tags; set(tx, &r.roles, "rolealias", n, &c) }, nil
	}
	if n, _, _ := strings.Cut(r.Name("domainconfiguration", arn), "/"); n != "" {
		d, err := r.domain(n)
		if err != nil {
			return nil, nil, err
		}
		return d.Tags, func(tx *Tx, tags map[string]string) { c := *d; c.Tags = tags; set(tx, &r.domains, "domain", n, &c) }, nil
	}
	if n := r.Name("certificateprovider", arn); n != "" {
		p, err := r.provider(n)
		if err != nil {
			return nil, nil, err
		}
		return p.Tags, func(tx *Tx, tags map[string]string) {
			c := *p
			c.Tags = tags
			set(tx, &r.providers, "certificateprovider", n, &c)
		}, nil
	}
	return nil, nil, fault.New(fault.Invalid, "the resource %s cannot have tags here", arn)
}

// Tags gives the tags of a resource.
func (r *Registry) Tags(arn string) (map[string]string, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	tags, _, err := r.tagged(arn)
	return maps.Clone(tags), err
}

// Tag sets tags of a resource.
func (tx *Tx) Tag(arn string, tags map[string]string) error {
	have, write, err := tx.r.tagged(arn)
	if err != nil {
		return err
	}
	all := map[string]string{}
	maps.Copy(all, have)
	maps.Copy(all, tags)
	if err := checkTags(all); err != nil {
		return err
	}
	write(tx, all)
	return nil
}

// Untag removes tags of a resource; those that are not there are no error.
func (tx *Tx) Untag(arn string, keys []string) error {
	have, write, err := tx.r.tagged(arn)
	if err != nil {
		return err
	}
	all := maps.Clone(have)
	for _, k := range keys {
		delete(all, k)
	}
	write(tx, all)
	return nil
}
