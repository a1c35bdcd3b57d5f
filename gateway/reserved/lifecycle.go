package reserved

import (
	"context"
	"encoding/json"
	"sync/atomic"

	"tidegate/gateway/broker"
	"tidegate/gateway/metrics"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
)

// waitingEvents is how many lifecycle events may wait to be published. Beyond that the newest is dropped and
// counted: AWS promises none of them either.
const waitingEvents = 4096

// Lifecycle publishes what happens to clients as the events that AWS IoT publishes (spec/mqtt.md §8).
type Lifecycle struct {
	submit  func(mqtt.Message, func(error))
	events  chan broker.Event
	dropped atomic.Uint64
}

// NewLifecycle makes a publisher that sends its messages down submit.
func NewLifecycle(submit func(mqtt.Message, func(error))) *Lifecycle {
	return &Lifecycle{submit: submit, events: make(chan broker.Event, waitingEvents)}
}

// Note takes an event and returns at once.
func (l *Lifecycle) Note(e broker.Event) {
	select {
	case l.events <- e:
	default:
		l.dropped.Add(1)
	}
}

// Run publishes events until ctx ends, and then those that wait.
func (l *Lifecycle) Run(ctx context.Context, ready func()) error {
	ready()
	for {
		select {
		case e := <-l.events:
			l.submit(lifecycleMessage(&e), nil)
		case <-ctx.Done():
			for {
				select {
				case e := <-l.events:
					l.submit(lifecycleMessage(&e), nil)
				default:
					return nil
				}
			}
		}
	}
}

// Metrics registers the counter of events dropped.
func (l *Lifecycle) Metrics(m *metrics.Set) {
	m.Counter("tidegate_lifecycle_dropped_total", "Lifecycle events dropped because too many waited.", func() float64 { return float64(l.dropped.Load()) })
}

// lifecycleEvent is the payload; which fields there are depends on the kind.
type lifecycleEvent struct {
	ClientID  string   `json:"clientId"`
	Timestamp int64    `json:"timestamp"` // milliseconds
	EventType string   `json:"eventType"`
	Reason    string   `json:"connectFailureReason,omitempty"`
	Session   string   `json:"sessionIdentifier"`
	Principal string   `json:"principalIdentifier"`
	Address   string   `json:"ipAddress,omitempty"`
	ByClient  *bool    `json:"clientInitiatedDisconnect,omitempty"`
	Left      string   `json:"disconnectReason,omitempty"`
	Version   *uint64  `json:"versionNumber,omitempty"`
	Topics    []string `json:"topics,omitempty"`
}

func lifecycleMessage(e *broker.Event) mqtt.Message {
	v := lifecycleEvent{ClientID: e.ClientID, Timestamp: e.At.UnixMilli(), EventType: string(e.Kind), Session: e.Session, Principal: e.Principal}
	t := awstopic.Topic{Service: awstopic.Events, Reply: "presence", Op: awstopic.Op(e.Kind), Name: e.ClientID}
	switch e.Kind {
	case broker.Connected:
		v.Address, v.Version = e.Address, &e.Version
	case broker.Disconnected:
		v.ByClient, v.Left, v.Version = &e.ByClient, e.Reason, &e.Version
	case broker.ConnectFailed:
		v.Address, v.Reason = e.Address, e.Reason
	default:
		t.Reply, v.Topics = "subscriptions", e.Topics
	}
	doc, _ := json.Marshal(v) // strings and numbers: cannot fail
	m := message(t.String(), doc)
	m.At = e.At
	return m
}
