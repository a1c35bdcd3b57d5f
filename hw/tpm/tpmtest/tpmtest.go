// Package tpmtest starts a software TPM (swtpm) for tests.
//
// It is the nearest thing to a chip: the code under test speaks to it through the
// same commands. Every emulator has its state in a folder, so that it can be
// stopped, started again, and wiped.
package tpmtest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TPM is a running emulator.
type TPM struct {
	t   testing.TB
	dir string
	cmd *exec.Cmd
}

// Start starts an emulator with an empty state; it ends with the test.
func Start(t testing.TB) *TPM {
	t.Helper()
	// Not t.TempDir(): the path of a unix socket has at most 107 bytes.
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	s := &TPM{t: t, dir: dir}
	t.Cleanup(func() {
		s.Stop()
		os.RemoveAll(dir)
	})
	s.Run()
	return s
}

// Path gives the socket to open.
func (s *TPM) Path() string { return filepath.Join(s.dir, "sock") }

// Run starts the emulator on the state it has, as after a power cycle.
func (s *TPM) Run() {
	s.t.Helper()
	os.Remove(s.Path())
	s.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+s.dir, "--server", "type=unixio,path="+s.Path(),
		"--ctrl", "type=unixio,path="+filepath.Join(s.dir, "ctrl"), "--flags", "not-need-init,startup-clear")
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("swtpm (Debian package swtpm): %v", err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("unix", s.Path()); err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatal("swtpm does not answer")
		}
	}
}

// Stop ends the emulator; its state stays.
func (s *TPM) Stop() {
	if s.cmd != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
	}
}

// Pause has the emulator answer nothing until Resume.
func (s *TPM) Pause() { s.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume has it answer again.
func (s *TPM) Resume() { s.cmd.Process.Signal(syscall.SIGCONT) }

// Wipe gives the emulator an empty state, as when the chip was exchanged.
func (s *TPM) Wipe() {
	s.t.Helper()
	s.Stop()
	files, err := filepath.Glob(filepath.Join(s.dir, "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range files {
		os.RemoveAll(f)
	}
	s.Run()
}
