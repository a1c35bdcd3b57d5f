package e2e_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"tidegate/gateway/api/sigv4"
	"tidegate/test/harness"
)

// Requests for the control plane that are not what they pretend to be, or more than they should be.
func TestAttacksOnTheControlPlane(t *testing.T) {
	g := harness.Start(t, harness.Options{NoDev: true})
	c, ctx := sdk(t, g), t.Context()

	long := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"` + strings.Repeat("x", 2048) + `"}]}`
	_, err := c.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String("long"), PolicyDocument: &long})
	refused[*types.MalformedPolicyException](t, "an oversized policy", err, 400)
	audited(t, g, `"what":"CreatePolicy"`, `"by":"operator/`)

	// As many wildcards as a policy has room for, against a topic that almost matches.
	wild := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:local-1:000000000000:topic/` + strings.Repeat("*a", 900) + `b"}]}`
	if _, err := c.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String("wild"), PolicyDocument: &wild}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	out, err := c.TestAuthorization(ctx, &iot.TestAuthorizationInput{PolicyNamesToAdd: []string{"wild"}, AuthInfos: []types.AuthInfo{{ActionType: types.ActionTypePublish,
		Resources: []string{"arn:aws:iot:local-1:000000000000:topic/" + strings.Repeat("a", 250)}}}})
	if err != nil || out.AuthResults[0].AuthDecision != types.AuthDecisionImplicitDeny || time.Since(start) > 2*time.Second {
		t.Errorf("a policy of wildcards: %+v after %v, %v", out, time.Since(start), err)
	}

	for what, x := range map[string]struct{ csr, why string }{
		"a bomb":           {"-----BEGIN CERTIFICATE REQUEST-----\n" + strings.Repeat(strings.Repeat("A", 64)+"\n", 8000) + "-----END CERTIFICATE REQUEST-----\n", "longer than"},
		"nested lengths":   {"-----BEGIN CERTIFICATE REQUEST-----\nMIT/////MIT/////MIT/////MIT/////\n-----END CERTIFICATE REQUEST-----\n", "cannot be read"},
		"no request":       {"hello", "not in PEM form"},
		"an empty request": {"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n", "cannot be read"},
	} {
		_, err := c.CreateCertificateFromCsr(ctx, &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: &x.csr})
		refused[*types.InvalidRequestException](t, what, err, 400)
		audited(t, g, `"what":"CreateCertificateFromCsr"`, x.why)
	}

	// A signature is for one request, for a quarter of an hour.
	env := map[string]string{}
	for _, pair := range g.Environment() {
		k, v, _ := strings.Cut(pair, "=")
		env[k] = v
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(read(t, filepath.Join(g.Dir, "pki", "ca.pem")))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	t.Cleanup(client.CloseIdleConnections)
	send := func(path, signed, body string, at time.Time) (int, string) {
		req, err := http.NewRequest("POST", env["AWS_ENDPOINT_URL"]+path, strings.NewReader(signed))
		if err != nil {
			t.Fatal(err)
		}
		sigv4.Sign(req, []byte(signed), sigv4.Credentials{AccessKey: env["AWS_ACCESS_KEY_ID"], Secret: env["AWS_SECRET_ACCESS_KEY"]}, env["AWS_DEFAULT_REGION"], "iot", at)
		req.Body, req.ContentLength = http.NoBody, int64(len(body))
		if body != "" {
			req.Body = readCloser{bytes.NewReader([]byte(body))}
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("x-amzn-ErrorType")
	}
	if status, kind := send("/things/ok", `{}`, `{}`, time.Now()); status != 200 {
		t.Errorf("as it should be: %d %s", status, kind)
	}
	for what, x := range map[string]struct {
		path, signed, body string
		at                 time.Time
	}{
		"a swapped body":      {"/things/a", `{}`, `{"attributePayload":{"attributes":{"a":"b"}}}`, time.Now()},
		"replayed when over":  {"/things/b", `{}`, `{}`, time.Now().Add(-20 * time.Minute)},
		"signed for tomorrow": {"/things/c", `{}`, `{}`, time.Now().Add(24 * time.Hour)},
	} {
		if status, kind := send(x.path, x.signed, x.body, x.at); status != 403 || kind != "InvalidSignatureException" {
			t.Errorf("%s: %d %s", what, status, kind)
		}
		audited(t, g, `"what":"CreateThing"`, `"name":"`+x.path+`"`, `"address":"127.0.0.1"`)
	}
	for _, path := range []string{"/things/..%2f..%2fpki", "/things//x", "//things/x", "/things/%00", "/things/%E2%80%AEevil", "/things/a/../b"} {
		if status, _ := send(path, `{}`, `{}`, time.Now()); status < 400 || status >= 500 {
			t.Errorf("%s: %d", path, status)
		}
	}
	for _, name := range []string{"a", "b", "c", "x", "evil"} {
		if _, err := c.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: &name}); err == nil {
			t.Errorf("the thing %s was made", name)
		}
	}
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

// Clients that are let in and try for more.
func TestAttacksOnTheBroker(t *testing.T) {
	g := harness.Start(t, harness.Options{NoDev: true})
	file := write(t, filepath.Join(t.TempDir(), "p.json"), `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"},
	 {"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":"arn:aws:iot:local-1:000000000000:topic/own/${iot:Connection.Thing.ThingName}/*"},
	 {"Effect":"Allow","Action":"iot:Subscribe","Resource":"arn:aws:iot:local-1:000000000000:topicfilter/own/${iot:Connection.Thing.ThingName}/*"}]}`)
	if _, errOut, code := g.CLI("policy", "create", "own", file); code != 0 {
		t.Fatal(errOut)
	}
	ada, eve := t.TempDir(), t.TempDir()
	enroll(t, g, "ada", ada, "--policy", "own")
	enroll(t, g, "eve", eve, "--policy", "own")
	if out, err := tryOut(g, ada, "ada", "own/ada/x", "-V", "5"); err != nil || out != "" {
		t.Fatalf("what is allowed: %v: %s", err, out)
	}
	for _, x := range []struct {
		what, id, topic, attempt string
		args                     []string
	}{
		{"a will to a denied topic", "eve", "own/eve/x", `"name":"own/ada/will"`, []string{"--will-topic", "own/ada/will", "--will-payload", "x"}},
		{"a retained message", "eve", "own/eve/x", `"name":"own/eve/x"`, []string{"-r"}},
		{"another thing's topic", "eve", "own/ada/x", `"name":"own/ada/x"`, nil},
		{"a topic alias", "eve", "own/ada/alias", `"name":"own/ada/alias"`, []string{"-D", "publish", "topic-alias", "1"}},
		{"a name that is no thing", "*", "own/*/x", `"client":"*"`, nil},
		{"a name of one level", "+", "own/ada/x", `"client":"+"`, nil},
		{"a name of all levels", "#", "own/eve/x", `"client":"#"`, nil},
		{"a name with a level", "ada/eve", "own/ada/eve/x", `"client":"ada/eve"`, nil},
		{"empty levels", "eve", "own//x", `"name":"own//x"`, nil},
		{"an encoded slash", "eve", "own%2Fada%2Fx", `"name":"own%2Fada%2Fx"`, nil},
		{"dots", "eve", "own/eve/../ada/x/../../ada", "", nil}, // a name like any other: own/eve/*
		{"another script", "eve", "own/аda/x", `"name":"own/аda/x"`, nil},
		{"the house's own topics", "eve", "$tidegate/audit/change", `"name":"$tidegate/audit/change"`, nil},
		{"what only the gateway says", "eve", "$aws/events/presence/connected/ada", `"name":"$aws/events/presence/connected/ada"`, nil},
		{"a will to the house's topics", "eve", "own/eve/x", `"name":"$tidegate/audit/refused"`, []string{"--will-topic", "$tidegate/audit/refused", "--will-payload", "x"}},
		{"somebody else's client id", "ada", "own/ada/x", `"name":"own/ada/x"`, nil}, // the certificate is eve's, and not attached to ada
	} {
		out, err := tryOut(g, eve, x.id, x.topic, append([]string{"-V", "5"}, x.args...)...)
		if x.what == "dots" {
			if err != nil || out != "" {
				t.Errorf("%s: %v: %s", x.what, err, out)
			}
			continue
		}
		if err == nil && !strings.Contains(out, "ot authori") {
			t.Errorf("%s: passed: %s", x.what, out)
		}
		audited(t, g, `"by":"`, x.attempt, `"address":"127.0.0.1"`)
	}
	for _, filter := range []string{"own/ada/#", "own/+/x", "#", "$tidegate/#", "$share/g/own/ada/#"} {
		out, _ := exec.Command("mosquitto_sub", append(device(g, eve, "eve"), "-V", "5", "-t", filter, "-W", "1", "-d")...).CombinedOutput()
		if !strings.Contains(string(out), "Subscribed (mid: 1): 135") {
			t.Errorf("a subscription to %s: %s", filter, out)
		}
		audited(t, g, `"what":"subscribe"`, `"name":"`+strings.TrimPrefix(filter, "$share/g/")+`"`, `"client":"eve"`)
	}

	// A session belongs to whoever made it, not to whoever comes under its name.
	sub := func(dir string) string {
		out, _ := exec.Command("mosquitto_sub", append(device(g, dir, "ada"), "-q", "1", "-c", "-t", "own/ada/#", "-W", "1", "-d")...).CombinedOutput()
		return string(out)
	}
	if out := sub(ada); !strings.Contains(out, "Subscribed") {
		t.Fatalf("ada cannot subscribe: %s", out)
	}
	if out, err := tryOut(g, ada, "ada-2", "own/ada-2/x", "-V", "5"); err == nil && !strings.Contains(out, "ot authori") {
		t.Errorf("another client id: %s", out)
	}
	if _, errOut, code := g.CLI("pub", "own/ada/secret", "-q", "1", "-m", "s3cret"); code != 0 {
		t.Fatal(errOut)
	}
	if out := sub(eve); strings.Contains(out, "s3cret") {
		t.Errorf("eve has read ada's messages: %s", out)
	}
}
