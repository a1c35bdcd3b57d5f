package e2e_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"tidegate/gateway/api/sigv4"
	"tidegate/test/harness"
)

// A policy of a million wildcards is refused before any time is spent on it, and paths that mean something else to somebody else
// are for no thing; each is in the audit log.
func TestAttacksByDocumentAndPath(t *testing.T) {
	g := harness.Start(t, harness.Options{NoDev: true})
	env, client := surroundings(t, g)
	send := func(path, body string) (status int, kind string, took time.Duration) {
		req, err := http.NewRequest("POST", env["AWS_ENDPOINT_URL"]+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		sigv4.Sign(req, []byte(body), sigv4.Credentials{AccessKey: env["AWS_ACCESS_KEY_ID"], Secret: env["AWS_SECRET_ACCESS_KEY"]}, env["AWS_DEFAULT_REGION"], "iot", time.Now())
		began := time.Now()
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("x-amzn-ErrorType"), time.Since(began)
	}
	for name, resource := range map[string]string{"million": strings.Repeat("*", 1_000_000), "million-more": strings.Repeat("*?", 500_000), "many": strings.Repeat("*a", 1000)} {
		status, kind, took := send("/policies/"+name, fmt.Sprintf(`{"policyDocument":"{\"Version\":\"2012-10-17\",\"Statement\":{\"Effect\":\"Allow\",\"Action\":\"*\",\"Resource\":\"%s\"}}"}`, resource))
		if status != 400 || kind != "MalformedPolicyException" && kind != "InvalidRequestException" || took > 5*time.Second {
			t.Errorf("%s: %d %s after %v", name, status, kind, took)
		}
		audited(t, g, `"what":"CreatePolicy"`, `"name":"/policies/`+name+`"`)
	}
	for path, entry := range map[string]string{
		"/things/..%2f..%2fpki":     `"what":"CreateThing"`,
		"/things/%00":               `"what":"CreateThing"`,
		"/things/%E2%80%AEevil":     `"what":"CreateThing"`,
		"/things/%EF%BC%8Fetc":      `"what":"CreateThing"`, // a slash of full width
		"/things//x":                `"name":"POST /things//x"`,
		"//things/x":                `"name":"POST //things/x"`,
		"/things/a/../b":            `"name":"POST /things/a/../b"`,
		"/v2LoggingLevel/../things": `"what":"unknown operation"`,
	} {
		if status, kind, _ := send(path, `{}`); status < 400 || status >= 500 {
			t.Errorf("%s: %d %s", path, status, kind)
		}
		audited(t, g, entry, `"address":"127.0.0.1"`)
	}
	if out, _, _ := g.CLI("thing", "ls", "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("things were made: %s", out)
	}
}

// Devices that try for what is another's, over HTTPS and by sessions, and certificates that are not good any more or not yet.
func TestAttacksByDevices(t *testing.T) {
	s := newSite(t, harness.Options{NoDev: true})
	c, ctx := sdk(t, s.Gateway), t.Context()
	doc := aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"},
	 {"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":"arn:aws:iot:local-1:000000000000:topic/web/eve/*"},
	 {"Effect":"Allow","Action":"iot:Subscribe","Resource":"*"}]}`)
	if _, err := c.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String("web"), PolicyDocument: doc}); err != nil {
		t.Fatal(err)
	}
	s.cli("enroll", "eve", "--out", filepath.Join(s.dir, "eve"), "--policy", "web")
	ada := s.enroll("ada")

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: s.tls("eve")}}
	t.Cleanup(client.CloseIdleConnections)
	for path, want := range map[string]int{
		"/topics/web/eve/x":             200,
		"/topics/web/eve%2fx":           200, // an encoded slash is a slash of the topic
		"/topics/web/ada/x":             403,
		"/topics/web%2Fada%2Fx":         403,
		"/topics/web//eve/x":            403,
		"/topics/web/%E2%80%A6/ada":     403,
		"/topics/web/%D0%B5ve/x":        403, // a letter of another script
		"/topics/web/eve%00/x":          403,
		"/topics/%24aws/things/ada":     403,
		"/things/ada/shadow":            403,
		"/things/eve%2F..%2Fada/shadow": 400,
	} {
		resp, err := client.Post("https://"+s.HTTPS+path, "application/octet-stream", strings.NewReader(`{"state":{}}`))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want && !(want != 200 && resp.StatusCode >= 400 && resp.StatusCode < 500) {
			t.Errorf("%s: %s, want %d", path, resp.Status, want)
		}
	}
	for _, name := range []string{"web/ada/x", "web//eve/x", "web/…/ada", "web/еve/x", `web/eve\u0000/x`, "$aws/things/ada"} {
		audited(t, s.Gateway, `"what":"publish"`, `"name":"`+name+`"`)
	}
	for _, name := range []string{"/things/ada/shadow", "/things/eve/../ada/shadow"} {
		audited(t, s.Gateway, `"what":"UpdateThingShadow"`, `"name":"`+name+`"`, `"by":"`+s.certificateOf("eve")+`"`)
	}

	// ada has left a session with a message in it. eve may connect under any name, and finds nothing there.
	if said, err := exec.Command("mosquitto_sub", append([]string{"-h", "localhost", "-p", s.MQTTS[strings.LastIndexByte(s.MQTTS, ':')+1:], "-q", "1", "-c", "-t", "web/#", "-E"}, ada...)...).CombinedOutput(); err != nil {
		t.Fatalf("ada: %v: %s", err, said)
	}
	s.cli("pub", "web/eve/secret", "-q", "1", "-m", "s3cret")
	said, _ := exec.Command("mosquitto_sub", append(device(s.Gateway, filepath.Join(s.dir, "eve"), "ada"), "-q", "1", "-c", "-t", "other/#", "-W", "1")...).CombinedOutput()
	if strings.Contains(string(said), "s3cret") {
		t.Errorf("eve has read what waited for ada: %s", said)
	}
	audited(t, s.Gateway, `"what":"resume"`, `"client":"ada"`, `"by":"`+s.certificateOf("eve")+`"`)

	// Certificates that are registered and active, but out of their time.
	plant := newAuthority(t)
	for what, tpl := range map[string]*x509.Certificate{
		"has expired":      {NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)},
		"is not yet valid": {NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(2 * time.Hour)},
	} {
		tpl.Subject = pkix.Name{CommonName: what}
		dir := plant.device(t, s.Gateway, tpl)
		text := string(read(t, filepath.Join(dir, "device.pem")))
		out, err := c.RegisterCertificateWithoutCA(ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: &text, Status: "ACTIVE"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: aws.String("anything"), Target: out.CertificateArn}); err != nil {
			t.Fatal(err)
		}
		id := strings.ReplaceAll(what, " ", "-")
		if out, err := tryOut(s.Gateway, dir, id, "x/y"); err == nil {
			t.Errorf("%s: let in: %s", what, out)
		}
		audited(t, s.Gateway, `"what":"connect"`, `"client":"`+id+`"`, what)
	}
}
