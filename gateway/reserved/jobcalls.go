package reserved

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"tidegate/gateway/fault"
	"tidegate/gateway/jobs"
)

// Pending answers GetPendingJobExecutions over HTTPS (spec/jobs.md §4).
func (j *Jobs) Pending(thing string) (body []byte, err error) {
	err = j.wait(func(tx jobs.Tx, _ func(jobs.Notice)) error {
		l, err := j.room.Pending(tx, thing)
		body = l.Encode(jobs.HTTP, 0, nil)
		return err
	})
	return body, err
}

// StartNext answers StartNextPendingJobExecution over HTTPS.
func (j *Jobs) StartNext(thing string, request []byte) (body []byte, err error) {
	q, err := jobs.ParseRequest(request)
	if err != nil {
		return nil, err
	}
	req, err := q.Start()
	if err != nil {
		return nil, err
	}
	err = j.wait(func(tx jobs.Tx, tell func(jobs.Notice)) error {
		v, err := j.room.Start(tx, tell, thing, req)
		body = v.Encode(jobs.HTTP, 0, nil)
		return err
	})
	return body, err
}

// Describe answers the data plane's DescribeJobExecution over HTTPS; job may be
// jobs.Next.
func (j *Jobs) Describe(thing, job string, req jobs.DescribeRequest) (body []byte, err error) {
	err = j.wait(func(tx jobs.Tx, _ func(jobs.Notice)) error {
		v, err := j.room.Describe(tx, thing, job, req)
		body = v.Encode(jobs.HTTP, 0, nil)
		return err
	})
	return body, err
}

// Update answers UpdateJobExecution over HTTPS.
func (j *Jobs) Update(thing, job string, request []byte) (body []byte, err error) {
	q, err := jobs.ParseRequest(request)
	if err != nil {
		return nil, err
	}
	req, err := q.Update()
	if err != nil {
		return nil, err
	}
	err = j.wait(func(tx jobs.Tx, tell func(jobs.Notice)) error {
		up, err := j.room.Update(tx, tell, thing, job, req)
		body = up.Encode(jobs.HTTP, 0, nil)
		return err
	})
	return body, err
}

// Call serves an operation of the control plane by its name in the API model (spec/
// jobs.md §5). input is a JSON object of the operation's members, wherever a request has
// them: path, query or body. The answer is nil where the operation has none.
func (j *Jobs) Call(op string, input []byte) (answer any, err error) {
	f := jobOps[op]
	if f == nil {
		return nil, fault.New(fault.Unsupported, "operation %s is not known", op)
	}
	return f(j, input)
}

// Operations lists what Call knows.
func (*Jobs) Operations() []string {
	var names []string
	for n := range jobOps {
		names = append(names, n)
	}
	return names
}

// groupCalled gives the name of the group with an id.
func (j *Jobs) groupCalled(id string) (string, error) {
	if j.GroupID != nil {
		if name, ok := j.GroupID(id); ok {
			return name, nil
		}
	}
	return "", fault.New(fault.NotFound, "no thing group has the id %s", id)
}

// least1 are the members that are numbers from 1 on. Their absence and a 0 look the same
// once they are read.
var least1 = map[string]bool{"maximumPerMinute": true, "baseRatePerMinute": true, "numberOfNotifiedThings": true, "numberOfSucceededThings": true,
	"minNumberOfExecutedThings": true, "inProgressTimeoutInMinutes": true, "expiresInSec": true, "durationInMinutes": true, "maxResults": true, "executionNumber": true}

// positive refuses a request in which one of them, wherever it stands, is less.
func positive(v any) error {
	switch v := v.(type) {
	case map[string]any:
		for k, below := range v {
			if n, ok := below.(float64); ok && least1[k] && n < 1 {
				return fault.New(fault.Invalid, "%s must be at least 1", k)
			}
			if err := positive(below); err != nil {
				return err
			}
		}
	case []any:
		for _, below := range v {
			if err := positive(below); err != nil {
				return err
			}
		}
	}
	return nil
}

// decode reads the members of an operation.
func decode[T any](input []byte) (in T, err error) {
	if len(input) == 0 {
		return in, nil
	}
	err = json.Unmarshal(input, &in)
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind):
		err = fault.Wrap(fault.Invalid, err, "%s must not be a %s", kind.Field, kind.Value)
	case err != nil:
		err = fault.Wrap(fault.Invalid, err, "the request is not JSON")
	}
	return in, err
}

// reads makes an operation that changes nothing. It goes through a unit, so that it does
// not tell of what is not on the disk yet.
func reads[T any](f func(j *Jobs, in T) (any, error)) func(*Jobs, []byte) (any, error) {
	return changes(func(j *Jobs, _ jobs.Tx, _ func(jobs.Notice), in T) (any, error) { return f(j, in) })
}

// changes makes an operation that is a unit.
func changes[T any](f func(j *Jobs, tx jobs.Tx, tell func(jobs.Notice), in T) (any, error)) func(*Jobs, []byte) (any, error) {
	return func(j *Jobs, input []byte) (answer any, err error) {
		in, err := decode[T](input)
		if err != nil {
			return nil, err
		}
		var tree any
		if len(input) > 0 && json.Unmarshal(input, &tree) == nil {
			if err := positive(tree); err != nil {
				return nil, err
			}
		}
		err = j.wait(func(tx jobs.Tx, tell func(jobs.Notice)) error {
			answer, err = f(j, tx, tell, in)
			return err
		})
		if err != nil {
			return nil, err
		}
		return answer, nil
	}
}

type object = map[string]any

// made is what operations answer that make or change a job.
func made(v jobs.JobView, err error) (any, error) {
	o := object{"jobArn": v.ARN, "jobId": v.ID}
	if v.Description != "" {
		o["description"] = v.Description
	}
	return o, err
}

// page adds the token for what follows to a listing.
func page(o object, next string) object {
	if next != "" {
		o["nextToken"] = next
	}
	return o
}

// jobOps are the operations of the control plane.
var jobOps = map[string]func(*Jobs, []byte) (any, error){
	"CreateJob": changes(func(j *Jobs, tx jobs.Tx, tell func(jobs.Notice), in jobs.CreateInput) (any, error) {
		return made(j.room.Create(tx, tell, in))
	}),
	"UpdateJob": changes(func(j *Jobs, tx jobs.Tx, tell func(jobs.Notice), in jobs.UpdateInput) (any, error) {
		return nil, j.room.Change(tx, tell, in)
	}),
	"CancelJob": changes(func(j *Jobs, tx jobs.Tx, tell func(jobs.Notice), in struct {
		JobID, ReasonCode, Comment string
		Force                      bool
	}) (any, error) {
		return made(j.room.Cancel(tx, tell, in.JobID, in.ReasonCode, in.Comment, in.Force))
	}),
	"DeleteJob": changes(func(j *Jobs, tx jobs.Tx, tell func(jobs.Notice), in struct {
		JobID string
		Force bool
	}) (any, error) {
		return nil, j.room.Delete(tx, tell, in.JobID, in.Force)
	}),
	"AssociateTargetsWithJob": changes(func(j *Jobs, tx jobs.Tx, tell func(jobs.Notice), in struct {
		JobID, Comment string
		Targets        []string
	}) (any, error) {
		return made(j.room.Associate(tx, tell, in.JobID, in.Targets, in.Comment))
	}),
	"DescribeJob": reads(func(j *Jobs, in struct {
		JobID              string
		BeforeSubstitution bool
	}) (any, error) {
		v, def, err := j.room.Show(j.db, in.JobID)
		if err != nil {
			return nil, err
		}
		o := object{"job": v}
		if def.Source != "" {
			o["documentSource"] = def.Source
		}
		return o, nil
	}),
	"GetJobDocument": reads(func(j *Jobs, in struct {
		JobID              string
		BeforeSubstitution bool
	}) (any, error) {
		_, def, err := j.room.Show(j.db, in.JobID)
		if err != nil {
			return nil, err
		}
		return object{"document": def.DocumentText(in.BeforeSubstitution)}, nil
	}),
	"ListJobs": reads(func(j *Jobs, in struct {
		jobs.JobFilter
		ThingGroupID string
		jobs.Page
	}) (any, error) {
		if in.ThingGroupID != "" {
			name, err := j.groupCalled(in.ThingGroupID)
			if err != nil {
				return nil, err
			}
			if in.Group != "" && in.Group != name {
				return nil, fault.New(fault.Invalid, "thingGroupName and thingGroupId are of different groups")
			}
			in.Group = name
		}
		items, next, err := j.room.List(j.db, in.JobFilter, in.Page)
		return page(object{"jobs": items}, next), err
	}),
	"ListJobExecutionsForJob": reads(func(j *Jobs, in struct {
		JobID  string
		Status jobs.Status
		jobs.Page
	}) (any, error) {
		items, next, err := j.room.Executions(j.db, in.JobID, in.Status, in.Page)
		return page(object{"executionSummaries": items}, next), err
	}),
	"ListJobExecutionsForThing": reads(func(j *Jobs, in struct {
		ThingName, JobID, NamespaceID string
		Status                        jobs.Status
		jobs.Page
	}) (any, error) {
		items, next, err := j.room.ExecutionsOf(j.db, in.ThingName, in.JobID, in.NamespaceID, in.Status, in.Page)
		return page(object{"executionSummaries": items}, next), err
	}),
	"DescribeJobExecution": reads(func(j *Jobs, in struct {
		JobID, ThingName string
		ExecutionNumber  int64
	}) (any, error) {
		v, err := j.room.ShowExecution(j.db, in.JobID, in.ThingName, in.ExecutionNumber)
		return object{"execution": v}, err
	}),
	"CancelJobExecution": changes(func(j *Jobs, tx jobs.Tx, tell func(jobs.Notice), in struct {
		JobID, ThingName string
		Force            bool
		ExpectedVersion  *int64
		StatusDetails    map[string]string
	}) (any, error) {
		return nil, j.room.CancelExecution(tx, tell, in.JobID, in.ThingName, in.ExpectedVersion, in.StatusDetails, in.Force)
	}),
	"DeleteJobExecution": changes(func(j *Jobs, tx jobs.Tx, tell func(jobs.Notice), in struct {
		JobID, ThingName string
		ExecutionNumber  json.RawMessage // a number, or text when it comes from a path
		Force            bool
	}) (any, error) {
		n, err := strconv.ParseInt(strings.Trim(string(in.ExecutionNumber), `"`), 10, 64)
		if err != nil {
			return nil, fault.New(fault.Invalid, "executionNumber must be an integer")
		}
		return nil, j.room.DeleteExecution(tx, tell, in.JobID, in.ThingName, n, in.Force)
	}),
	"CreateJobTemplate": changes(func(j *Jobs, tx jobs.Tx, _ func(jobs.Notice), in jobs.TemplateInput) (any, error) {
		t, err := j.room.CreateTemplate(tx, in)
		return object{"jobTemplateArn": t.ARN, "jobTemplateId": t.ID}, err
	}),
	"DescribeJobTemplate": reads(func(j *Jobs, in struct{ JobTemplateID string }) (any, error) {
		return j.room.ShowTemplate(j.db, in.JobTemplateID)
	}),
	"DeleteJobTemplate": changes(func(j *Jobs, tx jobs.Tx, _ func(jobs.Notice), in struct{ JobTemplateID string }) (any, error) {
		return nil, j.room.DeleteTemplate(tx, in.JobTemplateID)
	}),
	"ListJobTemplates": reads(func(j *Jobs, in jobs.Page) (any, error) {
		ts, next, err := j.room.Templates(j.db, in)
		items := []object{}
		for _, t := range ts {
			items = append(items, object{"jobTemplateArn": t.ARN, "jobTemplateId": t.ID, "description": t.Description, "createdAt": t.Created})
		}
		return page(object{"jobTemplates": items}, next), err
	}),
	"DescribeManagedJobTemplate": reads(func(j *Jobs, in struct{ TemplateName, TemplateVersion string }) (any, error) {
		return j.room.ManagedTemplate(in.TemplateName, in.TemplateVersion)
	}),
	"ListManagedJobTemplates": reads(func(j *Jobs, in struct {
		TemplateName string
		jobs.Page
	}) (any, error) {
		ts, next, err := j.room.ManagedPage(in.TemplateName, in.Page)
		items := []object{}
		for _, m := range ts {
			items = append(items, object{"templateArn": m.ARN, "templateName": m.Name, "description": m.Description, "environments": m.Environments, "templateVersion": m.Version})
		}
		return page(object{"managedJobTemplates": items}, next), err
	}),
}

// Peek, Take and Report are for the gateway's own thing (gateway/jobrunner): what is
// pending there, the next one put in progress, and how it goes.

// Peek gives what is pending on a thing.
func (j *Jobs) Peek(thing string) (l jobs.Lists, err error) {
	err = j.wait(func(tx jobs.Tx, _ func(jobs.Notice)) error {
		l, err = j.room.Pending(tx, thing)
		return err
	})
	return l, err
}

// Take puts what comes next on a thing in progress and gives it; nil when nothing is
// pending.
func (j *Jobs) Take(thing string) (v *jobs.View, err error) {
	err = j.wait(func(tx jobs.Tx, tell func(jobs.Notice)) error {
		v, err = j.room.Start(tx, tell, thing, jobs.StartRequest{})
		return err
	})
	return v, err
}

// Report changes the state of an execution.
func (j *Jobs) Report(thing, job string, req jobs.UpdateRequest) error {
	return j.wait(func(tx jobs.Tx, tell func(jobs.Notice)) error {
		_, err := j.room.Update(tx, tell, thing, job, req)
		return err
	})
}
