package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tidegate/test/harness"
)

// product is the name of what is ours.
const product = "tidegate"

var peerNames = []string{product, "mosquitto", "nats", "mochi"}

// Broker is one that runs.
type Broker struct {
	Addr string // plain MQTT
	PID  int
	Data string // its folder, if it keeps anything
	g    *harness.Gateway
	m    *harness.Mosquitto
}

// Start says how the broker of a case is to run.
type Start struct {
	SyncDelay time.Duration // added to every sync of the gateway
	SyncEach  bool          // nats: sync before each acknowledgement; mosquitto: write its file after each change
	Config    string        // of the gateway, besides the usual
	Keys      keys          // peers: mutual TLS with these, instead of plain MQTT
}

// quietConfig takes everything away from the gateway that works by itself, so that the broker alone is measured.
const quietConfig = "devices: {buses: []}\n"

// start starts the broker of this bench on its core.
func (b *Bench) start(o Start) *Broker {
	switch b.Name {
	case product:
		var env []string
		if o.SyncDelay > 0 {
			env = append(env, "TIDEGATE_SYNC_DELAY="+o.SyncDelay.String())
		}
		g := harness.Start(b, harness.Options{Wrap: onItsCore(), Env: env, Config: quietConfig + o.Config})
		return &Broker{Addr: g.MQTT, PID: g.PID(), Data: g.Dir, g: g}
	case "mosquitto":
		var conf []string
		dir := b.TempDir()
		if o.SyncEach {
			conf = []string{"persistence true", "persistence_location " + dir + "/", "autosave_on_changes true", "autosave_interval 1"}
		}
		if k := o.Keys; k != "" { // these belong to the listener that the harness begins with
			conf = append(conf, "cafile "+k.file("ca.pem"), "certfile "+k.file("server.pem"), "keyfile "+k.file("server.key"), "require_certificate true")
		}
		m := harness.StartMosquittoWrapped(b, onItsCore(), append(conf, "max_inflight_messages 1000")...)
		return &Broker{Addr: m.Addr, PID: m.PID(), Data: dir, m: m}
	default:
		return b.child(o)
	}
}

// child runs a peer that is a Go package as a process of its own: this program with "serve".
func (b *Bench) child(o Start) *Broker {
	self, err := os.Executable()
	if err != nil {
		b.Fatalf("%v", err)
	}
	data := b.TempDir()
	argv := append(onItsCore(), self, "serve", b.Name, data, strconv.FormatBool(o.SyncEach), string(o.Keys))
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatalf("start %s: %v", b.Name, err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatalf("start %s: %v", b.Name, err)
	}
	return &Broker{Addr: strings.TrimSpace(addr), PID: cmd.Process.Pid, Data: data}
}

// cpu is the processor time the broker has used so far, all threads together.
func (br *Broker) cpu() time.Duration {
	var total time.Duration
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", br.PID))
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		f := strings.Fields(string(b))
		if len(f) > 0 {
			ns, _ := strconv.ParseInt(f[0], 10, 64)
			total += time.Duration(ns)
		}
	}
	return total
}

// written is how many bytes the broker has had written to disk, as the kernel accounts it to the process.
func (br *Broker) written() int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/io", br.PID))
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return n
		}
	}
	return 0
}

// memory is a kB figure of /proc/PID/status in bytes, e.g. VmRSS or VmHWM.
func (br *Broker) memory(key string) int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", br.PID))
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key+":" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb << 10
		}
	}
	return 0
}
