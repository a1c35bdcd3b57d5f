package data_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/api/data"
	"tidegate/gateway/api/sigv4"
	"tidegate/gateway/authz"
	"tidegate/gateway/broker"
	"tidegate/gateway/clock"
	"tidegate/gateway/identity"
	"tidegate/gateway/ingest"
	"tidegate/gateway/jobs"
	"tidegate/gateway/journal"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/operators"
	"tidegate/gateway/registry"
	"tidegate/gateway/reserved"
	"tidegate/gateway/rules"
	"tidegate/gateway/shadow"
	"tidegate/gateway/store"
)

// nobody is the broker's authorizer; no client connects here.
type nobody struct{}

func (nobody) Name() string                                             { return "nobody" }
func (nobody) Connect(*broker.ConnectRequest) (broker.Principal, error) { return nobody{}, nil }
func (nobody) Restore(string, string) broker.Principal                  { return nobody{} }
func (nobody) MayPublish(broker.Principal, string, bool) bool           { return true }
func (nobody) MaySubscribe(broker.Principal, string) bool               { return true }
func (nobody) MayReceive(broker.Principal, string) bool                 { return true }

// rig is a data plane on a real road behind a real HTTPS listener.
type rig struct {
	*testing.T
	url    string
	key    operators.Key
	reg    *registry.Registry
	id     *identity.Identity
	pool   *x509.CertPool
	br     *broker.Broker
	signed *http.Client
	kicked []string
	jobs   *reserved.Jobs
}

func newRig(t *testing.T) *rig {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir, clk, log := t.TempDir(), clock.System(), slog.New(slog.DiscardHandler)
	sc := store.DefaultConfig(dir)
	sc.LogFileSize, sc.Ballast = 1<<20, -1
	db, err := store.Open(sc, clk)
	must(err)
	jr, err := journal.Open(db, clk, log, journal.DefaultConfig())
	must(err)
	br, err := broker.Open(broker.DefaultConfig(), broker.Deps{Store: db, Journal: jr, Clock: clk, Log: log, Auth: nobody{}})
	must(err)
	eng, err := rules.New(rules.Config{}, rules.Deps{Clock: clk, Log: log, Account: "000000000000"})
	must(err)
	room := shadow.New(clk, shadow.DefaultLimits())
	shadows := reserved.NewShadows(room, clk, log)
	topics := reserved.New()
	topics.Serve(awstopic.Shadow, shadows.Handle)
	road := ingest.New(db, jr, br, eng, topics, clk, log)
	br.OnPublish(road)
	reg, err := registry.Open(db, clk, registry.DefaultConfig())
	must(err)
	ops, err := operators.Open(db, clk)
	must(err)
	vault, err := identity.FileVault(filepath.Join(dir, "pki"))
	must(err)
	id, err := identity.Open(vault, clk, identity.DefaultConfig(filepath.Join(dir, "pki")))
	must(err)
	db.Start()
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		br.Run(ctx, func() { close(ready) }) //nolint:errcheck // never fails
	}()
	<-ready
	r := &rig{T: t, reg: reg, id: id, pool: x509.NewCertPool(), br: br}
	r.pool.AppendCertsFromPEM(id.CAPEM())
	fleet := reserved.Fleet{Registry: reg}
	office, err := jobs.Open(jobs.Deps{Store: db, Clock: clk, Fleet: fleet, Base: reg.Base(), Limits: jobs.DefaultLimits(), Events: fleet.Events})
	must(err)
	r.jobs = reserved.NewJobs(office, db, clk, log)
	r.jobs.OnCommit(road.Commit)
	h := data.New(data.Deps{Road: road, Jobs: r.jobs, Shadows: shadows, Room: room, Store: db, Operators: ops, Auth: authz.New(reg, clk, authz.Config{}), Clock: clk,
		Disconnect: func(client string, will, clean bool) bool {
			r.kicked = append(r.kicked, fmt.Sprintf("%s %v %v", client, will, clean))
			return client == "there"
		}}, data.Config{})
	srv := httptest.NewUnstartedServer(h)
	srv.Listener = tls.NewListener(srv.Listener, id.ServerTLS()) // StartTLS would show a certificate of its own
	srv.Start()
	r.url = "https://" + srv.Listener.Addr().String()
	r.signed = r.client(nil)
	r.key, err = ops.Create("ada", operators.Admin)
	must(err)
	t.Cleanup(func() {
		srv.Close()
		stop()
		<-ended
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// client is an HTTP client, with a certificate or none.
func (r *rig) client(cert *tls.Certificate) *http.Client {
	cfg := &tls.Config{RootCAs: r.pool}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}}
	r.Cleanup(c.CloseIdleConnections)
	return c
}

// device registers a certificate with a policy and gives a client that shows it.
func (r *rig) device(document string) *http.Client {
	r.Helper()
	pair, err := r.id.IssueKeys(0)
	if err != nil {
		r.Fatal(err)
	}
	err = r.reg.Do("test", func(tx *registry.Tx) error {
		c, e1 := tx.AddCertificate(registry.CertificateInput{PEM: pair.Certificate, Status: registry.Active, Mode: registry.ModeDefault})
		_, e2 := tx.CreatePolicy("device", document, nil)
		return errors.Join(e1, e2, tx.AttachPolicy("device", r.reg.ARN("cert", c.ID)))
	})
	if err != nil {
		r.Fatal(err)
	}
	cert, err := tls.X509KeyPair([]byte(pair.Certificate), []byte(pair.PrivateKey))
	if err != nil {
		r.Fatal(err)
	}
	return r.client(&cert)
}

type reply struct {
	status int
	kind   string
	body   map[string]any
}

// call sends a request, signed unless client is given.
func (r *rig) call(client *http.Client, method, path, body string, header ...string) reply {
	r.Helper()
	req, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if client == nil {
		client = r.signed
		sigv4.Sign(req, []byte(body), sigv4.Credentials{AccessKey: r.key.ID, Secret: r.key.Secret}, "local-1", "iotdata", time.Now())
	}
	resp, err := client.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	out := reply{status: resp.StatusCode, kind: resp.Header.Get("x-amzn-ErrorType")}
	if len(b) == 0 {
		return out
	}
	if err := json.Unmarshal(b, &out.body); err != nil {
		r.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, b)
	}
	return out
}

func (r *rig) wants(got reply, status int, kind string) reply {
	r.Helper()
	if got.status != status || got.kind != kind || status >= 400 && got.body["traceId"] == nil {
		r.Errorf("got %d %s %v, want %d %s", got.status, got.kind, got.body, status, kind)
	}
	return got
}

// watch gives what is delivered under a filter.
func (r *rig) watch(filter string) <-chan mqtt.Message {
	ch := make(chan mqtt.Message, 100)
	r.Cleanup(r.br.Watch(filter, func(run *mqtt.Run) {
		for i := range run.Frames {
			m := run.Message(i)
			m.Payload = append([]byte{}, m.Payload...)
			ch <- m
		}
	}))
	return ch
}

func next(t *testing.T, ch <-chan mqtt.Message) mqtt.Message {
	t.Helper()
	select {
	case m := <-ch:
		return m
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was delivered")
		return mqtt.Message{}
	}
}

func TestPublish(t *testing.T) {
	r := newRig(t)
	seen := r.watch("#")
	user := base64.StdEncoding.EncodeToString([]byte(`[{"a":"1"},{"a":"2"}]`))
	got := r.wants(r.call(nil, "POST", "/topics/site%2Fpump/state?qos=1&contentType=text%2Fplain&responseTopic=r&messageExpiry=60", "hello",
		"x-amz-mqtt5-user-properties", user, "x-amz-mqtt5-payload-format-indicator", "UTF8_DATA", "x-amz-mqtt5-correlation-data", "AQI="), 200, "")
	if got.body["message"] != "OK" || got.body["traceId"] == "" {
		t.Errorf("answer: %v", got.body)
	}
	m := next(t, seen)
	p := m.Props
	if m.Topic != "site/pump/state" || string(m.Payload) != "hello" || m.QoS != 1 || m.Origin != mqtt.REST || m.Principal != "operator/ada" || m.From != "" ||
		p.ContentType != "text/plain" || p.ResponseTopic != "r" || p.Expiry != 60 || !p.HasFormat || p.Format != 1 || string(p.Correlation) != "\x01\x02" || fmt.Sprint(p.User) != "[{a 1} {a 2}]" {
		t.Errorf("delivered: %+v", m)
	}
	for _, path := range []string{"/topics/a?qos=2", "/topics/a%2B", "/topics/a%23?qos=1", "/topics/a?qos=x", "/topics/a?messageExpiry=-1", "/topics/%00"} {
		r.wants(r.call(nil, "POST", path, ""), 400, "InvalidRequestException")
	}
	for _, h := range [][]string{{"x-amz-mqtt5-user-properties", "!"}, {"x-amz-mqtt5-user-properties", "e30="}, {"x-amz-mqtt5-payload-format-indicator", "X"}, {"x-amz-mqtt5-correlation-data", "!"}} {
		r.wants(r.call(nil, "POST", "/topics/a", "", h...), 400, "InvalidRequestException")
	}
	r.wants(r.call(nil, "POST", "/topics/$aws/events/presence/connected/x", "{}"), 403, "ForbiddenException")
	r.wants(r.call(nil, "POST", "/topics/a", strings.Repeat("x", 128<<10+1)), 413, "RequestEntityTooLargeException")
}

func TestShadows(t *testing.T) {
	r := newRig(t)
	deltas := r.watch("$aws/things/+/shadow/update/delta")
	r.wants(r.call(nil, "GET", "/things/pump/shadow", ""), 404, "ResourceNotFoundException")
	got := r.wants(r.call(nil, "POST", "/things/pump/shadow", `{"state":{"desired":{"on":true}}}`), 200, "")
	if got.body["version"] != 1.0 {
		t.Errorf("updated: %v", got.body)
	}
	if m := next(t, deltas); m.Topic != "$aws/things/pump/shadow/update/delta" {
		t.Errorf("delivered: %s", m.Topic)
	}
	r.wants(r.call(nil, "POST", "/things/pump/shadow", `{"state":{},"version":7}`), 409, "ConflictException")
	r.wants(r.call(nil, "POST", "/things/pump/shadow", `{`), 400, "InvalidRequestException")
	r.wants(r.call(nil, "POST", "/things/pump/shadow?name=cfg", `{"state":{"reported":{"a":1}}}`), 200, "")
	if got := r.wants(r.call(nil, "GET", "/api/things/shadow/ListNamedShadowsForThing/pump", ""), 200, ""); fmt.Sprint(got.body["results"]) != "[cfg]" {
		t.Errorf("listed: %v", got.body)
	}
	if got := r.wants(r.call(nil, "GET", "/things/pump/shadow?name=cfg", ""), 200, ""); got.body["state"] == nil {
		t.Errorf("got: %v", got.body)
	}
	for _, method := range []string{"GET", "POST", "DELETE"} { // an empty name is not the classic shadow
		r.wants(r.call(nil, method, "/things/pump/shadow?name=", `{"state":{}}`), 400, "InvalidRequestException")
	}
	r.wants(r.call(nil, "DELETE", "/things/pump/shadow", ""), 200, "")
	r.wants(r.call(nil, "GET", "/things/pump/shadow", ""), 404, "ResourceNotFoundException")
}

func TestRetainedMessages(t *testing.T) {
	r := newRig(t)
	for _, topic := range []string{"a", "a/b", "c"} {
		r.wants(r.call(nil, "POST", "/topics/"+topic+"?retain=true&qos=1", "of "+topic), 200, "")
	}
	got := r.wants(r.call(nil, "GET", "/retainedMessage/a%2Fb", ""), 200, "")
	if got.body["payload"] != base64.StdEncoding.EncodeToString([]byte("of a/b")) || got.body["topic"] != "a/b" || got.body["qos"] != 1.0 {
		t.Errorf("got %v", got.body)
	}
	r.wants(r.call(nil, "GET", "/retainedMessage/none", ""), 404, "ResourceNotFoundException")
	var topics []string
	for token := ""; ; {
		l := r.wants(r.call(nil, "GET", "/retainedMessage?maxResults=2&nextToken="+token, ""), 200, "")
		for _, e := range l.body["retainedTopics"].([]any) {
			topics = append(topics, e.(map[string]any)["topic"].(string))
		}
		if token, _ = l.body["nextToken"].(string); token == "" {
			break
		}
	}
	if fmt.Sprint(topics) != "[a a/b c]" {
		t.Errorf("listed: %v", topics)
	}
	r.wants(r.call(nil, "GET", "/retainedMessage?maxResults=201", ""), 400, "InvalidRequestException")
}

func TestDeleteConnection(t *testing.T) {
	r := newRig(t)
	if got := r.wants(r.call(nil, "DELETE", "/connections/there?preventWillMessage=true", ""), 200, ""); got.body != nil {
		t.Errorf("a body: %v", got.body)
	}
	r.wants(r.call(nil, "DELETE", "/connections/away?cleanSession=true", ""), 404, "ResourceNotFoundException")
	if fmt.Sprint(r.kicked) != "[there false false away true true]" {
		t.Errorf("kicked: %v", r.kicked)
	}
}

func TestDevicesAreJudgedByTheirPolicies(t *testing.T) {
	r := newRig(t)
	dev := r.device(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Publish"],"Resource":["arn:aws:iot:*:*:topic/mine/*"]},
	{"Effect":"Allow","Action":["iot:UpdateThingShadow","iot:GetThingShadow"],"Resource":["arn:aws:iot:*:*:thing/t","arn:aws:iot:*:*:thing/t/cfg"]}]}`)
	seen := r.watch("mine/#")
	r.wants(r.call(dev, "POST", "/topics/mine/a", "x"), 200, "")
	if m := next(t, seen); len(m.Principal) != 64 {
		t.Errorf("principal: %q", m.Principal)
	}
	r.wants(r.call(dev, "POST", "/topics/other", "x"), 403, "ForbiddenException")
	r.wants(r.call(dev, "POST", "/topics/mine/a?retain=true", "x"), 403, "ForbiddenException")
	r.wants(r.call(dev, "POST", "/things/t/shadow", `{"state":{"reported":{"a":1}}}`), 200, "")
	r.wants(r.call(dev, "POST", "/things/t/shadow?name=cfg", `{"state":{"reported":{"a":1}}}`), 200, "")
	r.wants(r.call(dev, "POST", "/things/t/shadow?name=x", `{"state":{"reported":{"a":1}}}`), 403, "ForbiddenException")
	r.wants(r.call(dev, "DELETE", "/things/t/shadow", ""), 403, "ForbiddenException")
	r.wants(r.call(dev, "GET", "/retainedMessage", ""), 403, "ForbiddenException")
	r.wants(r.call(dev, "DELETE", "/connections/there", ""), 403, "ForbiddenException")
	r.wants(r.call(r.client(nil), "POST", "/topics/mine/a", "x"), 403, "MissingAuthenticationTokenException")
	pair, err := r.id.IssueKeys(0) // signed by the gateway, but not registered
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair([]byte(pair.Certificate), []byte(pair.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	r.wants(r.call(r.client(&cert), "POST", "/topics/mine/a", "x"), 403, "ForbiddenException")
}

func TestMessagesAreHeldToTheLimits(t *testing.T) {
	r := newRig(t)
	long, deep := strings.Repeat("x", 257), "a/b/c/d/e/f/g/h/i"
	for _, path := range []string{"/topics/" + long, "/topics/" + deep, "/topics/" + strings.ReplaceAll(deep, "/", "%2F")} {
		r.wants(r.call(nil, "POST", path, ""), 400, "InvalidRequestException")
	}
	big := base64.StdEncoding.EncodeToString([]byte(`[{"k":"` + strings.Repeat("v", 8200) + `"}]`))
	r.wants(r.call(nil, "POST", "/topics/a", "", "x-amz-mqtt5-user-properties", big), 400, "InvalidRequestException")
	seen := r.watch("#")
	r.wants(r.call(nil, "POST", "/topics/"+long[1:], ""), 200, "")
	next(t, seen)
	r.wants(r.call(nil, "POST", "/topics/$aws/things/"+strings.Repeat("t", 128)+"/shadow/name/"+strings.Repeat("s", 64)+"/update", "{}"), 200, "")
	for given, want := range map[string]uint32{"0": 1, "604801": 604800} {
		r.wants(r.call(nil, "POST", "/topics/expiry?messageExpiry="+given, ""), 200, "")
		for m := next(t, seen); ; m = next(t, seen) {
			if m.Topic == "expiry" {
				if m.Props.Expiry != want {
					t.Errorf("expiry %s became %d, want %d", given, m.Props.Expiry, want)
				}
				break
			}
		}
	}
	for _, topic := range []string{"$aws/things/t/shadow/get", "$SYS/x", "$other"} {
		r.wants(r.call(nil, "POST", "/topics/"+topic+"?retain=true", "{}"), 403, "ForbiddenException")
	}
}

func TestPathsAndMethods(t *testing.T) {
	r := newRig(t)
	seen := r.watch("#")
	for path, want := range map[string]string{"/topics/a/b": "a/b", "/topics/a%2Fb": "a/b", "/topics/a/b/": "a/b/", "/topics//a": "/a", "/topics/a%20b": "a b", "/topics/a+b": "", "/topics/%C3%A4": "ä", "/topics/%ff": "", "/topics/": "", "/topics/a%25": "a%"} {
		got := r.call(nil, "POST", path, "x")
		if want == "" {
			if got.status != 400 && got.status != 404 && got.status != 405 {
				t.Errorf("%s: %+v", path, got)
			}
			continue
		}
		r.wants(got, 200, "")
		if m := next(t, seen); m.Topic != want {
			t.Errorf("%s is %q, want %q", path, m.Topic, want)
		}
	}
	for _, c := range []struct{ method, path string }{{"GET", "/topics/a"}, {"PUT", "/things/t/shadow"}, {"POST", "/retainedMessage/a"}, {"POST", "/retainedMessage"}, {"GET", "/connections/c"}} {
		r.wants(r.call(nil, c.method, c.path, ""), 405, "MethodNotAllowedException")
	}
	r.wants(r.call(nil, "GET", "/no/such/path", ""), 404, "UnknownOperationException")
}

func TestBadSignaturesAreNamed(t *testing.T) {
	r := newRig(t)
	good := sigv4.Credentials{AccessKey: r.key.ID, Secret: r.key.Secret}
	for what, c := range map[string]struct {
		sign func(req *http.Request, body []byte)
		kind string
	}{
		"another secret": {func(req *http.Request, body []byte) {
			sigv4.Sign(req, body, sigv4.Credentials{AccessKey: good.AccessKey, Secret: "x"}, "local-1", "iotdata", time.Now())
		}, "InvalidSignatureException"},
		"an unknown key": {func(req *http.Request, body []byte) {
			sigv4.Sign(req, body, sigv4.Credentials{AccessKey: "AKIAUNKNOWN", Secret: "x"}, "local-1", "iotdata", time.Now())
		}, "UnrecognizedClientException"},
		"six minutes old": {func(req *http.Request, body []byte) {
			sigv4.Sign(req, body, good, "local-1", "iotdata", time.Now().Add(-6*time.Minute))
		}, "InvalidSignatureException"},
		"six minutes early": {func(req *http.Request, body []byte) {
			sigv4.Sign(req, body, good, "local-1", "iotdata", time.Now().Add(6*time.Minute))
		}, "InvalidSignatureException"},
		"another body": {func(req *http.Request, body []byte) {
			sigv4.Sign(req, append([]byte("not "), body...), good, "local-1", "iotdata", time.Now())
		}, "InvalidSignatureException"},
		"another service": {func(req *http.Request, body []byte) {
			sigv4.Sign(req, body, good, "local-1", "s3", time.Now())
		}, "InvalidSignatureException"},
		"half a signature": {func(req *http.Request, body []byte) {
			req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=a/b")
		}, "IncompleteSignatureException"},
	} {
		body := []byte("hello")
		req, err := http.NewRequest("POST", r.url+"/topics/a", strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		c.sign(req, body)
		resp, err := r.signed.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if kind := resp.Header.Get("x-amzn-ErrorType"); resp.StatusCode != 403 || kind != c.kind {
			t.Errorf("%s: got %d %s, want 403 %s", what, resp.StatusCode, kind, c.kind)
		}
	}
}

func TestJobs(t *testing.T) {
	r := newRig(t)
	if err := r.reg.Do("test", func(tx *registry.Tx) error {
		_, err := tx.CreateThing(registry.ThingInput{Name: "t"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.jobs.Call("CreateJob", []byte(`{"jobId":"j1","targets":["arn:aws:iot:local-1:000000000000:thing/t"],"document":"{\"do\":1}"}`)); err != nil {
		t.Fatal(err)
	}
	if err := r.jobs.Work(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := r.wants(r.call(nil, "GET", "/things/t/jobs", ""), 200, "")
	if l, _ := got.body["queuedJobs"].([]any); len(l) != 1 {
		t.Errorf("pending: %v", got.body)
	}
	got = r.wants(r.call(nil, "PUT", "/things/t/jobs/%24next", `{}`), 200, "")
	if x, _ := got.body["execution"].(map[string]any); x["jobId"] != "j1" {
		t.Errorf("started: %v", got.body)
	}
	for query, there := range map[string]bool{"": true, "?includeJobDocument=true": true, "?includeJobDocument=false": false} {
		got = r.wants(r.call(nil, "GET", "/things/t/jobs/j1"+query, ""), 200, "")
		x, _ := got.body["execution"].(map[string]any)
		if text, _ := x["jobDocument"].(string); (text != "") != there {
			t.Errorf("described with %q: %v", query, got.body)
		}
	}
	for query, want := range map[string]string{"executionNumber=0": "executionNumber must be at least 1", "executionNumber=-1": "executionNumber must be at least 1",
		"executionNumber=x": "Member must be an integer", "includeJobDocument=1": "Member must be true or false"} {
		got := r.wants(r.call(nil, "GET", "/things/t/jobs/j1?"+query, ""), 400, "InvalidRequestException")
		if text, _ := got.body["message"].(string); !strings.HasSuffix(text, want) {
			t.Errorf("%s: %q, want %q", query, text, want)
		}
	}
	r.wants(r.call(nil, "PUT", "/things/t/jobs/j1", `{}`), 404, "ResourceNotFoundException")
	got = r.wants(r.call(nil, "GET", "/things/t/jobs/$next?includeJobDocument=true", ""), 200, "")
	if x, _ := got.body["execution"].(map[string]any); x["jobDocument"] == nil {
		t.Errorf("described: %v", got.body)
	}
	r.wants(r.call(nil, "POST", "/things/t/jobs/j1", `{"status":"SUCCEEDED"}`), 200, "")
	r.wants(r.call(nil, "POST", "/things/t/jobs/j1", `{"status":"IN_PROGRESS"}`), 409, "InvalidStateTransitionException")
	r.wants(r.call(nil, "GET", "/things/t/jobs/j1", ""), 410, "TerminalStateException")
	r.wants(r.call(nil, "GET", "/things/t/jobs/j2", ""), 404, "ResourceNotFoundException")
	r.wants(r.call(nil, "POST", "/things/t/jobs/j1", `{`), 400, "InvalidRequestException")
	dev := r.device(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:DescribeJobExecution","Resource":"arn:aws:iot:*:*:thing/t"}]}`)
	r.wants(r.call(dev, "GET", "/things/t/jobs/$next", ""), 200, "")
	r.wants(r.call(dev, "GET", "/things/t/jobs", ""), 403, "ForbiddenException")
}
