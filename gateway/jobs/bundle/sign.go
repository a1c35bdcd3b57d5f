package bundle

import (
	"fmt"
	"io"
	"strings"

	"aead.dev/minisign"

	"tidegate/gateway/fault"
)

// Signer is a public key of minisign.
type Signer struct{ key minisign.PublicKey }

// ParseSigner reads a public key: the line of base64, or the file that minisign made.
func ParseSigner(text string) (Signer, error) {
	var s Signer
	if err := s.key.UnmarshalText([]byte(strings.TrimSpace(text))); err != nil {
		return s, fmt.Errorf("is no public key of minisign, which begins with RW and has 56 characters")
	}
	return s, nil
}

// ID is the key's id as minisign shows it: 16 hex digits. It is not protected, and only
// good for people.
func (s Signer) ID() string { return fmt.Sprintf("%016X", s.key.ID()) }

// String is the whole key.
func (s Signer) String() string { return s.key.String() }

// verify checks a payload's signature, and gives who made it and its trusted comment.
func verify(payload io.Reader, signature []byte, signers []Signer) (by Signer, comment string, err error) {
	refused := func(format string, args ...any) (Signer, string, error) {
		return Signer{}, "", fault.New(fault.Forbidden, format, args...)
	}
	var s minisign.Signature
	if err := s.UnmarshalText(signature); err != nil {
		return refused("the bundle's signature is none of minisign's")
	}
	if s.Algorithm != minisign.HashEdDSA {
		return refused("the bundle is signed in minisign's legacy way; sign it again, without -l")
	}
	digest := minisign.NewReader(payload)
	if _, err := io.Copy(io.Discard, digest); err != nil {
		return by, "", fault.Wrap(fault.Internal, err, "the bundle cannot be read")
	}
	known := false
	for _, k := range signers { // the id is a hint only: two keys may have the same
		if k.key.ID() == s.KeyID {
			known = true
			if digest.Verify(k.key, signature) {
				return k, s.TrustedComment, nil
			}
		}
	}
	if !known {
		return refused("the bundle is signed with the key %016X, which is not among jobs.signers of the configuration", s.KeyID)
	}
	return refused("the bundle is not what was signed: it was changed, or its signature is that of another")
}

// Key is a secret key of minisign.
type Key struct{ key minisign.PrivateKey }

// ErrPassword says that a secret key needs a password, or another one.
var ErrPassword = fault.New(fault.Unauthorized, "the password does not open the secret key")

// Locked says whether a secret key's file is protected by a password.
func Locked(text []byte) bool { return minisign.IsEncrypted(text) }

// ParseKey reads the file of a secret key.
func ParseKey(text []byte, password string) (k Key, err error) {
	if !Locked(text) {
		if k.key.UnmarshalText(text) != nil {
			return k, invalid("this is no secret key of minisign")
		}
		return k, nil
	}
	if k.key, err = minisign.DecryptKey(password, text); err != nil {
		return k, ErrPassword
	}
	return k, nil
}

// Sign signs what payload gives, with a comment that is protected, too.
func (k Key) Sign(payload io.Reader, comment string) (signature []byte, err error) {
	digest := minisign.NewReader(payload)
	if _, err := io.Copy(io.Discard, digest); err != nil {
		return nil, err
	}
	return digest.SignWithComments(k.key, comment, "signature of a job for tidegate"), nil
}
