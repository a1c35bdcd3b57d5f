package listen_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/health"
	"tidegate/gateway/listen"
	"tidegate/gateway/logs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, addrs ...listen.Addr) (*listen.Set, *health.Health) {
	t.Helper()
	hp := health.New(clock.System())
	s, err := listen.Open(logs.Discard(), hp, addrs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, hp
}

// start runs a task; the returned function stops it and gives its error.
func start(t *testing.T, task func(context.Context, func()) error) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	up, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- task(ctx, func() { close(up) }) }()
	select {
	case <-up:
	case err := <-done:
		t.Fatalf("the task ended: %v", err)
	}
	return func() error { cancel(); return <-done }
}

func TestConnectionsReachTheirDoor(t *testing.T) {
	s, _ := open(t, listen.Addr{Name: "mqtt", Addr: "127.0.0.1:0"}, listen.Addr{Name: "metrics", Addr: "127.0.0.1:0"})
	var open atomic.Int32
	stop := start(t, s.Doors(map[string]func(net.Conn){"off": nil, "mqtt": func(nc net.Conn) {
		open.Add(1)
		defer open.Add(-1)
		defer nc.Close()
		nc.Write([]byte("mqtt"))
		nc.Read(make([]byte, 1))
	}}))
	addr := s.Addrs()["mqtt"]
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4)
	if _, err := nc.Read(buf); err != nil || string(buf) != "mqtt" {
		t.Errorf("%q, %v", buf, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("the port is still open")
	}
	if open.Load() != 1 {
		t.Error("stopping to accept has ended a connection")
	}
	nc.Close()
	s.Close()
	if open.Load() != 0 {
		t.Error("Close did not wait for the door")
	}
	if s.Port("off") != nil {
		t.Error("a port that is off")
	}
}

func TestAPortInUseSaysWhatToDo(t *testing.T) {
	s, hp := open(t, listen.Addr{Name: "metrics", Addr: "127.0.0.1:0"})
	addr := s.Addrs()["metrics"]
	first := listen.Addr{Name: "x", Addr: "127.0.0.1:0"}
	_, err := listen.Open(logs.Discard(), hp, []listen.Addr{first, {Name: "mqtt", Addr: addr}})
	want := "the address " + addr + " (mqtt) is in use by another program; stop that one, or choose another address with --mqtt or listen.mqtt"
	if !fault.Is(err, fault.Unavailable) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := listen.Open(logs.Discard(), hp, []listen.Addr{{Name: "mqtt", Addr: "192.0.2.1:0"}}); err == nil || !strings.Contains(err.Error(), "does not have the address") {
		t.Errorf("got %v", err)
	}
}

func TestAnnounceWritesAndTakesAway(t *testing.T) {
	s, _ := open(t, listen.Addr{Name: "mqtt", Addr: "127.0.0.1:0"})
	file := filepath.Join(t.TempDir(), "run", "listeners.json")
	stop := start(t, s.Announce(file))
	b, err := os.ReadFile(file)
	var got map[string]string
	if err != nil || json.Unmarshal(b, &got) != nil || len(got) != 1 || got["mqtt"] != s.Addrs()["mqtt"] {
		t.Errorf("%s, %v", b, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(filepath.Dir(file)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A shortage of file descriptors must not end the listener. The process's own limit is
// lowered to what is open now.
func TestAShortageOfFilesIsWaitedOut(t *testing.T) {
	s, hp := open(t, listen.Addr{Name: "mqtt", Addr: "127.0.0.1:0"})
	got := make(chan net.Conn)
	stop := start(t, s.Doors(map[string]func(net.Conn){"mqtt": func(nc net.Conn) { got <- nc }}))
	defer stop()
	nc, err := net.Dial("tcp", s.Addrs()["mqtt"]) // the runtime has opened what it needs
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	(<-got).Close()

	client, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(client)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(client), Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old)
	var hole []int // numbers below the limit that are free
	for {
		fd, err := syscall.Dup(0)
		if err != nil {
			break
		}
		hole = append(hole, fd)
	}
	to := s.Port("mqtt").Addr().(*net.TCPAddr)
	err = syscall.Connect(client, &syscall.SockaddrInet4{Port: to.Port, Addr: [4]byte{127, 0, 0, 1}})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); len(hp.Warnings()) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("no warning")
		}
		time.Sleep(time.Millisecond) // polls what has no channel
	}
	if w := hp.Warnings()[0]; w.Code != "accept/mqtt" || !strings.Contains(w.Text, "too many open files") {
		t.Errorf("warning %v", w)
	}
	for _, fd := range hole {
		syscall.Close(fd)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	(<-got).Close()
	if w := hp.Warnings(); len(w) != 0 {
		t.Errorf("warnings stay: %v", w)
	}
}

func TestAClosedPortIsTheOnlyError(t *testing.T) {
	s, _ := open(t, listen.Addr{Name: "x", Addr: "127.0.0.1:0"})
	p := s.Port("x")
	time.AfterFunc(time.Millisecond, func() { p.Close() })
	if _, err := p.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestAnAddressForAllIsToldAsItWasAsked(t *testing.T) {
	s, err := listen.Open(logs.Discard(), health.New(clock.System()), []listen.Addr{{Name: "a", Addr: "0.0.0.0:0"}, {Name: "b", Addr: "127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, host := range map[string]string{"a": "0.0.0.0:", "b": "127.0.0.1:"} {
		if got := s.Addrs()[name]; !strings.HasPrefix(got, host) || strings.HasSuffix(got, ":0") {
			t.Errorf("%s is told as %s", name, got)
		}
	}
}
