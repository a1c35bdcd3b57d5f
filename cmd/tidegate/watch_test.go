package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// cancelling ends what runs when the first line has come.
type cancelling struct {
	bytes.Buffer
	cancel func()
}

// Write keeps what comes.
func (c *cancelling) Write(p []byte) (int, error) {
	defer c.cancel()
	return c.Buffer.Write(p)
}

func TestWatchingCanBeLeftAndJoinedAgain(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	ports, _ := start(t, data)
	c := cli{t, data}
	c.ok("thing", "create", "pump-1")
	ctx, cancel := context.WithCancel(t.Context())
	out, said := cancelling{cancel: cancel}, bytes.Buffer{}
	code := dispatch(ctx, []string{"job", "create", "fw", "--target", "thing:pump-1", "--document", "{}", "--watch", "--data", data}, os.Getenv, strings.NewReader(""), io.Writer(&out), &said)
	if want := "fw IN_PROGRESS [..............................] 0/1  1 queued\n"; code != 0 || out.String() != want || !strings.Contains(said.String(), "tidegate job show fw --watch") {
		t.Errorf("exit %d: %q %q, want %q", code, out.String(), said.String(), want)
	}
	d := dial(t, ports["mqtt"], "pump-1")
	jobs := "$aws/things/pump-1/jobs/"
	d.ask(jobs+"start-next", "{}", jobs+"start-next/accepted")
	c.says([]string{"1 in progress"}, "job", "show", "fw")
	d.ask(jobs+"fw/update", `{"status":"FAILED"}`, jobs+"fw/update/accepted")
	if got, want := c.ok("job", "show", "fw", "--watch"), "fw COMPLETED [xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx] 1/1  1 failed\n"; got != want {
		t.Errorf("joined again: %q, want %q", got, want)
	}
}

func TestTheBarShowsStates(t *testing.T) {
	for want, n := range map[string][5]float64{
		"[..............................] 0/0":      {},
		"[###############xxx>>>>>>......] 60/100":   {20, 20, 50, 7, 3},
		"[##############################] 1/1":      {0, 0, 1, 0, 0},
		"[#############################.] 999/1000": {1, 0, 999, 0, 0},
	} {
		j := job{Process: map[string]any{"numberOfQueuedThings": n[0], "numberOfInProgressThings": n[1], "numberOfSucceededThings": n[2], "numberOfFailedThings": n[3], "numberOfTimedOutThings": n[4]}}
		if got := bar(&j); !strings.HasPrefix(got, want+"  ") {
			t.Errorf("%v: %q, want %q", n, got, want)
		}
	}
}
