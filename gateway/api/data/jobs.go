package data

import (
	"net/http"

	"tidegate/gateway/api/restjson"
	"tidegate/gateway/fault"
	"tidegate/gateway/jobs"
	"tidegate/gateway/policy"
)

// Jobs answers what a thing asks about its jobs; gateway/reserved has it. The answers are
// JSON documents (spec/jobs.md §4).
type Jobs interface {
	Admit(thing string) error // fault.Throttled: there were too many requests about it
	Pending(thing string) ([]byte, error)
	StartNext(thing string, request []byte) ([]byte, error)
	Describe(thing, job string, req jobs.DescribeRequest) ([]byte, error)
	Update(thing, job string, request []byte) ([]byte, error)
}

type jobIn struct {
	Thing    string `at:"path,thingName"`
	Job      string `at:"path,jobId"`
	Next     string `at:"path,next"`
	Document *bool  `at:"query,includeJobDocument"` // without it the answer holds the document, as over MQTT
	Number   *int64 `at:"query,executionNumber"`    // without it the newest
	Body     []byte `at:"body"`
}

// jobs are the operations of the service iot-jobs-data. They share paths with the control
// plane; whoever mounts both looks at the service in the signature.
func (d *Data) jobs() []restjson.Op {
	op := func(name, method, path string, action policy.Action, do func(in *jobIn) ([]byte, error)) restjson.Op {
		return restjson.Handle(name, method, path, func(c *restjson.Call, in *jobIn) (any, error) {
			if err := may(c, action, in.Thing); err != nil {
				return nil, err
			}
			if err := d.Jobs.Admit(in.Thing); err != nil {
				return nil, err
			}
			body, err := do(in)
			if err != nil {
				return nil, err
			}
			return restjson.Raw{Header: http.Header{"Content-Type": {"application/json"}}, Body: body}, nil
		})
	}
	return []restjson.Op{
		op("GetPendingJobExecutions", "GET", "/things/{thingName}/jobs", policy.GetPendingJobExecutions, func(in *jobIn) ([]byte, error) {
			return d.Jobs.Pending(in.Thing)
		}),
		op("StartNextPendingJobExecution", "PUT", "/things/{thingName}/jobs/{next}", policy.StartNextPendingJobExecution, func(in *jobIn) ([]byte, error) {
			if in.Next != jobs.Next { // a label and no literal, as some send %24next
				return nil, fault.New(fault.NotFound, "PUT is for jobs/%s only", jobs.Next)
			}
			return d.Jobs.StartNext(in.Thing, in.Body)
		}),
		op("DescribeJobExecution", "GET", "/things/{thingName}/jobs/{jobId}", policy.DescribeJobExecution, func(in *jobIn) ([]byte, error) {
			req := jobs.DescribeRequest{Document: in.Document == nil || *in.Document}
			if in.Number != nil {
				if req.Number = *in.Number; req.Number < 1 {
					return nil, fault.New(fault.Invalid, "executionNumber must be at least 1")
				}
			}
			return d.Jobs.Describe(in.Thing, in.Job, req)
		}),
		op("UpdateJobExecution", "POST", "/things/{thingName}/jobs/{jobId}", policy.UpdateJobExecution, func(in *jobIn) ([]byte, error) {
			return d.Jobs.Update(in.Thing, in.Job, in.Body)
		}),
	}
}
