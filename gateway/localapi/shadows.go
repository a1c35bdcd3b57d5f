package localapi

import (
	"cmp"
	"io"
	"net/http"
	"strconv"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/localapi/localclient"
)

// Shadows is the shadow service as the command line sees it. name is empty for the
// classic shadow; by is who asks.
type Shadows interface {
	List(thing string) ([]localclient.ShadowRef, error)
	// Show gives a shadow as it is, or as it was at a time that is not zero.
	Show(thing, name string, at time.Time) (localclient.Shadow, error)
	Update(thing, name string, request []byte, by string) (accepted []byte, err error)
	Remove(thing, name, by string) error
	// Log gives the last max changes since a time, oldest first; 0 has no bound.
	Log(thing, name string, since time.Time, max int) ([]localclient.ShadowChange, error)
	// AddFile keeps content under the name of an object.
	AddFile(bucket, key string, content io.Reader) (localclient.File, error)
}

// maxFile is the largest file the socket takes, in bytes.
const maxFile = 4 << 30

// shadows adds shadows and files.
func (a *API) shadows(m *http.ServeMux) {
	m.HandleFunc("GET /v1/shadows", func(w http.ResponseWriter, r *http.Request) {
		ss, err := a.Shadows.List(r.FormValue("thing"))
		done(w, err, ss)
	})
	m.HandleFunc("GET /v1/shadow", func(w http.ResponseWriter, r *http.Request) {
		at, err := timeParam(r, "at")
		if err != nil {
			refuse(w, fault.New(fault.Invalid, "at must be a time as RFC 3339 has it"))
			return
		}
		s, err := a.Shadows.Show(r.FormValue("thing"), r.FormValue("name"), at)
		done(w, err, s)
	})
	m.HandleFunc("GET /v1/shadow/log", func(w http.ResponseWriter, r *http.Request) {
		since, err := timeParam(r, "since")
		if err != nil {
			refuse(w, fault.New(fault.Invalid, "since must be a time as RFC 3339 has it"))
			return
		}
		max, err := strconv.Atoi(cmp.Or(r.FormValue("max"), "0"))
		if err != nil || max < 0 {
			refuse(w, fault.New(fault.Invalid, "max must be a number, 0 for all"))
			return
		}
		es, err := a.Shadows.Log(r.FormValue("thing"), r.FormValue("name"), since, max)
		done(w, err, es)
	})
	m.HandleFunc("POST /v1/shadow", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		request, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayload))
		if err != nil {
			refuse(w, fault.New(fault.TooLarge, "the request has more than %d bytes", maxPayload))
			return
		}
		accepted, err := a.Shadows.Update(q.Get("thing"), q.Get("name"), request, Caller(r))
		if err != nil {
			refuse(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(accepted) //nolint:errcheck // the client has gone
	})
	m.HandleFunc("DELETE /v1/shadow", func(w http.ResponseWriter, r *http.Request) {
		done(w, a.Shadows.Remove(r.FormValue("thing"), r.FormValue("name"), Caller(r)), nil)
	})
	m.HandleFunc("POST /v1/files", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		f, err := a.Shadows.AddFile(q.Get("bucket"), q.Get("key"), http.MaxBytesReader(w, r.Body, maxFile))
		done(w, err, f)
	})
}
