package tpm

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// MaxSecret is the longest secret that can be sealed, in bytes.
const MaxSecret = 128

// Seal wraps a secret so that only this chip opens it and, with pcrs, only while
// the machine is in the state it is in now: the platform configuration registers
// of those numbers (SHA-256) have the same values.
func (t *TPM) Seal(secret []byte, pcrs []uint) ([]byte, error) {
	if len(secret) == 0 || len(secret) > MaxSecret {
		return nil, fmt.Errorf("a secret to be sealed has 1 to %d bytes", MaxSecret)
	}
	var out []byte
	err := t.do(func() error {
		public := tpm2.TPMTPublic{Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: len(pcrs) == 0, NoDA: true}}
		if len(pcrs) > 0 {
			digest, err := t.policy(pcrs)
			if err != nil {
				return err
			}
			public.AuthPolicy = tpm2.TPM2BDigest{Buffer: digest}
		}
		rsp, err := tpm2.Create{ParentHandle: t.parent(inward), InPublic: tpm2.New2B(public),
			InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret})}}}.Execute(t.dev)
		if err != nil {
			return fmt.Errorf("seal: %w", err)
		}
		out, err = (&blob{sealed: true, pcrs: pcrs, public: rsp.OutPublic.Bytes(), private: rsp.OutPrivate.Buffer}).encode()
		return err
	})
	return out, err
}

// selection names registers of the SHA-256 bank.
func selection(pcrs []uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...)}}}
}

// policy computes the digest of the policy "these registers as they are now".
func (t *TPM) policy(pcrs []uint) ([]byte, error) {
	s, end, err := tpm2.PolicySession(t.dev, tpm2.TPMAlgSHA256, 16, tpm2.Trial())
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	defer end() //nolint:errcheck // a session that cannot be flushed goes with the next reset
	if _, err := (tpm2.PolicyPCR{PolicySession: s.Handle(), Pcrs: selection(pcrs)}).Execute(t.dev); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	rsp, err := tpm2.PolicyGetDigest{PolicySession: s.Handle()}.Execute(t.dev)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return rsp.PolicyDigest.Buffer, nil
}

// Unseal opens what Seal wrapped. It fails with [ErrPolicy] when the machine is
// in another state, with [ErrBlob] when the blob is of another chip.
func (t *TPM) Unseal(sealed []byte) ([]byte, error) {
	b, err := decode(sealed, true)
	if err != nil {
		return nil, err
	}
	var out []byte
	err = t.do(func() error {
		h, err := t.load(b)
		if err != nil {
			return err
		}
		defer t.flush(h.Handle)
		auth := t.session(outward)
		if len(b.pcrs) > 0 {
			s, end, err := tpm2.PolicySession(t.dev, tpm2.TPMAlgSHA256, 16, tpm2.Salted(t.root.Handle, t.public), outward())
			if err != nil {
				return fmt.Errorf("unseal: %w", err)
			}
			defer end() //nolint:errcheck // see policy
			if _, err := (tpm2.PolicyPCR{PolicySession: s.Handle(), Pcrs: selection(b.pcrs)}).Execute(t.dev); err != nil {
				return fmt.Errorf("unseal: %w", err)
			}
			auth = s
		}
		rsp, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: h.Handle, Name: h.Name, Auth: auth}}.Execute(t.dev)
		if errors.Is(err, tpm2.TPMRCPolicyFail) {
			return ErrPolicy
		}
		if err != nil {
			return fmt.Errorf("unseal: %w", err)
		}
		out = rsp.OutData.Buffer
		return nil
	})
	return out, err
}
