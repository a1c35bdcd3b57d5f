package localapi

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"tidegate/gateway/fault"
	"tidegate/gateway/localapi/localclient"
)

type callerKey struct{}

// withCaller notes who is at the other end of a unix socket.
func withCaller(ctx context.Context, nc net.Conn) context.Context {
	if c, ok := nc.(*net.UnixConn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			var cred *syscall.Ucred
			raw.Control(func(fd uintptr) { cred, _ = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED) }) //nolint:errcheck // cred stays nil
			if cred != nil {
				return context.WithValue(ctx, callerKey{}, "uid:"+strconv.FormatUint(uint64(cred.Uid), 10))
			}
		}
	}
	return ctx
}

// Caller names the user of this machine who has made a request over the socket, as in
// "uid:0".
func Caller(r *http.Request) string {
	name, _ := r.Context().Value(callerKey{}).(string)
	if name == "" {
		return "uid:?"
	}
	return name
}

// planePrefix is where the socket has the control plane.
const planePrefix = "/v1/iot"

// socket serves what the command line may ask. The control plane sees its paths as they
// were sent: a mux would clean them.
func (a *API) socket() http.Handler {
	mux := a.socketMux()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, planePrefix+"/") || a.IoT == nil {
			mux.ServeHTTP(w, r)
			return
		}
		http.StripPrefix(planePrefix, a.IoT).ServeHTTP(w, r)
	})
}

// access adds sessions and operators.
func (a *API) access(m *http.ServeMux) {
	m.HandleFunc("GET /v1/sessions", func(w http.ResponseWriter, r *http.Request) {
		ss := a.Sessions()
		if !r.URL.Query().Has("client") {
			answer(w, ss)
			return
		}
		id := r.FormValue("client")
		i := slices.IndexFunc(ss, func(s localclient.Session) bool { return s.Client == id })
		if i < 0 {
			refuse(w, noSession(id))
			return
		}
		answer(w, ss[i])
	})
	m.HandleFunc("DELETE /v1/sessions", func(w http.ResponseWriter, r *http.Request) {
		if id := r.FormValue("client"); !a.EndSession(id) {
			refuse(w, noSession(id))
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})

	m.HandleFunc("GET /v1/operators", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.Operators.List()) })
	m.HandleFunc("POST /v1/operators", func(w http.ResponseWriter, r *http.Request) {
		in, ok := operator(w, r)
		if !ok {
			return
		}
		key, err := a.Operators.Create(in.Name, in.Role)
		done(w, err, key)
	})
	m.HandleFunc("PATCH /v1/operators/{name}", func(w http.ResponseWriter, r *http.Request) {
		if in, ok := operator(w, r); ok {
			done(w, a.Operators.SetRole(r.PathValue("name"), in.Role), nil)
		}
	})
	m.HandleFunc("DELETE /v1/operators/{name}", func(w http.ResponseWriter, r *http.Request) {
		done(w, a.Operators.Remove(r.PathValue("name")), nil)
	})
	m.HandleFunc("POST /v1/operators/{name}/keys", func(w http.ResponseWriter, r *http.Request) {
		key, err := a.Operators.Rotate(r.PathValue("name"), r.FormValue("now") == "true")
		done(w, err, key)
	})
	m.HandleFunc("DELETE /v1/operators/{name}/keys/{id}", func(w http.ResponseWriter, r *http.Request) {
		done(w, a.Operators.Revoke(r.PathValue("name"), r.PathValue("id")), nil)
	})
}

func noSession(client string) error {
	return fault.New(fault.NotFound, "the client %s has no session", client)
}

// operator reads an operator to be.
func operator(w http.ResponseWriter, r *http.Request) (in localclient.NewOperator, ok bool) {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&in); err != nil {
		refuse(w, fault.New(fault.Invalid, "the body is not an operator: %v", err))
		return in, false
	}
	return in, true
}

// done answers with v, or with nothing when that is nil, unless err.
func done(w http.ResponseWriter, err error, v any) {
	switch {
	case err != nil:
		refuse(w, err)
	case v == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		answer(w, v)
	}
}
