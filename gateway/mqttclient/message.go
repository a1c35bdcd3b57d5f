package mqttclient

import (
	"sync"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// Message is a message that came in. Payload belongs to whoever was given it.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool // it was kept by the peer before we subscribed
	Dup     bool

	raw  paho.Message
	acks *ackQueue
}

// Ack acknowledges the message; a peer that gets none sends it again on the next
// connection if it keeps the session. It does not block and may be called from
// any goroutine, also after the connection has ended, when it does nothing.
// Messages must be acknowledged in the order they came in [MQTT-4.6.0-2].
func (m *Message) Ack() {
	if m.QoS > 0 {
		m.acks.put(m.raw)
	}
}

// ackQueue hands acknowledgements to the library in a goroutine of its own, as
// that waits for the writer. It is no longer than the peer's window of
// unacknowledged messages.
type ackQueue struct {
	wake chan struct{} // room for one token; closed by stop
	idle chan struct{} // closed when run has ended

	mu      sync.Mutex // guards what follows
	list    []paho.Message
	stopped bool
}

func newAckQueue() *ackQueue {
	q := &ackQueue{wake: make(chan struct{}, 1), idle: make(chan struct{})}
	go q.run()
	return q
}

func (q *ackQueue) put(m paho.Message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped {
		return
	}
	q.list = append(q.list, m)
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// stop ends run once it has done what was put before.
func (q *ackQueue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.stopped {
		q.stopped = true
		close(q.wake)
	}
}

func (q *ackQueue) run() {
	defer close(q.idle)
	for range q.wake {
		q.mu.Lock()
		list := q.list
		q.list = nil
		q.mu.Unlock()
		for _, m := range list {
			m.Ack()
		}
	}
}
