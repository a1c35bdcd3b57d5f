package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// Retain keeps the last message of run as what its topic retains, or removes what is
// retained when its payload is empty ([MQTT-3.3.1-6]). A message without the RETAIN
// flag changes nothing.
func Retain(u *store.Unit, run *mqtt.Run) {
	if !run.Retain || len(run.Frames) == 0 {
		return
	}
	m := run.Message(len(run.Frames) - 1)
	if len(m.Payload) == 0 {
		u.Del(store.KeyRetained + run.Topic)
		return
	}
	u.Put(store.KeyRetained+run.Topic, appendMessage(make([]byte, 0, len(m.Payload)+len(m.Topic)+64), &m))
}

// Retained gives what topic retains; ok is false when that is nothing. The message's
// payload must not be changed. Whether it has expired is for the caller to see.
func Retained(db *store.Store, topic string) (m mqtt.Message, ok bool, err error) {
	v, err := db.Get(store.KeyRetained + topic)
	if err != nil || v == nil {
		return mqtt.Message{}, false, err
	}
	m, err = parseMessage(v)
	if err != nil {
		return mqtt.Message{}, false, fmt.Errorf("retained message of %q: %w", topic, err)
	}
	return m, true, nil
}

// EachRetained gives every retained message in the order of topics until fn returns
// false. What does not read is passed over, and the error tells the first of it.
func EachRetained(db *store.Store, fn func(mqtt.Message) bool) error {
	return EachRetainedAfter(db, "", fn)
}

// EachRetainedAfter is EachRetained for the topics behind topic; those before are not read.
func EachRetainedAfter(db *store.Store, topic string, fn func(mqtt.Message) bool) error {
	var bad error
	err := db.ScanAfter(store.KeyRetained, store.KeyRetained+topic, func(key string, v []byte) bool {
		m, err := parseMessage(v)
		if err != nil || m.Topic != strings.TrimPrefix(key, store.KeyRetained) {
			if bad == nil {
				bad = fmt.Errorf("retained message %q does not read: %w", key, err)
			}
			return true
		}
		return fn(m)
	})
	if err == nil {
		err = bad
	}
	return err
}

// A message is kept as
//
//	1 | received, unix ms u64 | origin u8 | hops u8 | from str | principal str | PUBLISH frame of MQTT 5
//
// where str is a two-byte length and that many bytes.
func appendMessage(b []byte, m *mqtt.Message) []byte {
	b = append(b, 1)
	b = binary.BigEndian.AppendUint64(b, uint64(m.At.UnixMilli()))
	b = append(b, byte(m.Origin), m.Hops)
	b = mqtt.AppendString(b, m.From)
	b = mqtt.AppendString(b, m.Principal)
	return mqtt.AppendPublish(b, m, true, 1)
}

var errMessage = errors.New("not a message as kept by this release")

func parseMessage(b []byte) (mqtt.Message, error) {
	if len(b) < 11 || b[0] != 1 {
		return mqtt.Message{}, errMessage
	}
	m := mqtt.Message{At: time.UnixMilli(int64(binary.BigEndian.Uint64(b[1:]))), Origin: mqtt.Origin(b[9]), Hops: b[10]}
	b = b[11:]
	for _, s := range []*string{&m.From, &m.Principal} {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return m, errMessage
		}
		n := 2 + int(binary.BigEndian.Uint16(b))
		*s = string(b[2:n])
		b = b[n:]
	}
	p, err := mqtt.ParsePublish(b, true)
	if err != nil {
		return m, err
	}
	m.Topic, m.Payload, m.QoS, m.Retain = string(p.Topic), p.Payload, p.QoS, p.Retain
	m.Props, err = mqtt.ParseProps(p.Props)
	return m, err
}
