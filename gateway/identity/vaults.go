package identity

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tidegate/hw/tpm"
)

// OpenVault opens the vault of a device, "file" or the path of a TPM; see [FileVault] and
// [TPMVault]. One that is an io.Closer is to be closed.
func OpenVault(device, dir string, pcrs []uint) (Vault, error) {
	if device == "file" {
		return FileVault(dir)
	}
	return TPMVault(device, dir, pcrs)
}

// fileVault keeps keys as they are, and secrets under a key in a file.
type fileVault struct{ seal cipher.AEAD }

// FileVault gives the vault of a machine without a TPM: whoever can read its files of
// mode 0600 has the keys. Its own key is kept in dir.
func FileVault(dir string) (Vault, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	path := filepath.Join(dir, "vault.key")
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, 32)
		rand.Read(key)
		err = write(path, key, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("open vault: %s is damaged: %w", path, err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	return &fileVault{aead}, nil
}

// errForeignKey says that a key was made by another kind of vault.
var errForeignKey = errors.New("the key is not one of files; it may be one of a TPM")

func (*fileVault) Kind() string { return "file" }

func (*fileVault) CreateKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return encode("PRIVATE KEY", der), nil
}

func (*fileVault) Signer(blob []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(blob)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errForeignKey
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the key cannot sign")
	}
	return s, nil
}

func (v *fileVault) Seal(secret []byte) ([]byte, error) {
	nonce := make([]byte, v.seal.NonceSize())
	rand.Read(nonce)
	return v.seal.Seal(nonce, nonce, secret, nil), nil
}

func (v *fileVault) Unseal(blob []byte) ([]byte, error) {
	n := v.seal.NonceSize()
	if len(blob) < n {
		return nil, errors.New("the sealed secret is damaged")
	}
	return v.seal.Open(nil, blob[:n], blob[n:], nil)
}

// rootFile records which TPM it is.
const rootFile = "tpm.root"

// tpmVault keeps keys and secrets wrapped by a TPM.
type tpmVault struct {
	*tpm.TPM
	pcrs []uint
}

// TPMVault opens the vault of a TPM at a device path. What tells the chip from others
// is recorded in dir; a chip that is another one is refused with [tpm.ErrOther] in the
// chain. With pcrs secrets are sealed to the present values of those registers.
func TPMVault(device, dir string, pcrs []uint) (Vault, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	path := filepath.Join(dir, rootFile)
	record, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	t, err := tpm.Open(device, record)
	if err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	if record == nil {
		if err := write(path, t.Root(), 0o644); err != nil {
			t.Close()
			return nil, fmt.Errorf("open vault: %w", err)
		}
	}
	return &tpmVault{t, pcrs}, nil
}

func (*tpmVault) Kind() string { return "tpm" }

func (v *tpmVault) Seal(secret []byte) ([]byte, error) { return v.TPM.Seal(secret, v.pcrs) }
