package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tidegate/gateway/fault"
	"tidegate/hw/tpm"
)

// The files of the storage key: sealed by the vault, and wrapped by the recovery code.
const (
	storageFile  = "storage.key"
	recoveryFile = "storage.recovery"
)

// keySize is the size of the storage key in bytes.
const keySize = 32

// HasStorageKey says whether a storage key has been made in dir: then the store is
// encrypted with it.
func HasStorageKey(dir string) bool {
	for _, name := range []string{storageFile, recoveryFile, recoveryFile + ".new"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// StorageKey gives the key that encrypts the store, made when there is none yet; then
// code is the recovery code, to be shown once and kept nowhere. It needs only the vault
// and the folder, as it comes before everything else. An error says that the vault does
// not open the key; see [RecoverStorageKey].
func StorageKey(v Vault, dir string) (key []byte, code string, err error) {
	blob, err := os.ReadFile(filepath.Join(dir, storageFile))
	if err == nil {
		key, err = v.Unseal(blob)
		if err == nil && len(key) != keySize {
			err = errors.New("it has not the size of a key")
		}
		if err != nil {
			return nil, "", fault.Wrap(fault.Unavailable, err, "the vault (%s) does not open the storage key; the recovery code does", v.Kind())
		}
		return key, "", nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("storage key: %w", err)
	}
	// A key that was wrapped before must not be replaced: the store is encrypted with it.
	if _, err := os.Stat(filepath.Join(dir, recoveryFile)); err == nil {
		return nil, "", fault.New(fault.Unavailable, "the storage key is missing; the recovery code brings it back")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, "", fmt.Errorf("storage key: %w", err)
	}
	secret := make([]byte, 20)
	key = make([]byte, keySize)
	rand.Read(secret)
	rand.Read(key)
	if blob, err = v.Seal(key); err != nil {
		return nil, "", fmt.Errorf("seal the storage key: %w", err)
	}
	// The sealed key is the last: without it the next start begins anew, with it the
	// recovery file is there.
	os.Remove(filepath.Join(dir, recoveryFile))
	if err := writeRecovery(dir, recoveryFile+".new", secret, key); err != nil {
		return nil, "", err
	}
	if err := write(filepath.Join(dir, storageFile), blob, 0o600); err != nil {
		return nil, "", fmt.Errorf("storage key: %w", err)
	}
	if err := os.Rename(filepath.Join(dir, recoveryFile+".new"), filepath.Join(dir, recoveryFile)); err != nil {
		return nil, "", fmt.Errorf("storage key: %w", err)
	}
	return key, formatCode(secret), nil
}

// RecoverStorageKey opens the storage key with the recovery code and seals it by the
// present vault: after a TPM was exchanged or cleared, or the machine's state changed.
func RecoverStorageKey(v Vault, dir, code string) error {
	key, err := unwrap(dir, code)
	if err != nil {
		return err
	}
	return seal(v, dir, key)
}

func seal(v Vault, dir string, key []byte) error {
	blob, err := v.Seal(key)
	if err != nil {
		return fmt.Errorf("seal the storage key: %w", err)
	}
	return write(filepath.Join(dir, storageFile), blob, 0o600)
}

// unwrap opens the storage key with the recovery code.
func unwrap(dir, code string) ([]byte, error) {
	secret, err := parseCode(code)
	if err != nil {
		return nil, err
	}
	wrapped, err := os.ReadFile(filepath.Join(dir, recoveryFile))
	if errors.Is(err, fs.ErrNotExist) { // a crash before the rename
		wrapped, err = os.ReadFile(filepath.Join(dir, recoveryFile+".new"))
	}
	if err != nil {
		return nil, fmt.Errorf("recover the storage key: %w", err)
	}
	aead, err := wrap(secret)
	if err != nil {
		return nil, err
	}
	n := aead.NonceSize()
	if len(wrapped) < n {
		return nil, fault.New(fault.Invalid, "the file %s is damaged", recoveryFile)
	}
	key, err := aead.Open(nil, wrapped[:n], wrapped[n:], nil)
	if err != nil {
		return nil, fault.New(fault.Forbidden, "the recovery code is not the one of this gateway")
	}
	return key, nil
}

// Recover gives a gateway that does not run the use of its store back, with the recovery
// code and the vault of the machine as it is now. A record of another TPM is put aside.
// Keys that the lost TPM kept stay lost; see [NewAuthority].
func Recover(device, dir string, pcrs []uint, code string) error {
	if _, err := unwrap(dir, code); err != nil { // before anything is put aside
		return err
	}
	v, err := OpenVault(device, dir, pcrs)
	if errors.Is(err, tpm.ErrOther) {
		root := filepath.Join(dir, rootFile)
		if err = os.Rename(root, root+".old"); err == nil {
			v, err = OpenVault(device, dir, pcrs)
		}
	}
	if err != nil {
		return err
	}
	if c, ok := v.(io.Closer); ok {
		defer c.Close()
	}
	return RecoverStorageKey(v, dir, code)
}

// NewRecoveryCode makes another recovery code of a gateway that does not run, with the
// vault of the machine; the old code opens nothing any more. It is to be shown once and
// kept nowhere.
func NewRecoveryCode(device, dir string, pcrs []uint) (code string, err error) {
	v, err := OpenVault(device, dir, pcrs)
	if err != nil {
		return "", err
	}
	if c, ok := v.(io.Closer); ok {
		defer c.Close()
	}
	blob, err := os.ReadFile(filepath.Join(dir, storageFile))
	if err != nil {
		return "", fmt.Errorf("storage key: %w", err)
	}
	key, err := v.Unseal(blob)
	if err != nil {
		return "", fault.Wrap(fault.Unavailable, err, "the vault (%s) does not open the storage key; the recovery code does", v.Kind())
	}
	secret := make([]byte, 20)
	rand.Read(secret)
	if err := writeRecovery(dir, recoveryFile, secret, key); err != nil {
		return "", err
	}
	os.Remove(filepath.Join(dir, recoveryFile+".new")) // what a crash may have left there is under the old code
	return formatCode(secret), nil
}

// writeRecovery wraps the storage key by a code.
func writeRecovery(dir, name string, secret, key []byte) error {
	aead, err := wrap(secret)
	if err != nil {
		return err
	}
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	if err := write(filepath.Join(dir, name), aead.Seal(nonce, nonce, key, nil), 0o600); err != nil {
		return fmt.Errorf("storage key: %w", err)
	}
	return nil
}

// NewAuthority puts the local authority of a gateway that does not run aside, so that the
// next start makes another. Clients that know only the old one do not trust the server
// any more until they are given the new ca.pem; their own certificates stay good, for
// those are looked up one by one.
func NewAuthority(dir string) error {
	for _, name := range []string{"ca.pem", "ca.key"} { // a key that is left alone is not replaced, and a second try moves it
		file := filepath.Join(dir, name)
		if err := os.Rename(file, file+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("make another authority: %w", err)
		}
	}
	return nil
}

// wrap gives the cipher of a recovery code. The code is 160 random bits, so nothing has
// to slow guessing down.
func wrap(secret []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "tidegate storage key recovery", 32)
	if err != nil {
		return nil, fmt.Errorf("recovery code: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("recovery code: %w", err)
	}
	return cipher.NewGCM(block)
}

// formatCode writes a code in groups that can be copied by hand.
func formatCode(secret []byte) string {
	text := base32.StdEncoding.EncodeToString(secret)
	var groups []string
	for ; text != ""; text = text[4:] {
		groups = append(groups, text[:4])
	}
	return strings.Join(groups, "-")
}

// parseCode reads a code, however it was copied.
func parseCode(code string) ([]byte, error) {
	clean := strings.NewReplacer("-", "", " ", "", "0", "O", "1", "I", "8", "B").Replace(strings.ToUpper(strings.TrimSpace(code)))
	secret, err := base32.StdEncoding.DecodeString(clean)
	if err != nil || len(secret) != 20 {
		return nil, fault.New(fault.Invalid, "a recovery code is 8 groups of 4 letters and digits")
	}
	return secret, nil
}
