package broker

import (
	"strings"
	"time"

	"tidegate/gateway/broker/session"
	"tidegate/gateway/logs"
)

// EventKind is what happened to a client.
type EventKind string

// The kinds, as AWS's lifecycle events call them.
const (
	Connected     EventKind = "connected"
	Disconnected  EventKind = "disconnected"
	ConnectFailed EventKind = "connect_failed"
	Subscribed    EventKind = "subscribed"
	Unsubscribed  EventKind = "unsubscribed"
)

// Event is something that happened to a client (AWS IoT developer guide, "Lifecycle
// events"). Clients whose id holds a wildcard cause none.
type Event struct {
	Kind      EventKind
	ClientID  string
	Principal string
	Session   string // sessionIdentifier
	Version   uint64 // versionNumber
	At        time.Time
	Address   string   // of the client, without port; connected and connect_failed
	Reason    string   // disconnectReason, or connectFailureReason
	ByClient  bool     // clientInitiatedDisconnect
	Topics    []string // filters; subscribed and unsubscribed
}

func (b *Broker) emit(e Event) {
	if strings.ContainsAny(e.ClientID, "+#") {
		return
	}
	e.At = b.clk.Now()
	b.events(e)
}

func (b *Broker) connected(c *Conn, s *client) {
	b.stats.connects.Add(1)
	b.log.Info("client connected", "client", s.id, "principal", c.info.principal.Name())
	b.emit(Event{Kind: Connected, ClientID: s.id, Principal: c.info.principal.Name(), Session: c.info.session, Version: c.info.version, Address: address(c)})
}

// failed tells of a client that was not let in, and why.
func (b *Broker) failed(c *Conn, r *ConnectRequest, principal string, why error) {
	b.log.Info("client refused", "client", r.ClientID, "principal", principal, "listener", c.info.listener, "address", address(c), logs.Err(why))
	b.emit(Event{Kind: ConnectFailed, ClientID: r.ClientID, Principal: principal, Session: c.info.session, Address: address(c), Reason: "AUTHORIZATION_FAILED"})
}

// farewell tells of the end of a connection.
func (b *Broker) farewell(c *Conn, s *client, why *Reason) {
	b.versions.left(s.id, b.clk.Now())
	b.log.Info("client disconnected", "client", s.id, "reason", why.Text)
	b.emit(Event{Kind: Disconnected, ClientID: s.id, Principal: c.info.principal.Name(), Session: c.info.session, Version: c.info.version,
		Reason: why.Event, ByClient: why.Event == errClientLeft.Event})
}

func (b *Broker) subscribed(c *Conn, s *client, subs []session.Sub) {
	if len(subs) == 0 {
		return
	}
	topics := make([]string, len(subs))
	for i := range subs {
		topics[i] = subs[i].Filter
	}
	b.emit(Event{Kind: Subscribed, ClientID: s.id, Principal: c.info.principal.Name(), Session: c.info.session, Topics: topics})
}

func (b *Broker) unsubscribed(c *Conn, s *client, filters map[string]bool) {
	if len(filters) == 0 {
		return
	}
	var topics []string
	for f := range filters {
		topics = append(topics, f)
	}
	b.emit(Event{Kind: Unsubscribed, ClientID: s.id, Principal: c.info.principal.Name(), Session: c.info.session, Topics: topics})
}

// address gives the client's address without its port.
func address(c *Conn) string {
	if c.via.Remote == nil {
		return ""
	}
	a := c.via.Remote.String()
	if i := strings.LastIndexByte(a, ':'); i >= 0 {
		a = strings.Trim(a[:i], "[]")
	}
	return a
}
