package broker

import (
	"fmt"
	"math"
	"time"
)

// Limits is the table of what one client may do. The numbers a client can depend on are
// AWS IoT Core's (quotas page, "Message broker and protocol limits"); where the default
// goes beyond AWS the field says so. Zero switches a limit off.
type Limits struct {
	ClientID         int           // bytes of a client id; AWS 128
	TopicBytes       int           // bytes of a topic or filter; AWS 256
	TopicSlashes     int           // slashes in a topic or filter, without `$share/NAME/` and Basic Ingest's prefix; AWS 7
	Payload          int           // bytes of a payload; AWS 131,072
	Filters          int           // filters in one SUBSCRIBE; AWS 8
	Subscriptions    int           // subscriptions of one session; AWS 50
	Inbound          int           // unacknowledged QoS 1 and 2 from a client, its Receive Maximum; AWS 100, here 1,024
	Outbound         int           // unacknowledged QoS 1 and 2 to a client; AWS 100, here 1,024
	TopicAliases     int           // of a connection, each way; AWS 8
	UserProperties   int           // bytes of user properties in one message; AWS 8,192
	KeepAliveMin     time.Duration // a shorter keep-alive is raised to it; AWS 30 s, here off: MQTT 3.1.1 has no way to tell
	KeepAliveMax     time.Duration // a longer one, or none, is lowered to it; AWS 1,200 s
	SessionExpiry    time.Duration // of a persistent MQTT 3.1.1 session; AWS 1 h by default and 7 days at most, here 7 days
	SessionExpiryMax time.Duration // of an MQTT 5 session; AWS 7 days
	MessageExpiryMax time.Duration // a longer message expiry is lowered to it; AWS 604,800 s
	Retained         int           // retained messages of the gateway; AWS 5,000
	PublishRate      int           // PUBLISHes a second from one client; AWS 100, here off
	ByteRate         int           // bytes a second from one client; AWS 524,288, here off

	TotalPublishRate  int // messages a second from all clients and POST /topics together; AWS 20,000 in its largest regions, here off
	ConnectRate       int // clients let in within a second; AWS 500, here off
	ClientConnectRate int // the same of one client id; AWS 1, here off
}

// AWSLimits gives AWS IoT Core's own numbers, each of them.
func AWSLimits() Limits {
	return Limits{ClientID: 128, TopicBytes: 256, TopicSlashes: 7, Payload: 128 << 10, Filters: 8, Subscriptions: 50, Inbound: 100, Outbound: 100,
		TopicAliases: 8, UserProperties: 8 << 10, KeepAliveMin: 30 * time.Second, KeepAliveMax: 1200 * time.Second, SessionExpiry: time.Hour,
		SessionExpiryMax: 7 * 24 * time.Hour, MessageExpiryMax: 604800 * time.Second, Retained: 5000, PublishRate: 100, ByteRate: 512 << 10, TotalPublishRate: 20_000, ConnectRate: 500, ClientConnectRate: 1}
}

// DefaultLimits gives AWS's numbers without those that would slow a local broker down.
func DefaultLimits() Limits {
	l := AWSLimits()
	l.Inbound, l.Outbound = 1024, 1024
	l.KeepAliveMin, l.SessionExpiry = 0, 7*24*time.Hour
	l.PublishRate, l.ByteRate, l.TotalPublishRate, l.ConnectRate, l.ClientConnectRate = 0, 0, 0, 0, 0
	return l
}

// Config is the broker's configuration. The zero value of a field that is a number
// means no limit, unless it says otherwise.
type Config struct {
	Limits Limits

	QoS2              bool          // serve QoS 2; false gives AWS's answer (0x9B, or the connection is closed)
	RetainedWildcards bool          // retained messages for filters with wildcards; false gives AWS's answer
	SubscriptionIDs   bool          // serve subscription identifiers; false gives AWS's answer (0xA1)
	Connections       int           // clients at once, all listeners together
	ConnectTimeout    time.Duration // from accept to a whole CONNECT, TLS included; zero: 10 s
	Unconnected       int           // connections at once that have not sent CONNECT yet, three quarters of them from one network; zero: 1,000
	InputBuffer       int           // bytes of read buffers that wait for the rest of a packet, all clients together; zero: 64 MiB
	ClientBuffer      int           // bytes waiting to be written to one client before QoS 0 is dropped; zero: 1 MiB
	TotalBuffer       int           // the same, all clients together, before each has to do with less; likewise for SessionMemory; zero: 64 MiB
	SessionMemory     int           // bytes of QoS 1 and 2 queued in memory for one session before it reads from the journal; zero: 1 MiB
	SessionMessages   int           // messages of QoS 1 and 2 waiting in the journal for one session before the oldest go, ledger; zero: no bound but the journal's
	SessionBytes      int           // the same in bytes; for a shared subscription in whole segments of the journal
	Uncommitted       int           // bytes of one client's messages waiting for the disk before it is not read any more; zero: 1 MiB
	SysInterval       time.Duration // how often what changed below $SYS/broker is told; 0: there are no such topics
	StallTimeout      time.Duration // how long a client may take no byte of what waits for it; zero: 10 min
}

// DefaultConfig gives the configuration of an empty file.
func DefaultConfig() Config {
	return Config{Limits: DefaultLimits(), QoS2: true, RetainedWildcards: true, SubscriptionIDs: true, Connections: 20_000, SysInterval: 10 * time.Second}.filled()
}

// filled puts in what zero stands for.
func (c Config) filled() Config {
	set := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 10 * time.Second
	}
	if c.StallTimeout == 0 {
		c.StallTimeout = 10 * time.Minute
	}
	set(&c.Unconnected, 1000)
	set(&c.ClientBuffer, 1<<20)
	set(&c.TotalBuffer, 64<<20)
	set(&c.InputBuffer, 64<<20)
	set(&c.SessionMemory, 1<<20)
	set(&c.Uncommitted, 1<<20)
	return c
}

// anyNumber is more than a machine has of anything.
const anyNumber = min(1<<40, math.MaxInt)

// Validate says what is impossible in c, one error per field, in words of the
// configuration file.
func (c *Config) Validate() []error {
	var errs []error
	l := &c.Limits
	for _, f := range []struct {
		name     string
		val, max int
	}{
		{"limits.client_id", l.ClientID, 65535}, {"limits.topic_bytes", l.TopicBytes, 65535}, {"limits.topic_slashes", l.TopicSlashes, 65535},
		{"limits.payload", l.Payload, 256 << 20}, {"limits.filters", l.Filters, 1 << 20}, {"limits.subscriptions", l.Subscriptions, 1 << 20},
		{"limits.inbound", l.Inbound, 65535}, {"limits.outbound", l.Outbound, maxWindow}, {"limits.topic_aliases", l.TopicAliases, 65535},
		{"limits.retained", l.Retained, 1 << 30}, {"limits.publish_rate", l.PublishRate, 1 << 30}, {"limits.byte_rate", l.ByteRate, anyNumber},
		{"limits.total_publish_rate", l.TotalPublishRate, 1 << 30},
		{"limits.connect_rate", l.ConnectRate, 1 << 30}, {"limits.client_connect_rate", l.ClientConnectRate, 1 << 30}, {"broker.input_buffer", c.InputBuffer, anyNumber},
		{"broker.connections", c.Connections, 1 << 20}, {"broker.unconnected", c.Unconnected, 1 << 20},
		{"broker.client_buffer", c.ClientBuffer, 1 << 30}, {"broker.total_buffer", c.TotalBuffer, anyNumber},
		{"broker.session_memory", c.SessionMemory, 1 << 30}, {"broker.uncommitted", c.Uncommitted, 1 << 30},
		{"broker.session_messages", c.SessionMessages, anyNumber}, {"broker.session_bytes", c.SessionBytes, anyNumber},
	} {
		if f.val < 0 || f.val > f.max {
			errs = append(errs, fmt.Errorf("%s: %d is not between 0 and %d", f.name, f.val, f.max))
		}
	}
	for _, f := range []struct {
		name string
		val  time.Duration
		max  time.Duration
	}{
		{"limits.keep_alive_min", l.KeepAliveMin, 65535 * time.Second}, {"limits.keep_alive_max", l.KeepAliveMax, 65535 * time.Second},
		{"limits.session_expiry", l.SessionExpiry, 100 * 365 * 24 * time.Hour}, {"limits.session_expiry_max", l.SessionExpiryMax, 100 * 365 * 24 * time.Hour},
		{"limits.message_expiry_max", l.MessageExpiryMax, 100 * 365 * 24 * time.Hour},
		{"broker.connect_timeout", c.ConnectTimeout, time.Hour}, {"broker.stall_timeout", c.StallTimeout, 24 * time.Hour},
		{"broker.sys_interval", c.SysInterval, time.Hour},
	} {
		if f.val < 0 || f.val > f.max {
			errs = append(errs, fmt.Errorf("%s: %v is not between 0 and %v", f.name, f.val, f.max))
		}
	}
	if c.SysInterval > 0 && c.SysInterval < time.Second {
		errs = append(errs, fmt.Errorf("broker.sys_interval: %v is shorter than 1s; 0 switches the $SYS topics off", c.SysInterval))
	}
	return errs
}

// maxPacket is the largest packet taken from a client: the payload and room for topic
// and properties. AWS was seen to announce 149,504 for its 128 KB.
func (l *Limits) maxPacket() int {
	if l.Payload == 0 {
		return 256 << 20
	}
	return l.Payload + 18432
}
