package vectors_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/devices/manager"
	"tidegate/gateway/api/sigv4"
	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/node"
	"tidegate/test/rawmqtt"
)

// patience is how long an expectation is waited for, and calm how long what must not come is given to come.
const (
	patience = 15 * time.Second
	calm     = 30 * time.Millisecond
)

// house is a whole gateway that sequences are played against from outside: MQTT over TCP, signed requests over HTTPS. Only
// its clock is ours.
type house struct {
	clk      *clocktest.Manual
	began    time.Time
	data     string // folder
	addrs    map[string]string
	http     *http.Client
	key      sigv4.Credentials
	observer *guest
	guests   map[string]*guest

	mu   sync.Mutex // guards what follows
	seen []mqtt.Message
}

// guest is a client's connection.
type guest struct {
	*rawmqtt.Conn
	id     string
	subs   []string
	acks   chan byte // packet types of the acknowledgements; 16, more are not outstanding
	marker chan string
	gone   chan struct{} // closed when the connection has ended
}

// errGone says that the gateway has ended a connection.
var errGone = errors.New("the connection has ended")

func newHouse(t *testing.T) *house {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	free := "127.0.0.1:0"
	cfg, err := node.LoadConfig(node.Flags{Dev: true, Data: filepath.Join(t.TempDir(), "data"), MQTT: free, WS: "off", MQTTS: "off", HTTPS: free, Metrics: "off"}, func(string) string { return "" })
	must(err)
	cfg.Store.Ballast, cfg.Store.LogFiles, cfg.Store.LogFileSize = -1, 3, 1<<20
	cfg.Devices = manager.DefaultConfig()
	cfg.Broker.Limits.KeepAliveMax, cfg.Broker.StallTimeout = 0, 365*24*time.Hour // a sequence may move the clock by days in one go
	h := &house{clk: clocktest.New(time.Now()), data: cfg.Data, guests: map[string]*guest{}}
	h.began = h.clk.Now()
	n, err := node.Build(cfg, node.Deps{Clock: h.clk, Log: slog.New(slog.DiscardHandler), Env: func(string) string { return "" }})
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		for _, g := range h.guests {
			g.Conn.Conn.Close()
		}
		h.http.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	announced := filepath.Join(cfg.Data, "run", "listeners.json")
	h.http = &http.Client{}
	must(until(func() error { _, err := os.Stat(announced); return err }))
	h.addrs = n.Addrs()
	pem, err := os.ReadFile(filepath.Join(cfg.Data, "pki", "ca.pem"))
	must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	h.http.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}}
	text, err := os.ReadFile(filepath.Join(cfg.Data, "operator", "credentials"))
	must(err)
	for line := range strings.Lines(string(text)) {
		switch name, value, _ := strings.Cut(line, "="); strings.TrimSpace(name) {
		case "aws_access_key_id":
			h.key.AccessKey = strings.TrimSpace(value)
		case "aws_secret_access_key":
			h.key.Secret = strings.TrimSpace(value)
		}
	}
	h.observer, err = h.guest("observer of vectors", "#", "$aws/events/#")
	must(err)
	return h
}

// until calls ok until it gives nil, and its last error when patience is over.
func until(ok func() error) error {
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		err := ok()
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// guest gives the connection of a client with subscriptions, made anew if it has others.
func (h *house) guest(id string, filters ...string) (*guest, error) {
	if g := h.guests[id]; g != nil {
		if slices.Equal(g.subs, filters) && !g.ended() {
			return g, nil
		}
		g.Conn.Conn.Close()
	}
	return h.connect(id, filters, nil)
}

func (h *house) connect(id string, filters []string, will *rawWill) (*guest, error) {
	var c *rawmqtt.Conn
	var err error
	if will == nil {
		c, _, err = rawmqtt.Dial(h.addrs["mqtt"], rawmqtt.Options{ClientID: id, Clean: true, ReadBuffer: 256 << 10})
	} else {
		c, err = will.dial(h.addrs["mqtt"], id)
	}
	if err != nil {
		return nil, fmt.Errorf("%s connects: %w", id, err)
	}
	g := &guest{Conn: c, id: id, subs: filters, acks: make(chan byte, 16), marker: make(chan string, 16), gone: make(chan struct{})}
	h.guests[id] = g
	go h.listen(g)
	for len(filters) > 0 {
		part := filters[:min(8, len(filters))]
		filters = filters[len(part):]
		if err := g.exchange(rawmqtt.AppendSubscribe(nil, false, 1, 1, part...), rawmqtt.Suback); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (g *guest) ended() bool {
	select {
	case <-g.gone:
		return true
	default:
		return false
	}
}

// exchange sends a packet and waits for its acknowledgement. It fails with errGone when the connection ends instead.
func (g *guest) exchange(packet []byte, ack byte) error {
	if _, err := g.Write(packet); err != nil {
		return errors.Join(errGone, err)
	}
	select {
	case <-g.gone:
		return fmt.Errorf("%s: %w", g.id, errGone)
	case got := <-g.acks:
		if got != ack {
			return fmt.Errorf("%s got packet %d, want %d", g.id, got, ack)
		}
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%s got no acknowledgement", g.id)
	}
}

// listen keeps what a client hears until its connection ends.
func (h *house) listen(g *guest) {
	defer close(g.gone)
	for {
		p, err := g.Next()
		if err != nil {
			return
		}
		switch p.Type {
		case rawmqtt.Publish:
			m := mqtt.Message{Topic: string(p.Topic), Payload: bytes.Clone(p.Payload), To: g.id}
			if p.QoS() == 1 {
				if _, err := g.Write(rawmqtt.AppendAck(nil, rawmqtt.Puback, p.ID)); err != nil {
					return
				}
			}
			if rest, ok := strings.CutPrefix(m.Topic, "vectors/marker/"); ok {
				if g.id == "observer of vectors" {
					g.marker <- rest
				}
				continue
			}
			h.mu.Lock()
			h.seen = append(h.seen, m)
			h.mu.Unlock()
		case rawmqtt.Suback, rawmqtt.Puback:
			g.acks <- p.Type
		}
	}
}

// watch has the observer hear everything about a thing.
func (h *house) watch(thing string) error {
	filters := slices.Clone(h.observer.subs)
	for _, service := range []string{"jobs", "shadow"} {
		if f := "$aws/things/" + thing + "/" + service + "/#"; !slices.Contains(filters, f) {
			filters = append(filters, f)
		}
	}
	if len(filters) == len(h.observer.subs) {
		return nil
	}
	g, err := h.guest(h.observer.id, filters...)
	h.observer = g
	return err
}

// settle waits until what was published before has been delivered.
func (h *house) settle(n int) error {
	name := fmt.Sprint(n)
	if err := h.observer.exchange(rawmqtt.AppendPublish(nil, false, "vectors/marker/"+name, nil, 1, 7, 0), rawmqtt.Puback); err != nil {
		return err
	}
	for {
		select {
		case got := <-h.observer.marker:
			if got == name {
				time.Sleep(calm) // what a timer causes comes on no road of its own
				return nil
			}
		case <-time.After(patience):
			return errors.New("the observer hears nothing any more")
		}
	}
}

var thingsIn = regexp.MustCompile(`\$aws/things/([^/"]+)/|"thingName": ?"([^"]+)"|/things/([^/"?]+)`)

// play runs a sequence.
func (h *house) play(sequence json.RawMessage, steps []step) error {
	for _, m := range thingsIn.FindAllStringSubmatch(string(sequence), -1) {
		for _, name := range m[1:] {
			if name == "" || strings.ContainsAny(name, "+#%$") || len(name) > 128 {
				continue
			}
			if err := h.watch(name); err != nil {
				return err
			}
		}
	}
	for i := range steps {
		if err := h.step(i, &steps[i]); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return nil
}

func (h *house) step(i int, s *step) error {
	h.mu.Lock()
	h.seen = nil
	h.mu.Unlock()
	respond := func() error {
		got, err := h.stimulate(s)
		if err != nil {
			return err
		}
		return s.ExpectResponse.check(got, span{h.began, h.clk.Now()})
	}
	if s.reads() { // what time has brought about may still be on its way
		if err := until(respond); err != nil {
			return err
		}
	} else if err := respond(); err != nil {
		return err
	}
	look := func(check func(w *world) error) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		return check(&world{seen: h.seen, now: span{h.began, h.clk.Now()}})
	}
	for _, want := range s.ExpectPublishes {
		if err := until(func() error {
			return look(func(w *world) error { return w.published(want.Topic, want.Payload, want.Absent) })
		}); err != nil {
			return err
		}
	}
	for _, d := range s.ExpectDeliveries {
		if err := until(func() error { return look(func(w *world) error { return once(w, d.ClientID, d.Topic) }) }); err != nil {
			return err
		}
	}
	if err := h.settle(i); err != nil {
		return err
	}
	return look(func(w *world) error {
		for _, topic := range s.ExpectNoPublish {
			if i := slices.IndexFunc(w.seen, func(m mqtt.Message) bool { return m.Topic == topic }); i >= 0 {
				return fmt.Errorf("%s must not be published: %s", topic, w.seen[i].Payload)
			}
		}
		for _, d := range s.ExpectDeliveries {
			if err := once(w, d.ClientID, d.Topic); err != nil {
				return err
			}
		}
		for _, d := range s.ExpectNoDelivery {
			if w.delivered(d.ClientID, d.Topic) > 0 {
				return fmt.Errorf("%s must not get %s", d.ClientID, d.Topic)
			}
		}
		return nil
	})
}

// reads says whether a step only asks over HTTPS, so that it may ask again.
func (s *step) reads() bool {
	switch {
	case s.REST != nil:
		return s.REST.Method == "GET"
	case s.Control != nil:
		at := operations[s.Control.Operation]
		return at != nil && at[0] == "GET"
	}
	return false
}

func once(w *world, client, topic string) error {
	if n := w.delivered(client, topic); n != 1 {
		return fmt.Errorf("%s got %s %d times, want once", client, topic, n)
	}
	return nil
}

func (h *house) stimulate(s *step) (response, error) {
	switch {
	case s.MQTT != nil:
		payload := octets(s.MQTT.Payload, s.MQTT.PayloadText, s.MQTT.PayloadBase64)
		client := s.MQTT.ClientID
		if client == "" {
			client = "pump1"
		}
		var filters []string
		if s.MQTT.Subscribed == nil || *s.MQTT.Subscribed {
			filters = []string{"$aws/things/" + client + "/jobs/#"}
		}
		g, err := h.guest(client, filters...)
		if err != nil {
			return response{}, err
		}
		err = g.exchange(rawmqtt.AppendPublish(nil, false, s.MQTT.Topic, payload, 1, 5, 0), rawmqtt.Puback)
		if errors.Is(err, errGone) {
			err = nil // what clients must not publish ends their connection: what follows is for the sequence to say
		}
		return response{}, err
	case s.REST != nil:
		body := octets(s.REST.Body, s.REST.BodyText, s.REST.BodyBase64)
		service := s.REST.Service
		if service == "" {
			service = "iotdata"
		}
		return h.call(service, s.REST.Method, s.REST.Path, body)
	case s.Control != nil:
		return h.control(s.Control.Operation, s.Control.Input)
	case s.Connect != nil:
		var will *rawWill
		if s.Connect.Will != nil {
			will = &rawWill{s.Connect.Will.Topic, s.Connect.Will.Payload}
		}
		var filters []string
		if s.Subscribe != nil {
			filters = []string{s.Subscribe.Filter}
		}
		if g := h.guests[s.Connect.ClientID]; g != nil {
			g.Conn.Conn.Close()
		}
		_, err := h.connect(s.Connect.ClientID, filters, will)
		return response{}, err
	case s.Subscribe != nil:
		var have []string
		if g := h.guests[s.Subscribe.ClientID]; g != nil {
			have = g.subs
		}
		_, err := h.guest(s.Subscribe.ClientID, append(slices.Clone(have), s.Subscribe.Filter)...)
		return response{}, err
	case s.DropConnection != "":
		if g := h.guests[s.DropConnection]; g != nil {
			g.Conn.Conn.Close() // without a DISCONNECT
			delete(h.guests, s.DropConnection)
		}
		return response{}, nil
	case s.AdvanceSeconds > 0:
		h.clk.Advance(time.Duration(s.AdvanceSeconds) * time.Second)
		return response{}, nil
	}
	return response{}, fmt.Errorf("a step without a stimulus that this runner knows")
}

// call sends a signed request.
func (h *house) call(service, method, path string, body []byte) (response, error) {
	req, err := http.NewRequest(method, "https://"+h.addrs["https"]+path, bytes.NewReader(body))
	if err != nil {
		return response{}, err
	}
	sigv4.Sign(req, body, h.key, "local-1", service, h.clk.Now())
	resp, err := h.http.Do(req)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	kind, _, _ := strings.Cut(resp.Header.Get("x-amzn-ErrorType"), ":")
	return response{resp.StatusCode, kind, b}, err
}

// operations says where the operations of the control plane are that sequences use: method, path, members of the query.
var operations = map[string][]string{
	"CreateThing": {"POST", "/things/{thingName}"}, "DeleteThing": {"DELETE", "/things/{thingName}"},
	"CreateThingGroup": {"POST", "/thing-groups/{thingGroupName}"}, "DeleteThingGroup": {"DELETE", "/thing-groups/{thingGroupName}"},
	"CreateDynamicThingGroup": {"POST", "/dynamic-thing-groups/{thingGroupName}"},
	"AddThingToThingGroup":    {"PUT", "/thing-groups/addThingToThingGroup"}, "RemoveThingFromThingGroup": {"PUT", "/thing-groups/removeThingFromThingGroup"},
	"UpdateThingGroupsForThing": {"PUT", "/thing-groups/updateThingGroupsForThing"}, "DescribeThing": {"GET", "/things/{thingName}"},
	"UpdateThing": {"PATCH", "/things/{thingName}"}, "CreateThingType": {"POST", "/thing-types/{thingTypeName}"},
	"CreateStream": {"POST", "/streams/{streamId}"}, "UpdateStream": {"PUT", "/streams/{streamId}"},
	"UpdateEventConfigurations": {"PATCH", "/event-configurations"},
	"CreateJob":                 {"PUT", "/jobs/{jobId}"}, "DescribeJob": {"GET", "/jobs/{jobId}", "beforeSubstitution"}, "UpdateJob": {"PATCH", "/jobs/{jobId}", "namespaceId"},
	"GetJobDocument": {"GET", "/jobs/{jobId}/job-document", "beforeSubstitution"}, "ListJobs": {"GET", "/jobs", "status", "targetSelection", "maxResults", "nextToken", "thingGroupName", "thingGroupId", "namespaceId"},
	"CancelJob": {"PUT", "/jobs/{jobId}/cancel", "force"}, "DeleteJob": {"DELETE", "/jobs/{jobId}", "force", "namespaceId"},
	"AssociateTargetsWithJob": {"POST", "/jobs/{jobId}/targets", "namespaceId"}, "ListJobExecutionsForJob": {"GET", "/jobs/{jobId}/things", "status", "maxResults", "nextToken"},
	"ListJobExecutionsForThing": {"GET", "/things/{thingName}/jobs", "status", "namespaceId", "maxResults", "nextToken", "jobId"},
	"DescribeJobExecution":      {"GET", "/things/{thingName}/jobs/{jobId}", "executionNumber"}, "CancelJobExecution": {"PUT", "/things/{thingName}/jobs/{jobId}/cancel", "force"},
	"DeleteJobExecution": {"DELETE", "/things/{thingName}/jobs/{jobId}/executionNumber/{executionNumber}", "force", "namespaceId"},
	"CreateJobTemplate":  {"PUT", "/job-templates/{jobTemplateId}"}, "DescribeJobTemplate": {"GET", "/job-templates/{jobTemplateId}"},
	"DeleteJobTemplate": {"DELETE", "/job-templates/{jobTemplateId}"}, "ListJobTemplates": {"GET", "/job-templates", "maxResults", "nextToken"},
}

// control sends an operation of the control plane.
func (h *house) control(op string, input json.RawMessage) (response, error) {
	const base = "arn:aws:iot:local-1:000000000000:"
	input = thingARN.ReplaceAll(input, []byte(base+"thing/$1"))
	input = groupARN.ReplaceAll(input, []byte(base+"thinggroup/$1"))
	at := operations[op]
	if at == nil {
		return response{}, fmt.Errorf("operation %s is unknown to this runner", op)
	}
	var in map[string]any
	d := json.NewDecoder(bytes.NewReader(input))
	d.UseNumber()
	if err := d.Decode(&in); err != nil {
		return response{}, err
	}
	path, query := at[1], url.Values{}
	for name, v := range in {
		if label := "{" + name + "}"; strings.Contains(path, label) {
			path = strings.ReplaceAll(path, label, url.PathEscape(fmt.Sprint(v)))
			delete(in, name)
		} else if slices.Contains(at[2:], name) {
			query.Set(name, fmt.Sprint(v))
			delete(in, name)
		}
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var body []byte
	if at[0] != "GET" && at[0] != "DELETE" {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return response{}, err
		}
	}
	return h.call("iot", at[0], path, body)
}

// rawWill is a client with a last will, which rawmqtt does not write.
type rawWill struct {
	topic   string
	payload []byte
}

func (w *rawWill) dial(addr, id string) (*rawmqtt.Conn, error) {
	body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 0b1110, 0, 0}, byte(len(id)>>8), byte(len(id))) // clean session, a will of QoS 1
	body = append(body, id...)
	for _, part := range [][]byte{[]byte(w.topic), w.payload} {
		body = append(append(body, byte(len(part)>>8), byte(len(part))), part...)
	}
	packet := []byte{rawmqtt.Connect << 4}
	for n := len(body); ; {
		b := byte(n & 0x7f)
		if n >>= 7; n > 0 {
			b |= 0x80
		}
		packet = append(packet, b)
		if n == 0 {
			break
		}
	}
	nc, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	c := rawmqtt.Over(nc, false)
	if _, err := c.Write(append(packet, body...)); err != nil {
		return nil, err
	}
	if p, err := c.Next(); err != nil || p.Type != rawmqtt.Connack || p.Code != 0 {
		return nil, fmt.Errorf("connect with a will: %+v, %w", p, err)
	}
	return c, nil
}

// throughDoors plays a set of sequences, each against a gateway of its own.
func throughDoors(t *testing.T, file string) {
	t.Helper()
	var set []json.RawMessage
	if !load(t, file, &set) {
		return
	}
	for _, raw := range set {
		var v struct {
			ID    string
			Steps []step
		}
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		t.Run(v.ID, func(t *testing.T) {
			t.Parallel()
			if err := newHouse(t).play(raw, v.Steps); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestJobsThroughDoors(t *testing.T) { throughDoors(t, "jobs.json") }

func TestShadowThroughDoors(t *testing.T) { throughDoors(t, "shadow.json") }
