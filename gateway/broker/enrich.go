package broker

import "tidegate/gateway/mqtt"

// Enricher is a Principal whose messages get user properties on their way in, when they come by
// MQTT 5: what the type of its thing propagates. They stand behind the client's own.
type Enricher interface {
	UserProps() []mqtt.UserProp
}

// enrichment is what the messages of a connection get. It belongs to the reader.
type enrichment struct {
	of    Enricher
	gen   uint64 // of the policies when it was asked
	props []byte // encoded
}

// enrichBy notes that the connection's principal may have something to add.
func (c *Conn) enrichBy(p Principal) {
	if e, ok := p.(Enricher); ok && c.v5 {
		c.in.enrich = &enrichment{of: e, gen: c.b.authGen.Load() - 1}
	}
}

// added gives the user properties that the connection's messages get, as encoded. Like policies
// they are asked for anew when Reauthorize says that something has changed.
func (c *Conn) added() []byte {
	e := c.in.enrich
	if e == nil {
		return nil
	}
	if gen := c.b.authGen.Load(); e.gen != gen {
		e.gen, e.props = gen, nil
		for _, u := range e.of.UserProps() {
			e.props = mqtt.AppendString(mqtt.AppendString(append(e.props, mqtt.PropUser), u.Key), u.Value)
		}
	}
	return e.props
}
