package control

import (
	"maps"

	"tidegate/gateway/api/restjson"
)

// Caller serves operations by name; members of a request come as one JSON object.
// *reserved.Jobs and *reserved.Streams are such.
type Caller interface {
	Call(op string, input []byte) (any, error)
}

// paged are the members of a listing's query.
func paged(more map[string]restjson.Kind) map[string]restjson.Kind {
	m := map[string]restjson.Kind{"maxResults": restjson.Integer, "nextToken": restjson.Text}
	maps.Copy(m, more)
	return m
}

// jobs are the operations about jobs, their executions and templates (spec/jobs.md §5).
func (c *Control) jobs() []restjson.Op {
	type q = map[string]restjson.Kind
	const text, integer, boolean = restjson.Text, restjson.Integer, restjson.Boolean
	return forward(c.Jobs, []call{
		{"CreateJob", "PUT", "/jobs/{jobId}", nil},
		{"DescribeJob", "GET", "/jobs/{jobId}", q{"beforeSubstitution": boolean}},
		{"GetJobDocument", "GET", "/jobs/{jobId}/job-document", q{"beforeSubstitution": boolean}},
		{"ListJobs", "GET", "/jobs", paged(q{"status": text, "targetSelection": text, "thingGroupName": text, "thingGroupId": text, "namespaceId": text})},
		{"UpdateJob", "PATCH", "/jobs/{jobId}", q{"namespaceId": text}},
		{"CancelJob", "PUT", "/jobs/{jobId}/cancel", q{"force": boolean}},
		{"DeleteJob", "DELETE", "/jobs/{jobId}", q{"force": boolean, "namespaceId": text}},
		{"AssociateTargetsWithJob", "POST", "/jobs/{jobId}/targets", q{"namespaceId": text}},
		{"ListJobExecutionsForJob", "GET", "/jobs/{jobId}/things", paged(q{"status": text})},
		{"ListJobExecutionsForThing", "GET", "/things/{thingName}/jobs", paged(q{"status": text, "namespaceId": text, "jobId": text})},
		{"DescribeJobExecution", "GET", "/things/{thingName}/jobs/{jobId}", q{"executionNumber": integer}},
		{"CancelJobExecution", "PUT", "/things/{thingName}/jobs/{jobId}/cancel", q{"force": boolean}},
		{"DeleteJobExecution", "DELETE", "/things/{thingName}/jobs/{jobId}/executionNumber/{executionNumber}", q{"force": boolean, "namespaceId": text}},
		{"CreateJobTemplate", "PUT", "/job-templates/{jobTemplateId}", nil},
		{"DescribeJobTemplate", "GET", "/job-templates/{jobTemplateId}", nil},
		{"DeleteJobTemplate", "DELETE", "/job-templates/{jobTemplateId}", nil},
		{"ListJobTemplates", "GET", "/job-templates", paged(nil)},
		{"DescribeManagedJobTemplate", "GET", "/managed-job-templates/{templateName}", q{"templateVersion": text}},
		{"ListManagedJobTemplates", "GET", "/managed-job-templates", paged(q{"templateName": text})},
	})
}

// streams are the operations about streams (spec/ops.md §4.1).
func (c *Control) streams() []restjson.Op {
	return forward(c.Streams, []call{
		{"CreateStream", "POST", "/streams/{streamId}", nil},
		{"UpdateStream", "PUT", "/streams/{streamId}", nil},
		{"DescribeStream", "GET", "/streams/{streamId}", nil},
		{"ListStreams", "GET", "/streams", paged(map[string]restjson.Kind{"isAscendingOrder": restjson.Boolean})},
		{"DeleteStream", "DELETE", "/streams/{streamId}", nil},
	})
}

// call is where an operation is in the API model.
type call struct {
	name, method, path string
	query              map[string]restjson.Kind
}

// forward has operations served by name; without a Caller there are none.
func forward(to Caller, calls []call) []restjson.Op {
	if to == nil {
		return nil
	}
	var ops []restjson.Op
	for _, x := range calls {
		ops = append(ops, restjson.Forward(x.name, x.method, x.path, x.query, func(_ *restjson.Call, input []byte) (any, error) { return to.Call(x.name, input) }))
	}
	return ops
}
