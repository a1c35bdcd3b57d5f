package mqttclient

import (
	"context"
	"encoding/binary"
	"sync"

	paho "github.com/eclipse/paho.mqtt.golang"

	"tidegate/gateway/fault"
)

// Token is a PUBLISH under way.
type Token struct {
	c    *Client
	t    paho.Token // of QoS 2; then nothing below is used
	done chan struct{}
	err  error // written before done is closed
}

// sender has what was published with QoS 1 and is not acknowledged yet. This path is ours
// from end to end: the library takes several hops between goroutines for each message, and
// its Publish hangs for the whole write timeout when the connection is lost meanwhile.
type sender struct {
	mu      sync.Mutex // guards what follows
	flights map[uint16]*Token
	last    uint16 // the packet identifier used last
	ended   bool   // the connection is lost or closed
}

// firstID begins the packet identifiers of ours; those below are the library's, which counts
// from 1 and needs one for each SUBSCRIBE [MQTT-2.3.1-2].
const firstID = 1 << 14

// begin gives tok a packet identifier that is free.
func (s *sender) begin(tok *Token) (id uint16, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return 0, ErrClosed
	}
	if len(s.flights) > (1<<16-firstID)/2 { // so many that looking for a free one would take its time
		return 0, fault.New(fault.Throttled, "%d messages are not acknowledged", len(s.flights))
	}
	for {
		if s.last++; s.last < firstID {
			s.last = firstID
		}
		if s.flights[s.last] == nil {
			s.flights[s.last] = tok
			return s.last, nil
		}
	}
}

// acked ends the flight of id. An identifier nobody uses is a peer's mistake that harms
// nobody.
func (s *sender) acked(id uint16) {
	s.mu.Lock()
	tok := s.flights[id]
	delete(s.flights, id)
	s.mu.Unlock()
	if tok != nil {
		close(tok.done)
	}
}

// end fails what is still under way.
func (s *sender) end(err error) {
	s.mu.Lock()
	lost := s.flights
	s.flights, s.ended = nil, true
	s.mu.Unlock()
	for _, tok := range lost {
		tok.err = err
		close(tok.done)
	}
}

// Publish sends a message. It may block up to the write timeout while the peer
// takes no bytes; with more than 20,000 unacknowledged messages it is fault.Throttled. payload must not be changed until the token is done. QoS 2 is
// safe only while the connection lasts: a new one knows nothing of packet ids.
func (c *Client) Publish(topic string, qos byte, retain bool, payload []byte) *Token {
	if qos == 2 {
		return &Token{t: c.paho.Publish(topic, qos, retain, payload), c: c}
	}
	tok := &Token{c: c, done: make(chan struct{})}
	var id uint16
	var err error
	if len(topic) == 0 || len(topic) > 0xffff || len(topic)+len(payload)+4 > 1<<28-1 {
		err = fault.New(fault.TooLarge, "a topic of %d and a payload of %d bytes cannot be published", len(topic), len(payload))
	} else if qos > 0 {
		id, err = c.sender.begin(tok)
	}
	if err == nil {
		err = c.conn.w.put(func(buf []byte) []byte { return appendPublish(buf, topic, qos, retain, id, payload) })
		if err != nil && qos > 0 {
			c.sender.mu.Lock()
			delete(c.sender.flights, id)
			ended := c.sender.ended // then end has failed it
			c.sender.mu.Unlock()
			if ended {
				return tok
			}
		}
	}
	if err != nil || qos == 0 {
		tok.err = err
		close(tok.done)
	}
	return tok
}

// appendPublish appends a PUBLISH packet [MQTT-3.3].
func appendPublish(b []byte, topic string, qos byte, retain bool, id uint16, payload []byte) []byte {
	first := byte(0x30) | qos<<1
	if retain {
		first |= 1
	}
	size := 2 + len(topic) + len(payload)
	if qos > 0 {
		size += 2
	}
	b = append(b, first)
	for ; size > 0x7f; size >>= 7 {
		b = append(b, byte(size)|0x80)
	}
	b = append(b, byte(size))
	b = binary.BigEndian.AppendUint16(b, uint16(len(topic)))
	b = append(b, topic...)
	if qos > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return append(b, payload...)
}

// Done is closed when the message was acknowledged (with QoS 0: handed over to be
// written) or has failed. With QoS 2 it may stay open once the client's Done is closed.
func (t *Token) Done() <-chan struct{} {
	if t.t != nil {
		return t.t.Done()
	}
	return t.done
}

// Err is nil when the message was acknowledged; before that, and after a failure,
// it says what is missing.
func (t *Token) Err() error {
	select {
	case <-t.Done():
		if t.t != nil {
			return t.t.Error()
		}
		return t.err
	default:
	}
	select {
	case <-t.c.done:
		if t.c.err != nil {
			return t.c.err
		}
		return ErrClosed
	default:
		return fault.New(fault.Unavailable, "not acknowledged yet")
	}
}

// Wait waits for the acknowledgement, the end of the connection or of ctx.
func (t *Token) Wait(ctx context.Context) error {
	select {
	case <-t.Done():
	case <-t.c.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return t.Err()
}
