package mqttclient

import (
	"crypto/tls"
	"crypto/x509"
	"os"

	"tidegate/gateway/fault"
)

// Files names the PEM files of a TLS connection. All may be empty: then the
// system's authorities are trusted and no certificate is shown.
type Files struct {
	CA   string `yaml:"ca"`   // authorities to trust instead of the system's
	Cert string `yaml:"cert"` // our certificate and what lies between it and the authority
	Key  string `yaml:"key"`  // its key; OwnKey for the gateway's own, which stays where it is kept
	// ServerName is the name the peer's certificate must carry, when it is not the
	// URL's host.
	ServerName string `yaml:"server_name"`
}

// OwnKey stands in [Files] for the gateway's own key. Whoever loads the files then adds the
// certificate, Cert or, when that is empty, the gateway's own.
const OwnKey = "gateway"

// Load reads the files. Errors name the file and are safe to show.
func (f Files) Load() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.ServerName}
	if f.CA != "" {
		b, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fault.Wrap(fault.Unavailable, err, "the file %s cannot be read", f.CA)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(b) {
			return nil, fault.New(fault.Invalid, "the file %s holds no certificate in PEM form", f.CA)
		}
	}
	if f.Key == OwnKey {
		return t, nil
	}
	if (f.Cert == "") != (f.Key == "") {
		return nil, fault.New(fault.Invalid, "cert and key go together, only %s%s is given", f.Cert, f.Key)
	}
	if f.Cert != "" {
		c, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "certificate %s and key %s cannot be used", f.Cert, f.Key)
		}
		t.Certificates = []tls.Certificate{c}
	}
	return t, nil
}
