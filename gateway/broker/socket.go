package broker

import (
	"io"
	"syscall"
	"unsafe"
)

// Sockets here never block, so that the runtime need not be told of a read or write as of a call that may: after every rest it would
// wake a thread of its own to look after the caller's, which under a load of small packets is a sixth of all processor
// time. But that thread is also who lets others run when one goroutine does not stop, so whoever reads on and on calls
// the ordinary way (often).

// manyReads is how many reads without a rest make an often.
const manyReads = 4

// sysRead reads once without blocking: EAGAIN when there is nothing, io.EOF at the end.
func sysRead(fd int, p []byte, often bool) (n int, err error) {
	for {
		if often || raceDetector {
			n, err = syscall.Read(fd, p)
		} else {
			n, err = quick(syscall.SYS_READ, fd, p)
		}
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// quickWrite is what the kernel copies in no time.
const quickWrite = 128 << 10

// sysWrite writes once without blocking: EAGAIN when the socket takes nothing.
func sysWrite(fd int, p []byte) (n int, err error) {
	for {
		if len(p) > quickWrite || raceDetector {
			n, err = syscall.Write(fd, p)
		} else {
			n, err = quick(syscall.SYS_WRITE, fd, p)
		}
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// quick is a read or write that the runtime is not told of.
func quick(trap uintptr, fd int, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
