package files

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tidegate/gateway/fault"
)

// The parameters of a signed URL.
const (
	thingParam     = "thing"
	expiresParam   = "expires" // seconds since 1970
	signatureParam = "signature"
)

// keySize is the length of a key in bytes.
const keySize = 32

// Key reads the key that signs URLs from a file, which is made when it is missing. One
// that has another length is an error.
func Key(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if err == nil && len(key) != keySize {
		return nil, fmt.Errorf("%s has %d bytes, expected %d: remove it to get a new one", path, len(key), keySize)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key = make([]byte, keySize)
	rand.Read(key)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	next := path + ".new" // a half-written one must not be found
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(key)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	return key, os.Rename(next, path)
}

// URL gives the URL, below base, of an object: whoever has it may read the object for as
// long as valid. It is made for a thing, whose name stands in it.
func (f *Files) URL(base, thing, bucket, key string, valid time.Duration) string {
	u := url.URL{Path: "/objects/" + bucket + "/" + key}
	path := u.EscapedPath()
	expires := strconv.FormatInt(f.Clock.Now().Add(valid).Unix(), 10)
	q := url.Values{thingParam: {thing}, expiresParam: {expires}, signatureParam: {f.sign(path, thing, expires)}}
	return base + path + "?" + q.Encode()
}

// sign signs what a URL says. Lengths keep the parts apart.
func (f *Files) sign(path, thing, expires string) string {
	mac := hmac.New(sha256.New, f.key)
	for _, part := range []string{"tidegate file 1", path, thing, expires} {
		fmt.Fprintf(mac, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// verify judges a signed URL.
func (f *Files) verify(path string, q url.Values) error {
	for _, name := range []string{thingParam, expiresParam, signatureParam} {
		if len(q[name]) != 1 {
			return fault.New(fault.Forbidden, "the URL's signature is not complete")
		}
	}
	want := f.sign(path, q.Get(thingParam), q.Get(expiresParam))
	if !hmac.Equal([]byte(want), []byte(strings.ToLower(q.Get(signatureParam)))) {
		return fault.New(fault.Forbidden, "the URL's signature does not fit it")
	}
	end, err := strconv.ParseInt(q.Get(expiresParam), 10, 64)
	if err != nil || f.Clock.Now().Unix() >= end {
		return fault.New(fault.Forbidden, "the URL has expired; the job's document, asked for again, has a new one")
	}
	return nil
}
