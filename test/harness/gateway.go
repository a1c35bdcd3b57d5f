package harness

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Options for Start. The zero value is a gateway with --dev on an empty data folder.
type Options struct {
	Dir    string   // data folder; "": a temporary one
	Config string   // text of the configuration file; "": none is given
	Args   []string // more arguments for run
	Env    []string // KEY=VALUE, more environment
	Wrap   []string // command that runs the gateway, e.g. taskset -c 1
	NoDev  bool     // without --dev
	// InProcess runs it inside the test, where the race detector and the profiler see it; Wrap and Env do not apply, and it
	// cannot be killed.
	InProcess bool
}

// runner is a gateway at work, as a process or as a goroutine.
type runner interface {
	signal(syscall.Signal)
	kill()
	end() <-chan struct{}
	code() int // after end
	pid() int
}

// Listeners is run/listeners.json: the addresses that were chosen.
type Listeners struct{ MQTT, WS, MQTTS, HTTPS, Metrics string }

// Gateway is one that was started. Its methods are for one goroutine.
type Gateway struct {
	Listeners
	Dir     string
	StartUp time.Duration // of the last start, from exec to /readyz
	tb      TB
	o       Options
	config  string
	proc    runner
	out     *output
	since   time.Time
}

// Start starts a gateway and waits until it is ready.
func Start(tb TB, o Options) *Gateway {
	tb.Helper()
	g := New(tb, o)
	g.Restart()
	return g
}

// New prepares a gateway without starting it.
func New(tb TB, o Options) *Gateway {
	tb.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(tb.TempDir(), "data")
	}
	g := &Gateway{Dir: o.Dir, tb: tb, o: o, out: new(output)}
	g.SetConfig(o.Config)
	tb.Cleanup(func() {
		if g.proc != nil {
			g.proc.kill()
		}
		if tb.Failed() {
			tb.Logf("the gateway's last words:\n%s", g.out.tail(60))
		}
	})
	return g
}

// SetConfig replaces the configuration file for the next start.
func (g *Gateway) SetConfig(text string) {
	g.tb.Helper()
	if text == "" {
		g.config = ""
		return
	}
	if g.config == "" {
		g.config = filepath.Join(g.tb.TempDir(), "tidegate.yaml")
	}
	if err := os.WriteFile(g.config, []byte(text), 0o600); err != nil {
		g.tb.Fatalf("harness: %v", err)
	}
}

// Launch starts the process and does not wait for it.
func (g *Gateway) Launch() {
	g.tb.Helper()
	// What a kill left behind would look like a gateway that is ready.
	os.Remove(g.listenersFile())
	args := []string{"--data", g.Dir, "--mqtts", "127.0.0.1:0", "--https", "127.0.0.1:0", "--metrics", "127.0.0.1:0"}
	if !g.o.NoDev {
		args = append(args, "--dev", "--mqtt", "127.0.0.1:0", "--ws", "127.0.0.1:0")
	}
	if g.config != "" {
		args = append(args, "--config", g.config)
	}
	args = append(args, g.o.Args...)
	g.since = time.Now()
	var err error
	if g.o.InProcess {
		g.proc, err = startInProcess(g.out, args)
	} else {
		g.proc, err = startProcess(g.out, g.o.Env, append(append(append([]string{}, g.o.Wrap...), Binary(g.tb), "run"), args...)...)
	}
	if err != nil {
		g.tb.Fatalf("harness: start the gateway: %v", err)
	}
}

// Restart starts the process and waits until it is ready.
func (g *Gateway) Restart() {
	g.tb.Helper()
	g.Launch()
	if err := g.WaitReady(); err != nil {
		g.tb.Fatalf("harness: %v; its last words:\n%s", err, g.out.tail(20))
	}
}

// WaitReady waits for run/listeners.json and then for /readyz.
func (g *Gateway) WaitReady() error {
	ready := poll(Patience, func() bool {
		if g.Ended() {
			return true
		}
		b, err := os.ReadFile(g.listenersFile())
		if err != nil || json.Unmarshal(b, &g.Listeners) != nil {
			return false
		}
		code, _ := g.get("/readyz")
		return code == http.StatusOK
	})
	switch {
	case g.Ended():
		return errors.New("the gateway ended before it was ready, exit code " + strconv.Itoa(g.proc.code()))
	case !ready:
		return errors.New("the gateway is not ready after " + Patience.String())
	}
	g.StartUp = time.Since(g.since)
	return nil
}

// Kill is kill -9; it returns once the process is gone.
func (g *Gateway) Kill() {
	g.tb.Helper()
	if g.o.InProcess {
		g.tb.Fatalf("harness: a gateway in process cannot be killed")
	}
	g.proc.kill()
}

// Signal sends sig to the process.
func (g *Gateway) Signal(sig syscall.Signal) { g.proc.signal(sig) }

// Stop sends SIGTERM and fails the test unless the gateway exits 0 in time and takes its listeners.json with it.
func (g *Gateway) Stop() {
	g.tb.Helper()
	g.Signal(syscall.SIGTERM)
	select {
	case <-g.proc.end():
	case <-time.After(Patience):
		g.tb.Fatalf("harness: the gateway has not ended %v after SIGTERM", Patience)
	}
	if code := g.proc.code(); code != 0 {
		g.tb.Errorf("harness: exit code %d after SIGTERM, want 0", code)
	}
	if _, err := os.Stat(g.listenersFile()); err == nil {
		g.tb.Errorf("harness: run/listeners.json is still there after a clean exit")
	}
}

// Wait waits for a gateway that is about to end by itself and returns its exit code, -1 after a signal.
func (g *Gateway) Wait() int {
	g.tb.Helper()
	select {
	case <-g.proc.end():
	case <-time.After(Patience):
		g.tb.Fatalf("harness: the gateway has not ended after %v", Patience)
	}
	return g.proc.code()
}

// Ended tells whether the process has ended.
func (g *Gateway) Ended() bool { return closed(g.proc.end()) }

// PID of the gateway's process (with Wrap: of the wrapper, which is the same when it execs).
func (g *Gateway) PID() int { return g.proc.pid() }

// Stderr is what every start of this gateway has said so far.
func (g *Gateway) Stderr() string { return g.out.String() }

// Says waits until the gateway has said a line that holds all words, and returns the line.
func (g *Gateway) Says(words ...string) string {
	g.tb.Helper()
	var line string
	Until(g.tb, "the gateway says "+strings.Join(words, " ... "), func() bool {
		line = g.said(words)
		return line != ""
	})
	return line
}

func (g *Gateway) said(words []string) string {
next:
	for line := range strings.Lines(g.out.String()) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		return strings.TrimSpace(line)
	}
	return ""
}

// Metric is the value of a metric, summed over its labels that hold all of with (`name="value"`); ok is false when there is
// none.
func (g *Gateway) Metric(name string, with ...string) (sum float64, ok bool) {
	_, text := g.get("/metrics")
next:
	for line := range strings.Lines(text) {
		rest, found := strings.CutPrefix(line, name)
		if !found || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		for _, w := range with {
			if !strings.Contains(rest, w) {
				continue next
			}
		}
		f := strings.Fields(rest)
		if v, err := strconv.ParseFloat(f[len(f)-1], 64); err == nil {
			sum, ok = sum+v, true
		}
	}
	return sum, ok
}

// CLI runs another command of the binary against this gateway's data folder (--data is added).
func (g *Gateway) CLI(args ...string) (stdout, stderr string, code int) {
	g.tb.Helper()
	return Tidegate(g.tb, append(args, "--data", g.Dir)...)
}

// Loss is an entry of the ledger.
type Loss struct {
	Queue           string
	From, To, Count uint64
	Why             string
}

// Ledger is everything the gateway says it could not keep.
func (g *Gateway) Ledger() (losses []Loss) {
	g.tb.Helper()
	g.cliJSON(&losses, 0, "ledger", "--json", "--max", "100000")
	return losses
}

// Status is what `tidegate status --json` says, as far as tests look at it. The command's exit code must agree with it.
type Status struct {
	Healthy, Ready bool
	Warnings       []struct{ Code, Text string }
	Journal        struct{ Next, Losses uint64 }
	Store          struct {
		Bytes int64
		Free  int64 `json:"free_bytes"`
		Full  bool
	}
	Upstreams []struct {
		Name, State, Error string
		Lag                uint64
	}
	Devices []struct{ Name, State, Error string }
}

// Status asks for it.
func (g *Gateway) Status() (s Status) {
	g.tb.Helper()
	code := g.cliJSON(&s, -1, "status", "--json")
	if s.Healthy != (code == 0) {
		g.tb.Errorf("harness: tidegate status: exit %d, but healthy is %v", code, s.Healthy)
	}
	return s
}

func (g *Gateway) cliJSON(into any, want int, args ...string) (code int) {
	g.tb.Helper()
	out, errw, code := g.CLI(args...)
	if err := json.Unmarshal([]byte(out), into); err != nil || want >= 0 && code != want {
		g.tb.Fatalf("harness: tidegate %s: exit %d, %v: %s%s", strings.Join(args, " "), code, err, out, errw)
	}
	return code
}

// Tidegate runs the binary to its end.
func Tidegate(tb TB, args ...string) (stdout, stderr string, code int) {
	tb.Helper()
	var o, e bytes.Buffer
	cmd := exec.Command(Binary(tb), args...)
	cmd.Stdout, cmd.Stderr = &o, &e
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		tb.Fatalf("harness: %v", err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// PeakRSS is the most memory the process has held, in bytes, and RSS what it holds now.
func (g *Gateway) PeakRSS() int64 { return procStatus(g.PID(), "VmHWM:") }

// WatchAnon samples the memory that is the process's own, in bytes, until the function it returns is called; that gives the
// most that was seen. What is left out is the database's mapped files, which the kernel takes back when it needs the room.
func (g *Gateway) WatchAnon() (peak func() int64) {
	pid, stop, seen := g.PID(), make(chan struct{}), make(chan int64)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for most := int64(0); ; {
			most = max(most, procStatus(pid, "RssAnon:"))
			select {
			case <-tick.C:
			case <-stop:
				seen <- most
				return
			}
		}
	}()
	return func() int64 { close(stop); return <-seen }
}

// RSS is the memory the process holds now, in bytes.
func (g *Gateway) RSS() int64 { return procStatus(g.PID(), "VmRSS:") }

func (g *Gateway) listenersFile() string { return filepath.Join(g.Dir, "run", "listeners.json") }

func (g *Gateway) get(path string) (code int, body string) {
	c := http.Client{Timeout: 5 * time.Second}
	r, err := c.Get("http://" + g.Metrics + path)
	if err != nil {
		return 0, ""
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	return r.StatusCode, string(b)
}

// procStatus reads a kB figure of /proc/PID/status, in bytes; 0 when the process is gone.
func procStatus(pid int, key string) int64 {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb << 10
		}
	}
	return 0
}
