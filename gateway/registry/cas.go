package registry

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"maps"
	"time"

	"tidegate/gateway/fault"
)

// CA is a registered certificate authority of somebody else. Records are
// read-only.
type CA struct {
	ID        string
	PEM       string
	Status    Status // Active or Inactive
	Mode      string
	Auto      bool              // unknown certificates it signed are registered at their first connection
	Template  string            `json:",omitempty"` // body of the template for just-in-time provisioning
	Named     string            `json:",omitempty"` // or the name of one
	Role      string            `json:",omitempty"`
	Tags      map[string]string `json:",omitempty"`
	Version   int64
	Created   time.Time
	Modified  time.Time
	NotBefore time.Time
	NotAfter  time.Time
}

// checkKey refuses weak and foreign kinds of keys.
func checkKey(key any) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			return fault.Wrap(fault.Invalid, ErrCertificate, "an RSA key needs at least 2048 bits, this one has %d", k.N.BitLen())
		}
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize < 256 {
			return fault.Wrap(fault.Invalid, ErrCertificate, "an EC key needs the curve P-256, P-384 or P-521")
		}
	default:
		return fault.Wrap(fault.Invalid, ErrCertificate, "the kind of the key is not known; use RSA or ECDSA")
	}
	return nil
}

// CA gives a registered authority by its id.
func (r *Registry) CA(id string) (*CA, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.ca(id)
}

func (r *Registry) ca(id string) (*CA, error) {
	if c := r.cas.m[id]; c != nil {
		return c, nil
	}
	return nil, notFound("CA certificate", id)
}

// CAs lists registered authorities by id.
func (r *Registry) CAs(p Page) (cas []*CA, next string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	ids, next := page(r.cas.keys, p, nil)
	return pick(&r.cas, ids), next
}

// Signer finds the registered authority that signed a certificate, nil when
// there is none. Its status is for the caller to judge.
func (r *Registry) Signer(c *x509.Certificate) *CA {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, ca := range r.cas.m {
		x, err := ParseCertificate(ca.PEM)
		if err == nil && bytes.Equal(x.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(x) == nil {
			return ca
		}
	}
	return nil
}

// CAInput is what AddCA takes.
type CAInput struct {
	PEM          string
	Verification string // PEM of a certificate with Code as common name, signed by the CA
	Code         string // the registration code
	Status       Status
	Mode         string // ModeDefault needs Verification, ModeSNIOnly does not
	Auto         bool
	Template     string
	Named        string
	Role         string
	Tags         map[string]string
}

// AddCA registers an authority.
func (tx *Tx) AddCA(in CAInput) (*CA, error) {
	x, err := ParseCertificate(in.PEM)
	if err != nil {
		return nil, err
	}
	if !x.IsCA {
		return nil, fault.Wrap(fault.Invalid, ErrCertificate, "the CA certificate is not one of a certificate authority")
	}
	if tx.now.After(x.NotAfter) {
		return nil, fault.Wrap(fault.Invalid, ErrCertificate, "the CA certificate has expired")
	}
	switch in.Mode {
	case ModeDefault:
		v, err := ParseCertificate(in.Verification)
		if err != nil {
			return nil, err
		}
		if err := v.CheckSignatureFrom(x); err != nil {
			return nil, fault.Wrap(fault.Invalid, ErrCertificate, "the verification certificate was not signed by the CA")
		}
		if in.Code == "" || v.Subject.CommonName != in.Code {
			return nil, fault.Wrap(fault.Invalid, ErrRegistration, "the common name of the verification certificate is not the registration code")
		}
	case ModeSNIOnly:
	default:
		return nil, fault.New(fault.Invalid, "certificateMode is %s or %s", ModeDefault, ModeSNIOnly)
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	id := CertificateID(x)
	for _, have := range tx.r.cas.m {
		h, err := ParseCertificate(have.PEM)
		if have.ID == id || err == nil && bytes.Equal(h.RawSubject, x.RawSubject) && bytes.Equal(h.RawSubjectPublicKeyInfo, x.RawSubjectPublicKeyInfo) {
			return nil, fault.Wrap(fault.Exists, &ExistsError{have.ID, tx.r.ARN("cacert", have.ID)}, "The CA certificate is already registered")
		}
	}
	ca := &CA{ID: id, PEM: in.PEM, Status: in.Status, Mode: in.Mode, Auto: in.Auto, Template: in.Template, Named: in.Named, Role: in.Role,
		Tags: maps.Clone(in.Tags), Version: 1, Created: tx.now, Modified: tx.now, NotBefore: x.NotBefore, NotAfter: x.NotAfter}
	if ca.Status != Active {
		ca.Status = Inactive
	}
	set(tx, &tx.r.cas, "cacert", id, ca)
	return ca, nil
}

// UpdateCA changes an authority by a function that is given a copy; id, PEM and
// mode stay.
func (tx *Tx) UpdateCA(id string, change func(*CA)) error {
	have, err := tx.r.ca(id)
	if err != nil {
		return err
	}
	c := *have
	change(&c)
	if c.Status != Active && c.Status != Inactive {
		return fault.New(fault.Invalid, "the status of a CA certificate is ACTIVE or INACTIVE")
	}
	c.ID, c.PEM, c.Mode, c.Modified = have.ID, have.PEM, have.Mode, tx.now
	c.Version = have.Version + 1
	set(tx, &tx.r.cas, "cacert", id, &c)
	return nil
}

// DeleteCA removes an inactive authority. Certificates it signed stay.
func (tx *Tx) DeleteCA(id string) error {
	c, err := tx.r.ca(id)
	if err != nil {
		return err
	}
	if c.Status != Inactive {
		return fault.Wrap(fault.Conflict, ErrCertState, "The CA certificate must be deactivated before deletion")
	}
	set(tx, &tx.r.cas, "cacert", id, nil)
	return nil
}
