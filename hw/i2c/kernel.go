package i2c

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of linux/i2c-dev.h and linux/i2c.h.
const (
	ioctlFuncs   = 0x0705 // I2C_FUNCS
	ioctlRdWr    = 0x0707 // I2C_RDWR
	flagRead     = 0x0001 // I2C_M_RD
	funcI2C      = 0x00000001
	maxTransfer  = 8192 // bytes of one message, i2c-dev.c
	maxOfOneRead = 2    // messages of a transfer of ours
)

// message is struct i2c_msg.
type message struct {
	addr  uint16
	flags uint16
	len   uint16
	buf   *byte
}

// transfer is struct i2c_rdwr_ioctl_data.
type transfer struct {
	msgs *message
	n    uint32
}

// kernelWire is a bus behind /dev/i2c-N.
type kernelWire struct{ f *os.File }

func openKernel(node string) (Wire, error) {
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	w := &kernelWire{f}
	var can uint // unsigned long
	if err := w.ioctl(ioctlFuncs, unsafe.Pointer(&can)); err != nil {
		f.Close()
		return nil, fmt.Errorf("is no I²C bus: %w", err)
	}
	if can&funcI2C == 0 {
		f.Close()
		return nil, fmt.Errorf("can do SMBus alone, not the transfers that sensors need: %w", unix.EOPNOTSUPP)
	}
	return w, nil
}

// Transfer is Wire's.
func (k *kernelWire) Transfer(addr uint16, w, r []byte) error {
	if len(w) > maxTransfer || len(r) > maxTransfer {
		return unix.EINVAL
	}
	msgs := make([]message, 0, maxOfOneRead)
	if len(w) > 0 || len(r) == 0 {
		msgs = append(msgs, message{addr: addr, len: uint16(len(w)), buf: unsafe.SliceData(w)})
	}
	if len(r) > 0 {
		msgs = append(msgs, message{addr: addr, flags: flagRead, len: uint16(len(r)), buf: unsafe.SliceData(r)})
	}
	t := transfer{msgs: unsafe.SliceData(msgs), n: uint32(len(msgs))}
	err := k.ioctl(ioctlRdWr, unsafe.Pointer(&t))
	runtime.KeepAlive(msgs)
	return err
}

// Close is Wire's.
func (k *kernelWire) Close() error { return k.f.Close() }

// ioctl calls the driver; the file stays open meanwhile, whoever closes it.
func (k *kernelWire) ioctl(request uintptr, arg unsafe.Pointer) error {
	raw, err := k.f.SyscallConn()
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
