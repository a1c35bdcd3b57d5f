package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tidegate/gateway/localapi/localclient"
)

// jobItem is a job in listings.
type jobItem struct {
	ID         string `json:"jobId"`
	ARN        string `json:"jobArn"`
	Selection  string `json:"targetSelection"`
	Status     string `json:"status"`
	Created    epoch  `json:"createdAt"`
	Updated    epoch  `json:"lastUpdatedAt"`
	Completed  epoch  `json:"completedAt,omitempty"`
	Concurrent bool   `json:"isConcurrent"`
}

// job is one in answers.
type job struct {
	jobItem
	Targets     []string         `json:"targets"`
	Description string           `json:"description,omitempty"`
	Reason      string           `json:"reasonCode,omitempty"`
	Comment     string           `json:"comment,omitempty"`
	Process     map[string]any   `json:"jobProcessDetails"`
	Document    string           `json:"document,omitempty"`
	Executions  []executionOfJob `json:"executions,omitempty"`
}

// executionOfJob is what became of a job on one thing.
type executionOfJob struct {
	Thing   string `json:"thingArn"`
	Summary struct {
		Status  string `json:"status"`
		Queued  epoch  `json:"queuedAt"`
		Started epoch  `json:"startedAt,omitempty"`
		Updated epoch  `json:"lastUpdatedAt"`
		Number  int64  `json:"executionNumber"`
		Retry   int    `json:"retryAttempt,omitempty"`
	} `json:"jobExecutionSummary"`
}

// jobCmd keeps the jobs.
func jobCmd(w *world) *cobra.Command {
	return group("job", "what things have to do", jobLs(w), jobShow(w), jobCreate(w), jobCancel(w), jobRm(w))
}

func jobLs(w *world) *cobra.Command {
	a := &asking{w: w}
	var status string
	c := a.flags(&cobra.Command{Use: "ls", Short: "list jobs", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			q := url.Values{}
			if status != "" {
				q.Set("status", strings.ToUpper(strings.ReplaceAll(status, "-", "_")))
			}
			js, err := all[jobItem](c.Context(), a.client(), "GET", "/jobs", q, "jobs")
			if err != nil {
				return err
			}
			return a.print(js, func() {
				var rows [][]string
				for _, j := range js {
					rows = append(rows, []string{j.ID, j.Status, strings.ToLower(j.Selection), j.Created.String(), j.Completed.String()})
				}
				a.table("JOB STATUS TARGETS CREATED COMPLETED", rows)
			})
		}})
	c.Flags().StringVar(&status, "status", "", "only those that are `STATUS`: scheduled, in-progress, completed or canceled")
	return c
}

// readJob asks for a job, with its executions if they are wanted.
func readJob(ctx context.Context, cl *localclient.Client, id string, executions bool) (job, error) {
	answer, err := iot[struct{ Job job }](ctx, cl, "GET", under("jobs", id), nil, nil)
	if err == nil && executions {
		answer.Job.Executions, err = all[executionOfJob](ctx, cl, "GET", under("jobs", id, "things"), nil, "executionSummaries")
	}
	return answer.Job, err
}

func jobShow(w *world) *cobra.Command {
	a := &asking{w: w}
	var watch bool
	c := a.flags(&cobra.Command{Use: "show ID", Short: "show a job with what became of it on each thing", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl := a.client()
			if watch {
				return a.watchJob(c.Context(), cl, args[0])
			}
			j, err := readJob(c.Context(), cl, args[0], true)
			if err != nil {
				return err
			}
			doc, err := iot[struct{ Document string }](c.Context(), cl, "GET", under("jobs", args[0], "job-document"), nil, nil)
			if err != nil {
				return err
			}
			j.Document = doc.Document
			return a.print(j, func() { a.job(&j) })
		}})
	c.Flags().BoolVar(&watch, "watch", false, "show how far it is until it is over")
	return c
}

func (a *asking) job(j *job) {
	a.facts("job", j.ID, "arn", j.ARN, "status", j.Status, "reason", orDash(strings.TrimSpace(j.Reason+" "+j.Comment)), "description", orDash(j.Description),
		"targets", orDash(j.Targets...), "created", j.Created.String(), "completed", j.Completed.String(), "things", progress(j), "document", j.Document)
	var rows [][]string
	for _, e := range j.Executions {
		s := e.Summary
		rows = append(rows, []string{lastOf(e.Thing), s.Status, strconv.FormatInt(s.Number, 10), s.Queued.String(), s.Started.String(), s.Updated.String()})
	}
	if len(rows) > 0 {
		fmt.Fprintln(a.w.out)
		a.table("THING STATUS NUMBER QUEUED STARTED UPDATED", rows)
	}
}

// states are the counters of a job in the order in which they are told.
var states = []string{"Queued", "InProgress", "Succeeded", "Failed", "Rejected", "TimedOut", "Canceled", "Removed"}

// count gives one of a job's counters.
func (j *job) count(state string) int {
	n, _ := j.Process["numberOf"+state+"Things"].(float64)
	return int(n)
}

// progress tells a job's counters in words.
func progress(j *job) string {
	var parts []string
	for _, s := range states {
		if n := j.count(s); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, map[string]string{"InProgress": "in progress", "TimedOut": "timed out"}[s]))
			if last := &parts[len(parts)-1]; strings.HasSuffix(*last, " ") {
				*last += strings.ToLower(s)
			}
		}
	}
	return orDash(parts...)
}

// bar draws how many of a job's things are done.
func bar(j *job) string {
	const wide = 30
	total, done := 0, 0
	for i, s := range states {
		total += j.count(s)
		if i > 1 {
			done += j.count(s)
		}
	}
	full := 0
	if total > 0 {
		full = wide * done / total
	}
	return fmt.Sprintf("[%s%s] %d/%d  %s", strings.Repeat("#", full), strings.Repeat(".", wide-full), done, total, progress(j))
}

// watchJob shows how far a job is until it is over: on a terminal in one line that
// changes, elsewhere a line for each change. Leaving it does not end the job.
func (a *asking) watchJob(ctx context.Context, cl *localclient.Client, id string) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	last := ""
	for tick := time.NewTicker(500 * time.Millisecond); ; {
		j, err := readJob(ctx, cl, id, false)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %s %s", j.ID, j.Status, bar(&j))
		over := j.Status == "COMPLETED" || j.Status == "CANCELED"
		switch {
		case line == last:
		case a.json:
			json.NewEncoder(a.w.out).Encode(j) //nolint:errcheck // nobody reads us any more
		case isTerminal(a.w.out):
			fmt.Fprintf(a.w.out, "\r\x1b[K%s", line)
		default:
			fmt.Fprintln(a.w.out, line)
		}
		if last = line; over {
			tick.Stop()
			if !a.json && isTerminal(a.w.out) {
				fmt.Fprintln(a.w.out)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return nil
		case <-tick.C:
		}
	}
}

// isTerminal says whether somebody looks at out.
func isTerminal(out any) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func jobCreate(w *world) *cobra.Command {
	a := &asking{w: w}
	var targets []string
	var document, file, description, template string
	var continuous, watch bool
	var rate, timeout, retries int
	c := a.flags(&cobra.Command{Use: "create ID", Short: "make a job", Args: cobra.ExactArgs(1),
		Long: `Make a job for things or groups. The document is JSON, or @FILE. With --file the gateway
keeps the file and makes a stream of it that is called as the job; without --document
the document then names the stream, the file, its size and its hash. --watch shows how
far it is; it can be left and joined again with job show --watch.`,
		Example: `  tidegate job create fw-7 --target group:pumps --file fw.bin --watch
  tidegate job create restart --target thing:gateway --document '{"operation":"reboot"}'`,
		RunE: func(c *cobra.Command, args []string) error {
			cl, ctx, id := a.client(), c.Context(), args[0]
			body := map[string]any{}
			var arns []string
			for _, t := range targets {
				arn, err := targetARN(ctx, cl, t)
				if err != nil {
					return err
				}
				arns = append(arns, arn)
			}
			body["targets"] = arns
			if file != "" {
				doc, err := a.offer(ctx, cl, id, file)
				if err != nil {
					return err
				}
				body["document"] = doc
			}
			if path, ok := strings.CutPrefix(document, "@"); ok {
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				document = string(b)
			}
			for member, v := range map[string]string{"document": document, "description": description, "jobTemplateArn": template} {
				if v != "" {
					body[member] = v
				}
			}
			if continuous {
				body["targetSelection"] = "CONTINUOUS"
			}
			if rate > 0 {
				body["jobExecutionsRolloutConfig"] = map[string]any{"maximumPerMinute": rate}
			}
			if timeout > 0 {
				body["timeoutConfig"] = map[string]any{"inProgressTimeoutInMinutes": timeout}
			}
			if retries > 0 {
				body["jobExecutionsRetryConfig"] = map[string]any{"criteriaList": []any{map[string]any{"failureType": "ALL", "numberOfRetries": retries}}}
			}
			made, err := iot[jobItem](ctx, cl, "PUT", under("jobs", id), nil, body)
			if err != nil {
				return err
			}
			if watch {
				return a.watchJob(ctx, cl, id)
			}
			return a.print(made, func() { fmt.Fprintln(w.out, made.ARN) })
		}})
	c.Flags().StringArrayVar(&targets, "target", nil, "whom it is for: thing:NAME, group:NAME or an ARN; may be repeated")
	c.Flags().StringVar(&document, "document", "", "what to do, as `JSON` or @FILE")
	c.Flags().StringVar(&file, "file", "", "a `FILE` that the things can get")
	c.Flags().StringVar(&description, "description", "", "what it is, in `WORDS`")
	c.Flags().StringVar(&template, "template", "", "the `ARN` of a job template")
	c.Flags().BoolVar(&continuous, "continuous", false, "also for things that join the groups later")
	c.Flags().IntVar(&rate, "rate", 0, "tell at most `N` things a minute")
	c.Flags().IntVar(&timeout, "timeout", 0, "an execution has failed when it is in progress for `MINUTES`")
	c.Flags().IntVar(&retries, "retries", 0, "try again what has failed, up to `N` times")
	c.Flags().BoolVar(&watch, "watch", false, "show how far it is until it is over")
	return c
}

// targetARN makes an ARN of a target, by asking: who is not there is told now.
func targetARN(ctx context.Context, cl *localclient.Client, t string) (string, error) {
	if strings.HasPrefix(t, "arn:") {
		return t, nil
	}
	switch kind, name, _ := strings.Cut(t, ":"); kind {
	case "thing":
		x, err := iot[thing](ctx, cl, "GET", under("things", name), nil, nil)
		return x.ARN, err
	case "group":
		g, err := iot[thingGroup](ctx, cl, "GET", under("thing-groups", name), nil, nil)
		return g.ARN, err
	}
	return "", misuse(fmt.Errorf("--target is %q, expected thing:NAME, group:NAME or an ARN", t))
}

// offer has the gateway keep a file and make a stream of it, and gives a document that
// tells of it.
func (a *asking) offer(ctx context.Context, cl *localclient.Client, id, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	name := filepath.Base(path)
	kept, err := cl.AddFile(ctx, "jobs", id+"/"+name, f)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(a.w.errOut, "%s is kept as %s (%s)\n", name, kept.Hash, size(kept.Size))
	stream := map[string]any{"files": []any{map[string]any{"fileId": 0, "s3Location": map[string]string{"bucket": "jobs", "key": id + "/" + name}}}, "roleArn": "local"}
	if err := order(ctx, cl, "POST", under("streams", id), nil, stream); err != nil {
		return "", err
	}
	doc, err := json.Marshal(map[string]any{"operation": "download", "stream": id, "fileId": 0, "name": name, "size": kept.Size, "sha256": kept.Hash})
	return string(doc), err
}

func jobCancel(w *world) *cobra.Command {
	a := &asking{w: w}
	var force bool
	var reason, comment string
	c := a.yesFlag(&cobra.Command{Use: "cancel ID", Short: "cancel a job; what is in progress goes on without --force", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.sure("Cancel the job %s?", args[0]); err != nil {
				return err
			}
			body := map[string]any{}
			if reason != "" {
				body["reasonCode"] = reason
			}
			if comment != "" {
				body["comment"] = comment
			}
			return order(c.Context(), a.client(), "PUT", under("jobs", args[0], "cancel"), forced(force), body)
		}})
	c.Flags().BoolVar(&force, "force", false, "also what is in progress")
	c.Flags().StringVar(&reason, "reason", "", "a `CODE` of capitals, digits and underscores")
	c.Flags().StringVar(&comment, "comment", "", "why, in `WORDS`")
	return c
}

func forced(force bool) url.Values { return url.Values{"force": {strconv.FormatBool(force)}} }

func jobRm(w *world) *cobra.Command {
	a := &asking{w: w}
	var force bool
	c := a.yesFlag(&cobra.Command{Use: "rm ID", Short: "delete a job that is over, with --force any", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.sure("Delete the job %s with all that is known of it?", args[0]); err != nil {
				return err
			}
			return order(c.Context(), a.client(), "DELETE", under("jobs", args[0]), forced(force), nil)
		}})
	c.Flags().BoolVar(&force, "force", false, "also when it is not over")
	return c
}
