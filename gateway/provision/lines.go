package provision

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"tidegate/gateway/fault"
	"tidegate/gateway/logs"
)

const (
	maxLine  = 64 << 10 // bytes of a line of the input
	atOnce   = 64       // lines between two reports
	parallel = 8        // of these under way together: they share the syncs of the disk
)

// carryOut works on a task until its end, or until ctx ends.
func (t *Tasks) carryOut(ctx context.Context, id string) {
	err := t.work(ctx, id)
	t.mu.Lock()
	defer t.mu.Unlock()
	task := *t.tasks[id]
	switch {
	case ctx.Err() != nil && task.Status == TaskInProgress:
		return // it goes on after the restart
	case err != nil:
		task.Status, task.Message = TaskFailed, fault.Message(err)
		t.log.Warn("registration task failed", "task", id, logs.Err(err))
	case task.Status == TaskCancelling:
		task.Status = TaskCancelled
	default:
		task.Status = TaskCompleted
	}
	task.Modified = t.clk.Now().UTC()
	if err := t.save(&task); err != nil {
		t.log.Error("registration task could not be finished", "task", id, logs.Err(err))
	}
}

// open opens the input below the folder, whatever links it contains.
func (t *Tasks) open(task *Task) (*os.File, error) {
	dir := filepath.Join(t.dir, "input")
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "there is no folder %s", dir)
	}
	defer root.Close()
	f, err := root.Open(filepath.Join(task.Bucket, task.Key))
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "the input file %s cannot be read", filepath.Join(dir, task.Bucket, task.Key))
	}
	return f, nil
}

func (t *Tasks) work(ctx context.Context, id string) error {
	task, err := t.Task(id)
	if err != nil {
		return err
	}
	tpl, err := ParseTemplate(task.Template)
	if err != nil {
		return err
	}
	in, err := t.open(task)
	if err != nil {
		return err
	}
	defer in.Close()
	lines, err := countLines(in)
	if err != nil {
		return err
	}
	out, err := t.openReports(id)
	if err != nil {
		return err
	}
	defer out.close()
	s := bufio.NewScanner(in)
	s.Buffer(nil, maxLine)
	for n := 0; ; {
		var batch []line
		for len(batch) < atOnce && s.Scan() {
			if n++; n > task.Done && len(bytes.TrimSpace(s.Bytes())) > 0 {
				batch = append(batch, line{number: n, text: bytes.Clone(s.Bytes())})
			}
		}
		if err := s.Err(); err != nil {
			return fault.Wrap(fault.Invalid, err, "line %d of the input cannot be read; it has at most %d bytes", n+1, maxLine)
		}
		if len(batch) == 0 {
			return t.progress(id, lines, n, 0, 0)
		}
		t.registerAll(tpl, task.By, batch)
		good, bad, err := out.write(batch)
		if err != nil {
			return err
		}
		if err := t.progress(id, lines, n, good, bad); err != nil {
			return err
		}
		if now, _ := t.Task(id); ctx.Err() != nil || now.Status == TaskCancelling {
			return nil
		}
	}
}

// countLines counts and goes back to the start.
func countLines(f *os.File) (n int, err error) {
	r := bufio.NewReader(f)
	last := byte('\n')
	for {
		b, err := r.ReadSlice('\n')
		if len(b) > 0 {
			last = b[len(b)-1]
		}
		if last == '\n' && len(b) > 0 {
			n++
		}
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return 0, fault.Wrap(fault.Unavailable, err, "the input file cannot be read")
		}
	}
	if last != '\n' {
		n++
	}
	_, err = f.Seek(0, io.SeekStart)
	return n, err
}

// progress writes down how far a task has come.
func (t *Tasks) progress(id string, lines, done, good, bad int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	task := *t.tasks[id]
	task.Lines, task.Done, task.Modified = lines, max(task.Done, done), t.clk.Now().UTC()
	task.Succeeded += good
	task.Failed += bad
	return t.save(&task)
}

// line is one line of the input and what became of it.
type line struct {
	number int
	text   []byte
	out    *Outcome
	err    error
}

// registerAll registers a batch, each line in a transaction of its own.
func (t *Tasks) registerAll(tpl *Template, by string, batch []line) {
	var wg sync.WaitGroup
	next := make(chan *line)
	for range parallel {
		wg.Go(func() {
			for l := range next {
				l.out, l.err = t.registerLine(tpl, by, l.text)
			}
		})
	}
	for i := range batch {
		next <- &batch[i]
	}
	close(next)
	wg.Wait()
}

func (t *Tasks) registerLine(tpl *Template, by string, text []byte) (*Outcome, error) {
	var params map[string]string
	if err := json.Unmarshal(text, &params); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the line is not a JSON object of texts")
	}
	resolved, err := tpl.Resolve(params, false)
	if err != nil {
		return nil, err
	}
	return Register(t.reg, by, t.issuer, resolved)
}

// report is the two files a task writes.
type report struct{ results, errors *os.File }

func (t *Tasks) openReports(id string) (*report, error) {
	dir := t.reports(id)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the reports cannot be written")
	}
	open := func(failures bool) (*os.File, error) {
		return os.OpenFile(filepath.Join(dir, reportName(failures)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	}
	results, err := open(false)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the reports cannot be written")
	}
	failures, err := open(true)
	if err != nil {
		results.Close()
		return nil, fault.Wrap(fault.Unavailable, err, "the reports cannot be written")
	}
	return &report{results, failures}, nil
}

func (r *report) close() {
	r.results.Close()
	r.errors.Close()
}

// write adds a batch to the files and brings them to the disk, before the task says that
// these lines are done.
func (r *report) write(batch []line) (good, bad int, err error) {
	var results, failures bytes.Buffer
	for i := range batch {
		l := &batch[i]
		if l.err == nil {
			good++
			put(&results, map[string]any{"lineNumber": l.number, "response": map[string]any{"certificatePem": l.out.CertificatePEM, "resourceArns": l.out.ARNs}})
			continue
		}
		bad++
		put(&failures, map[string]any{"lineNumber": l.number, "errorCode": fault.Of(l.err).String(), "errorMessage": fault.Message(l.err)})
	}
	for _, w := range []struct {
		f *os.File
		b []byte
	}{{r.results, results.Bytes()}, {r.errors, failures.Bytes()}} {
		if len(w.b) == 0 {
			continue
		}
		if _, err = w.f.Write(w.b); err == nil {
			err = w.f.Sync()
		}
		if err != nil {
			return good, bad, fault.Wrap(fault.Unavailable, fmt.Errorf("write report: %w", err), "the reports cannot be written")
		}
	}
	return good, bad, nil
}

// put writes a document on a line of its own.
func put(b *bytes.Buffer, v any) {
	if err := json.NewEncoder(b).Encode(v); err != nil {
		panic("BUG: a report that is not JSON: " + err.Error())
	}
}
