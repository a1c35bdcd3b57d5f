package authz_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"testing"

	"tidegate/gateway/fault"
	"tidegate/gateway/registry"
)

// Where a host wants a certificate and an authorizer, neither does alone, over HTTPS as little as over MQTT.
func TestNeitherACertificateNorAnAuthorizerAlone(t *testing.T) {
	r := newRig(t)
	r.Custom(&functions{answer: ada})
	r.signer("gate")
	x, _ := r.issue(&x509.Certificate{}, nil, nil)
	r.register(x, registry.Active, everything)
	stranger, _ := r.issue(&x509.Certificate{}, nil, nil)
	r.must(func(tx *registry.Tx) error {
		_, err := tx.CreateDomain(registry.Domain{Name: "both", Host: "both.local", Auth: registry.AuthBothX509, Authorizer: "gate"})
		return err
	})
	shows := func(x *x509.Certificate) *tls.ConnectionState {
		s := &tls.ConnectionState{ServerName: "both.local", Version: tls.VersionTLS13}
		if x != nil {
			s.PeerCertificates = []*x509.Certificate{x}
		}
		return s
	}
	if p, err := r.Peer(shows(x), near); p != nil || err != nil {
		t.Errorf("a certificate alone: %s, %v", p.Name(), err)
	}
	for what, c := range map[string]*x509.Certificate{"no certificate": nil, "one that is not registered": stranger} {
		if p, err := r.Peer(shows(c), near); p != nil || !fault.Is(err, fault.Unauthorized) {
			t.Errorf("%s: %s, %v", what, p.Name(), err)
		}
	}
	if _, err := r.Assume(shows(x), near, "any", ""); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("credentials for a certificate alone: %v", err)
	}
	req := signedRequest("iotdata", "secret", start)
	req.TLS = shows(x)
	if _, err := r.Caller(keys{}, req, nil, "iotdata"); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("a signature: %v", err)
	}
	req = httptest.NewRequest("GET", "https://both.local/topics/x", nil)
	req.TLS = shows(x)
	if p, err := r.Header(req); err == nil {
		t.Errorf("without a token: %s", p.Name())
	}
}
