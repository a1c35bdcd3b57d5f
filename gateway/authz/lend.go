package authz

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"tidegate/gateway/api/sigv4"
	"tidegate/gateway/fault"
)

// Credentials of roles are not kept anywhere. The session token says what they are for,
// encrypted and authenticated with a key of the gateway, and the secret key follows from
// the token by another: they outlive a restart, and all of them end with the key.
//
//	token  = base64url(nonce 12 bytes | AES-256-GCM(JSON of loan))
//	secret = base64(first 30 bytes of HMAC-SHA-256(token)), 40 characters as with AWS

// lentPrefix begins the access keys of such credentials, as it does those of AWS.
const lentPrefix = "ASIA"

// maxToken bounds a session token, in bytes; a name has at most 128 characters of up to
// six bytes of JSON each.
const maxToken = 4096

// Lent is credentials of a role.
type Lent struct {
	sigv4.Credentials
	Expires time.Time // to the second
}

// lending makes and opens session tokens.
type lending struct {
	secret func() ([]byte, error)

	mu    sync.Mutex // guards what follows
	seal  cipher.AEAD
	mac   []byte
	wrong error     // why the secret could not be had
	again time.Time // when it is asked for again
}

// patience is how long the secret is not asked for again: strangers must not keep a TPM busy
// that is in trouble.
const patience = 10 * time.Second

// Lends has credentials of roles made, with keys that follow from a secret of 32 bytes. It
// is asked for when they are first needed, and a while after an error again.
func (a *Authz) Lends(secret func() ([]byte, error)) { a.lending.secret = secret }

// keys gives the two keys.
func (l *lending) keys(now time.Time) (cipher.AEAD, []byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seal != nil {
		return l.seal, l.mac, nil
	}
	if l.secret == nil {
		return nil, nil, fault.New(fault.Unavailable, "credentials of roles are not made here")
	}
	if l.wrong != nil && now.Before(l.again) {
		return nil, nil, l.wrong
	}
	secret, err := l.secret()
	if err != nil {
		l.wrong, l.again = fault.Wrap(fault.Unavailable, err, "the key of session tokens cannot be had"), now.Add(patience)
		return nil, nil, l.wrong
	}
	k, err := hkdf.Key(sha256.New, secret, nil, "tidegate session token 1", 64)
	if err != nil {
		return nil, nil, fmt.Errorf("derive the key of session tokens: %w", err)
	}
	block, err := aes.NewCipher(k[:32])
	if err != nil {
		return nil, nil, fmt.Errorf("derive the key of session tokens: %w", err)
	}
	if l.seal, err = cipher.NewGCM(block); err != nil {
		return nil, nil, fmt.Errorf("derive the key of session tokens: %w", err)
	}
	l.mac = k[32:]
	return l.seal, l.mac, nil
}

func secretOf(mac []byte, token string) string {
	h := hmac.New(sha256.New, mac)
	h.Write([]byte(token))
	return base64.StdEncoding.EncodeToString(h.Sum(nil)[:30])
}

// Lend makes credentials for what Assume has judged. Each call makes others.
func (a *Authz) Lend(l *Loan) (*Lent, error) {
	seal, mac, err := a.lending.keys(a.clk.Now())
	if err != nil {
		return nil, err
	}
	var id [10]byte
	rand.Read(id[:])
	out := &Lent{Expires: a.clk.Now().Add(l.Duration).UTC().Truncate(time.Second)}
	out.AccessKey = lentPrefix + base32.StdEncoding.EncodeToString(id[:])
	text, err := json.Marshal(loan{AccessKey: out.AccessKey, Alias: l.Alias, Role: a.roleName(l.Role), Certificate: l.Certificate, Thing: l.Thing, Expires: out.Expires.Unix()})
	if err != nil {
		panic("BUG: texts that are not JSON: " + err.Error())
	}
	nonce := make([]byte, seal.NonceSize())
	rand.Read(nonce)
	out.Token = base64.RawURLEncoding.EncodeToString(seal.Seal(nonce, nonce, text, nil))
	out.Secret = secretOf(mac, out.Token)
	return out, nil
}

// lent gives what credentials are for, and their secret key: sigv4.ErrKey for those that
// were not made here, sigv4.ErrToken for those that have ended. The caller has yet to see
// that the secret key was used.
func (a *Authz) lent(accessKey, token string) (*role, string, error) {
	if token == "" || len(token) > maxToken {
		return nil, "", sigv4.ErrKey
	}
	seal, mac, err := a.lending.keys(a.clk.Now())
	if err != nil {
		return nil, "", err
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	n := seal.NonceSize()
	if err != nil || len(raw) < n {
		return nil, "", sigv4.ErrKey
	}
	text, err := seal.Open(nil, raw[:n], raw[n:], nil)
	if err != nil {
		return nil, "", sigv4.ErrKey
	}
	r := &role{a: a}
	if json.Unmarshal(text, &r.loan) != nil || r.AccessKey != accessKey {
		return nil, "", sigv4.ErrKey
	}
	if a.clk.Now().Unix() >= r.Expires || !r.holds() {
		return nil, "", sigv4.ErrToken
	}
	return r, secretOf(mac, token), nil
}
