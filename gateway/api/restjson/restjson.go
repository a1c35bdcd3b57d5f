// Package restjson is the machine behind AWS's restJson1 services. It knows no
// operation: a door lists its operations ([Handle]) and says who may call them and
// how errors look ([Server]).
//
// An operation's input is a struct. Fields with an `at` tag come from the request
// line or a header, all others are members of the JSON body:
//
//	type in struct {
//		Name  string `at:"path,thingName"`
//		Max   int    `at:"query,maxResults"`
//		Owner string `at:"header,x-amzn-principal" need:""`
//		Type  string `json:"thingTypeName"`
//	}
//	ops := []restjson.Op{
//		restjson.Handle("CreateThing", "POST", "/things/{thingName}", func(c *restjson.Call, in *in) (any, error) { … }),
//	}
//
// Labels are matched on the path as it was sent and decoded afterwards, so that an
// encoded slash stays within its label; nothing is cleaned or redirected. A label
// written {name+} takes the rest of the path. What the operation returns becomes the
// JSON body, {} for nil; [Raw] is sent as it is.
//
// Source: "AWS restJson1 protocol" (Smithy), and what the SDKs send.
package restjson

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"tidegate/gateway/fault"
)

// Op is one operation.
type Op struct {
	Name   string // "CreateThing"
	Method string
	Path   string // "/things/{thingName}"

	segments []string
	call     func(c *Call, labels map[string]string, body []byte) (any, error)
}

// Call is a request on its way through an operation.
type Call struct {
	Op      *Op
	Request *http.Request
	Who     any    // what Authorize returned
	ID      string // of the request, as in the header x-amzn-RequestId
}

// Context gives the request's context.
func (c *Call) Context() context.Context { return c.Request.Context() }

// Raw is an answer that is not JSON or not with status 200.
type Raw struct {
	Status int // 0 means 200
	Header http.Header
	Body   []byte
}

// Problem is an error as the wire shows it.
type Problem struct {
	Status  int
	Name    string         // "ResourceNotFoundException"
	Message string         // safe to show
	Members map[string]any // further members of the body
}

// Server serves a list of operations.
type Server struct {
	Ops []Op
	// Authorize says who calls; body is the whole body, for its signature. An error
	// is answered in the Dialect. op is never nil: an unknown operation is answered
	// before anybody is asked.
	Authorize func(op *Op, r *http.Request, body []byte) (who any, err error)
	// Dialect turns an error into what the wire shows.
	Dialect func(err error) Problem
	// Refused is told of requests that were, by Authorize or by the operation; who is
	// what Authorize returned. Nil: nobody is.
	Refused func(op *Op, r *http.Request, who any, err error)
	// Label checks a label of the path before its operation sees it. Nil: all are good.
	Label func(name, value string) error
	// MaxBody is the largest body in bytes; a larger one is fault.TooLarge.
	MaxBody int64
	// Trace adds the request's id to the body of errors, as traceId.
	Trace bool
	// WrongMethod is the error of a path that is served with another method. Empty: such
	// a request is an unknown operation like any other.
	WrongMethod string
	// Unknown is told of requests that are for no operation; what is a known name or
	// method and path. Nil: nobody is.
	Unknown func(r *http.Request, what string)
	// Unserved are operations that clients know and that are answered by their name as not
	// served; see [Named].
	Unserved []Op
	Log      *slog.Logger // nil: silent
}

// Handle makes an operation of a function. T is the input struct.
func Handle[T any](name, method, path string, do func(c *Call, in *T) (any, error)) Op {
	fields := fieldsOf(reflect.TypeFor[T](), name)
	return Op{Name: name, Method: method, Path: path, segments: split(strings.TrimSuffix(path, "/")),
		call: func(c *Call, labels map[string]string, body []byte) (any, error) {
			in := new(T)
			if err := decode(reflect.ValueOf(in).Elem(), fields, c.Request, labels, body); err != nil {
				return nil, err
			}
			return do(c, in)
		}}
}

// Named makes an operation that is known but not served; see [Server.Unserved].
func Named(name, method, path string) Op {
	return Op{Name: name, Method: method, Path: path, segments: split(strings.TrimSuffix(path, "/"))}
}

func split(path string) []string { return strings.Split(strings.TrimPrefix(path, "/"), "/") }

// Serves says whether there is an operation for the path of r, with whatever method.
func (s *Server) Serves(r *http.Request) bool {
	segments := split(r.URL.EscapedPath())
	for i := range s.Ops {
		if _, _, ok := s.Ops[i].match(segments); ok {
			return true
		}
	}
	return false
}

// Knows says whether there is an operation for r.
func (s *Server) Knows(r *http.Request) bool {
	op, _ := s.find(r)
	return op != nil
}

// find looks for the operation of a request. A literal segment is preferred to a
// label: POST /things/x before POST /{a}/{b}.
func (s *Server) find(r *http.Request) (best *Op, labels map[string]string) { return find(s.Ops, r) }

func find(ops []Op, r *http.Request) (best *Op, labels map[string]string) {
	segments := split(r.URL.EscapedPath())
	most := -1
	for i := range ops {
		op := &ops[i]
		if op.Method != r.Method {
			continue
		}
		if l, literals, ok := op.match(segments); ok && literals > most {
			best, labels, most = op, l, literals
		}
	}
	return best, labels
}

func (o *Op) match(segments []string) (labels map[string]string, literals int, ok bool) {
	labels = map[string]string{}
	if n := len(segments); n == len(o.segments)+1 && segments[n-1] == "" && !strings.HasSuffix(o.segments[n-2], "+}") {
		segments = segments[:n-1] // a slash at the end says nothing, but in a topic it does
	}
	for i, want := range o.segments {
		if name, ok := strings.CutSuffix(want, "+}"); ok && i < len(segments) {
			v, err := url.PathUnescape(strings.Join(segments[i:], "/"))
			labels[name[1:]] = v
			return labels, literals, err == nil && v != ""
		}
		if i >= len(segments) {
			return nil, 0, false
		}
		if strings.HasPrefix(want, "{") {
			v, err := url.PathUnescape(segments[i])
			if err != nil || v == "" {
				return nil, 0, false
			}
			labels[want[1:len(want)-1]] = v
		} else if want != segments[i] {
			return nil, 0, false
		} else {
			literals++
		}
	}
	return labels, literals, len(segments) == len(o.segments)
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := requestID()
	w.Header().Set("x-amzn-RequestId", id)
	op, labels := s.find(r)
	if op == nil && s.WrongMethod != "" && s.Serves(r) {
		s.fail(w, r, id, Problem{Status: http.StatusMethodNotAllowed, Name: s.WrongMethod, Message: fmt.Sprintf("%s is not for %s", r.Method, r.URL.Path)}, nil)
		return
	}
	if op == nil {
		what := r.Method + " " + r.URL.Path
		if known, _ := find(s.Unserved, r); known != nil {
			what = known.Name
		}
		if s.Unknown != nil {
			s.Unknown(r, what)
		}
		s.fail(w, r, id, Problem{Status: http.StatusNotFound, Name: "UnknownOperationException", Message: what + " is not served by this gateway"}, nil)
		return
	}
	out, err := s.answer(op, labels, w, r, id)
	if err != nil {
		s.fail(w, r, id, s.Dialect(err), err)
		return
	}
	switch out := out.(type) {
	case Raw:
		for k, v := range out.Header {
			w.Header()[k] = v
		}
		if out.Status != 0 {
			w.WriteHeader(out.Status)
		}
		w.Write(out.Body) //nolint:errcheck // the client has gone
		return
	case nil:
		s.write(w, http.StatusOK, struct{}{})
		return
	}
	s.write(w, http.StatusOK, out)
}

// answer reads, authorizes and calls.
func (s *Server) answer(op *Op, labels map[string]string, w http.ResponseWriter, r *http.Request, id string) (any, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.MaxBody))
	if err != nil {
		if _, ok := err.(*http.MaxBytesError); ok {
			return nil, fault.New(fault.TooLarge, "the request body is larger than %d bytes", s.MaxBody)
		}
		return nil, fault.Wrap(fault.Invalid, err, "the request body could not be read")
	}
	who, err := s.Authorize(op, r, body)
	if err != nil {
		s.refused(op, r, who, err)
		return nil, err
	}
	for _, segment := range op.segments {
		if name := strings.Trim(segment, "{+}"); s.Label != nil && name != segment {
			if err := s.Label(name, labels[name]); err != nil {
				s.refused(op, r, who, err)
				return nil, err
			}
		}
	}
	out, err := op.call(&Call{Op: op, Request: r, Who: who, ID: id}, labels, body)
	if err != nil {
		s.refused(op, r, who, err)
	}
	return out, err
}

func (s *Server) refused(op *Op, r *http.Request, who any, err error) {
	if s.Refused != nil {
		s.Refused(op, r, who, err)
	}
}

// Refuse answers a request that is not for an operation of s with an error of its dialect.
func (s *Server) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	id := requestID()
	w.Header().Set("x-amzn-RequestId", id)
	s.fail(w, r, id, s.Dialect(err), err)
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, id string, p Problem, err error) {
	if s.Log != nil && p.Status >= 500 {
		s.Log.Error("request failed", "request", id, "path", r.URL.Path, "err", err)
	}
	w.Header().Set("x-amzn-ErrorType", p.Name)
	body := map[string]any{"message": p.Message}
	if s.Trace {
		body["traceId"] = id
	}
	for k, v := range p.Members {
		body[k] = v
	}
	s.write(w, p.Status, body)
}

func (s *Server) write(w http.ResponseWriter, status int, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("BUG: an answer that is not JSON: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()-1))
	w.WriteHeader(status)
	w.Write(b.Bytes()[:b.Len()-1]) //nolint:errcheck // the client has gone
}

func requestID() string {
	var b [16]byte
	rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Time is a moment as restJson1 writes it in a body: seconds of the epoch, with
// milliseconds behind the point.
type Time time.Time

// MarshalJSON gives the number, null for the zero time.
func (t Time) MarshalJSON() ([]byte, error) {
	if time.Time(t).IsZero() {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(time.Time(t).UnixMilli())/1000, 'f', -1, 64), nil
}

// UnmarshalJSON reads the number.
func (t *Time) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.Abs(f) > 1e11 {
		return fmt.Errorf("%s is no time", b)
	}
	*t = Time(time.UnixMilli(int64(math.Round(f * 1000))).UTC())
	return nil
}
