package mqttclient

import (
	"context"
	"maps"
	"slices"

	paho "github.com/eclipse/paho.mqtt.golang"

	"tidegate/gateway/fault"
)

// Token is a PUBLISH under way.
type Token struct {
	t paho.Token
	c *Client
}

// Publish sends a message. It may block up to the write timeout while the peer
// takes no bytes. payload must not be changed until the token is done. QoS 2 is
// safe only while the connection lasts: a new one knows nothing of packet ids.
func (c *Client) Publish(topic string, qos byte, retain bool, payload []byte) *Token {
	return &Token{c.paho.Publish(topic, qos, retain, payload), c}
}

// Done is closed when the message was acknowledged (with QoS 0: written) or has
// failed. It may stay open once the client's Done is closed.
func (t *Token) Done() <-chan struct{} { return t.t.Done() }

// Err is nil when the message was acknowledged; before that, and after a failure,
// it says what is missing.
func (t *Token) Err() error {
	select {
	case <-t.t.Done():
		return t.t.Error()
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
	case <-t.t.Done():
	case <-t.c.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return t.Err()
}

// Subscribe asks for the messages of filters (filter → highest QoS) and waits for
// the peer's answer. A filter it refuses is fault.Forbidden; the others then stand.
func (c *Client) Subscribe(ctx context.Context, filters map[string]byte) error {
	t := c.paho.SubscribeMultiple(filters, nil)
	if err := c.await(ctx, t); err != nil {
		return err
	}
	granted := t.(*paho.SubscribeToken).Result()
	for _, f := range slices.Sorted(maps.Keys(granted)) {
		if granted[f] == 0x80 {
			return fault.New(fault.Forbidden, "the subscription to %s is refused", f)
		}
	}
	return nil
}

// Unsubscribe ends the subscriptions to filters and waits for the peer's answer.
func (c *Client) Unsubscribe(ctx context.Context, filters ...string) error {
	return c.await(ctx, c.paho.Unsubscribe(filters...))
}

func (c *Client) await(ctx context.Context, t paho.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-c.done:
		if c.err != nil {
			return c.err
		}
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
