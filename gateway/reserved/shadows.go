package reserved

import (
	"log/slog"
	"strconv"
	"sync"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/jsondoc"
	"tidegate/gateway/logs"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/shadow"
	"tidegate/gateway/store"
)

// Shadows joins the shadow room to its topics (spec/shadow.md §5). Doors other than MQTT
// call Update and Delete, so that subscribers hear of a change whoever made it.
type Shadows struct {
	room *shadow.Room
	clk  clock.Clock
	log  *slog.Logger

	// Wanted, when set, says whether a message on topic would reach anybody; one that
	// would not is not made. Set it before the first request.
	Wanted func(topic string) bool

	// InFlight bounds the unanswered requests of a client over MQTT; more are refused with 429. 0: any number.
	InFlight int
	mu       sync.Mutex
	flying   map[string]int // unanswered requests by client
	pace     pace
}

// NewShadows makes the binding.
func NewShadows(room *shadow.Room, clk clock.Clock, log *slog.Logger) *Shadows {
	return &Shadows{room: room, clk: clk, log: log, flying: map[string]int{}, pace: pace{clk: clk}}
}

// Update is shadow.Room.Update and hands the messages that tell of the change to emit:
// delta when there is one, documents, accepted; those that somebody wants. A refusal
// emits nothing. The change always holds what was accepted.
func (s *Shadows) Update(u *store.Unit, id shadow.ID, who shadow.Who, request []byte, emit func(mqtt.Message)) (shadow.Change, error) {
	return s.update(u, id, who, request, shadow.WantAccepted, emit)
}

// update is Update with the documents that the caller itself needs.
func (s *Shadows) update(u *store.Unit, id shadow.ID, who shadow.Who, request []byte, need shadow.Parts, emit func(mqtt.Message)) (shadow.Change, error) {
	var names [3]string // in the order in which they are sent
	var want shadow.Parts
	t := topic(id, awstopic.Update)
	for i, p := range parts {
		t.Reply = p.reply
		names[i] = t.String()
		if s.Wanted == nil || s.Wanted(names[i]) {
			want |= p.part
		}
	}
	c, err := s.room.Update(u, id, who, request, want|need)
	if err != nil {
		return c, err
	}
	for i, doc := range [3][]byte{c.Delta, c.Documents, c.Accepted} {
		if doc != nil && want&parts[i].part != 0 {
			emit(inNameOf(who, message(names[i], doc)))
		}
	}
	return c, nil
}

// parts are the messages of an update in their order.
var parts = [3]struct {
	reply awstopic.Reply
	part  shadow.Parts
}{{awstopic.Delta, shadow.WantDelta}, {awstopic.Documents, shadow.WantDocuments}, {awstopic.Accepted, shadow.WantAccepted}}

// Get is shadow.Room.Get. It emits nothing: only who asks over MQTT is answered by a
// message.
func (s *Shadows) Get(u *store.Unit, id shadow.ID, request []byte) (shadow.Answer, error) {
	return s.room.Get(u, id, request)
}

// Delete is shadow.Room.Delete and hands the message that tells of it to emit. A refusal
// emits nothing.
func (s *Shadows) Delete(u *store.Unit, id shadow.ID, who shadow.Who, request []byte, emit func(mqtt.Message)) (shadow.Answer, error) {
	a, err := s.room.Delete(u, id, who, request)
	if err == nil {
		t := topic(id, awstopic.Delete)
		t.Reply = awstopic.Accepted
		emit(inNameOf(who, message(t.String(), a.Body)))
	}
	return a, err
}

// Handle is the Handler of the shadow topics. A last will is no request: subscribers see
// it, the shadow does not change (spec/shadow.md §5).
func (s *Shadows) Handle(u *store.Unit, t awstopic.Topic, m *mqtt.Message, emit func(mqtt.Message)) error {
	if m.Origin == mqtt.Will {
		return nil
	}
	id := shadow.ID{Thing: t.Thing, Name: t.Name}
	var token *string
	var err error
	who := shadow.Who{By: m.Principal, From: m.From}
	op := t.Op
	if !s.takeOff(u, m.From) {
		err = errTooMany
		s.pace.refused.Add(1)
	} else {
		err = s.pace.takeIn(u, id.Thing, m)
	}
	if err != nil {
		op, token = "", s.room.Token(m.Payload)
	}
	switch op {
	case awstopic.Update:
		var c shadow.Change
		c, err = s.update(u, id, who, m.Payload, 0, emit)
		token = c.Token
		c.Free() // a message has its own copy
	case awstopic.Get:
		var a shadow.Answer
		if a, err = s.Get(u, id, m.Payload); err == nil {
			t.Reply = awstopic.Accepted
			emit(inNameOf(who, message(t.String(), a.Body)))
		}
		token = a.Token
	case awstopic.Delete:
		var a shadow.Answer
		a, err = s.Delete(u, id, who, m.Payload, emit)
		token = a.Token
	}
	if err != nil {
		if fault.Of(err) == fault.Internal {
			s.log.Error("shadow request failed", logs.Err(err), logs.Thing, id.Thing, logs.Shadow, id.Name)
		}
		t.Reply = awstopic.Rejected
		emit(inNameOf(who, message(t.String(), s.refusal(err, token))))
	}
	return nil
}

var errTooMany = fault.New(fault.Throttled, "Too many requests are in flight")

// takeOff counts a request of a client until its unit is on the disk or dropped, and says whether it may be served.
func (s *Shadows) takeOff(u *store.Unit, client string) bool {
	if s.InFlight <= 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flying[client] >= s.InFlight {
		return false
	}
	s.flying[client]++
	u.Then(func(uint64, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.flying[client]--; s.flying[client] == 0 {
			delete(s.flying, client)
		}
	})
	return true
}

// inNameOf notes on a message who caused it.
func inNameOf(who shadow.Who, m mqtt.Message) mqtt.Message {
	m.Principal, m.From = who.By, who.From
	return m
}

// Ask is an update or a deletion of a shadow in the name of somebody who does not come
// over MQTT.
type Ask struct {
	shadow.Who
	ID      shadow.ID
	Request []byte
	Delete  bool
}

// Do makes the change in a unit of its own and gives what the shadow's owner is told of
// it: the accepted document.
func (s *Shadows) Do(commit Committer, a Ask) (accepted []byte, err error) {
	done := make(chan error, 1)
	err = commit(func(u *store.Unit, emit func(mqtt.Message)) error {
		if a.Delete {
			answer, err := s.Delete(u, a.ID, a.Who, a.Request, emit)
			accepted = answer.Body
			return err
		}
		c, err := s.Update(u, a.ID, a.Who, a.Request, emit)
		accepted = c.Accepted
		return err
	}, func(err error) { done <- err })
	if err == nil {
		err = <-done
	}
	return accepted, err
}

func topic(id shadow.ID, op awstopic.Op) awstopic.Topic {
	return awstopic.Topic{Service: awstopic.Shadow, Thing: id.Thing, Name: id.Name, Op: op}
}

// refusal writes the error document of spec/shadow.md §7.
func (s *Shadows) refusal(err error, token *string) []byte {
	b := strconv.AppendInt([]byte(`{"code":`), int64(status(err)), 10)
	b = jsondoc.AppendString(append(b, `,"message":`...), shown(err))
	b = strconv.AppendInt(append(b, `,"timestamp":`...), s.clk.Now().Unix(), 10)
	if token != nil {
		b = jsondoc.AppendString(append(b, `,"clientToken":`...), *token)
	}
	return append(b, '}')
}

// shown gives what may be said of err.
func shown(err error) string {
	if fault.Of(err) == fault.Internal {
		return "Internal service failure"
	}
	return fault.Message(err)
}
