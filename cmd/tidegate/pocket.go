package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// pocket is what a device carries: its key, its certificate, and the authority it trusts.
// The key is made here and goes nowhere else.
type pocket struct {
	dir string
	key *ecdsa.PrivateKey
}

// newPocket makes a key, and the folder if need be. A key that is there already is not
// written over.
func newPocket(dir string) (*pocket, error) {
	p := &pocket{dir: dir}
	if _, err := os.Lstat(p.path("device.key")); err == nil {
		return nil, fmt.Errorf("%s is there already and is not written over; choose another folder with --out", p.path("device.key"))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return p, err
}

func (p *pocket) path(name string) string { return filepath.Join(p.dir, name) }

// request makes a signing request for the key, as PEM.
func (p *pocket) request(name string) (string, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, p.key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), err
}

// write writes the files. ca is where the certificate of the authority is.
func (p *pocket) write(certificate, ca string) error {
	authority, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	// SEC 1, which every TLS library of the small kind reads, too.
	der, err := x509.MarshalECPrivateKey(p.key)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(p.path("device.key"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = pem.Encode(f, &pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	return errors.Join(err, f.Close(),
		os.WriteFile(p.path("device.pem"), []byte(certificate), 0o644),
		os.WriteFile(p.path("ca.pem"), authority, 0o644))
}
