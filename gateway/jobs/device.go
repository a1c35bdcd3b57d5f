package jobs

import (
	"slices"

	"tidegate/gateway/fault"
)

// Next is the name under which a thing can ask for whatever comes next.
const Next = "$next"

// Pending gives what is pending on a thing (GetPendingJobExecutions).
func (r *Room) Pending(tx Tx, thing string) (Lists, error) {
	c, t, err := r.ask(tx, thing)
	if err != nil {
		return Lists{}, err
	}
	return c.list(t, "", false)
}

// ask begins a request of a thing.
func (r *Room) ask(tx Tx, thing string) (*change, *thingChange, error) {
	if !thingNamed(thing) {
		return nil, nil, invalid("Invalid thing name")
	}
	c := r.change(tx)
	t, err := c.thing(thing)
	return c, t, err
}

// StartRequest is the body of StartNextPendingJobExecution.
type StartRequest struct {
	Details map[string]string // nil: as they are
	Step    int               // minutes; -1 ends the step timer, 0 leaves it
}

// Start gives what comes next on a thing and puts it in progress if it is not (spec/
// jobs.md §3.2); nil when nothing is pending.
func (r *Room) Start(tx Tx, tell func(Notice), thing string, req StartRequest) (*View, error) {
	if err := r.checkRequest(req.Details, req.Step); err != nil {
		return nil, err
	}
	c, t, err := r.ask(tx, thing)
	if err != nil {
		return nil, err
	}
	var job string
	var number int64
	for {
		i := head(t.queue)
		if i < 0 {
			return nil, c.finish(tell)
		}
		p := t.queue[i]
		j, rec, x, err := c.find(t, p.Job, p.Number)
		if err != nil {
			return nil, err
		}
		job, number = p.Job, p.Number
		switch {
		case x.Status.Terminal(): // its time was up
			if slices.ContainsFunc(t.queue, p.same) {
				return nil, fault.New(fault.Internal, "a pending execution is over")
			}
			continue
		case j.over(x):
			c.move(j, t, rec, x, Canceled)
			continue
		case x.Status == Queued:
			if req.Details != nil {
				x.Details = req.Details
			}
			c.move(j, t, rec, x, InProgress)
			x.setStep(req.Step)
		case req.Step != 0:
			x.setStep(req.Step)
			rec.dirty = true
		}
		break
	}
	if err := c.finish(tell); err != nil {
		return nil, err
	}
	return c.view(t, job, number, true)
}

// over says whether an execution is queued for a job that was cancelled: the sweep has
// just not come to it yet.
func (j *jobChange) over(x *Execution) bool {
	return x.Status == Queued && (j.st.Sweep == sweepCancel || j.st.Sweep == sweepForce)
}

// find locks and gives an execution of a thing, by number or the newest for 0, as it is now: one whose time is up has
// timed out even if Work has not come to it yet.
func (c *change) find(t *thingChange, job string, number int64) (*jobChange, *recordChange, *Execution, error) {
	j, err := c.job(job)
	if err != nil {
		return nil, nil, nil, err
	}
	if j != nil {
		rec, err := c.record(t, job)
		if err != nil {
			return nil, nil, nil, err
		}
		x := rec.find(number)
		if x != nil && c.overdue(x) {
			c.move(j, t, rec, x, TimedOut)
			x = rec.find(number) // there may be a retry now
		}
		if x != nil {
			return j, rec, x, nil
		}
	}
	return nil, nil, nil, fault.New(fault.NotFound, "Job %s has no such execution on thing %s", job, t.name)
}

// DescribeRequest is the body of DescribeJobExecution.
type DescribeRequest struct {
	Number   int64 // 0: the newest
	Document bool
}

// Describe gives an execution, with Next for job whatever comes next: nil when nothing
// is pending. An execution that is over is refused with ErrTerminal.
func (r *Room) Describe(tx Tx, thing, job string, req DescribeRequest) (*View, error) {
	c, t, err := r.ask(tx, thing)
	if err != nil {
		return nil, err
	}
	var j *jobChange
	var x *Execution
	for next, number := job == Next, req.Number; ; {
		var p pending
		if next {
			i := head(t.queue)
			if i < 0 {
				return nil, nil
			}
			p = t.queue[i]
			job, number = p.Job, p.Number
		}
		if j, _, x, err = c.find(t, job, number); err != nil {
			return nil, err
		}
		if !next || slices.ContainsFunc(t.queue, p.same) { // else its time was up
			break
		}
	}
	if x.Status.Terminal() {
		return nil, fault.Wrap(fault.Conflict, ErrTerminal, "The execution of job %s has reached the terminal state %s", job, x.Status)
	}
	return c.view(t, j.ID, x.Number, req.Document)
}

// UpdateRequest is the body of UpdateJobExecution.
type UpdateRequest struct {
	Status   Status
	Details  map[string]string // nil: as they are
	Expected *int64            // version; nil: any
	Number   int64             // 0: the newest
	Step     int               // minutes; -1 ends the step timer, 0 leaves it
	State    bool              // the answer holds the state
	Document bool              // the answer holds the document
}

// Updated answers an update with what was asked for.
type Updated struct {
	State    *ExecutionState
	Document string // empty: none
}

// Update applies what a thing reports of an execution. It fails with Invalid, NotFound,
// or Conflict with a *StateError in the chain.
func (r *Room) Update(tx Tx, tell func(Notice), thing, job string, req UpdateRequest) (Updated, error) {
	var out Updated
	switch req.Status {
	case InProgress, Succeeded, Failed, Rejected:
	case "":
		return out, invalid("status is missing")
	default:
		return out, invalid("status must be IN_PROGRESS, SUCCEEDED, FAILED or REJECTED")
	}
	if err := r.checkRequest(req.Details, req.Step); err != nil {
		return out, err
	}
	if !named(job) {
		return out, invalid("Invalid jobId")
	}
	c, t, err := r.ask(tx, thing)
	if err != nil {
		return out, err
	}
	j, rec, x, err := c.find(t, job, req.Number)
	if err != nil {
		return out, err
	}
	refused := func(kind error, format string, args ...any) error {
		return fault.Wrap(fault.Conflict, &StateError{kind, x.state()}, format, args...)
	}
	switch {
	case !may(device, x.Status, req.Status):
		return out, refused(ErrTransition, "An execution that is %s cannot become %s", x.Status, req.Status)
	case j.over(x):
		return out, refused(ErrTransition, "Job %s was cancelled", job)
	case req.Expected != nil && *req.Expected != x.Version:
		return out, refused(ErrVersion, "The version is %d and not %d", x.Version, *req.Expected)
	}
	number := x.Number
	if req.Details != nil {
		x.Details = req.Details
	}
	c.move(j, t, rec, x, req.Status)
	x = rec.find(number)
	if req.Status == InProgress {
		x.setStep(req.Step)
	}
	if req.State {
		s := x.state()
		out.State = &s
	}
	if req.Document {
		if out.Document, err = c.document(job, thing); err != nil {
			return out, err
		}
	}
	return out, c.finish(tell)
}

// checkRequest judges what StartNext and Update have in common.
func (r *Room) checkRequest(details map[string]string, step int) error {
	if step != 0 && step != -1 && (step < 1 || step > maxMinutes) {
		return invalid("stepTimeoutInMinutes must be 1 to %d, or -1", maxMinutes)
	}
	return r.checkDetails(details)
}

// checkDetails judges status details (spec/jobs.md §3.1).
func (r *Room) checkDetails(details map[string]string) error {
	if r.Limits.Details > 0 && len(details) > r.Limits.Details {
		return invalid("statusDetails has %d entries, at most %d are allowed", len(details), r.Limits.Details)
	}
	for k, v := range details {
		if !thingNamed(k) {
			return invalid("a key of statusDetails must be 1 to 128 of a-z, A-Z, 0-9, colon, underscore and hyphen")
		}
		n := 0
		for _, c := range v {
			if n++; c < ' ' || c >= 0x7f && c < 0xa0 {
				return invalid("a value of statusDetails must not hold control characters")
			}
		}
		if n < 1 || n > 1024 {
			return invalid("a value of statusDetails must have 1 to 1024 characters")
		}
	}
	return nil
}
