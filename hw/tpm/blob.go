package tpm

import (
	"encoding/asn1"
	"encoding/pem"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// blob is a wrapped key or secret.
type blob struct {
	sealed          bool
	pcrs            []uint
	public, private []byte // TPMT_PUBLIC and the buffer of TPM2B_PRIVATE
}

// The form on disk: PEM of
//
//	TPMKey ::= SEQUENCE {
//	    type        OBJECT IDENTIFIER,           -- loadable key or sealed data
//	    emptyAuth   [0] EXPLICIT BOOLEAN,
//	    policy      [1] EXPLICIT SEQUENCE OF SEQUENCE {
//	        commandCode   [0] EXPLICIT INTEGER,        -- TPM2_PolicyPCR
//	        commandPolicy [1] EXPLICIT OCTET STRING }, -- TPML_PCR_SELECTION
//	    parent      INTEGER,                     -- TPM_RH_OWNER: the storage root key
//	    pubkey      OCTET STRING,                -- TPM2B_PUBLIC
//	    privkey     OCTET STRING }               -- TPM2B_PRIVATE
//
// (draft-bottomley-tpm2-keys), as OpenSSL's providers read it.
type tpmKey struct {
	Type      asn1.ObjectIdentifier
	EmptyAuth bool         `asn1:"explicit,tag:0"`
	Policy    []policyStep `asn1:"explicit,tag:1,optional,omitempty"`
	Parent    int64
	Public    []byte
	Private   []byte
}

type policyStep struct {
	Code   int64  `asn1:"explicit,tag:0"`
	Policy []byte `asn1:"explicit,tag:1"`
}

var (
	oidKey    = asn1.ObjectIdentifier{2, 23, 133, 10, 1, 3}
	oidSealed = asn1.ObjectIdentifier{2, 23, 133, 10, 1, 5}
)

const pemType = "TSS2 PRIVATE KEY"

func (b *blob) encode() ([]byte, error) {
	k := tpmKey{Type: oidKey, EmptyAuth: true, Parent: int64(tpm2.TPMRHOwner),
		Public:  tpm2.Marshal(tpm2.BytesAs2B[tpm2.TPMTPublic](b.public)),
		Private: tpm2.Marshal(tpm2.TPM2BPrivate{Buffer: b.private})}
	if b.sealed {
		k.Type = oidSealed
	}
	if len(b.pcrs) > 0 {
		k.Policy = []policyStep{{int64(tpm2.TPMCCPolicyPCR), tpm2.Marshal(selection(b.pcrs))}}
	}
	der, err := asn1.Marshal(k)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), nil
}

func decode(text []byte, sealed bool) (*blob, error) {
	block, _ := pem.Decode(text)
	var k tpmKey
	if block == nil || block.Type != pemType {
		return nil, ErrBlob
	}
	if rest, err := asn1.Unmarshal(block.Bytes, &k); err != nil || len(rest) > 0 || !k.Type.Equal(oidSealed) && !k.Type.Equal(oidKey) || k.Type.Equal(oidSealed) != sealed {
		return nil, ErrBlob
	}
	public, err := tpm2.Unmarshal[tpm2.TPM2BPublic](k.Public)
	if err != nil {
		return nil, ErrBlob
	}
	private, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](k.Private)
	if err != nil {
		return nil, ErrBlob
	}
	b := &blob{sealed: sealed, public: public.Bytes(), private: private.Buffer}
	for _, s := range k.Policy {
		sel, err := tpm2.Unmarshal[tpm2.TPMLPCRSelection](s.Policy)
		if err != nil || s.Code != int64(tpm2.TPMCCPolicyPCR) {
			return nil, ErrBlob
		}
		for _, bank := range sel.PCRSelections {
			for i, bits := range bank.PCRSelect {
				for bit := range 8 {
					if bits>>bit&1 == 1 {
						b.pcrs = append(b.pcrs, uint(i*8+bit))
					}
				}
			}
		}
	}
	return b, nil
}
