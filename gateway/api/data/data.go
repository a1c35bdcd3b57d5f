// Package data is the data plane over HTTPS: publishing, shadows and connections, as
// AWS IoT's API has them.
//
// A request takes the same road as a message: a shadow that is updated here tells its
// subscribers, a message published here meets the rules. Callers are devices with their
// certificate, judged by their policies, and operators who sign their requests (SigV4,
// services iotdata, iotdevicegateway and iot-jobs-data). Thing variables have no values
// here. Messages are held to the limits that a client of the broker has.
//
//	h := data.New(data.Deps{Road: road, Shadows: shadows, Room: room, Store: db, Operators: ops, Auth: az, Clock: clk}, data.Config{Limits: limits})
//
// Source: botocore's models iot-data/2015-05-28 and iot-jobs-data/2017-09-29; developer
// guide, "HTTPS" and "Device Shadow REST API".
package data

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tidegate/gateway/api/restjson"
	"tidegate/gateway/api/sigv4"
	"tidegate/gateway/authz"
	"tidegate/gateway/broker"
	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/operators"
	"tidegate/gateway/policy"
	"tidegate/gateway/shadow"
	"tidegate/gateway/store"
)

// Road carries messages and units; gateway/ingest has it.
type Road interface {
	Submit(m mqtt.Message, done func(error))
	Commit(build func(u *store.Unit, emit func(mqtt.Message)) error, done func(error)) error
}

// Shadows makes changes of shadows and tells of them; gateway/reserved has it.
type Shadows interface {
	Admit(thing string) error // fault.Throttled: there were too many requests about it
	Get(u *store.Unit, id shadow.ID, request []byte) (shadow.Answer, error)
	Update(u *store.Unit, id shadow.ID, who shadow.Who, request []byte, emit func(mqtt.Message)) (shadow.Change, error)
	Delete(u *store.Unit, id shadow.ID, who shadow.Who, request []byte, emit func(mqtt.Message)) (shadow.Answer, error)
}

// Deps are the rooms behind the door.
type Deps struct {
	Road      Road
	Shadows   Shadows
	Room      *shadow.Room
	Store     *store.Store
	Operators *operators.Operators
	Auth      *authz.Authz
	Clock     clock.Clock
	Log       *slog.Logger // nil: silent
	// Disconnect ends a client's connection, with clean also its session, and says whether
	// there was one.
	Disconnect func(clientID string, withWill, clean bool) bool
	Jobs       Jobs // nil: no operations of jobs
}

// Config bounds the door.
type Config struct {
	Limits broker.Limits // of messages; the zero value has AWS's
}

// hugeBody bounds a request where messages have no limit, in bytes.
const hugeBody = 16 << 20

// Data is the door. It is an http.Handler.
type Data struct {
	Deps
	limits broker.Limits
	server restjson.Server
	ofJobs map[string]bool // operations of the service iot-jobs-data, by name
}

// services are the signing names the SDKs have used for the data plane.
var services = []string{"iotdata", "iotdevicegateway", "iot-jobs-data", "execute-api"}

// New makes the door.
func New(d Deps, cfg Config) *Data {
	if cfg.Limits == (broker.Limits{}) {
		cfg.Limits = broker.DefaultLimits()
	}
	body := int64(cfg.Limits.Payload)
	if body == 0 {
		body = hugeBody
	}
	x := &Data{Deps: d, limits: cfg.Limits, ofJobs: map[string]bool{}}
	x.server = restjson.Server{Ops: x.ops(), Authorize: x.authenticate, Dialect: dialect, MaxBody: body, Trace: true, Refused: x.refused, WrongMethod: "MethodNotAllowedException", Log: d.Log}
	if d.Jobs != nil {
		for _, op := range x.jobs() {
			x.ofJobs[op.Name] = true
			x.server.Ops = append(x.server.Ops, op)
		}
	}
	return x
}

// ServeHTTP answers a request.
func (d *Data) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.server.ServeHTTP(w, r) }

// Serves says whether the request is one for the data plane, by its path.
func (d *Data) Serves(r *http.Request) bool { return d.server.Serves(r) }

// Refuse answers a request with an error, as the data plane words it.
func (d *Data) Refuse(w http.ResponseWriter, r *http.Request, err error) { d.server.Refuse(w, r, err) }

// Operations lists the names of what is served.
func (d *Data) Operations() []string {
	names := make([]string, len(d.server.Ops))
	for i := range d.server.Ops {
		names[i] = d.server.Ops[i].Name
	}
	return names
}

// errTold is in the chain of a refusal that was told of where it was decided.
var errTold = errors.New("told")

// refused tells of callers who are not who they should be, and of what their policies do not
// allow.
func (d *Data) refused(op *restjson.Op, r *http.Request, caller any, err error) {
	p, _ := caller.(*authz.Principal)
	if p != nil && !fault.Is(err, fault.Forbidden) || errors.Is(err, errTold) {
		return
	}
	d.Auth.Refused(authz.Refusal{What: op.Name, Name: r.URL.Path, Principal: p.Name(), Remote: authz.RemoteOf(r), Err: err})
}

// authenticate says who calls: by signature where there is one, else by certificate.
func (d *Data) authenticate(op *restjson.Op, r *http.Request, body []byte) (any, error) {
	if sigv4.Signed(r) {
		return d.Auth.Caller(d.Operators, r, body, services...)
	}
	p, err := d.Auth.Peer(r.TLS, authz.RemoteOf(r))
	if err != nil && d.ofJobs[op.Name] { // spec/jobs.md §3.4
		return nil, fault.Wrap(fault.Invalid, errors.Join(errCertificate, err), "The certificate is invalid")
	}
	if err != nil {
		return nil, fault.Wrap(fault.Forbidden, err, "Forbidden")
	}
	if p == nil {
		if p, err = d.Auth.Header(r); err != nil {
			return nil, fault.Wrap(fault.Forbidden, err, "Forbidden")
		}
	}
	if p == nil {
		return nil, fault.Wrap(fault.Unauthorized, sigv4.ErrMissing, "the request has neither a signature nor a client certificate")
	}
	return p, nil
}

// errCertificate is in the chain where a certificate was shown that is not good.
var errCertificate = errors.New("certificate validation failed")

// may asks the caller's policies.
func may(c *restjson.Call, action policy.Action, name string) error {
	if !c.Who.(*authz.Principal).May(action, name) {
		return fault.New(fault.Forbidden, "Forbidden")
	}
	return nil
}

type publishIn struct {
	Topic       string `at:"path,topic"`
	QoS         int    `at:"query,qos"`
	Retain      bool   `at:"query,retain"`
	ContentType string `at:"query,contentType"`
	Response    string `at:"query,responseTopic"`
	Expiry      *int64 `at:"query,messageExpiry"`
	User        string `at:"header,x-amz-mqtt5-user-properties"`
	Format      string `at:"header,x-amz-mqtt5-payload-format-indicator"`
	Correlation string `at:"header,x-amz-mqtt5-correlation-data"`
	Payload     []byte `at:"body"`
}

type shadowIn struct {
	Thing   string  `at:"path,thingName"`
	Name    *string `at:"query,name"`
	Payload []byte  `at:"body"`
}

// resource is the shadow's part of an ARN.
func (in *shadowIn) resource() string {
	if in.Name == nil {
		return in.Thing
	}
	return in.Thing + "/" + *in.Name
}

// id names the shadow. A name without a letter is one that is wrong, not the classic shadow.
func (in *shadowIn) id() (shadow.ID, error) {
	id := shadow.ID{Thing: in.Thing}
	if in.Name != nil {
		if id.Name = *in.Name; id.Name == "" {
			return id, fault.New(fault.Invalid, "Invalid shadow name")
		}
	}
	return id, nil
}

func (d *Data) ops() []restjson.Op {
	return []restjson.Op{
		restjson.Handle("Publish", "POST", "/topics/{topic+}", d.publish),
		restjson.Handle("GetThingShadow", "GET", "/things/{thingName}/shadow", func(c *restjson.Call, in *shadowIn) (any, error) {
			return d.shadow(c, in, policy.GetThingShadow, func(u *store.Unit, id shadow.ID, _ func(mqtt.Message)) ([]byte, error) {
				a, err := d.Shadows.Get(u, id, nil)
				return a.Body, err
			})
		}),
		restjson.Handle("UpdateThingShadow", "POST", "/things/{thingName}/shadow", func(c *restjson.Call, in *shadowIn) (any, error) {
			return d.shadow(c, in, policy.UpdateThingShadow, func(u *store.Unit, id shadow.ID, emit func(mqtt.Message)) ([]byte, error) {
				a, err := d.Shadows.Update(u, id, who(c), in.Payload, emit)
				return a.Accepted, err
			})
		}),
		restjson.Handle("DeleteThingShadow", "DELETE", "/things/{thingName}/shadow", func(c *restjson.Call, in *shadowIn) (any, error) {
			return d.shadow(c, in, policy.DeleteThingShadow, func(u *store.Unit, id shadow.ID, emit func(mqtt.Message)) ([]byte, error) {
				a, err := d.Shadows.Delete(u, id, who(c), nil, emit)
				return a.Body, err
			})
		}),
		restjson.Handle("ListNamedShadowsForThing", "GET", "/api/things/shadow/ListNamedShadowsForThing/{thingName}", func(c *restjson.Call, in *struct {
			Thing string `at:"path,thingName"`
			Token string `at:"query,nextToken"`
			Size  *int64 `at:"query,pageSize"`
		}) (any, error) {
			if err := may(c, policy.ListNamedShadowsForThing, in.Thing); err != nil {
				return nil, err
			}
			size := 0 // the room's own
			if in.Size != nil {
				if size = int(min(*in.Size, math.MaxInt32)); size == 0 {
					size = -1 // is refused like any other that is too small
				}
			}
			names, next, err := d.Room.List(d.Store, in.Thing, size, in.Token)
			if err != nil {
				return nil, err
			}
			out := map[string]any{"results": append([]string{}, names...), "timestamp": d.Clock.Now().Unix()}
			if next != "" {
				out["nextToken"] = next
			}
			return out, nil
		}),
		restjson.Handle("GetRetainedMessage", "GET", "/retainedMessage/{topic+}", d.retained),
		restjson.Handle("ListRetainedMessages", "GET", "/retainedMessage", d.listRetained),
		restjson.Handle("DeleteConnection", "DELETE", "/connections/{clientId}", func(c *restjson.Call, in *struct {
			Client string `at:"path,clientId"`
			Clean  bool   `at:"query,cleanSession"`
			NoWill bool   `at:"query,preventWillMessage"`
		}) (any, error) {
			if err := may(c, policy.DeleteConnection, in.Client); err != nil {
				return nil, err
			}
			if !d.Disconnect(in.Client, !in.NoWill, in.Clean) {
				return nil, fault.New(fault.NotFound, "the client %s is not connected", in.Client)
			}
			return restjson.Raw{}, nil
		}),
	}
}

// who gives the name in which a caller changes something.
func who(c *restjson.Call) shadow.Who {
	return shadow.Who{By: c.Who.(*authz.Principal).Name(), From: "REST"}
}

// shadow authorizes a request, commits what it does, and answers when that is on the
// disk.
func (d *Data) shadow(c *restjson.Call, in *shadowIn, action policy.Action, do func(u *store.Unit, id shadow.ID, emit func(mqtt.Message)) ([]byte, error)) (any, error) {
	if err := may(c, action, in.resource()); err != nil {
		return nil, err
	}
	id, err := in.id()
	if err == nil {
		err = d.Shadows.Admit(in.Thing)
	}
	if err != nil {
		return nil, err
	}
	var body []byte
	done := make(chan error, 1)
	err = d.Road.Commit(func(u *store.Unit, emit func(mqtt.Message)) (err error) {
		body, err = do(u, id, emit)
		return err
	}, func(err error) { done <- err })
	if err == nil {
		err = <-done
	}
	if err != nil {
		return nil, err
	}
	return restjson.Raw{Header: http.Header{"Content-Type": {"application/json"}}, Body: body}, nil
}

// publish sends a message down the road and answers when it is kept.
func (d *Data) publish(c *restjson.Call, in *publishIn) (any, error) {
	p := c.Who.(*authz.Principal)
	if !d.Auth.MayPublish(p, in.Topic, in.Retain) { // before anything else is said of it: whoever may not learns nothing, and is seen
		return nil, fault.Wrap(fault.Forbidden, errTold, "Forbidden")
	}
	m, err := in.message(p.Name())
	if err == nil {
		err = d.judge(&m)
	}
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(m.Topic, "$") && (m.Retain || !awstopic.MayPublish(m.Topic)) {
		return nil, fault.New(fault.Forbidden, "Forbidden")
	}
	done := make(chan error, 1)
	d.Road.Submit(m, func(err error) { done <- err })
	if err := <-done; err != nil {
		return nil, err
	}
	return map[string]string{"message": "OK", "traceId": c.ID}, nil
}

// judge holds a message to the limits of the broker.
func (d *Data) judge(m *mqtt.Message) error {
	l, own := &d.limits, strings.HasPrefix(m.Topic, awstopic.Prefix)
	over := func(n, max int) bool { return max > 0 && n > max }
	if !own && (over(len(m.Topic), l.TopicBytes) || over(strings.Count(m.Topic, "/"), l.TopicSlashes)) {
		return fault.New(fault.Invalid, "a topic has at most %d bytes and %d slashes", l.TopicBytes, l.TopicSlashes)
	}
	if over(len(m.Payload), l.Payload) {
		return fault.New(fault.TooLarge, "a payload has at most %d bytes", l.Payload)
	}
	size := 0
	for _, p := range m.Props.User {
		size += len(p.Key) + len(p.Value)
	}
	if over(size, l.UserProperties) {
		return fault.New(fault.Invalid, "user properties have at most %d bytes in all", l.UserProperties)
	}
	if most := uint32(l.MessageExpiryMax / time.Second); most > 0 && m.Props.HasExpiry {
		m.Props.Expiry = min(m.Props.Expiry, most)
	}
	return nil
}

// message makes the message a request asks for.
func (in *publishIn) message(principal string) (mqtt.Message, error) {
	m := mqtt.Message{Topic: in.Topic, Payload: in.Payload, Retain: in.Retain, Origin: mqtt.REST, Principal: principal}
	if in.QoS < 0 || in.QoS > 1 {
		return m, fault.New(fault.Invalid, "qos is 0 or 1")
	}
	m.QoS = byte(in.QoS)
	m.Props.ContentType, m.Props.ResponseTopic = in.ContentType, in.Response
	if in.Expiry != nil {
		if *in.Expiry < 0 || *in.Expiry > 1<<32-1 {
			return m, fault.New(fault.Invalid, "messageExpiry is a number of seconds below 2^32")
		}
		m.Props.Expiry, m.Props.HasExpiry = max(uint32(*in.Expiry), 1), true // 0 counts as 1
	}
	switch in.Format {
	case "":
	case "UNSPECIFIED_BYTES", "UTF8_DATA":
		m.Props.HasFormat = true
		if in.Format == "UTF8_DATA" {
			m.Props.Format = 1
		}
	default:
		return m, fault.New(fault.Invalid, "the payload format indicator is UNSPECIFIED_BYTES or UTF8_DATA")
	}
	if in.Correlation != "" {
		b, err := base64.StdEncoding.DecodeString(in.Correlation)
		if err != nil {
			return m, fault.New(fault.Invalid, "the correlation data is not base64")
		}
		m.Props.Correlation = b
	}
	if in.User != "" {
		props, err := userProps(in.User)
		if err != nil {
			return m, err
		}
		m.Props.User = props
	}
	return m, m.Check()
}

// userProps reads user properties: base64 of a JSON array of objects with one pair each.
func userProps(header string) ([]mqtt.UserProp, error) {
	bad := fault.New(fault.Invalid, "the user properties are not base64 of a JSON array of objects with one text each")
	b, err := base64.StdEncoding.DecodeString(header)
	if err != nil {
		return nil, bad
	}
	var list []map[string]string
	if json.Unmarshal(b, &list) != nil {
		return nil, bad
	}
	var out []mqtt.UserProp
	for i, pair := range list {
		if len(pair) != 1 {
			return nil, fault.Wrap(fault.Invalid, bad, "user property %s has not one pair", strconv.Itoa(i))
		}
		for k, v := range pair {
			out = append(out, mqtt.UserProp{Key: k, Value: v})
		}
	}
	return out, nil
}
