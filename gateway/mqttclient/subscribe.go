package mqttclient

import (
	"context"
	"maps"
	"slices"

	paho "github.com/eclipse/paho.mqtt.golang"

	"tidegate/gateway/fault"
)

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
