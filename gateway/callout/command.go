package callout

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// maxSaid is how much of what a command says on standard error is kept for the log.
const maxSaid = 1 << 10

// Command makes a function of a program: the event on its standard input, the answer on
// its standard output, status 0. It runs in a process group of its own that is killed
// when time is up, with nothing of the gateway's environment but PATH.
func Command(args []string) Func {
	return func(ctx context.Context, event []byte) ([]byte, error) {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		out, said := &bounded{max: MaxAnswer + 1}, &bounded{max: maxSaid}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(event), out, said
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		cmd.WaitDelay = time.Second // for grandchildren that hold its output open
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(said.buf))
		}
		if len(out.buf) > MaxAnswer {
			return nil, tooMuch()
		}
		return out.buf, nil
	}
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	buf []byte
	max int
}

// Write keeps what has room and takes the rest.
func (b *bounded) Write(p []byte) (int, error) {
	b.buf = append(b.buf, p[:min(len(p), b.max-len(b.buf))]...)
	return len(p), nil
}
