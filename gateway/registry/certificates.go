package registry

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"maps"
	"slices"
	"time"

	"tidegate/gateway/fault"
)

// Status is where a certificate stands in its life.
type Status string

// The states (developer guide, "X.509 client certificates").
const (
	Active            Status = "ACTIVE"
	Inactive          Status = "INACTIVE"
	Revoked           Status = "REVOKED"
	PendingActivation Status = "PENDING_ACTIVATION"
)

// The modes of registration.
const (
	ModeDefault = "DEFAULT"  // signed by a registered CA or by the gateway
	ModeSNIOnly = "SNI_ONLY" // registered without its CA
)

// Certificate is a registered client certificate. Records are read-only.
type Certificate struct {
	ID        string // SHA-256 of the DER form, 64 lower-case hex characters
	PEM       string
	Status    Status
	Mode      string
	CA        string `json:",omitempty"` // id of the registered CA that signed it
	Version   int64  // counts changes
	Created   time.Time
	Modified  time.Time
	NotBefore time.Time
	NotAfter  time.Time
	Claim     bool      `json:",omitempty"` // a provisioning claim: not listed
	Expires   time.Time // removed then unless active; zero: never
	Template  string    `json:",omitempty"` // of a claim: the template it may be used with
	Owner     string    `json:",omitempty"` // who had it made and may activate it, while Token is set
	Token     string    `json:",omitempty"` // digest of the proof of ownership, until it is used
}

// CertificateID gives the id of a certificate.
func CertificateID(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// ParseCertificate reads the first certificate of a PEM text and checks its key, RSA of at
// least 2048 bits or ECDSA, and that it is signed with SHA-256 or better (developer guide,
// "Certificate signing algorithms supported by AWS IoT").
func ParseCertificate(text string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fault.Wrap(fault.Invalid, ErrCertificate, "the certificate is not in PEM form")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, ErrCertificate, "the certificate cannot be read")
	}
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1, x509.UnknownSignatureAlgorithm:
		return nil, fault.Wrap(fault.Invalid, ErrCertificate, "the certificate is signed with %s; sign it with SHA-256, SHA-384 or SHA-512", c.SignatureAlgorithm)
	}
	if err := checkKey(c.PublicKey); err != nil {
		return nil, err
	}
	return c, nil
}

// Certificate gives a certificate by its id.
func (r *Registry) Certificate(id string) (*Certificate, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.certificate(id)
}

func (r *Registry) certificate(id string) (*Certificate, error) {
	if c := r.certs.m[id]; c != nil {
		return c, nil
	}
	return nil, notFound("Certificate", id)
}

// Certificates lists certificates by id; with a CA only those it signed.
func (r *Registry) Certificates(ca string, p Page) (certs []*Certificate, next string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	ids, next := page(r.certs.keys, p, func(id string) bool {
		c := r.certs.m[id]
		return !c.Claim && (ca == "" || c.CA == ca)
	})
	return pick(&r.certs, ids), next
}

// CertificateInput is what AddCertificate takes.
type CertificateInput struct {
	PEM      string
	Status   Status
	Mode     string
	CA       string // id of a registered CA, checked by the caller with Signer
	Claim    bool
	Expires  time.Time
	Template string
	Owner    string
	Token    string
}

// AddCertificate registers a certificate. One that is there already is
// fault.Exists.
func (tx *Tx) AddCertificate(in CertificateInput) (*Certificate, error) {
	x, err := ParseCertificate(in.PEM)
	if err != nil {
		return nil, err
	}
	id := CertificateID(x)
	if tx.r.certs.m[id] != nil {
		return nil, fault.Wrap(fault.Exists, &ExistsError{id, tx.r.ARN("cert", id)}, "The certificate is already provisioned or registered")
	}
	switch in.Status {
	case Active, Inactive, PendingActivation:
	default:
		return nil, fault.New(fault.Invalid, "a certificate cannot be registered with the status %q", in.Status)
	}
	c := &Certificate{ID: id, PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: x.Raw})), Status: in.Status, Mode: in.Mode, CA: in.CA,
		Version: 1, Created: tx.now, Modified: tx.now, NotBefore: x.NotBefore, NotAfter: x.NotAfter, Claim: in.Claim, Expires: in.Expires, Template: in.Template, Owner: in.Owner, Token: in.Token}
	set(tx, &tx.r.certs, "cert", id, c)
	return c, nil
}

// SetCertificateStatus changes the status to one a caller may choose: active,
// inactive or revoked.
func (tx *Tx) SetCertificateStatus(id string, s Status) error {
	have, err := tx.r.certificate(id)
	if err != nil {
		return err
	}
	switch s {
	case Active, Inactive, Revoked:
	default:
		return fault.New(fault.Invalid, "a certificate cannot be given the status %q; use ACTIVE, INACTIVE or REVOKED", s)
	}
	if have.Status == s {
		return nil
	}
	c := *have
	c.Status, c.Modified, c.Expires, c.Owner, c.Token = s, tx.now, time.Time{}, "", ""
	c.Version++
	set(tx, &tx.r.certs, "cert", id, &c)
	return nil
}

// DeleteCertificate removes a certificate that is inactive or revoked and
// attached to nothing; with force attached policies do not count.
func (tx *Tx) DeleteCertificate(id string, force bool) error {
	c, err := tx.r.certificate(id)
	if err != nil {
		return err
	}
	if c.Status != Inactive && c.Status != Revoked {
		return fault.Wrap(fault.Conflict, ErrCertState, "Certificate must be deactivated (not ACTIVE) before deletion.")
	}
	arn := tx.r.ARN("cert", id)
	if len(tx.r.index.things[arn]) > 0 {
		return fault.Wrap(fault.Conflict, ErrInUse, "Things must be detached before deletion (arn: %s)", arn)
	}
	if len(tx.r.index.policies[arn]) > 0 && !force {
		return fault.Wrap(fault.Conflict, ErrInUse, "Certificate policies must be detached before deletion (arn: %s)", arn)
	}
	return tx.removeCertificate(id)
}

// removeCertificate removes a certificate and what is attached to it.
func (tx *Tx) removeCertificate(id string) error {
	arn := tx.r.ARN("cert", id)
	for _, p := range slices.Sorted(maps.Keys(tx.r.index.policies[arn])) {
		if err := tx.DetachPolicy(p, arn); err != nil {
			return err
		}
	}
	for _, t := range slices.Sorted(maps.Keys(tx.r.index.things[arn])) {
		if err := tx.DetachPrincipal(t, arn); err != nil {
			return err
		}
	}
	set(tx, &tx.r.certs, "cert", id, nil)
	return nil
}

// Passing counts the certificates with an end: those DropExpired will remove unless they
// are put to use.
func (r *Registry) Passing() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n := 0
	for _, c := range r.certs.m {
		if !c.Expires.IsZero() {
			n++
		}
	}
	return n
}

// DropExpired removes certificates that were made for a provisioning which did
// not come to an end in time, and claims that are over.
func (tx *Tx) DropExpired() error {
	for _, id := range slices.Clone(tx.r.certs.keys) {
		c := tx.r.certs.m[id]
		if !c.Expires.IsZero() && tx.now.After(c.Expires) && (c.Status != Active || c.Claim) {
			if err := tx.removeCertificate(id); err != nil {
				return err
			}
		}
	}
	return nil
}
