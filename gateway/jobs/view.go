package jobs

import (
	"encoding/base64"
	"strconv"
	"strings"

	"tidegate/gateway/fault"
)

// Seconds is a time in milliseconds that JSON has in seconds, with a fraction where it
// needs one: the control plane's timestamps.
type Seconds int64

// MarshalJSON writes seconds.
func (s Seconds) MarshalJSON() ([]byte, error) {
	b := strconv.AppendInt(nil, int64(s)/1000, 10)
	if ms := int64(s) % 1000; ms != 0 {
		b = append(b, '.')
		b = append(b, strings.TrimRight(strconv.FormatInt(1000+ms, 10)[1:], "0")...)
	}
	return b, nil
}

// UnmarshalJSON reads seconds.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(string(b), 64)
	*s = Seconds(f*1000 + 0.5)
	return err
}

// JobView is a job as the control plane shows it; its JSON is the structure Job of the
// API model (iot 2015-05-28).
type JobView struct {
	ARN             string            `json:"jobArn"`
	ID              string            `json:"jobId"`
	TargetSelection string            `json:"targetSelection"`
	Status          JobStatus         `json:"status"`
	Forced          bool              `json:"forceCanceled,omitempty"`
	Reason          string            `json:"reasonCode,omitempty"`
	Comment         string            `json:"comment,omitempty"`
	Targets         []string          `json:"targets"`
	Created         Seconds           `json:"createdAt"`
	Updated         Seconds           `json:"lastUpdatedAt"`
	Completed       Seconds           `json:"completedAt,omitempty"`
	Process         ProcessDetails    `json:"jobProcessDetails"`
	Namespace       string            `json:"namespaceId,omitempty"`
	Template        string            `json:"jobTemplateArn,omitempty"`
	Parameters      map[string]string `json:"documentParameters,omitempty"`
	Concurrent      bool              `json:"isConcurrent"`
	Scheduling      *Scheduling       `json:"schedulingConfig,omitempty"`
	Packages        []string          `json:"destinationPackageVersions,omitempty"`
	Signer          string            `json:"signer,omitempty"` // ours: the public key of whoever has signed it
	Settings
}

// ProcessDetails is how far a job is.
type ProcessDetails struct {
	Targets    []string `json:"processingTargets,omitempty"`
	Canceled   int64    `json:"numberOfCanceledThings"`
	Succeeded  int64    `json:"numberOfSucceededThings"`
	Failed     int64    `json:"numberOfFailedThings"`
	Rejected   int64    `json:"numberOfRejectedThings"`
	Queued     int64    `json:"numberOfQueuedThings"`
	InProgress int64    `json:"numberOfInProgressThings"`
	Removed    int64    `json:"numberOfRemovedThings"`
	TimedOut   int64    `json:"numberOfTimedOutThings"`
}

func (r *Room) view(j *Job, st *state) JobView {
	n := st.Counts
	v := JobView{ARN: r.JobARN(j.ID), ID: j.ID, TargetSelection: j.selection(), Status: st.Status, Forced: st.Forced, Reason: st.Reason, Comment: st.Comment,
		Targets: j.Targets, Created: Seconds(st.Created), Updated: Seconds(st.Updated), Completed: Seconds(st.Completed),
		Process: ProcessDetails{Canceled: n.Canceled, Succeeded: n.Succeeded, Failed: n.Failed, Rejected: n.Rejected, Queued: n.Queued,
			InProgress: n.InProgress, Removed: n.Removed, TimedOut: n.TimedOut},
		Namespace: j.Namespace, Template: j.Template, Parameters: j.Parameters, Concurrent: st.Rolling || st.Sweep != noSweep,
		Scheduling: j.Scheduling, Packages: j.Packages, Signer: j.Signer, Settings: j.Settings}
	if st.Rolling {
		v.Process.Targets = j.Targets
	}
	return v
}

func (j *Job) selection() string {
	if j.Continuous {
		return "CONTINUOUS"
	}
	return "SNAPSHOT"
}

// Show gives a job and its definition.
func (r *Room) Show(db Reader, id string) (JobView, *Job, error) {
	var st state
	ok, err := false, error(nil)
	if named(id) {
		ok, err = get(db, keyState+id, &st)
	}
	if err != nil {
		return JobView{}, nil, err
	}
	if !ok {
		return JobView{}, nil, fault.New(fault.NotFound, "Job %s does not exist", id)
	}
	j, err := r.definition(id)
	if err == nil && j == nil {
		err = fault.New(fault.NotFound, "Job %s does not exist", id)
	}
	if err != nil {
		return JobView{}, nil, err
	}
	return r.view(j, &st), j, nil
}

// DocumentText gives a job's document as it was given, before: with its parameters still
// in it.
func (j *Job) DocumentText(before bool) string {
	if before && j.Before != "" {
		return j.Before
	}
	return j.Document
}

// ExecutionView is an execution as the control plane shows it; its JSON is the structure
// JobExecution of the API model.
type ExecutionView struct {
	Job         string    `json:"jobId"`
	Status      Status    `json:"status"`
	Forced      bool      `json:"forceCanceled,omitempty"`
	Details     detailMap `json:"statusDetails,omitzero"`
	ThingARN    string    `json:"thingArn"`
	Queued      Seconds   `json:"queuedAt"`
	Started     Seconds   `json:"startedAt,omitempty"`
	Updated     Seconds   `json:"lastUpdatedAt"`
	Number      int64     `json:"executionNumber"`
	Version     int64     `json:"versionNumber"`
	SecondsLeft *int64    `json:"approximateSecondsBeforeTimedOut,omitempty"`
}

type detailMap struct {
	Map map[string]string `json:"detailsMap,omitempty"`
}

// IsZero says whether there are none.
func (d detailMap) IsZero() bool { return d.Map == nil }

// ShowExecution gives an execution by number, the newest for 0, whatever its state.
func (r *Room) ShowExecution(db Reader, id, thing string, number int64) (ExecutionView, error) {
	var rec record
	ok, err := false, error(nil)
	if named(id) && thingNamed(thing) {
		ok, err = get(db, recordKey(id, thing), &rec)
	}
	if err != nil {
		return ExecutionView{}, err
	}
	x := rec.find(number)
	if !ok || x == nil {
		return ExecutionView{}, fault.New(fault.NotFound, "Job %s has no such execution on thing %s", id, thing)
	}
	v := ExecutionView{Job: id, Status: x.Status, Forced: x.Forced, Details: detailMap{x.Details}, ThingARN: r.ThingARN(thing), Queued: Seconds(x.Queued),
		Started: Seconds(x.Started), Updated: Seconds(x.Updated), Number: x.Number, Version: x.Version}
	if end := x.end(); end != 0 {
		left := max(0, (end-r.Clock.Now().UnixMilli()+999)/1000)
		v.SecondsLeft = &left
	}
	return v, nil
}

// ExecutionItem is a line of a listing of executions.
type ExecutionItem struct {
	Job      string           `json:"jobId,omitempty"`
	ThingARN string           `json:"thingArn,omitempty"`
	Summary  ExecutionSummary `json:"jobExecutionSummary"`
}

// ExecutionSummary is the short form of an execution in the control plane.
type ExecutionSummary struct {
	Status  Status  `json:"status"`
	Queued  Seconds `json:"queuedAt"`
	Started Seconds `json:"startedAt,omitempty"`
	Updated Seconds `json:"lastUpdatedAt"`
	Number  int64   `json:"executionNumber"`
	Retry   int     `json:"retryAttempt,omitempty"`
}

func (x *Execution) summary() ExecutionSummary {
	return ExecutionSummary{x.Status, Seconds(x.Queued), Seconds(x.Started), Seconds(x.Updated), x.Number, x.Retry}
}

// JobItem is a line of a listing of jobs; its JSON is the structure JobSummary.
type JobItem struct {
	ARN             string    `json:"jobArn"`
	ID              string    `json:"jobId"`
	TargetSelection string    `json:"targetSelection"`
	Status          JobStatus `json:"status"`
	Created         Seconds   `json:"createdAt"`
	Updated         Seconds   `json:"lastUpdatedAt"`
	Completed       Seconds   `json:"completedAt,omitempty"`
	Concurrent      bool      `json:"isConcurrent"`
}

// Page asks for a stretch of a listing.
type Page struct {
	Max  int    `json:"maxResults"` // 1 to 250; 0 means 250
	From string `json:"nextToken"`  // what an earlier call gave as next
}

// start checks a page and gives where it starts.
func (p *Page) start() (after string, err error) {
	if p.Max == 0 {
		p.Max = 250
	}
	if p.Max < 1 || p.Max > 250 {
		return "", invalid("maxResults must be 1 to 250")
	}
	b, err := base64.RawURLEncoding.DecodeString(p.From)
	if err != nil {
		return "", invalid("nextToken is not one of ours")
	}
	return string(b), nil
}

// token leads to what follows last in a listing.
func token(last string) string { return base64.RawURLEncoding.EncodeToString([]byte(last)) }

// list calls each for the keys with prefix from where p starts on, until it has taken as
// many as p allows, and gives the token for what follows.
func list(db Reader, prefix string, p Page, each func(name string, val []byte) (taken int, err error)) (next string, err error) {
	after, err := p.start()
	if err != nil {
		return "", err
	}
	n, last := 0, ""
	var bad error
	err = db.Scan(prefix, func(key string, val []byte) bool {
		name := key[len(prefix):]
		if name <= after {
			return true
		}
		if n >= p.Max {
			next = token(last)
			return false
		}
		k, err := each(name, val)
		n += k
		last, bad = name, err
		return err == nil
	})
	if err != nil {
		err = fault.Wrap(fault.Internal, err, "jobs cannot be read")
	}
	if err == nil {
		err = bad
	}
	return next, err
}

// JobFilter selects jobs of a listing; empty members select all.
type JobFilter struct {
	Status          JobStatus `json:"status"`
	TargetSelection string    `json:"targetSelection"`
	Group           string    `json:"thingGroupName"`
	Namespace       string    `json:"namespaceId"`
}

// check refuses what no job can be.
func (f *JobFilter) check() error {
	switch f.Status {
	case "", Scheduled, Active, Completed, JobCanceled, Deleting:
	default:
		return invalid("status must be SCHEDULED, IN_PROGRESS, COMPLETED, CANCELED or DELETION_IN_PROGRESS")
	}
	switch f.TargetSelection {
	case "", "SNAPSHOT", "CONTINUOUS":
	default:
		return invalid("targetSelection must be SNAPSHOT or CONTINUOUS")
	}
	return nil
}

// checkStatus refuses what no execution can be; "" stands for all.
func checkStatus(s Status) error {
	switch s {
	case "", Queued, InProgress, Succeeded, Failed, Rejected, TimedOut, Canceled, Removed:
		return nil
	}
	return invalid("status must be QUEUED, IN_PROGRESS, SUCCEEDED, FAILED, TIMED_OUT, REJECTED, REMOVED or CANCELED")
}

// List lists jobs by id.
func (r *Room) List(db Reader, f JobFilter, p Page) (items []JobItem, next string, err error) {
	if err := f.check(); err != nil {
		return nil, "", err
	}
	items = []JobItem{}
	next, err = list(db, keyState, p, func(id string, val []byte) (int, error) {
		var st state
		if err := unpack(val, &st); err != nil {
			return 0, err
		}
		j, err := r.definition(id)
		if err != nil || j == nil {
			return 0, err
		}
		pass := (f.Status == "" || f.Status == st.Status) && (f.TargetSelection == "" || f.TargetSelection == j.selection()) &&
			(f.Namespace == "" || f.Namespace == j.Namespace)
		if pass && f.Group != "" {
			pass = false
			for _, arn := range j.Targets {
				name, group, _ := r.target(arn)
				pass = pass || group && name == f.Group
			}
		}
		if !pass {
			return 0, nil
		}
		v := r.view(j, &st)
		items = append(items, JobItem{v.ARN, v.ID, v.TargetSelection, v.Status, v.Created, v.Updated, v.Completed, v.Concurrent})
		return 1, nil
	})
	return items, next, err
}

// Executions lists the executions of a job by thing, newest first for each, of one status
// or with "" all.
func (r *Room) Executions(db Reader, id string, status Status, p Page) (items []ExecutionItem, next string, err error) {
	if err := checkStatus(status); err != nil {
		return nil, "", err
	}
	if _, _, err := r.Show(db, id); err != nil {
		return nil, "", err
	}
	items = []ExecutionItem{}
	next, err = list(db, recordKey(id, ""), p, func(thing string, val []byte) (int, error) {
		var rec record
		if err := unpack(val, &rec); err != nil {
			return 0, err
		}
		n := 0
		for i := len(rec.Runs) - 1; i >= 0; i-- {
			if x := &rec.Runs[i]; status == "" || x.Status == status {
				items = append(items, ExecutionItem{ThingARN: r.ThingARN(thing), Summary: x.summary()})
				n++
			}
		}
		return n, nil
	})
	return items, next, err
}

// ExecutionsOf lists the executions on a thing by job, newest first for each; of one
// status, job or namespace where those are not empty.
func (r *Room) ExecutionsOf(db Reader, thing, job, namespace string, status Status, p Page) (items []ExecutionItem, next string, err error) {
	if !thingNamed(thing) {
		return nil, "", invalid("Invalid thing name")
	}
	if err := checkStatus(status); err != nil {
		return nil, "", err
	}
	items = []ExecutionItem{}
	next, err = list(db, keyByThing+thing+"/", p, func(id string, _ []byte) (int, error) {
		if job != "" && id != job {
			return 0, nil
		}
		if namespace != "" {
			if j, err := r.definition(id); err != nil || j == nil || j.Namespace != namespace {
				return 0, err
			}
		}
		var rec record
		if _, err := get(db, recordKey(id, thing), &rec); err != nil {
			return 0, err
		}
		n := 0
		for i := len(rec.Runs) - 1; i >= 0; i-- {
			if x := &rec.Runs[i]; status == "" || x.Status == status {
				items = append(items, ExecutionItem{Job: id, Summary: x.summary()})
				n++
			}
		}
		return n, nil
	})
	return items, next, err
}
