package jobs

import (
	"strconv"

	"tidegate/gateway/fault"
	"tidegate/gateway/jsondoc"
)

// maxRequest is the largest request of a device in bytes, maxDepth how deep it may nest.
const (
	maxRequest = 128 << 10
	maxDepth   = 16
)

// Request is the body of a device's request, whichever it is: what the operation does
// not have is ignored.
type Request struct {
	Token    *string // of the client, to be echoed; nil: none was sent
	doc      jsondoc.Value
	problems error
}

// ParseRequest reads the body of a device's request (spec/jobs.md §3): a JSON object, or
// nothing, which is an empty one. It fails with Invalid, ErrJSON in the chain when it is
// no JSON; the token is set where it could be read.
func ParseRequest(b []byte) (Request, error) {
	var q Request
	if len(b) == 0 {
		return q, nil
	}
	doc, err := jsondoc.Parse(b, jsondoc.Options{MaxSize: maxRequest, MaxDepth: maxDepth})
	switch {
	case err == jsondoc.ErrTooLarge:
		return q, invalid("The request has more than %d bytes", maxRequest)
	case err == jsondoc.ErrTooDeep:
		return q, invalid("The request is nested too deep")
	case err != nil:
		return q, fault.Wrap(fault.Invalid, ErrJSON, "The request is not JSON")
	case doc.Kind() != jsondoc.Object:
		return q, invalid("The request must be a JSON object")
	}
	q.doc = doc
	if token := q.text("clientToken"); q.problems == nil && q.member("clientToken") != nil {
		q.Token = &token
	}
	return q, q.problems
}

// Each of the following gives a member, its zero where it is absent or null, and notes a
// problem when it is of another kind.

func (q *Request) wrong(name, want string) {
	if q.problems == nil {
		q.problems = invalid("%s must be %s", name, want)
	}
}

func (q *Request) member(name string) *jsondoc.Value {
	if v := q.doc.Get(name); v.Kind() != jsondoc.Null {
		return v
	}
	return nil
}

func (q *Request) text(name string) string {
	v := q.member(name)
	if v == nil {
		return ""
	}
	if v.Kind() != jsondoc.String {
		q.wrong(name, "a string")
		return ""
	}
	return v.Text()
}

func (q *Request) flag(name string, absent bool) bool {
	v := q.member(name)
	if v == nil {
		return absent
	}
	if v.Kind() != jsondoc.Bool {
		q.wrong(name, "true or false")
	}
	return v.Text() == "true"
}

// number reads an integer, which may also be written as a string of digits.
func (q *Request) number(name string) int64 {
	v := q.member(name)
	if v == nil {
		return 0
	}
	if v.Kind() == jsondoc.Number || v.Kind() == jsondoc.String {
		if n, err := strconv.ParseInt(v.Text(), 10, 64); err == nil {
			return n
		}
	}
	q.wrong(name, "an integer")
	return 0
}

// positive is number for what begins with 1.
func (q *Request) positive(name string) int64 {
	n := q.number(name)
	if q.member(name) != nil && n < 1 {
		q.wrong(name, "at least 1")
	}
	return n
}

func (q *Request) details() map[string]string {
	v := q.member("statusDetails")
	if v == nil {
		return nil
	}
	if v.Kind() != jsondoc.Object {
		q.wrong("statusDetails", "an object of strings")
		return nil
	}
	m := make(map[string]string, v.Len())
	kids := v.Kids()
	for i := range kids {
		if kids[i].Value.Kind() != jsondoc.String {
			q.wrong("statusDetails", "an object of strings")
			return nil
		}
		m[kids[i].Key] = kids[i].Value.Text()
	}
	return m
}

func (q *Request) step() int {
	n := q.number("stepTimeoutInMinutes")
	if q.member("stepTimeoutInMinutes") != nil && (n == 0 || n < -1 || n > maxMinutes) {
		q.wrong("stepTimeoutInMinutes", "1 to 10080, or -1")
		return 0
	}
	return int(n)
}

// Start reads the request as one of StartNextPendingJobExecution.
func (q *Request) Start() (StartRequest, error) {
	s := StartRequest{Details: q.details(), Step: q.step()}
	return s, q.problems
}

// Describe reads the request as one of DescribeJobExecution.
func (q *Request) Describe() (DescribeRequest, error) {
	d := DescribeRequest{Number: q.positive("executionNumber"), Document: q.flag("includeJobDocument", true)}
	return d, q.problems
}

// Update reads the request as one of UpdateJobExecution.
func (q *Request) Update() (UpdateRequest, error) {
	u := UpdateRequest{Status: Status(q.text("status")), Details: q.details(), Number: q.positive("executionNumber"),
		Step: q.step(), State: q.flag("includeJobExecutionState", false), Document: q.flag("includeJobDocument", false)}
	if q.member("expectedVersion") != nil { // 0 is one, which no execution has
		n := q.number("expectedVersion")
		if u.Expected = &n; n < 0 {
			q.wrong("expectedVersion", "at least 0")
		}
	}
	return u, q.problems
}
