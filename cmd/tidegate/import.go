package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tidegate/gateway/localapi/localclient"
)

// registration is a registration task in answers.
type registration struct {
	ID      string   `json:"taskId"`
	Status  string   `json:"status"`
	Message string   `json:"message,omitempty"`
	Good    int      `json:"successCount"`
	Bad     int      `json:"failureCount"`
	Percent int      `json:"percentageProgress"`
	Results []string `json:"results,omitempty"` // files, a line for each thing
	Errors  []string `json:"errors,omitempty"`  // the same, for lines that failed
}

func (r *registration) over() bool { return r.Status != "InProgress" && r.Status != "Cancelling" }

// bar draws how far the task is.
func (r *registration) bar() string {
	const wide = 30
	full := wide * r.Percent / 100
	return fmt.Sprintf("[%s%s] %d%%  %d registered, %d failed", strings.Repeat("#", full), strings.Repeat(".", wide-full), r.Percent, r.Good, r.Bad)
}

// importBucket is the folder of the gateway's that files to import are put in.
const importBucket = "import"

// thingImport registers many things at once.
func thingImport(w *world) *cobra.Command {
	a := &asking{w: w}
	return a.flags(&cobra.Command{Use: "import TEMPLATE FILE", Short: "register many things by a provisioning template", Args: cobra.ExactArgs(2),
		Long: `Register many things at once. TEMPLATE is a file with a provisioning template, as
AWS IoT's bulk registration takes it; FILE has a JSON object with the template's
parameters on each line, - for standard input.

  {"Name":"pump-1","CSR":"-----BEGIN CERTIFICATE REQUEST-----\n…"}

The gateway works on it whether or not this command goes on watching, and goes on after a
restart. What became of each line stands in two files that are named in the end.`,
		RunE: func(c *cobra.Command, args []string) error {
			template, err := w.document(args[0])
			if err != nil {
				return err
			}
			key, err := a.hand(args[1])
			if err != nil {
				return err
			}
			cl := a.client()
			task, err := iot[registration](c.Context(), cl, "POST", "/thing-registration-tasks", nil,
				map[string]string{"templateBody": template, "inputFileBucket": importBucket, "inputFileKey": key, "roleArn": localRole})
			if err != nil {
				return errors.Join(err, os.Remove(a.imported(key)))
			}
			r, err := a.watchImport(c.Context(), cl, task.ID)
			if err != nil || !r.over() {
				return err
			}
			if err := os.Remove(a.imported(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			for kind, into := range map[string]*[]string{"RESULTS": &r.Results, "ERRORS": &r.Errors} {
				if *into, err = all[string](c.Context(), cl, "GET", under("thing-registration-tasks", r.ID, "reports"), url.Values{"reportType": {kind}}, "resourceLinks"); err != nil {
					return err
				}
				for i, link := range *into {
					(*into)[i] = strings.TrimPrefix(link, "file://")
				}
			}
			if err := a.print(r, func() {
				a.facts("registered", fmt.Sprint(r.Good), "failed", fmt.Sprint(r.Bad), "results", orDash(r.Results...), "errors", orDash(r.Errors...))
			}); err != nil {
				return err
			}
			switch {
			case r.Status != "Completed":
				return fmt.Errorf("the import is %s: %s", strings.ToLower(r.Status), orDash(r.Message))
			case r.Bad > 0:
				return fmt.Errorf("%d of %d lines failed; %s says why", r.Bad, r.Bad+r.Good, orDash(r.Errors...))
			}
			return nil
		}})
}

func (a *asking) imported(key string) string {
	return filepath.Join(a.folder(), "registration", "input", importBucket, key)
}

// hand puts a file where the gateway reads it and gives its name there.
func (a *asking) hand(name string) (key string, err error) {
	in := a.w.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	key = strings.ToLower(rand.Text()) + ".json"
	if err := os.MkdirAll(filepath.Dir(a.imported(key)), 0o755); err != nil {
		return "", err
	}
	out, err := os.OpenFile(a.imported(key), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644) // the gateway may be somebody else
	if err != nil {
		return "", err
	}
	_, err = io.Copy(out, in)
	return key, errors.Join(err, out.Close())
}

// watchImport shows how far a task is until it is over: on a terminal in one line that
// changes, elsewhere a line for each change. Leaving it does not end the task.
func (a *asking) watchImport(ctx context.Context, cl *localclient.Client, id string) (r registration, err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	terminal, last := isTerminal(a.w.errOut), ""
	for tick := time.NewTicker(250 * time.Millisecond); ; {
		r, err = iot[registration](ctx, cl, "GET", under("thing-registration-tasks", id), nil, nil)
		if ctx.Err() != nil {
			fmt.Fprintf(a.w.errOut, "\ntidegate: the gateway goes on with it; `aws iot describe-thing-registration-task --task-id %s` shows how far it is\n", id)
			return registration{Status: "InProgress"}, nil
		}
		if line := r.bar(); err == nil && line != last {
			if last = line; terminal {
				fmt.Fprintf(a.w.errOut, "\r\x1b[K%s", line)
			} else {
				fmt.Fprintln(a.w.errOut, line)
			}
		}
		if err != nil || r.over() {
			tick.Stop()
			if terminal {
				fmt.Fprintln(a.w.errOut)
			}
			return r, err
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}
