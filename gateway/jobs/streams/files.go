package streams

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"tidegate/gateway/fault"
	"tidegate/gateway/store"
)

// Blob is content that is kept.
type Blob struct {
	Hash string `json:"hash"` // SHA-256, 64 hex digits
	Size int64  `json:"size"` // bytes
}

// Object is a name for content.
type Object struct {
	Bucket string `json:"bucket,omitempty"`
	Key    string `json:"key,omitempty"`
	At     int64  `json:"at"` // when it was given, milliseconds
	Blob
}

// Add keeps what src gives, and returns when it is on the disk. Something must refer to
// it soon, or Sweep removes it. It fails with TooLarge or Full.
func (r *Room) Add(src io.Reader) (Blob, error) {
	tmp, err := os.CreateTemp(r.dir, "new-*")
	if err != nil {
		return Blob{}, diskError(err)
	}
	defer os.Remove(tmp.Name()) // gone when it was renamed
	defer tmp.Close()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(tmp, sum), io.LimitReader(src, maxObject+1))
	switch {
	case err != nil:
		return Blob{}, diskError(err)
	case n > maxObject:
		return Blob{}, fault.New(fault.TooLarge, "a file has at most %d bytes", int64(maxObject))
	}
	if err := tmp.Sync(); err != nil {
		return Blob{}, diskError(err)
	}
	b := Blob{Hash: hex.EncodeToString(sum.Sum(nil)), Size: n}
	path := r.path(b.Hash)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return Blob{}, diskError(err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return Blob{}, diskError(err)
	}
	for _, dir := range []string{filepath.Dir(path), r.dir} {
		if err := syncDir(dir); err != nil {
			return Blob{}, diskError(err)
		}
	}
	return b, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fault.Wrap(fault.Full, err, "the disk is full")
	}
	return fault.Wrap(fault.Internal, err, "the file cannot be kept")
}

// path is where content lies: in a folder by the first two digits of its hash.
func (r *Room) path(hash string) string { return filepath.Join(r.dir, hash[:2], hash) }

func isHash(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// Stat gives the size of content by its hash.
func (r *Room) Stat(hash string) (Blob, error) {
	if !isHash(hash) {
		return Blob{}, invalid("a hash is 64 hex digits")
	}
	info, err := os.Stat(r.path(hash))
	if errors.Is(err, fs.ErrNotExist) {
		return Blob{}, fault.New(fault.NotFound, "no file has the hash %s", hash)
	}
	if err != nil {
		return Blob{}, diskError(err)
	}
	return Blob{hash, info.Size()}, nil
}

// Read opens content by its hash.
func (r *Room) Read(hash string) (*os.File, error) {
	if _, err := r.Stat(hash); err != nil {
		return nil, err
	}
	f, err := os.Open(r.path(hash))
	if err != nil {
		return nil, diskError(err)
	}
	return f, nil
}

// Name gives content a name in place of what had it.
func (r *Room) Name(tx Tx, bucket, key string, b Blob) error {
	k, ok := objectKey(bucket, key)
	if !ok {
		return invalid("a bucket has 1 to 63 bytes without a slash, and a key 1 to 1024 bytes")
	}
	if _, err := r.Stat(b.Hash); err != nil {
		return err
	}
	tx.Lock(k)
	tx.Put(k, store.JSON(&Object{At: r.clk.Now().UnixMilli(), Blob: b}))
	return nil
}

// Object gives what has a name.
func (r *Room) Object(db interface {
	Get(key string) ([]byte, error)
}, bucket, key string) (Blob, error) {
	var o Object
	k, ok := objectKey(bucket, key)
	if ok {
		var err error
		if ok, err = get(db, k, &o); err != nil {
			return Blob{}, err
		}
	}
	if !ok {
		return Blob{}, fault.New(fault.NotFound, "there is no object %s/%s", bucket, key)
	}
	return o.Blob, nil
}

// Forget takes a name away.
func (r *Room) Forget(tx Tx, bucket, key string) error {
	if _, err := r.Object(tx, bucket, key); err != nil {
		return err
	}
	k, _ := objectKey(bucket, key)
	tx.Lock(k)
	tx.Del(k)
	return nil
}

// Objects lists what has a name, in one bucket or with "" in all, by bucket and key.
func (r *Room) Objects(bucket string) ([]Object, error) {
	prefix := keyObject
	if bucket != "" {
		prefix += bucket + "/"
	}
	list := []Object{}
	var bad error
	err := r.db.Scan(prefix, func(key string, val []byte) bool {
		var o Object
		bad = unpack(val, &o)
		o.Bucket, o.Key, _ = strings.Cut(key[len(keyObject):], "/")
		list = append(list, o)
		return bad == nil
	})
	return list, errors.Join(err, bad)
}

// ParseURL takes the bucket and key out of the URL of an S3 object: with the bucket in
// the path (https://s3.amazonaws.com/b/k, https://s3.eu-west-1.amazonaws.com/b/k) or in
// the host (https://b.s3.amazonaws.com/k).
func ParseURL(s string) (bucket, key string, ok bool) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || !strings.HasSuffix(u.Host, ".amazonaws.com") && !strings.HasSuffix(u.Host, ".amazonaws.com.cn") {
		return "", "", false
	}
	path := strings.TrimPrefix(u.Path, "/")
	if strings.HasPrefix(u.Host, "s3.") || strings.HasPrefix(u.Host, "s3-") {
		bucket, key, _ = strings.Cut(path, "/")
	} else if at := strings.Index(u.Host, ".s3"); at > 0 {
		bucket, key = u.Host[:at], path
	}
	_, ok = objectKey(bucket, key)
	return bucket, key, ok
}

// Document reads the job document at the URL of an S3 object; it is jobs.Deps.Source.
func (r *Room) Document(source string) ([]byte, error) {
	bucket, key, ok := ParseURL(source)
	if !ok {
		return nil, invalid("%q is not the https URL of an S3 object", source)
	}
	b, err := r.Object(r.db, bucket, key)
	if err != nil {
		return nil, err
	}
	const most = 1 << 20
	if b.Size > most {
		return nil, invalid("a job document has at most %d bytes", most)
	}
	f, err := r.Read(b.Hash)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, diskError(err)
	}
	return text, nil
}
