package registry_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"testing"

	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/registry"
	"tidegate/gateway/store"
)

func TestTemplatesHaveVersions(t *testing.T) {
	r := newRig(t)
	r.must(func(tx *registry.Tx) error {
		_, err := tx.CreateTemplate(registry.TemplateInput{Name: "gh", Body: "one", Hook: &registry.Hook{Target: "arn:x"}})
		return err
	})
	for i := 2; i <= 5; i++ {
		r.must(func(tx *registry.Tx) error {
			v, err := tx.CreateTemplateVersion("gh", "more", i == 3)
			if err == nil && v.ID != i {
				t.Errorf("version %d, want %d", v.ID, i)
			}
			return err
		})
	}
	for what, c := range map[string]struct {
		do   func(tx *registry.Tx) error
		code fault.Code
		why  error
	}{
		"a sixth version":      {func(tx *registry.Tx) error { _, err := tx.CreateTemplateVersion("gh", "x", false); return err }, fault.LimitExceeded, registry.ErrVersions},
		"deleting the default": {func(tx *registry.Tx) error { return tx.DeleteTemplateVersion("gh", 3) }, fault.Conflict, registry.ErrInUse},
		"deleting it all":      {func(tx *registry.Tx) error { return tx.DeleteTemplate("gh") }, fault.Conflict, registry.ErrInUse},
		"an unknown version": {func(tx *registry.Tx) error {
			return tx.UpdateTemplate("gh", func(x *registry.Template) { x.Default = 9 })
		}, fault.NotFound, nil},
		"a name twice": {func(tx *registry.Tx) error {
			_, err := tx.CreateTemplate(registry.TemplateInput{Name: "gh", Body: "x"})
			return err
		}, fault.Exists, nil},
		"a long name": {func(tx *registry.Tx) error {
			_, err := tx.CreateTemplate(registry.TemplateInput{Name: "abcdefghijklmnopqrstuvwxyz0123456789X", Body: "x"})
			return err
		}, fault.Invalid, nil},
	} {
		if err := r.Do("test", c.do); !fault.Is(err, c.code) || c.why != nil && !errors.Is(err, c.why) {
			t.Errorf("%s: %v, want %v", what, err, c.code)
		}
	}
	got, err := r.Template("gh")
	if err != nil || got.Default != 3 || len(got.Versions) != 5 || got.Body() != "more" {
		t.Fatalf("got %+v, %v", got, err)
	}
	r.must(func(tx *registry.Tx) error {
		return tx.Tag(r.ARN("provisioningtemplate", "gh"), map[string]string{"a": "b"})
	})
	if tags, err := r.Tags(r.ARN("provisioningtemplate", "gh")); err != nil || tags["a"] != "b" {
		t.Errorf("tags %v, %v", tags, err)
	}
}

func TestAuthorizersAndTheDefaultOne(t *testing.T) {
	r := newRig(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, _ := x509.MarshalPKIXPublicKey(&key.PublicKey)
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	r.must(func(tx *registry.Tx) error {
		_, err := tx.CreateAuthorizer(registry.Authorizer{Name: "jwt", Function: "arn:f", TokenKey: "token", Keys: map[string]string{"k": text}, Status: registry.Active})
		return err
	})
	for what, a := range map[string]registry.Authorizer{
		"unsigned without saying so": {Name: "b", Function: "f"},
		"no function":                {Name: "b", SigningDisabled: true},
		"a broken key":               {Name: "b", Function: "f", TokenKey: "t", Keys: map[string]string{"k": "PEM"}},
		"a wrong status":             {Name: "b", Function: "f", SigningDisabled: true, Status: registry.Revoked},
	} {
		if err := r.Do("test", func(tx *registry.Tx) error { _, err := tx.CreateAuthorizer(a); return err }); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := r.DefaultAuthorizer(); !fault.Is(err, fault.NotFound) {
		t.Errorf("a default before there is one: %v", err)
	}
	r.must(func(tx *registry.Tx) error { return tx.SetDefaultAuthorizer("jwt") })
	if err := r.Do("test", func(tx *registry.Tx) error { return tx.DeleteAuthorizer("jwt") }); !errors.Is(err, registry.ErrInUse) {
		t.Errorf("the default one can be deleted: %v", err)
	}
	r.must(func(tx *registry.Tx) error {
		return tx.UpdateAuthorizer("jwt", func(a *registry.Authorizer) { a.Status, a.SigningDisabled = registry.Inactive, true })
	})
	if a, err := r.DefaultAuthorizer(); err != nil || a.Status != registry.Inactive || a.SigningDisabled {
		t.Errorf("got %+v, %v", a, err)
	}
	r.must(func(tx *registry.Tx) error {
		return errors.Join(tx.SetDefaultAuthorizer(""), tx.DeleteAuthorizer("jwt"))
	})
}

func TestAWitnessSpeaksInTheTransactionsOwnUnit(t *testing.T) {
	r := newRig(t)
	seen := 0
	r.Witness(func(changes []registry.Change) func(*store.Unit, func(mqtt.Message)) {
		seen += len(changes)
		return func(u *store.Unit, emit func(mqtt.Message)) {
			u.Put(store.KeyAudit+changes[0].Name, []byte(changes[0].By))
			emit(mqtt.Message{Topic: changes[0].Kind})
		}
	})
	var sent []string
	r.Through(func(build func(*store.Unit, func(mqtt.Message)) error, done func(error)) error {
		return r.db.Do(func(u *store.Unit) error { return build(u, func(m mqtt.Message) { sent = append(sent, m.Topic) }) }, func(_ []uint64, err error) { done(err) })
	})
	r.must(func(tx *registry.Tx) error { _, err := tx.CreateThing(registry.ThingInput{Name: "pump"}); return err })
	r.must(func(*registry.Tx) error { return nil })
	if err := r.Do("test", func(tx *registry.Tx) error {
		_, err := tx.CreateThing(registry.ThingInput{Name: "bad name"})
		return err
	}); err == nil {
		t.Error("a thing of a bad name was made")
	}
	if by, err := r.db.Get(store.KeyAudit + "pump"); err != nil || string(by) != "test" || seen != 1 || len(sent) != 1 || sent[0] != "thing" {
		t.Errorf("got %q, %v; seen %d, sent %q", by, err, seen, sent)
	}
}
