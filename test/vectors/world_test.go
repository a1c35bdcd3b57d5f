package vectors_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/reserved"
	"tidegate/gateway/shadow"
	"tidegate/gateway/store"
)

// step is one step of a sequence: one stimulus and what must, or must not, follow.
type step struct {
	MQTT *struct {
		ClientID    string
		Subscribed  *bool
		Topic       string
		Payload     json.RawMessage
		PayloadText *string
	}
	REST *struct {
		Service, Method, Path string
		Body                  json.RawMessage
		BodyText              *string
	}
	Control *struct {
		Operation string
		Input     json.RawMessage
	}
	Connect *struct {
		ClientID string
		Will     *struct {
			Topic   string
			Payload json.RawMessage
		}
	}
	DropConnection string
	AdvanceSeconds int
	Subscribe      *struct{ ClientID, Filter string }

	ExpectPublishes []struct {
		Topic   string
		Payload json.RawMessage
		Absent  []string
	}
	ExpectNoPublish []string
	ExpectResponse  *struct {
		Status    int
		ErrorType string
		Body      json.RawMessage
	}
	ExpectDeliveries []struct{ ClientID, Topic string }
	ExpectNoDelivery []struct{ ClientID, Topic string }
}

// response is what a call over HTTPS or of the control plane answers.
type response struct {
	status    int
	errorType string
	body      []byte
}

// world is a gateway reduced to the rooms that sequences are about.
type world struct {
	db      *store.Store
	clk     *clocktest.Manual
	topics  *reserved.Topics
	shadows *reserved.Shadows
	room    *shadow.Room
	things  map[string]bool
	wills   map[string]mqtt.Message
	seen    []mqtt.Message // what the step at hand has caused
}

func newWorld(t *testing.T) *world {
	clk := clocktest.New(time.Now())
	cfg := store.DefaultConfig(t.TempDir())
	cfg.Ballast, cfg.LogFiles, cfg.LogFileSize = -1, 3, 1<<20
	db, err := store.Open(cfg, clk)
	if err != nil {
		t.Fatal(err)
	}
	db.Start()
	t.Cleanup(func() { _ = db.Close() })
	room := shadow.New(clk, shadow.DefaultLimits())
	w := &world{db: db, clk: clk, topics: reserved.New(), room: room, things: map[string]bool{}, wills: map[string]mqtt.Message{}}
	w.shadows = reserved.NewShadows(room, clk, slog.New(slog.DiscardHandler))
	w.topics.Serve(awstopic.Shadow, w.shadows.Handle)
	return w
}

// commit does what build does, and keeps the messages it emits when it is on the disk.
func (w *world) commit(build func(u *store.Unit, emit func(mqtt.Message)) error) error {
	var out []mqtt.Message
	err := w.db.Wait(func(u *store.Unit) error {
		out = nil
		return build(u, func(m mqtt.Message) { out = append(out, m) })
	})
	if err == nil {
		w.seen = append(w.seen, out...)
	}
	return err
}

// publish takes a message the way the road does.
func (w *world) publish(m mqtt.Message) error {
	w.seen = append(w.seen, m)
	if !w.topics.Handles(m.Topic) {
		return nil
	}
	return w.commit(func(u *store.Unit, emit func(mqtt.Message)) error { return w.topics.Handle(u, &m, emit) })
}

// play runs a sequence.
func (w *world) play(steps []step) error {
	for i := range steps {
		if err := w.step(&steps[i]); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return nil
}

func (w *world) step(s *step) error {
	w.seen = nil
	got, err := w.stimulate(s)
	if err != nil {
		return err
	}
	if want := s.ExpectResponse; want != nil {
		if got.status != want.Status || got.errorType != want.ErrorType {
			return fmt.Errorf("answered %d %s %s, want %d %s", got.status, got.errorType, got.body, want.Status, want.ErrorType)
		}
		if want.Body != nil {
			if err := matchTop(want.Body, got.body); err != nil {
				return err
			}
		}
	}
	for _, want := range s.ExpectPublishes {
		if err := w.published(want.Topic, want.Payload, want.Absent); err != nil {
			return err
		}
	}
	for _, topic := range s.ExpectNoPublish {
		if i := slices.IndexFunc(w.seen, func(m mqtt.Message) bool { return m.Topic == topic }); i >= 0 {
			return fmt.Errorf("%s must not be published: %s", topic, w.seen[i].Payload)
		}
	}
	return nil
}

// published says why no message seen is the one wanted.
func (w *world) published(topic string, payload json.RawMessage, absent []string) error {
	err := fmt.Errorf("nothing was published on %s", topic)
	for _, m := range w.seen {
		if m.Topic != topic {
			continue
		}
		if err = matchTop(payload, listed(payload, m.Payload)); err != nil {
			continue
		}
		var members map[string]any
		_ = json.Unmarshal(m.Payload, &members)
		if err = nil; !slices.ContainsFunc(absent, func(k string) bool { _, there := members[k]; return there }) {
			return nil
		}
		err = fmt.Errorf("one of %v is there: %s", absent, m.Payload)
	}
	return err
}

// listed gives got without the metadata of previous and current where want has none:
// metadata is listed only where it is certain (testdata/README.md).
func listed(want, got []byte) []byte {
	a, _ := decode(want)
	b, _ := decode(got)
	w, _ := a.(map[string]any)
	g, _ := b.(map[string]any)
	if g == nil {
		return got
	}
	for _, side := range []string{"previous", "current"} {
		a, ok := w[side].(map[string]any)
		b, ok2 := g[side].(map[string]any)
		if _, named := a["metadata"]; ok && ok2 && !named {
			delete(b, "metadata")
		}
	}
	out, err := json.Marshal(g)
	if err != nil {
		return got
	}
	return out
}

func (w *world) stimulate(s *step) (response, error) {
	switch {
	case s.MQTT != nil:
		payload := []byte(s.MQTT.Payload)
		if s.MQTT.PayloadText != nil {
			payload = []byte(*s.MQTT.PayloadText)
		}
		return response{}, w.publish(mqtt.Message{Topic: s.MQTT.Topic, Payload: payload, QoS: 1, From: s.MQTT.ClientID})
	case s.REST != nil:
		body := []byte(s.REST.Body)
		if s.REST.BodyText != nil {
			body = []byte(*s.REST.BodyText)
		}
		return w.rest(s.REST.Method, s.REST.Path, body)
	case s.Control != nil:
		return w.control(s.Control.Operation, s.Control.Input)
	case s.Connect != nil:
		if will := s.Connect.Will; will != nil {
			w.wills[s.Connect.ClientID] = mqtt.Message{Topic: will.Topic, Payload: will.Payload, QoS: 1, From: s.Connect.ClientID, Origin: mqtt.Will}
		}
		return response{}, nil
	case s.DropConnection != "":
		if m, ok := w.wills[s.DropConnection]; ok {
			return response{}, w.publish(m)
		}
		return response{}, nil
	case s.AdvanceSeconds > 0:
		w.clk.Advance(time.Duration(s.AdvanceSeconds) * time.Second)
		return response{}, nil
	}
	return response{}, fmt.Errorf("a step without a stimulus that this runner knows")
}

// control serves the operations of the control plane that sequences use.
func (w *world) control(op string, input json.RawMessage) (response, error) {
	var in struct{ ThingName string }
	if err := json.Unmarshal(input, &in); err != nil {
		return response{}, err
	}
	switch op {
	case "CreateThing":
		w.things[in.ThingName] = true
	case "DeleteThing":
		delete(w.things, in.ThingName)
	default:
		return response{}, fmt.Errorf("operation %s is unknown to this runner", op)
	}
	return response{status: 200}, nil
}

// rest serves the data plane calls that sequences use.
func (w *world) rest(method, path string, body []byte) (response, error) {
	u, err := url.Parse(path)
	if err != nil {
		return response{}, err
	}
	q := u.Query()
	if thing, ok := strings.CutPrefix(u.Path, "/api/things/shadow/ListNamedShadowsForThing/"); ok && method == "GET" {
		size := 0
		_, _ = fmt.Sscan(q.Get("pageSize"), &size)
		names, next, err := w.room.List(w.db, thing, size, q.Get("nextToken"))
		if err != nil {
			return refusal(err), nil
		}
		answer := map[string]any{"results": names, "timestamp": w.clk.Now().Unix()}
		if next != "" {
			answer["nextToken"] = next
		}
		b, err := json.Marshal(answer)
		return response{status: 200, body: b}, err
	}
	thing, ok := strings.CutPrefix(u.Path, "/things/")
	thing, ok2 := strings.CutSuffix(thing, "/shadow")
	if !ok || !ok2 {
		return response{}, fmt.Errorf("%s %s is unknown to this runner", method, path)
	}
	id := shadow.ID{Thing: thing, Name: q.Get("name")}
	var out []byte
	err = w.commit(func(u *store.Unit, emit func(mqtt.Message)) error {
		switch method {
		case "GET":
			a, err := w.shadows.Get(u, id, nil)
			out = a.Body
			return err
		case "POST":
			c, err := w.shadows.Update(u, id, body, emit)
			out = c.Accepted
			return err
		case "DELETE":
			a, err := w.shadows.Delete(u, id, nil, emit)
			out = a.Body
			return err
		}
		return fault.New(fault.Unsupported, "method")
	})
	if err != nil {
		return refusal(err), nil
	}
	return response{status: 200, body: out}, nil
}

// refusal is an error as the data plane shows it (spec/shadow.md §6).
func refusal(err error) response {
	r := response{status: 500, errorType: "InternalFailureException"}
	switch fault.Of(err) {
	case fault.Invalid:
		r = response{status: 400, errorType: "InvalidRequestException"}
	case fault.NotFound:
		r = response{status: 404, errorType: "ResourceNotFoundException"}
	case fault.Conflict:
		r = response{status: 409, errorType: "ConflictException"}
	case fault.TooLarge:
		r = response{status: 413, errorType: "RequestEntityTooLargeException"}
	case fault.Unsupported:
		r = response{status: 415, errorType: "UnsupportedDocumentEncodingException"}
	}
	r.body, _ = json.Marshal(map[string]string{"message": fault.Message(err)})
	return r
}
