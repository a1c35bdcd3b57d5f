package commitlog

import (
	"errors"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// syncer runs fdatasync without keeping a thread in it. The kernel's asynchronous I/O has done that since Linux 4.18: the sync is
// submitted, its end is told on an eventfd, and the goroutine waits for that as for any socket. A thread that sits in fdatasync
// costs more than the sync itself: the runtime has to notice, give its processor to another thread and take the first one in
// again (30 of 65 µs of processor time a sync were measured). One sync runs at a time. Where the kernel has no such thing,
// or a sandbox forbids it, fdatasync it is.
type syncer struct {
	ctx  uintptr         // aio_context_t, 0: there is none
	done *os.File        // the eventfd
	wait syscall.RawConn // of done
	fd   uint32          // of done
	cb   iocb
}

// iocb is struct iocb of linux/aio_abi.h on little-endian machines.
type iocb struct {
	_      [2]uint64 // data, key, flags
	op     uint16
	_      int16 // priority
	fd     uint32
	_      [4]uint64 // buffer, length, offset, reserved
	notify uint32    // iocbResfd: tell resfd
	resfd  uint32
}

// ioEvent is struct io_event.
type ioEvent struct {
	_   [2]uint64 // data, object
	res int64
	_   int64
}

const (
	iocbFdsync = 3 // IOCB_CMD_FDSYNC
	iocbResfd  = 1 // IOCB_FLAG_RESFD
)

func newSyncer() *syncer {
	s := &syncer{}
	r, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		return s
	}
	s.fd, s.done = uint32(r), os.NewFile(r, "sync")
	var err error
	if s.wait, err = s.done.SyscallConn(); err != nil {
		return s
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&s.ctx)), 0); errno != 0 {
		s.ctx = 0
	}
	return s
}

// sync returns when what was written to f is on the disk.
func (s *syncer) sync(f *os.File) error {
	fd := f.Fd()
	if s.ctx != 0 {
		if res, ok := s.async(fd); ok {
			runtime.KeepAlive(f)
			if res < 0 {
				return os.NewSyscallError("fdatasync", syscall.Errno(-res))
			}
			return nil
		}
		s.end() // this kernel cannot
	}
	for {
		if err := syscall.Fdatasync(int(fd)); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// async gives the result of the sync; ok is false when it was not even begun.
func (s *syncer) async(fd uintptr) (res int64, ok bool) {
	began := false
	var errno syscall.Errno
	err := s.wait.Read(func(uintptr) bool {
		if !began {
			s.cb = iocb{op: iocbFdsync, fd: uint32(fd), notify: iocbResfd, resfd: s.fd}
			cb := &s.cb
			_, _, errno = syscall.Syscall(syscall.SYS_IO_SUBMIT, s.ctx, 1, uintptr(unsafe.Pointer(&cb)))
			began = errno == 0
			return !began
		}
		res, ok = s.reap(0)
		return ok
	})
	if began && err != nil { // nobody tells any more, and it must not be left in doubt
		for !ok {
			res, ok = s.reap(1)
		}
	}
	return res, ok
}

// reap takes the result of the sync, if there is one; least 1: it waits for it.
func (s *syncer) reap(least uintptr) (res int64, ok bool) {
	var e ioEvent
	call := syscall.RawSyscall6
	if least > 0 {
		call = syscall.Syscall6
	}
	n, _, errno := call(syscall.SYS_IO_GETEVENTS, s.ctx, least, 1, uintptr(unsafe.Pointer(&e)), 0, 0)
	return e.res, errno == 0 && n == 1
}

func (s *syncer) end() {
	if s.ctx != 0 {
		syscall.Syscall(syscall.SYS_IO_DESTROY, s.ctx, 0, 0)
		s.ctx = 0
	}
}

// close may be called twice.
func (s *syncer) close() {
	s.end()
	if s.done != nil {
		s.done.Close()
		s.done = nil
	}
}
