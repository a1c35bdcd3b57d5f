// Package files is the HTTPS door to the files that jobs deliver: whole or in ranges, so
// that a download that broke off goes on where it was.
//
//	GET /files/HASH           content by its SHA-256
//	GET /objects/BUCKET/KEY   what has a name, as it is now
//
// A device shows its certificate. It gets what a job refers to that is pending on one of
// the certificate's things (streams.Room.Refers), where its policies let it ask for such a
// job. Or it shows no certificate and has the URL from the document of such a job, where
// it stands for a placeholder (spec/jobs.md §2, presignedUrlConfig): URL signs it with a
// key of the gateway's own, for a thing and a time. Whoever may not read something does
// not learn whether it is there.
//
// HEAD, Range, If-Range and the conditions are those of RFC 9110; the entity tag is the
// hash. A sum of ranges that is larger than the file is answered with the whole file.
//
//	door, err := files.New(files.Deps{Files: room, Auth: az, Things: things, Assigned: jobs.Assigned, Clock: clk}, key)
//	url := door.URL("https://gateway:8443", "pump1", "firmware", "fw.bin", time.Hour)
package files

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"tidegate/gateway/authz"
	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/jobs/streams"
	"tidegate/gateway/logs"
	"tidegate/gateway/policy"
)

// Deps are the rooms behind the door.
type Deps struct {
	Files *streams.Room
	Auth  *authz.Authz
	Clock clock.Clock
	Log   *slog.Logger
	// Things gives the things that a certificate is attached to.
	Things func(certificate string) []string
	// Assigned calls each for the document of every job that is pending on a thing, until
	// each returns false.
	Assigned func(thing string, each func(document string) bool) error
}

// Files is the door. It is an http.Handler.
type Files struct {
	Deps
	key []byte
}

// New makes the door; key signs URLs.
func New(d Deps, key []byte) *Files { return &Files{d, key} }

// pace is how long a client may take for the next part of an answer.
const pace = 30 * time.Second

// Serves says whether a request is for this door, by its path.
func Serves(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/files/") || strings.HasPrefix(r.URL.Path, "/objects/")
}

// ServeHTTP answers a request.
func (f *Files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		say(w, http.StatusMethodNotAllowed, "files can be read with GET and HEAD")
		return
	}
	blob, err := f.admit(r)
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	file, err := f.Files.Read(blob.Hash)
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	defer file.Close()
	h := w.Header()
	h.Set("ETag", `"`+blob.Hash+`"`)
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "private, no-transform")
	if sum, err := hex.DecodeString(blob.Hash); err == nil {
		h.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum)+":") // RFC 9530
	}
	http.ServeContent(&paced{ResponseWriter: w, control: http.NewResponseController(w)}, r, "", time.Time{}, file)
}

// paced lets an answer take as long as it needs while it is being taken: large files and
// slow links.
type paced struct {
	http.ResponseWriter
	control *http.ResponseController
}

// Write gives the client time for this part.
func (p *paced) Write(b []byte) (int, error) {
	p.control.SetWriteDeadline(time.Now().Add(pace)) //nolint:errcheck // without one the server's holds
	return p.ResponseWriter.Write(b)
}

// errRefused is all that a stranger hears.
var errRefused = fault.New(fault.Forbidden, "Forbidden")

// admit finds what a request is for, and whether who asks may have it.
func (f *Files) admit(r *http.Request) (streams.Blob, error) {
	if q := r.URL.Query(); q.Has(signatureParam) {
		if err := f.verify(r.URL.EscapedPath(), q); err != nil {
			return streams.Blob{}, err
		}
		return f.find(r.URL)
	}
	p, err := f.Auth.Peer(r.TLS, authz.RemoteOf(r))
	if err != nil {
		return streams.Blob{}, fault.Wrap(fault.Forbidden, err, "Forbidden")
	}
	if p == nil {
		return streams.Blob{}, fault.New(fault.Unauthorized, "a client certificate or a signed URL is needed")
	}
	blob, err := f.find(r.URL)
	if err != nil {
		if fault.Of(err) == fault.Internal {
			return blob, err
		}
		return blob, errRefused
	}
	for _, thing := range f.Things(p.Name()) {
		ok, err := f.assigned(p, thing, blob.Hash)
		if ok || err != nil {
			return blob, err
		}
	}
	return blob, errRefused
}

// assigned says whether content is part of something that a thing has to do and p may
// know of.
func (f *Files) assigned(p *authz.Principal, thing, hash string) (found bool, err error) {
	if !p.May(policy.DescribeJobExecution, thing) && !p.May(policy.Publish, "$aws/things/"+thing+"/jobs/$next/get") {
		return false, nil
	}
	var bad error
	err = f.Assigned(thing, func(document string) bool {
		found, bad = f.Files.Refers(document, hash)
		return !found && bad == nil
	})
	if err == nil {
		err = bad
	}
	return found, err
}

// find gives the content that a path names.
func (f *Files) find(u *url.URL) (streams.Blob, error) {
	if hash, ok := strings.CutPrefix(u.Path, "/files/"); ok {
		return f.Files.Stat(hash)
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(u.Path, "/objects/"), "/")
	return f.Files.Named(bucket, key)
}

// refuse answers with an error.
func (f *Files) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status := map[fault.Code]int{fault.Invalid: http.StatusBadRequest, fault.Unauthorized: http.StatusUnauthorized, fault.Forbidden: http.StatusForbidden,
		fault.NotFound: http.StatusNotFound}[fault.Of(err)]
	switch status {
	case 0:
		f.Log.Error("file cannot be read", logs.Err(err))
		status = http.StatusInternalServerError
	case http.StatusUnauthorized, http.StatusForbidden:
		f.Auth.Refused(authz.Refusal{What: "file", Name: r.URL.Path, Remote: authz.RemoteOf(r), Err: err})
	}
	say(w, status, fault.Message(err))
}

func say(w http.ResponseWriter, status int, text string) {
	body, err := json.Marshal(map[string]string{"message": text})
	if err != nil {
		panic("BUG: a text that is not JSON: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(body) //nolint:errcheck // the client has gone
}
