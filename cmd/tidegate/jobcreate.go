package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidegate/gateway/localapi/localclient"
)

func jobCreate(w *world) *cobra.Command {
	a := &asking{w: w}
	var targets []string
	var document, file, description, template string
	var continuous, watch bool
	var rate, timeout, retries int
	c := a.flags(&cobra.Command{Use: "create [ID]", Short: "make a job", Args: cobra.MaximumNArgs(1),
		Long: `Make a job for things or groups; without an ID it is called after the file and the time.
The document is JSON, or @FILE. With --file the gateway keeps the file, and a stream of it
that is called as the job if it has at most 24 MB; without --document the document then
has the stream, and the file's name, size, hash and URL. A device reads the stream over
MQTT, or the URL, or /files/HASH on the HTTPS port with its certificate, in ranges if it
likes. jobs.url in the configuration says where devices find that port.

How far it is is shown on a terminal if there is a file, and with --watch; it can be left
with Ctrl-C and joined again with job show --watch.`,
		Example: `  tidegate job create --file fw.bin --target group:pumps
  tidegate job create restart --target thing:gateway --document '{"operation":"reboot"}'`,
		RunE: func(c *cobra.Command, args []string) error {
			cl, ctx := a.client(), c.Context()
			if len(targets) == 0 {
				return misuse(fmt.Errorf("whom is it for? name --target thing:NAME or group:NAME"))
			}
			id := jobID(file, time.Now())
			if len(args) > 0 {
				id = args[0]
			}
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
			if !c.Flags().Changed("watch") {
				watch = file != "" && !a.json && isTerminal(w.out)
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
	key := id + "/" + name
	kept, err := cl.AddFile(ctx, fileBucket, key, a.uploading(f, name))
	if err != nil {
		return "", err
	}
	fmt.Fprintf(a.w.errOut, "%s is kept as %s (%s)\n", name, kept.Hash, size(kept.Size))
	doc := map[string]any{"operation": "download", "name": name, "size": kept.Size, "sha256": kept.Hash,
		"url": "${aws:iot:s3-presigned-url:https://s3.amazonaws.com" + under(fileBucket, id, name) + "}"}
	if kept.Size <= streamBytes {
		stream := map[string]any{"files": []any{map[string]any{"fileId": 0, "s3Location": map[string]string{"bucket": fileBucket, "key": key}}}, "roleArn": "local"}
		if err := order(ctx, cl, "POST", under("streams", id), nil, stream); err != nil {
			return "", err
		}
		doc["stream"], doc["fileId"] = id, 0
	}
	text, err := json.Marshal(doc)
	return string(text), err
}

// fileBucket has the files of jobs; streamBytes is the largest that a stream can have.
const (
	fileBucket  = "jobs"
	streamBytes = 24 << 20
)

// jobID makes a name for a job without one.
func jobID(file string, now time.Time) string {
	name := "job"
	if file != "" {
		name = strings.Map(func(c rune) rune {
			if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
				return c
			}
			return '-'
		}, filepath.Base(file))
	}
	return name[:min(len(name), 40)] + now.UTC().Format("-20060102-150405")
}

// uploading shows on a terminal how much of a file has been read.
func (a *asking) uploading(f *os.File, name string) io.Reader {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 || a.json || !isTerminal(a.w.errOut) {
		return f
	}
	return &upload{r: f, name: name, of: info.Size(), to: a.w.errOut}
}

// upload tells how far the reading of r is.
type upload struct {
	r        io.Reader
	name     string
	done, of int64
	to       io.Writer
	told     time.Time
}

// Read reads on and tells, at most ten times a second.
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	u.done += int64(n)
	if now := time.Now(); now.Sub(u.told) > 100*time.Millisecond {
		u.told = now
		fmt.Fprintf(u.to, "\r\x1b[K%s %s of %s", u.name, size(u.done), size(u.of))
	}
	if err != nil {
		fmt.Fprint(u.to, "\r\x1b[K")
	}
	return n, err
}
