package registry_test

import (
	"errors"
	"testing"

	"tidegate/gateway/fault"
	"tidegate/gateway/registry"
)

// Role aliases, domain configurations and the certificate provider outlive a restart, have tags, and keep to their rules.
func TestRolesDomainsAndProviders(t *testing.T) {
	r := newRig(t)
	const role = "arn:aws:iam::000000000000:role/r"
	r.must(func(tx *registry.Tx) error {
		_, e1 := tx.CreateDomain(registry.Domain{Name: "d", Host: "Gw.Example", Auth: registry.AuthX509})
		return errors.Join(e1, tx.CreateRoleAlias(registry.RoleAlias{Name: "a", Role: role}),
			tx.CreateCertificateProvider(registry.CertificateProvider{Name: "p", Function: "arn:aws:lambda:r:a:function:f"}))
	})
	d, err := r.Domain("d")
	if err != nil || d.Host != "gw.example" || r.DomainOf("GW.example") != d || r.DomainOf("other") != nil || r.DomainOf("") != nil {
		t.Fatalf("the domain configuration: %+v, %v", d, err)
	}
	for arn, key := range map[string]string{"rolealias/a": "x", "domainconfiguration/d/" + d.ID: "y", "certificateprovider/p": "z"} {
		r.must(func(tx *registry.Tx) error { return tx.Tag(r.Base()+arn, map[string]string{key: "1"}) })
		if tags, err := r.Tags(r.Base() + arn); err != nil || tags[key] != "1" {
			t.Errorf("tags of %s: %v, %v", arn, tags, err)
		}
	}
	want(t, r.do(func(tx *registry.Tx) error {
		_, err := tx.CreateDomain(registry.Domain{Name: "e", Host: "gw.example"})
		return err
	}), fault.Exists, nil)
	want(t, r.do(func(tx *registry.Tx) error {
		_, err := tx.CreateDomain(registry.Domain{Name: "e", Auth: "X"})
		return err
	}), fault.Invalid, nil)
	want(t, r.do(func(tx *registry.Tx) error {
		_, err := tx.CreateDomain(registry.Domain{Name: "e", Authorizer: "none"})
		return err
	}), fault.NotFound, nil)
	want(t, r.do(func(tx *registry.Tx) error { return tx.DeleteDomain("d") }), fault.Invalid, nil)
	want(t, r.do(func(tx *registry.Tx) error {
		return tx.CreateRoleAlias(registry.RoleAlias{Name: "b", Role: role, Duration: 60})
	}), fault.Invalid, nil)
	want(t, r.do(func(tx *registry.Tx) error {
		return tx.CreateCertificateProvider(registry.CertificateProvider{Name: "q", Function: "f"})
	}), fault.LimitExceeded, nil)

	r.reopen()
	if a, err := r.RoleAlias("a"); err != nil || a.Role != role || a.Duration != registry.DefaultRoleDuration || a.Tags["x"] != "1" {
		t.Errorf("after a restart: %+v, %v", a, err)
	}
	if d := r.DomainOf("gw.example"); d == nil || d.Auth != registry.AuthX509 {
		t.Errorf("after a restart: %+v", d)
	}
	if p := r.SignsRequests(); p == nil || p.Name != "p" {
		t.Errorf("after a restart: %+v", p)
	}
}
