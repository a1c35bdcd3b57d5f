package identity

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"time"

	"tidegate/gateway/fault"
)

// maxCSR bounds a certificate signing request, in bytes; one with an RSA key of 4096
// bits has about 1,700.
const maxCSR = 8 << 10

// Pair is a fresh key with its certificate, as PEM.
type Pair struct {
	Certificate string
	PublicKey   string
	PrivateKey  string // PKCS #1, as AWS hands keys out
}

// IssueKeys makes an RSA key of 2048 bits and a certificate for it, valid until 2049 or,
// with a lifetime, for that long from now.
func (id *Identity) IssueKeys(lifetime time.Duration) (Pair, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return Pair{}, fmt.Errorf("make a key: %w", err)
	}
	pub, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return Pair{}, fmt.Errorf("make a key: %w", err)
	}
	cert, err := id.issue(&key.PublicKey, pkix.Name{CommonName: "Tidegate device certificate"}, lifetime)
	if err != nil {
		return Pair{}, err
	}
	return Pair{cert, string(encode("PUBLIC KEY", pub)), string(encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)))}, nil
}

// IssueCSR makes a certificate for the key and the subject of a signing request in PEM
// form, valid until 2049. The same request again gives another certificate. A request
// that is not sound is fault.Invalid.
func (id *Identity) IssueCSR(text string) (string, error) {
	if len(text) > maxCSR {
		return "", fault.New(fault.Invalid, "the certificate signing request is longer than %d bytes", maxCSR)
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
		return "", fault.New(fault.Invalid, "the certificate signing request is not in PEM form")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "the certificate signing request cannot be read")
	}
	switch k := csr.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 4096 {
			return "", fault.New(fault.Invalid, "an RSA key has 2048 to 4096 bits, this one has %d", n)
		}
	case *ecdsa.PublicKey:
		if n := k.Curve.Params().BitSize; n < 256 {
			return "", fault.New(fault.Invalid, "an EC key is of the curve P-256, P-384 or P-521")
		}
	default:
		return "", fault.New(fault.Invalid, "the kind of the key is not known; use RSA or ECDSA")
	}
	if err := csr.CheckSignature(); err != nil {
		return "", fault.Wrap(fault.Invalid, err, "the certificate signing request is not signed by its key")
	}
	subject := csr.Subject
	subject.ExtraNames = subject.Names // in their order, with what Go does not name
	return id.issue(csr.PublicKey, subject, 0)
}

// issue signs a device's certificate.
func (id *Identity) issue(pub any, subject pkix.Name, lifetime time.Duration) (string, error) {
	if id.key == nil {
		return "", id.unavailable()
	}
	tpl := &x509.Certificate{SerialNumber: serial(), Subject: subject, NotBefore: begin, NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if lifetime > 0 && id.clk.Trusted() {
		tpl.NotAfter = id.clk.Now().Add(lifetime)
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, id.ca, pub, id.key)
	if err != nil {
		return "", fmt.Errorf("issue a certificate: %w", err)
	}
	return string(encode("CERTIFICATE", der)), nil
}
