package provision_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/provision"
)

const plain = `{"Parameters":{"Name":{"Type":"String"},"CSR":{"Type":"String"}},"Resources":{
 "thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"Name"}}}}}`

// tasks opens and runs the tasks of a house; stop ends them.
func (h *house) tasks() (t *provision.Tasks, stop func()) {
	h.Helper()
	t, err := provision.OpenTasks(h.db, h.reg, h.id, h.dir, h.clk, slog.New(slog.DiscardHandler))
	if err != nil {
		h.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- t.Run(ctx, func() {}) }()
	stop = func() { cancel(); <-ended; ended <- nil }
	h.Cleanup(stop)
	return t, stop
}

func (h *house) input(bucket, key, text string) {
	h.Helper()
	path := filepath.Join(h.dir, "input", bucket, key)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		h.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		h.Fatal(err)
	}
}

// wait waits until a task stands still.
func (h *house) wait(t *provision.Tasks, id string) *provision.Task {
	h.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		task, err := t.Task(id)
		if err != nil {
			h.Fatal(err)
		}
		if task.Status != provision.TaskInProgress && task.Status != provision.TaskCancelling {
			return task
		}
	}
	h.Fatal("the task does not end")
	return nil
}

func TestAFileOfThingsIsRegistered(t *testing.T) {
	h := newHouse(t)
	tasks, _ := h.tasks()
	var b strings.Builder
	for i := range 200 {
		fmt.Fprintf(&b, "{\"Name\":\"thing-%03d\"}\n", i)
	}
	b.WriteString("\nnot json\n{\"Name\":\"bad name\"}\n{\"Name\":\"last\"}") // no line end
	h.input("fleet", "a/b.json", b.String())
	task, err := tasks.Start("operator/ada", provision.TaskInput{Template: plain, Bucket: "fleet", Key: "a/b.json"})
	if err != nil {
		t.Fatal(err)
	}
	done := h.wait(tasks, task.ID)
	if done.Status != provision.TaskCompleted || done.Succeeded != 201 || done.Failed != 2 || done.Lines != 204 || done.Percent() != 100 {
		t.Fatalf("got %+v", done)
	}
	if _, err := h.reg.Thing("last"); err != nil {
		t.Error(err)
	}
	files, err := tasks.Reports(task.ID, true)
	if err != nil || len(files) != 1 {
		t.Fatalf("reports %v, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var first struct {
		Line    int    `json:"lineNumber"`
		Code    string `json:"errorCode"`
		Message string `json:"errorMessage"`
	}
	if json.Unmarshal([]byte(strings.SplitN(string(text), "\n", 2)[0]), &first); first.Line != 202 || first.Code != "invalid" || first.Message == "" {
		t.Errorf("errors: %s", text)
	}
}

func TestATaskGoesOnAfterARestart(t *testing.T) {
	h := newHouse(t)
	tasks, stop := h.tasks()
	var b strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&b, "{\"Name\":\"thing-%04d\"}\n", i)
	}
	h.input("fleet", "in", b.String())
	task, err := tasks.Start("operator/ada", provision.TaskInput{Template: plain, Bucket: "fleet", Key: "in"})
	if err != nil {
		t.Fatal(err)
	}
	for {
		now, err := tasks.Task(task.ID)
		if err != nil {
			t.Fatal(err)
		}
		if now.Done > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	stop()
	again, _ := h.tasks()
	done := h.wait(again, task.ID)
	if done.Status != provision.TaskCompleted || done.Succeeded != 2000 {
		t.Errorf("got %+v", done)
	}
}

func TestTasksThatCannotBe(t *testing.T) {
	h := newHouse(t)
	tasks, stop := h.tasks()
	if err := os.WriteFile(filepath.Join(h.dir, "secret"), []byte(`{"Name":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	h.input("fleet", "in", "")
	if err := os.Symlink("../../secret", filepath.Join(h.dir, "input", "fleet", "link")); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"none", "link"} {
		task, err := tasks.Start("operator/ada", provision.TaskInput{Template: plain, Bucket: "fleet", Key: key})
		if err != nil {
			t.Fatal(err)
		}
		if done := h.wait(tasks, task.ID); done.Status != provision.TaskFailed || done.Message == "" {
			t.Errorf("%s: %+v", key, done)
		}
	}
	for _, in := range []provision.TaskInput{{Template: plain, Bucket: "..", Key: "secret"}, {Template: plain, Bucket: "fleet", Key: "../../secret"}, {Template: "{}", Bucket: "fleet", Key: "in"}} {
		if _, err := tasks.Start("operator/ada", in); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", in, err)
		}
	}
	stop() // nobody works on what follows
	task, err := tasks.Start("operator/ada", provision.TaskInput{Template: plain, Bucket: "fleet", Key: "in"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tasks.Start("operator/ada", provision.TaskInput{Template: plain, Bucket: "fleet", Key: "in"}); !errors.Is(err, provision.ErrTaskExists) {
		t.Errorf("a second one: %v", err)
	}
	if err := tasks.Stop(task.ID); err != nil {
		t.Error(err)
	}
	again, _ := h.tasks()
	if done := h.wait(again, task.ID); done.Status != provision.TaskCancelled {
		t.Errorf("got %+v", done)
	}
}
