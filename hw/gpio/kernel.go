package gpio

import (
	"errors"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of linux/gpio.h, what golang.org/x/sys does not have.
const (
	flagUsed      = 1 << 0
	flagActiveLow = 1 << 1
	flagInput     = 1 << 2
	flagOutput    = 1 << 3
	flagRising    = 1 << 4
	flagFalling   = 1 << 5
	flagPullUp    = 1 << 8
	flagPullDown  = 1 << 9
	flagNoPull    = 1 << 10

	lineSetConfig = 0xc110b40d // GPIO_V2_LINE_SET_CONFIG_IOCTL
)

// OpenChip is Kernel's.
func (machine) OpenChip(node string) (ChipDevice, error) {
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return chipFile{f}, nil
}

type chipFile struct{ f *os.File }

// Info is ChipDevice's.
func (c chipFile) Info(i *unix.GPIOChipInfo) error {
	return ioctl(c.f, unix.GPIO_GET_CHIPINFO_IOCTL, unsafe.Pointer(i))
}

// LineInfo is ChipDevice's.
func (c chipFile) LineInfo(i *unix.GPIOV2LineInfo) error {
	return ioctl(c.f, unix.GPIO_V2_GET_LINEINFO_IOCTL, unsafe.Pointer(i))
}

// Request is ChipDevice's. The line's descriptor goes to the runtime's poller, so that Close
// wakes who waits for an edge.
func (c chipFile) Request(q *unix.GPIOV2LineRequest) (LineDevice, error) {
	if err := ioctl(c.f, unix.GPIO_V2_GET_LINE_IOCTL, unsafe.Pointer(q)); err != nil {
		return nil, err
	}
	fd := int(q.Fd)
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return lineFile{os.NewFile(uintptr(fd), c.f.Name()+" line")}, nil
}

// Close is ChipDevice's.
func (c chipFile) Close() error { return c.f.Close() }

type lineFile struct{ f *os.File }

// Get is LineDevice's.
func (l lineFile) Get(v *unix.GPIOV2LineValues) error {
	return ioctl(l.f, unix.GPIO_V2_LINE_GET_VALUES_IOCTL, unsafe.Pointer(v))
}

// Set is LineDevice's.
func (l lineFile) Set(v *unix.GPIOV2LineValues) error {
	return ioctl(l.f, unix.GPIO_V2_LINE_SET_VALUES_IOCTL, unsafe.Pointer(v))
}

// Config is LineDevice's.
func (l lineFile) Config(c *unix.GPIOV2LineConfig) error {
	return ioctl(l.f, lineSetConfig, unsafe.Pointer(c))
}

// Event is LineDevice's. The kernel gives whole events.
func (l lineFile) Event(e *unix.GPIOV2LineEvent) error {
	_, err := io.ReadFull(l.f, unsafe.Slice((*byte)(unsafe.Pointer(e)), unsafe.Sizeof(*e)))
	return err
}

// Close is LineDevice's.
func (l lineFile) Close() error { return l.f.Close() }

// ioctl calls the driver; the file stays open meanwhile, whoever closes it.
func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno unix.Errno
	if err := raw.Control(func(fd uintptr) {
		for {
			_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(arg))
			if errno != unix.EINTR {
				return
			}
		}
	}); err != nil {
		return err
	}
	if errno != 0 {
		return errno
	}
	return nil
}
