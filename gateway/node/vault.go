package node

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/identity"
	"tidegate/hw/tpm"
)

// slowVault is how long the TPM may take for a command before that is a warning.
const slowVault = 5 * time.Second

// tpmDevice is where Linux has the TPM, with its resource manager.
const tpmDevice = "/dev/tpmrm0"

// VaultDevice says which vault the gateway of a configuration has: "file", or the device
// of a TPM. Once keys are in one kind of vault, "auto" stays with it.
func VaultDevice(cfg Config) string {
	if cfg.Identity.Vault != "auto" {
		return cfg.Identity.Vault
	}
	there := func(file string) bool { _, err := os.Stat(file); return err == nil }
	switch dir := filepath.Join(cfg.Data, "pki"); {
	case there(filepath.Join(dir, "tpm.root")):
		return tpmDevice
	case there(filepath.Join(dir, "vault.key")), cfg.Dev, !there(tpmDevice):
		return "file"
	}
	return tpmDevice
}

// PKI gives the folder of keys and certificates.
func (c Config) PKI() string { return filepath.Join(c.Data, "pki") }

// openVault opens what keeps the lasting keys, and the key of the store. A vault that
// does not open is a warning, unless the store is encrypted: what needs no key goes on.
func (n *Node) openVault() (storage []byte, err error) {
	dir := n.cfg.PKI()
	n.vault, err = identity.OpenVault(VaultDevice(n.cfg), dir, n.cfg.Identity.PCRs)
	sealed := identity.HasStorageKey(dir)
	if err != nil {
		if sealed {
			return nil, fault.Wrap(fault.Unavailable, err, "the store is encrypted and its key cannot be had: %s; %s", why(err), n.wayBack())
		}
		n.health.Raise("vault", fmt.Sprintf("the vault with the gateway's keys cannot be opened, nothing can be issued or renewed: %s", why(err)))
		return nil, nil
	}
	if w, ok := n.vault.(interface {
		OnSlow(time.Duration, func(bool))
	}); ok {
		w.OnSlow(slowVault, func(slow bool) {
			if slow {
				n.health.Raise("vault-slow", fmt.Sprintf("the TPM has not answered for %v; certificates and connections to upstreams wait for it. Should that not end, power the machine off and on", slowVault))
			} else {
				n.health.Clear("vault-slow")
			}
		})
	}
	if c, ok := n.vault.(io.Closer); ok {
		n.group.OnStop("vault", c.Close)
	}
	if !sealed {
		if n.vault.Kind() == "file" { // its key would lie beside what it protects
			return nil, nil
		}
		if used, _ := filepath.Glob(filepath.Join(n.cfg.Store.Dir, "log", "*")); len(used) > 0 {
			n.health.Raise("store-plain", "the store was made before there was a TPM and is not encrypted; to change that, back up, and restore into a new data folder")
			return nil, nil
		}
	}
	key, code, err := identity.StorageKey(n.vault, dir)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the store is encrypted and its key cannot be had: %s; %s", why(err), n.wayBack())
	}
	if code != "" && n.Tell != nil {
		n.Tell("The store is encrypted with a key that only this machine's TPM opens. Should the TPM be\n" +
			"lost or cleared, this recovery code opens it; it is shown this once, keep it elsewhere:\n\n    " + code + "\n")
	}
	return key, nil
}

// why puts what is wrong with a vault into words.
func why(err error) string {
	switch {
	case errors.Is(err, tpm.ErrOther):
		return tpm.ErrOther.Error()
	case errors.Is(err, fs.ErrNotExist):
		return "there is no TPM where there was one: " + err.Error()
	case errors.Is(err, tpm.ErrLockout):
		return tpm.ErrLockout.Error() + "; tpm2_dictionarylockout --clear-lockout, or waiting, ends the one, tpm2_changeauth -c o the other"
	case errors.Is(err, tpm.ErrPolicy):
		return tpm.ErrPolicy.Error()
	case errors.Is(err, tpm.ErrBlob):
		return tpm.ErrBlob.Error()
	}
	return err.Error()
}

// wayBack says what to do when the key of the store cannot be had.
func (n *Node) wayBack() string {
	return fmt.Sprintf("`tidegate recover --data %s` opens it with the recovery code", n.cfg.Data)
}

// openIdentity opens the gateway's own keys and certificates.
func (n *Node) openIdentity() (err error) {
	c := n.cfg.Identity
	n.identity, err = identity.Open(n.vault, n.Clock, identity.Config{Dir: n.cfg.PKI(), Names: c.Names, Lifetime: c.Lifetime, Log: n.Log})
	if err != nil {
		return err
	}
	if err := n.identity.Trouble(); err != nil && n.vault != nil {
		n.health.Raise("vault", fmt.Sprintf("the key of the local authority cannot be used, nothing can be issued or renewed: %s; "+
			"`tidegate recover --new-authority` makes another, which devices have to be told of", why(err)))
	}
	return nil
}
