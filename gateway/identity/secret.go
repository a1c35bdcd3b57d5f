package identity

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"tidegate/gateway/fault"
)

// Secret gives 32 random bytes by a name, made when there are none yet and sealed by the
// vault. They are for what may end: should the vault not open them any more (another TPM,
// other values in its registers), they are replaced.
func (id *Identity) Secret(name string) ([]byte, error) {
	if id.vault == nil {
		return nil, id.unavailable()
	}
	path := id.path(name + ".secret")
	blob, err := os.ReadFile(path)
	if err == nil {
		if secret, err := id.vault.Unseal(blob); err == nil && len(secret) == keySize {
			return secret, nil
		}
		id.log.Warn("a secret is replaced, as the vault does not open it", "name", name)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the secret %s: %w", name, err)
	}
	secret := make([]byte, keySize)
	rand.Read(secret)
	if blob, err = id.vault.Seal(secret); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the vault (%s) does not seal the secret %s", id.vault.Kind(), name)
	}
	if err := write(path, blob, 0o600); err != nil {
		return nil, fmt.Errorf("keep the secret %s: %w", name, err)
	}
	return secret, nil
}
