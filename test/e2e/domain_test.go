package e2e_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"tidegate/gateway/api/sigv4"
	"tidegate/test/harness"
)

// A domain configuration says what clients that ask for its host name speak: nothing else is served there, by whatever port, and
// whoever does is in the audit log. The control plane stays where it is.
func TestADomainConfigurationSaysWhatClientsSpeak(t *testing.T) {
	s := newSite(t, harness.Options{NoDev: true, Config: "identity: {names: [mqtt.local, wss.local, https.local, signed.local, strict.local]}\n"})
	c, ctx := sdk(t, s.Gateway), t.Context()
	s.enroll("pump")
	for name, in := range map[string]*iot.CreateDomainConfigurationInput{
		"mqtt":   {ApplicationProtocol: types.ApplicationProtocolSecureMqtt},
		"wss":    {ApplicationProtocol: types.ApplicationProtocolMqttWss},
		"https":  {ApplicationProtocol: types.ApplicationProtocolHttps},
		"signed": {AuthenticationType: types.AuthenticationTypeAwsSigv4},
		"strict": {AuthenticationType: types.AuthenticationTypeAwsX509, TlsConfig: &types.TlsConfig{SecurityPolicy: aws.String("IotSecurityPolicy_TLS13_1_3_2022_10")}},
	} {
		in.DomainConfigurationName, in.DomainName = &name, aws.String(name+".local")
		if _, err := c.CreateDomainConfiguration(ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	for what, in := range map[string]*iot.CreateDomainConfigurationInput{
		"signatures in MQTT": {ApplicationProtocol: types.ApplicationProtocolSecureMqtt, AuthenticationType: types.AuthenticationTypeAwsSigv4},
		"a protocol":         {ApplicationProtocol: "COAP"},
		"an old TLS":         {TlsConfig: &types.TlsConfig{SecurityPolicy: aws.String("IotSecurityPolicy_TLS12_1_0_2016_01")}},
	} {
		in.DomainConfigurationName = aws.String("none")
		_, err := c.CreateDomainConfiguration(ctx, in)
		refused[*types.InvalidRequestException](t, what, err, 400)
	}

	config := func(host, device string) *tls.Config {
		cfg := s.tls(device)
		cfg.ServerName = host + ".local"
		if host == "localhost" {
			cfg.ServerName = host
		}
		return cfg
	}
	connects := func(url, host, device string, change func(*tls.Config)) bool {
		cfg := config(host, device)
		if change != nil {
			change(cfg)
		}
		cl := s.paho(url, "pump", cfg, nil)
		tok := cl.Connect()
		if !tok.WaitTimeout(harness.Patience) {
			t.Fatal("no answer")
		}
		cl.Disconnect(0)
		return tok.Error() == nil
	}
	publishes := func(host, device string, sign bool) bool {
		req, err := http.NewRequest("POST", "https://"+s.HTTPS+"/topics/x", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		if sign {
			sigv4.Sign(req, []byte("x"), sigv4.Credentials{AccessKey: s.env["AWS_ACCESS_KEY_ID"], Secret: s.env["AWS_SECRET_ACCESS_KEY"]}, "local-1", "iotdata", time.Now())
		}
		resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: config(host, device), DisableKeepAlives: true}}).Do(req)
		if err != nil {
			return false // what it has met is MQTT
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
	_, mqtts, _ := net.SplitHostPort(s.MQTTS)
	_, https, _ := net.SplitHostPort(s.HTTPS)
	ways := []struct {
		what string
		try  func(host string) bool
	}{
		{"MQTT", func(host string) bool { return connects("ssl://127.0.0.1:"+mqtts, host, "pump", nil) }},
		{"MQTT on the HTTPS port", func(host string) bool { return connects("ssl://127.0.0.1:"+https, host, "pump", nil) }},
		{"MQTT by its protocol of TLS", func(host string) bool {
			return connects("ssl://127.0.0.1:"+https, host, "pump", func(c *tls.Config) { c.NextProtos = []string{"x-amzn-mqtt-ca"} })
		}},
		{"MQTT by TLS 1.2", func(host string) bool {
			return connects("ssl://127.0.0.1:"+mqtts, host, "pump", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })
		}},
		{"a WebSocket", func(host string) bool { return connects("wss://127.0.0.1:"+https+"/mqtt", host, "pump", nil) }},
		{"a signed WebSocket", func(host string) bool {
			return connects(s.socket(sigv4.Credentials{AccessKey: s.env["AWS_ACCESS_KEY_ID"], Secret: s.env["AWS_SECRET_ACCESS_KEY"]}), host, "", nil)
		}},
		{"HTTPS with a certificate", func(host string) bool { return publishes(host, "pump", false) }},
		{"HTTPS with a signature", func(host string) bool { return publishes(host, "", true) }},
	}
	for host, want := range map[string]string{
		"localhost": "1-111111", // without ALPN the HTTPS port is for HTTP, which waits for the rest of a line
		"mqtt":      "11110000",
		"wss":       "0-001100",
		"https":     "0-000011",
		"signed":    "0-000101",
		"strict":    "1-101010",
	} {
		for i, w := range ways {
			if want[i] == '-' {
				continue
			}
			if got := w.try(host); got != (want[i] == '1') {
				t.Errorf("%s at %s: let in: %v", w.what, host, got)
			}
		}
	}
	audited(t, s.Gateway, `"what":"connect"`, "takes HTTPS, and not SECURE_MQTT")
	audited(t, s.Gateway, `"what":"upgrade"`, "takes HTTPS, and not MQTT_WSS")
	audited(t, s.Gateway, `"what":"request"`, `"name":"/topics/x"`, "takes MQTT_WSS, and not HTTPS")
	audited(t, s.Gateway, `"what":"Publish"`, "takes other credentials")
	audited(t, s.Gateway, `"what":"connect"`, "takes TLS 1.3 alone")

	req, err := http.NewRequest("GET", "https://"+s.HTTPS+"/things", nil)
	if err != nil {
		t.Fatal(err)
	}
	sigv4.Sign(req, nil, sigv4.Credentials{AccessKey: s.env["AWS_ACCESS_KEY_ID"], Secret: s.env["AWS_SECRET_ACCESS_KEY"]}, "local-1", "iot", time.Now())
	if status, kind, _ := s.send(&http.Client{Transport: &http.Transport{TLSClientConfig: config("wss", ""), DisableKeepAlives: true}}, req); status != http.StatusOK {
		t.Errorf("the control plane there: %d %s", status, kind)
	}
}
