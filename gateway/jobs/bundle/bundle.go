// Package bundle reads and writes signed jobs: one file that holds a job, the files it
// needs, and a signature over all of it, to be carried to a gateway that no cloud reaches.
//
// A bundle is a tar archive of two members, in either order, so that tar and minisign
// alone can take one apart or make one:
//
//	job.tar           the payload: a tar archive
//	    job.json      Manifest
//	    files/HASH    the content of each file of the manifest, in its order
//	job.tar.minisig   minisign's signature of job.tar, prehashed (its default)
//
// Nothing of the payload is looked at before the signature is found good. Members are
// plain files with exactly these names: no path in a bundle is ever used as one.
//
// The room keeps one fact: of each signer, when the newest bundle was made that was taken.
// An older one, or the same again, is a replay (Accept).
//
//	b, err := bundle.Open(stick, spool, bundle.Limits{Bytes: 1 << 30}, signers)
//	defer b.Close()
//	m := b.Manifest
//	err = b.Files(func(f bundle.File, content io.Reader) error { … })
package bundle

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/jobs"
)

// The names of the members.
const (
	payloadName   = "job.tar"
	signatureName = "job.tar.minisig"
	manifestName  = "job.json"
	filePrefix    = "files/"
)

// Format is what a manifest says it is.
const Format = "tidegate-job-1"

// Bounds.
const (
	maxSignature = 4 << 10   // bytes
	maxManifest  = 256 << 10 // bytes
	maxFiles     = 256
)

// Limits bound what is read.
type Limits struct {
	Bytes int64 // of a whole bundle
}

// Manifest says what the payload holds.
type Manifest struct {
	Format  string           `json:"format"`
	Issued  time.Time        `json:"issued"`
	Job     jobs.CreateInput `json:"job"` // its targets are thing:NAME and group:NAME
	Objects []Object         `json:"objects,omitempty"`
	Streams []Stream         `json:"streams,omitempty"`
	Files   []File           `json:"files,omitempty"`
}

// Object is a name that content is to have.
type Object struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	Hash   string `json:"sha256"`
}

// Stream is a stream that is to be made.
type Stream struct {
	ID          string       `json:"streamId"`
	Description string       `json:"description,omitempty"`
	Files       []StreamFile `json:"files"`
}

// StreamFile is a file of a stream.
type StreamFile struct {
	ID   int    `json:"fileId"`
	Hash string `json:"sha256"`
}

// File is content that the payload holds.
type File struct {
	Hash string `json:"sha256"` // 64 hex digits
	Size int64  `json:"size"`   // bytes
}

// Bundle is one whose signature is good. Close removes what Open has spooled.
type Bundle struct {
	Manifest Manifest
	Signer   Signer
	Comment  string // the trusted comment of the signature
	spool    *os.File
	payload  *tar.Reader // behind the manifest
}

func invalid(format string, args ...any) error { return fault.New(fault.Invalid, format, args...) }

// damaged is what an archive is that cannot be read.
func damaged(err error, what string) error {
	var disk *os.PathError
	if errors.As(err, &disk) {
		return fault.Wrap(fault.Internal, err, "the bundle cannot be kept while it is read")
	}
	return fault.Wrap(fault.Invalid, err, "%s is cut off or damaged; copy it again", what)
}

// Open reads a bundle, keeping its payload in a file in the folder spool, and checks its
// signature and its manifest. It fails with Invalid, TooLarge, Forbidden when it is not
// signed by one of signers, or Full.
func Open(r io.Reader, spool string, l Limits, signers []Signer) (b *Bundle, err error) {
	if len(signers) == 0 {
		return nil, fault.New(fault.Forbidden, "no signed job is taken as no signer is known: name the public key, as minisign made it, in the configuration under jobs.signers")
	}
	tmp, err := os.CreateTemp(spool, "new-*")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "the bundle cannot be kept while it is read")
	}
	b = &Bundle{spool: tmp}
	defer func() {
		if err != nil {
			b.Close()
			b = nil
		}
	}()
	signature, size, err := split(&bounded{r: r, left: l.Bytes, most: l.Bytes}, tmp)
	if err != nil {
		return b, err
	}
	if b.Signer, b.Comment, err = verify(io.NewSectionReader(tmp, 0, size), signature, signers); err != nil {
		return b, err
	}
	b.payload = tar.NewReader(io.NewSectionReader(tmp, 0, size))
	return b, b.manifest()
}

// Close removes what was spooled. It may be called twice.
func (b *Bundle) Close() error {
	err := b.spool.Close()
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return errors.Join(err, os.Remove(b.spool.Name()))
}

// bounded fails when there is more than allowed, where io.LimitReader would make believe
// that this is all.
type bounded struct {
	r          io.Reader
	left, most int64
}

// Read reads on.
func (b *bounded) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fault.New(fault.TooLarge, "the bundle has more than %d bytes, which jobs.bundle_bytes allows", b.most)
	}
	return n, err
}

// split takes a bundle apart: the payload into a file, and the signature.
func split(r io.Reader, payload io.Writer) (signature []byte, size int64, err error) {
	archive := tar.NewReader(r)
	seen := map[string]bool{}
	for range 2 {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, 0, outer(err)
		}
		if err := plain(h); err != nil {
			return nil, 0, err
		}
		if seen[h.Name] {
			return nil, 0, invalid("the bundle holds %s twice", h.Name)
		}
		seen[h.Name] = true
		switch h.Name {
		case payloadName:
			size, err = io.Copy(payload, archive)
		case signatureName:
			if h.Size > maxSignature {
				return nil, 0, invalid("the bundle's signature is larger than a signature can be")
			}
			signature, err = io.ReadAll(archive)
		default:
			return nil, 0, invalid("the bundle holds %q, expected only %s and %s", h.Name, payloadName, signatureName)
		}
		if err != nil {
			return nil, 0, outer(err)
		}
	}
	switch {
	case !seen[payloadName]:
		return nil, 0, invalid("this is no signed job: it holds no %s", payloadName)
	case !seen[signatureName]:
		return nil, 0, fault.New(fault.Forbidden, "the job is not signed: the bundle holds no %s", signatureName)
	}
	if h, err := archive.Next(); err == nil {
		return nil, 0, invalid("the bundle holds %q, expected only %s and %s", h.Name, payloadName, signatureName)
	} else if err != io.EOF {
		return nil, 0, outer(err)
	}
	return signature, size, blank(r)
}

// outer words what is wrong with the archive; what bounded says is said better.
func outer(err error) error {
	var f *fault.Error
	if errors.As(err, &f) {
		return f
	}
	return damaged(err, "the bundle")
}

// blank makes sure that only padding follows an archive.
func blank(r io.Reader) error {
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		for _, c := range buf[:n] {
			if c != 0 {
				return invalid("something follows the bundle in its file")
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return outer(err)
		}
	}
}

// plain refuses members that are more than a name and bytes: links, holes, long names.
func plain(h *tar.Header) error {
	if h.Typeflag != tar.TypeReg || len(h.PAXRecords) > 0 || strings.ContainsFunc(h.Name, func(c rune) bool { return c < ' ' || c > '~' }) {
		return invalid("the bundle holds %q, which is not a plain file", h.Name)
	}
	return nil
}

// next gives a member of the payload that must be called so.
func (b *Bundle) next(name string) (*tar.Header, error) {
	h, err := b.payload.Next()
	switch {
	case err == io.EOF:
		return nil, invalid("the bundle's payload lacks %s", name)
	case err != nil:
		return nil, damaged(err, "the bundle's payload")
	case h.Name != name:
		return nil, invalid("the bundle's payload has %q where %s belongs", h.Name, name)
	}
	return h, plain(h)
}

// Files calls each for every file, in order, and makes sure that there is nothing else. It
// is called once. That the content has the hash is for each to find out: whoever keeps it
// computes it.
func (b *Bundle) Files(each func(f File, content io.Reader) error) error {
	for _, f := range b.Manifest.Files {
		h, err := b.next(filePrefix + f.Hash)
		if err != nil {
			return err
		}
		if h.Size != f.Size {
			return invalid("the file %s has %d bytes in the bundle's payload and %d in its manifest", f.Hash, h.Size, f.Size)
		}
		if err := each(f, b.payload); err != nil {
			return err
		}
	}
	if h, err := b.payload.Next(); err == nil {
		return invalid("the bundle's payload has %q, which its manifest does not name", h.Name)
	} else if err != io.EOF {
		return damaged(err, "the bundle's payload")
	}
	return nil
}

// String names a bundle for a log.
func (b *Bundle) String() string {
	return fmt.Sprintf("job %s, issued %s", b.Manifest.Job.JobID, b.Manifest.Issued.Format(time.RFC3339))
}
