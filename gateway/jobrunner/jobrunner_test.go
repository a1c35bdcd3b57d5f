package jobrunner_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/jobrunner"
	"tidegate/gateway/jobs"
	"tidegate/gateway/store"
)

// house is a room with jobs for the thing "gw", and the runner of it.
type house struct {
	t    *testing.T
	db   *store.Store
	room *jobs.Room
	ops  map[string]jobrunner.Handler
	told chan struct{} // a token when an execution has changed
	stop context.CancelFunc
	done chan error
}

type fleet struct{}

func (fleet) Thing(string) bool          { return true }
func (fleet) Group(string) (bool, bool)  { return false, false }
func (fleet) Members(string) []string    { return nil }
func (fleet) Within(string, string) bool { return false }

func newHouse(t *testing.T) *house {
	cfg := store.DefaultConfig(t.TempDir())
	cfg.Ballast, cfg.SyncDelay.Off = -1, true
	db, err := store.Open(cfg, clock.System())
	if err != nil {
		t.Fatal(err)
	}
	db.Start()
	h := &house{t: t, db: db, ops: map[string]jobrunner.Handler{}, told: make(chan struct{}, 100)}
	if h.room, err = jobs.Open(jobs.Deps{Store: db, Clock: clock.System(), Fleet: fleet{}, Base: "arn:", Limits: jobs.DefaultLimits()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.down(); _ = db.Close() })
	return h
}

func (h *house) commit(build func(tx jobs.Tx, tell func(jobs.Notice)) error) error {
	return h.db.Wait(func(u *store.Unit) error { return build(u, func(jobs.Notice) {}) })
}

// Peek, Take and Report make the house a Queue.
func (h *house) Peek(thing string) (l jobs.Lists, err error) {
	err = h.commit(func(tx jobs.Tx, _ func(jobs.Notice)) error { l, err = h.room.Pending(tx, thing); return err })
	return l, err
}

func (h *house) Take(thing string) (v *jobs.View, err error) {
	err = h.commit(func(tx jobs.Tx, tell func(jobs.Notice)) error {
		v, err = h.room.Start(tx, tell, thing, jobs.StartRequest{})
		return err
	})
	return v, err
}

func (h *house) Report(thing, job string, req jobs.UpdateRequest) error {
	err := h.commit(func(tx jobs.Tx, tell func(jobs.Notice)) error {
		_, err := h.room.Update(tx, tell, thing, job, req)
		return err
	})
	h.told <- struct{}{}
	return err
}

func (h *house) add(id, doc string) {
	h.t.Helper()
	err := h.commit(func(tx jobs.Tx, tell func(jobs.Notice)) error {
		_, err := h.room.Create(tx, tell, jobs.CreateInput{JobID: id, Targets: []string{"arn:thing/gw"}, Document: doc})
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) up() *jobrunner.Runner {
	r := jobrunner.New("gw", h, h.ops, clock.System(), slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	h.stop, h.done = stop, make(chan error, 1)
	go func() { h.done <- r.Run(ctx, func() {}) }()
	return r
}

func (h *house) down() {
	if h.stop != nil {
		h.stop()
		if err := <-h.done; err != nil {
			h.t.Error(err)
		}
		h.stop = nil
	}
}

// ends waits until an execution is over and gives how, with its details.
func (h *house) ends(id string) string {
	h.t.Helper()
	for deadline := time.After(10 * time.Second); ; {
		v, err := h.room.ShowExecution(h.db, id, "gw", 0)
		if err != nil {
			h.t.Fatal(err)
		}
		if v.Status.Terminal() {
			return fmt.Sprint(v.Status, " ", v.Details.Map)
		}
		select {
		case <-h.told:
		case <-deadline:
			h.t.Fatalf("%s is %s", id, v.Status)
		}
	}
}

func (h *house) is(id, want string) {
	h.t.Helper()
	if got := h.ends(id); got != want {
		h.t.Errorf("%s: %s, want %s", id, got, want)
	}
}

type do func(ctx context.Context, t *jobrunner.Task) error

func (f do) Do(ctx context.Context, t *jobrunner.Task) error { return f(ctx, t) }

func TestJobsAreDoneOneAfterTheOther(t *testing.T) {
	h := newHouse(t)
	h.ops["note"] = do(func(_ context.Context, t *jobrunner.Task) error { t.Set("seen", "a\nb\x00"); return nil })
	h.ops["fail"] = do(func(context.Context, *jobrunner.Task) error { return errors.New("secret") })
	h.ops["panic"] = do(func(context.Context, *jobrunner.Task) error { panic("secret") })
	h.add("j1", `{"operation":"note"}`)
	h.add("j2", `{"operation":"fail"}`)
	h.add("j3", `{"operation":"nonsense"}`)
	h.add("j4", `5`)
	r := h.up()
	h.is("j1", "SUCCEEDED map[seen:a b]")
	h.is("j2", "FAILED map[reason:internal failure]")
	h.is("j3", `REJECTED map[reason:this gateway does not know the operation "nonsense"]`)
	h.is("j4", `REJECTED map[reason:this gateway does not know the operation ""]`)
	h.add("j5", `{"operation":"panic"}`)
	r.Wake()
	h.is("j5", "FAILED map[reason:the handler of panic has failed]")
}

func TestWhatWasInterruptedIsNotDoneAgain(t *testing.T) {
	h := newHouse(t)
	began, times := make(chan struct{}), 0
	h.ops["long"] = do(func(ctx context.Context, _ *jobrunner.Task) error {
		times++
		close(began)
		<-ctx.Done()
		return nil // it does not know better
	})
	h.add("j", `{"operation":"long"}`)
	h.up()
	<-began
	h.down()
	h.up()
	h.is("j", "FAILED map[reason:the gateway was stopped in the middle of it]")
	if times != 1 {
		t.Errorf("done %d times", times)
	}
}

func TestReboot(t *testing.T) {
	h := newHouse(t)
	boot, asked := "boot-1", make(chan struct{}, 1)
	h.ops["reboot"] = jobrunner.Reboot{BootID: func() (string, error) { return boot, nil }, Reboot: func() error { asked <- struct{}{}; return nil }}
	h.add("j1", `{"version":"1.0","steps":[{"action":{"name":"Reboot","type":"runHandler","input":{"handler":"reboot.sh","path":""},"runAsUser":""}}]}`)
	h.add("j2", `{"operation":"reboot"}`)
	h.up()
	<-asked
	h.down()
	boot = "boot-2"
	h.up()
	h.is("j1", "SUCCEEDED map[boot:boot-2]")
	<-asked
	h.down()
	h.up() // only the gateway came again
	h.is("j2", "FAILED map[boot:boot-2 reason:the gateway was started again, but the machine was not]")
	if id, err := jobrunner.BootID(); err != nil || len(id) != 36 {
		t.Errorf("%q, %v", id, err)
	}
}

func TestOnlyListedCommandsAreRun(t *testing.T) {
	h := newHouse(t)
	h.ops["run"] = jobrunner.Run{Commands: map[string]jobrunner.Command{
		"hello": {Run: []string{"/bin/sh", "-c", "echo hello; echo wide >&2"}},
		"bad":   {Run: []string{"/bin/sh", "-c", "seq 1 100000; exit 3"}},
		"slow":  {Run: []string{"/bin/sh", "-c", "sleep 100 & sleep 100"}, Timeout: 50 * time.Millisecond},
		"none":  {Run: []string{"/nonexistent/program"}},
	}}
	h.add("j1", `{"operation":"run","command":"hello"}`)
	h.add("j2", `{"operation":"run","command":"/bin/sh"}`)
	h.add("j3", `{"operation":"run","command":"bad"}`)
	h.add("j4", `{"operation":"run","command":"slow"}`)
	h.add("j5", `{"operation":"run","command":7}`)
	h.add("j6", `{"steps":[{"action":{"type":"runCommand","input":{"command":"none"}}}]}`)
	h.up()
	h.is("j1", "SUCCEEDED map[exit:0 output:hello wide]")
	h.is("j2", `REJECTED map[reason:the command "/bin/sh" is not among those that the configuration allows]`)
	if s := h.ends("j3"); !strings.HasPrefix(s, "FAILED map[exit:3 output:") || !strings.Contains(s, " 99999 100000 ") || len(s) > 1300 {
		t.Errorf("%.100s… of %d", s, len(s))
	}
	h.is("j4", "FAILED map[reason:the command took longer than 50ms]")
	h.is("j5", "REJECTED map[reason:the job document is not what run expects]")
	h.is("j6", "FAILED map[reason:the command cannot be run]")
}

func TestDiagnosticsAndCertificates(t *testing.T) {
	h := newHouse(t)
	h.ops["collect-diagnostics"] = jobrunner.Diagnostics{Collect: func(_ context.Context, job string) (string, int64, error) { return "diagnostics/" + job, 12, nil }}
	h.ops["rotate-certificates"] = jobrunner.Rotate{Renew: func() (time.Time, error) { return time.Unix(0, 0), nil }}
	h.add("j1", `{"operation":"collect-diagnostics"}`)
	h.add("j2", `{"operation":"rotate-certificates"}`)
	h.up()
	h.is("j1", "SUCCEEDED map[bytes:12 file:diagnostics/j1]")
	h.is("j2", "SUCCEEDED map[until:1970-01-01T00:00:00Z]")
}

func TestAConfigurationIsReplacedOrNot(t *testing.T) {
	h := newHouse(t)
	path := filepath.Join(t.TempDir(), "tidegate.yaml")
	if err := os.WriteFile(path, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(p string) string { b, _ := os.ReadFile(p); return string(b) }
	var applied []string
	h.ops["set-configuration"] = jobrunner.Configure{Path: path,
		Check: func(p string) error {
			if strings.Contains(read(p), "wrong") {
				return errors.New("line 1: wrong")
			}
			return nil
		},
		Apply: func() ([]string, error) {
			applied = append(applied, read(path))
			if read(path) == "impossible" {
				return nil, errors.New("no")
			}
			return []string{"listen", "jobs"}, nil
		}}
	for i, c := range []struct{ doc, want, file string }{
		{`"configuration":"two"`, "SUCCEEDED map[restart:listen, jobs]", "two"},
		{`"configuration":"wrong"`, "REJECTED map[reason:the configuration is wrong: line 1: wrong]", "two"},
		{`"configuration":"impossible"`, "FAILED map[reason:the configuration cannot be applied; what was before is back]", "two"},
		{`"x":1`, "REJECTED map[reason:the job document has no configuration]", "two"},
	} {
		id := fmt.Sprint("j", i)
		h.add(id, `{"operation":"set-configuration",`+c.doc+`}`)
		h.up()
		h.is(id, c.want)
		h.down()
		if got := read(path); got != c.file {
			t.Errorf("the file is %q, want %q", got, c.file)
		}
	}
	if s := strings.Join(applied, " "); s != "two impossible two" {
		t.Errorf("applied %s", s)
	}
	if read(path+".old") == "" {
		t.Error("the old one is not kept")
	}
}
