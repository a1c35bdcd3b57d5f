package node

import (
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"time"

	"tidegate/gateway/api/control"
	"tidegate/gateway/api/data"
	"tidegate/gateway/api/files"
	"tidegate/gateway/api/lend"
	"tidegate/gateway/authz"
	"tidegate/gateway/broker"
	"tidegate/gateway/ingest"
	"tidegate/gateway/listen"
	"tidegate/gateway/metrics"
	"tidegate/gateway/registry"
	"tidegate/gateway/reserved"
	"tidegate/gateway/shadow"
	"tidegate/gateway/supervise"
)

// webSocketAge is how old a connection over WebSocket can get (AWS IoT quotas).
const webSocketAge = 24 * time.Hour

// openDoors makes the doors and their tasks, those of the ports last: they are closed
// first. The plain ones are there with --dev only.
func (n *Node) openDoors(g *supervise.Group, set *metrics.Set, road *ingest.Road, shadows *reserved.Shadows, room *shadow.Room) {
	plane := data.New(data.Deps{Road: road, Shadows: shadows, Room: room, Store: n.store, Operators: n.operators, Auth: n.authz, Clock: n.Clock, Log: n.Log,
		Disconnect: n.disconnect, Jobs: n.work.jobs}, data.Config{Limits: n.cfg.Limits.Limits})

	lender := lend.New(lend.Deps{Auth: n.authz, Record: n.recordLoan, Clock: n.Clock, Log: n.Log})
	lender.Metrics(set)

	openWeb := listen.NewWeb("ws", only("/mqtt", n.webSocket("ws", plane)), n.Log)
	web := listen.NewWeb("https", n.front(n.webSocket("https", plane), plane, n.control, lender), n.Log)

	n.authz.OnRevoked(func(principal string) { web.Cut(func(nc net.Conn) bool { return shows(nc, principal) }) })

	mqtt := func(name string) func(*broker.Transport) {
		return func(t *broker.Transport) { n.broker.Serve(t, broker.Via{Listener: name}) }
	}
	http := func(t *broker.Transport) { web.Serve(t.NetConn()) }
	mqtts := listen.NewSecure("mqtts", n.identity.ServerTLS(), n.Log, []listen.Protocol{{Name: "x-amzn-mqtt-ca", Door: mqtt("mqtts")}, {Name: "mqtt", Door: mqtt("mqtts")}}, mqtt("mqtts"))
	https := listen.NewSecure("https", n.identity.ServerTLS(), n.Log, []listen.Protocol{{Name: "x-amzn-mqtt-ca", Door: mqtt("https")}, {Name: "mqtt", Door: mqtt("https")},
		{Name: "x-amzn-http-ca", Door: http}, {Name: "http/1.1", Door: http}}, func(t *broker.Transport) {
		if n.authz.Wants(t.State().ServerName, registry.ProtocolMQTT) {
			mqtt("https")(t)
			return
		}
		http(t)
	})
	for _, d := range []interface{ Metrics(*metrics.Set) }{openWeb, web, mqtts, https} {
		d.Metrics(set)
	}

	g.Add("web", web.Run)
	g.Add("open web", openWeb.Run)
	g.OnStop("handshakes on mqtts", mqtts.Close)
	g.OnStop("handshakes on https", https.Close)
	g.Add("doors", n.ports.Doors(map[string]func(net.Conn){
		"mqtt":  func(nc net.Conn) { mqtt("mqtt")(broker.Plain(nc)) },
		"ws":    openWeb.Serve,
		"mqtts": mqtts.Serve,
		"https": https.Serve,
	}))
}

// openControl makes the control plane.
func (n *Node) openControl() {
	n.control = control.New(control.Deps{Registry: n.registry, Identity: n.identity, Operators: n.operators, Auth: n.authz, Clock: n.Clock, Log: n.Log,
		Jobs: n.work.jobs, Streams: n.work.streams, Fleet: n.fleet, Tasks: n.tasks, Connectivity: n.facts.Connectivity, Shadows: n.facts.Shadows},
		control.Config{Endpoint: n.endpoint()})
}

// shows says whether the peer of a connection has shown the certificate with that id.
func shows(nc net.Conn, certificate string) bool {
	t, ok := nc.(*tls.Conn)
	if !ok {
		return false
	}
	peers := t.ConnectionState().PeerCertificates
	return len(peers) > 0 && registry.CertificateID(peers[0]) == certificate
}

// webSocket makes the door for MQTT over WebSocket on a port.
func (n *Node) webSocket(port string, plane *data.Data) *listen.WebSocket {
	return &listen.WebSocket{Listener: port, Serve: n.broker.Serve, Origins: n.cfg.Listen.Origins, MaxAge: webSocketAge, Now: n.Clock.Now, Parting: &n.parting, Refuse: plane.Refuse,
		Admit: func(r *http.Request) (any, error) { return n.authz.Upgrade(n.operators, r, port) }}
}

// disconnect ends a client's connection, with clean also its session.
func (n *Node) disconnect(client string, withWill, clean bool) bool {
	if !clean {
		return n.broker.Disconnect(client, withWill)
	}
	if !withWill {
		n.broker.Disconnect(client, false)
	}
	return n.broker.Delete(client)
}

// front leads requests to who answers them. The two planes share paths; there the name
// of the service in the signature tells them apart.
func (n *Node) front(ws http.Handler, plane *data.Data, admin *control.Control, lender *lend.Lend) http.Handler {
	devices := func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		if err := n.authz.Speaks(r.TLS, registry.ProtocolHTTPS); err != nil {
			n.authz.Refused(authz.Refusal{What: "request", Name: r.URL.Path, Remote: authz.RemoteOf(r), Err: err})
			plane.Refuse(w, r, err)
			return
		}
		h.ServeHTTP(w, r)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/mqtt":
			ws.ServeHTTP(w, r)
		case files.Serves(r):
			devices(n.work.door, w, r)
		case lender.Serves(r):
			devices(lender, w, r)
		case plane.Serves(r) && !forControl(r, admin):
			devices(plane, w, r)
		default:
			admin.ServeHTTP(w, r)
		}
	})
}

// forControl says whether a request is for the control plane where both have its path.
// Older tools, such as Debian 12's aws, sign for it as execute-api.
func forControl(r *http.Request, admin *control.Control) bool {
	switch signedFor(r) {
	case "iot":
		return true
	case "execute-api":
		return admin.Knows(r)
	}
	return false
}

// signedFor gives the service that a request says it is signed for.
func signedFor(r *http.Request) string {
	_, credential, ok := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	if !ok {
		credential = r.URL.Query().Get("X-Amz-Credential")
	}
	credential, _, _ = strings.Cut(credential, ",")
	if parts := strings.Split(credential, "/"); len(parts) >= 5 {
		return parts[len(parts)-2]
	}
	return ""
}

// only serves one path.
func only(path string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// endpoint is the name that clients reach this gateway by.
func (n *Node) endpoint() string {
	p := n.ports.Port("https")
	if p == nil {
		return "localhost"
	}
	_, port, _ := net.SplitHostPort(p.Addr().String())
	return net.JoinHostPort("localhost", port)
}
