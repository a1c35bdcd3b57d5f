// Package mqttclient is an MQTT 3.1.1 client that lives as long as one connection.
//
// Connect gives a client that is connected; once its connection is lost it is
// done for, Done is closed, and whoever wants to go on makes a new one. It never
// reconnects by itself and keeps nothing of its own between connections: a token
// says "acknowledged" only when the peer's PUBACK or PUBCOMP has come. (The
// library inside, Eclipse Paho, completes tokens without an acknowledgement when
// it is left to reconnect, and never when it is to keep the session.) With QoS 0 there is
// no acknowledgement: a token says that the message is on its way, as joined writes are
// what makes sending fast.
//
//	c, err := mqttclient.Connect(ctx, mqttclient.Config{URL: "mqtt://127.0.0.1:1883", ClientID: "pump"})
//	tok := c.Publish("dt/pump/flow", 1, false, payload)
//	err = tok.Wait(ctx)
//	c.Close()
//
// Messages with QoS 0 and 1 do not pass through the library at all: PUBLISH goes straight
// to the connection, joined with its neighbours, and PUBACK comes straight from it.
//
// Uplink, command line and tests use the same client. It is the only package that
// imports Paho. It does not speak MQTT 5 or WebSocket.
package mqttclient

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"tidegate/gateway/fault"
)

// Config says whom to connect to and as whom.
type Config struct {
	// URL is mqtt://HOST[:1883] or mqtts://HOST[:8883]; tcp, tls and ssl are other
	// names for the two.
	URL      string
	ClientID string // may be empty if the session is not kept
	User     string // not sent when empty
	Password string
	// TLS is used with mqtts; nil trusts the system's authorities. ServerName is
	// filled in from the URL when empty.
	TLS *tls.Config
	// KeepAlive is the longest silence before a ping, in whole seconds; 30 s when
	// 0. A peer that leaves a ping unanswered for PingTimeout, 10 s when 0, is lost.
	KeepAlive   time.Duration
	PingTimeout time.Duration
	// ConnectTimeout bounds dialling and both handshakes together; 10 s when 0.
	ConnectTimeout time.Duration
	// WriteTimeout is how long the peer may take none of our bytes before it is
	// lost; 5 s when 0.
	WriteTimeout time.Duration
	// KeepSession asks the peer to keep subscriptions and undelivered messages
	// until the next connection with the same ClientID.
	KeepSession bool
	// OnMessage is called for every message that comes in, one after the other, in
	// order. It must not block, or pings and acknowledgements wait with it, and
	// sees to it that Ack is called. Messages are dropped when it is nil.
	OnMessage func(*Message)
	// Dial opens the connection; a net.Dialer's when nil.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Client is one connection. All methods may be called concurrently.
type Client struct {
	paho    paho.Client
	conn    *conn
	session bool
	acks    *ackQueue
	sender  sender

	done chan struct{}
	once sync.Once
	err  error // why it ended; written before done is closed
}

// Connect opens a connection and does the handshakes. ctx ends the attempt, not
// the connection. A refusal by the peer is fault.Unauthorized or
// fault.Unavailable, a URL that cannot be used fault.Invalid.
func Connect(ctx context.Context, cfg Config) (*Client, error) {
	u, err := ParseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, or(cfg.ConnectTimeout, 10*time.Second))
	defer cancel()
	nc, err := open(ctx, u, cfg)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "%s cannot be reached", u.Host)
	}
	c := &Client{conn: nc, acks: newAckQueue(), sender: sender{flights: map[uint16]*Token{}}, done: make(chan struct{})}
	nc.acked = c.sender.acked
	c.paho = paho.NewClient(c.options(cfg))
	tok := c.paho.Connect()
	select {
	case <-tok.Done():
	case <-ctx.Done():
		nc.Close() // ends the handshake, and with it the token
		<-tok.Done()
	}
	if err := tok.Error(); err != nil {
		nc.Close()
		c.end(err)
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, refusal(u.Host, err)
	}
	c.session = tok.(*paho.ConnectToken).SessionPresent()
	return c, nil
}

// options is the library's configuration for one connection that is never repeated.
func (c *Client) options(cfg Config) *paho.ClientOptions {
	o := paho.NewClientOptions()
	o.AddBroker("tcp://unused") // the connection is open; the library only wants to have a name
	o.SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) { return c.conn, nil })
	o.SetProtocolVersion(4) // else it tries 3.1 on the same connection after a refusal
	o.SetClientID(cfg.ClientID).SetUsername(cfg.User).SetPassword(cfg.Password)
	o.SetCleanSession(!cfg.KeepSession)
	o.SetAutoReconnect(false).SetConnectRetry(false).SetResumeSubs(false)
	o.SetStore(paho.NewOrderedMemoryStore())
	o.SetKeepAlive(or(cfg.KeepAlive, 30*time.Second)).SetPingTimeout(or(cfg.PingTimeout, 10*time.Second))
	o.SetConnectTimeout(or(cfg.ConnectTimeout, 10*time.Second)).SetWriteTimeout(or(cfg.WriteTimeout, 5*time.Second))
	o.SetOrderMatters(true).SetAutoAckDisabled(true)
	o.SetConnectionLostHandler(func(_ paho.Client, err error) { c.end(err) })
	o.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) {
		msg := &Message{Topic: m.Topic(), Payload: m.Payload(), QoS: m.Qos(), Retain: m.Retained(), Dup: m.Duplicate(), raw: m, acks: c.acks}
		if cfg.OnMessage == nil {
			msg.Ack()
			return
		}
		cfg.OnMessage(msg)
	})
	return o
}

// Done is closed when the connection has ended, by loss or by Close.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err says why the connection has ended: nil after Close and while it lasts.
func (c *Client) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// SessionPresent says whether the peer had kept the session of this client id.
func (c *Client) SessionPresent() bool { return c.session }

// Bytes gives how many bytes were read from and written to the connection,
// without what TLS adds.
func (c *Client) Bytes() (in, out uint64) { return c.conn.in.Load(), c.conn.out.Load() }

// patience is how long Close waits for the last acknowledgements and for DISCONNECT
// to leave.
const patience = 250 * time.Millisecond

// Close says DISCONNECT, waits at most half a second for it to leave, and ends the
// connection. Tokens still waiting fail. It may be called twice.
func (c *Client) Close() error {
	c.end(nil)
	t := time.NewTimer(patience)
	defer t.Stop()
	select { // what was acknowledged before Close leaves before DISCONNECT
	case <-c.acks.idle:
	case <-t.C:
	}
	c.paho.Disconnect(uint(patience / time.Millisecond))
	return c.conn.Close()
}

// Abort ends the connection without a word, as a lost peer would see it.
func (c *Client) Abort() {
	c.conn.abort()
	c.Close()
}

func (c *Client) end(err error) {
	c.once.Do(func() {
		c.err = err
		close(c.done)
		if err == nil {
			err = ErrClosed
		}
		c.sender.end(err)
		c.acks.stop()
	})
}

// ErrClosed is the error of what was under way when the connection was closed on
// our side.
var ErrClosed = errors.New("mqttclient: connection closed")

func or(d, instead time.Duration) time.Duration {
	if d == 0 {
		return instead
	}
	return d
}

// counter counts bytes.
type counter = atomic.Uint64
