package store

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

// pause sleeps for fractions of a millisecond, which the runtime's own timers round up to a whole one when the process is
// otherwise idle. It is a timerfd that the network poller waits for, so that meanwhile others run. One goroutine
// sleeps; any may wake it.
type pause struct {
	f   *os.File // nil: there is no such thing here, and the runtime's timers must do
	raw syscall.RawConn
	fd  uintptr
}

func newPause() *pause {
	const monotonic = 1
	fd, _, errno := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, monotonic, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		return &pause{}
	}
	p := &pause{f: os.NewFile(fd, "timer"), fd: fd}
	if raw, err := p.f.SyscallConn(); err == nil {
		p.raw = raw
	}
	return p
}

// sleep returns after d, or when wake is called.
func (p *pause) sleep(d time.Duration) {
	armed := false
	var err error
	if p.raw != nil {
		err = p.raw.Read(func(fd uintptr) bool {
			if !armed {
				armed = true
				return !p.set(d)
			}
			var n [8]byte
			_, err := syscall.Read(int(fd), n[:])
			return err != syscall.EAGAIN
		})
	}
	if p.raw == nil || err != nil {
		time.Sleep(d)
	}
}

// wake ends a sleep early.
func (p *pause) wake() {
	if p.raw != nil {
		p.set(1)
	}
}

func (p *pause) set(d time.Duration) bool {
	spec := [2]syscall.Timespec{1: syscall.NsecToTimespec(int64(d))} // interval, value
	_, _, errno := syscall.RawSyscall6(syscall.SYS_TIMERFD_SETTIME, p.fd, 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	return errno == 0
}

func (p *pause) close() {
	if p.f != nil {
		p.f.Close()
	}
}
