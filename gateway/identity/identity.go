// Package identity keeps the gateway's own keys and certificates: the local
// authority that devices trust, the server certificate, the key it shows to
// upstreams, and the key that encrypts the store.
//
// Lasting keys are a [Vault]'s: a TPM, or files of mode 0600. The server
// certificate is short-lived, its key soft; it is renewed in time and taken up by
// the next handshake, so no connection is dropped. The authority signs certificates
// for devices; who is told of them is gateway/registry.
//
// Nothing expires by being offline. The authority lasts until 2049. While the clock
// is not trusted the server certificate is made to last, too: a short one, dated in
// 1970, would be refused by every client that knows the date.
//
//	id, err := identity.Open(vault, clk, identity.DefaultConfig(dir))
//	key, err := id.StorageKey()        // before the store is opened
//	cfg := id.ServerTLS()
//	pem, err := id.IssueCSR(csr)
//
// Files, all in the folder pki: ca.pem, ca.key, server.pem, server.key, upstream.key with
// upstream.pem and upstream.csr, and what else the vault wraps. Lasting keys are never
// written over.
package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
)

// Vault keeps lasting keys. A key is a blob that only this vault can use; the
// caller keeps the blob. Its methods may be called concurrently.
type Vault interface {
	// Kind is "tpm" or "file", for people.
	Kind() string
	// CreateKey makes a P-256 key.
	CreateKey() (blob []byte, err error)
	// Signer gives a key to sign SHA-256 digests with.
	Signer(blob []byte) (crypto.Signer, error)
	// Seal wraps a secret of at most 128 bytes.
	Seal(secret []byte) (blob []byte, err error)
	// Unseal opens what Seal wrapped.
	Unseal(blob []byte) (secret []byte, err error)
}

// Config says where the files are and what the server certificate is for.
type Config struct {
	Dir      string        // the folder pki
	Names    []string      // host names and addresses beyond the usual ones
	Lifetime time.Duration // of a server certificate
	Log      *slog.Logger
}

// DefaultConfig gives server certificates of 90 days.
func DefaultConfig(dir string) Config {
	return Config{Dir: dir, Lifetime: 90 * 24 * time.Hour}
}

// The bounds of lasting certificates: before any gateway was built, and as long as
// the certificates of AWS IoT. Nobody's clock, unless it is in 1970, is outside.
var (
	begin = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	end   = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)
)

// Identity is the open room. Its methods may be called concurrently.
type Identity struct {
	cfg   Config
	vault Vault
	clk   clock.Clock
	log   *slog.Logger
	ca    *x509.Certificate
	caPEM []byte
	key   crypto.Signer // of the authority; nil in trouble
	why   error         // the trouble

	renewing sync.Mutex
	server   atomic.Pointer[tls.Certificate]
}

// Open reads the authority and the server certificate, or makes them. When the vault
// does not give the authority's key, or vault is nil because it could not be opened, but
// the certificates are there, the gateway serves with what it has and issues nothing;
// see [Identity.Trouble].
func Open(vault Vault, clk clock.Clock, cfg Config) (*Identity, error) {
	if cfg.Lifetime <= 0 {
		cfg.Lifetime = DefaultConfig("").Lifetime
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	id := &Identity{cfg: cfg, vault: vault, clk: clk, log: cfg.Log}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("open identity: %w", err)
	}
	if err := id.openCA(); err != nil {
		return nil, fmt.Errorf("open identity: %w", err)
	}
	if err := id.Renew(); err != nil {
		return nil, fmt.Errorf("open identity: %w", err)
	}
	if err := id.openUpstream(); err != nil { // Upstream says it to whoever needs the key
		id.log.Warn("the key shown to upstreams cannot be used", "err", err)
	}
	return id, nil
}

func (id *Identity) path(name string) string { return filepath.Join(id.cfg.Dir, name) }

// Key gives a lasting key by its name ("ca", "upstream"), made when it is not
// there yet.
func (id *Identity) Key(name string) (crypto.Signer, error) {
	if id.vault == nil {
		return nil, id.unavailable()
	}
	path := id.path(name + ".key")
	blob, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if blob, err = id.vault.CreateKey(); err == nil {
			err = write(path, blob, 0o600)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	s, err := id.vault.Signer(blob)
	if err != nil {
		return nil, fmt.Errorf("key %s in vault %s: %w", name, id.vault.Kind(), err)
	}
	return s, nil
}

// openCA reads the authority or makes it. One that is there is never replaced: a new one
// would make strangers of all devices.
func (id *Identity) openCA() error {
	path := id.path("ca.pem")
	text, err := os.ReadFile(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err != nil && !fresh {
		return err
	}
	if id.vault == nil {
		id.why = errors.New("the vault could not be opened")
	} else {
		id.key, id.why = id.Key("ca")
	}
	if fresh {
		if id.why != nil {
			return id.why
		}
		if text, err = id.makeCA(); err != nil {
			return fmt.Errorf("make the local authority: %w", err)
		}
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return fmt.Errorf("%s is not a certificate", path)
	}
	if id.ca, err = x509.ParseCertificate(block.Bytes); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	id.caPEM = text
	if id.why == nil {
		if pub, ok := id.ca.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(id.key.Public()) {
			id.key, id.why = nil, fmt.Errorf("%s is not of the key %s; restore the two together", path, id.path("ca.key"))
		}
	}
	return nil
}

// makeCA makes the certificate of the authority.
func (id *Identity) makeCA() ([]byte, error) {
	host, _ := os.Hostname()
	tpl := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{CommonName: "Tidegate local CA " + host, Organization: []string{"Tidegate"}},
		NotBefore: begin, NotAfter: end, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, id.key.Public(), id.key)
	if err != nil {
		return nil, err
	}
	text := encode("CERTIFICATE", der)
	return text, write(id.path("ca.pem"), text, 0o644)
}

// Trouble says why nothing can be issued or renewed, nil when all is well.
func (id *Identity) Trouble() error { return id.why }

// unavailable is the answer to who asks for a signature in trouble.
func (id *Identity) unavailable() error {
	return fault.Wrap(fault.Unavailable, id.why, "the key of the local authority is not available, so no certificate can be issued; tidegate doctor says what to do")
}

// CA gives the certificate of the local authority.
func (id *Identity) CA() *x509.Certificate { return id.ca }

// CAPEM gives the certificate of the local authority as a file's content.
func (id *Identity) CAPEM() []byte { return slices.Clone(id.caPEM) }

// Vault says what keeps the lasting keys: "tpm", "file" or, when it could not be opened,
// "none".
func (id *Identity) Vault() string {
	if id.vault == nil {
		return "none"
	}
	return id.vault.Kind()
}

// ServerTLS gives the configuration of a TLS listener: the present server
// certificate at each handshake, and client certificates asked for but not judged,
// for that is gateway/authz's to do.
func (id *Identity) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		ClientAuth:     tls.RequestClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return id.server.Load(), nil },
	}
}

// ServerExpires says when the present server certificate ends.
func (id *Identity) ServerExpires() time.Time { return id.server.Load().Leaf.NotAfter }

// Renew makes a new server certificate if the present one is due: a third of its
// life is left, the clock is trusted now and was not when it was made or the other
// way round, its names are not those wanted, or there is none.
func (id *Identity) Renew() error { return id.renew(false) }

// Rotate makes a new server certificate with a new key, whether or not it is due.
func (id *Identity) Rotate() error { return id.renew(true) }

func (id *Identity) renew(anyway bool) error {
	id.renewing.Lock()
	defer id.renewing.Unlock()
	names, addrs := id.names()
	now := id.clk.Now()
	have := id.server.Load()
	if have == nil {
		have = id.readServer()
	}
	if have != nil && !anyway && !id.due(have.Leaf, names, addrs, now) {
		id.server.Store(have)
		return nil
	}
	if id.key == nil {
		if have != nil && !anyway && id.server.CompareAndSwap(nil, have) {
			return nil // better than no door at all; Trouble says it
		}
		return id.unavailable()
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("renew the server certificate: %w", err)
	}
	tpl := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{CommonName: names[0], Organization: []string{"Tidegate"}}, DNSNames: names, IPAddresses: addrs,
		NotBefore: begin, NotAfter: end, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if id.clk.Trusted() {
		tpl.NotBefore, tpl.NotAfter = now.Add(-24*time.Hour), now.Add(id.cfg.Lifetime)
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, id.ca, &key.PublicKey, id.key)
	if err != nil {
		return fmt.Errorf("renew the server certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("renew the server certificate: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("renew the server certificate: %w", err)
	}
	// The key first: a pair that does not fit is made anew at the next start.
	if err := errors.Join(write(id.path("server.key"), encode("PRIVATE KEY", secret), 0o600),
		write(id.path("server.pem"), append(encode("CERTIFICATE", der), id.caPEM...), 0o644)); err != nil {
		return fmt.Errorf("renew the server certificate: %w", err)
	}
	id.server.Store(&tls.Certificate{Certificate: [][]byte{der, id.ca.Raw}, PrivateKey: key, Leaf: leaf})
	id.log.Info("server certificate renewed", "until", leaf.NotAfter)
	return nil
}

// due says whether a server certificate must be replaced.
func (id *Identity) due(c *x509.Certificate, names []string, addrs []net.IP, now time.Time) bool {
	if c.CheckSignatureFrom(id.ca) != nil || !slices.Equal(c.DNSNames, names) || !slices.EqualFunc(c.IPAddresses, addrs, net.IP.Equal) {
		return true
	}
	if !id.clk.Trusted() {
		return !c.NotAfter.Equal(end) // a short one may have ended, there is no telling
	}
	return c.NotAfter.Sub(now) < id.cfg.Lifetime/3 || c.NotBefore.After(now) || c.NotAfter.Equal(end)
}

// readServer reads the server certificate; whatever is wrong with it, a new one
// helps.
func (id *Identity) readServer() *tls.Certificate {
	c, err := tls.LoadX509KeyPair(id.path("server.pem"), id.path("server.key"))
	if err != nil {
		return nil
	}
	if c.Leaf == nil {
		if c.Leaf, err = x509.ParseCertificate(c.Certificate[0]); err != nil {
			return nil
		}
	}
	return &c
}

// names gives what the server certificate is for.
func (id *Identity) names() (names []string, addrs []net.IP) {
	names = []string{"localhost"}
	addrs = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	add := func(n string) {
		if n = strings.ToLower(n); n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	if host, err := os.Hostname(); err == nil {
		add(host)
		if short, _, _ := strings.Cut(host, "."); short != "localhost" {
			add(short + ".local")
		}
	}
	for _, n := range id.cfg.Names {
		if ip := net.ParseIP(n); ip == nil {
			add(n)
		} else if !slices.ContainsFunc(addrs, ip.Equal) {
			addrs = append(addrs, ip)
		}
	}
	return names, addrs
}

// checkEvery is how often Run looks whether the server certificate is due.
const checkEvery = time.Hour

// Run renews the server certificate in time. A renewal that fails is tried again;
// the present certificate stays.
func (id *Identity) Run(ctx context.Context, ready func()) error {
	t := id.clk.NewTimer(checkEvery)
	defer t.Stop()
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C():
			if err := id.Renew(); err != nil {
				id.log.Error("server certificate not renewed", "err", err)
			}
			t.Reset(checkEvery)
		}
	}
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// serial makes a random serial number of 127 bits.
func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic("BUG: no randomness: " + err.Error())
	}
	return n
}

// write replaces a file as a whole: after a crash there is the old content or the
// new one.
func write(path string, content []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone after the rename
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
