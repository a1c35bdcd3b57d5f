package node_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/logs"
	"tidegate/gateway/node"
)

// config is that of --dev on free ports, with what text says on top.
func config(t *testing.T, text string) node.Config {
	t.Helper()
	free := "127.0.0.1:0"
	cfg, err := load(t, text, node.Flags{Dev: true, Data: filepath.Join(t.TempDir(), "data"), MQTT: free, WS: free, MQTTS: free, HTTPS: free, Metrics: free}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// log is a log that can be read while it is written.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }
func (l *log) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func build(t *testing.T, cfg node.Config) (*node.Node, *log, error) {
	t.Helper()
	l := new(log)
	n, err := node.Build(cfg, node.Deps{Clock: clock.System(), Log: logs.New(l, cfg.Log), Env: os.Getenv})
	return n, l, err
}

func TestAFailedBuildLeavesNothingOpen(t *testing.T) {
	cfg := config(t, "")
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(cfg.Data, "store")
	if err := os.WriteFile(store, []byte("a file where a folder should be"), 0o600); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen.MQTT = ln.Addr().String()
	ln.Close()
	if _, _, err := build(t, cfg); err == nil || !strings.Contains(err.Error(), "store") {
		t.Fatalf("got %v", err)
	}
	if ln, err = net.Listen("tcp", cfg.Listen.MQTT); err != nil {
		t.Errorf("the port is still open: %v", err)
	} else {
		ln.Close()
	}
	if err := os.Remove(store); err != nil {
		t.Fatal(err)
	}
	n, _, err := build(t, cfg) // the same again, without the obstacle
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Run(ctx); err != nil {
		t.Errorf("a gateway that is told to stop at once ends with %v", err)
	}
}

func TestReloadSaysWhatNeedsARestart(t *testing.T) {
	cfg := config(t, "")
	n, l, err := build(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg.Log.Level = "warn"
	n.Reload(cfg)
	cfg.Log.Level = "debug"
	n.Reload(cfg)
	if !strings.Contains(l.String(), `msg="configuration was read again" level=debug`) || strings.Contains(l.String(), "level=warn") {
		t.Errorf("log: %s", l)
	}
	cfg.Listen.MQTT, cfg.Memory.HeapFloor, cfg.Log.Format = "127.0.0.1:1", 8<<20, "json"
	n.Reload(cfg)
	if !strings.Contains(l.String(), `needs a restart" level=debug restart="[listen log.format memory]"`) {
		t.Errorf("log: %s", l)
	}
	cancel()
	if err := n.Run(ctx); err != nil {
		t.Error(err)
	}
}

// Below the floor nothing forces a collection: without one of our own a burst's garbage would stay for two minutes.
func TestTheGarbageOfABurstIsGivenBack(t *testing.T) {
	n, _, err := build(t, config(t, "memory: {heap_floor: 256MiB}\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := n.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	runtime.GC()
	var at, now runtime.MemStats
	runtime.ReadMemStats(&at)
	var keep []byte
	for range 2000 { // 62 MiB
		keep = make([]byte, 32<<10)
	}
	runtime.KeepAlive(keep)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		runtime.ReadMemStats(&now)
		held := int64(now.HeapInuse+now.HeapIdle-now.HeapReleased) - int64(at.HeapInuse+at.HeapIdle-at.HeapReleased)
		if held < 16<<20 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d MiB more than before are still held", held>>20)
		}
	}
}

// With a small live heap the collector must let garbage grow up to the floor and not
// collect every four megabytes.
func TestASmallHeapIsNotCollectedAllTheTime(t *testing.T) {
	cfg := config(t, "memory: {heap_floor: 64MiB}\n")
	before := debug.SetGCPercent(100)
	debug.SetGCPercent(before)
	n, _, err := build(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	var at, then runtime.MemStats
	runtime.ReadMemStats(&at)
	var keep []byte
	for range 10_000 { // 312 MiB of garbage
		keep = make([]byte, 32<<10)
	}
	runtime.KeepAlive(keep)
	runtime.ReadMemStats(&then)
	if n := then.NumGC - at.NumGC; n > 20 {
		t.Errorf("%d collections for 312 MiB of garbage below a floor of 64 MiB", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Run(ctx); err != nil {
		t.Error(err)
	}
	if now := debug.SetGCPercent(before); now != before {
		t.Errorf("GC percent %d is left behind, want %d", now, before)
	}
}
