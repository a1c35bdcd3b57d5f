package authz_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/authz"
	"tidegate/gateway/fault"
	"tidegate/gateway/policy"
	"tidegate/gateway/registry"
)

// functions answers what it is told to, and remembers what it was asked.
type functions struct {
	answer string
	err    error
	asked  int
	event  map[string]any
}

func (f *functions) Call(_ context.Context, _ string, event []byte) ([]byte, error) {
	f.asked++
	f.event = nil
	json.Unmarshal(event, &f.event)
	return []byte(f.answer), f.err
}

const ada = `{"isAuthenticated":true,"principalId":"ada","disconnectAfterInSeconds":3600,"refreshAfterInSeconds":300,"claims":{"site":"north"},
"policyDocuments":[{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Connect","iot:Publish"],"Resource":["arn:aws:iot:*:*:client/*","arn:aws:iot:*:*:topic/${claim:site}/*"]}]}]}`

// signer makes an authorizer with signed tokens.
func (r *rig) signer(name string) func(token string) string {
	r.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		r.Fatal(err)
	}
	der, _ := x509.MarshalPKIXPublicKey(&key.PublicKey)
	r.must(func(tx *registry.Tx) error {
		_, err := tx.CreateAuthorizer(registry.Authorizer{Name: name, Function: "f", TokenKey: "tok", Status: registry.Active,
			Keys: map[string]string{"k": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}})
		return err
	})
	return func(token string) string {
		sum := sha256.Sum256([]byte(token))
		sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
		if err != nil {
			r.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(sig)
	}
}

func TestASignedTokenInTheUserName(t *testing.T) {
	r := newRig(t)
	f := &functions{answer: ada}
	r.Custom(f)
	sign := r.signer("gate")
	user := func(token, sig string) string {
		q := url.Values{"x-amz-customauthorizer-name": {"gate"}, "tok": {token}, "x-amz-customauthorizer-signature": {sig}}
		return "ada?" + q.Encode()
	}
	connect := func(user string) (*authz.Principal, error) {
		q := request("c1", nil)
		q.Username, q.HasUsername, q.Password = user, true, []byte{1, 0, 255}
		return r.Connect(q)
	}
	for what, user := range map[string]string{
		"another token":            user("other", sign("token")),
		"no signature":             user("token", ""),
		"no base64":                user("token", "???"),
		"no token":                 user("", sign("")),
		"an authorizer not there":  "ada?x-amz-customauthorizer-name=none&tok=token",
		"nothing, without default": "ada",
	} {
		if _, err := connect(user); !fault.Is(err, fault.Unauthorized) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if f.asked != 0 {
		t.Fatalf("the function was asked %d times before a signature was right", f.asked)
	}
	p, err := connect(user("token", sign("token")))
	if err != nil {
		t.Fatal(err)
	}
	if !p.May(policy.Publish, "north/x") || p.May(policy.Publish, "south/x") || p.May(policy.Subscribe, "north/x") || p.Name() != "ada" {
		t.Errorf("%s may other things than it was granted", p.Name())
	}
	data := f.event["protocolData"].(map[string]any)
	m := data["mqtt"].(map[string]any)
	if f.event["token"] != "token" || f.event["signatureVerified"] != true || m["password"] != "AQD/" || m["clientId"] != "c1" || !strings.HasPrefix(m["username"].(string), "ada?") ||
		data["tls"].(map[string]any)["serverName"] != "gw.local" || data["http"] != nil {
		t.Errorf("the function was told %v", f.event)
	}
	if _, err := connect(strings.ReplaceAll(user("token", "SIG"), "SIG", sign("token"))); err != nil { // + and = as they are
		t.Errorf("a signature that is not encoded: %v", err)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	r := newRig(t)
	f := &functions{}
	r.Custom(f)
	r.must(func(tx *registry.Tx) error {
		_, err := tx.CreateAuthorizer(registry.Authorizer{Name: "open", Function: "f", SigningDisabled: true, Status: registry.Active})
		return errors.Join(err, tx.SetDefaultAuthorizer("open"))
	})
	id := strings.Repeat("0a", 32)
	for _, answer := range []string{
		``, `[]`, `{}`, `{"isAuthenticated":"true"}`, `{"isAuthenticated":true}`, `{"isAuthenticated":true,"principalId":"a b"}`,
		`{"isAuthenticated":true,"principalId":"` + id + `"}`, `{"isAuthenticated":true,"principalId":"anonymous"}`, `{"isAuthenticated":true,"principalId":"operator/ada"}`,
		`{"isAuthenticated":true,"principalId":"a","refreshAfterInSeconds":299}`, `{"isAuthenticated":true,"principalId":"a","disconnectAfterInSeconds":86401}`,
		`{"isAuthenticated":true,"principalId":"a","policyDocuments":["{}"]}`, `{"isAuthenticated":true,"principalId":"a","policyDocuments":[` + strings.Repeat(`{},`, 10) + `{}]}`,
	} {
		f.answer = answer
		if _, err := r.Judge(t.Context(), &authz.Credentials{}); !errors.Is(err, authz.ErrAnswer) || !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", answer, err)
		}
		if _, err := r.Connect(request("c", nil)); !fault.Is(err, fault.Unauthorized) {
			t.Errorf("%s lets in: %v", answer, err)
		}
	}
	f.answer = `{"isAuthenticated":false}`
	if a, err := r.Judge(t.Context(), &authz.Credentials{}); err != nil || a.Authenticated {
		t.Errorf("a plain no: %+v, %v", a, err)
	}
	if _, err := r.Connect(request("c", nil)); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("a plain no lets in: %v", err)
	}
	f.answer, f.err = ada, fault.New(fault.Timeout, "slow")
	if _, err := r.Connect(request("c", nil)); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("a function that lingers lets in: %v", err)
	}
}

func TestAGrantIsRefreshedAndEnds(t *testing.T) {
	r := newRig(t)
	f := &functions{answer: ada}
	r.Custom(f)
	changed := make(chan struct{}, 8)
	r.OnChange(func() { changed <- struct{}{} })
	r.must(func(tx *registry.Tx) error {
		_, err := tx.CreateAuthorizer(registry.Authorizer{Name: "open", Function: "f", SigningDisabled: true, Status: registry.Active})
		return errors.Join(err, tx.SetDefaultAuthorizer("open"))
	})
	p, err := r.Connect(request("c1", nil))
	if err != nil {
		t.Fatal(err)
	}
	look := func() time.Time { at, _ := p.Until(); r.Wait(); return at }
	if at := look(); !at.Equal(start.Add(time.Hour)) || f.asked != 1 {
		t.Fatalf("ends %v, asked %d times", at, f.asked)
	}
	f.answer = strings.ReplaceAll(ada, "north", "south")
	r.clk.Advance(301 * time.Second)
	if look(); f.asked != 2 || p.May(policy.Publish, "north/x") || !p.May(policy.Publish, "south/x") {
		t.Error("the new answer is not in force")
	}
	r.clk.Advance(time.Second)
	<-changed
	f.answer = `{"isAuthenticated":false}`
	r.clk.Advance(300 * time.Second)
	look()
	if at := look(); at.After(r.clk.Now()) || p.May(policy.Publish, "south/x") {
		t.Errorf("who is not let in again stays until %v", at)
	}
	if q := r.Restore("ada", "c1"); !q.May(policy.Receive, "x") || q.May(policy.Publish, "south/x") || q.May(policy.Connect, "c1") {
		t.Error("a stored session may other things than wait")
	} else if !r.MayLeave(q, "south/x", true) { // which was judged when it connected
		t.Error("the will of a stored session is not published")
	}
	if q := r.Restore(strings.Repeat("0", 64), "c1"); r.MayLeave(q, "south/x", false) {
		t.Error("the will of a certificate that is not there any more is published")
	}
}

func TestCertificatesAndNamesOfAuthorizers(t *testing.T) {
	r := newRig(t, "mqtt")
	f := &functions{answer: ada}
	r.Custom(f)
	r.must(func(tx *registry.Tx) error {
		_, err := tx.CreateAuthorizer(registry.Authorizer{Name: "open", Function: "f", SigningDisabled: true, Status: registry.Active})
		return errors.Join(err, tx.SetDefaultAuthorizer("open"))
	})
	x, _ := r.issue(&x509.Certificate{}, nil, nil)
	r.register(x, registry.Active, everything)
	q := request("c", x)
	q.Username, q.HasUsername = "?SDK=Python&Version=2", true
	if p, err := r.Connect(q); err != nil || p.Name() != registry.CertificateID(x) || f.asked != 0 {
		t.Errorf("a certificate with an SDK's user name: %v, %v", p.Name(), err)
	}
	if p, err := r.Connect(&authz.Request{ClientID: "c", Listener: "mqtt", Username: "bob"}); err != nil || p.Name() != authz.Anonymous {
		t.Errorf("on a listener for everybody: %v, %v", p.Name(), err)
	}
	ws := request("c", nil)
	ws.Header, ws.Query = http.Header{"X-Amz-Customauthorizer-Name": {"open"}, "X-Extra": {"1"}}, "?a=b"
	if p, err := r.Connect(ws); err != nil || p.Name() != "ada" {
		t.Errorf("by a header: %v, %v", p.Name(), err)
	}
	if h := f.event["protocolData"].(map[string]any)["http"].(map[string]any); h["queryString"] != "?a=b" || h["headers"].(map[string]any)["X-Extra"] != "1" {
		t.Errorf("the function was told %v", f.event)
	}
	r.must(func(tx *registry.Tx) error {
		return tx.UpdateAuthorizer("open", func(a *registry.Authorizer) { a.Status = registry.Inactive })
	})
	if _, err := r.Connect(ws); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("an inactive authorizer: %v", err)
	}
}

func TestAnswersForHTTPSAreKeptWhenTheAuthorizerSaysSo(t *testing.T) {
	r := newRig(t)
	f := &functions{answer: ada}
	r.Custom(f)
	r.must(func(tx *registry.Tx) error {
		_, e1 := tx.CreateAuthorizer(registry.Authorizer{Name: "each", Function: "f", SigningDisabled: true, Status: registry.Active, TokenKey: "tok"})
		_, e2 := tx.CreateAuthorizer(registry.Authorizer{Name: "kept", Function: "f", SigningDisabled: true, Status: registry.Active, TokenKey: "tok", CacheHTTP: true})
		return errors.Join(e1, e2)
	})
	ask := func(name, token string) {
		t.Helper()
		q := httptest.NewRequest("POST", "/topics/north/x?tok="+token, nil)
		q.Header.Set("X-Amz-Customauthorizer-Name", name)
		if p, err := r.Header(q); err != nil || !p.May(policy.Publish, "north/x") {
			t.Errorf("got %v, %v", p.Name(), err)
		}
	}
	for _, c := range []struct {
		name, token string
		asked       int
	}{{"each", "a", 1}, {"each", "a", 2}, {"kept", "a", 3}, {"kept", "a", 3}, {"kept", "b", 4}, {"kept", "a", 4}} {
		if ask(c.name, c.token); f.asked != c.asked {
			t.Errorf("%s %s: asked %d times, want %d", c.name, c.token, f.asked, c.asked)
		}
	}
	r.clk.Advance(301 * time.Second)
	if ask("kept", "a"); f.asked != 5 {
		t.Errorf("asked %d times", f.asked)
	}
	if p, err := r.Header(httptest.NewRequest("GET", "/", nil)); p != nil || err != nil {
		t.Errorf("without an authorizer: %v, %v", p, err)
	}
}

func TestAClaimMayAskForItsTemplateAlone(t *testing.T) {
	r := newRig(t)
	x, _ := r.issue(&x509.Certificate{}, nil, nil)
	r.must(func(tx *registry.Tx) error {
		_, err := tx.AddCertificate(registry.CertificateInput{PEM: text(x), Status: registry.Active, Claim: true, Template: "gh", Expires: start.Add(time.Minute)})
		return err
	})
	p, err := r.Connect(request("new", x))
	if err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]bool{"$aws/certificates/create/json": true, "$aws/provisioning-templates/gh/provision/cbor": true, "$aws/provisioning-templates/other/provision/json": false, "a": false} {
		if got := p.May(policy.Publish, topic); got != want {
			t.Errorf("publish %s: %v", topic, got)
		}
	}
	if !p.May(policy.Subscribe, "$aws/certificates/create/json/accepted") || p.May(policy.Subscribe, "#") {
		t.Error("it may subscribe to something else")
	}
}

func TestRefusalsAreTold(t *testing.T) {
	r := newRig(t)
	var told []authz.Refusal
	r.OnRefused(func(x authz.Refusal) { told = append(told, x) })
	x, _ := r.issue(&x509.Certificate{}, nil, nil)
	r.Connect(request("c", x))
	r.register(x, registry.Active, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`)
	p, err := r.Connect(request("c", x))
	if err != nil {
		t.Fatal(err)
	}
	r.MayPublish(p, "a", false)
	r.MaySubscribe(p, "b")
	id := registry.CertificateID(x)
	if len(told) != 3 || told[0].What != "connect" || told[0].Principal != id || told[1].What != "publish" || told[1].Name != "a" || told[1].Client != "c" || told[2].What != "subscribe" {
		t.Errorf("told %+v", told)
	}
}
