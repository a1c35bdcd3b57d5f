package jobs

// Notice is something that others have to hear of: one of PendingNotice, NextNotice,
// ExecutionEvent and JobEvent. Times are milliseconds since 1970.
type Notice interface{ notice() }

// Lists is what is pending on a thing (spec/jobs.md §1.3).
type Lists struct{ InProgress, Queued []Summary }

// PendingNotice tells a thing that other executions are pending than before.
type PendingNotice struct {
	Thing     string
	Namespace string // of the jobs it is about; empty for those without
	Lists
	At int64
}

// NextNotice tells a thing that another execution comes next; nil when none does.
type NextNotice struct {
	Thing string
	Next  *View
	At    int64
}

// ExecutionEvent tells whoever is interested that an execution has ended or was deleted.
type ExecutionEvent struct {
	Job, ThingARN string
	What          string // a terminal Status, or "DELETED"
	Details       map[string]string
	At            int64
}

// JobEvent tells whoever is interested what became of a job.
type JobEvent struct {
	What string // "completed", "canceled", "deleted", "cancellation_in_progress" or "deletion_in_progress"
	View JobView
	At   int64
}

func (PendingNotice) notice()  {}
func (NextNotice) notice()     {}
func (ExecutionEvent) notice() {}
func (JobEvent) notice()       {}
