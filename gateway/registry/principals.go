package registry

import (
	"maps"
	"slices"
	"strings"

	"tidegate/gateway/fault"
)

// link is a thing's attachment to a principal.
type link struct {
	Exclusive bool `json:",omitempty"`
}

// Link is a principal of a thing, or a thing of a principal.
type Link struct {
	Thing, Principal string
	Exclusive        bool
}

// principal checks that somebody of the name can exist: a registered
// certificate or a Cognito identity.
func (r *Registry) principal(arn string) error {
	if id := r.Name("cert", arn); id != "" {
		_, err := r.certificate(id)
		return err
	}
	if strings.HasPrefix(arn, "arn:") || ruleCognito.check(arn) != nil {
		return fault.New(fault.Invalid, "The principal %s is neither a certificate of this account nor an identity", arn)
	}
	return nil
}

// AttachPrincipal attaches a principal to a thing. With exclusive the principal
// can have no other thing, and every client id it connects with stands for this
// one. What is attached already is no error.
func (tx *Tx) AttachPrincipal(thing, principal string, exclusive bool) error {
	r := tx.r
	if _, err := r.thing(thing); err != nil {
		return err
	}
	if err := r.principal(principal); err != nil {
		return err
	}
	key := thing + "\x00" + principal
	have := r.links.m[key]
	if have != nil && have.Exclusive == exclusive {
		return nil
	}
	for other := range r.index.things[principal] {
		if other != thing && (exclusive || r.links.m[other+"\x00"+principal].Exclusive) {
			return fault.New(fault.Invalid, "The principal is attached to thing %s, and one of the two attachments is exclusive", other)
		}
	}
	if have == nil {
		if err := limit(len(r.index.things[principal])+1, r.cfg.Limits.ThingsPerCert, "things attached to a principal"); err != nil {
			return err
		}
	}
	set(tx, &r.links, "principal", key, &link{exclusive})
	if have == nil {
		tx.indexed(func() { r.index.addLink(key, nil) }, func() { r.index.dropLink(key) })
	}
	return nil
}

// DetachPrincipal ends an attachment; one that is not there is no error.
func (tx *Tx) DetachPrincipal(thing, principal string) error {
	r := tx.r
	if _, err := r.thing(thing); err != nil {
		return err
	}
	key := thing + "\x00" + principal
	if r.links.m[key] == nil {
		return nil
	}
	set(tx, &r.links, "principal", key, nil)
	tx.indexed(func() { r.index.dropLink(key) }, func() { r.index.addLink(key, nil) })
	return nil
}

// Principals lists what a thing is attached to.
func (r *Registry) Principals(thing string, p Page) (links []Link, next string, err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if _, err := r.thing(thing); err != nil {
		return nil, "", err
	}
	names, next := page(slices.Sorted(maps.Keys(r.index.principals[thing])), p, nil)
	for _, n := range names {
		links = append(links, Link{thing, n, r.links.m[thing+"\x00"+n].Exclusive})
	}
	return links, next, nil
}

// ThingsOf lists what a principal is attached to.
func (r *Registry) ThingsOf(principal string, p Page) (links []Link, next string, err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if err := r.principal(principal); err != nil {
		return nil, "", err
	}
	names, next := page(slices.Sorted(maps.Keys(r.index.things[principal])), p, nil)
	for _, n := range names {
		links = append(links, Link{n, principal, r.links.m[n+"\x00"+principal].Exclusive})
	}
	return links, next, nil
}

// Stands gives the thing a connection stands for and whether the principal is
// attached to it: the thing the principal is exclusive to, else the one the
// client id names. It is nil when there is none.
func (r *Registry) Stands(principal, clientID string) (t *Thing, attached bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if all := r.index.things[principal]; len(all) == 1 {
		for name := range all {
			if r.links.m[name+"\x00"+principal].Exclusive {
				return r.things.m[name], true
			}
		}
	}
	t = r.things.m[clientID]
	if t != nil {
		_, attached = r.index.principals[clientID][principal]
	}
	return t, attached
}
