package jobs

// Status is the state of an execution (spec/jobs.md §1.2).
type Status string

// The states.
const (
	Queued     Status = "QUEUED"
	InProgress Status = "IN_PROGRESS"
	Succeeded  Status = "SUCCEEDED"
	Failed     Status = "FAILED"
	Rejected   Status = "REJECTED"
	TimedOut   Status = "TIMED_OUT"
	Canceled   Status = "CANCELED"
	Removed    Status = "REMOVED"
)

// Terminal says whether nothing can follow.
func (s Status) Terminal() bool { return s != Queued && s != InProgress }

// actor is who makes a transition.
type actor uint8

const (
	device  actor = 1 << iota // an update
	service                   // a cancellation, a removal, a timer
	force                     // a cancellation with force
)

// moves is the state machine: who may take an execution from where to where. A terminal
// state has no way out; a retry is a new execution.
var moves = map[Status]map[Status]actor{
	Queued: {InProgress: device, Succeeded: device, Failed: device, Rejected: device,
		Canceled: service | force, Removed: service},
	InProgress: {InProgress: device, Succeeded: device, Failed: device, Rejected: device,
		TimedOut: service, Canceled: force, Removed: service},
}

// may says whether who may take an execution from one state to another.
func may(who actor, from, to Status) bool { return moves[from][to]&who != 0 }

// Execution is one run of a job on one thing. Times are milliseconds since 1970, 0 where
// there is none.
type Execution struct {
	Number  int64             `json:"n"`
	Status  Status            `json:"s"`
	Details map[string]string `json:"d,omitempty"`
	Queued  int64             `json:"q"`
	Started int64             `json:"b,omitempty"`
	Updated int64             `json:"u"`
	Version int64             `json:"v"`
	Forced  bool              `json:"f,omitempty"`
	Retry   int               `json:"r,omitempty"` // which retry it is

	Timeouts int `json:"rt,omitempty"` // how many of the tries before it timed out; the others failed

	// Timers. The minutes of one that runs are not 0; its end is 0 while the date is
	// unknown.
	RunMinutes  int   `json:"tm,omitempty"`
	RunEnd      int64 `json:"te,omitempty"`
	StepMinutes int   `json:"sm,omitempty"`
	StepEnd     int64 `json:"se,omitempty"`
	Alarm       int64 `json:"a,omitempty"` // its appointment, -1 for the undated one
}

// end gives when the earlier timer ends, 0 when none runs or the date is unknown.
func (x *Execution) end() int64 {
	switch {
	case x.Status != InProgress:
		return 0
	case x.RunEnd == 0:
		return x.StepEnd
	case x.StepEnd == 0:
		return x.RunEnd
	}
	return min(x.RunEnd, x.StepEnd)
}

// undated says whether a timer waits for the date to be known.
func (x *Execution) undated() bool {
	return x.Status == InProgress && (x.RunMinutes > 0 && x.RunEnd == 0 || x.StepMinutes > 0 && x.StepEnd == 0)
}

// date starts the timers that wait for it.
func (x *Execution) date(now int64) {
	if x.RunMinutes > 0 && x.RunEnd == 0 {
		x.RunEnd = now + minutes(x.RunMinutes)
	}
	if x.StepMinutes > 0 && x.StepEnd == 0 {
		x.StepEnd = now + minutes(x.StepMinutes)
	}
}

func minutes(n int) int64 { return int64(n) * 60_000 }

// setStep applies the step timer of a request: 0 leaves it, -1 ends it (spec/jobs.md
// §2.1).
func (x *Execution) setStep(n int) {
	if n != 0 {
		x.StepMinutes, x.StepEnd = max(n, 0), 0
	}
}

// ExecutionState is the short form of an execution (spec/jobs.md §3.1).
type ExecutionState struct {
	Status  Status
	Details map[string]string
	Version int64
}

func (x *Execution) state() ExecutionState { return ExecutionState{x.Status, x.Details, x.Version} }

// Summary is how an execution stands in lists for its thing (spec/jobs.md §3.1).
type Summary struct {
	Job                      string
	Number, Version          int64
	Queued, Started, Updated int64 // milliseconds
}

// View is an execution as its thing sees it.
type View struct {
	Job, Thing string
	Execution
	Document    string // the job document; empty when it was not asked for
	SecondsLeft int64  // until a timer ends; -1 when none runs
}

// Counts is how many things have their newest execution in each state.
type Counts struct {
	Queued     int64 `json:"q,omitempty"`
	InProgress int64 `json:"i,omitempty"`
	Succeeded  int64 `json:"s,omitempty"`
	Failed     int64 `json:"f,omitempty"`
	Rejected   int64 `json:"r,omitempty"`
	TimedOut   int64 `json:"t,omitempty"`
	Canceled   int64 `json:"c,omitempty"`
	Removed    int64 `json:"d,omitempty"`
}

func (c *Counts) of(s Status) *int64 {
	switch s {
	case Queued:
		return &c.Queued
	case InProgress:
		return &c.InProgress
	case Succeeded:
		return &c.Succeeded
	case Failed:
		return &c.Failed
	case Rejected:
		return &c.Rejected
	case TimedOut:
		return &c.TimedOut
	case Canceled:
		return &c.Canceled
	}
	return &c.Removed
}

// pending gives how many are not over.
func (c *Counts) pending() int64 { return c.Queued + c.InProgress }

// executed gives how many have come to an end of their own.
func (c *Counts) executed() int64 { return c.Succeeded + c.Failed + c.Rejected + c.TimedOut }

// failures gives how many have ended in a way that counts against a job.
func (c *Counts) failures(kind string) int64 {
	switch kind {
	case string(Failed):
		return c.Failed
	case string(Rejected):
		return c.Rejected
	case string(TimedOut):
		return c.TimedOut
	}
	return c.Failed + c.Rejected + c.TimedOut
}
