package mqttclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"tidegate/gateway/fault"
)

// ParseURL checks the address of a broker and fills in the port. The scheme comes
// out as mqtt or mqtts. Errors are fault.Invalid.
func ParseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" {
		return nil, fault.New(fault.Invalid, "is %q, expected mqtt://HOST:PORT or mqtts://HOST:PORT", s)
	}
	if u.User != nil {
		return nil, fault.New(fault.Invalid, "holds a user name; user and password have keys of their own")
	}
	port := "1883"
	switch u.Scheme {
	case "mqtt", "tcp":
		u.Scheme = "mqtt"
	case "mqtts", "tls", "ssl":
		u.Scheme, port = "mqtts", "8883"
	default:
		return nil, fault.New(fault.Invalid, "has the scheme %q, expected mqtt or mqtts", u.Scheme)
	}
	if strings.Trim(u.Path, "/") != "" {
		return nil, fault.New(fault.Invalid, "has a path, expected mqtt://HOST:PORT or mqtts://HOST:PORT")
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	return u, nil
}

// conn gives every write a deadline, reads in big chunks (the library asks for one
// byte, then one more, then the rest of each packet) and counts.
type conn struct {
	net.Conn
	r       *bufio.Reader
	timeout time.Duration
	in, out counter
}

func open(ctx context.Context, u *url.URL, cfg Config) (*conn, error) {
	dial := cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	nc, err := dial(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "mqtts" {
		t := cfg.TLS.Clone() // nil stays nil
		if t == nil {
			t = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if t.ServerName == "" {
			t.ServerName = u.Hostname()
		}
		tc := tls.Client(nc, t)
		if err := tc.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, err
		}
		nc = tc
	}
	return &conn{Conn: nc, r: bufio.NewReaderSize(nc, 16<<10), timeout: or(cfg.WriteTimeout, 5*time.Second)}, nil
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.in.Add(uint64(n))
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	c.out.Add(uint64(n))
	return n, err
}

// SetWriteDeadline does nothing: every write has a deadline already, while the
// library gives one to PUBLISH packets only, so that a ping could hang for ever.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// refusal turns the library's error for a connection that did not come about into ours.
func refusal(host string, err error) error {
	if errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword) || errors.Is(err, packets.ErrorRefusedNotAuthorised) {
		return fault.New(fault.Unauthorized, "%s refuses us: %s; check user, password or certificate", host, strings.ToLower(err.Error()))
	}
	if errors.Is(err, packets.ErrorRefusedIDRejected) || errors.Is(err, packets.ErrorRefusedBadProtocolVersion) {
		return fault.New(fault.Invalid, "%s refuses us: %s", host, err)
	}
	return fault.Wrap(fault.Unavailable, err, "%s does not complete the MQTT handshake", host)
}
