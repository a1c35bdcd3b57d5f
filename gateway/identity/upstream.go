package identity

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"tidegate/gateway/fault"
	"tidegate/hw/tpm"
)

// The files about the key the gateway shows to upstreams: a certificate of the local
// authority for it, and a signing request for whoever runs the upstream.
const (
	upstreamName = "upstream"
	upstreamCert = upstreamName + ".pem"
	upstreamCSR  = upstreamName + ".csr"
)

// openUpstream makes the upstream key and its files where they are missing. A key that
// went with a lost TPM is put aside once there is another authority: upstreams have to be
// told of the new one, as they would of any.
func (id *Identity) openUpstream() error {
	if id.key == nil {
		return nil // Trouble says it
	}
	key, err := id.Key(upstreamName)
	if errors.Is(err, tpm.ErrBlob) || errors.Is(err, errForeignKey) {
		file := id.path(upstreamName + ".key")
		if err := os.Rename(file, file+".old"); err != nil {
			return err
		}
		id.log.Warn("the key shown to upstreams is lost, another was made; have the new certificate accepted there", "file", id.path(upstreamCert))
		key, err = id.Key(upstreamName)
	}
	if err != nil {
		return err
	}
	if _, err := id.readUpstream(id.path(upstreamCert), key); err == nil {
		return nil
	}
	host, _ := os.Hostname()
	subject := pkix.Name{CommonName: "Tidegate " + host, Organization: []string{"Tidegate"}}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	if err != nil {
		return fmt.Errorf("make a signing request for the upstream key: %w", err)
	}
	cert, err := id.issue(key.Public(), subject, 0)
	if err != nil {
		return fmt.Errorf("make a certificate for the upstream key: %w", err)
	}
	return errors.Join(write(id.path(upstreamCSR), encode("CERTIFICATE REQUEST", csr), 0o644), write(id.path(upstreamCert), append([]byte(cert), id.caPEM...), 0o644))
}

// Upstream gives the certificate that the gateway shows to an upstream, with a key that
// stays in the vault: the one in file, which must be for that key, or with "" the one that
// the local authority has made. Errors are fault.Unavailable or fault.Invalid.
func (id *Identity) Upstream(file string) (*tls.Certificate, error) {
	if file == "" {
		file = id.path(upstreamCert)
	}
	key, err := id.Key(upstreamName)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the gateway's key for upstreams cannot be used; tidegate doctor says what to do")
	}
	return id.readUpstream(file, key)
}

func (id *Identity) readUpstream(file string, key crypto.Signer) (*tls.Certificate, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.Invalid, err, "there is no certificate %s", file)
	} else if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the certificate %s cannot be read", file)
	}
	// The keys that the vaults make are of P-256, and a TPM's signs nothing but SHA-256.
	c := &tls.Certificate{PrivateKey: key, SupportedSignatureAlgorithms: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			c.Certificate = append(c.Certificate, block.Bytes)
		}
	}
	if len(c.Certificate) == 0 {
		return nil, fault.New(fault.Invalid, "the file %s holds no certificate in PEM form", file)
	}
	if c.Leaf, err = x509.ParseCertificate(c.Certificate[0]); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the certificate %s cannot be read", file)
	}
	if pub, ok := c.Leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(key.Public()) {
		return nil, fault.New(fault.Invalid, "the certificate %s is not for the gateway's key; have %s signed", file, id.path(upstreamCSR))
	}
	return c, nil
}
