package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"tidegate/gateway/api/sigv4"
	"tidegate/test/harness"
)

// anything lets a device do all.
const anything = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}`

// site is a gateway as it is installed, without --dev, with what is needed to reach its doors.
type site struct {
	*harness.Gateway
	t   *testing.T
	dir string // of the devices' files
	env map[string]string
}

func newSite(t *testing.T, o harness.Options) *site {
	t.Helper()
	s := &site{Gateway: harness.Start(t, o), t: t, dir: t.TempDir(), env: map[string]string{}}
	for _, pair := range s.Environment() {
		k, v, _ := strings.Cut(pair, "=")
		s.env[k] = v
	}
	file := filepath.Join(s.dir, "anything.json")
	if err := os.WriteFile(file, []byte(anything), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cli("policy", "create", "anything", "-f", file)
	return s
}

func (s *site) cli(args ...string) string {
	s.t.Helper()
	out, errw, code := s.CLI(args...)
	if code != 0 {
		s.t.Fatalf("tidegate %s: exit %d: %s%s", strings.Join(args, " "), code, out, errw)
	}
	return out
}

// enroll makes a device and gives what mosquitto's tools want to know of it.
func (s *site) enroll(thing string) (files []string) {
	s.t.Helper()
	dir := filepath.Join(s.dir, thing)
	s.cli("enroll", thing, "--out", dir, "--policy", "anything")
	return []string{"--cafile", filepath.Join(dir, "ca.pem"), "--cert", filepath.Join(dir, "device.pem"), "--key", filepath.Join(dir, "device.key"), "-i", thing}
}

// tls is the configuration of a client, with the certificate of a device or none.
func (s *site) tls(thing string) *tls.Config {
	s.t.Helper()
	ca, err := os.ReadFile(s.env["AWS_CA_BUNDLE"])
	if err != nil {
		s.t.Fatal(err)
	}
	cfg := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}
	cfg.RootCAs.AppendCertsFromPEM(ca)
	if thing != "" {
		pair, err := tls.LoadX509KeyPair(filepath.Join(s.dir, thing, "device.pem"), filepath.Join(s.dir, thing, "device.key"))
		if err != nil {
			s.t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg
}

// mosquitto runs mosquitto_pub and gives what it says and how it ends.
func mosquitto(addr string, args ...string) (said string, err error) {
	_, port, _ := net.SplitHostPort(addr)
	out, err := exec.Command("mosquitto_pub", append([]string{"-h", "localhost", "-p", port, "-q", "1", "-d"}, args...)...).CombinedOutput()
	return string(out), err
}

func TestDevicesComeInByTheirCertificates(t *testing.T) {
	s := newSite(t, harness.Options{NoDev: true})
	if s.MQTT != "" || s.WS != "" {
		t.Errorf("listeners without authentication: %+v", s.Listeners)
	}
	pump, eve := s.enroll("pump1"), s.enroll("eve")
	sub := harness.StartMosquittoSub(t, strings.Replace(s.MQTTS, "127.0.0.1", "localhost", 1), "site/#", append(s.enroll("watch"), "-V", "5")...)
	for payload, c := range map[string]struct {
		addr string
		args []string
	}{
		"TLS 1.2":             {s.MQTTS, []string{"--tls-version", "tlsv1.2"}},
		"TLS 1.3":             {s.MQTTS, []string{"--tls-version", "tlsv1.3", "-V", "5"}},
		"ALPN x-amzn-mqtt-ca": {s.HTTPS, []string{"--tls-alpn", "x-amzn-mqtt-ca"}},
		"ALPN mqtt":           {s.HTTPS, []string{"--tls-alpn", "mqtt"}},
		"ALPN on its port":    {s.MQTTS, []string{"--tls-alpn", "x-amzn-mqtt-ca"}},
	} {
		if said, err := mosquitto(c.addr, append(append(pump, "-t", "site/a", "-m", payload), c.args...)...); err != nil {
			t.Errorf("%s: %v: %s", payload, err, said)
			continue
		}
		if h := sub.Next(); h.Payload != payload {
			t.Errorf("heard %q, want %q", h.Payload, payload)
		}
	}
	if said, err := mosquitto(s.MQTTS, "--cafile", pump[1], "-t", "site/a", "-m", "x", "-i", "nobody"); err == nil {
		t.Errorf("without a certificate: %s", said)
	}
	foreign := s.foreign()
	if said, err := mosquitto(s.MQTTS, "--cafile", pump[1], "--cert", foreign, "--key", strings.Replace(foreign, ".pem", ".key", 1), "-t", "site/a", "-m", "x", "-i", "pump1"); err == nil {
		t.Errorf("with a certificate that is not registered: %s", said)
	}

	// Revoking ends what is connected, at once, and lets nobody in again.
	gone := make(chan error, 1)
	c := s.paho("ssl://"+s.MQTTS, "eve", s.tls("eve"), func(o *mqtt.ClientOptions) {
		o.SetConnectionLostHandler(func(_ mqtt.Client, err error) { gone <- err })
	})
	s.connect(c)
	id := s.certificateOf("eve")
	s.cli("cert", "set", id, "--revoked", "--yes")
	select {
	case <-gone:
	case <-time.After(harness.Patience):
		t.Error("a client with a revoked certificate is still connected")
	}
	if said, err := mosquitto(s.MQTTS, append(eve, "-t", "site/a", "-m", "x")...); err == nil {
		t.Errorf("with a revoked certificate: %s", said)
	}
}

// foreign makes a certificate nobody knows.
func (s *site) foreign() string {
	s.t.Helper()
	file := filepath.Join(s.dir, "foreign.pem")
	out, err := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=pump1",
		"-keyout", strings.Replace(file, ".pem", ".key", 1), "-out", file).CombinedOutput()
	if err != nil {
		s.t.Fatalf("openssl: %v: %s", err, out)
	}
	return file
}

func (s *site) certificateOf(thing string) string {
	s.t.Helper()
	var list []struct {
		ID     string   `json:"certificateId"`
		Things []string `json:"things"`
	}
	pem, err := os.ReadFile(filepath.Join(s.dir, thing, "device.pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(s.cli("cert", "ls", "--json")), &list); err != nil {
		s.t.Fatal(err)
	}
	for _, c := range list {
		var one struct {
			PEM string `json:"certificatePem"`
		}
		if err := json.Unmarshal([]byte(s.cli("cert", "show", c.ID, "--json")), &one); err != nil {
			s.t.Fatal(err)
		}
		if strings.TrimSpace(one.PEM) == strings.TrimSpace(string(pem)) {
			return c.ID
		}
	}
	s.t.Fatalf("no certificate of %s", thing)
	return ""
}

// paho makes a client of another library.
func (s *site) paho(url, id string, cfg *tls.Config, more func(*mqtt.ClientOptions)) mqtt.Client {
	o := mqtt.NewClientOptions().AddBroker(url).SetClientID(id).SetAutoReconnect(false).SetConnectTimeout(harness.Patience)
	if cfg != nil {
		o.SetTLSConfig(cfg)
	}
	if more != nil {
		more(o)
	}
	c := mqtt.NewClient(o)
	s.t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func (s *site) connect(c mqtt.Client) {
	s.t.Helper()
	s.done(c.Connect())
}

func (s *site) done(tok mqtt.Token) {
	s.t.Helper()
	if !tok.WaitTimeout(harness.Patience) || tok.Error() != nil {
		s.t.Fatalf("%v", tok.Error())
	}
}

// presign signs a URL of this gateway for MQTT over WebSocket with the operator's key.
func (s *site) presign(secret string, at time.Time, expires time.Duration) string {
	u, _ := url.Parse("wss://localhost" + s.HTTPS[strings.LastIndex(s.HTTPS, ":"):] + "/mqtt")
	return sigv4.Presign(u, sigv4.Credentials{AccessKey: s.env["AWS_ACCESS_KEY_ID"], Secret: secret}, s.env["AWS_DEFAULT_REGION"], "iotdevicegateway", at, expires).String()
}

func TestMQTTOverWebSocket(t *testing.T) {
	s := newSite(t, harness.Options{})
	s.enroll("pump1")
	secret := s.env["AWS_SECRET_ACCESS_KEY"]
	for name, c := range map[string]struct {
		url string
		cfg *tls.Config
	}{
		"plain, with --dev":    {"ws://" + s.WS + "/mqtt", nil},
		"a client certificate": {"wss://" + s.HTTPS + "/mqtt", s.tls("pump1")},
		"a signed URL":         {s.presign(secret, time.Now(), time.Minute), s.tls("")},
	} {
		heard := make(chan string, 1)
		cl := s.paho(c.url, "pump1", c.cfg, nil)
		s.connect(cl)
		s.done(cl.Subscribe("ws/#", 1, func(_ mqtt.Client, m mqtt.Message) { heard <- string(m.Payload()) }))
		big := strings.Repeat(name, 5000)
		s.done(cl.Publish("ws/x", 1, false, big))
		select {
		case got := <-heard:
			if got != big {
				t.Errorf("%s: %d bytes came back, want %d", name, len(got), len(big))
			}
		case <-time.After(harness.Patience):
			t.Errorf("%s: nothing came back", name)
		}
		cl.Disconnect(100)
	}
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: s.tls("")}}
	defer web.CloseIdleConnections()
	for name, c := range map[string]struct{ url, kind string }{
		"no credential":     {"https://" + s.HTTPS + "/mqtt", "MissingAuthenticationTokenException"},
		"a wrong secret":    {s.presign("wrong", time.Now(), time.Minute), "InvalidSignatureException"},
		"an expired URL":    {s.presign(secret, time.Now().Add(-2*time.Minute), time.Minute), "InvalidSignatureException"},
		"a URL of tomorrow": {s.presign(secret, time.Now().Add(24*time.Hour), time.Minute), "InvalidSignatureException"},
	} {
		req, err := http.NewRequest("GET", strings.Replace(c.url, "wss:", "https:", 1), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: mqtt"} {
			k, v, _ := strings.Cut(h, ": ")
			req.Header.Set(k, v)
		}
		resp, err := web.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if kind := resp.Header.Get("x-amzn-ErrorType"); resp.StatusCode != http.StatusForbidden || kind != c.kind {
			t.Errorf("%s: %s %s, want 403 %s", name, resp.Status, kind, c.kind)
		}
	}
}

func TestTheAWSCommandUsesTheDataPlane(t *testing.T) {
	s := newSite(t, harness.Options{})
	sub := harness.StartMosquittoSub(t, s.MQTT, "aws/#")
	payload := filepath.Join(s.dir, "payload")
	if err := os.WriteFile(payload, []byte(`{"state":{"desired":{"on":true}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(s.dir, "out")
	aws := func(env []string, args ...string) (string, string, int) {
		return s.AWS(env, append([]string{"iot-data"}, args...)...)
	}
	// The command takes a second or two to start, so what does not depend on each other runs side by side.
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, errw, code := aws(nil, "publish", "--topic", "aws/a b/ä", "--qos", "1", "--retain", "--payload", "fileb://"+payload); code != 0 {
			t.Errorf("publish: exit %d: %s", code, errw)
		}
		if h := sub.Next(); h.Topic != "aws/a b/ä" || h.Retain != 0 || !strings.Contains(h.Payload, "desired") {
			t.Errorf("heard %+v", h)
		}
		o, errw, code := aws(nil, "list-retained-messages")
		var list struct{ RetainedTopics []struct{ Topic string } }
		if err := json.Unmarshal([]byte(o), &list); code != 0 || err != nil || len(list.RetainedTopics) != 1 || list.RetainedTopics[0].Topic != "aws/a b/ä" {
			t.Errorf("list-retained-messages: exit %d: %s%s", code, o, errw)
		}
		if o, errw, code := aws(nil, "get-retained-message", "--topic", "aws/a b/ä"); code != 0 || !strings.Contains(o, `"qos": 1`) {
			t.Errorf("get-retained-message: exit %d: %s%s", code, o, errw)
		}
	})
	wg.Go(func() {
		if _, errw, code := aws(nil, "update-thing-shadow", "--thing-name", "a:b", "--shadow-name", "cfg", "--payload", "fileb://"+payload, out); code != 0 {
			t.Errorf("update-thing-shadow: exit %d: %s", code, errw)
		}
		if _, errw, code := aws(nil, "get-thing-shadow", "--thing-name", "a:b", "--shadow-name", "cfg", out); code != 0 {
			t.Errorf("get-thing-shadow: exit %d: %s", code, errw)
		}
		var doc struct {
			State   struct{ Delta map[string]bool }
			Version int
		}
		if b, err := os.ReadFile(out); err != nil || json.Unmarshal(b, &doc) != nil || !doc.State.Delta["on"] || doc.Version != 1 {
			t.Errorf("the shadow: %s, %v", b, err)
		}
		if o, errw, code := aws(nil, "list-named-shadows-for-thing", "--thing-name", "a:b"); code != 0 || !strings.Contains(o, `"cfg"`) {
			t.Errorf("list-named-shadows-for-thing: exit %d: %s%s", code, o, errw)
		}
	})
	wg.Go(func() {
		for want, c := range map[string]struct{ env, args []string }{
			"(ResourceNotFoundException)":   {nil, []string{"get-thing-shadow", "--thing-name", "none", filepath.Join(s.dir, "none")}},
			"(InvalidSignatureException)":   {[]string{"AWS_SECRET_ACCESS_KEY=wrong"}, []string{"publish", "--topic", "aws/never"}},
			"(UnrecognizedClientException)": {[]string{"AWS_ACCESS_KEY_ID=AKIAUNKNOWN"}, []string{"publish", "--topic", "aws/never"}},
			"(InvalidRequestException)":     {nil, []string{"publish", "--topic", "aws/+"}},
		} {
			if _, errw, code := aws(c.env, c.args...); code == 0 || !strings.Contains(errw, want) {
				t.Errorf("%q: exit %d: %s; want %s", c.args, code, errw, want)
			}
		}
	})
	wg.Wait()
	if n, _ := s.Metric("tidegate_http_turned_away_total"); n != 0 {
		t.Errorf("%v connections were turned away", n)
	}
}

// A client that says half of what it has to say must not keep others out, on any door.
func TestHalfSpokenClientsKeepNobodyOut(t *testing.T) {
	s := newSite(t, harness.Options{})
	pump := s.enroll("pump1")
	for _, c := range []struct{ addr, half string }{
		{s.MQTTS, ""}, {s.MQTTS, "\x16\x03\x01\x02\x00\x01"}, {s.HTTPS, "\x16\x03\x01\x02\x00\x01"}, {s.HTTPS, "GET /"}, {s.WS, "GET /mqtt HTTP/1.1\r\nHost: x\r\nX: "}, {s.MQTT, "\x10\x7f\x00\x04MQ"},
	} {
		for range 300 {
			nc, err := net.Dial("tcp", c.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			io.WriteString(nc, c.half)
		}
	}
	begin := time.Now()
	for _, c := range []struct {
		addr string
		args []string
	}{{s.MQTTS, pump}, {s.HTTPS, append([]string{"--tls-alpn", "mqtt"}, pump...)}, {s.MQTT, nil}} {
		if said, err := mosquitto(c.addr, append(c.args, "-t", "x", "-m", "y")...); err != nil {
			t.Errorf("%s: %v: %s", c.addr, err, said)
		}
	}
	cl := s.paho("ws://"+s.WS+"/mqtt", "ws", nil, nil)
	s.connect(cl)
	if d := time.Since(begin); d > 9*time.Second { // by then the half-spoken would be gone by themselves
		t.Errorf("it took %v", d)
	}
}
