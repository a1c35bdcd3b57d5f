package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidegate/test/harness"
	"tidegate/test/rawmqtt"
)

// A configuration that is wrong stops the start with one clear line for each fault: file, line, what was expected.
func TestAWrongConfigurationIsRefused(t *testing.T) {
	tests := []struct{ name, config, want string }{
		{"an unknown key", "listen:\n  mqttt: 127.0.0.1:1883\n", ":2: listen.mqttt: "},
		{"a wrong type", "\nlog:\n  level: [loud]\n", ":3: log.level: "},
		{"an impossible value", "log: {level: loud}\n", ":1: log.level: "},
		{"not YAML", "listen: [\n", "YAML"},
		{"an upstream without an address", "upstreams:\n  - name: x\n    up: [{filter: a}]\n", "upstreams[0].url"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "tidegate.yaml")
			if err := os.WriteFile(file, []byte(test.config), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"run", "--check"}, {"run", "--dev"}} {
				_, errw, code := harness.Tidegate(t, append(args, "--config", file, "--data", t.TempDir())...)
				if code != 2 && code != 1 || !strings.Contains(errw, test.want) || !strings.Contains(errw, file) {
					t.Errorf("%v: exit %d, %q; want a line with the file and %q", args, code, errw, test.want)
				}
				if n := strings.Count(strings.TrimSpace(errw), "\n"); n > 2 {
					t.Errorf("%v: %d lines for one fault:\n%s", args, n+1, errw)
				}
			}
		})
	}
	if _, errw, code := harness.Tidegate(t, "run", "--check", "--data", t.TempDir(), "--dev"); code != 0 {
		t.Errorf("no configuration at all: exit %d, %q", code, errw)
	}
}

func TestAPortInUseIsNamed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	g := harness.New(t, harness.Options{Args: []string{"--mqtt", ln.Addr().String()}})
	g.Launch()
	if code := g.Wait(); code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	if !strings.Contains(g.Stderr(), ln.Addr().String()) || !strings.Contains(g.Stderr(), "in use") {
		t.Errorf("standard error names neither the address nor the reason:\n%s", g.Stderr())
	}
}

// Whatever strangers send to the port, the client that behaves notices nothing.
func TestStrangersHarmNobody(t *testing.T) {
	g := harness.Start(t, harness.Options{})
	before := g.RSS()
	ear := harness.Listen(t, g.MQTT, "good/#")
	good, _, err := rawmqtt.Dial(g.MQTT, rawmqtt.Options{ClientID: "good", Clean: true})
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close()
	sent := 0
	unharmed := func(what string) {
		t.Helper()
		sent++
		text := fmt.Sprint("still here ", sent)
		start := time.Now()
		if _, err := good.Write(rawmqtt.AppendPublish(nil, false, "good/1", []byte(text), 1, uint16(sent), 0)); err != nil {
			t.Fatalf("after %s: %v", what, err)
		}
		good.SetReadDeadline(time.Now().Add(harness.Patience))
		if p, err := good.Next(); err != nil || p.Type != rawmqtt.Puback || p.ID != uint16(sent) {
			t.Fatalf("after %s: got %+v, %v, want a PUBACK", what, p, err)
		}
		ear.Expect("good/1", func(s string) bool { return s == text })
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("after %s a publish took %v", what, d)
		}
	}
	unharmed("nothing at all")

	// closes tells that the gateway ended the connection after being sent b.
	closes := func(what string, b []byte) {
		t.Helper()
		c, err := net.Dial("tcp", g.MQTT)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer c.Close()
		c.Write(b)
		c.SetReadDeadline(time.Now().Add(harness.Patience))
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: the connection is still open after %v", what, harness.Patience)
		}
	}
	rnd := rand.New(rand.NewPCG(7, 7))
	noise := make([]byte, 4096)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	noise[0] = 0x17 // no CONNECT
	closes("noise", noise)
	unharmed("noise")
	closes("an HTTP request", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	closes("a CONNECT that claims 256 MiB", []byte{0x10, 0xff, 0xff, 0xff, 0x7f})
	closes("a length of five bytes", []byte{0x10, 0xff, 0xff, 0xff, 0xff, 0x01})
	connect := rawmqtt.AppendConnect(nil, rawmqtt.Options{ClientID: "bad", Clean: true})
	closes("a PUBLISH that claims 256 MiB", append(bytes.Clone(connect), 0x30, 0xff, 0xff, 0xff, 0x7f))
	closes("a second CONNECT", append(bytes.Clone(connect), connect...))
	closes("a PUBLISH with QoS 3", append(bytes.Clone(connect), 0x36, 5, 0, 1, 'a', 0, 1))
	closes("a PUBLISH to a wildcard", append(bytes.Clone(connect), 0x30, 5, 0, 3, 'a', '/', '#'))
	closes("a SUBSCRIBE without filters", append(bytes.Clone(connect), 0x82, 2, 0, 1))
	unharmed("malformed packets")
	if after := g.RSS(); after > before+64<<20 {
		t.Errorf("memory went from %d to %d MB over claims of 256 MiB", before>>20, after>>20)
	}

	var silent []net.Conn
	for i := range 500 {
		c, err := net.Dial("tcp", g.MQTT)
		if err != nil {
			t.Fatalf("silent connection %d: %v", i, err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	unharmed("500 connections that say nothing")
	if after := g.RSS(); after > before+64<<20 {
		t.Errorf("memory went from %d to %d MB over 500 silent connections", before>>20, after>>20)
	}
	// They are let go of in time.
	silent[0].SetReadDeadline(time.Now().Add(harness.Patience))
	if _, err := silent[0].Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("a silent connection is still there after %v: %v", harness.Patience, err)
	}
	if g.Ended() {
		t.Fatal("the gateway has ended")
	}
	g.Stop()
}
