package harness

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Mosquitto is Debian's broker on a port of its own.
type Mosquitto struct {
	Addr string
	tb   TB
	conf string
	wrap []string
	out  *output
	proc *process
}

// StartMosquitto starts one that lets everybody in, queues without a limit and keeps nothing on disk; lines of conf are added
// to its configuration and override that.
func StartMosquitto(tb TB, conf ...string) *Mosquitto {
	tb.Helper()
	return StartMosquittoWrapped(tb, nil, conf...)
}

// StartMosquittoWrapped runs it under a command, e.g. taskset -c 1.
func StartMosquittoWrapped(tb TB, wrap []string, conf ...string) *Mosquitto {
	tb.Helper()
	m := &Mosquitto{Addr: freePort(tb), tb: tb, wrap: wrap, out: new(output), conf: filepath.Join(tb.TempDir(), "mosquitto.conf")}
	port := m.Addr[strings.LastIndexByte(m.Addr, ':')+1:]
	text := "listener " + port + " 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\nset_tcp_nodelay true\n"
	if os.Getuid() == 0 {
		text += "user root\n" // it would change to a user that cannot read the test's folder
	}
	if err := os.WriteFile(m.conf, []byte(text+strings.Join(conf, "\n")+"\n"), 0o600); err != nil {
		tb.Fatalf("harness: %v", err)
	}
	m.Start()
	tb.Cleanup(func() {
		m.proc.kill()
		if tb.Failed() {
			tb.Logf("mosquitto's last words:\n%s", m.out.tail(10))
		}
	})
	return m
}

// Start starts it again after Stop or Kill, on the same address.
func (m *Mosquitto) Start() {
	m.tb.Helper()
	binary := "/usr/sbin/mosquitto" // not on everybody's PATH
	if path, err := exec.LookPath("mosquitto"); err == nil {
		binary = path
	}
	var err error
	if m.proc, err = startProcess(m.out, nil, append(append([]string{}, m.wrap...), binary, "-c", m.conf)...); err != nil {
		m.tb.Fatalf("harness: mosquitto is needed (make deps installs it): %v", err)
	}
	if !poll(Patience, func() bool { return m.proc.ended() || accepts(m.Addr) }) || m.proc.ended() {
		m.tb.Fatalf("harness: mosquitto did not start:\n%s", m.out.tail(10))
	}
}

// Stop ends it with SIGTERM; what is queued in it is gone unless the configuration says persistence true.
func (m *Mosquitto) Stop() {
	m.proc.cmd.Process.Signal(syscall.SIGTERM)
	<-m.proc.done
}

// PID of the broker.
func (m *Mosquitto) PID() int { return m.proc.cmd.Process.Pid }

// MosquittoPub publishes with mosquitto_pub; args are more of its options.
func MosquittoPub(tb TB, addr, topic, payload string, args ...string) {
	tb.Helper()
	host, port, _ := strings.Cut(addr, ":")
	argv := append([]string{"-h", host, "-p", port, "-q", "1", "-t", topic, "-m", payload}, args...)
	if out, err := exec.Command("mosquitto_pub", argv...).CombinedOutput(); err != nil {
		tb.Fatalf("harness: mosquitto_pub (make deps installs it): %v: %s", err, out)
	}
}

// MosquittoSub is a running mosquitto_sub that has subscribed. What it hears is told by Next.
type MosquittoSub struct {
	tb   TB
	cmd  *exec.Cmd
	msgs chan Heard // 100,000; when full, mosquitto_sub waits
}

// Heard is a message as mosquitto_sub tells it.
type Heard struct {
	Topic   string `json:"topic"`
	Payload string `json:"payload"`
	QoS     int    `json:"qos"`
	Retain  int    `json:"retain"`
}

// StartMosquittoSub subscribes to filter at QoS 1 with mosquitto_sub and returns once the broker has said yes.
func StartMosquittoSub(tb TB, addr, filter string, args ...string) *MosquittoSub {
	tb.Helper()
	host, port, _ := strings.Cut(addr, ":")
	// -d says when the subscription stands; %j makes the messages tell themselves from that talk.
	argv := append([]string{"-h", host, "-p", port, "-q", "1", "-t", filter, "-d", "-F", "%j"}, args...)
	s := &MosquittoSub{tb: tb, cmd: exec.Command("stdbuf", append([]string{"-oL", "mosquitto_sub"}, argv...)...), msgs: make(chan Heard, 100_000)}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		tb.Fatalf("harness: mosquitto_sub (make deps installs it): %v", err)
	}
	subscribed, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			var h Heard
			if line := sc.Text(); strings.HasPrefix(line, "Subscribed") {
				close(subscribed)
			} else if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &h) == nil {
				s.msgs <- h
			}
		}
	}()
	tb.Cleanup(func() {
		s.cmd.Process.Kill()
		<-ended
		s.cmd.Wait()
	})
	select {
	case <-subscribed:
	case <-ended:
		tb.Fatalf("harness: mosquitto_sub ended before it had subscribed to %s", filter)
	case <-time.After(Patience):
		tb.Fatalf("harness: mosquitto_sub has not subscribed to %s after %v", filter, Patience)
	}
	return s
}

// Next is the next message; none within Patience fails the test.
func (s *MosquittoSub) Next() Heard {
	s.tb.Helper()
	select {
	case h := <-s.msgs:
		return h
	case <-time.After(Patience):
		s.tb.Fatalf("harness: mosquitto_sub has heard nothing for %v", Patience)
		return Heard{}
	}
}
