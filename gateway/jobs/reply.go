package jobs

import (
	"maps"
	"slices"
	"strconv"

	"tidegate/gateway/jsondoc"
)

// Form says how a door writes what the device API answers (spec/jobs.md §3.1).
type Form uint8

// The forms.
const (
	Topics Form = iota // over MQTT the job document is an object
	HTTP               // over HTTPS it is a string
)

// doc writes JSON objects.
type doc struct {
	b    []byte
	form Form
}

func (d *doc) open() { d.b = append(d.b, '{') }

func (d *doc) close() { d.b = append(d.b, '}') }

func (d *doc) key(name string) {
	if c := d.b[len(d.b)-1]; c != '{' && c != '[' {
		d.b = append(d.b, ',')
	}
	d.b = jsondoc.AppendString(d.b, name)
	d.b = append(d.b, ':')
}

func (d *doc) text(name, v string) {
	d.key(name)
	d.b = jsondoc.AppendString(d.b, v)
}

func (d *doc) int(name string, v int64) {
	d.key(name)
	d.b = strconv.AppendInt(d.b, v, 10)
}

// time writes milliseconds as seconds; 0 is left out.
func (d *doc) time(name string, ms int64) {
	if ms != 0 {
		d.int(name, ms/1000)
	}
}

func (d *doc) details(m map[string]string) {
	if m == nil {
		return
	}
	d.key("statusDetails")
	d.open()
	for _, k := range slices.Sorted(maps.Keys(m)) {
		d.text(k, m[k])
	}
	d.close()
}

func (d *doc) document(text string) {
	if text == "" {
		return
	}
	if d.form == HTTP {
		d.text("jobDocument", text)
		return
	}
	d.key("jobDocument")
	d.b = append(d.b, text...) // checked to be JSON when the job was made
}

func (d *doc) summaries(name string, list []Summary) {
	d.key(name)
	d.b = append(d.b, '[')
	for i := range list {
		s := &list[i]
		if i > 0 {
			d.b = append(d.b, ',')
		}
		d.open()
		d.text("jobId", s.Job)
		d.time("queuedAt", s.Queued)
		d.time("startedAt", s.Started)
		d.time("lastUpdatedAt", s.Updated)
		d.int("executionNumber", s.Number)
		d.int("versionNumber", s.Version)
		d.close()
	}
	d.b = append(d.b, ']')
}

func (d *doc) execution(v *View) {
	d.key("execution")
	d.open()
	d.text("jobId", v.Job)
	d.text("thingName", v.Thing)
	d.text("status", string(v.Status))
	d.details(v.Details)
	d.time("queuedAt", v.Queued)
	d.time("startedAt", v.Started)
	d.time("lastUpdatedAt", v.Updated)
	d.int("versionNumber", v.Version)
	d.int("executionNumber", v.Number)
	if v.SecondsLeft >= 0 {
		d.int("approximateSecondsBeforeTimedOut", v.SecondsLeft)
	}
	d.document(v.Document)
	d.close()
}

func (d *doc) state(name string, s *ExecutionState) {
	d.key(name)
	d.open()
	d.text("status", string(s.Status))
	d.details(s.Details)
	d.int("versionNumber", s.Version)
	d.close()
}

// end writes the time of a reply over MQTT, and the client's token.
func (d *doc) end(now int64, token *string) []byte {
	if d.form == Topics {
		d.int("timestamp", now/1000)
		if token != nil {
			d.text("clientToken", *token)
		}
	}
	d.close()
	return d.b
}

// Encode writes the answer to GetPendingJobExecutions.
func (l Lists) Encode(f Form, now int64, token *string) []byte {
	d := doc{b: []byte{'{'}, form: f}
	d.summaries("inProgressJobs", l.InProgress)
	d.summaries("queuedJobs", l.Queued)
	return d.end(now, token)
}

// Encode writes the answer to StartNextPendingJobExecution and DescribeJobExecution; v
// may be nil.
func (v *View) Encode(f Form, now int64, token *string) []byte {
	d := doc{b: []byte{'{'}, form: f}
	if v != nil {
		d.execution(v)
	}
	return d.end(now, token)
}

// Encode writes the answer to UpdateJobExecution.
func (u Updated) Encode(f Form, now int64, token *string) []byte {
	d := doc{b: []byte{'{'}, form: f}
	if u.State != nil {
		d.state("executionState", u.State)
	}
	d.document(u.Document)
	return d.end(now, token)
}

// Encode writes a notification of the pending list (spec/jobs.md §3).
func (n PendingNotice) Encode() []byte {
	d := doc{b: []byte{'{'}}
	d.int("timestamp", n.At/1000)
	d.key("jobs")
	d.open()
	if len(n.InProgress) > 0 {
		d.summaries(string(InProgress), n.InProgress)
	}
	if len(n.Queued) > 0 {
		d.summaries(string(Queued), n.Queued)
	}
	d.close()
	d.close()
	return d.b
}

// Encode writes a notification of what comes next.
func (n NextNotice) Encode() []byte {
	d := doc{b: []byte{'{'}}
	d.int("timestamp", n.At/1000)
	if n.Next != nil {
		d.execution(n.Next)
	}
	d.close()
	return d.b
}

// EncodeRefusal writes why a request over MQTT was refused (spec/jobs.md §3.4); state is
// how the execution stands, nil where that is not told.
func EncodeRefusal(code, message string, state *ExecutionState, now int64, token *string) []byte {
	d := doc{b: []byte{'{'}}
	d.text("code", code)
	d.text("message", message)
	if state != nil {
		d.state("executionState", state)
	}
	return d.end(now, token)
}
