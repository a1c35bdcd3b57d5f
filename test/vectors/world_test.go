package vectors_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/jobs"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/registry"
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
		// PayloadBase64 is what neither JSON nor text can say.
		PayloadBase64 []byte
	}
	REST *struct {
		Service, Method, Path string
		Body                  json.RawMessage
		BodyText              *string
		BodyBase64            []byte
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
	ExpectNoPublish  []string
	ExpectResponse   *expectation
	ExpectDeliveries []struct{ ClientID, Topic string }
	ExpectNoDelivery []struct{ ClientID, Topic string }
}

// octets gives what is sent: JSON, literal text or any bytes.
func octets(doc json.RawMessage, text *string, raw []byte) []byte {
	switch {
	case text != nil:
		return []byte(*text)
	case raw != nil:
		return raw
	}
	return doc
}

// expectation is what must be answered; what it does not name may be anything.
type expectation struct {
	Status    int
	ErrorType string
	Body      json.RawMessage
	Absent    []string
}

// check says why an answer is not the one expected.
func (want *expectation) check(got response, now span) error {
	if want == nil {
		return nil
	}
	if got.status != want.Status || got.errorType != want.ErrorType && (want.ErrorType != "" || want.Status < 400) {
		return fmt.Errorf("answered %d %s %s, want %d %s", got.status, got.errorType, got.body, want.Status, want.ErrorType)
	}
	if want.Body != nil {
		if err := matchTop(want.Body, got.body, now); err != nil {
			return err
		}
	}
	return without(want.Absent, got.body)
}

// without says which member of a JSON object is there that must not be.
func without(absent []string, got []byte) error {
	var members map[string]any
	_ = json.Unmarshal(got, &members)
	for _, k := range absent {
		if _, there := members[k]; there {
			return fmt.Errorf("%q must not be there: %s", k, got)
		}
	}
	return nil
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
	reg     *registry.Registry
	jobs    *reserved.Jobs
	wills   map[string]mqtt.Message
	subs    map[string][]string // filters by client
	seen    []mqtt.Message      // what the step at hand has caused
	now     span
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
	reg, err := registry.Open(db, clk, registry.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	fleet := reserved.Fleet{Registry: reg}
	jobRoom, err := jobs.Open(jobs.Deps{Store: db, Clock: clk, Fleet: fleet, Base: reg.Base(), Limits: jobs.DefaultLimits(), Events: fleet.Events})
	if err != nil {
		t.Fatal(err)
	}
	fleet.Watch(jobRoom.Changed)
	room := shadow.New(clk, shadow.DefaultLimits())
	w := &world{now: at(clk.Now()), db: db, clk: clk, topics: reserved.New(), room: room, reg: reg, wills: map[string]mqtt.Message{}, subs: map[string][]string{}}
	w.shadows = reserved.NewShadows(room, clk, log)
	w.topics.Serve(awstopic.Shadow, w.shadows.Handle)
	w.jobs = reserved.NewJobs(jobRoom, db, clk, log)
	w.jobs.OnCommit(func(build func(u *store.Unit, emit func(mqtt.Message)) error, done func(error)) error {
		if err := w.commit(build); err != nil {
			return err
		}
		done(nil)
		return nil
	})
	w.topics.Serve(awstopic.Jobs, w.jobs.Handle)
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
	if err == nil {
		err = w.jobs.Work(context.Background())
	}
	if err != nil {
		return err
	}
	w.now.to = w.clk.Now()
	if err := s.ExpectResponse.check(got, w.now); err != nil {
		return err
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
	for _, d := range s.ExpectDeliveries {
		if n := w.delivered(d.ClientID, d.Topic); n != 1 {
			return fmt.Errorf("%s got %s %d times, want once", d.ClientID, d.Topic, n)
		}
	}
	for _, d := range s.ExpectNoDelivery {
		if w.delivered(d.ClientID, d.Topic) > 0 {
			return fmt.Errorf("%s must not get %s", d.ClientID, d.Topic)
		}
	}
	return nil
}

// delivered counts the messages on topic that a client was given.
func (w *world) delivered(client, topic string) (n int) {
	for _, m := range w.seen {
		subscribed := slices.ContainsFunc(w.subs[client], func(f string) bool { return mqtt.Match(f, m.Topic) })
		if m.Topic == topic && (m.To == client || m.To == "" && subscribed) {
			n++
		}
	}
	return n
}

// published says why no message seen is the one wanted.
func (w *world) published(topic string, payload json.RawMessage, absent []string) error {
	err := fmt.Errorf("nothing was published on %s", topic)
	for _, m := range w.seen {
		if m.Topic != topic {
			continue
		}
		if err = nil; payload != nil {
			err = matchTop(payload, listed(payload, m.Payload), w.now)
		}
		if err == nil {
			err = without(absent, m.Payload)
		}
		if err == nil {
			return nil
		}
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
		payload := octets(s.MQTT.Payload, s.MQTT.PayloadText, s.MQTT.PayloadBase64)
		client := s.MQTT.ClientID
		if client == "" {
			client = "pump1"
		}
		if s.MQTT.Subscribed == nil || *s.MQTT.Subscribed {
			w.subs[client] = []string{"$aws/things/" + client + "/jobs/#"}
		} else {
			delete(w.subs, client)
		}
		return response{}, w.publish(mqtt.Message{Topic: s.MQTT.Topic, Payload: payload, QoS: 1, From: client})
	case s.REST != nil:
		return w.rest(s.REST.Method, s.REST.Path, octets(s.REST.Body, s.REST.BodyText, s.REST.BodyBase64))
	case s.Control != nil:
		return w.control(s.Control.Operation, s.Control.Input)
	case s.Connect != nil:
		if will := s.Connect.Will; will != nil {
			w.wills[s.Connect.ClientID] = mqtt.Message{Topic: will.Topic, Payload: will.Payload, QoS: 1, From: s.Connect.ClientID, Origin: mqtt.Will}
		}
		if sub := s.Subscribe; sub != nil {
			w.subs[sub.ClientID] = append(w.subs[sub.ClientID], sub.Filter)
		}
		return response{}, nil
	case s.Subscribe != nil:
		w.subs[s.Subscribe.ClientID] = append(w.subs[s.Subscribe.ClientID], s.Subscribe.Filter)
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
	input = thingARN.ReplaceAllFunc(input, func(b []byte) []byte {
		return []byte(w.reg.ARN("thing", string(thingARN.FindSubmatch(b)[1])))
	})
	input = groupARN.ReplaceAllFunc(input, func(b []byte) []byte {
		return []byte(w.reg.ARN("thinggroup", string(groupARN.FindSubmatch(b)[1])))
	})
	answer, err := any(nil), error(nil)
	if slices.Contains(w.jobs.Operations(), op) {
		answer, err = w.jobs.Call(op, input)
	} else {
		err = w.registryCall(op, input)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return response{}, err
	}
	if err != nil {
		return controlRefusal(err), nil
	}
	if answer == nil {
		return response{status: 200, body: []byte("{}")}, nil
	}
	b, err := json.Marshal(answer)
	return response{status: 200, body: b}, err
}

var (
	thingARN = regexp.MustCompile(`\{thingArn:([^}]*)\}`)
	groupARN = regexp.MustCompile(`\{(?:thingGroupArn|groupArn):([^}]*)\}`)
)

// registryCall serves what sequences want of the registry.
func (w *world) registryCall(op string, input json.RawMessage) error {
	var in struct {
		ThingName, ThingArn, ThingGroupName, ThingGroupArn, ParentGroupName, QueryString string
		ThingGroupsToAdd, ThingGroupsToRemove                                            []string
		AttributePayload                                                                 struct{ Attributes map[string]string }
		EventConfigurations                                                              map[string]struct{ Enabled bool }
	}
	if err := json.Unmarshal(input, &in); err != nil {
		return err
	}
	if in.ThingName == "" {
		in.ThingName = in.ThingArn[strings.LastIndexByte(in.ThingArn, '/')+1:]
	}
	if in.ThingGroupName == "" {
		in.ThingGroupName = in.ThingGroupArn[strings.LastIndexByte(in.ThingGroupArn, '/')+1:]
	}
	return w.reg.Do("test", func(tx *registry.Tx) error {
		var err error
		switch op {
		case "CreateThing":
			_, err = tx.CreateThing(registry.ThingInput{Name: in.ThingName, Attributes: in.AttributePayload.Attributes})
		case "DeleteThing":
			err = tx.DeleteThing(in.ThingName, 0)
		case "CreateThingGroup", "CreateDynamicThingGroup":
			_, err = tx.CreateGroup(registry.GroupInput{Name: in.ThingGroupName, Parent: in.ParentGroupName, Query: in.QueryString})
		case "DeleteThingGroup":
			err = tx.DeleteGroup(in.ThingGroupName, false, 0)
		case "AddThingToThingGroup":
			err = tx.AddToGroup(in.ThingName, in.ThingGroupName)
		case "RemoveThingFromThingGroup":
			err = tx.RemoveFromGroup(in.ThingName, in.ThingGroupName)
		case "UpdateThingGroupsForThing":
			for _, g := range in.ThingGroupsToAdd {
				err = errors.Join(err, tx.AddToGroup(in.ThingName, g))
			}
			for _, g := range in.ThingGroupsToRemove {
				err = errors.Join(err, tx.RemoveFromGroup(in.ThingName, g))
			}
		case "UpdateEventConfigurations":
			e := registry.EventSwitches{On: map[string]bool{}}
			for kind, c := range in.EventConfigurations {
				e.On[kind] = c.Enabled
			}
			tx.Set(registry.EventSetting, e)
		default:
			err = fmt.Errorf("operation %s: %w", op, errors.ErrUnsupported)
		}
		return err
	})
}

// controlRefusal is an error as the control plane shows it (spec/jobs.md §5).
func controlRefusal(err error) response {
	r := response{status: 500, errorType: "InternalFailureException"}
	switch fault.Of(err) {
	case fault.Invalid:
		r = response{status: 400, errorType: "InvalidRequestException"}
	case fault.NotFound:
		r = response{status: 404, errorType: "ResourceNotFoundException"}
	case fault.Exists:
		r = response{status: 409, errorType: "ResourceAlreadyExistsException"}
	case fault.LimitExceeded:
		r = response{status: 410, errorType: "LimitExceededException"}
	case fault.Conflict:
		r = response{status: 409, errorType: "ConflictException"}
		if errors.Is(err, jobs.ErrTransition) {
			r.errorType = "InvalidStateTransitionException"
		} else if errors.Is(err, jobs.ErrVersion) {
			r.errorType = "VersionConflictException"
		}
	}
	r.body, _ = json.Marshal(map[string]string{"message": fault.Message(err)})
	return r
}

// rest serves the data plane calls that sequences use.
func (w *world) rest(method, path string, body []byte) (response, error) {
	u, err := url.Parse(path)
	if err != nil {
		return response{}, err
	}
	q := u.Query()
	if thing, job, ok := jobPath(u.Path); ok {
		return w.jobRest(method, thing, job, q, body)
	}
	if thing, ok := strings.CutPrefix(u.Path, "/api/things/shadow/ListNamedShadowsForThing/"); ok && method == "GET" {
		size := 0
		if q.Has("pageSize") {
			if size, err = strconv.Atoi(q.Get("pageSize")); err != nil || size == 0 {
				size = -1 // as wrong as it is at the door
			}
		}
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
	if q.Has("name") && id.Name == "" {
		id.Name = "/" // as wrong as it is at the door
	}
	var out []byte
	err = w.commit(func(u *store.Unit, emit func(mqtt.Message)) error {
		switch method {
		case "GET":
			a, err := w.shadows.Get(u, id, nil)
			out = a.Body
			return err
		case "POST":
			c, err := w.shadows.Update(u, id, shadow.Who{}, body, emit)
			out = c.Accepted
			return err
		case "DELETE":
			a, err := w.shadows.Delete(u, id, shadow.Who{}, nil, emit)
			out = a.Body
			return err
		}
		return errMethod
	})
	if errors.Is(err, errMethod) {
		return response{status: 405, errorType: "MethodNotAllowedException", body: []byte("{}")}, nil
	}
	if err != nil {
		return refusal(err), nil
	}
	return response{status: 200, body: out}, nil
}

var errMethod = errors.New("method not allowed")

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

// jobPath takes a path of the jobs data plane apart; job is empty for the list.
func jobPath(path string) (thing, job string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/things/")
	thing, rest, ok2 := strings.Cut(rest, "/jobs")
	return thing, strings.TrimPrefix(rest, "/"), ok && ok2
}

// jobRest serves the jobs data plane (spec/jobs.md §4).
func (w *world) jobRest(method, thing, job string, q url.Values, body []byte) (response, error) {
	var out []byte
	var err error
	switch {
	case method == "GET" && job == "":
		out, err = w.jobs.Pending(thing)
	case method == "PUT" && job == jobs.Next:
		out, err = w.jobs.StartNext(thing, body)
	case method == "GET":
		n, _ := strconv.ParseInt(q.Get("executionNumber"), 10, 64)
		out, err = w.jobs.Describe(thing, job, jobs.DescribeRequest{Number: n, Document: q.Get("includeJobDocument") != "false"})
	case method == "POST":
		out, err = w.jobs.Update(thing, job, body)
	default:
		return response{}, fmt.Errorf("%s %s is unknown to this runner", method, thing)
	}
	if err != nil {
		r := controlRefusal(err)
		if errors.Is(err, jobs.ErrTerminal) {
			r.status, r.errorType = 410, "TerminalStateException"
		} else if errors.Is(err, jobs.ErrVersion) {
			r.errorType = "InvalidStateTransitionException"
		}
		return r, nil
	}
	return response{status: 200, body: out}, nil
}
