package broker

import (
	"bytes"
	"encoding/binary"
	"strings"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
)

// parse consumes the whole packets in the buffer. True means that the reader must look
// up: there is a packet for control, an end, or a reason to hold.
func (c *Conn) parse() bool {
	look := c.scan()
	if n := c.in.packets; n > 0 {
		c.b.stats.packetsIn.Add(n)
		c.b.stats.payloadIn.Add(c.in.payload)
		c.in.packets, c.in.payload, c.in.whole = 0, 0, true
		if c.in.connecting { // CONNECT is answered in control
			return look
		}
		c.last.Store(c.b.now.Load())
	}
	return look
}

func (c *Conn) scan() bool {
	in := &c.in
	for in.err == nil {
		f := in.rb[in.r:in.w]
		w, n := mqtt.Header(f)
		if w < 0 {
			return c.fail(errMalformed)
		}
		if w == 0 {
			break
		}
		if n > c.b.maxPacket {
			return c.fail(errTooLarge)
		}
		if c.sess == nil && f[0] != mqtt.CONNECT<<4 { // [MQTT-3.1.0-1]
			return c.fail(errProtocol)
		}
		if n > len(f) {
			break
		}
		f = f[:n]
		in.packets++
		if f[0]&^9 == mqtt.PUBLISH<<4 {
			in.calm++
		} else {
			in.calm = notCalm
		}
		switch f[0] >> 4 {
		case mqtt.PUBLISH:
			if !c.publish(f) {
				return true
			}
		case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
			if !c.acknowledged(f, w) {
				return true
			}
		case mqtt.PINGREQ:
			if n != 2 || f[0] != mqtt.PINGREQ<<4 {
				return c.fail(errMalformed)
			}
			c.send(pong, &in.ob) // [MQTT-3.12.4-1]
		default:
			c.flushRun()
			c.flushAcks()
			c.endBatch()
			in.pass = f
			in.r += n
			return true
		}
		in.r += n
	}
	c.flushRun()
	c.flushAcks()
	return in.err != nil || c.mustHold()
}

// notCalm stays negative whatever is added to it within one read.
const notCalm = -1 << 30

var pong = []byte{mqtt.PINGRESP << 4, 0}

// fail ends the reading for why.
func (c *Conn) fail(why *Reason) bool {
	c.flushRun()
	if c.in.err == nil {
		c.in.err = why
	}
	return true
}

// publish takes in one PUBLISH, whole in f. Neighbours with the same first byte and topic
// join one run. False means that the reader must look up.
func (c *Conn) publish(f []byte) bool {
	in := &c.in
	p, err := mqtt.ParsePublish(f, c.v5)
	if err != nil {
		if err == mqtt.ErrProtocol {
			return !c.fail(c.protocolError(f))
		}
		return !c.fail(errMalformed)
	}
	if why := c.admit(&p, len(f)); why != nil {
		return !c.fail(why)
	}
	in.payload += int64(len(p.Payload))
	if len(p.Props) > 0 {
		c.b.clampExpiryIn(p.Props)
	}
	if c.v5 && (len(p.Topic) == 0 || len(p.Props) > 0 && hasAlias(p.Props)) {
		return c.publishAliased(f, &p)
	}
	if c.v5 && len(c.added()) > 0 {
		return c.publishAnew(f, &p, string(p.Topic))
	}
	f[0] &^= 8 // DUP is between the client and us
	r := &in.run
	if len(r.Frames) > 0 && f[0] == in.rb[in.runAt] && in.r == in.end && p.QoS < 2 && bytes.Equal(p.Topic, c.runTopic()) {
		in.end += len(f)
	} else {
		c.flushRun()
		if in.err != nil {
			return false
		}
		in.runAt, in.end = in.r, in.r+len(f)
	}
	if p.QoS == 2 && !c.sess.receive2(p.ID, c) {
		in.end = 0 // known already
		return true
	}
	start := uint32(in.r - in.runAt)
	r.Frames = append(r.Frames, mqtt.Frame{Start: start, ID: start + p.IDAt})
	if p.QoS > 0 && int(c.unacked.Add(1)) > c.inbound() {
		return !c.fail(errReceiveMax) // [MQTT-3.3.4-9]
	}
	return true
}

// userProps gives how many bytes of props are user properties.
func userProps(props []byte) (n int) {
	for len(props) > 0 {
		id, val, rest, err := mqtt.NextProp(props)
		if err != nil {
			break
		}
		if id == mqtt.PropUser {
			n += len(val)
		}
		props = rest
	}
	return n
}

// clampExpiryIn bounds the message expiry in props, in place, as AWS does: 0 counts as 1.
func (b *Broker) clampExpiryIn(props []byte) {
	v := expiryOf(props)
	if v == nil {
		return
	}
	sec := binary.BigEndian.Uint32(v)
	if m := b.cfg.Limits.MessageExpiryMax; m > 0 && time.Duration(sec)*time.Second > m {
		sec = uint32(m / time.Second)
	}
	binary.BigEndian.PutUint32(v, max(sec, 1))
}

// protocolError finds the more exact words for a PUBLISH that breaks the protocol.
func (c *Conn) protocolError(f []byte) *Reason {
	if c.v5 && bytes.Contains(f, []byte{mqtt.PropTopicAlias, 0, 0}) { // [MQTT-3.3.2-8]
		return errBadAlias
	}
	return errProtocol
}

// inbound gives the Receive Maximum that holds for c. MQTT 3.1.1 has no way to tell a
// client, so that the bytes waiting for the disk are its only bound.
func (c *Conn) inbound() int {
	if n := c.b.cfg.Limits.Inbound; c.v5 && n > 0 {
		return n
	}
	return 65535
}

// admit looks at the limits of a single message and of the client's rate.
func (c *Conn) admit(p *mqtt.Publish, size int) *Reason {
	l := &c.b.cfg.Limits
	if l.Payload > 0 && len(p.Payload) > l.Payload {
		return errTooLarge
	}
	if p.QoS == 2 && !c.b.cfg.QoS2 { // [MQTT-3.2.2-11]
		return errNoQoS2
	}
	if l.UserProperties > 0 && len(p.Props) > l.UserProperties && userProps(p.Props) > l.UserProperties {
		return errTooLarge
	}
	if l.PublishRate > 0 || l.ByteRate > 0 {
		r := c.in.rate
		if r == nil {
			r = &rate{}
			c.in.rate = r
		}
		if now := c.b.now.Load(); now != r.sec {
			*r = rate{sec: now}
		}
		r.msgs++
		r.bytes += size
		if l.PublishRate > 0 && r.msgs > l.PublishRate || l.ByteRate > 0 && r.bytes > l.ByteRate {
			return errThrottled
		}
	}
	return nil
}

// runTopic gives the topic of the run being gathered.
func (c *Conn) runTopic() []byte {
	in := &c.in
	f := in.rb[in.runAt:in.end]
	w, _ := mqtt.Header(f)
	return f[w+2 : in.run.Frames[0].ID]
}

// flushRun hands the run gathered so far to the road.
func (c *Conn) flushRun() {
	in := &c.in
	if len(in.run.Frames) == 0 {
		return
	}
	topic := c.runTopic()
	in.run.Buf = in.rb[in.runAt:in.end]
	c.hand(topic)
}

// hand gives in.run, whose Buf and Frames are set, to the road. The topic is known to be
// somewhere in memory that outlives the call.
func (c *Conn) hand(topic []byte) {
	in := &c.in
	r := &in.run
	defer func() { r.Frames = r.Frames[:0] }()
	if in.topic == nil || string(topic) != in.topic.Topic {
		if why := c.judgeTopic(topic); why != nil {
			in.err = why
			return
		}
		in.topic = c.b.routeOf(topic)
		in.judged = [2]bool{}
	}
	if in.topic.Invalid { // [MQTT-3.3.2-2], [MQTT-4.7.3-1]
		in.err = errBadTopic
		return
	}
	first := r.Buf[0]
	r.Topic, r.QoS, r.Retain, r.V5 = in.topic.Topic, first>>1&3, first&1 != 0, c.v5
	r.From, r.Principal, r.Origin = c.sess.id, c.principal, mqtt.Client
	r.At, r.Memo = in.at, &in.memo
	n := len(r.Frames)
	c.b.stats.received.Add(int64(n))
	if !c.mayPublish(r.Topic, r.Retain) {
		c.refuse(r, errUnauthorized)
		return
	}
	if l := c.b.cfg.Limits.Retained; r.Retain && l > 0 && len(r.Payload(n-1)) > 0 && c.b.retained.full(r.Topic, l) {
		c.refuse(r, errManyRetained)
		return
	}
	waits := &c.pending[min(r.QoS, 1)]
	r.Ordered = waits.Load() > 0 // [MQTT-4.6.0-6]
	waits.Add(int32(n))
	if r.QoS > 0 {
		c.uncommitted.Add(int64(len(r.Buf)))
	}
	if c.overTotal(n) {
		c.throttle(r)
		return
	}
	c.b.pub.Publish(r, c, &in.ob)
}

// mayPublish asks the policies once per topic.
func (c *Conn) mayPublish(topic string, retain bool) bool {
	in := &c.in
	k := 0
	if retain {
		k = 1
	}
	if gen := c.b.authGen.Load(); in.allowGen != gen {
		in.allowGen, in.judged = gen, [2]bool{}
	}
	if !in.judged[k] {
		in.allowed[k] = c.b.mayPublish(c.info.principal, topic, retain)
		in.judged[k] = true
	}
	return in.allowed[k]
}

// mayPublish asks the policies, and knows which topics are the gateway's own.
func (b *Broker) mayPublish(p Principal, topic string, retain bool) bool {
	if b.closed(topic, retain) {
		b.trespassed(p, "publish", topic)
		return false
	}
	return b.az.MayPublish(p, topic, retain)
}

// closed says whether no client may publish to topic, whatever its policies say.
func (b *Broker) closed(topic string, retain bool) bool {
	return topic[0] == '$' && (retain || strings.HasPrefix(topic, mqtt.Sys) || strings.HasPrefix(topic, "$share/") || strings.HasPrefix(topic, mqtt.House) ||
		awstopic.Is(topic) && !awstopic.MayPublish(topic))
}

// refuse answers a run that the client may not publish. MQTT 3.1.1 and QoS 0 have no
// answer but the end of the connection, which is what AWS does.
func (c *Conn) refuse(r *mqtt.Run, why *Reason) {
	c.b.stats.refused.Add(int64(len(r.Frames)))
	if !c.v5 || r.QoS == 0 {
		c.in.err = why
		return
	}
	if r.QoS == 2 {
		c.sess.forget2(r, c, why)
	}
	c.lockOut()
	for _, f := range r.Frames {
		c.out.buf = c.appendAck(c.out.buf, ackType(r.QoS), binary.BigEndian.Uint16(r.Buf[f.ID:]), why)
	}
	c.unlockOut(&c.in.ob)
	c.b.stats.answers.Add(int64(len(r.Frames)))
	c.unacked.Add(-int32(len(r.Frames)))
}

// judgeTopic looks at the limits of a topic name. Reserved topics have none, and Basic Ingest
// none for its prefix of three levels (AWS IoT quotas page, "Topic size").
func (c *Conn) judgeTopic(topic []byte) *Reason {
	l := &c.b.cfg.Limits
	if rest, ok := bytes.CutPrefix(topic, []byte("$aws/rules/")); ok {
		_, topic, _ = bytes.Cut(rest, []byte{'/'})
	} else if bytes.HasPrefix(topic, []byte("$aws/")) {
		return nil
	}
	if l.TopicBytes > 0 && len(topic) > l.TopicBytes || l.TopicSlashes > 0 && bytes.Count(topic, []byte{'/'}) > l.TopicSlashes {
		return errBadTopic
	}
	return nil
}

// Ack is the road's answer for a run of this connection, in the order of the commits: err
// is nil when its messages are kept, or need not be.
func (c *Conn) Ack(run *mqtt.Run, err error, ob *Outbox) {
	n := len(run.Frames)
	c.pending[min(run.QoS, 1)].Add(-int32(n))
	if run.QoS == 0 {
		return
	}
	var why *Reason
	if err != nil {
		why = refusal(err)
		c.b.stats.refused.Add(int64(n))
	}
	if run.QoS == 2 {
		if err != nil {
			c.sess.forget2(run, c, why)
		} else {
			c.sess.received2(run, c, ob)
		}
	}
	ok := c.lockOut()
	c.uncommitted.Add(-int64(len(run.Buf)))
	if run.QoS == 1 || err != nil {
		c.unacked.Add(-int32(n))
	}
	if c.out.room != nil {
		c.out.room.Broadcast()
	}
	if err != nil && !c.v5 {
		// No acknowledgement, and none to come: the client sends again when it is back.
		ok = false
		c.refused.Store(true)
		c.b.after(holdRefused, func() { c.kick(why) })
	}
	if ok {
		b := c.out.buf
		first := ackType(run.QoS) << 4
		for _, f := range run.Frames {
			if why == nil {
				b = append(b, first, 2, run.Buf[f.ID], run.Buf[f.ID+1])
			} else {
				b = c.appendAck(b, first>>4, binary.BigEndian.Uint16(run.Buf[f.ID:]), why)
			}
		}
		c.out.buf = b
		c.b.stats.answers.Add(int64(n))
	}
	c.unlockOut(ob)
}

func ackType(qos byte) byte {
	if qos == 2 {
		return mqtt.PUBREC
	}
	return mqtt.PUBACK
}

// refusal gives the words for an error of the road.
func refusal(err error) *Reason {
	switch fault.Of(err) {
	case fault.Full:
		return errFull
	case fault.Forbidden, fault.Unauthorized:
		return errUnauthorized
	case fault.Invalid:
		return &Reason{codeBadTopic, fault.Message(err), "CLIENT_ERROR"}
	case fault.TooLarge, fault.LimitExceeded, fault.Throttled:
		return &Reason{codeQuota, fault.Message(err), "THROTTLED"}
	case fault.Unavailable:
		return &Reason{codeQuota, fault.Message(err), "SERVER_ERROR"}
	}
	return &Reason{codeUnspecified, fault.Message(err), "SERVER_ERROR"}
}

// appendAck appends an acknowledgement of MQTT 5 with a reason.
func (c *Conn) appendAck(b []byte, typ byte, id uint16, why *Reason) []byte {
	first := typ << 4
	if typ == mqtt.PUBREL {
		first |= 2
	}
	text := why.Text
	if !c.info.problem || len(text) > 100 || c.special != nil && 9+len(text) > c.special.maxPacket { // [MQTT-3.1.2-29], [MQTT-3.4.2-2], [MQTT-3.5.2-2]
		text = ""
	}
	if text == "" {
		return append(b, first, 3, byte(id>>8), byte(id), why.Code)
	}
	b = append(b, first, byte(7+len(text)), byte(id>>8), byte(id), why.Code, byte(3+len(text)), propReasonString)
	return mqtt.AppendString(b, text)
}

const propReasonString = 0x1f

// acknowledged takes in PUBACK, PUBREC, PUBREL or PUBCOMP.
func (c *Conn) acknowledged(f []byte, w int) bool {
	typ := f[0] >> 4
	flags := byte(0)
	if typ == mqtt.PUBREL {
		flags = 2 // [MQTT-3.6.1-1]
	}
	if f[0]&15 != flags || len(f) < w+2 || !c.v5 && len(f) != w+2 {
		return !c.fail(errMalformed)
	}
	id := binary.BigEndian.Uint16(f[w:])
	if id == 0 {
		return !c.fail(errProtocol)
	}
	code := byte(0)
	if len(f) > w+2 {
		code = f[w+2]
	}
	in := &c.in
	switch typ {
	case mqtt.PUBACK:
		in.acks = append(in.acks, id)
		return true
	case mqtt.PUBREL:
		c.flushRun()
		in.rels = append(in.rels, id)
		return in.err == nil
	}
	c.flushRun()
	c.flushAcks()
	if typ == mqtt.PUBREC {
		c.sess.pubrec(c, id, code, &in.ob)
	} else {
		c.sess.pubcomp(c, id, &in.ob)
	}
	return in.err == nil
}

func (c *Conn) flushAcks() {
	in := &c.in
	if len(in.acks) > 0 {
		c.sess.puback(c, in.acks, &in.ob)
		in.acks = in.acks[:0]
	}
	if len(in.rels) > 0 {
		c.sess.released2(c, in.rels, &in.ob)
		in.rels = in.rels[:0]
	}
}
