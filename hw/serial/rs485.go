package serial

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rs485 is struct serial_rs485 of linux/serial.h.
type rs485 struct {
	flags  uint32
	before uint32 // delay_rts_before_send, ms
	after  uint32 // delay_rts_after_send, ms
	_      [5]uint32
}

// Flags of struct serial_rs485 (linux/serial.h).
const (
	rs485Enabled   = 1 << 0
	rs485RTSOnSend = 1 << 1
	rs485RTSAfter  = 1 << 2
	rs485RxDuring  = 1 << 4
)

func setRS485(fd int, c *RS485) error {
	r := rs485{flags: rs485Enabled | rs485RTSOnSend, before: uint32(c.BeforeSend / time.Millisecond), after: uint32(c.AfterSend / time.Millisecond)}
	if c.InvertRTS {
		r.flags = rs485Enabled | rs485RTSAfter
	}
	if c.ReceiveEcho {
		r.flags |= rs485RxDuring
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCSRS485, uintptr(unsafe.Pointer(&r))); errno != 0 {
		return fmt.Errorf("rs485: this port's driver cannot switch the direction (%w); "+
			"leave rs485 out when the adapter does it by itself, as USB adapters do", errno)
	}
	return nil
}
