package provision

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/logs"
	"tidegate/gateway/registry"
	"tidegate/gateway/store"
)

// ErrTaskExists is in the chain when a task is to start while another runs; doors turn it
// into TaskAlreadyExistsException.
var ErrTaskExists = errors.New("a registration task runs")

// TaskStatus is where a registration task stands.
type TaskStatus string

// The states (botocore iot model, Status).
const (
	TaskInProgress TaskStatus = "InProgress"
	TaskCompleted  TaskStatus = "Completed"
	TaskFailed     TaskStatus = "Failed"
	TaskCancelled  TaskStatus = "Cancelled"
	TaskCancelling TaskStatus = "Cancelling"
)

// maxTasks is how many finished tasks are remembered with their reports.
const maxTasks = 50

// Task registers things from a file: one JSON object of parameters on each line, for one
// template. Records are read-only.
type Task struct {
	ID        string
	By        string // who started it
	Template  string // the body
	Bucket    string // folder of the input
	Key       string // file in it
	Role      string
	Status    TaskStatus
	Message   string `json:",omitempty"` // why it failed
	Lines     int    // in the file; 0 until they were counted
	Done      int    // lines that were looked at
	Succeeded int
	Failed    int
	Created   time.Time
	Modified  time.Time
}

// Percent gives the progress, 0 to 100.
func (t *Task) Percent() int {
	switch {
	case t.Status == TaskCompleted:
		return 100
	case t.Lines == 0:
		return 0
	}
	return t.Done * 100 / t.Lines
}

// Tasks runs registration tasks, one at a time. What AWS reads from and writes to S3 is in
// a folder here:
//
//	DIR/input/BUCKET/KEY          the input, put there by an operator or a mounted medium
//	DIR/reports/TASK/results.json one line for each line that was registered
//	DIR/reports/TASK/errors.json  one line for each that was not, and why
//
// A task survives a restart and goes on behind the last lines it has reported; lines that
// were under way are registered again, which for a template with certificate signing
// requests makes another certificate. Its methods may be called concurrently.
type Tasks struct {
	db     *store.Store
	reg    *registry.Registry
	issuer Issuer
	dir    string
	clk    clock.Clock
	log    *slog.Logger
	wake   chan struct{} // room for one: there is something to do

	mu    sync.Mutex // guards what follows
	tasks map[string]*Task
}

// OpenTasks reads the tasks from the store.
func OpenTasks(db *store.Store, reg *registry.Registry, issuer Issuer, dir string, clk clock.Clock, log *slog.Logger) (*Tasks, error) {
	t := &Tasks{db: db, reg: reg, issuer: issuer, dir: dir, clk: clk, log: log, wake: make(chan struct{}, 1), tasks: map[string]*Task{}}
	var bad error
	err := db.Scan(keyTask, func(key string, val []byte) bool {
		task := new(Task)
		if err := json.Unmarshal(val, task); err != nil {
			bad = fmt.Errorf("%s: %w", key, err)
			return false
		}
		t.tasks[task.ID] = task
		return true
	})
	if err := errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("open registration tasks: %w", err)
	}
	return t, nil
}

const keyTask = store.KeyProvision + "t/" // + id

var (
	bucketName = regexp.MustCompile(`^[a-zA-Z0-9_-][a-zA-Z0-9._-]{2,255}$`)
	keyName    = regexp.MustCompile(`^[a-zA-Z0-9!_.*'()/-]+$`)
)

// TaskInput is what Start takes.
type TaskInput struct{ Template, Bucket, Key, Role string }

// Start begins a task. The file is looked at later; one that is not there makes the task
// fail. Errors: fault.Invalid, and fault.Exists with [ErrTaskExists] while another runs.
func (t *Tasks) Start(by string, in TaskInput) (*Task, error) {
	if _, err := ParseTemplate(in.Template); err != nil {
		return nil, err
	}
	if !bucketName.MatchString(in.Bucket) || len(in.Key) > 1024 || !keyName.MatchString(in.Key) || !filepath.IsLocal(in.Key) {
		return nil, fault.New(fault.Invalid, "inputFileBucket and inputFileKey name a folder and a file in it below %s", filepath.Join(t.dir, "input"))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, have := range t.tasks {
		if have.Status == TaskInProgress || have.Status == TaskCancelling {
			return nil, fault.Wrap(fault.Exists, ErrTaskExists, "the registration task %s is still running", have.ID)
		}
	}
	now := t.clk.Now().UTC()
	task := &Task{ID: taskID(), By: by, Template: in.Template, Bucket: in.Bucket, Key: in.Key, Role: in.Role, Status: TaskInProgress, Created: now, Modified: now}
	if err := t.save(task); err != nil {
		return nil, err
	}
	t.prune()
	select {
	case t.wake <- struct{}{}:
	default:
	}
	return task, nil
}

// save makes a record durable and current. The caller holds mu.
func (t *Tasks) save(task *Task) error {
	val, err := json.Marshal(task)
	if err != nil {
		return err
	}
	err = t.db.Wait(func(u *store.Unit) error { u.Put(keyTask+task.ID, val); return nil })
	if err == nil {
		t.tasks[task.ID] = task
	}
	return err
}

// prune forgets the oldest finished tasks. The caller holds mu.
func (t *Tasks) prune() {
	all := t.sorted()
	for _, task := range all[:max(len(all)-maxTasks, 0)] {
		if err := t.db.Wait(func(u *store.Unit) error { u.Del(keyTask + task.ID); return nil }); err != nil {
			return
		}
		delete(t.tasks, task.ID)
		if err := os.RemoveAll(t.reports(task.ID)); err != nil {
			t.log.Warn("reports of a registration task could not be removed", "task", task.ID, logs.Err(err))
		}
	}
}

// sorted lists the tasks, the oldest first. The caller holds mu.
func (t *Tasks) sorted() []*Task {
	all := make([]*Task, 0, len(t.tasks))
	for _, task := range t.tasks {
		all = append(all, task)
	}
	slices.SortFunc(all, func(a, b *Task) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return all
}

// Task gives a task.
func (t *Tasks) Task(id string) (*Task, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.task(id)
}

func (t *Tasks) task(id string) (*Task, error) {
	if task := t.tasks[id]; task != nil {
		return task, nil
	}
	return nil, fault.New(fault.NotFound, "Registration task %s does not exist", id)
}

// List gives the tasks, the newest first, those of a status if one is given.
func (t *Tasks) List(status TaskStatus) []*Task {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := slices.DeleteFunc(t.sorted(), func(task *Task) bool { return status != "" && task.Status != status })
	slices.Reverse(all)
	return all
}

// Stop ends a task that runs; lines under way are finished.
func (t *Tasks) Stop(id string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	have, err := t.task(id)
	if err != nil {
		return err
	}
	if have.Status != TaskInProgress {
		return fault.New(fault.Invalid, "the registration task %s is not in progress", id)
	}
	task := *have
	task.Status, task.Modified = TaskCancelling, t.clk.Now().UTC()
	return t.save(&task)
}

// Reports gives the files with the results, or with errors, of a task.
func (t *Tasks) Reports(id string, failures bool) ([]string, error) {
	if _, err := t.Task(id); err != nil {
		return nil, err
	}
	path := filepath.Join(t.reports(id), reportName(failures))
	if _, err := os.Stat(path); err != nil {
		return nil, nil
	}
	return []string{path}, nil
}

func (t *Tasks) reports(id string) string { return filepath.Join(t.dir, "reports", id) }

func reportName(failures bool) string {
	if failures {
		return "errors.json"
	}
	return "results.json"
}

// Run carries tasks out until ctx ends.
func (t *Tasks) Run(ctx context.Context, ready func()) error {
	ready()
	for {
		for _, s := range []TaskStatus{TaskInProgress, TaskCancelling} {
			for _, task := range t.List(s) {
				t.carryOut(ctx, task.ID)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.wake:
		}
	}
}

func taskID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
