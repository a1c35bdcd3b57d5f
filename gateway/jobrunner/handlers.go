package jobrunner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tidegate/gateway/fault"
)

// Reboot restarts the machine: {"operation":"reboot"}. It has succeeded when the gateway
// starts again on another boot.
type Reboot struct {
	BootID func() (string, error) // differs from boot to boot
	Reboot func() error           // asks for the restart and returns
}

// Do notes the boot it happens in and restarts.
func (h Reboot) Do(ctx context.Context, t *Task) error {
	id, err := h.BootID()
	if err != nil {
		return fault.Wrap(fault.Internal, err, "it is not known which boot this is")
	}
	t.Set("boot", id)
	if err := t.Report(); err != nil {
		return err
	}
	if err := h.Reboot(); err != nil {
		return fault.Wrap(fault.Internal, err, "the machine cannot be restarted")
	}
	return ErrLater
}

// Resume looks whether there was a restart.
func (h Reboot) Resume(_ context.Context, t *Task) error {
	id, err := h.BootID()
	switch {
	case err != nil:
		return fault.Wrap(fault.Internal, err, "it is not known which boot this is")
	case t.Details["boot"] == "" || t.Details["boot"] == id:
		return fault.New(fault.Unavailable, "the gateway was started again, but the machine was not")
	}
	t.Set("boot", id)
	return nil
}

// BootFile is where the kernel has its name for this boot (random(4)).
const BootFile = "/proc/sys/kernel/random/boot_id"

// BootID reads the kernel's name for this boot.
func BootID() (string, error) { return ReadBootID(BootFile) }

// ReadBootID reads the name of this boot from a file.
func ReadBootID(file string) (string, error) {
	b, err := os.ReadFile(file)
	return clean(string(b)), err
}

// Command is something that a job may run.
type Command struct {
	Run     []string      // program and arguments
	Timeout time.Duration // 0: 5 minutes
}

// Run runs a command of a list: {"operation":"run","command":"NAME"}. A job names it, and
// has no say in its arguments.
type Run struct{ Commands map[string]Command }

// output is how much of a command's output is kept while it runs.
const output = 64 << 10

// Do runs the command. Its exit status and the end of its output become details.
func (h Run) Do(ctx context.Context, t *Task) error {
	var in struct{ Command string }
	if err := t.Into(&in); err != nil {
		return err
	}
	c, ok := h.Commands[in.Command]
	if !ok || len(c.Run) == 0 {
		return Reject("the command %q is not among those that the configuration allows", in.Command)
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	var out tail
	cmd := exec.CommandContext(ctx, c.Run[0], c.Run[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that what it has started ends with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	t.Set("output", string(out.b))
	var exit *exec.ExitError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fault.New(fault.Timeout, "the command took longer than %v", c.Timeout)
	case errors.As(err, &exit):
		t.Set("exit", strconv.Itoa(exit.ExitCode()))
		return fault.New(fault.Invalid, "the command ended with status %d", exit.ExitCode())
	case err != nil:
		return fault.Wrap(fault.Internal, err, "the command cannot be run")
	}
	t.Set("exit", "0")
	return nil
}

// tail keeps the end of what is written to it.
type tail struct{ b []byte }

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > output {
		t.b = append(t.b[:0], t.b[len(t.b)-output:]...)
	}
	return len(p), nil
}

// Diagnostics gathers what helps to find a fault: {"operation":"collect-diagnostics"}.
type Diagnostics struct {
	// Collect puts it somewhere where it can be fetched, and says where and how large.
	Collect func(ctx context.Context, job string) (where string, bytes int64, err error)
}

// Do collects.
func (h Diagnostics) Do(ctx context.Context, t *Task) error {
	where, n, err := h.Collect(ctx, t.Job)
	if err != nil {
		return err
	}
	t.Set("file", where)
	t.Set("bytes", strconv.FormatInt(n, 10))
	return nil
}

// Rotate makes new certificates: {"operation":"rotate-certificates"}.
type Rotate struct {
	// Renew makes them and says until when they are good.
	Renew func() (until time.Time, err error)
}

// Do rotates.
func (h Rotate) Do(_ context.Context, t *Task) error {
	until, err := h.Renew()
	if err != nil {
		return err
	}
	t.Set("until", until.UTC().Format(time.RFC3339))
	return nil
}

// Configure replaces the configuration file: {"operation":"set-configuration",
// "configuration":"TEXT"}. A text that Check refuses changes nothing; when it cannot be
// applied, what was before is back. The old file is kept beside the new one, as .old. What
// of it holds only after a restart becomes the detail restart.
type Configure struct {
	Path  string
	Check func(path string) error              // judges the file at path
	Apply func() (restart []string, err error) // has the gateway read it again
}

// Do replaces the file and applies it.
func (h Configure) Do(_ context.Context, t *Task) error {
	var in struct{ Configuration *string }
	if err := t.Into(&in); err != nil {
		return err
	}
	switch {
	case in.Configuration == nil:
		return Reject("the job document has no configuration")
	case h.Path == "":
		return Reject("this gateway runs without a configuration file")
	}
	next := h.Path + ".new"
	if err := write(next, []byte(*in.Configuration)); err != nil {
		return fault.Wrap(fault.Internal, err, "the configuration cannot be written")
	}
	defer os.Remove(next) // gone when it was renamed
	if err := h.Check(next); err != nil {
		return Reject("the configuration is wrong: %v", err)
	}
	old, err := os.ReadFile(h.Path)
	had := err == nil
	if err == nil {
		err = write(h.Path+".old", old)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.Wrap(fault.Internal, err, "the configuration cannot be kept")
	}
	if err := replace(next, h.Path); err != nil {
		return fault.Wrap(fault.Internal, err, "the configuration cannot be replaced")
	}
	restart, err := h.Apply()
	if err == nil {
		t.Set("restart", strings.Join(restart, ", "))
		return nil
	}
	if had {
		back := errors.Join(write(next, old), replace(next, h.Path))
		if back == nil {
			_, back = h.Apply()
		}
		if back != nil {
			return fault.Wrap(fault.Internal, errors.Join(err, back), "the configuration cannot be applied, and what was before neither")
		}
	}
	return fault.Wrap(fault.Invalid, err, "the configuration cannot be applied; what was before is back")
}

// write writes a file that only its owner reads, to the disk.
func write(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// replace renames a file to the disk.
func replace(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(to))
	if err != nil {
		return fmt.Errorf("after the rename: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
