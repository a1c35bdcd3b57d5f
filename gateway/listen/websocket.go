package listen

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"tidegate/gateway/broker"
	"tidegate/gateway/fault"
)

// Upgrade is the broker.Via.Hint of a client on a WebSocket: what its request for one said.
type Upgrade struct {
	Credential any // what Admit gave
	TLS        *tls.ConnectionState
	Host       string
	Query      string // as it was sent
	Header     http.Header
}

// WebSocket is the door for MQTT over WebSocket, an http.Handler for one path. Its
// fields are set before it serves.
type WebSocket struct {
	Listener string // broker.Via.Listener
	// Admit judges the credentials of the request. Nil admits everybody.
	Admit func(r *http.Request) (credential any, err error)
	// Refuse answers a request that is not admitted, in the words of the house.
	Refuse func(w http.ResponseWriter, r *http.Request, err error)
	// Serve takes over the client.
	Serve func(*broker.Transport, broker.Via)
	// Origins are the pages allowed to connect beside those of this gateway itself, as
	// https://host[:port]; "*" is every page. A page is only asked about when a browser's
	// own credentials (a certificate, or being on this machine) let it in.
	Origins []string
	// MaxAge ends connections that are older; zero does not. AWS: 24 h.
	MaxAge time.Duration
	Now    func() time.Time
	// Parting holds the closing handshakes that are under way. They end within a second of
	// the last connection.
	Parting *sync.WaitGroup
}

// subprotocols are those served, the best first ([MQTT-6.0.0-4]; the second is that of
// clients before MQTT 3.1.1).
var subprotocols = []string{"mqtt", "mqttv3.1"}

// ServeHTTP makes the request's connection a WebSocket and hands it to the broker.
func (s *WebSocket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var credential any
	err := s.judgeOrigin(r)
	if err == nil && s.Admit != nil {
		credential, err = s.Admit(r)
	}
	if err == nil && strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && !offers(r) {
		err = fault.New(fault.Invalid, "the WebSocket subprotocol mqtt is required")
	}
	if err != nil {
		s.Refuse(w, r, err)
		return
	}
	grab := &grabber{ResponseWriter: w}
	ws, err := websocket.Accept(grab, r, &websocket.AcceptOptions{Subprotocols: subprotocols, InsecureSkipVerify: true}) // judgeOrigin has looked
	if err != nil {
		return // it has answered
	}
	ws.SetReadLimit(-1) // a message is only a piece of the stream ([MQTT-6.0.0-2]); packets have their own limit
	via := broker.Via{Listener: s.Listener, Remote: grab.nc.RemoteAddr(),
		Hint: &Upgrade{Credential: credential, TLS: r.TLS, Host: r.Host, Query: r.URL.RawQuery, Header: r.Header}}
	if s.MaxAge > 0 {
		via.Until, via.UntilWhy = s.Now().Add(s.MaxAge), "WEBSOCKET_TTL_EXPIRATION"
	}
	s.Serve(broker.Plain(&wsConn{Conn: grab.nc, ws: ws, open: s.Parting}), via)
}

func offers(r *http.Request) bool {
	for _, v := range r.Header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(v, ",") {
			if slices.ContainsFunc(subprotocols, func(p string) bool { return strings.EqualFold(p, strings.TrimSpace(name)) }) {
				return true
			}
		}
	}
	return false
}

// judgeOrigin keeps pages of other sites from using what a browser has: its way to this
// address, its certificate. Clients that are no browsers send no Origin. A signed request
// is the page's own and proves itself.
func (s *WebSocket) judgeOrigin(r *http.Request) error {
	origin := r.Header.Get("Origin")
	if origin == "" || strings.Contains(r.URL.RawQuery, "X-Amz-Signature=") {
		return nil
	}
	if slices.ContainsFunc(s.Origins, func(o string) bool { return o == "*" || strings.EqualFold(o, origin) }) {
		return nil
	}
	if u, err := url.Parse(origin); err == nil && u.Host != "" {
		host := (&url.URL{Host: r.Host}).Hostname()
		if strings.EqualFold(u.Hostname(), host) || loopback(u.Hostname()) && loopback(host) {
			return nil
		}
	}
	return fault.New(fault.Forbidden, "pages of %s may not connect; listen.origins names those that may", strconv.Quote(origin))
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// grabber remembers the connection below the WebSocket, whose deadlines bound what the
// library would wait for.
type grabber struct {
	http.ResponseWriter
	nc net.Conn
}

// Hijack takes the connection from the HTTP server.
func (g *grabber) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, brw, err := http.NewResponseController(g.ResponseWriter).Hijack()
	g.nc = nc
	return nc, brw, err
}

// Unwrap is for http.ResponseController.
func (g *grabber) Unwrap() http.ResponseWriter { return g.ResponseWriter }

// wsConn is the stream of bytes in a WebSocket's binary messages. Its deadlines and
// addresses are those of the connection below.
type wsConn struct {
	net.Conn
	ws   *websocket.Conn
	msg  io.Reader // the message that is being read
	once sync.Once
	open *sync.WaitGroup
}

var errText = errors.New("a WebSocket message that is not binary")

// Wait returns when there is a message to read ([MQTT-6.0.0-1]: a binary one). A close
// frame is a goodbye.
func (c *wsConn) Wait() error {
	for c.msg == nil {
		typ, msg, err := c.ws.Reader(context.Background())
		switch {
		case err != nil && websocket.CloseStatus(err) >= 0:
			return broker.ErrLeft
		case err != nil:
			return err
		case typ != websocket.MessageBinary:
			c.end(websocket.StatusUnsupportedData, "MQTT is binary")
			return errText
		}
		c.msg = msg
	}
	return nil
}

// Read reads from the stream.
func (c *wsConn) Read(p []byte) (int, error) {
	for {
		if err := c.Wait(); err != nil {
			return 0, err
		}
		n, err := c.msg.Read(p)
		if err == io.EOF {
			c.msg, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Write sends p as one message.
func (c *wsConn) Write(p []byte) (int, error) {
	if err := c.ws.Write(context.Background(), websocket.MessageBinary, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close says goodbye and ends the connection. It does not wait for either.
func (c *wsConn) Close() error {
	c.end(websocket.StatusNormalClosure, "")
	return nil
}

// partingTime is how long the client may take to answer a close frame. Whoever reads or
// writes comes to an end by then, too.
const partingTime = time.Second

func (c *wsConn) end(code websocket.StatusCode, why string) {
	c.once.Do(func() {
		c.SetDeadline(time.Now().Add(partingTime))
		c.open.Go(func() {
			c.ws.Close(code, why) //nolint:errcheck // it is gone either way
		})
	})
}
