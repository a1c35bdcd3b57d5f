package jobs

import (
	"math"
	"strings"
	"unicode/utf8"

	"tidegate/gateway/fault"
	"tidegate/gateway/jsondoc"
)

// JobStatus is the state of a job (spec/jobs.md §1.1).
type JobStatus string

// The states.
const (
	Scheduled   JobStatus = "SCHEDULED"
	Active      JobStatus = "IN_PROGRESS"
	Completed   JobStatus = "COMPLETED"
	JobCanceled JobStatus = "CANCELED"
	Deleting    JobStatus = "DELETION_IN_PROGRESS"
)

func (s JobStatus) active() bool { return s == Scheduled || s == Active }

// Settings is what templates and updates can say of a job (spec/jobs.md §2).
type Settings struct {
	Description string   `json:"description,omitempty"`
	Presign     *Presign `json:"presignedUrlConfig,omitempty"`
	Rollout     *Rollout `json:"jobExecutionsRolloutConfig,omitempty"`
	Abort       *Abort   `json:"abortConfig,omitempty"`
	Timeout     *Timeout `json:"timeoutConfig,omitempty"`
	Retry       *Retry   `json:"jobExecutionsRetryConfig,omitempty"`
}

// Presign bounds the life of presigned URLs.
type Presign struct {
	RoleARN string `json:"roleArn,omitempty"`
	Seconds int64  `json:"expiresInSec,omitempty"` // 60 to 3600
}

// Rollout bounds how fast things are told.
type Rollout struct {
	PerMinute   int          `json:"maximumPerMinute,omitempty"` // 1 to 1000
	Exponential *Exponential `json:"exponentialRate,omitempty"`
}

// Exponential is a rate that grows.
type Exponential struct {
	Base     int     `json:"baseRatePerMinute"`
	Factor   float64 `json:"incrementFactor"`
	Increase struct {
		Notified  int `json:"numberOfNotifiedThings,omitempty"`
		Succeeded int `json:"numberOfSucceededThings,omitempty"`
	} `json:"rateIncreaseCriteria"`
}

// Abort says when a job is cancelled by itself.
type Abort struct {
	Criteria []AbortCriterion `json:"criteriaList"`
}

// AbortCriterion is one reason to cancel.
type AbortCriterion struct {
	Failure   string  `json:"failureType"`
	Action    string  `json:"action"`
	Threshold float64 `json:"thresholdPercentage"`
	Least     int64   `json:"minNumberOfExecutedThings"`
}

// Timeout bounds how long an execution may be in progress.
type Timeout struct {
	Minutes int `json:"inProgressTimeoutInMinutes,omitempty"` // 1 to 10080
}

// Retry says what is tried again.
type Retry struct {
	Criteria []RetryCriterion `json:"criteriaList"`
}

// RetryCriterion is one kind of failure and how often it is tried again.
type RetryCriterion struct {
	Failure string `json:"failureType"`
	Times   int    `json:"numberOfRetries"`
}

// again says whether an execution that has ended is tried again. Each kind of failure has retries of its own.
func (r *Retry) again(x *Execution) bool {
	if r == nil || x.Status != Failed && x.Status != TimedOut {
		return false
	}
	for _, c := range r.Criteria {
		used := map[string]int{"ALL": x.Retry, string(TimedOut): x.Timeouts, string(Failed): x.Retry - x.Timeouts}[c.Failure]
		if (c.Failure == string(x.Status) || c.Failure == "ALL") && used < c.Times {
			return true
		}
	}
	return false
}

// Scheduling says when a job works.
type Scheduling struct {
	Start       string   `json:"startTime,omitempty"`
	End         string   `json:"endTime,omitempty"`
	EndBehavior string   `json:"endBehavior,omitempty"`
	Windows     []Window `json:"maintenanceWindows,omitempty"`
}

// Window is a maintenance window.
type Window struct {
	Start   string `json:"startTime"` // cron(minute hour day month weekday year)
	Minutes int    `json:"durationInMinutes"`
}

// Tag is a label.
type Tag struct {
	Key   string `json:"Key"`
	Value string `json:"Value,omitempty"`
}

// Job is a definition. It is read-only.
type Job struct {
	ID         string            `json:"id"`
	Targets    []string          `json:"targets"` // ARNs
	Continuous bool              `json:"continuous,omitempty"`
	Document   string            `json:"document"`
	Before     string            `json:"before,omitempty"` // the document without its parameters, where there are any
	Source     string            `json:"source,omitempty"`
	Namespace  string            `json:"namespace,omitempty"`
	Template   string            `json:"template,omitempty"` // ARN
	Parameters map[string]string `json:"parameters,omitempty"`
	Scheduling *Scheduling       `json:"scheduling,omitempty"`
	Packages   []string          `json:"packages,omitempty"`
	Tags       []Tag             `json:"tags,omitempty"`
	Signer     string            `json:"signer,omitempty"` // of a signed job: its public key
	Settings

	raw []byte // what the store has
}

// CreateInput is what Create takes; names and rules are those of CreateJob (spec/jobs.md
// §5).
type CreateInput struct {
	JobID           string            `json:"jobId"`
	Targets         []string          `json:"targets"`
	Document        string            `json:"document"`
	DocumentSource  string            `json:"documentSource"`
	TargetSelection string            `json:"targetSelection"`
	Namespace       string            `json:"namespaceId"`
	Template        string            `json:"jobTemplateArn"`
	Parameters      map[string]string `json:"documentParameters"`
	Scheduling      *Scheduling       `json:"schedulingConfig"`
	Packages        []string          `json:"destinationPackageVersions"`
	Tags            []Tag             `json:"tags"`
	Settings

	// Signer makes it a signed job, whose outcome is told even if no events are wanted.
	Signer string `json:"-"`
}

func invalid(format string, args ...any) error { return fault.New(fault.Invalid, format, args...) }

// named says whether s is a job or template id: 1 to 64 of [a-zA-Z0-9_-].
func named(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// thingNamed says whether s can be the name of a thing or group.
func thingNamed(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-', c == ':':
		default:
			return false
		}
	}
	return s != "" && len(s) <= 128
}

// checkText judges a description or a comment.
func checkText(what, s string) error {
	if utf8.RuneCountInString(s) > 2028 || !utf8.ValidString(s) {
		return invalid("%s must be text of at most 2028 characters", what)
	}
	return nil
}

// target takes the ARN of a thing or thing group apart.
func (r *Room) target(arn string) (name string, group, ok bool) {
	rest, ok := strings.CutPrefix(arn, r.Base)
	if !ok {
		return "", false, false
	}
	kind, name, _ := strings.Cut(rest, "/")
	return name, kind == "thinggroup", (kind == "thing" || kind == "thinggroup") && thingNamed(name)
}

// checkTargets makes sure that all targets exist.
func (r *Room) checkTargets(arns []string) error {
	for _, arn := range arns {
		name, group, ok := r.target(arn)
		if !ok {
			return invalid("target %q is not the ARN of a thing or thing group here; such an ARN begins with %sthing/ or %sthinggroup/", arn, r.Base, r.Base)
		}
		if group {
			_, ok = r.Fleet.Group(name)
		} else {
			ok = r.Fleet.Thing(name)
		}
		if !ok {
			return fault.New(fault.NotFound, "target %s does not exist", arn)
		}
	}
	return nil
}

// check judges the settings by themselves.
func (s *Settings) check() error {
	if err := checkText("description", s.Description); err != nil {
		return err
	}
	if p := s.Presign; p != nil && p.Seconds != 0 && (p.Seconds < 60 || p.Seconds > 3600) {
		return invalid("expiresInSec must be 60 to 3600")
	}
	if r := s.Rollout; r != nil {
		if err := r.check(); err != nil {
			return err
		}
	}
	if a := s.Abort; a != nil {
		if len(a.Criteria) == 0 {
			return invalid("abortConfig needs a criterion")
		}
		for _, c := range a.Criteria {
			switch c.Failure {
			case "FAILED", "REJECTED", "TIMED_OUT", "ALL":
			default:
				return invalid("failureType must be FAILED, REJECTED, TIMED_OUT or ALL")
			}
			if c.Action != "CANCEL" || c.Threshold <= 0 || c.Threshold > 100 || c.Least < 1 {
				return invalid("an abort criterion needs the action CANCEL, a thresholdPercentage above 0 and up to 100, and minNumberOfExecutedThings of at least 1")
			}
			if !decimals(c.Threshold, 2) {
				return invalid("thresholdPercentage has at most two digits after the point")
			}
		}
	}
	if t := s.Timeout; t != nil && t.Minutes != 0 && (t.Minutes < 1 || t.Minutes > maxMinutes) {
		return invalid("inProgressTimeoutInMinutes must be 1 to %d", maxMinutes)
	}
	return s.Retry.check(s.Timeout)
}

// maxMinutes is the longest timer: 7 days.
const maxMinutes = 10080

func (r *Rollout) check() error {
	if r.PerMinute < 0 || r.PerMinute > maxRate {
		return invalid("maximumPerMinute must be 1 to %d", maxRate)
	}
	if e := r.Exponential; e != nil {
		if e.Base < 1 || e.Base > maxRate {
			return invalid("baseRatePerMinute must be 1 to %d", maxRate)
		}
		if e.Factor < 1.1 || e.Factor > 5 || !decimals(e.Factor, 1) {
			return invalid("incrementFactor must be 1.1 to 5, with at most one digit after the point")
		}
		n, s := e.Increase.Notified, e.Increase.Succeeded
		if n < 0 || s < 0 || (n == 0) == (s == 0) {
			return invalid("rateIncreaseCriteria needs either numberOfNotifiedThings or numberOfSucceededThings, at least 1")
		}
	}
	return nil
}

// decimals says whether f has no more than n digits after the point.
func decimals(f float64, n int) bool {
	shifted := f * math.Pow10(n)
	return math.Abs(shifted-math.Round(shifted)) < 1e-9*max(1, math.Abs(shifted))
}

// maxRate is the fastest rollout, in things a minute, and the default.
const maxRate = 1000

func (r *Retry) check(t *Timeout) error {
	if r == nil {
		return nil
	}
	if len(r.Criteria) == 0 || len(r.Criteria) > 2 {
		return invalid("jobExecutionsRetryConfig needs one or two criteria")
	}
	sum := 0
	for i, c := range r.Criteria {
		switch c.Failure {
		case "FAILED", "ALL":
		case "TIMED_OUT":
			if t == nil || t.Minutes == 0 {
				return invalid("a retry of TIMED_OUT needs a timeoutConfig")
			}
		default:
			return invalid("failureType must be FAILED, TIMED_OUT or ALL")
		}
		if i > 0 && (c.Failure == r.Criteria[0].Failure || c.Failure == "ALL" || r.Criteria[0].Failure == "ALL") {
			return invalid("retry criteria overlap")
		}
		if c.Times < 0 || c.Times > 10 {
			return invalid("numberOfRetries must be 0 to 10")
		}
		sum += c.Times
	}
	if sum > 10 {
		return invalid("at most 10 retries are allowed in all")
	}
	return nil
}

// checkDocument judges a job document.
func (r *Room) checkDocument(doc string) error {
	if r.Limits.Document > 0 && len(doc) > r.Limits.Document {
		return invalid("the job document has %d bytes, at most %d are allowed", len(doc), r.Limits.Document)
	}
	if _, err := jsondoc.Parse([]byte(doc), jsondoc.Options{}); err != nil {
		return invalid("the job document is not JSON: %v", err)
	}
	return nil
}
