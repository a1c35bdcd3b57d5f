package conformance_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// Packet types (2.1.2).
const (
	CONNECT = 1 + iota
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH
)

// Flags of a PUBLISH.
const (
	retain = 1
	dup    = 8
)

// Properties (2.2.2.2).
const (
	payloadFormat   = 1
	messageExpiry   = 2
	contentType     = 3
	responseTopic   = 8
	correlation     = 9
	subscriptionID  = 11
	sessionExpiry   = 17
	assignedID      = 18
	serverKeepAlive = 19
	authMethod      = 21
	problemInfo     = 23
	willDelay       = 24
	reasonString    = 31
	receiveMaximum  = 33
	aliasMaximum    = 34
	topicAlias      = 35
	maximumQoS      = 36
	userProperty    = 38
	maximumPacket   = 39
	subIDAvailable  = 41
)

// width of a property's value: bytes, or one of the names below.
var widths = map[byte]int{payloadFormat: 1, messageExpiry: 4, contentType: str, responseTopic: str, correlation: str, subscriptionID: varint, sessionExpiry: 4,
	assignedID: str, serverKeepAlive: 2, authMethod: str, 22: str, problemInfo: 1, willDelay: 4, 25: 1, 26: str, 28: str, reasonString: str, receiveMaximum: 2, aliasMaximum: 2,
	topicAlias: 2, maximumQoS: 1, 37: 1, userProperty: pair, maximumPacket: 4, 40: 1, subIDAvailable: 1, 42: 1}

const (
	str    = -1
	pair   = -2
	varint = -3
)

// prop is one property: a number, a string, or a pair of strings.
type prop struct {
	id   byte
	num  uint32
	s, v string
}

func num(id byte, n uint32) prop  { return prop{id: id, num: n} }
func text(id byte, s string) prop { return prop{id: id, s: s} }
func user(k, v string) prop       { return prop{id: userProperty, s: k, v: v} }
func appendStr(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func appendProps(b []byte, ps []prop) []byte {
	var p []byte
	for _, x := range ps {
		p = append(p, x.id)
		switch widths[x.id] {
		case 1:
			p = append(p, byte(x.num))
		case 2:
			p = binary.BigEndian.AppendUint16(p, uint16(x.num))
		case 4:
			p = binary.BigEndian.AppendUint32(p, x.num)
		case varint:
			p = binary.AppendUvarint(p, uint64(x.num))
		case pair:
			p = appendStr(appendStr(p, x.s), x.v)
		default:
			p = appendStr(p, x.s)
		}
	}
	return append(binary.AppendUvarint(b, uint64(len(p))), p...)
}

var errShort = errors.New("packet cut short")

func parseProps(b []byte) (ps []prop, rest []byte, err error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || uint64(len(b)-w) < n {
		return nil, nil, errShort
	}
	b, rest = b[w:w+int(n)], b[w+int(n):]
	take := func() (s string) {
		if len(b) < 2 || len(b) < 2+int(binary.BigEndian.Uint16(b)) {
			err, b = errShort, nil
			return ""
		}
		k := 2 + int(binary.BigEndian.Uint16(b))
		s, b = string(b[2:k]), b[k:]
		return s
	}
	for len(b) > 0 && err == nil {
		p := prop{id: b[0]}
		k, known := widths[p.id]
		b = b[1:]
		switch {
		case !known:
			return nil, nil, fmt.Errorf("property %d", p.id)
		case k == str:
			p.s = take()
		case k == pair:
			p.s = take()
			p.v = take()
		case k == varint:
			v, w := binary.Uvarint(b)
			if w <= 0 {
				return nil, nil, errShort
			}
			p.num, b = uint32(v), b[w:]
		case len(b) < k:
			return nil, nil, errShort
		default:
			for _, x := range b[:k] {
				p.num = p.num<<8 | uint32(x)
			}
			b = b[k:]
		}
		ps = append(ps, p)
	}
	return ps, rest, err
}

// frame puts a fixed header before body.
func frame(first byte, body []byte) []byte {
	return append(binary.AppendUvarint([]byte{first}, uint64(len(body))), body...)
}

// packet is one that came.
type packet struct {
	typ, flags byte
	topic      string
	id         uint16
	payload    string
	code       byte   // of CONNACK, acknowledgements and DISCONNECT
	codes      []byte // of SUBACK and UNSUBACK
	present    bool   // of CONNACK
	props      []prop
	size       int // bytes on the wire
}

func (p packet) qos() byte { return p.flags >> 1 & 3 }

// get gives the first property id of a packet.
func (p packet) get(id byte) (prop, bool) {
	i := slices.IndexFunc(p.props, func(x prop) bool { return x.id == id })
	if i < 0 {
		return prop{}, false
	}
	return p.props[i], true
}

// all gives the numbers of every property id.
func (p packet) all(id byte) (list []uint32) {
	for _, x := range p.props {
		if x.id == id {
			list = append(list, x.num)
		}
	}
	return list
}

func (p packet) String() string {
	return fmt.Sprintf("type %d flags %d id %d code 0x%02x topic %q payload %.40q props %v", p.typ, p.flags, p.id, p.code, p.topic, p.payload, p.props)
}

// parse takes a packet apart, and is strict with the server.
func parse(first byte, b []byte, v5 bool) (p packet, err error) {
	p = packet{typ: first >> 4, flags: first & 15}
	u16 := func() (v uint16) {
		if len(b) < 2 {
			err = errShort
			return 0
		}
		v, b = binary.BigEndian.Uint16(b), b[2:]
		return v
	}
	props := func() {
		if v5 && err == nil {
			p.props, b, err = parseProps(b)
		}
	}
	one := func() (v byte) {
		if len(b) == 0 {
			err = errShort
			return 0
		}
		v, b = b[0], b[1:]
		return v
	}
	if p.typ != PUBLISH && p.flags != 0 && (p.typ != PUBREL || p.flags != 2) {
		return p, fmt.Errorf("flags %d of packet type %d", p.flags, p.typ)
	}
	switch p.typ {
	case PUBLISH:
		n := int(u16())
		if len(b) < n {
			return p, errShort
		}
		p.topic, b = string(b[:n]), b[n:]
		if p.qos() > 0 {
			if p.id = u16(); p.id == 0 && err == nil { // [MQTT-2.2.1-3]
				err = errors.New("PUBLISH with packet id 0")
			}
		}
		if p.qos() == 3 || p.qos() == 0 && p.flags&dup != 0 {
			err = fmt.Errorf("PUBLISH with flags %d", p.flags)
		}
		props()
		p.payload, b = string(b), nil
	case CONNACK:
		ack := one()
		p.present, p.code = ack&1 != 0, one()
		if ack > 1 || p.present && p.code != 0 { // [MQTT-3.2.2-1], [MQTT-3.2.2-6]
			err = fmt.Errorf("CONNACK flags %d with code %d", ack, p.code)
		}
		if p.code != 1 && !(p.code == 0x84) || len(b) > 0 {
			props()
		}
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		p.id = u16()
		if v5 && len(b) > 0 {
			if p.code = one(); len(b) > 0 {
				props()
			}
		}
	case SUBACK, UNSUBACK:
		p.id = u16()
		props()
		p.codes, b = slices.Clone(b), nil
	case DISCONNECT:
		if !v5 {
			return p, errors.New("DISCONNECT from a server of MQTT 3.1.1")
		}
		if len(b) > 0 {
			if p.code = one(); len(b) > 0 {
				props()
			}
		}
	case PINGRESP:
	default:
		return p, fmt.Errorf("packet type %d from a server", p.typ)
	}
	if err == nil && len(b) > 0 {
		err = fmt.Errorf("% x behind %v", b, p)
	}
	return p, err
}

// connect is a CONNECT packet.
type connect struct {
	id    string
	v5    bool
	clean bool
	keep  uint16
	user  string
	pass  string
	will  *will
	props []prop

	small bool // a small receive buffer: the server notices early that nothing is read
}

type will struct {
	topic, payload string
	qos            byte
	retain         bool
	props          []prop
}

func (c connect) bytes() []byte {
	body := appendStr(nil, "MQTT")
	level, flags := byte(4), byte(0)
	if c.v5 {
		level = 5
	}
	if c.clean {
		flags |= 2
	}
	if c.will != nil {
		flags |= 4 | c.will.qos<<3
		if c.will.retain {
			flags |= 0x20
		}
	}
	if c.user != "" {
		flags |= 0x80
	}
	if c.pass != "" {
		flags |= 0x40
	}
	body = binary.BigEndian.AppendUint16(append(body, level, flags), c.keep)
	if c.v5 {
		body = appendProps(body, c.props)
	}
	body = appendStr(body, c.id)
	if w := c.will; w != nil {
		if c.v5 {
			body = appendProps(body, w.props)
		}
		body = appendStr(appendStr(body, w.topic), w.payload)
	}
	if c.user != "" {
		body = appendStr(body, c.user)
	}
	if c.pass != "" {
		body = appendStr(body, c.pass)
	}
	return frame(CONNECT<<4, body)
}

func publish(v5 bool, topic, payload string, qos byte, id uint16, flags byte, ps ...prop) []byte {
	body := appendStr(nil, topic)
	if qos > 0 {
		body = binary.BigEndian.AppendUint16(body, id)
	}
	if v5 {
		body = appendProps(body, ps)
	}
	return frame(PUBLISH<<4|qos<<1|flags, append(body, payload...))
}

// ack is PUBACK, PUBREC, PUBREL or PUBCOMP; a code of 0 is left out.
func ack(typ byte, id uint16, code byte) []byte {
	first := typ << 4
	if typ == PUBREL {
		first |= 2
	}
	body := []byte{byte(id >> 8), byte(id)}
	if code != 0 {
		body = append(body, code)
	}
	return frame(first, body)
}

// filter is one subscription; opts are its options.
type filter struct {
	f    string
	opts byte
}

// Subscription options beside the QoS (3.8.3.1).
const (
	noLocal   = 4
	asPublish = 8 // retain as published
	ifNew     = 1 << 4
	noRetain  = 2 << 4
)

func subscribe(v5 bool, id uint16, ps []prop, fs ...filter) []byte {
	body := binary.BigEndian.AppendUint16(nil, id)
	if v5 {
		body = appendProps(body, ps)
	}
	for _, f := range fs {
		body = append(appendStr(body, f.f), f.opts)
	}
	return frame(SUBSCRIBE<<4|2, body)
}

func unsubscribe(v5 bool, id uint16, fs ...string) []byte {
	body := binary.BigEndian.AppendUint16(nil, id)
	if v5 {
		body = appendProps(body, nil)
	}
	for _, f := range fs {
		body = appendStr(body, f)
	}
	return frame(UNSUBSCRIBE<<4|2, body)
}

const patience = 10 * time.Second

// failer is what peers need of a test, or of one step of a model.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// peer is a client that sees every packet and does nothing by itself.
type peer struct {
	t failer
	net.Conn
	v5    bool
	hello packet   // its CONNACK
	aside []packet // messages that came while an acknowledgement was waited for
	buf   []byte
	r, w  int
	id    uint16
}

// begin opens a connection and sends CONNECT.
func begin(t failer, addr string, c connect) *peer {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if c.small {
		nc.(*net.TCPConn).SetReadBuffer(4096)
	}
	p := &peer{t: t, Conn: nc, v5: c.v5, buf: make([]byte, 4096)}
	p.write(c.bytes())
	return p
}

// dial connects and wants to be let in.
func (w *world) dial(c connect) *peer {
	w.t.Helper()
	p := begin(w.t, w.addr, c)
	if t, ok := p.t.(*testing.T); ok {
		t.Cleanup(func() { p.Conn.Close() })
	}
	if p.hello = p.next(CONNACK); p.hello.code != 0 {
		w.t.Fatalf("CONNACK 0x%02x", p.hello.code)
	}
	return p
}

// refused connects, and gives the code with which it is not let in; 0xff means without any.
func (w *world) refused(c connect) byte {
	w.t.Helper()
	p := begin(w.t, w.addr, c)
	defer p.Conn.Close()
	k, err := p.read()
	if err != nil {
		p.over(err)
		return 0xff
	}
	if k.typ != CONNACK || k.code == 0 {
		w.t.Fatalf("let in: %v", k)
	}
	if _, err = p.read(); err == nil { // [MQTT-3.1.4-2]
		w.t.Fatalf("the connection goes on after a CONNACK that says no")
	}
	p.over(err)
	return k.code
}

func (w *world) client(v5 bool) *peer {
	w.t.Helper()
	return w.dial(connect{id: w.name(), clean: true, v5: v5})
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	p.SetWriteDeadline(time.Now().Add(patience))
	if _, err := p.Write(b); err != nil {
		p.t.Fatalf("write: %v", err)
	}
}

// read gives the next packet.
func (p *peer) read() (packet, error) {
	if len(p.aside) > 0 {
		k := p.aside[0]
		p.aside = p.aside[1:]
		return k, nil
	}
	return p.fetch()
}

// fetch gives the next packet that comes from now on.
func (p *peer) fetch() (packet, error) {
	p.SetReadDeadline(time.Now().Add(patience))
	for {
		b := p.buf[p.r:p.w]
		if len(b) > 1 {
			if n, k := binary.Uvarint(b[1:]); k > 0 && uint64(len(b)) >= 1+uint64(k)+n {
				size := 1 + k + int(n)
				p.r += size
				x, err := parse(b[0], b[1+k:size], p.v5)
				x.size = size
				if err != nil {
					p.t.Fatalf("% x: %v", b[:min(size, 100)], err)
				}
				return x, nil
			}
		}
		if p.r > 0 {
			p.w = copy(p.buf, b)
			p.r = 0
		}
		if p.w == len(p.buf) {
			p.buf = append(p.buf, make([]byte, len(p.buf))...)
		}
		n, err := p.Read(p.buf[p.w:])
		p.w += n
		if n == 0 && err != nil {
			return packet{}, err
		}
	}
}

// next gives the next packet, which has to be of type typ.
func (p *peer) next(typ byte) packet {
	p.t.Helper()
	k, err := p.read()
	if err != nil {
		p.t.Fatalf("waiting for packet type %d: %v", typ, err)
	}
	if k.typ != typ {
		p.t.Fatalf("got %v, want packet type %d", k, typ)
	}
	return k
}

// over makes sure that err is the end of the connection.
func (p *peer) over(err error) {
	p.t.Helper()
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		p.t.Fatalf("the connection is still open")
	}
	if err != io.EOF {
		var op *net.OpError
		if !errors.As(err, &op) {
			p.t.Fatalf("%v", err)
		}
	}
}

// ended reads until the server hangs up, and gives the code of its DISCONNECT, 0 when there was none.
func (p *peer) ended() (code byte) {
	p.t.Helper()
	for {
		k, err := p.read()
		if err != nil {
			p.over(err)
			return code
		}
		if k.typ == DISCONNECT {
			code = k.code
		}
	}
}

// silent makes sure that nothing but the answer to a ping comes. What the server does in its
// own time is seen only when it is done by now.
func (p *peer) silent() {
	p.t.Helper()
	p.write([]byte{PINGREQ << 4, 0})
	p.next(PINGRESP)
}

// quiet makes sure that nothing comes for a while.
func (p *peer) quiet() {
	p.t.Helper()
	p.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if len(p.aside) > 0 || p.r < p.w {
		p.t.Fatalf("there is more: %v, % x", p.aside, p.buf[p.r:min(p.w, p.r+100)])
	}
	if n, err := p.Read(p.buf[:1]); n > 0 || err == io.EOF {
		p.t.Fatalf("there is more (% x), or an end (%v)", p.buf[:n], err)
	}
}

// cut ends the connection without a word.
func (p *peer) cut() { p.Conn.Close() }

// leave disconnects as one should, and waits until the server has hung up.
func (p *peer) leave() {
	p.t.Helper()
	p.write([]byte{DISCONNECT << 4, 0})
	p.ended()
	p.Conn.Close()
}

// sub subscribes to filters at one QoS.
func (p *peer) sub(qos byte, filters ...string) {
	p.t.Helper()
	var fs []filter
	for _, f := range filters {
		fs = append(fs, filter{f, qos})
	}
	p.subscribe(nil, fs...)
}

// subscribe subscribes, and wants to get what it asks for.
func (p *peer) subscribe(ps []prop, fs ...filter) {
	p.t.Helper()
	for i, code := range p.trySub(ps, fs...) {
		if code != fs[i].opts&3 {
			p.t.Fatalf("SUBACK 0x%02x for %q", code, fs[i].f)
		}
	}
}

func (p *peer) trySub(ps []prop, fs ...filter) []byte {
	p.t.Helper()
	p.id++
	p.write(subscribe(p.v5, p.id, ps, fs...))
	k := p.next(SUBACK)
	if k.id != p.id || len(k.codes) != len(fs) { // [MQTT-3.8.4-2], [MQTT-3.8.4-6]
		p.t.Fatalf("SUBACK id %d with %d codes, want %d with %d", k.id, len(k.codes), p.id, len(fs))
	}
	return k.codes
}

func (p *peer) unsub(filters ...string) []byte {
	p.t.Helper()
	p.id++
	p.write(unsubscribe(p.v5, p.id, filters...))
	k := p.next(UNSUBACK)
	if k.id != p.id || p.v5 && len(k.codes) != len(filters) || !p.v5 && len(k.codes) > 0 { // [MQTT-3.11.3-1]
		p.t.Fatalf("UNSUBACK id %d with %d codes, want %d with %d", k.id, len(k.codes), p.id, len(filters))
	}
	return k.codes
}

// pub publishes and carries the exchange to its end.
func (p *peer) pub(topic, payload string, qos byte, flags byte, ps ...prop) {
	p.t.Helper()
	if code := p.tryPub(topic, payload, qos, flags, ps...); code >= 0x80 {
		p.t.Fatalf("%q was refused with 0x%02x", topic, code)
	}
}

func (p *peer) tryPub(topic, payload string, qos byte, flags byte, ps ...prop) byte {
	p.t.Helper()
	p.id++
	p.write(publish(p.v5, topic, payload, qos, p.id, flags, ps...))
	switch qos {
	case 1:
		return p.answer(PUBACK, p.id).code
	case 2:
		if k := p.answer(PUBREC, p.id); k.code >= 0x80 {
			return k.code
		}
		p.write(ack(PUBREL, p.id, 0))
		return p.answer(PUBCOMP, p.id).code
	}
	return 0
}

// answer takes the acknowledgement of packet id. Messages may come before it; they are for the next read.
func (p *peer) answer(typ byte, id uint16) packet {
	p.t.Helper()
	k, err := p.fetch()
	for ; err == nil && k.typ == PUBLISH; k, err = p.fetch() {
		p.aside = append(p.aside, k)
	}
	if err != nil || k.typ != typ || k.id != id {
		p.t.Fatalf("got %v (%v), want packet type %d id %d", k, err, typ, id)
	}
	if _, echoed := k.get(userProperty); echoed {
		p.t.Fatalf("user properties in an acknowledgement: %v", k)
	}
	return k
}

// want takes the next PUBLISH without acknowledging it, and checks what it is.
func (p *peer) want(topic, payload string, qos byte, flags byte) packet {
	p.t.Helper()
	k := p.next(PUBLISH)
	if k.topic != topic || k.payload != payload || k.qos() != qos || k.flags&(retain|dup) != flags {
		p.t.Fatalf("got %v, want %q %.40q QoS %d flags %d", k, topic, payload, qos, flags)
	}
	return k
}

// get is want, and acknowledges.
func (p *peer) get(topic, payload string, qos byte, flags byte) packet {
	p.t.Helper()
	k := p.want(topic, payload, qos, flags)
	p.settle(k)
	return k
}

// settle acknowledges k to the end.
func (p *peer) settle(k packet) {
	p.t.Helper()
	switch k.qos() {
	case 1:
		p.write(ack(PUBACK, k.id, 0))
	case 2:
		p.write(ack(PUBREC, k.id, 0))
		p.answer(PUBREL, k.id)
		p.write(ack(PUBCOMP, k.id, 0))
	}
}
