package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// sealer encrypts entries with AES-GCM. Every start takes a fresh random salt and derives a key of its own
// from it, so that the index, which one start uses only once, can be the nonce. A sealed payload is
// salt (16 bytes) | ciphertext and tag; the index is the additional data as well.
type sealer struct {
	secret []byte
	salt   [saltSize]byte
	aead   cipher.AEAD
	// opened is the last key that open derived; entries of one start follow each other.
	opened     [saltSize]byte
	openedAEAD cipher.AEAD
}

const (
	saltSize     = 16
	sealOverhead = saltSize + 16
)

func newSealer(secret []byte) (*sealer, error) {
	if len(secret) != 16 && len(secret) != 24 && len(secret) != 32 {
		return nil, fmt.Errorf("the store's key has %d bytes: it must have 16, 24 or 32", len(secret))
	}
	s := &sealer{secret: secret}
	rand.Read(s.salt[:]) // never fails, see crypto/rand
	var err error
	s.aead, err = s.derive(s.salt)
	return s, err
}

func (s *sealer) derive(salt [saltSize]byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, s.secret, salt[:], "tidegate commit log", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func nonce(index uint64) (n [12]byte) {
	binary.BigEndian.PutUint64(n[4:], index)
	return n
}

// seal appends the sealed payload to dst.
func (s *sealer) seal(dst []byte, index uint64, payload []byte) []byte {
	n := nonce(index)
	return s.aead.Seal(append(dst, s.salt[:]...), n[:], payload, n[4:])
}

// open gives the payload in memory of its own.
func (s *sealer) open(index uint64, sealed []byte) ([]byte, error) {
	if len(sealed) < sealOverhead {
		return nil, errors.New("sealed entry is too short")
	}
	salt := [saltSize]byte(sealed)
	if s.openedAEAD == nil || salt != s.opened {
		a, err := s.derive(salt)
		if err != nil {
			return nil, err
		}
		s.opened, s.openedAEAD = salt, a
	}
	n := nonce(index)
	return s.openedAEAD.Open(nil, n[:], sealed[saltSize:], n[4:])
}
