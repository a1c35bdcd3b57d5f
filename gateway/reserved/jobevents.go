package reserved

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"

	"tidegate/gateway/jobs"
	"tidegate/gateway/mqtt/awstopic"
)

// event is the body of the events about jobs and executions (spec/jobs.md §7).
type event struct {
	Type      string `json:"eventType"`
	ID        string `json:"eventId"`
	Timestamp int64  `json:"timestamp"` // seconds
	Operation string `json:"operation"`
	Job       string `json:"jobId"`

	ThingARN string            `json:"thingArn,omitempty"`
	Status   string            `json:"status"`
	Details  map[string]string `json:"statusDetails,omitempty"`

	Selection   string   `json:"targetSelection,omitempty"`
	Targets     []string `json:"targets,omitempty"`
	Description string   `json:"description,omitempty"`
	Comment     string   `json:"comment,omitempty"`
	Completed   int64    `json:"completedAt,omitempty"` // milliseconds, as the next two
	Created     int64    `json:"createdAt,omitempty"`
	Updated     int64    `json:"lastUpdatedAt,omitempty"`
	Process     *process `json:"jobProcessDetails,omitempty"`
}

type process struct {
	Canceled  int64 `json:"numberOfCanceledThings"`
	Rejected  int64 `json:"numberOfRejectedThings"`
	Failed    int64 `json:"numberOfFailedThings"`
	Removed   int64 `json:"numberOfRemovedThings"`
	Succeeded int64 `json:"numberOfSucceededThings"`
	TimedOut  int64 `json:"numberOfTimedOutThings"`
}

func (e *event) encode() []byte {
	b, err := json.Marshal(e)
	if err != nil {
		panic("BUG: an event that is not JSON: " + err.Error())
	}
	return b
}

// newID makes a random UUID (RFC 9562, version 4).
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func executionEvent(n jobs.ExecutionEvent) (awstopic.Topic, func() []byte) {
	op := strings.ToLower(n.What)
	e := &event{Type: "JOB_EXECUTION", ID: newID(), Timestamp: n.At / 1000, Operation: op, Job: n.Job, ThingARN: n.ThingARN, Status: n.What, Details: n.Details}
	return awstopic.Topic{Service: awstopic.Events, Reply: "jobExecution", Name: n.Job, Op: awstopic.Op(op)}, e.encode
}

func jobEvent(n jobs.JobEvent) (awstopic.Topic, func() []byte) {
	v := &n.View
	e := &event{Type: "JOB", ID: newID(), Timestamp: n.At / 1000, Operation: n.What, Job: v.ID, Status: strings.ToUpper(n.What), Selection: v.TargetSelection,
		Targets: v.Targets, Description: v.Description, Comment: v.Comment, Created: int64(v.Created), Updated: int64(v.Updated)}
	if n.What == "completed" {
		p := v.Process
		e.Completed = int64(v.Completed)
		e.Process = &process{p.Canceled, p.Rejected, p.Failed, p.Removed, p.Succeeded, p.TimedOut}
	}
	return awstopic.Topic{Service: awstopic.Events, Reply: "job", Name: v.ID, Op: awstopic.Op(n.What)}, e.encode
}
