package control

import (
	"net/url"
	"slices"

	"tidegate/gateway/api/restjson"
	"tidegate/gateway/fault"
	"tidegate/gateway/provision"
	"tidegate/gateway/registry"
)

type taskIn struct {
	ID string `at:"path,taskId"`
}

var taskStatuses = []provision.TaskStatus{"", provision.TaskInProgress, provision.TaskCompleted, provision.TaskFailed, provision.TaskCancelled, provision.TaskCancelling}

// tasks are the operations of bulk registration. Buckets are folders of the gateway, see
// provision.Tasks; links to reports name files there.
func (c *Control) tasks() []restjson.Op {
	if c.Tasks == nil {
		return nil
	}
	return []restjson.Op{
		restjson.Handle("StartThingRegistrationTask", "POST", "/thing-registration-tasks", func(call *restjson.Call, in *struct {
			Body   string `json:"templateBody" need:""`
			Bucket string `json:"inputFileBucket" need:""`
			Key    string `json:"inputFileKey" need:""`
			Role   string `json:"roleArn" need:""`
		}) (any, error) {
			t, err := c.Tasks.Start(who(call), provision.TaskInput{Template: in.Body, Bucket: in.Bucket, Key: in.Key, Role: in.Role})
			if err != nil {
				return nil, err
			}
			return map[string]string{"taskId": t.ID}, nil
		}),
		restjson.Handle("StopThingRegistrationTask", "PUT", "/thing-registration-tasks/{taskId}/cancel", func(_ *restjson.Call, in *taskIn) (any, error) {
			return empty, c.Tasks.Stop(in.ID)
		}),
		restjson.Handle("DescribeThingRegistrationTask", "GET", "/thing-registration-tasks/{taskId}", func(_ *restjson.Call, in *taskIn) (any, error) {
			t, err := c.Tasks.Task(in.ID)
			if err != nil {
				return nil, err
			}
			return struct {
				ID       string               `json:"taskId"`
				Created  restjson.Time        `json:"creationDate"`
				Modified restjson.Time        `json:"lastModifiedDate"`
				Body     string               `json:"templateBody"`
				Bucket   string               `json:"inputFileBucket"`
				Key      string               `json:"inputFileKey"`
				Role     *string              `json:"roleArn,omitempty"`
				Status   provision.TaskStatus `json:"status"`
				Message  *string              `json:"message,omitempty"`
				Good     int                  `json:"successCount"`
				Bad      int                  `json:"failureCount"`
				Percent  int                  `json:"percentageProgress"`
			}{t.ID, restjson.Time(t.Created), restjson.Time(t.Modified), t.Template, t.Bucket, t.Key, opt(t.Role), t.Status, opt(t.Message), t.Succeeded, t.Failed, t.Percent()}, nil
		}),
		restjson.Handle("ListThingRegistrationTasks", "GET", "/thing-registration-tasks", func(_ *restjson.Call, in *struct {
			pageIn
			Status provision.TaskStatus `at:"query,status"`
		}) (any, error) {
			p, err := in.page()
			if err != nil {
				return nil, err
			}
			if !slices.Contains(taskStatuses, in.Status) {
				return nil, fault.New(fault.Invalid, "the status of a registration task is one of %v", taskStatuses[1:])
			}
			ids := []string{}
			for _, t := range c.Tasks.List(in.Status) {
				ids = append(ids, t.ID)
			}
			ids, next := cut(ids, p)
			return map[string]any{"taskIds": ids, "nextToken": token(next)}, nil
		}),
		restjson.Handle("ListThingRegistrationTaskReports", "GET", "/thing-registration-tasks/{taskId}/reports", func(_ *restjson.Call, in *struct {
			pageIn
			ID   string `at:"path,taskId"`
			Type string `at:"query,reportType" need:""`
		}) (any, error) {
			if in.Type != "ERRORS" && in.Type != "RESULTS" {
				return nil, fault.New(fault.Invalid, "reportType is ERRORS or RESULTS")
			}
			files, err := c.Tasks.Reports(in.ID, in.Type == "ERRORS")
			if err != nil {
				return nil, err
			}
			links := []string{}
			for _, f := range files {
				links = append(links, (&url.URL{Scheme: "file", Path: f}).String())
			}
			return map[string]any{"resourceLinks": links, "reportType": in.Type}, nil
		}),
	}
}

// cut gives a page of a list that is not in the order of names.
func cut(list []string, p registry.Page) (part []string, next string) {
	if i := slices.Index(list, p.After); p.After != "" && i >= 0 {
		list = list[i+1:]
	}
	n := p.Max
	if n == 0 {
		n = registry.MaxPage
	}
	if len(list) > n {
		return list[:n], list[n-1]
	}
	return list, ""
}
