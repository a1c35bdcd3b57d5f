// Package lend is AWS IoT's credentials provider: devices exchange their certificate for
// credentials of a role.
//
//	GET /role-aliases/ALIAS/credentials     over mutual TLS, with x-amzn-iot-thingname where the device wants to be known as a thing
//	{"credentials":{"accessKeyId":"ASIA…","secretAccessKey":"…","sessionToken":"…","expiration":"2026-05-04T13:00:00Z"}}
//
// Who gets what is decided and made by gateway/authz; there it is also said what the
// credentials are good for. Nothing is handed out before it stands in the audit log. A
// device that asks again within a minute is given the same: it is cheap to ask, and must
// not be a way to fill the log.
//
//	h := lend.New(lend.Deps{Auth: az, Record: auditLog.Lent, Clock: clk, Log: log})
//
// Source: spec/identity.md §4; developer guide, "Authorizing direct calls to AWS services
// using AWS IoT Core credential provider".
package lend

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/gateway/api/restjson"
	"tidegate/gateway/authz"
	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/metrics"
	"tidegate/gateway/registry"
)

// Deps are the rooms behind the door.
type Deps struct {
	Auth *authz.Authz
	// Record writes down who was given what; what cannot be written is not given.
	Record func(to *authz.Loan, what *authz.Lent) error
	Clock  clock.Clock
	Log    *slog.Logger // nil: silent
}

const (
	same = time.Minute // for how long who asks again is given the same
	most = 1024        // how many of those are remembered; beyond, all are forgotten
)

// Lend is the door. It is an http.Handler.
type Lend struct {
	Deps
	server restjson.Server
	lent   atomic.Uint64

	mu   sync.Mutex // guards what follows
	last map[authz.Loan]given
}

type given struct {
	*authz.Lent
	at time.Time
}

// New makes the door.
func New(d Deps) *Lend {
	l := &Lend{Deps: d, last: map[authz.Loan]given{}}
	l.server = restjson.Server{Dialect: dialect, MaxBody: 1 << 10, Log: d.Log, Refused: l.refused,
		Authorize: func(*restjson.Op, *http.Request, []byte) (any, error) { return nil, nil }, // the operation does
		Ops:       []restjson.Op{restjson.Handle("AssumeRoleWithCertificate", "GET", "/role-aliases/{roleAlias}/credentials", l.answer)}}
	return l
}

// Serves says whether the request is for this door.
func (l *Lend) Serves(r *http.Request) bool { return l.server.Serves(r) }

// ServeHTTP answers a request.
func (l *Lend) ServeHTTP(w http.ResponseWriter, r *http.Request) { l.server.ServeHTTP(w, r) }

// Metrics registers the door's counter.
func (l *Lend) Metrics(m *metrics.Set) {
	m.Counter("tidegate_credentials_lent_total", "Credentials of roles that devices were given for their certificate.", func() float64 { return float64(l.lent.Load()) })
}

type credentials struct {
	AccessKey string `json:"accessKeyId"`
	Secret    string `json:"secretAccessKey"`
	Token     string `json:"sessionToken"`
	Expires   string `json:"expiration"`
}

// answer hands credentials out.
func (l *Lend) answer(c *restjson.Call, in *struct {
	Alias string `at:"path,roleAlias"`
	Thing string `at:"header,x-amzn-iot-thingname"`
}) (any, error) {
	to, err := l.Auth.Assume(c.Request.TLS, authz.RemoteOf(c.Request), in.Alias, in.Thing)
	if err != nil {
		return nil, err
	}
	what, err := l.give(to)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]credentials{"credentials": {what.AccessKey, what.Secret, what.Token, what.Expires.Format(time.RFC3339)}})
	return restjson.Raw{Header: http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}}, Body: body}, err
}

// give makes credentials and writes that down, or gives the last ones again.
func (l *Lend) give(to *authz.Loan) (*authz.Lent, error) {
	now := l.Clock.Now()
	l.mu.Lock()
	g, ok := l.last[*to]
	l.mu.Unlock()
	if ok && !now.Before(g.at) && now.Sub(g.at) < same {
		return g.Lent, nil
	}
	what, err := l.Auth.Lend(to)
	if err != nil {
		return nil, err
	}
	if err := l.Record(to, what); err != nil {
		return nil, err
	}
	l.mu.Lock()
	if len(l.last) >= most {
		clear(l.last)
	}
	l.last[*to] = given{what, now}
	l.mu.Unlock()
	l.lent.Add(1)
	return what, nil
}

// refused tells of who was given nothing.
func (l *Lend) refused(op *restjson.Op, r *http.Request, _ any, err error) {
	x := authz.Refusal{What: op.Name, Name: r.URL.Path, Remote: authz.RemoteOf(r), Err: err}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		x.Principal = registry.CertificateID(r.TLS.PeerCertificates[0])
	}
	l.Auth.Refused(x)
}

// dialect turns an error into what the wire shows. Why a device is refused is for the
// audit log.
func dialect(err error) restjson.Problem {
	switch fault.Of(err) {
	case fault.Unauthorized, fault.Forbidden:
		return restjson.Problem{Status: http.StatusForbidden, Name: "AccessDeniedException", Message: "Access Denied"}
	case fault.NotFound:
		return restjson.Problem{Status: http.StatusNotFound, Name: "ResourceNotFoundException", Message: fault.Message(err)}
	case fault.Invalid, fault.TooLarge:
		return restjson.Problem{Status: http.StatusBadRequest, Name: "InvalidRequestException", Message: fault.Message(err)}
	case fault.Unavailable, fault.Full, fault.Timeout, fault.Throttled:
		return restjson.Problem{Status: http.StatusServiceUnavailable, Name: "ServiceUnavailableException", Message: fault.Message(err)}
	}
	return restjson.Problem{Status: http.StatusInternalServerError, Name: "InternalFailureException", Message: fault.Message(err)}
}
