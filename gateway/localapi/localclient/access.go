package localclient

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"tidegate/gateway/fault"
)

// Session is one client of the broker, connected or away.
type Session struct {
	Client        string         `json:"client"`
	Principal     string         `json:"principal"`
	Version       int            `json:"mqtt_version"` // 3 or 5
	Connected     bool           `json:"connected"`
	Address       string         `json:"address,omitempty"`
	Since         time.Time      `json:"since"` // connected, or away
	Persistent    bool           `json:"persistent"`
	Expires       *time.Time     `json:"expires,omitempty"` // away and not to last for ever
	KeepAlive     int64          `json:"keep_alive_seconds"`
	Subscriptions []Subscription `json:"subscriptions"`

	Unacked     int    `json:"unacknowledged"` // messages sent
	Queued      int    `json:"queued"`         // messages in memory
	QueuedBytes int    `json:"queued_bytes"`
	Behind      bool   `json:"behind"`             // reads from the journal
	Position    uint64 `json:"position,omitempty"` // journal number of the oldest message pending

	Lost uint64 `json:"lost,omitempty"` // messages it did not get, as far as they were counted
	Gaps []Gap  `json:"gaps,omitempty"` // which those were, the newest last
}

// Gap is messages that a session does not get any more.
type Gap struct {
	From  uint64    `json:"from"` // numbers in the journal
	To    uint64    `json:"to"`
	Count uint64    `json:"count,omitempty"` // messages of the session among them; 0: not known
	At    time.Time `json:"at"`
	Why   string    `json:"why"`
}

// Subscription is one filter of a session.
type Subscription struct {
	Filter string `json:"filter"`
	QoS    byte   `json:"qos"`
}

// Operator is a person who may administer the gateway.
type Operator struct {
	Name    string        `json:"name"`
	Role    string        `json:"role"`
	Created time.Time     `json:"created"`
	Keys    []OperatorKey `json:"keys"`
}

// OperatorKey is an access key without its secret.
type OperatorKey struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
}

// NewOperator is an operator to be.
type NewOperator struct {
	Name string `json:"name,omitempty"`
	Role string `json:"role"`
}

// Key is a new access key. Its secret is told this once.
type Key struct {
	ID     string `json:"id"`
	Secret string `json:"secret"`
	// File is where in the data folder the gateway has written it to, too.
	File string `json:"file,omitempty"`
}

// Sessions asks for all sessions, by client id.
func (c *Client) Sessions(ctx context.Context) (ss []Session, err error) {
	return ss, c.get(ctx, "/v1/sessions", nil, &ss)
}

// Session asks for the session of a client id.
func (c *Client) Session(ctx context.Context, client string) (s Session, err error) {
	return s, c.get(ctx, "/v1/sessions", url.Values{"client": {client}}, &s)
}

// EndSession disconnects a client and forgets its session.
func (c *Client) EndSession(ctx context.Context, client string) error {
	return c.do(ctx, "DELETE", "/v1/sessions", url.Values{"client": {client}}, nil, nil)
}

// Operators asks for the operators, by name.
func (c *Client) Operators(ctx context.Context) (os []Operator, err error) {
	return os, c.get(ctx, "/v1/operators", nil, &os)
}

// CreateOperator adds an operator with a first key.
func (c *Client) CreateOperator(ctx context.Context, o NewOperator) (k Key, err error) {
	return k, c.json(ctx, "POST", "/v1/operators", nil, o, &k)
}

// SetOperator gives an operator another role.
func (c *Client) SetOperator(ctx context.Context, name, role string) error {
	return c.json(ctx, "PATCH", "/v1/operators/"+url.PathEscape(name), nil, NewOperator{Role: role}, nil)
}

// RemoveOperator takes an operator away with all keys; the last admin stays.
func (c *Client) RemoveOperator(ctx context.Context, name string) error {
	return c.do(ctx, "DELETE", "/v1/operators/"+url.PathEscape(name), nil, nil, nil)
}

// RotateOperator gives an operator a new key beside the present one, which with now is
// gone at once.
func (c *Client) RotateOperator(ctx context.Context, name string, now bool) (k Key, err error) {
	return k, c.do(ctx, "POST", "/v1/operators/"+url.PathEscape(name)+"/keys", url.Values{"now": {strconv.FormatBool(now)}}, nil, &k)
}

// RevokeOperatorKey takes a key away at once.
func (c *Client) RevokeOperatorKey(ctx context.Context, name, id string) error {
	return c.do(ctx, "DELETE", "/v1/operators/"+url.PathEscape(name)+"/keys/"+url.PathEscape(id), nil, nil, nil)
}

// Request is an operation of AWS IoT's control plane, as the model of the API has it.
type Request struct {
	Method, Path string // Path: labels are escaped, see url.PathEscape
	Query        url.Values
	Header       map[string]string
	Body         any // made JSON; nil for none
}

// IoT performs an operation of the control plane in the name of who sits at the machine,
// an admin. into takes the answer; nil when it does not matter.
func (c *Client) IoT(ctx context.Context, r Request, into any) error {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = json.Marshal(r.Body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, "http://gateway/v1/iot"+r.Path+"?"+r.Query.Encode(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	for k, v := range r.Header {
		req.Header.Set(k, v)
	}
	res, err := c.roundTrip(req)
	if err != nil {
		return err
	}
	return read(res, into)
}

func (c *Client) json(ctx context.Context, method, path string, q url.Values, in, into any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return c.do(ctx, method, path, q, body, into)
}

// planeCodes tells the kinds of refusals of the planes apart, which have names of AWS's
// own. A status that is not here is fault.Internal.
var planeCodes = map[int]fault.Code{
	http.StatusBadRequest:         fault.Invalid,
	http.StatusUnauthorized:       fault.Unauthorized,
	http.StatusForbidden:          fault.Forbidden,
	http.StatusNotFound:           fault.NotFound,
	http.StatusNotAcceptable:      fault.Conflict,
	http.StatusConflict:           fault.Conflict,
	http.StatusGone:               fault.LimitExceeded,
	http.StatusServiceUnavailable: fault.Unavailable,
}
