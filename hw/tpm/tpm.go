// Package tpm uses a TPM 2.0 as a place for keys: signing keys that never leave it,
// and secrets that only it can open.
//
// Nothing is kept in the chip's scarce persistent memory. Keys and secrets are
// blobs, wrapped by the chip's storage root key, that the caller keeps on disk in
// the form TSS2 PRIVATE KEY; the root key is derived again at every Open. Every
// command goes through a session that is salted to the root key and encrypts its
// parameters, so that a probe on the bus sees neither secrets nor signatures it
// could swap.
//
// All commands are serialised. A chip that was reset is noticed and met again;
// one that was cleared or exchanged is reported as [ErrOther], as its root key is
// not the recorded one.
//
//	t, err := tpm.Open("/dev/tpmrm0", record) // record: nil at the first time
//	record = t.Root()                         // to be kept
//	blob, err := t.CreateKey()
//	signer, err := t.Signer(blob)             // a crypto.Signer, P-256
//	sealed, err := t.Seal(secret, nil)
package tpm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// What can be wrong with a chip beyond an I/O error.
var (
	// ErrOther says that the chip is not the one the record is of: it was cleared
	// or exchanged. What it wrapped is lost.
	ErrOther = errors.New("the TPM was cleared or exchanged")
	// ErrPolicy says that a secret was sealed to another state of the machine
	// (platform configuration registers).
	ErrPolicy = errors.New("the machine is not in the state the secret was sealed to")
	// ErrLockout says that the chip refuses to work because somebody has guessed too often,
	// or because its owner has set a password.
	ErrLockout = errors.New("the TPM is locked out or its owner has set a password")
	// ErrBlob says that a blob is damaged or of another chip.
	ErrBlob = errors.New("the wrapped key is damaged or belongs to another TPM")
)

// TPM is an open chip. Its methods may be called concurrently.
type TPM struct {
	path string

	patience time.Duration // how long a command may take before slow is told; 0: nobody is
	slow     func(bool)

	mu     sync.Mutex // guards what follows, and the chip
	dev    transport.TPMCloser
	root   tpm2.NamedHandle
	public tpm2.TPMTPublic // of the root key
	record []byte
}

// Open opens the device at path, a character device or the unix socket of an
// emulator, and derives its root key. record is what Root gave when the chip was
// first used; with it a chip that is another one is refused with [ErrOther].
func Open(path string, record []byte) (*TPM, error) {
	t := &TPM{path: path, record: record}
	if err := t.open(); err != nil {
		return nil, fmt.Errorf("open TPM %s: %w", path, err)
	}
	return t, nil
}

// Root gives the public part of the root key, to be recorded.
func (t *TPM) Root() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.record)
}

// Close lets go of the chip.
func (t *TPM) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.close()
}

func (t *TPM) close() error {
	if t.dev == nil {
		return nil
	}
	t.flush(t.root.Handle)
	err := t.dev.Close()
	t.dev = nil
	return err
}

// open connects and derives the root key.
func (t *TPM) open() error {
	st, err := os.Stat(t.path)
	if err != nil {
		return err
	}
	connect := linuxtpm.Open
	if st.Mode()&os.ModeSocket != 0 {
		connect = linuxudstpm.Open
	}
	dev, err := connect(t.path)
	if err != nil {
		return err
	}
	t.dev = dev
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(dev)
	if err != nil {
		dev.Close()
		t.dev = nil
		return fmt.Errorf("derive the root key: %w", locked(err))
	}
	t.root = tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}
	public := rsp.OutPublic.Bytes()
	if t.record == nil {
		t.record = bytes.Clone(public)
	}
	if !bytes.Equal(t.record, public) {
		t.close()
		return ErrOther
	}
	contents, err := rsp.OutPublic.Contents()
	if err != nil {
		t.close()
		return err
	}
	t.public = *contents
	return nil
}

// OnSlow has slow told true when a command takes longer than patience, and false when it
// has come to an end. A chip takes a second for some; one that hangs would stop whoever
// wants a signature in silence. Call it before the chip is used.
func (t *TPM) OnSlow(patience time.Duration, slow func(bool)) { t.patience, t.slow = patience, slow }

// watch begins to wait for the end of a command, which is the call of done.
func (t *TPM) watch() (done func()) {
	if t.slow == nil {
		return func() {}
	}
	told := make(chan struct{})
	timer := time.AfterFunc(t.patience, func() { t.slow(true); close(told) })
	return func() {
		if !timer.Stop() {
			<-told // first the one, then the other
			t.slow(false)
		}
	}
}

// locked puts the chip's refusals to work into a word that says so.
func locked(err error) error {
	for _, rc := range []tpm2.TPMRC{tpm2.TPMRCLockout, tpm2.TPMRCAuthFail, tpm2.TPMRCBadAuth} {
		if errors.Is(err, rc) {
			return errors.Join(ErrLockout, err)
		}
	}
	return err
}

// do runs a command, once more after meeting the chip again when it was reset in
// between: handles do not survive that.
func (t *TPM) do(fn func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.watch()()
	if t.dev != nil {
		err := locked(fn())
		if err == nil || !wasReset(err) {
			return err
		}
		t.close()
	}
	if err := t.open(); err != nil {
		return fmt.Errorf("open TPM %s again: %w", t.path, err)
	}
	return locked(fn())
}

// wasReset says whether a command failed because the chip, or the way to it, has
// started anew.
func wasReset(err error) bool {
	if errors.Is(err, ErrBlob) || errors.Is(err, ErrPolicy) {
		return false
	}
	var code tpm2.TPMRC
	if !errors.As(err, &code) {
		return true // I/O
	}
	return errors.Is(code, tpm2.TPMRCReferenceH0) || errors.Is(code, tpm2.TPMRCReferenceH1) || errors.Is(code, tpm2.TPMRCHandle) || errors.Is(code, tpm2.TPMRCInitialize)
}

// session gives the protection of a command's parameters.
func (t *TPM) session(dir func() tpm2.AuthOption) tpm2.Session {
	return tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Salted(t.root.Handle, t.public), dir())
}

func both() tpm2.AuthOption    { return tpm2.AESEncryption(128, tpm2.EncryptInOut) }
func inward() tpm2.AuthOption  { return tpm2.AESEncryption(128, tpm2.EncryptIn) }
func outward() tpm2.AuthOption { return tpm2.AESEncryption(128, tpm2.EncryptOut) }

// parent names the root key with an authorization that protects the command.
func (t *TPM) parent(dir func() tpm2.AuthOption) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: t.root.Handle, Name: t.root.Name, Auth: t.session(dir)}
}

func (t *TPM) flush(h tpm2.TPMHandle) {
	tpm2.FlushContext{FlushHandle: h}.Execute(t.dev) //nolint:errcheck // the chip drops it at its next reset
}

// load loads a blob and gives its handle, to be flushed.
func (t *TPM) load(b *blob) (tpm2.NamedHandle, error) {
	rsp, err := tpm2.Load{ParentHandle: t.parent(inward), InPrivate: tpm2.TPM2BPrivate{Buffer: b.private}, InPublic: tpm2.BytesAs2B[tpm2.TPMTPublic](b.public)}.Execute(t.dev)
	if err != nil {
		if errors.Is(err, tpm2.TPMRCIntegrity) || errors.Is(err, tpm2.TPMRCSize) || errors.Is(err, tpm2.TPMRCSensitive) {
			return tpm2.NamedHandle{}, ErrBlob
		}
		return tpm2.NamedHandle{}, fmt.Errorf("load key: %w", err)
	}
	return tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}, nil
}
