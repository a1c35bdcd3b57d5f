package control_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/gateway/api/control"
	"tidegate/gateway/api/sigv4"
	"tidegate/gateway/authz"
	"tidegate/gateway/callout"
	"tidegate/gateway/clock"
	"tidegate/gateway/identity"
	"tidegate/gateway/operators"
	"tidegate/gateway/provision"
	"tidegate/gateway/registry"
	"tidegate/gateway/store"
)

// rig is a control plane behind a real HTTPS listener.
type rig struct {
	*testing.T
	url     string
	ca      string // file
	key     operators.Key
	ops     *operators.Operators
	reg     *registry.Registry
	http    *http.Client
	files   string                        // of registration tasks
	refused atomic.Pointer[authz.Refusal] // the last one
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	clk := clock.System()
	cfg := store.DefaultConfig(filepath.Join(dir, "store"))
	cfg.LogFileSize, cfg.Ballast = 1<<20, -1
	if err := os.Mkdir(cfg.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(cfg, clk)
	if err != nil {
		t.Fatal(err)
	}
	reg, err := registry.Open(db, clk, registry.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	ops, err := operators.Open(db, clk)
	if err != nil {
		t.Fatal(err)
	}
	pki := filepath.Join(dir, "pki")
	vault, err := identity.FileVault(pki)
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.Open(vault, clk, identity.DefaultConfig(pki))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- db.Run(ctx, func() {}) }()
	az := authz.New(reg, clk, authz.Config{})
	calls, log := callout.NewSet(), slog.New(slog.DiscardHandler)
	calls.Add("open", func(context.Context, []byte) ([]byte, error) {
		return []byte(`{"isAuthenticated":true,"principalId":"ada","refreshAfterInSeconds":300,"policyDocuments":[{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}]}`), nil
	})
	calls.Add("odd", func(context.Context, []byte) ([]byte, error) { return []byte(`{}`), nil })
	az.Custom(calls)
	r := &rig{T: t, files: filepath.Join(dir, "registration")}
	az.OnRefused(func(x authz.Refusal) { r.refused.Store(&x) })
	tasks, err := provision.OpenTasks(db, reg, id, r.files, clk, log)
	if err != nil {
		t.Fatal(err)
	}
	h := control.New(control.Deps{Registry: reg, Identity: id, Operators: ops, Auth: az, Clock: clk,
		Fleet: provision.NewFleet(reg, id, calls, clk, log), Tasks: tasks,
		Connectivity: func(thing string) (bool, int64, string, bool) {
			return false, 1700000000123, "CONNECTION_LOST", thing == "seen"
		}}, control.Config{Endpoint: "gw.local:8443"})
	go func() { ended <- tasks.Run(ctx, func() {}) }()
	srv := httptest.NewUnstartedServer(h)
	srv.Listener = tls.NewListener(srv.Listener, id.ServerTLS()) // StartTLS would show a certificate of its own
	srv.Start()
	t.Cleanup(func() {
		srv.Close()
		cancel()
		<-ended
		<-ended
		db.Close()
	})
	key, err := ops.Create("ada", operators.Admin)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(id.CAPEM())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	t.Cleanup(client.CloseIdleConnections)
	r.url, r.ca, r.key, r.ops, r.reg, r.http = "https://"+srv.Listener.Addr().String(), filepath.Join(pki, "ca.pem"), key, ops, reg, client
	return r
}

// reply is an answer.
type reply struct {
	status int
	kind   string // x-amzn-ErrorType
	body   map[string]any
}

func (r reply) text(key string) string { s, _ := r.body[key].(string); return s }

// call sends a signed request; header holds pairs.
func (r *rig) call(key operators.Key, method, path, body string, header ...string) reply {
	r.Helper()
	req, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if key.ID != "" {
		sigv4.Sign(req, []byte(body), sigv4.Credentials{AccessKey: key.ID, Secret: key.Secret}, "local-1", "iot", time.Now())
	}
	resp, err := r.http.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	out := reply{status: resp.StatusCode, kind: resp.Header.Get("x-amzn-ErrorType")}
	if err := json.Unmarshal(b, &out.body); err != nil {
		r.Fatalf("%s %s: %s", method, path, b)
	}
	if resp.Header.Get("x-amzn-RequestId") == "" {
		r.Errorf("%s %s: no request id", method, path)
	}
	return out
}

// ok calls and wants success.
func (r *rig) ok(method, path, body string, header ...string) reply {
	r.Helper()
	out := r.call(r.key, method, path, body, header...)
	if out.status != 200 {
		r.Fatalf("%s %s: %d %s %v", method, path, out.status, out.kind, out.body)
	}
	return out
}

// fails calls and wants an error.
func (r *rig) fails(status int, kind, method, path, body string, header ...string) reply {
	r.Helper()
	out := r.call(r.key, method, path, body, header...)
	if out.status != status || out.kind != kind || out.text("message") == "" {
		r.Errorf("%s %s: got %d %s %v, want %d %s", method, path, out.status, out.kind, out.body, status, kind)
	}
	return out
}

const open = `{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"iot:*\",\"Resource\":\"*\"}]}`

func TestTheLifeOfAFleet(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.ok("POST", "/thing-types/pump", `{"thingTypeProperties":{"thingTypeDescription":"a pump","searchableAttributes":["site"]},"tags":[{"Key":"k","Value":"v"}]}`)
	created := r.ok("POST", "/things/pump-1", `{"thingTypeName":"pump","attributePayload":{"attributes":{"site":"north","watt":"60"}}}`)
	if created.text("thingArn") != "arn:aws:iot:local-1:000000000000:thing/pump-1" || len(created.text("thingId")) != 36 {
		t.Errorf("created: %v", created.body)
	}
	if again := r.ok("POST", "/things/pump-1", `{"thingTypeName":"pump","attributePayload":{"attributes":{"watt":"60","site":"north"}}}`); again.text("thingId") != created.text("thingId") {
		t.Error("the same again made another thing")
	}
	exists := r.fails(409, "ResourceAlreadyExistsException", "POST", "/things/pump-1", `{}`)
	if exists.text("resourceArn") != created.text("thingArn") {
		t.Errorf("exists: %v", exists.body)
	}
	got := r.ok("GET", "/things/pump-1", "")
	if got.text("defaultClientId") != "pump-1" || got.text("thingTypeName") != "pump" || got.body["version"] != 1.0 || fmt.Sprint(got.body["attributes"]) != "map[site:north watt:60]" {
		t.Errorf("described: %v", got.body)
	}
	r.ok("PATCH", "/things/pump-1", `{"attributePayload":{"attributes":{"watt":""},"merge":true},"expectedVersion":1}`)
	r.fails(409, "VersionConflictException", "PATCH", "/things/pump-1", `{"expectedVersion":1}`)
	r.fails(404, "ResourceNotFoundException", "GET", "/things/none", "")
	r.fails(400, "InvalidRequestException", "POST", "/things/a%20b", "")

	r.ok("POST", "/thing-groups/plant", `{"thingGroupProperties":{"thingGroupDescription":"all","attributePayload":{"attributes":{"a":"b"}}}}`)
	r.ok("POST", "/thing-groups/hall", `{"parentGroupName":"plant"}`)
	r.ok("PUT", "/thing-groups/addThingToThingGroup", `{"thingGroupArn":"arn:aws:iot:local-1:000000000000:thinggroup/hall","thingName":"pump-1"}`)
	if g := r.ok("GET", "/thing-groups/hall", ""); fmt.Sprint(g.body["thingGroupMetadata"].(map[string]any)["rootToParentThingGroups"]) != "[map[groupArn:arn:aws:iot:local-1:000000000000:thinggroup/plant groupName:plant]]" {
		t.Errorf("group: %v", g.body)
	}
	if g := r.ok("GET", "/thing-groups/plant/things?recursive=true", ""); fmt.Sprint(g.body["things"]) != "[pump-1]" {
		t.Errorf("members: %v", g.body)
	}
	if g := r.ok("GET", "/things/pump-1/thing-groups", ""); fmt.Sprint(g.body["thingGroups"]) != "[map[groupArn:arn:aws:iot:local-1:000000000000:thinggroup/hall groupName:hall]]" {
		t.Errorf("groups: %v", g.body)
	}
	r.fails(400, "InvalidRequestException", "DELETE", "/thing-groups/plant", "")
	r.fails(400, "InvalidQueryException", "POST", "/dynamic-thing-groups/dyn", `{"queryString":"a:"}`)
	r.ok("POST", "/dynamic-thing-groups/dyn", `{"queryString":"attributes.site:north"}`)
	if g := r.ok("GET", "/thing-groups/dyn", ""); g.text("status") != "ACTIVE" || g.text("queryString") != "attributes.site:north" {
		t.Errorf("dynamic group: %v", g.body)
	}
	if s := r.ok("POST", "/indices/search", `{"queryString":"thingTypeName:pump AND thingGroupNames:hall"}`); len(s.body["things"].([]any)) != 1 {
		t.Errorf("search: %v", s.body)
	}

	keys := r.ok("POST", "/keys-and-certificate?setAsActive=true", "")
	cert, certID := keys.text("certificateArn"), keys.text("certificateId")
	pair := keys.body["keyPair"].(map[string]any)
	if _, err := tls.X509KeyPair([]byte(keys.text("certificatePem")), []byte(pair["PrivateKey"].(string))); err != nil {
		t.Error(err)
	}
	r.ok("POST", "/policies/dev", `{"policyDocument":"`+open+`"}`)
	r.fails(409, "ResourceAlreadyExistsException", "POST", "/policies/dev", `{"policyDocument":"`+open+`"}`)
	r.fails(400, "MalformedPolicyException", "POST", "/policies/bad", `{"policyDocument":"{}"}`)
	r.ok("PUT", "/target-policies/dev", `{"target":"`+cert+`"}`)
	r.ok("PUT", "/things/pump-1/principals", "", "x-amzn-principal", cert)
	if l := r.ok("POST", "/attached-policies/"+url.PathEscape(cert), ""); fmt.Sprint(l.body["policies"]) != "[map[policyArn:arn:aws:iot:local-1:000000000000:policy/dev policyName:dev]]" {
		t.Errorf("attached: %v", l.body)
	}
	if l := r.ok("POST", "/policy-targets/dev", ""); fmt.Sprint(l.body["targets"]) != "["+cert+"]" {
		t.Errorf("targets: %v", l.body)
	}
	if l := r.ok("GET", "/principals/things", "", "x-amzn-principal", cert); fmt.Sprint(l.body["things"]) != "[pump-1]" {
		t.Errorf("things: %v", l.body)
	}
	if l := r.ok("GET", "/things/pump-1/principals-v2", ""); fmt.Sprint(l.body["thingPrincipalObjects"]) != "[map[principal:"+cert+" thingPrincipalType:NON_EXCLUSIVE_THING]]" {
		t.Errorf("principals: %v", l.body)
	}
	if e := r.ok("POST", "/effective-policies?thingName=pump-1", `{"principal":"`+cert+`"}`); len(e.body["effectivePolicies"].([]any)) != 1 {
		t.Errorf("effective: %v", e.body)
	}
	if e := r.ok("POST", "/effective-policies?thingName=pump-1", `{}`); len(e.body["effectivePolicies"].([]any)) != 0 {
		t.Errorf("effective by groups: %v", e.body)
	}
	r.fails(404, "ResourceNotFoundException", "POST", "/effective-policies?thingName=nobody", `{"principal":"`+cert+`"}`)
	r.fails(404, "ResourceNotFoundException", "POST", "/effective-policies", `{"principal":"`+strings.Replace(cert, certID, strings.Repeat("0", 64), 1)+`"}`)
	test := r.ok("POST", "/test-authorization?clientId=pump-1", `{"principal":"`+cert+`","authInfos":[{"actionType":"PUBLISH","resources":["arn:aws:iot:local-1:000000000000:topic/a"]}]}`)
	if res := test.body["authResults"].([]any)[0].(map[string]any); res["authDecision"] != "ALLOWED" {
		t.Errorf("test: %v", test.body)
	}

	r.fails(400, "InvalidRequestException", "DELETE", "/things/pump-1", "")
	r.fails(406, "CertificateStateException", "DELETE", "/certificates/"+certID, "")
	r.ok("PUT", "/certificates/"+certID+"?newStatus=REVOKED", "")
	d := r.ok("GET", "/certificates/"+certID, "").body["certificateDescription"].(map[string]any)
	if d["status"] != "REVOKED" || d["validity"].(map[string]any)["notAfter"] != 2524607999.0 {
		t.Errorf("certificate: %v", d)
	}
	r.fails(409, "DeleteConflictException", "DELETE", "/certificates/"+certID, "")
	r.ok("DELETE", "/things/pump-1/principals", "", "x-amzn-principal", cert)
	r.fails(409, "DeleteConflictException", "DELETE", "/policies/dev", "")
	r.ok("POST", "/target-policies/dev", `{"target":"`+cert+`"}`)
	r.ok("DELETE", "/certificates/"+certID, "")
	r.ok("DELETE", "/things/pump-1", "")
	r.ok("DELETE", "/things/pump-1", "")
	r.ok("DELETE", "/policies/dev", "")
}

func TestPolicyVersions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.ok("POST", "/policies/p", `{"policyDocument":"`+open+`"}`)
	for range 4 {
		r.ok("POST", "/policies/p/version?setAsDefault=true", `{"policyDocument":"`+open+`"}`)
	}
	r.fails(409, "VersionsLimitExceededException", "POST", "/policies/p/version", `{"policyDocument":"`+open+`"}`)
	if p := r.ok("GET", "/policies/p", ""); p.text("defaultVersionId") != "5" {
		t.Errorf("got %v", p.body)
	}
	r.ok("PATCH", "/policies/p/version/2", "")
	r.fails(409, "DeleteConflictException", "DELETE", "/policies/p/version/2", "")
	r.fails(404, "ResourceNotFoundException", "GET", "/policies/p/version/9", "")
	if l := r.ok("GET", "/policies/p/version", ""); len(l.body["policyVersions"].([]any)) != 5 {
		t.Errorf("versions: %v", l.body)
	}
	if v := r.ok("GET", "/policies/p/version/2", ""); v.body["isDefaultVersion"] != true {
		t.Errorf("version: %v", v.body)
	}
}

func TestPaging(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 5 {
		r.ok("POST", fmt.Sprint("/things/t", i), "")
		r.ok("POST", fmt.Sprint("/policies/p", i), `{"policyDocument":"`+open+`"}`)
	}
	for _, c := range []struct{ path, items, next, token, size string }{
		{"/things", "things", "nextToken", "nextToken", "maxResults"}, {"/policies", "policies", "nextMarker", "marker", "pageSize"},
	} {
		seen, token := 0, ""
		for pages := 1; ; pages++ {
			l := r.ok("GET", c.path+"?"+c.size+"=2&"+c.token+"="+token, "")
			seen += len(l.body[c.items].([]any))
			if token = l.text(c.next); token == "" {
				if pages != 3 || seen != 5 {
					t.Errorf("%s: %d in %d pages", c.path, seen, pages)
				}
				break
			}
		}
		r.fails(400, "InvalidRequestException", "GET", c.path+"?"+c.size+"=251", "")
		r.fails(400, "InvalidRequestException", "GET", c.path+"?"+c.size+"=0", "")
		r.fails(400, "InvalidRequestException", "GET", c.path+"?"+c.token+"=!", "")
	}
	for query, want := range map[string]string{"": "p0 p1 p2 p3 p4", "isAscendingOrder=true": "p0 p1 p2 p3 p4", "isAscendingOrder=false": "p4 p3 p2 p1 p0"} {
		var got []string
		for token := "first"; token != ""; {
			l := r.ok("GET", "/policies?pageSize=2&"+query+strings.Replace("&marker="+token, "&marker=first", "", 1), "")
			for _, p := range l.body["policies"].([]any) {
				got = append(got, p.(map[string]any)["policyName"].(string))
			}
			token = l.text("nextMarker")
		}
		if g := strings.Join(got, " "); g != want {
			t.Errorf("policies with %q: got %s, want %s", query, g, want)
		}
	}
	for size, ok := range map[int]bool{0: false, 1: true, 500: true, 501: false} {
		body := fmt.Sprintf(`{"queryString":"*","maxResults":%d}`, size)
		if ok {
			r.ok("POST", "/indices/search", body)
		} else {
			r.fails(400, "InvalidRequestException", "POST", "/indices/search", body)
		}
	}
}

func TestNamesInPathsAreCheckedBeforeTheyAreLookedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for path, good := range map[string]string{"/things/": "a:b_-9", "/thing-types/": "a", "/thing-groups/": "a", "/billing-groups/": "a", "/policies/": "a+=,.@-",
		"/certificates/": strings.Repeat("aF", 32), "/cacertificate/": strings.Repeat("0", 64), "/provisioning-templates/": "a_-", "/role-aliases/": "a=,@-", "/authorizer/": "a=,@-"} {
		r.fails(404, "ResourceNotFoundException", "GET", path+url.PathEscape(good), "")
		r.fails(400, "InvalidRequestException", "GET", path+"a%20b", "")
		r.fails(400, "InvalidRequestException", "GET", path+strings.Repeat("a", 129), "")
	}
	if f := r.fails(400, "InvalidRequestException", "GET", "/things/a%20b", ""); !strings.Contains(f.text("message"), "Value 'a b' at 'thingName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9:_-]+") {
		t.Errorf("got %v", f.body)
	}
	r.fails(400, "InvalidRequestException", "GET", "/policies/p/version/x", "")
}

func TestAuthorities(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(tpl, parent *x509.Certificate) (string, *x509.Certificate) {
		tpl.SerialNumber, tpl.NotAfter = big.NewInt(1), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, tpl, parent, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		x, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
		return string(b), x
	}
	tpl := &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true}
	caText, ca := sign(tpl, tpl)
	code := r.ok("GET", "/registrationcode", "").text("registrationCode")
	if again := r.ok("GET", "/registrationcode", "").text("registrationCode"); len(code) != 64 || again != code {
		t.Errorf("registration codes %q and %q", code, again)
	}
	verification, _ := sign(&x509.Certificate{Subject: pkix.Name{CommonName: code}}, ca)
	other, _ := sign(&x509.Certificate{Subject: pkix.Name{CommonName: "x"}}, ca)
	device, _ := sign(&x509.Certificate{Subject: pkix.Name{CommonName: "device"}}, ca)
	r.fails(400, "CertificateValidationException", "POST", "/certificate/register", `{"certificatePem":`+device+`}`)
	r.fails(400, "RegistrationCodeValidationException", "POST", "/cacertificate", `{"caCertificate":`+caText+`,"verificationCertificate":`+other+`}`)
	id := r.ok("POST", "/cacertificate?setAsActive=true&allowAutoRegistration=true", `{"caCertificate":`+caText+`,"verificationCertificate":`+verification+`}`).text("certificateId")
	if d := r.ok("GET", "/cacertificate/"+id, "").body["certificateDescription"].(map[string]any); d["status"] != "ACTIVE" || d["autoRegistrationStatus"] != "ENABLE" {
		t.Errorf("CA: %v", d)
	}
	cert := r.ok("POST", "/certificate/register", `{"certificatePem":`+device+`,"status":"ACTIVE"}`).text("certificateId")
	r.fails(409, "ResourceAlreadyExistsException", "POST", "/certificate/register", `{"certificatePem":`+device+`}`)
	if l := r.ok("GET", "/certificates-by-ca/"+id, ""); len(l.body["certificates"].([]any)) != 1 {
		t.Errorf("by CA: %v", l.body)
	}
	r.fails(400, "InvalidRequestException", "PATCH", "/transfer-certificate/"+cert+"?targetAwsAccount=123456789012", "")
	r.fails(406, "CertificateStateException", "DELETE", "/cacertificate/"+id, "")
	r.ok("PUT", "/cacertificate/"+id+"?newStatus=INACTIVE&newAutoRegistrationStatus=DISABLE", "")
	r.ok("DELETE", "/cacertificate/"+id, "")
}

func TestBillingTagsAndSettings(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.ok("POST", "/billing-groups/b", `{"billingGroupProperties":{"billingGroupDescription":"d"}}`)
	r.ok("POST", "/things/seen", `{"billingGroupName":"b"}`)
	if l := r.ok("GET", "/billing-groups/b/things", ""); fmt.Sprint(l.body["things"]) != "[seen]" {
		t.Errorf("billed: %v", l.body)
	}
	const arn = "arn:aws:iot:local-1:000000000000:billinggroup/b"
	r.ok("POST", "/tags", `{"resourceArn":"`+arn+`","tags":[{"Key":"k","Value":"v"},{"Key":"x","Value":"y"}]}`)
	r.ok("POST", "/untag", `{"resourceArn":"`+arn+`","tagKeys":["x"]}`)
	if l := r.ok("GET", "/tags?resourceArn="+url.QueryEscape(arn), ""); fmt.Sprint(l.body["tags"]) != "[map[Key:k Value:v]]" {
		t.Errorf("tags: %v", l.body)
	}
	r.ok("PATCH", "/event-configurations", `{"eventConfigurations":{"THING":{"Enabled":true}}}`)
	if e := r.ok("GET", "/event-configurations", "").body["eventConfigurations"].(map[string]any); fmt.Sprint(e["THING"], e["JOB"]) != "map[Enabled:true] map[Enabled:false]" {
		t.Errorf("events: %v", e)
	}
	r.fails(400, "InvalidRequestException", "PATCH", "/event-configurations", `{"eventConfigurations":{"X":{"Enabled":true}}}`)
	if e := r.ok("GET", "/endpoint?endpointType=iot%3AData-ATS", ""); e.text("endpointAddress") != strings.TrimPrefix(r.url, "https://") {
		t.Errorf("endpoint: %v", e.body) // not the host that was asked for
	}
	if c := r.ok("POST", "/things/seen/connectivity-data", ""); c.body["connected"] != false || c.text("disconnectReason") != "CONNECTION_LOST" {
		t.Errorf("connectivity: %v", c.body)
	}
}

func TestRegisterThing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	body := func(template string, parameters string) string {
		b, _ := json.Marshal(template)
		return `{"templateBody":` + string(b) + `,"parameters":` + parameters + `}`
	}
	const template = `{"Parameters":{"N":{"Type":"String"}},"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"N"},"AttributePayload":{"a":"%s"}},"OverrideSettings":{"AttributePayload":"FAIL"}}}}`
	got := r.ok("POST", "/things", body(fmt.Sprintf(template, "1"), `{"N":"pump"}`))
	if fmt.Sprint(got.body["resourceArns"]) != "map[thing:arn:aws:iot:local-1:000000000000:thing/pump]" {
		t.Errorf("got %v", got.body)
	}
	r.fails(409, "ConflictingResourceUpdateException", "POST", "/things", body(fmt.Sprintf(template, "2"), `{"N":"pump"}`))
	r.fails(400, "InvalidRequestException", "POST", "/things", body(fmt.Sprintf(template, "1"), `{}`))
	r.fails(400, "InvalidRequestException", "POST", "/things", body(`{}`, `{}`))
	r.fails(400, "ResourceRegistrationFailureException", "POST", "/things", body(`{"Resources":{"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"x","ThingTypeName":"none"}}}}`, `{}`))
	malformed := `{"Resources":{"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":"%s"}},"p":{"Type":"AWS::IoT::Policy","Properties":{"PolicyDocument":"{}"}}}}`
	id := r.ok("POST", "/keys-and-certificate", "").text("certificateId")
	r.fails(400, "ResourceRegistrationFailureException", "POST", "/things", body(fmt.Sprintf(malformed, id), `{}`))
}

func TestWhoMayCall(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	viewer, err := r.ops.Create("eve", operators.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		key    operators.Key
		method string
		path   string
		status int
		kind   string
	}{
		{"not signed", operators.Key{}, "GET", "/things", 403, "MissingAuthenticationTokenException"},
		{"an unknown key", operators.Key{ID: "AKIANOBODY", Secret: "x"}, "GET", "/things", 403, "UnrecognizedClientException"},
		{"a wrong secret", operators.Key{ID: r.key.ID, Secret: "x"}, "GET", "/things", 403, "InvalidSignatureException"},
		{"a viewer who looks", viewer, "GET", "/things", 200, ""},
		{"a viewer who writes", viewer, "POST", "/things/x", 403, "AccessDeniedException"},
		{"an operation that is not served", r.key, "GET", "/streams", 404, "UnknownOperationException"},
	} {
		if got := r.call(c.key, c.method, c.path, ""); got.status != c.status || got.kind != c.kind {
			t.Errorf("%s: got %d %s %v", c.name, got.status, got.kind, got.body)
		}
	}
	if err := r.ops.Remove("eve"); err != nil {
		t.Fatal(err)
	}
	if got := r.call(viewer, "GET", "/things", ""); got.kind != "UnrecognizedClientException" {
		t.Errorf("a removed operator: %d %s", got.status, got.kind)
	}
}

// The unmodified command of Debian, with nothing but the environment that tidegate env
// prints.
func TestAWSCommand(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	aws := func(args ...string) (string, error) {
		cmd := exec.Command("/usr/bin/aws", append([]string{"iot", "--endpoint-url", r.url, "--output", "json"}, args...)...)
		cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "AWS_ACCESS_KEY_ID=" + r.key.ID, "AWS_SECRET_ACCESS_KEY=" + r.key.Secret,
			"AWS_DEFAULT_REGION=local-1", "AWS_CA_BUNDLE=" + r.ca}
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("aws iot %s: %w: %s", args[0], err, errs.String())
		}
		return out.String(), nil
	}
	for _, args := range [][]string{
		{"create-thing", "--thing-name", "a:b", "--attribute-payload", "attributes={site=north}"},
		{"create-policy", "--policy-name", "p", "--policy-document", strings.ReplaceAll(open, `\`, "")},
	} {
		if _, err := aws(args...); err != nil {
			t.Fatal(err)
		}
	}
	out, err := aws("create-keys-and-certificate", "--set-as-active", "--query", "certificateArn", "--output", "text")
	if err != nil {
		t.Fatal(err)
	}
	arn := strings.TrimSpace(out)
	if _, err := aws("attach-policy", "--policy-name", "p", "--target", arn); err != nil {
		t.Error(err)
	}
	if out, err := aws("list-attached-policies", "--target", arn, "--query", "policies[0].policyName"); err != nil || strings.TrimSpace(out) != `"p"` {
		t.Errorf("got %s, %v", out, err)
	}
	if out, err := aws("describe-thing", "--thing-name", "a:b", "--query", "attributes.site"); err != nil || strings.TrimSpace(out) != `"north"` {
		t.Errorf("got %s, %v", out, err)
	}
	if _, err := aws("describe-thing", "--thing-name", "none"); err == nil || !strings.Contains(err.Error(), "An error occurred (ResourceNotFoundException) when calling the DescribeThing operation") {
		t.Errorf("got %v", err)
	}
}
