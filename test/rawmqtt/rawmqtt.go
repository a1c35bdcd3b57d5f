// Package rawmqtt is an MQTT client so thin that a test sees every packet: it dials, encodes the packets it is told to send
// and parses those that come, in place and without allocating. It keeps no state of a session, answers nothing by itself
// (no PUBACK, no PINGREQ) and shares no code with the gateway, so that a fault in the gateway's codec is not mirrored here.
//
//	c, _, err := rawmqtt.Dial(addr, rawmqtt.Options{ClientID: "p", Clean: true})
//	c.Write(rawmqtt.AppendPublish(nil, c.V5, "a/b", []byte("x"), 1, 7, 0))
//	p, err := c.Next() // the PUBACK: p.Type == rawmqtt.Puback, p.ID == 7
//
// A Conn may be read by one goroutine and written by another.
package rawmqtt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"
)

// Packet types, [MQTT-2.1.2].
const (
	Connect = 1 + iota
	Connack
	Publish
	Puback
	Pubrec
	Pubrel
	Pubcomp
	Subscribe
	Suback
	Unsubscribe
	Unsuback
	Pingreq
	Pingresp
	Disconnect
)

// Flags of a PUBLISH beside its QoS.
const (
	Retain = 1
	Dup    = 8
)

// Options for Dial. The zero value is an MQTT 3.1.1 client without a name and with keep-alive off.
type Options struct {
	ClientID      string
	Clean         bool
	V5            bool
	KeepAlive     uint16 // seconds
	SessionExpiry uint32 // seconds, MQTT 5
	ReceiveMax    uint16 // MQTT 5; 0: not sent
	User, Pass    string
	ReadBuffer    int           // bytes; 0: 64 KiB. No packet may be larger
	Timeout       time.Duration // of dialling and the CONNACK; 0: 20 s
}

// Conn is a connection that has seen its CONNACK.
type Conn struct {
	net.Conn
	V5   bool
	buf  []byte
	r, w int
}

// Packet is one that came. Its slices lie in the Conn's buffer and hold until the next call of Next.
type Packet struct {
	Type, Flags byte // Flags: the low half of the first byte
	Topic       []byte
	ID          uint16
	Payload     []byte // of a PUBLISH
	Props       []byte // of an MQTT 5 PUBLISH, encoded
	Code        byte   // reason code of an acknowledgement, CONNACK or DISCONNECT, first one of a SUBACK
	Body        []byte // everything behind the fixed header
}

// QoS of a PUBLISH.
func (p Packet) QoS() byte { return p.Flags >> 1 & 3 }

// Dial connects to addr, sends CONNECT and waits for the CONNACK. It tells whether the server had a session. A refusal is an
// error that names the code.
func Dial(addr string, o Options) (c *Conn, sessionPresent bool, err error) {
	if o.Timeout == 0 {
		o.Timeout = 20 * time.Second
	}
	nc, err := net.DialTimeout("tcp", addr, o.Timeout)
	if err != nil {
		return nil, false, err
	}
	return Handshake(nc, o)
}

// Handshake is Dial over a connection that stands already. It closes nc when it fails.
func Handshake(nc net.Conn, o Options) (c *Conn, sessionPresent bool, err error) {
	if o.Timeout == 0 {
		o.Timeout = 20 * time.Second
	}
	if o.ReadBuffer == 0 {
		o.ReadBuffer = 64 << 10
	}
	c = &Conn{Conn: nc, V5: o.V5, buf: make([]byte, o.ReadBuffer)}
	nc.SetDeadline(time.Now().Add(o.Timeout))
	if _, err = nc.Write(AppendConnect(nil, o)); err == nil {
		var p Packet
		if p, err = c.Next(); err == nil {
			if p.Type != Connack || p.Code != 0 {
				err = fmt.Errorf("rawmqtt: connect as %q: packet type %d code 0x%02x", o.ClientID, p.Type, p.Code)
			} else {
				nc.SetDeadline(time.Time{})
				return c, p.Body[0]&1 != 0, nil
			}
		}
	}
	nc.Close()
	return nil, false, err
}

// Over gives a client over nc that has sent nothing yet: for tests that write their own CONNECT.
func Over(nc net.Conn, v5 bool) *Conn {
	return &Conn{Conn: nc, V5: v5, buf: make([]byte, 256<<10)}
}

// AppendConnect appends a CONNECT packet.
func AppendConnect(b []byte, o Options) []byte {
	body := appendString(nil, "MQTT")
	flags := byte(0)
	if o.Clean {
		flags |= 2
	}
	if o.User != "" {
		flags |= 0x80
	}
	if o.Pass != "" {
		flags |= 0x40
	}
	version := byte(4)
	if o.V5 {
		version = 5
	}
	body = append(body, version, flags)
	body = binary.BigEndian.AppendUint16(body, o.KeepAlive)
	if o.V5 {
		var props []byte
		if o.SessionExpiry > 0 {
			props = binary.BigEndian.AppendUint32(append(props, 0x11), o.SessionExpiry)
		}
		if o.ReceiveMax > 0 {
			props = binary.BigEndian.AppendUint16(append(props, 0x21), o.ReceiveMax)
		}
		body = append(appendLen(body, len(props)), props...)
	}
	body = appendString(body, o.ClientID)
	if o.User != "" {
		body = appendString(body, o.User)
	}
	if o.Pass != "" {
		body = appendString(body, o.Pass)
	}
	return append(appendLen(append(b, Connect<<4), len(body)), body...)
}

// AppendPublish appends a PUBLISH without properties. id is ignored for QoS 0; flags are Retain and Dup.
func AppendPublish(b []byte, v5 bool, topic string, payload []byte, qos byte, id uint16, flags byte) []byte {
	n := 2 + len(topic) + len(payload)
	if qos > 0 {
		n += 2
	}
	if v5 {
		n++
	}
	b = appendLen(append(b, Publish<<4|qos<<1|flags), n)
	b = appendString(b, topic)
	if qos > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	if v5 {
		b = append(b, 0)
	}
	return append(b, payload...)
}

// AppendAck appends a PUBACK, PUBREC, PUBREL or PUBCOMP that means success.
func AppendAck(b []byte, typ byte, id uint16) []byte {
	first := typ << 4
	if typ == Pubrel {
		first |= 2
	}
	return append(b, first, 2, byte(id>>8), byte(id))
}

// AppendSubscribe appends a SUBSCRIBE of filters at one QoS.
func AppendSubscribe(b []byte, v5 bool, id uint16, qos byte, filters ...string) []byte {
	body := binary.BigEndian.AppendUint16(nil, id)
	if v5 {
		body = append(body, 0)
	}
	for _, f := range filters {
		body = append(appendString(body, f), qos)
	}
	return append(appendLen(append(b, Subscribe<<4|2), len(body)), body...)
}

// AppendUnsubscribe appends an UNSUBSCRIBE.
func AppendUnsubscribe(b []byte, v5 bool, id uint16, filters ...string) []byte {
	body := binary.BigEndian.AppendUint16(nil, id)
	if v5 {
		body = append(body, 0)
	}
	for _, f := range filters {
		body = appendString(body, f)
	}
	return append(appendLen(append(b, Unsubscribe<<4|2), len(body)), body...)
}

// Subscribe sends a SUBSCRIBE and reads until its SUBACK; what comes before that is lost, so it is for fresh connections.
func (c *Conn) Subscribe(qos byte, filters ...string) error {
	c.SetDeadline(time.Now().Add(20 * time.Second))
	defer c.SetDeadline(time.Time{})
	if _, err := c.Write(AppendSubscribe(nil, c.V5, 1, qos, filters...)); err != nil {
		return err
	}
	for {
		p, err := c.Next()
		if err != nil {
			return fmt.Errorf("rawmqtt: subscribe %q: %w", filters, err)
		}
		if p.Type == Suback {
			if p.Code >= 0x80 {
				return fmt.Errorf("rawmqtt: subscribe %q: refused with 0x%02x", filters, p.Code)
			}
			return nil
		}
	}
}

// Close sends a DISCONNECT (which keeps a will from being sent) and closes. To vanish without one, close c.Conn.
func (c *Conn) Close() error {
	c.SetWriteDeadline(time.Now().Add(time.Second))
	c.Write([]byte{Disconnect << 4, 0})
	return c.Conn.Close()
}

// Next returns the next packet, reading when none is complete in the buffer.
func (c *Conn) Next() (Packet, error) {
	for {
		if p, n, err := parse(c.buf[c.r:c.w], c.V5); n > 0 || err != nil {
			c.r += n
			return p, err
		}
		if c.r > 0 {
			c.w = copy(c.buf, c.buf[c.r:c.w])
			c.r = 0
		}
		if c.w == len(c.buf) {
			return Packet{}, errors.New("rawmqtt: packet larger than the read buffer")
		}
		n, err := c.Read(c.buf[c.w:])
		c.w += n
		if n == 0 && err != nil {
			return Packet{}, err
		}
	}
}

// More tells whether Next would return without reading.
func (c *Conn) More() bool {
	_, n, err := parse(c.buf[c.r:c.w], c.V5)
	return n > 0 || err != nil
}

var errShort = errors.New("rawmqtt: malformed packet")

// parse returns the packet at the start of b and its length, or 0 when it is not complete.
func parse(b []byte, v5 bool) (p Packet, n int, err error) {
	size, k := length(b, 1)
	if k == 0 || len(b) < 1+k+size {
		return p, 0, nil
	}
	n = 1 + k + size
	p = Packet{Type: b[0] >> 4, Flags: b[0] & 15, Body: b[1+k : n]}
	d := p.Body
	switch p.Type {
	case Publish:
		if len(d) < 2 {
			return p, n, errShort
		}
		t := 2 + int(binary.BigEndian.Uint16(d))
		rest := t
		if p.QoS() > 0 {
			rest += 2
		}
		if len(d) < rest {
			return p, n, errShort
		}
		p.Topic = d[2:t]
		if p.QoS() > 0 {
			p.ID = binary.BigEndian.Uint16(d[t:])
		}
		if v5 {
			l, k := length(d, rest)
			if k == 0 || len(d) < rest+k+l {
				return p, n, errShort
			}
			p.Props = d[rest+k : rest+k+l]
			rest += k + l
		}
		p.Payload = d[rest:]
	case Connack:
		if len(d) < 2 {
			return p, n, errShort
		}
		p.Code = d[1]
	case Puback, Pubrec, Pubrel, Pubcomp:
		if len(d) < 2 {
			return p, n, errShort
		}
		p.ID = binary.BigEndian.Uint16(d)
		if len(d) > 2 {
			p.Code = d[2]
		}
	case Suback, Unsuback:
		if len(d) < 3 && (p.Type == Suback || v5 || len(d) < 2) { // MQTT 3.1.1's UNSUBACK has no codes
			return p, n, errShort
		}
		p.ID = binary.BigEndian.Uint16(d)
		rest := 2
		if v5 {
			l, k := length(d, rest)
			rest += k + l
		}
		if len(d) > rest {
			p.Code = d[rest]
		}
	case Disconnect:
		if len(d) > 0 {
			p.Code = d[0]
		}
	}
	return p, n, nil
}

// length reads a variable byte integer at b[at:]; k is how many bytes it took, 0 when it is not complete.
func length(b []byte, at int) (size, k int) {
	for k = 0; k < 4 && at+k < len(b); k++ {
		size |= int(b[at+k]&0x7f) << (7 * k)
		if b[at+k] < 0x80 {
			return size, k + 1
		}
	}
	return 0, 0
}

func appendLen(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}
