package broker

import (
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"tidegate/gateway/mqtt"
)

// control deals with the packets that are not part of the traffic, and with the end of the
// connection. It runs in a goroutine of its own and hands over to a new loop.
func (c *Conn) control() {
	in := &c.in
	for in.err == nil && len(in.pass) > 0 {
		f := in.pass
		in.pass = nil
		if err := c.handle(f); err != nil && in.err == nil {
			in.err = err
		}
		if in.err == nil && !c.mustHold() {
			c.parse()
		}
	}
	c.endBatch()
	if in.err == nil {
		c.compact()
		c.freeBuffer(false)
		go c.loop()
		return
	}
	c.freeBuffer(true)
	c.b.ended(c, in.err)
	c.b.wg.Done()
}

// handle answers one packet.
func (c *Conn) handle(f []byte) error {
	typ := f[0] >> 4
	if c.sess == nil {
		return c.connect(f)
	}
	if typ == mqtt.CONNECT { // [MQTT-3.1.0-2]
		return errProtocol
	}
	pk, err := decode(f, c.v5)
	if err != nil {
		return err
	}
	switch typ {
	case mqtt.SUBSCRIBE:
		return c.subscribe(pk)
	case mqtt.UNSUBSCRIBE:
		return c.unsubscribe(pk)
	case mqtt.DISCONNECT:
		return c.disconnect(pk)
	}
	return errNoReauth // AUTH: no method was agreed on at CONNECT
}

// disconnect takes the client's goodbye.
func (c *Conn) disconnect(pk *packets.Packet) error {
	s := c.sess
	if c.v5 && pk.Properties.SessionExpiryIntervalFlag {
		s.mu.Lock()
		was := s.rec.Expiry
		if was == 0 && pk.Properties.SessionExpiryInterval > 0 { // MQTT 5, 3.14.2.2.2
			s.mu.Unlock()
			return errProtocol
		}
		s.rec.Expiry = c.b.clampExpiry(pk.Properties.SessionExpiryInterval)
		s.mu.Unlock()
	}
	if pk.ReasonCode == codeWithWill {
		return errLeftWithWill
	}
	if pk.ReasonCode >= 0x80 {
		return &Reason{pk.ReasonCode, "the client says that something is wrong", "CLIENT_INITIATED_DISCONNECT"}
	}
	return errClientLeft
}

// clampExpiry bounds a session expiry asked for, in seconds.
func (b *Broker) clampExpiry(sec uint32) uint32 {
	if m := b.cfg.Limits.SessionExpiryMax; m > 0 && time.Duration(sec)*time.Second > m {
		return uint32(m / time.Second)
	}
	return sec
}

// sayGoodbye tells an MQTT 5 client why its connection ends.
func (c *Conn) sayGoodbye(why *Reason) {
	s := c.owner.Load()
	if s == nil || !s.v5 || why.Code < 0x80 || why == errLost || why == errStalled {
		return
	}
	pk := &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ReasonCode: why.Code}
	if c.info.problem {
		pk.Properties.ReasonString = why.Text
	}
	if c.special != nil {
		pk.Mods.MaxSize = wordsWithin(c.special.maxPacket, 4) // [MQTT-3.14.2-3]
	}
	b := encode(pk, true)
	if c.lockOut() {
		c.out.buf = append(c.out.buf, b...)
	}
	c.out.mu.Unlock()
}
