package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/google/go-tpm/tpm2"
)

// keyTemplate is an unrestricted P-256 signing key with an empty authorization,
// outside the lockout of wrong guesses.
var keyTemplate = tpm2.TPMTPublic{
	Type:    tpm2.TPMAlgECC,
	NameAlg: tpm2.TPMAlgSHA256,
	ObjectAttributes: tpm2.TPMAObject{
		FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true,
	},
	Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		CurveID: tpm2.TPMECCNistP256,
		Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgNull},
	}),
}

// CreateKey makes a P-256 key in the chip and gives it wrapped.
func (t *TPM) CreateKey() ([]byte, error) {
	var out []byte
	err := t.do(func() error {
		rsp, err := tpm2.Create{ParentHandle: t.parent(both), InPublic: tpm2.New2B(keyTemplate)}.Execute(t.dev)
		if err != nil {
			return fmt.Errorf("create key: %w", err)
		}
		out, err = (&blob{public: rsp.OutPublic.Bytes(), private: rsp.OutPrivate.Buffer}).encode()
		return err
	})
	return out, err
}

// Signer gives a wrapped key as a crypto.Signer for SHA-256 digests. The key is
// loaded for every signature, so that any number of them can be in use.
func (t *TPM) Signer(wrapped []byte) (crypto.Signer, error) {
	b, err := decode(wrapped, false)
	if err != nil {
		return nil, err
	}
	public := tpm2.BytesAs2B[tpm2.TPMTPublic](b.public)
	contents, err := public.Contents()
	if err != nil {
		return nil, ErrBlob
	}
	point, err := contents.Unique.ECC()
	if err != nil {
		return nil, ErrBlob
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, pad(point.X.Buffer)...), pad(point.Y.Buffer)...))
	if err != nil {
		return nil, ErrBlob
	}
	s := &signer{t: t, b: b, public: pub}
	// Fails now and not in the middle of a handshake when the blob is of another chip.
	return s, t.do(func() error {
		h, err := t.load(b)
		if err == nil {
			t.flush(h.Handle)
		}
		return err
	})
}

// pad gives a coordinate its 32 bytes; chips leave zeros in front out.
func pad(b []byte) []byte {
	if len(b) >= 32 {
		return b
	}
	return append(make([]byte, 32-len(b)), b...)
}

type signer struct {
	t      *TPM
	b      *blob
	public *ecdsa.PublicKey
}

// Public gives the public key.
func (s *signer) Public() crypto.PublicKey { return s.public }

// Sign signs a SHA-256 digest. The chip's own randomness is used.
func (s *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 || len(digest) != 32 {
		return nil, errors.New("the key in the TPM signs SHA-256 digests only")
	}
	var out []byte
	err := s.t.do(func() error {
		h, err := s.t.load(s.b)
		if err != nil {
			return err
		}
		defer s.t.flush(h.Handle)
		rsp, err := tpm2.Sign{
			KeyHandle:  tpm2.AuthHandle{Handle: h.Handle, Name: h.Name, Auth: s.t.session(inward)},
			Digest:     tpm2.TPM2BDigest{Buffer: digest},
			InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})},
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck},
		}.Execute(s.t.dev)
		if err != nil {
			return fmt.Errorf("sign: %w", err)
		}
		sig, err := rsp.Signature.Signature.ECDSA()
		if err != nil {
			return fmt.Errorf("sign: %w", err)
		}
		out, err = asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig.SignatureR.Buffer), new(big.Int).SetBytes(sig.SignatureS.Buffer)})
		return err
	})
	return out, err
}
