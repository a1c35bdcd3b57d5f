package operators_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/api/sigv4"
	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/operators"
	"tidegate/gateway/policy"
	"tidegate/gateway/store"
)

func open(t *testing.T, dir string) (*operators.Operators, func()) {
	t.Helper()
	cfg := store.DefaultConfig(dir)
	cfg.LogFileSize, cfg.Ballast = 1<<20, -1
	clk := clocktest.New(time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC))
	db, err := store.Open(cfg, clk)
	if err != nil {
		t.Fatal(err)
	}
	ops, err := operators.Open(db, clk)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- db.Run(ctx, func() {}) }()
	return ops, func() {
		cancel()
		<-ended
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func want(t *testing.T, err error, code fault.Code) {
	t.Helper()
	if !fault.Is(err, code) {
		t.Errorf("got %v, want %v", err, code)
	}
}

func TestTheFirstOperatorIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	ops, end := open(t, dir)
	key, made, err := ops.First("admin")
	if err != nil || !made {
		t.Fatal(made, err)
	}
	if _, made, err := ops.First("admin"); made || err != nil {
		t.Errorf("a second time: %v, %v", made, err)
	}
	end()
	ops, end = open(t, dir)
	defer end()
	if _, made, err := ops.First("admin"); made || err != nil {
		t.Errorf("after a restart: %v, %v", made, err)
	}
	if secret, err := ops.Secret(key.ID, ""); err != nil || secret != key.Secret {
		t.Errorf("secret: %v", err)
	}
	if len(key.ID) != 20 || !strings.HasPrefix(key.ID, "AKIA") || len(key.Secret) != 40 {
		t.Errorf("key of unusual form: %s", key.ID)
	}
	for _, p := range ops.List() {
		for _, k := range p.Keys {
			if k.Secret != "" {
				t.Error("a listing shows a secret")
			}
		}
	}
}

func TestKeysRotate(t *testing.T) {
	ops, end := open(t, t.TempDir())
	defer end()
	first, err := ops.Create("ada", operators.Admin)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ops.Create("ada", operators.Viewer)
	want(t, err, fault.Exists)
	_, err = ops.Create("a b", operators.Viewer)
	want(t, err, fault.Invalid)
	_, err = ops.Create("eve", "root")
	want(t, err, fault.Invalid)
	want(t, ops.RemoveKey("ada", first.ID), fault.Conflict)
	second, err := ops.AddKey("ada")
	if err != nil {
		t.Fatal(err)
	}
	_, err = ops.AddKey("ada")
	want(t, err, fault.LimitExceeded)
	if err := ops.RemoveKey("ada", first.ID); err != nil {
		t.Error(err)
	}
	want(t, ops.RemoveKey("ada", first.ID), fault.NotFound)
	if _, err := ops.Secret(first.ID, ""); !errors.Is(err, sigv4.ErrKey) {
		t.Errorf("the removed key: %v", err)
	}
	if _, err := ops.Secret(second.ID, "token"); !errors.Is(err, sigv4.ErrKey) {
		t.Errorf("with a session token: %v", err)
	}
	if ops.Name(second.ID) != "ada" || ops.Name(first.ID) != "" {
		t.Error("keys belong to the wrong people")
	}
	want(t, ops.Remove("ada"), fault.Conflict)
	want(t, ops.SetRole("ada", operators.Viewer), fault.Conflict)
	if _, err := ops.Create("bob", operators.Admin); err != nil {
		t.Fatal(err)
	}
	if err := ops.Remove("ada"); err != nil {
		t.Error(err)
	}
	if _, ok := ops.Documents("ada"); ok {
		t.Error("a removed operator has a role")
	}
	if _, err := ops.Secret(second.ID, ""); !errors.Is(err, sigv4.ErrKey) {
		t.Errorf("the key of a removed operator: %v", err)
	}
}

func TestRoles(t *testing.T) {
	ops, end := open(t, t.TempDir())
	defer end()
	may := map[operators.Role]string{
		operators.Admin:    "iot:CreateThing iot:ListThings iot:CreatePolicy iot:UpdateCertificate iot:GetPolicy iot:SearchIndex iot:Publish iot:GetRegistrationCode",
		operators.Operator: "iot:CreateThing iot:ListThings iot:SearchIndex iot:Publish iot:DescribeThing iot:AddThingToThingGroup iot:CreateJob iot:DescribeCertificate iot:ListPolicies iot:DescribeDefaultAuthorizers",
		operators.Viewer:   "iot:ListThings iot:GetPolicy iot:SearchIndex iot:DescribeThing iot:ListPolicies iot:DescribeCertificate",
	}
	mayNot := map[operators.Role]string{
		operators.Operator: "iot:CreatePolicy iot:AttachPolicy iot:UpdateCertificate iot:CreateKeysAndCertificate iot:RegisterCACertificate iot:CreateAuthorizer iot:RegisterThing iot:RegisterCertificateWithoutCA iot:UpdateCACertificate iot:SetDefaultAuthorizer iot:DetachPolicy iot:CreatePolicyVersion",
		operators.Viewer:   "iot:CreateThing iot:UpdateCertificate iot:AttachPolicy iot:Publish iot:DeleteThing iot:UpdateThingShadow iot:GetRegistrationCode",
	}
	for _, role := range operators.Roles() {
		if _, err := ops.Create(string(role), role); err != nil {
			t.Fatal(err)
		}
		docs, ok := ops.Documents(string(role))
		if !ok {
			t.Fatal("no documents")
		}
		d := policy.Compile(docs, policy.Context{})
		for _, action := range strings.Fields(may[role]) {
			if got := d.Named(action, "*"); got != policy.Allow {
				t.Errorf("%s %s: got %v", role, action, got)
			}
		}
		for _, action := range strings.Fields(mayNot[role]) {
			if d.Named(action, "*") == policy.Allow {
				t.Errorf("%s may %s", role, action)
			}
		}
	}
}

func TestCredentialsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "operator", "credentials")
	for _, secret := range []string{"one", "two"} {
		if err := operators.WriteCredentials(path, operators.Key{ID: "AKIAX", Secret: secret}); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil || string(b) != "[default]\naws_access_key_id = AKIAX\naws_secret_access_key = "+secret+"\n" {
			t.Errorf("got %q, %v", b, err)
		}
	}
	for p, mode := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if st, err := os.Stat(p); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", p, st.Mode(), err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".cred*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
