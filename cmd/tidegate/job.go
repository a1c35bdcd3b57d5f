package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tidegate/gateway/fault"
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
	Signer      string           `json:"signer,omitempty"`
	Process     map[string]any   `json:"jobProcessDetails"`
	Document    string           `json:"document,omitempty"`
	Executions  []executionOfJob `json:"executions,omitempty"`
}

// executionOfJob is what became of a job on one thing.
type executionOfJob struct {
	Thing   string            `json:"thingArn"`
	Details map[string]string `json:"statusDetails,omitempty"` // of the newest, when there are not too many to ask
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
	return group("job", "what things have to do", jobLs(w), jobShow(w), jobCreate(w), jobCancel(w), jobRm(w), jobExport(w), jobImport(w), jobFetch(w))
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
			if err := j.ask(c.Context(), cl); err != nil {
				return err
			}
			return a.print(j, func() { a.job(&j) })
		}})
	c.Flags().BoolVar(&watch, "watch", false, "show how far it is until it is over")
	return c
}

// execution asks for an execution's details.
func execution(ctx context.Context, cl *localclient.Client, job, thing string) (map[string]string, error) {
	x, err := iot[struct {
		Execution struct {
			StatusDetails struct{ DetailsMap map[string]string }
		}
	}](ctx, cl, "GET", under("things", thing, "jobs", job), nil, nil)
	return x.Execution.StatusDetails.DetailsMap, err
}

// ask asks for the details of each thing's newest execution, if these are few.
func (j *job) ask(ctx context.Context, cl *localclient.Client) error {
	const few = 50
	seen := map[string]bool{}
	for i := range j.Executions {
		e := &j.Executions[i]
		if seen[e.Thing] || len(j.Executions) > few {
			continue
		}
		seen[e.Thing] = true
		d, err := execution(ctx, cl, j.ID, lastOf(e.Thing))
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		e.Details = d
	}
	return nil
}

func (a *asking) job(j *job) {
	a.facts("job", j.ID, "arn", j.ARN, "status", j.Status, "reason", orDash(strings.TrimSpace(j.Reason+" "+j.Comment)), "description", orDash(j.Description), "signed by", orDash(j.Signer),
		"targets", orDash(j.Targets...), "created", j.Created.String(), "completed", j.Completed.String(), "things", progress(j), "document", j.Document)
	var rows [][]string
	for _, e := range j.Executions {
		s := e.Summary
		rows = append(rows, []string{lastOf(e.Thing), s.Status, strconv.FormatInt(s.Number, 10), s.Queued.String(), s.Started.String(), s.Updated.String(), joined(e.Details)})
	}
	if len(rows) > 0 {
		fmt.Fprintln(a.w.out)
		a.table("THING STATUS NUMBER QUEUED STARTED UPDATED DETAILS", rows)
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

// bar draws how far a job's things are: # is done, x has come to another end, > is in
// progress.
func bar(j *job) string {
	const wide = 30
	done, other, busy, total := j.count("Succeeded"), 0, j.count("InProgress"), 0
	for i, s := range states {
		total += j.count(s)
		if i > 2 {
			other += j.count(s)
		}
	}
	var b strings.Builder
	if total > 0 {
		sum := 0
		for _, part := range []struct {
			n    int
			mark string
		}{{done, "#"}, {other, "x"}, {busy, ">"}} {
			sum += part.n
			b.WriteString(strings.Repeat(part.mark, max(0, wide*sum/total-b.Len())))
		}
	}
	b.WriteString(strings.Repeat(".", wide-b.Len()))
	return fmt.Sprintf("[%s] %d/%d  %s", b.String(), done+other, total, progress(j))
}

// watchJob shows how far a job is until it is over: on a terminal in one line that
// changes, elsewhere a line for each change. Leaving it does not end the job. A gateway
// that goes away for a while is waited for.
func (a *asking) watchJob(ctx context.Context, cl *localclient.Client, id string) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	live := !a.json && isTerminal(a.w.out)
	last, seen := "", time.Time{}
	for {
		j, err := readJob(ctx, cl, id, false)
		away := fault.Is(err, fault.Unavailable) && time.Since(seen) < time.Minute
		if err != nil && !away && ctx.Err() == nil {
			return err
		}
		line := last
		if err == nil {
			seen = time.Now()
			line = fmt.Sprintf("%s %s %s", j.ID, j.Status, bar(&j))
		}
		switch {
		case line == last:
		case a.json:
			json.NewEncoder(a.w.out).Encode(j) //nolint:errcheck // nobody reads us any more
		case live:
			fmt.Fprintf(a.w.out, "\r\x1b[K%s", line)
		default:
			fmt.Fprintln(a.w.out, line)
		}
		last = line
		over := err == nil && (j.Status == "COMPLETED" || j.Status == "CANCELED")
		if !over {
			select {
			case <-tick.C:
				continue
			case <-ctx.Done():
			}
		}
		if live {
			fmt.Fprintln(a.w.out)
		}
		if !over {
			fmt.Fprintf(a.w.errOut, "the job goes on; `tidegate job show %s --watch` shows it again\n", id)
		}
		return nil
	}
}

// isTerminal says whether somebody looks at out.
func isTerminal(out any) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
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
