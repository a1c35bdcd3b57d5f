// Package harness starts what a user starts and looks at it from outside: the gateway as a binary on a data folder of its
// own, a real mosquitto, mosquitto's command line clients, wires made of ptys and an independent Modbus slave on one.
// Everything listens on a free loopback port and ends with the test that started it.
//
//	up := harness.StartMosquitto(t)
//	g := harness.Start(t, harness.Options{Config: "..."})
//	g.Kill()    // kill -9
//	g.Restart() // on the same data folder
//	g.Stop()    // SIGTERM; fails the test unless it drains and exits 0
//
// What cannot be had (no mosquitto, no Python library) fails the test and says what to install; nothing is skipped.
package harness

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// TB is what the harness needs of a *testing.T; the bench has its own.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
	Logf(format string, args ...any)
	Failed() bool
	Cleanup(func())
	TempDir() string
}

// Patience is how long the harness waits for something that takes milliseconds on an idle machine.
const Patience = 60 * time.Second

// Root is the folder of go.mod.
func Root(tb TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	tb.Fatalf("harness: no go.mod above the working directory")
	return ""
}

var built struct {
	sync.Once
	path string
	err  error
}

// Binary builds the gateway, once in a test process, and returns its path. TIDEGATE_BINARY names one to use instead.
func Binary(tb TB) string {
	tb.Helper()
	if path := os.Getenv("TIDEGATE_BINARY"); path != "" {
		return path
	}
	root := Root(tb)
	built.Do(func() {
		// Two test processes may build at once: each into a file of its own, then renamed.
		tmp := filepath.Join(root, "bin", fmt.Sprintf(".tidegate-%d", os.Getpid()))
		cmd := exec.Command("go", "build", "-o", tmp, "./cmd/tidegate")
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build the gateway: %w\n%s", err, out)
			return
		}
		built.path = filepath.Join(root, "bin", "tidegate-under-test")
		built.err = os.Rename(tmp, built.path)
	})
	if built.err != nil {
		tb.Fatalf("harness: %v", built.err)
	}
	return built.path
}

// Until calls ok until it returns true, and fails the test with what when it has not after Patience.
func Until(tb TB, what string, ok func() bool) {
	tb.Helper()
	if !poll(Patience, ok) {
		tb.Fatalf("after %v still not: %s", Patience, what)
	}
}

// poll looks again every few milliseconds, ever less often. It watches other processes, which cannot wake it.
func poll(patience time.Duration, ok func() bool) bool {
	pause := 2 * time.Millisecond
	for end := time.Now().Add(patience); ; {
		if ok() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
		time.Sleep(pause)
		pause = min(pause*5/4, 50*time.Millisecond)
	}
}

// freePort returns a loopback address that was free a moment ago, for programs that cannot choose one themselves.
func freePort(tb TB) string {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("harness: %v", err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// accepts tells whether somebody listens on addr.
func accepts(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// process is a child whose output is kept. It dies with the test process, too, should that be killed.
type process struct {
	cmd  *exec.Cmd
	out  *output
	done chan struct{} // closed once it has ended and been waited for
	err  error         // of Wait, after done
}

func startProcess(out *output, env []string, argv ...string) (*process, error) {
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), out: out, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) signal(sig syscall.Signal) { p.cmd.Process.Signal(sig) }
func (p *process) end() <-chan struct{}      { return p.done }
func (p *process) code() int                 { return p.cmd.ProcessState.ExitCode() }
func (p *process) pid() int                  { return p.cmd.Process.Pid }
func (p *process) ended() bool               { return closed(p.done) }

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (p *process) kill() {
	p.cmd.Process.Signal(syscall.SIGCONT)
	p.cmd.Process.Kill()
	<-p.done
}

// output collects what a process says; safe for concurrent use.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends; it never fails.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

// String is all of it so far.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// tail is the last n lines.
func (o *output) tail(n int) string {
	lines := strings.Split(strings.TrimRight(o.String(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
