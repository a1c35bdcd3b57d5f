package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"tidegate/hw/tpm"
	"tidegate/hw/tpm/tpmtest"
)

func open(t *testing.T, s *tpmtest.TPM, record []byte) *tpm.TPM {
	t.Helper()
	c, err := tpm.Open(s.Path(), record)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func check(t *testing.T, s crypto.Signer) {
	t.Helper()
	digest := sha256.Sum256([]byte("text"))
	sig, err := s.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if !ecdsa.VerifyASN1(s.Public().(*ecdsa.PublicKey), digest[:], sig) {
		t.Error("the signature is not of the key")
	}
}

func TestKeysAndSecretsSurviveARestart(t *testing.T) {
	s := tpmtest.Start(t)
	c := open(t, s, nil)
	key, err := c.CreateKey()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := c.Signer(key)
	if err != nil {
		t.Fatal(err)
	}
	secret := bytes.Repeat([]byte{7}, 32)
	sealed, err := c.Seal(secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, secret) {
		t.Error("the secret stands in the blob")
	}
	check(t, signer)
	s.Stop()
	if _, err := c.Unseal(sealed); err == nil {
		t.Error("a chip that is gone answers")
	}
	s.Run()
	check(t, signer) // the same object, on a chip that was reset
	if got, err := c.Unseal(sealed); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("unseal: %v, %v", got, err)
	}
	again := open(t, s, c.Root())
	other, err := again.Signer(key)
	if err != nil {
		t.Fatal(err)
	}
	check(t, other)
	if !other.Public().(*ecdsa.PublicKey).Equal(signer.Public()) {
		t.Error("another key")
	}
}

func TestAnotherChipIsRecognised(t *testing.T) {
	s := tpmtest.Start(t)
	c := open(t, s, nil)
	key, err := c.CreateKey()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := c.Seal([]byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := c.Signer(key)
	if err != nil {
		t.Fatal(err)
	}
	s.Wipe()
	digest := sha256.Sum256(nil)
	if _, err := signer.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, tpm.ErrOther) {
		t.Errorf("signing: %v, want ErrOther", err)
	}
	if _, err := tpm.Open(s.Path(), c.Root()); !errors.Is(err, tpm.ErrOther) {
		t.Errorf("opening: %v, want ErrOther", err)
	}
	fresh := open(t, s, nil)
	if _, err := fresh.Signer(key); !errors.Is(err, tpm.ErrBlob) {
		t.Errorf("the old key: %v, want ErrBlob", err)
	}
	if _, err := fresh.Unseal(sealed); !errors.Is(err, tpm.ErrBlob) {
		t.Errorf("the old secret: %v, want ErrBlob", err)
	}
}

func TestSealingToTheStateOfTheMachine(t *testing.T) {
	s := tpmtest.Start(t)
	c := open(t, s, nil)
	sealed, err := c.Seal([]byte("secret"), []uint{7, 11})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Unseal(sealed); err != nil || string(got) != "secret" {
		t.Fatalf("in the same state: %q, %v", got, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := linuxudstpm.Open(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.PCRExtend{PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(11), Auth: tpm2.PasswordAuth(nil)},
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}}}.Execute(raw)
	if err != nil {
		t.Fatal(err)
	}
	raw.Close()
	c = open(t, s, c.Root())
	if _, err := c.Unseal(sealed); !errors.Is(err, tpm.ErrPolicy) {
		t.Errorf("in another state: %v, want ErrPolicy", err)
	}
	s.Stop()
	s.Run() // the registers start anew
	if got, err := c.Unseal(sealed); err != nil || string(got) != "secret" {
		t.Errorf("after a restart: %q, %v", got, err)
	}
}

func TestDamagedBlobsAreRefused(t *testing.T) {
	s := tpmtest.Start(t)
	c := open(t, s, nil)
	key, err := c.CreateKey()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := c.Seal([]byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Signer(sealed); !errors.Is(err, tpm.ErrBlob) {
		t.Errorf("a secret as a key: %v", err)
	}
	if _, err := c.Unseal(key); !errors.Is(err, tpm.ErrBlob) {
		t.Errorf("a key as a secret: %v", err)
	}
	block, _ := pem.Decode(key)
	for _, i := range []int{5, len(block.Bytes) / 2, len(block.Bytes) - 1} {
		b := bytes.Clone(block.Bytes)
		b[i] ^= 1
		if _, err := c.Signer(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: b})); err == nil {
			t.Errorf("byte %d flipped: accepted", i)
		}
	}
	for _, text := range []string{"", "junk", "-----BEGIN TSS2 PRIVATE KEY-----\nMAA=\n-----END TSS2 PRIVATE KEY-----\n"} {
		if _, err := c.Signer([]byte(text)); !errors.Is(err, tpm.ErrBlob) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, n := range []int{0, tpm.MaxSecret + 1} {
		if _, err := c.Seal(make([]byte, n), nil); err == nil {
			t.Errorf("a secret of %d bytes was sealed", n)
		}
	}
	if _, err := c.Seal(make([]byte, tpm.MaxSecret), nil); err != nil {
		t.Error(err)
	}
}

func TestMutualTLSWithKeysInTheChip(t *testing.T) {
	s := tpmtest.Start(t)
	c := open(t, s, nil)
	var certs [2]tls.Certificate
	pool := x509.NewCertPool()
	for i := range certs {
		key, err := c.CreateKey()
		if err != nil {
			t.Fatal(err)
		}
		signer, err := c.Signer(key)
		if err != nil {
			t.Fatal(err)
		}
		tpl := &x509.Certificate{SerialNumber: big.NewInt(int64(i)), DNSNames: []string{"gw"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
		der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, signer.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		x, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		pool.AddCert(x)
		certs[i] = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: signer, SupportedSignatureAlgorithms: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}}
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			conn, err := ln.Accept()
			if err == nil {
				srv := tls.Server(conn, &tls.Config{Certificates: certs[:1], ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert})
				_, err = io.WriteString(srv, "hello")
				srv.Close()
			}
			ended <- err
		}()
		conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{Certificates: certs[1:], RootCAs: pool, ServerName: "gw", MinVersion: version, MaxVersion: version})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(conn); err != nil || string(b) != "hello" {
			t.Errorf("version %x: %q, %v", version, b, err)
		}
		if err := <-ended; err != nil {
			t.Errorf("version %x: server: %v", version, err)
		}
		conn.Close()
		ln.Close()
	}
}

func TestConcurrentUse(t *testing.T) {
	s := tpmtest.Start(t)
	c := open(t, s, nil)
	key, err := c.CreateKey()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := c.Signer(key)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				digest := sha256.Sum256([]byte("x"))
				if _, err := signer.Sign(nil, digest[:], crypto.SHA256); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestNoChip(t *testing.T) {
	if _, err := tpm.Open(t.TempDir()+"/none", nil); err == nil {
		t.Error("opened nothing")
	}
}

// A chip that does not answer is told of while somebody waits for it, and once more when it answers.
func TestASlowChipIsToldOf(t *testing.T) {
	sim := tpmtest.Start(t)
	chip, err := tpm.Open(sim.Path(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer chip.Close()
	slow := make(chan bool, 2)
	chip.OnSlow(50*time.Millisecond, func(is bool) { slow <- is })
	sim.Pause()
	made := make(chan error, 1)
	go func() { _, err := chip.CreateKey(); made <- err }()
	if !<-slow {
		t.Error("it is fast before it was slow")
	}
	sim.Resume()
	if err := <-made; err != nil {
		t.Error(err)
	}
	if <-slow {
		t.Error("it is slow when it has answered")
	}
}

// A chip whose owner has set a password is no use, and says so.
func TestAnOwnersPasswordIsALockout(t *testing.T) {
	sim := tpmtest.Start(t)
	dev, err := linuxudstpm.Open(sim.Path())
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.HierarchyChangeAuth{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}, NewAuth: tpm2.TPM2BAuth{Buffer: []byte("secret")}}.Execute(dev)
	if err := errors.Join(err, dev.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := tpm.Open(sim.Path(), nil); !errors.Is(err, tpm.ErrLockout) {
		t.Errorf("got %v, want ErrLockout", err)
	}
}
