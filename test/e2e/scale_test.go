package e2e_test

import (
	"bytes"
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
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/api/sigv4"
	"tidegate/test/harness"
)

// administrator makes signed requests over one pool of connections.
type administrator struct {
	t    *testing.T
	base string
	keys sigv4.Credentials
	http *http.Client
}

func newAdministrator(t *testing.T, g *harness.Gateway) *administrator {
	t.Helper()
	a := &administrator{t: t}
	for _, pair := range g.Environment() {
		switch name, value, _ := strings.Cut(pair, "="); name {
		case "AWS_ACCESS_KEY_ID":
			a.keys.AccessKey = value
		case "AWS_SECRET_ACCESS_KEY":
			a.keys.Secret = value
		case "AWS_ENDPOINT_URL":
			a.base = value
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(read(t, filepath.Join(g.Dir, "pki", "ca.pem")))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 8}
	t.Cleanup(transport.CloseIdleConnections)
	a.http = &http.Client{Transport: transport}
	return a
}

// do performs an operation and gives the answer's body and how long it took.
func (a *administrator) do(method, path string, body any) ([]byte, time.Duration, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, 0, err
		}
	}
	r, err := http.NewRequestWithContext(a.t.Context(), method, a.base+path, bytes.NewReader(text))
	if err != nil {
		return nil, 0, err
	}
	service := "iot"
	if strings.HasSuffix(path, "/shadow") {
		service = "iotdata"
	}
	sigv4.Sign(r, text, a.keys, "local-1", service, time.Now())
	began := time.Now()
	res, err := a.http.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	took := time.Since(began)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, res.Status, answer)
	}
	return answer, took, err
}

// percentiles tells of times.
func percentiles(times []time.Duration) string {
	slices.Sort(times)
	at := func(p float64) time.Duration {
		return times[int(p*float64(len(times)-1))].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %v, p99 %v, max %v", at(0.5), at(0.99), at(1))
}

// A registry of many things, each with a certificate and a policy: how long questions take, what a start costs, and what
// stays in memory. A thousand in the short form, ten thousand with -long.
func TestManyThings(t *testing.T) {
	things := 1000
	if *long {
		things = 10_000
	}
	g := harness.Start(t, harness.Options{NoDev: true})
	g.Stop()
	g.Restart()
	emptyStart, emptyRSS := g.StartUp, g.RSS()
	a := newAdministrator(t, g)
	const policies = 50
	for i := range policies {
		if _, _, err := a.do("POST", fmt.Sprintf("/policies/p%d", i), map[string]any{"policyDocument": fmt.Sprintf(`{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:local-1:000000000000:client/${iot:Connection.Thing.ThingName}"},
			{"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":"arn:aws:iot:local-1:000000000000:topic/site%d/${iot:Connection.Thing.ThingName}/*"}]}`, i)}); err != nil {
			t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "device"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))

	template := write(t, filepath.Join(t.TempDir(), "template.json"), `{"Parameters":{"Name":{"Type":"String"},"Site":{"Type":"String"},"Serial":{"Type":"String"},"CSR":{"Type":"String"},"Policy":{"Type":"String"}},"Resources":{
		"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"Name"},"AttributePayload":{"site":{"Ref":"Site"},"serial":{"Ref":"Serial"}}}},
		"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":{"Ref":"CSR"},"Status":"ACTIVE"}},
		"policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":{"Ref":"Policy"}}}}}`)
	var lines bytes.Buffer
	for i := range things {
		if err := json.NewEncoder(&lines).Encode(map[string]string{"Name": fmt.Sprintf("thing-%05d", i), "Site": fmt.Sprintf("site-%d", i%100), "Serial": fmt.Sprint(i), "CSR": csr,
			"Policy": fmt.Sprintf("p%d", i%policies)}); err != nil {
			t.Fatal(err)
		}
	}
	lines.WriteString("{\"Name\":\"a b\"}\n") // one that fails
	input := write(t, filepath.Join(t.TempDir(), "things.json"), lines.String())
	began := time.Now()
	out, said, code := g.CLI("thing", "import", template, input)
	if code != 1 || !strings.Contains(out, fmt.Sprintf("registered     %d\n", things)) || strings.Count(said, "% ") < 2 || !strings.Contains(said, fmt.Sprintf("1 of %d lines failed", things+1)) {
		t.Fatalf("tidegate thing import: exit %d\n%s%s", code, out, said)
	}
	t.Logf("%d things registered, each with certificate and policy, in %v (%.0f a second); the last of its words:\n%s", things, time.Since(began).Round(time.Millisecond),
		float64(things)/time.Since(began).Seconds(), said[max(0, len(said)-400):])
	t.Logf("resident after that: %d MB", g.RSS()>>20)

	// questions, one after the other
	ask := func(what string, times int, method string, request func(i int) (path string, body any), good func(answer []byte) bool) {
		t.Helper()
		var took []time.Duration
		for i := range times {
			path, body := request(i)
			answer, d, err := a.do(method, path, body)
			if err != nil || !good(answer) {
				t.Fatalf("%s: %v: %.300s", what, err, answer)
			}
			took = append(took, d)
		}
		t.Logf("%s: %s", what, percentiles(took))
	}
	count := func(n int) func([]byte) bool {
		return func(answer []byte) bool {
			var out struct{ Things []struct{ ThingName string } }
			return json.Unmarshal(answer, &out) == nil && len(out.Things) == n
		}
	}
	questions := func() {
		ask("describe-thing", 500, "GET", func(i int) (string, any) { return fmt.Sprintf("/things/thing-%05d", i*7919%things), nil },
			func(b []byte) bool { return bytes.Contains(b, []byte("thingArn")) })
		token := ""
		ask("list-things, pages of 250", things/250, "GET", func(int) (string, any) { return "/things?maxResults=250&nextToken=" + url.QueryEscape(token), nil },
			func(b []byte) bool {
				var out struct {
					Things    []struct{}
					NextToken string
				}
				err := json.Unmarshal(b, &out)
				token = out.NextToken
				return err == nil && len(out.Things) == 250
			})
		ask("list-things by attribute", 100, "GET", func(i int) (string, any) {
			return fmt.Sprintf("/things?attributeName=site&attributeValue=site-%d", i%100), nil
		}, count(min(things/100, 250)))
		search := func(q func(i int) string) func(i int) (string, any) {
			return func(i int) (string, any) {
				return "/indices/search", map[string]any{"queryString": q(i), "maxResults": 250}
			}
		}
		ask("search-index by name", 100, "POST", search(func(i int) string { return fmt.Sprintf("thingName:thing-%05d", i*7919%things) }), count(1))
		ask("search-index by attribute", 100, "POST", search(func(i int) string { return fmt.Sprintf("attributes.site:site-%d", i%100) }), count(min(things/100, 250)))
		ask("search-index by wildcard and attribute", 100, "POST", search(func(i int) string { return fmt.Sprintf("thingName:thing-* AND attributes.serial:%d", i) }), count(1))
		ask("search-index by connection", 20, "POST", search(func(int) string { return "connectivity.connected:true" }), count(0))
		ask("search-index by shadow", 20, "POST", search(func(i int) string { return fmt.Sprintf("shadow.reported.n:%d", i) }), count(1))
		ask("list-thing-principals", 200, "GET", func(i int) (string, any) { return fmt.Sprintf("/things/thing-%05d/principals", i*7919%things), nil },
			func(b []byte) bool { return bytes.Contains(b, []byte(":cert/")) })
	}
	for i := range things / 10 {
		if _, _, err := a.do("POST", fmt.Sprintf("/things/thing-%05d/shadow", i*10), map[string]any{"state": map[string]any{"reported": map[string]any{"n": i, "firmware": "1.2.3"}}}); err != nil {
			t.Fatal(err)
		}
	}
	questions()
	g.Stop()
	g.Restart()
	t.Logf("start: %v with %d things, %v with none", g.StartUp.Round(time.Millisecond), things, emptyStart.Round(time.Millisecond))
	t.Logf("resident after the start: %d MB, %d MB with none", g.RSS()>>20, emptyRSS>>20)
	a = newAdministrator(t, g)
	questions()
	t.Logf("resident after the questions: %d MB", g.RSS()>>20)
	dir := filepath.Join(t.TempDir(), "dev")
	enroll(t, g, "one-more", dir)
	if out, err := tryOut(g, dir, "one-more", "one-more/hello"); err != nil {
		t.Errorf("mosquitto_pub: %v: %s", err, out)
	}
	g.Stop()
}
