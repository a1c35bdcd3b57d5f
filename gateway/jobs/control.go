package jobs

import (
	"maps"
	"regexp"
	"slices"
	"time"

	"tidegate/gateway/fault"
)

// Create makes a job and takes its rollout as far as one unit may; Work does the rest. It
// fails with Invalid, NotFound for a target or template, Exists, or LimitExceeded.
func (r *Room) Create(tx Tx, tell func(Notice), in CreateInput) (JobView, error) {
	j, err := r.define(tx, in)
	if err != nil {
		return JobView{}, err
	}
	c := r.change(tx)
	if have, err := c.job(j.ID); err != nil {
		return JobView{}, err
	} else if have != nil {
		return JobView{}, fault.New(fault.Exists, "Job %s already exists", j.ID)
	}
	r.mu.Lock()
	active := len(r.live)
	r.mu.Unlock()
	if most := r.Limits.Active; most > 0 && active >= most {
		return JobView{}, fault.New(fault.LimitExceeded, "%d jobs are scheduled or in progress, and no more are allowed", active)
	}
	jc := &jobChange{Job: j, define: true, dirty: true, st: state{Created: c.now, Updated: c.now, Status: Scheduled}}
	c.jobs = append(c.jobs, jc)
	if start, _ := j.times(); start == 0 {
		if err := c.begin(jc); err != nil {
			return JobView{}, err
		}
	}
	if err := c.advance(jc); err != nil {
		return JobView{}, err
	}
	if err := c.finish(tell); err != nil {
		return JobView{}, err
	}
	return r.view(j, &jc.st), nil
}

// define makes a definition of what was asked for.
func (r *Room) define(tx Tx, in CreateInput) (*Job, error) {
	if !named(in.JobID) {
		return nil, invalid("jobId must be 1 to 64 of a-z, A-Z, 0-9, underscore and hyphen")
	}
	if in.Namespace != "" && !named(in.Namespace) {
		return nil, invalid("namespaceId must be of a-z, A-Z, 0-9, underscore and hyphen")
	}
	j := &Job{ID: in.JobID, Targets: in.Targets, Namespace: in.Namespace, Template: in.Template, Parameters: maps.Clone(in.Parameters),
		Scheduling: in.Scheduling, Packages: in.Packages, Tags: in.Tags, Settings: in.Settings, Signer: in.Signer}
	switch in.TargetSelection {
	case "", "SNAPSHOT":
	case "CONTINUOUS":
		j.Continuous = true
	default:
		return nil, invalid("targetSelection must be SNAPSHOT or CONTINUOUS")
	}
	if len(in.Targets) == 0 {
		return nil, invalid("targets must name at least one thing or thing group")
	}
	if most := r.Limits.Targets; most > 0 && len(in.Targets) > most {
		return nil, invalid("at most %d targets are allowed", most)
	}
	if in.Template != "" {
		if err := r.useTemplate(tx, j, &in); err != nil {
			return nil, err
		}
	}
	if err := r.settle(j, in); err != nil {
		return nil, err
	}
	if err := j.Settings.check(); err != nil {
		return nil, err
	}
	if err := j.Scheduling.check(j.Continuous, r.Clock.Now(), r.Clock.Trusted()); err != nil {
		return nil, err
	}
	return j, r.checkTargets(in.Targets)
}

// settle gives the job its document.
func (r *Room) settle(j *Job, in CreateInput) error {
	doc := in.Document
	switch {
	case (in.Document == "") == (in.DocumentSource == ""):
		return invalid("a job needs either document or documentSource")
	case in.DocumentSource != "":
		if len(in.DocumentSource) > 1350 {
			return invalid("documentSource must have at most 1350 characters")
		}
		if r.Source == nil {
			return invalid("documentSource cannot be read: there is no object store here")
		}
		b, err := r.Source(in.DocumentSource)
		if err != nil {
			return err
		}
		doc, j.Source = string(b), in.DocumentSource
	}
	if err := r.checkDocument(doc); err != nil {
		return err
	}
	if r.Presign != nil {
		_, err := presign(doc, func(source string) (string, error) {
			_, err := r.Presign("", source, time.Minute)
			return "", err
		})
		if err != nil {
			return err
		}
	}
	j.Document = doc
	if len(j.Parameters) > 0 || j.Template != "" {
		out, err := parameters(doc, j.Parameters)
		if err != nil {
			return err
		}
		if out != doc {
			j.Before, j.Document = doc, out
			return r.checkDocument(out)
		}
	}
	return nil
}

// UpdateInput is what Update changes of a job; nil leaves it.
type UpdateInput struct {
	JobID       string   `json:"jobId"`
	Description *string  `json:"description"`
	Presign     *Presign `json:"presignedUrlConfig"`
	Rollout     *Rollout `json:"jobExecutionsRolloutConfig"`
	Abort       *Abort   `json:"abortConfig"`
	Timeout     *Timeout `json:"timeoutConfig"`
	Retry       *Retry   `json:"jobExecutionsRetryConfig"`
}

// Change changes the settings of a job that is not over. Retries can only be given up.
func (r *Room) Change(tx Tx, tell func(Notice), in UpdateInput) error {
	c := r.change(tx)
	j, err := c.must(in.JobID)
	if err != nil {
		return err
	}
	if !j.st.Status.active() {
		return invalid("a job that is %s cannot be changed", j.st.Status)
	}
	def := *j.Job
	if in.Description != nil {
		def.Description = *in.Description
	}
	if in.Presign != nil {
		def.Presign = in.Presign
	}
	if in.Rollout != nil {
		def.Rollout = in.Rollout
	}
	if in.Abort != nil {
		def.Abort = in.Abort
	}
	if in.Timeout != nil {
		def.Timeout = in.Timeout
	}
	if in.Retry != nil {
		if slices.ContainsFunc(in.Retry.Criteria, func(c RetryCriterion) bool { return c.Times != 0 }) {
			return invalid("numberOfRetries can only be set to 0 once a job is made")
		}
		def.Retry = in.Retry
	}
	if err := def.Settings.check(); err != nil {
		return err
	}
	j.Job, j.define, j.dirty, j.judging = &def, true, true, true
	j.st.Updated = c.now
	return c.finish(tell)
}

var reasonCode = regexp.MustCompile(`^[\p{Lu}\p{Nd}_]+$`)

// Cancel cancels a job: what is queued, with force also what is in progress (spec/jobs.md
// §6).
func (r *Room) Cancel(tx Tx, tell func(Notice), id, reason, comment string, force bool) (JobView, error) {
	if reason != "" && (len(reason) > 128 || !reasonCode.MatchString(reason)) {
		return JobView{}, invalid("reasonCode must be at most 128 capital letters, digits and underscores")
	}
	if err := checkText("comment", comment); err != nil {
		return JobView{}, err
	}
	c := r.change(tx)
	j, err := c.must(id)
	if err != nil {
		return JobView{}, err
	}
	harder := j.st.Status == JobCanceled && force && !j.st.Forced
	if !j.st.Status.active() && !harder {
		return JobView{}, invalid("Job %s is %s and cannot be cancelled", id, j.st.Status)
	}
	j.st.Reason, j.st.Comment = reason, comment
	if err := c.cancel(j, force); err != nil {
		return JobView{}, err
	}
	if err := c.finish(tell); err != nil {
		return JobView{}, err
	}
	return r.view(j.Job, &j.st), nil
}

// Delete deletes a job that is over, with force any job. It is refused with ErrTransition
// in the chain.
func (r *Room) Delete(tx Tx, tell func(Notice), id string, force bool) error {
	c := r.change(tx)
	j, err := c.must(id)
	switch {
	case err != nil:
		return err
	case j.st.Status == Deleting:
		return nil
	case j.st.Status.active() && !force:
		return fault.Wrap(fault.Conflict, ErrTransition, "Job %s is %s; only with force can it be deleted before it is over", id, j.st.Status)
	}
	if err := c.remove(j); err != nil {
		return err
	}
	return c.finish(tell)
}

// Associate adds targets to a continuous job in progress.
func (r *Room) Associate(tx Tx, tell func(Notice), id string, targets []string, comment string) (JobView, error) {
	if len(targets) == 0 {
		return JobView{}, invalid("targets must name at least one thing or thing group")
	}
	if err := checkText("comment", comment); err != nil {
		return JobView{}, err
	}
	c := r.change(tx)
	j, err := c.must(id)
	if err != nil {
		return JobView{}, err
	}
	if !j.Continuous || j.st.Status != Active || j.st.Stopped {
		return JobView{}, invalid("only a job that is CONTINUOUS and IN_PROGRESS can get more targets")
	}
	if err := r.checkTargets(targets); err != nil {
		return JobView{}, err
	}
	def := *j.Job
	def.Targets = slices.Clone(def.Targets)
	var names []string
	for _, arn := range targets {
		if slices.Contains(def.Targets, arn) {
			continue
		}
		def.Targets = append(def.Targets, arn)
		if name, group, _ := r.target(arn); group {
			names = append(names, r.Fleet.Members(name)...)
		} else {
			names = append(names, name)
		}
	}
	if most := r.Limits.Targets; most > 0 && len(def.Targets) > most {
		return JobView{}, fault.New(fault.LimitExceeded, "at most %d targets are allowed", most)
	}
	j.Job, j.define, j.dirty = &def, true, true
	j.st.Updated = c.now
	if comment != "" {
		j.st.Comment = comment
	}
	c.comeTo(j, names)
	if err := c.advance(j); err != nil {
		return JobView{}, err
	}
	if err := c.finish(tell); err != nil {
		return JobView{}, err
	}
	return r.view(j.Job, &j.st), nil
}

// CancelExecution cancels the newest execution of a job on a thing; one in progress needs
// force, else it is refused with ErrTransition. expected is its version, nil for any.
func (r *Room) CancelExecution(tx Tx, tell func(Notice), id, thing string, expected *int64, details map[string]string, hard bool) error {
	if err := r.checkDetails(details); err != nil {
		return err
	}
	c, t, err := r.ask(tx, thing)
	if err != nil {
		return err
	}
	j, rec, x, err := c.find(t, id, 0)
	if err != nil {
		return err
	}
	who := service
	if hard {
		who = force
	}
	switch {
	case !may(who, x.Status, Canceled):
		return fault.Wrap(fault.Conflict, &StateError{ErrTransition, x.state()}, "The execution of job %s on %s is %s and cannot be cancelled", id, thing, x.Status)
	case expected != nil && *expected != x.Version:
		return fault.Wrap(fault.Conflict, &StateError{ErrVersion, x.state()}, "The version is %d and not %d", x.Version, *expected)
	}
	if details != nil {
		x.Details = details
	}
	x.Forced = x.Status == InProgress
	c.move(j, t, rec, x, Canceled)
	return c.finish(tell)
}

// DeleteExecution deletes one execution; one that is not over needs force.
func (r *Room) DeleteExecution(tx Tx, tell func(Notice), id, thing string, number int64, force bool) error {
	if number < 1 {
		return invalid("executionNumber must be at least 1")
	}
	c, t, err := r.ask(tx, thing)
	if err != nil {
		return err
	}
	j, rec, x, err := c.find(t, id, number)
	if err != nil {
		return err
	}
	if !x.Status.Terminal() && !force {
		return fault.Wrap(fault.Conflict, &StateError{ErrTransition, x.state()}, "The execution of job %s on %s is %s; only with force can it be deleted", id, thing, x.Status)
	}
	c.erase(j, t, rec, slices.IndexFunc(rec.Runs, func(x Execution) bool { return x.Number == number }))
	return c.finish(tell)
}
