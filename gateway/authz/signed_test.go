package authz_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"tidegate/gateway/api/sigv4"
	"tidegate/gateway/authz"
	"tidegate/gateway/fault"
	"tidegate/gateway/policy"
)

// keys has one operator with one key.
type keys struct{ docs []*policy.Document }

func (k keys) Secret(accessKey, _ string) (string, error) {
	if accessKey != "AKIA" {
		return "", sigv4.ErrKey
	}
	return "secret", nil
}
func (keys) Name(string) string                            { return "ada" }
func (k keys) Documents(string) ([]*policy.Document, bool) { return k.docs, k.docs != nil }

func signedRequest(service, secret string, at time.Time) *http.Request {
	r := httptest.NewRequest("GET", "https://gw.local/mqtt", nil)
	sigv4.Sign(r, nil, sigv4.Credentials{AccessKey: "AKIA", Secret: secret}, "local-1", service, at)
	return r
}

func TestSignedRequests(t *testing.T) {
	r := newRig(t)
	doc, err := policy.Parse([]byte(everything))
	if err != nil {
		t.Fatal(err)
	}
	ks := keys{[]*policy.Document{doc}}
	p, err := r.Signed(ks, signedRequest("iotdata", "secret", start), nil, "iotdevicegateway", "iotdata")
	if err != nil || p.Name() != "operator/ada" || !p.May(policy.Publish, "a") {
		t.Errorf("got %v, %v", p, err)
	}
	for what, c := range map[string]struct {
		req  *http.Request
		want error
	}{
		"another service": {signedRequest("iot", "secret", start), sigv4.ErrSignature},
		"another secret":  {signedRequest("iotdata", "x", start), sigv4.ErrSignature},
		"an old one":      {signedRequest("iotdata", "secret", start.Add(-time.Hour)), sigv4.ErrTime},
		"none":            {httptest.NewRequest("GET", "/", nil), sigv4.ErrMissing},
	} {
		if _, err := r.Signed(ks, c.req, nil, "iotdata"); !fault.Is(err, fault.Unauthorized) || !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestUpgradesThatCannotEndWellAreRefused(t *testing.T) {
	r := newRig(t, "ws")
	x, _ := r.issue(&x509.Certificate{}, nil, nil)
	bare := httptest.NewRequest("GET", "https://gw.local/mqtt", nil)
	bare.TLS = &tls.ConnectionState{}
	cert := httptest.NewRequest("GET", "https://gw.local/mqtt", nil)
	cert.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{x}}
	u, _ := url.Parse("wss://gw.local/mqtt")
	u = sigv4.Presign(u, sigv4.Credentials{AccessKey: "AKIA", Secret: "secret", Token: "t"}, "local-1", "iotdevicegateway", start, time.Minute)
	signed := httptest.NewRequest("GET", u.RequestURI(), nil)
	signed.Host = "gw.local"
	for what, c := range map[string]struct {
		req      *http.Request
		listener string
		ok, who  bool
	}{
		"nobody where anybody may": {bare, "ws", true, false},
		"nobody":                   {bare, "https", false, false},
		"a certificate":            {cert, "https", true, false}, // judged at CONNECT
		"a signed URL":             {signed, "https", true, true},
		"a wrong signature":        {signedRequest("iotdata", "x", start), "ws", false, false},
	} {
		p, err := r.Upgrade(keys{}, c.req, c.listener)
		if (err == nil) != c.ok || (p != nil) != c.who {
			t.Errorf("%s: %v, %v", what, p, err)
		}
	}
	r.Custom(&functions{answer: ada})
	if _, err := r.Upgrade(keys{}, bare, "https"); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("nobody, where no authorizer could vouch: %v", err)
	}
	r.signer("gate")
	if _, err := r.Upgrade(keys{}, bare, "https"); err != nil {
		t.Errorf("an authorizer may yet know the client by its CONNECT: %v", err)
	}
}

func TestRemoteAddresses(t *testing.T) {
	for in, want := range map[string]string{"10.0.0.7:1": "10.0.0.7", "[::ffff:10.0.0.7]:1": "10.0.0.7", "[fe80::1]:2": "fe80::1", "nonsense": ""} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = in
		var w netip.Addr
		if want != "" {
			w = netip.MustParseAddr(want)
		}
		if got := authz.RemoteOf(r); got != w {
			t.Errorf("%s is %v, want %s", in, got, want)
		}
	}
}
