package uplink

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"tidegate/gateway/mqttclient"
	"tidegate/gateway/secret"
)

// Config is one upstream.
type Config struct {
	// Name stands in status, metrics, the journal and Message.From: letters,
	// digits, - and _, at most 64. Another name is another upstream, which starts
	// with what comes in from then on.
	Name string `yaml:"name"`
	// URL is mqtt://HOST:PORT or mqtts://HOST:PORT.
	URL string `yaml:"url"`
	// ClientID must be unique at the upstream; made from the name and this machine
	// when empty.
	ClientID string `yaml:"client_id"`

	User     string           `yaml:"user"`
	Password secret.Text      `yaml:"password"`
	TLS      mqttclient.Files `yaml:"tls"`

	Up   []Route `yaml:"up"`   // what goes up: local filter → topic at the upstream
	Down []Route `yaml:"down"` // what comes down: filter at the upstream → local topic

	// Window is how many messages may be unacknowledged, 1 to 1000. AWS IoT Core
	// allows 100.
	Window int `yaml:"window"`
	// KeepAlive is the longest silence before a ping, 5 s to 20 min.
	KeepAlive time.Duration `yaml:"keep_alive"`
	// AckTimeout, 1 s to 10 min, bounds the wait for an acknowledgement: a connection
	// on which none comes is given up after one to two of it.
	AckTimeout time.Duration `yaml:"ack_timeout"`
	// BackoffMin and BackoffMax bound the pause between two attempts: it is drawn
	// from 0 to a limit that doubles from the one to the other.
	BackoffMin time.Duration `yaml:"backoff_min"`
	BackoffMax time.Duration `yaml:"backoff_max"`
}

// Route maps topics. Of several that cover a topic the first counts.
type Route struct {
	Filter string `yaml:"filter"`
	// Topic is the topic on the other side: {topic} stands for the whole topic,
	// {rest} for what # covers, {1} for what the first + covers; {topic} when empty.
	Topic string `yaml:"topic"`
	// QoS is 0 or 1, 1 when it is not given. Over QoS 0 messages are lost when the
	// link breaks.
	QoS *byte `yaml:"qos"`
}

// DefaultConfig gives the values of what is not given, for an upstream without a name.
func DefaultConfig() Config {
	return Config{Window: 64, KeepAlive: 30 * time.Second, AckTimeout: 30 * time.Second, BackoffMin: time.Second, BackoffMax: 30 * time.Second}
}

// WithDefaults fills in what is zero.
func (c Config) WithDefaults() Config {
	d := DefaultConfig()
	if c.Window == 0 {
		c.Window = d.Window
	}
	for _, v := range []struct {
		have *time.Duration
		want time.Duration
	}{{&c.KeepAlive, d.KeepAlive}, {&c.AckTimeout, d.AckTimeout}, {&c.BackoffMin, d.BackoffMin}, {&c.BackoffMax, d.BackoffMax}} {
		if *v.have == 0 {
			*v.have = v.want
		}
	}
	return c
}

// Validate says everything that is wrong with c, each error starting with its key.
// It reads no file.
func (c Config) Validate() error {
	c = c.WithDefaults()
	var errs []error
	no := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !validName(c.Name) {
		no("name: is %q, expected 1 to 64 letters, digits, - and _", c.Name)
	}
	if u, err := mqttclient.ParseURL(c.URL); err != nil {
		no("url: %w", err)
	} else if u.Scheme == "mqtt" && c.TLS != (mqttclient.Files{}) {
		no("tls: is given, but the url is mqtt://; expected mqtts://")
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") && c.TLS.Key != mqttclient.OwnKey {
		no("tls: cert and key go together")
	}
	if c.Password.Set() && c.User == "" {
		no("password: is given without user")
	}
	if len(c.Up)+len(c.Down) == 0 {
		no("up: neither up nor down has a route, so that nothing would travel")
	}
	for name, rs := range map[string][]Route{"up": c.Up, "down": c.Down} {
		for i, r := range rs {
			if _, err := r.compile(); err != nil {
				for _, e := range unjoin(err) {
					no("%s[%d].%w", name, i, e)
				}
			}
		}
	}
	between := func(key string, v, lo, hi time.Duration) {
		if v < lo || v > hi {
			no("%s: is %v, expected %v to %v", key, v, lo, hi)
		}
	}
	if c.Window < 1 || c.Window > 1000 {
		no("window: is %d, expected 1 to 1000", c.Window)
	}
	between("keep_alive", c.KeepAlive, 5*time.Second, 20*time.Minute)
	between("ack_timeout", c.AckTimeout, time.Second, 10*time.Minute)
	between("backoff_min", c.BackoffMin, 10*time.Millisecond, c.BackoffMax)
	between("backoff_max", c.BackoffMax, 10*time.Millisecond, 2*time.Minute)
	return errors.Join(errs...)
}

func validName(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}

// compile checks the route and makes it usable.
func (r Route) compile() (*route, error) {
	topic, qos := r.Topic, byte(1)
	if topic == "" {
		topic = "{topic}"
	}
	var errs []error
	if r.QoS != nil {
		if qos = *r.QoS; qos > 1 {
			errs = append(errs, fmt.Errorf("qos: is %d, expected 0 or 1", qos))
		}
	}
	rt, err := newRoute(r.Filter, topic, qos)
	return rt, errors.Join(append(errs, err)...)
}

func unjoin(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}
