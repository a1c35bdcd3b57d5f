package conformance_test

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

var long = flag.Bool("long", false, "play the model for about an hour")

// childDir is where a test binary that is to be a gateway finds its data.
const childDir = "CONFORMANCE_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(child(dir))
	}
	os.Exit(m.Run())
}

// child is a gateway in a process of its own. It says its address, and ends in order when
// its standard input does.
func child(dir string) int {
	h := newHouse(dir)
	h.cfg.SessionMemory, h.cfg.ClientBuffer = 300, 4096 // sessions fall behind soon
	if err := h.up(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(h.addr)
	io.Copy(io.Discard, os.Stdin)
	if err := h.down(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// process is a gateway that can be killed.
type process struct {
	dir  string
	addr string
	cmd  *exec.Cmd
	in   io.Closer
}

func (p *process) start() error {
	p.cmd = exec.Command(os.Args[0], "-test.run=^$")
	p.cmd.Env = append(os.Environ(), childDir+"="+p.dir)
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.in = in
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the gateway did not start: %w", err)
	}
	p.addr = strings.TrimSpace(line)
	return nil
}

// kill ends it at once, stop in order.
func (p *process) kill() { p.cmd.Process.Kill(); p.cmd.Wait() }

func (p *process) stop() error { p.in.Close(); return p.cmd.Wait() }
