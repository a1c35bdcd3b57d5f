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

// conn gives every write a deadline, joins writes, reads in big chunks (the library asks
// for one byte, then one more, then the rest of each packet), keeps PUBACKs to itself and
// counts.
type conn struct {
	net.Conn
	r       *bufio.Reader
	timeout time.Duration
	in, out counter
	w       writer
	left    int             // bytes to read of a packet that has begun; the reader's alone
	acked   func(id uint16) // hears of every PUBACK
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
	c := &conn{Conn: nc, r: bufio.NewReaderSize(nc, 16<<10), timeout: or(cfg.WriteTimeout, 5*time.Second)}
	c.w.init(c)
	return c, nil
}

// Read gives the library all packets but the PUBACKs: those are for what it has not sent.
func (c *conn) Read(p []byte) (int, error) {
	for c.left == 0 {
		if err := c.next(); err != nil {
			return 0, c.w.why(err)
		}
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	c.in.Add(uint64(n))
	if err != nil {
		err = c.w.why(err)
	}
	return n, err
}

// next looks at the packet that begins: a PUBACK is dealt with, of any other left says how
// long it is [MQTT-2.1, MQTT-3.4].
func (c *conn) next() error {
	head, err := c.r.Peek(2)
	if err != nil {
		return err
	}
	const puback = 0x40
	if head[0] == puback && head[1] == 2 {
		if head, err = c.r.Peek(4); err != nil {
			return err
		}
		c.acked(uint16(head[2])<<8 | uint16(head[3]))
		c.in.Add(4)
		_, err = c.r.Discard(4)
		return err
	}
	size, i := 0, 1
	for ; ; i++ {
		if head, err = c.r.Peek(i + 1); err != nil {
			return err
		}
		size |= int(head[i]&0x7f) << (7 * (i - 1))
		if head[i]&0x80 == 0 || i == 4 { // a fifth byte is the library's to complain about
			break
		}
	}
	c.left = i + 1 + size
	return nil
}

// Write takes a packet of the library's and returns, unless too much waits; it leaves with
// the next write to the connection. An error is that of an earlier write.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.w.put(func(buf []byte) []byte { return append(buf, p...) }); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close lets what was taken leave, for at most patience, and closes the connection. It may
// be called twice.
func (c *conn) Close() error {
	c.w.finish()
	return c.Conn.Close()
}

// abort closes the connection with what waits.
func (c *conn) abort() {
	c.Conn.Close()
	c.w.finish()
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
