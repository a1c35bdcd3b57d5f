package reserved

import (
	"context"
	"errors"
	"log/slog"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/jobs"
	"tidegate/gateway/logs"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/store"
)

// Committer makes a unit for a request that did not come as a message, or for nobody's
// request, and sends what is emitted down the road in it. It is ingest.Road.Commit.
type Committer func(build func(u *store.Unit, emit func(mqtt.Message)) error, done func(error)) error

// Jobs joins the jobs room to its topics (spec/jobs.md §3). Doors other than MQTT call
// the methods that commit by themselves, so that things and subscribers hear of a change
// whoever made it.
type Jobs struct {
	room   *jobs.Room
	db     jobs.Reader
	clk    clock.Clock
	log    *slog.Logger
	commit Committer
	pace   pace

	// Wanted, when set, says whether a message on topic would reach anybody; one that
	// would not is not made. Set it before the first request.
	Wanted func(topic string) bool
	// GroupID, when set, gives the name of the thing group with an id.
	GroupID func(id string) (name string, ok bool)
}

// NewJobs makes the binding.
func NewJobs(room *jobs.Room, db jobs.Reader, clk clock.Clock, log *slog.Logger) *Jobs {
	return &Jobs{room: room, db: db, clk: clk, log: log, pace: pace{clk: clk}}
}

// OnCommit says how units are made. It is called once, before anything but Handle.
func (j *Jobs) OnCommit(c Committer) { j.commit = c }

// Run does what jobs do by themselves until ctx ends: a task of the house.
func (j *Jobs) Run(ctx context.Context, ready func()) error {
	ready()
	return j.room.Run(ctx, j.wait)
}

// Work does at once what is due; see jobs.Room.Work. Run must not be running.
func (j *Jobs) Work(ctx context.Context) error {
	_, _, err := j.room.Work(ctx, j.wait)
	return err
}

// wait makes a unit and returns when it is on the disk.
func (j *Jobs) wait(build func(tx jobs.Tx, tell func(jobs.Notice)) error) error {
	return j.waitUnit(func(u *store.Unit, tell func(jobs.Notice)) error { return build(u, tell) })
}

// waitUnit is wait for what needs all of a unit.
func (j *Jobs) waitUnit(build func(u *store.Unit, tell func(jobs.Notice)) error) error {
	done := make(chan error, 1)
	err := j.commit(func(u *store.Unit, emit func(mqtt.Message)) error {
		return build(u, func(n jobs.Notice) { j.tell(n, emit) })
	}, func(err error) { done <- err })
	if err != nil {
		return err
	}
	return <-done
}

// tell makes a message of a notice.
func (j *Jobs) tell(n jobs.Notice, emit func(mqtt.Message)) {
	t := awstopic.Topic{Service: awstopic.Jobs}
	var encode func() []byte
	switch n := n.(type) {
	case jobs.PendingNotice:
		t.Thing, t.Op, t.Name, encode = n.Thing, awstopic.Notify, n.Namespace, n.Encode
	case jobs.NextNotice:
		t.Thing, t.Op, encode = n.Thing, awstopic.NotifyNext, n.Encode
	case jobs.ExecutionEvent:
		t, encode = executionEvent(n)
	case jobs.JobEvent:
		t, encode = jobEvent(n)
	}
	if topic := t.String(); j.Wanted == nil || j.Wanted(topic) {
		emit(message(topic, encode()))
	}
}

// Handle is the Handler of the job topics. The answer goes to the connection that asked
// and to nobody else, before what the request causes; who has no connection gets none. A
// last will is no request, and neither is an answer of ours.
func (j *Jobs) Handle(u *store.Unit, t awstopic.Topic, m *mqtt.Message, emit func(mqtt.Message)) error {
	if m.Origin == mqtt.Will || m.Origin == mqtt.Service {
		return nil
	}
	var told []jobs.Notice
	now := j.clk.Now().UnixMilli()
	body, token, err := j.serve(u, t, m, now, func(n jobs.Notice) { told = append(told, n) })
	verdict := "/accepted"
	if err != nil {
		if fault.Of(err) == fault.Internal {
			j.log.Error("job request failed", logs.Err(err), logs.Thing, t.Thing, logs.Job, t.Name)
		}
		verdict, told = "/rejected", nil
		var state *jobs.StateError
		var stands *jobs.ExecutionState
		if errors.As(err, &state) {
			stands = &state.Now
		}
		body = jobs.EncodeRefusal(jobCode(err), shown(err), stands, now, token)
	}
	if m.Origin == mqtt.Client {
		r := message(m.Topic+verdict, body)
		r.To, r.QoS = m.From, min(m.QoS, 1)
		emit(r)
	}
	for _, n := range told {
		j.tell(n, emit)
	}
	return nil
}

// serve answers a request.
func (j *Jobs) serve(u *store.Unit, t awstopic.Topic, m *mqtt.Message, now int64, tell func(jobs.Notice)) (body []byte, token *string, err error) {
	q, err := jobs.ParseRequest(m.Payload)
	if slower := j.pace.takeIn(u, t.Thing, m); slower != nil {
		err = slower
	}
	if err != nil {
		return nil, q.Token, err
	}
	token = q.Token
	switch {
	case t.Op == awstopic.Get && t.Name == "":
		l, err := j.room.Pending(u, t.Thing)
		return l.Encode(jobs.Topics, now, token), token, err
	case t.Op == awstopic.StartNext:
		req, err := q.Start()
		if err != nil {
			return nil, token, err
		}
		v, err := j.room.Start(u, tell, t.Thing, req)
		return v.Encode(jobs.Topics, now, token), token, err
	case t.Op == awstopic.Get:
		req, err := q.Describe()
		if err != nil {
			return nil, token, err
		}
		v, err := j.room.Describe(u, t.Thing, t.Name, req)
		return v.Encode(jobs.Topics, now, token), token, err
	case t.Op == awstopic.Update:
		req, err := q.Update()
		if err != nil {
			return nil, token, err
		}
		up, err := j.room.Update(u, tell, t.Thing, t.Name, req)
		return up.Encode(jobs.Topics, now, token), token, err
	}
	return nil, token, errTopic
}

// errTopic is the refusal of a topic among those of jobs that asks for nothing.
var errTopic = fault.New(fault.Unsupported, "The topic asks for nothing that jobs know")

// jobCode gives the code of a refusal over MQTT (spec/jobs.md §3.4).
func jobCode(err error) string {
	switch {
	case errors.Is(err, errTopic):
		return "InvalidTopic"
	case errors.Is(err, jobs.ErrJSON):
		return "InvalidJson"
	case errors.Is(err, jobs.ErrTransition):
		return "InvalidStateTransition"
	case errors.Is(err, jobs.ErrVersion):
		return "VersionMismatch"
	case errors.Is(err, jobs.ErrTerminal):
		return "TerminalStateReached"
	}
	return jobCodes[fault.Of(err)]
}

var jobCodes = map[fault.Code]string{
	fault.Internal:      "InternalError",
	fault.Invalid:       "InvalidRequest",
	fault.Unauthorized:  "InvalidRequest",
	fault.Forbidden:     "InvalidRequest",
	fault.NotFound:      "ResourceNotFound",
	fault.Conflict:      "InvalidStateTransition",
	fault.Exists:        "InvalidRequest",
	fault.TooLarge:      "InvalidRequest",
	fault.Unsupported:   "InvalidRequest",
	fault.Throttled:     "RequestThrottled",
	fault.LimitExceeded: "RequestThrottled",
	fault.Full:          "InternalError",
	fault.Unavailable:   "InternalError",
	fault.Timeout:       "InternalError",
}
