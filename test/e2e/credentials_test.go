package e2e_test

import (
	"encoding/json"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"tidegate/gateway/api/sigv4"
	"tidegate/test/harness"
)

// lent is what a device is given for its certificate.
type lent struct {
	Credentials struct {
		AccessKeyID     string `json:"accessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      time.Time
	}
	Message string
}

func (l *lent) keys() sigv4.Credentials {
	return sigv4.Credentials{AccessKey: l.Credentials.AccessKeyID, Secret: l.Credentials.SecretAccessKey, Token: l.Credentials.SessionToken}
}

// env is what the aws command is told of them.
func (l *lent) env() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + l.Credentials.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + l.Credentials.SecretAccessKey, "AWS_SESSION_TOKEN=" + l.Credentials.SessionToken}
}

// borrow asks with curl, as the developer guide shows it; device "" shows no certificate.
func (s *site) borrow(device, alias string, more ...string) (status string, l *lent) {
	s.t.Helper()
	args := []string{"-s", "-w", "\n%{http_code}", "--cacert", s.env["AWS_CA_BUNDLE"]}
	if device != "" {
		dir := filepath.Join(s.dir, device)
		args = append(args, "--cert", dir+"/device.pem", "--key", dir+"/device.key")
	}
	out, err := exec.Command("curl", append(append(args, more...), s.port()+"/role-aliases/"+alias+"/credentials")...).CombinedOutput()
	i := strings.LastIndexByte(string(out), '\n')
	l = new(lent)
	if err != nil || i < 0 || json.Unmarshal(out[:i], l) != nil {
		s.t.Fatalf("curl: %v: %s", err, out)
	}
	return string(out[i+1:]), l
}

// socket is the URL of MQTT over WebSocket, signed with credentials.
func (s *site) socket(c sigv4.Credentials) string {
	u, _ := url.Parse("wss://localhost" + s.HTTPS[strings.LastIndex(s.HTTPS, ":"):] + "/mqtt")
	return sigv4.Presign(u, c, "local-1", "iotdevicegateway", time.Now(), time.Minute).String()
}

// A device exchanges its certificate for credentials of a role, and signs with them: the aws command, a WebSocket. They do what the
// role's policy says for the device's own thing, outlive a restart, manage nothing, and end when the certificate is revoked.
func TestTheCredentialsProvider(t *testing.T) {
	s := newSite(t, harness.Options{NoDev: true})
	aws := &cloud{t: t, g: s.Gateway}
	policy := func(name, document string) {
		s.cli("policy", "create", name, "-f", write(t, filepath.Join(s.dir, name+".json"), document))
	}
	const base = "arn:aws:iot:local-1:000000000000:"
	policy("borrower", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:AssumeRoleWithCertificate","Resource":"`+base+`rolealias/web*"}}`)
	policy("web", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"},
	 {"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":"`+base+`topic/${credentials-iot:ThingName}/*"},
	 {"Effect":"Allow","Action":"iot:Subscribe","Resource":"`+base+`topicfilter/${credentials-iot:ThingName}/*"},
	 {"Effect":"Allow","Action":"iot:*ThingShadow","Resource":"`+base+`thing/${credentials-iot:ThingName}"}]}`)
	for _, name := range []string{"fridge", "oven"} {
		s.cli("enroll", name, "--out", filepath.Join(s.dir, name), "--policy", "borrower")
	}
	for alias, role := range map[string]string{"web": "web", "web-all": "all"} {
		aws.ok(nil, "create-role-alias --role-alias "+alias+" --credential-duration-seconds 900 --role-arn arn:aws:iam::000000000000:role/"+role)
	}
	as := []string{"-H", "x-amzn-iot-thingname: fridge"}

	status, l := s.borrow("fridge", "web", as...)
	c := l.Credentials
	if life := time.Until(c.Expiration); status != "200" || !strings.HasPrefix(c.AccessKeyID, "ASIA") || life > 15*time.Minute || life < 10*time.Minute {
		t.Fatalf("%s %+v", status, l)
	}
	audited(t, s.Gateway, `"by":"`+s.certificateOf("fridge")+`"`, `"kind":"credentials","name":"`+c.AccessKeyID+`","action":"create"`, `"roleAlias":"web"`, `"thingName":"fridge"`)
	if _, again := s.borrow("fridge", "web", as...); again.Credentials != c {
		t.Error("who asks again at once is given others")
	}
	for what, x := range map[string]struct {
		status, device, alias string
		more                  []string
	}{
		"without a certificate":   {"403", "", "web", nil},
		"as another thing":        {"403", "fridge", "web", []string{"-H", "x-amzn-iot-thingname: oven"}},
		"an alias it may not use": {"403", "fridge", "other", nil},
		"an alias that is not":    {"404", "fridge", "web-not", nil},
		"a role without a policy": {"403", "fridge", "web-all", nil},
	} {
		status, l := s.borrow(x.device, x.alias, x.more...)
		if status != x.status || l.Credentials.AccessKeyID != "" || status == "403" && l.Message != "Access Denied" {
			t.Errorf("%s: %s %+v", what, status, l)
		}
		audited(t, s.Gateway, `"what":"AssumeRoleWithCertificate"`, `"name":"/role-aliases/`+x.alias+`/credentials"`)
	}

	command := func(l *lent, args ...string) string {
		_, errw, code := s.AWS(l.env(), args...)
		if code == 0 {
			return ""
		}
		_, name, _ := strings.Cut(errw, "An error occurred (")
		name, _, _ = strings.Cut(name, ")")
		return name
	}
	s.Stop()
	s.Restart()
	state := write(t, filepath.Join(s.dir, "state"), `{"state":{"reported":{"cold":true}}}`)
	out := filepath.Join(s.dir, "out")
	wrong := *l
	wrong.Credentials.SecretAccessKey = c.SecretAccessKey[1:] + "x"
	alone := *l
	alone.Credentials.SessionToken = ""
	for _, x := range []struct {
		what, want string
		as         *lent
		args       []string
	}{
		{"publish", "", l, []string{"iot-data", "publish", "--topic", "fridge/x", "--payload", "aGVsbG8="}},
		{"publish for another", "ForbiddenException", l, []string{"iot-data", "publish", "--topic", "oven/x", "--payload", "aGVsbG8="}},
		{"its shadow", "", l, []string{"iot-data", "update-thing-shadow", "--thing-name", "fridge", "--payload", "fileb://" + state, out}},
		{"another's shadow", "ForbiddenException", l, []string{"iot-data", "get-thing-shadow", "--thing-name", "oven", out}},
		{"the control plane", "AccessDeniedException", l, []string{"iot", "list-things"}},
		{"another secret", "InvalidSignatureException", &wrong, []string{"iot-data", "get-thing-shadow", "--thing-name", "fridge", out}},
		{"no token", "UnrecognizedClientException", &alone, []string{"iot-data", "get-thing-shadow", "--thing-name", "fridge", out}},
	} {
		if got := command(x.as, x.args...); got != x.want {
			t.Errorf("%s: %q, want %q", x.what, got, x.want)
		}
	}
	audited(t, s.Gateway, `"what":"ListThings"`, `"by":"assumed-role/web/`+s.certificateOf("fridge")+`"`)

	heard, gone := make(chan string, 10), make(chan error, 1)
	cl := s.paho(s.socket(l.keys()), "page", s.tls(""), func(o *mqtt.ClientOptions) {
		o.SetConnectionLostHandler(func(_ mqtt.Client, err error) { gone <- err })
	})
	s.connect(cl)
	s.done(cl.Subscribe("fridge/+", 1, func(_ mqtt.Client, m mqtt.Message) { heard <- string(m.Payload()) }))
	s.cli("pub", "fridge/door", "-m", "open")
	select {
	case got := <-heard:
		if got != "open" {
			t.Errorf("heard %q", got)
		}
	case <-time.After(harness.Patience):
		t.Error("heard nothing")
	}
	s.cli("cert", "set", s.certificateOf("fridge"), "--revoked", "--yes")
	select {
	case <-gone:
	case <-time.After(harness.Patience):
		t.Error("the connection outlives the certificate")
	}
	if got := command(l, "iot-data", "get-thing-shadow", "--thing-name", "fridge", out); got != "ExpiredTokenException" {
		t.Errorf("after the certificate was revoked: %q", got)
	}
	if status, _ := s.borrow("fridge", "web", as...); status != "403" {
		t.Errorf("a revoked certificate: %s", status)
	}
}

// Who is away from a session of an operator, or of a device with credentials, finds there what came while it was away, also when the
// gateway was restarted meanwhile.
func TestSignedSessionsKeepWhatComesAfterARestart(t *testing.T) {
	s := newSite(t, harness.Options{NoDev: true})
	s.enroll("fridge")
	s.cli("policy", "create", "web", "-f", write(t, filepath.Join(s.dir, "web.json"), anything))
	(&cloud{t: t, g: s.Gateway}).ok(nil, "create-role-alias --role-alias web --role-arn arn:aws:iam::000000000000:role/web")
	_, l := s.borrow("fridge", "web")
	operator := sigv4.Credentials{AccessKey: s.env["AWS_ACCESS_KEY_ID"], Secret: s.env["AWS_SECRET_ACCESS_KEY"]}
	lasting := func(o *mqtt.ClientOptions) { o.SetCleanSession(false) }
	for id, c := range map[string]sigv4.Credentials{"desk": operator, "page": l.keys()} {
		cl := s.paho(s.socket(c), id, s.tls(""), lasting)
		s.connect(cl)
		s.done(cl.Subscribe("news/#", 1, nil))
		cl.Disconnect(100)
	}
	s.Stop()
	s.Restart()
	s.cli("pub", "news/a", "-q", "1", "-m", "kept")
	for id, c := range map[string]sigv4.Credentials{"desk": operator, "page": l.keys()} {
		heard := make(chan string, 10)
		cl := s.paho(s.socket(c), id, s.tls(""), func(o *mqtt.ClientOptions) {
			lasting(o)
			o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { heard <- string(m.Payload()) })
		})
		s.connect(cl)
		select {
		case got := <-heard:
			if got != "kept" {
				t.Errorf("%s: heard %q", id, got)
			}
		case <-time.After(harness.Patience):
			t.Errorf("%s: nothing was kept", id)
		}
		cl.Disconnect(0)
	}
}
