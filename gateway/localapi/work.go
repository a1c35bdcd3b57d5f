package localapi

import (
	"io"
	"net/http"
	"strconv"

	"tidegate/gateway/fault"
	"tidegate/gateway/localapi/localclient"
)

// Work is what the command line may do with jobs and files beyond the control plane.
type Work interface {
	// ReadFile opens what has the name of an object.
	ReadFile(bucket, key string) (content io.ReadCloser, size int64, err error)
	// ExportJob prepares the payload of a signed job; write writes it.
	ExportJob(id string) (write func(io.Writer) error, err error)
	// ImportJob takes a signed job, brought by somebody.
	ImportJob(bundle io.Reader, by string) (localclient.Imported, error)
}

// work adds them.
func (a *API) work(m *http.ServeMux) {
	m.HandleFunc("GET /v1/files", func(w http.ResponseWriter, r *http.Request) {
		content, size, err := a.Work.ReadFile(r.FormValue("bucket"), r.FormValue("key"))
		if err != nil {
			refuse(w, err)
			return
		}
		defer content.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		io.Copy(w, content) //nolint:errcheck // who reads sees that it is shorter
	})
	m.HandleFunc("GET /v1/jobs/{id}/payload", func(w http.ResponseWriter, r *http.Request) {
		write, err := a.Work.ExportJob(r.PathValue("id"))
		if err != nil {
			refuse(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/x-tar")
		if err := write(w); err != nil {
			a.Log.Warn("export of a job broke off", "job", r.PathValue("id"), "err", err)
			panic(http.ErrAbortHandler) // so that the half of it is not taken for all
		}
	})
	m.HandleFunc("POST /v1/jobs/import", func(w http.ResponseWriter, r *http.Request) {
		x, err := a.Work.ImportJob(r.Body, Caller(r))
		io.Copy(io.Discard, r.Body) //nolint:errcheck // who still sends would not hear the answer
		if err != nil && fault.Of(err) == fault.Internal {
			a.Log.Error("import of a job failed", "err", err)
		}
		done(w, err, x)
	})
}
