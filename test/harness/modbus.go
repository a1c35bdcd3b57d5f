package harness

import (
	_ "embed"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

//go:embed modbusslave.py
var modbusSlave []byte

// ModbusSlave is an RTU slave served by pymodbus, an implementation that shares nothing with the gateway's.
type ModbusSlave struct {
	tb   TB
	proc *process
	out  *output
}

// StartModbusSlave serves unit on the device node at 9600 baud, 8N1: 100 coils and 100 holding and input registers, all 0 but
// for regs, which sets registers (holding and input alike) from an address on.
func StartModbusSlave(tb TB, node string, unit int, regs map[int][]uint16) *ModbusSlave {
	tb.Helper()
	script := filepath.Join(tb.TempDir(), "modbusslave.py")
	if err := os.WriteFile(script, modbusSlave, 0o600); err != nil {
		tb.Fatalf("harness: %v", err)
	}
	argv := []string{"/usr/bin/python3", "-u", script, node, strconv.Itoa(unit)}
	for at, values := range regs {
		for i, v := range values {
			argv = append(argv, strconv.Itoa(at+i)+"="+strconv.Itoa(int(v)))
		}
	}
	s := &ModbusSlave{tb: tb, out: new(output)}
	var err error
	if s.proc, err = startProcess(s.out, nil, argv...); err != nil {
		tb.Fatalf("harness: the Modbus slave needs Debian's python3 and python3-pymodbus (make deps installs them): %v", err)
	}
	tb.Cleanup(s.proc.kill)
	Until(tb, "the Modbus slave has its port open", func() bool { return s.proc.ended() || holdsOpen(s.proc.cmd.Process.Pid, node) })
	if s.proc.ended() {
		tb.Fatalf("harness: the Modbus slave ended:\n%s", s.out.tail(20))
	}
	return s
}

// holdsOpen tells whether a process has a file open.
func holdsOpen(pid int, file string) bool {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd/"
	fds, _ := os.ReadDir(dir)
	for _, fd := range fds {
		if target, err := os.Readlink(dir + fd.Name()); err == nil && target == file {
			return true
		}
	}
	return false
}

// Says waits until the slave has told of something, such as "coil 3 = 1" or "register 7 = 42" after a write.
func (s *ModbusSlave) Says(what string) {
	s.tb.Helper()
	if !poll(Patience, func() bool { return s.proc.ended() || strings.Contains(s.out.String(), what) }) || !strings.Contains(s.out.String(), what) {
		s.tb.Fatalf("harness: the Modbus slave has not said %q:\n%s", what, s.out.tail(20))
	}
}
