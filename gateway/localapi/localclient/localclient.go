// Package localclient speaks to a running gateway over its unix socket, and holds the
// types of that interface. The command line is its user; whoever may open the socket
// (mode 0600, so the gateway's user and root) may do everything.
//
// The interface is JSON over HTTP on DATA/run/tidegate.sock:
//
//	GET  /v1/status                        → Status
//	POST /v1/publish?topic=T&qos=0&retain= ← the payload
//	GET  /v1/tail?filter=F&since=RFC3339   → Message, one a line, until either side hangs up
//	GET  /v1/devices                       → []Device
//	POST /v1/devices/NAME/test             → []Reading, read from the device now
//	GET  /v1/upstreams                     → []Upstream
//	DELETE /v1/upstreams/NAME              gives up what waits for one that is no longer configured
//	GET  /v1/rules                         → []Rule
//	GET  /v1/ledger?since=RFC3339&max=N    → []Loss
//	GET  /v1/shadows?thing=T               → []ShadowRef, of all things without T
//	GET  /v1/shadow?thing=T&name=N&at=     → Shadow; POST ← an update request; DELETE
//	GET  /v1/shadow/log?thing=T&name=N&since= → []ShadowChange
//	POST /v1/files?bucket=B&key=K          ← content → File
//	GET  /v1/files?bucket=B&key=K          → content
//	GET  /v1/jobs/ID/payload               → what of a job is to be signed
//	POST /v1/jobs/import                   ← a signed job → Imported
//	GET  /v1/sessions                      → []Session
//	GET, DELETE /v1/sessions?client=ID     → Session
//	GET  /v1/operators                     → []Operator
//	POST /v1/operators                     ← NewOperator → Key
//	PATCH, DELETE /v1/operators/NAME       ← NewOperator with the new role
//	POST /v1/operators/NAME/keys?now=true  → Key; now: the older ones are gone
//	DELETE /v1/operators/NAME/keys/ID
//	…    /v1/iot/…                         AWS IoT's control plane, unsigned
//
// A refusal is an HTTP status with an Error as its body; Client turns it back into
// the *fault.Error it was.
package localclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"tidegate/gateway/fault"
)

// Socket is where in the data folder the gateway listens.
const Socket = "run/tidegate.sock"

// Client asks one gateway. Its methods may be called concurrently.
type Client struct {
	data string
	http *http.Client
}

// New gives a client for the gateway whose data folder is data. Nothing is opened yet.
func New(data string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		path, done, err := ShortPath(filepath.Join(data, Socket))
		if err != nil {
			return nil, err
		}
		defer done()
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	return &Client{data: data, http: &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConns: 1}}}
}

// Close lets go of idle connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Status asks how everything is.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.get(ctx, "/v1/status", nil, &s)
}

// Devices asks for the devices with their last readings.
func (c *Client) Devices(ctx context.Context) (ds []Device, err error) {
	return ds, c.get(ctx, "/v1/devices", nil, &ds)
}

// TestDevice has a device read once, now.
func (c *Client) TestDevice(ctx context.Context, name string) (rs []Reading, err error) {
	return rs, c.do(ctx, "POST", "/v1/devices/"+url.PathEscape(name)+"/test", nil, nil, &rs)
}

// Upstreams asks for the state of the ways up.
func (c *Client) Upstreams(ctx context.Context) (us []Upstream, err error) {
	return us, c.get(ctx, "/v1/upstreams", nil, &us)
}

// Rules asks for the rules with their counts, in the order of their names.
func (c *Client) Rules(ctx context.Context) (rs []Rule, err error) {
	return rs, c.get(ctx, "/v1/rules", nil, &rs)
}

// ForgetUpstream gives up what the journal holds for an upstream that is no longer
// configured; one that is, is fault.Conflict.
func (c *Client) ForgetUpstream(ctx context.Context, name string) error {
	return c.do(ctx, "DELETE", "/v1/upstreams/"+url.PathEscape(name), nil, nil, nil)
}

// Ledger asks what was lost since a time, newest last, at most max entries.
func (c *Client) Ledger(ctx context.Context, since time.Time, max int) (ls []Loss, err error) {
	return ls, c.get(ctx, "/v1/ledger", url.Values{"since": {since.Format(time.RFC3339Nano)}, "max": {strconv.Itoa(max)}}, &ls)
}

// Publish sends a message down the road and waits until it is acknowledged.
func (c *Client) Publish(ctx context.Context, topic string, qos byte, retain bool, payload []byte) error {
	q := url.Values{"topic": {topic}, "qos": {strconv.Itoa(int(qos))}, "retain": {strconv.FormatBool(retain)}}
	return c.do(ctx, "POST", "/v1/publish", q, payload, nil)
}

// Tail calls each for every message that matches filter, from those the journal has
// kept since a time (none when it is zero) to those to come, until ctx ends (nil),
// each returns an error (that), or the gateway hangs up.
func (c *Client) Tail(ctx context.Context, filter string, since time.Time, each func(Message) error) error {
	q := url.Values{"filter": {filter}}
	if !since.IsZero() {
		q.Set("since", since.Format(time.RFC3339Nano))
	}
	res, err := c.send(ctx, "GET", "/v1/tail", q, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	for dec := json.NewDecoder(res.Body); ; {
		var m Message
		if err := dec.Decode(&m); ctx.Err() != nil {
			return nil
		} else if err != nil {
			return fault.Wrap(fault.Unavailable, err, "the gateway has ended the connection")
		}
		if m.Topic == "" && m.Lost == 0 {
			continue // says only that the gateway is there
		}
		if err := each(m); err != nil {
			return err
		}
	}
}

func (c *Client) get(ctx context.Context, path string, q url.Values, into any) error {
	return c.do(ctx, "GET", path, q, nil, into)
}

func (c *Client) do(ctx context.Context, method, path string, q url.Values, body []byte, into any) error {
	res, err := c.send(ctx, method, path, q, body)
	if err != nil {
		return err
	}
	return read(res, into)
}

// read takes the answer in, whole.
func read(res *http.Response, into any) (err error) {
	defer res.Body.Close()
	if into == nil {
		_, err = io.Copy(io.Discard, res.Body)
	} else {
		err = json.NewDecoder(res.Body).Decode(into)
	}
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "the gateway's answer is cut off")
	}
	return nil
}

func (c *Client) send(ctx context.Context, method, path string, q url.Values, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://gateway"+path+"?"+q.Encode(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return c.roundTrip(req)
}

func (c *Client) roundTrip(req *http.Request) (*http.Response, error) {
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if res.StatusCode < 300 {
		return res, nil
	}
	defer res.Body.Close()
	var e Error
	if err := json.NewDecoder(res.Body).Decode(&e); err != nil {
		return nil, fault.New(fault.Internal, "the gateway answers %s", res.Status)
	}
	for _, code := range fault.Codes() {
		if code.String() == e.Code {
			return nil, fault.New(code, "%s", e.Message)
		}
	}
	return nil, fault.New(planeCodes[res.StatusCode], "%s", e.Message)
}

func (c *Client) unreachable(err error) error {
	sock := filepath.Join(c.data, Socket)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fault.Wrap(fault.Unavailable, err, "no gateway is running on the data folder %s; start one with `tidegate run`, or name its folder with --data", c.data)
	case errors.Is(err, fs.ErrPermission):
		return fault.Wrap(fault.Forbidden, err, "the socket %s belongs to another user; try again as root or as the gateway's user", sock)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return fault.Wrap(fault.Unavailable, err, "the gateway at %s does not answer", sock)
}

// ShortPath gives a path of the socket that fits into the 107 bytes a socket address
// has. It is good until done is called.
func ShortPath(path string) (short string, done func(), err error) {
	if len(path) < 100 {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { dir.Close() }, nil
}
