package broker

import (
	"encoding/binary"
	"sync"

	"tidegate/gateway/mqtt"
)

// fan holds the encodings of one run that its receivers ask for: protocol version, QoS
// and RETAIN flag. Each is made once, however many receivers there are; those with
// subscription identifiers are made per receiver.
type fan struct {
	run  *mqtt.Run
	made [12]bool
	alt  [12]mqtt.Run
	own  mqtt.Run
	wait uint32 // seconds since it was received, for what has an expiry
}

var fans = sync.Pool{New: func() any { return new(fan) }}

func newFan(run *mqtt.Run, wait uint32) *fan {
	f := fans.Get().(*fan)
	f.run, f.wait = run, wait
	return f
}

// free gives f back. Nothing it returned may be used any more.
func (f *fan) free() {
	f.run, f.made = nil, [12]bool{}
	fans.Put(f)
}

// as gives the run as a receiver wants it. The result is good until the next call with
// identifiers, or free.
func (f *fan) as(v5 bool, qos byte, retain bool, ids []uint32) *mqtt.Run {
	r := f.run
	if r.V5 == v5 && r.QoS == qos && r.Retain == retain && (len(ids) == 0 || !v5) && (!v5 || f.wait == 0) {
		return r
	}
	if v5 && len(ids) > 0 {
		recode(&f.own, r, v5, qos, retain, ids, f.wait)
		return &f.own
	}
	k := int(qos)
	if v5 {
		k += 3
	}
	if retain {
		k += 6
	}
	if !f.made[k] {
		recode(&f.alt[k], r, v5, qos, retain, nil, f.wait)
		f.made[k] = true
	}
	return &f.alt[k]
}

// recode writes src's messages into dst in another encoding. DUP is never set; packet
// ids stand where they must but mean nothing. wait is taken off message expiries.
func recode(dst, src *mqtt.Run, v5 bool, qos byte, retain bool, ids []uint32, wait uint32) {
	buf, frames := dst.Buf[:0], dst.Frames[:0]
	*dst = *src
	dst.V5, dst.QoS, dst.Retain, dst.Memo = v5, qos, retain, nil
	first := byte(mqtt.PUBLISH<<4) | qos<<1
	if retain {
		first |= 1
	}
	for i := range src.Frames {
		pay := src.Payload(i)
		n := 2 + len(src.Topic) + len(pay)
		if qos > 0 {
			n += 2
		}
		var props []byte
		np := 0
		if v5 {
			props = src.RawProps(i)
			np = len(props)
			for _, id := range ids {
				np += 1 + varintLen(id)
			}
			n += varintLen(uint32(np)) + np
		}
		start := len(buf)
		buf = mqtt.AppendVarint(append(buf, first), n)
		buf = mqtt.AppendString(buf, src.Topic)
		frames = append(frames, mqtt.Frame{Start: uint32(start), ID: uint32(len(buf))})
		if qos > 0 {
			buf = append(buf, 0, 0)
		}
		if v5 {
			buf = mqtt.AppendVarint(buf, np)
			for _, id := range ids { // [MQTT-3.3.4-3]
				buf = mqtt.AppendVarint(append(buf, mqtt.PropSubscriptionID), int(id))
			}
			at := len(buf)
			buf = append(buf, props...)
			if wait > 0 {
				age(buf[at:], wait)
			}
		}
		buf = append(buf, pay...)
	}
	dst.Buf, dst.Frames = buf, frames
}

func varintLen(v uint32) int {
	n := 1
	for ; v > 127; v >>= 7 {
		n++
	}
	return n
}

// age lowers the message expiry in props by wait seconds: the receiver gets what is
// left (MQTT 5, 3.3.2.3.3). It works in place.
func age(props []byte, wait uint32) {
	if v := expiryOf(props); v != nil {
		left := binary.BigEndian.Uint32(v)
		binary.BigEndian.PutUint32(v, left-min(left, wait))
	}
}

// expiryOf gives the four bytes of the message expiry in props, nil when it has none.
func expiryOf(props []byte) []byte {
	for len(props) > 0 {
		id, val, rest, err := mqtt.NextProp(props)
		if err != nil {
			return nil
		}
		if id == mqtt.PropExpiry {
			return val
		}
		props = rest
	}
	return nil
}

// expired says whether message i of run has outlived its expiry after wait seconds
// (MQTT 5, 3.3.2.3.3). It holds for receivers of either version, as in AWS.
func expired(run *mqtt.Run, i int, wait uint32) bool {
	if !run.V5 || wait == 0 {
		return false
	}
	v := expiryOf(run.RawProps(i))
	return v != nil && binary.BigEndian.Uint32(v) <= wait
}
