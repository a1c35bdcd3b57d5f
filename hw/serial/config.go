package serial

import (
	"errors"
	"fmt"
	"time"

	tarm "github.com/tarm/serial"
	"golang.org/x/sys/unix"
)

// Config is how a line is set up. The zero value of every field but Name is its default.
type Config struct {
	Name     string // the device node: /dev/ttyUSB0, /dev/serial/by-id/…
	Baud     int    // bits per second; 9600
	DataBits int    // 5 to 8; 8
	Parity   string // none, even or odd; none
	StopBits int    // 1 or 2; 1
	RS485    *RS485 // let the driver switch the direction of a half-duplex line; nil leaves it as it is
}

// RS485 is how the kernel's driver switches a transceiver by the RTS line. USB adapters and
// most HATs switch by themselves and need none of it.
type RS485 struct {
	InvertRTS   bool          // RTS is low while sending
	BeforeSend  time.Duration // how long RTS leads, in whole milliseconds
	AfterSend   time.Duration // how long it lags, in whole milliseconds
	ReceiveEcho bool          // hear what we send
}

var parities = map[string]tarm.Parity{"none": tarm.ParityNone, "even": tarm.ParityEven, "odd": tarm.ParityOdd}

// standard are the rates the library knows; others are set by termios2.
var standard = map[int]bool{50: true, 75: true, 110: true, 134: true, 150: true, 200: true, 300: true, 600: true, 1200: true,
	1800: true, 2400: true, 4800: true, 9600: true, 19200: true, 38400: true, 57600: true, 115200: true, 230400: true,
	460800: true, 500000: true, 576000: true, 921600: true, 1000000: true, 1152000: true, 1500000: true, 2000000: true,
	2500000: true, 3000000: true, 3500000: true, 4000000: true}

func (c Config) withDefaults() Config {
	if c.Baud == 0 {
		c.Baud = 9600
	}
	if c.DataBits == 0 {
		c.DataBits = 8
	}
	if c.Parity == "" {
		c.Parity = "none"
	}
	if c.StopBits == 0 {
		c.StopBits = 1
	}
	return c
}

// Validate says everything that is wrong with c, each error starting with its key.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if c.Name == "" {
		errs = append(errs, errors.New("port: missing, expected a serial port like /dev/ttyUSB0"))
	}
	if c.Baud < 50 || c.Baud > 4000000 {
		errs = append(errs, fmt.Errorf("baud: is %d, expected 50 to 4000000", c.Baud))
	}
	if c.DataBits < 5 || c.DataBits > 8 {
		errs = append(errs, fmt.Errorf("data_bits: is %d, expected 5, 6, 7 or 8", c.DataBits))
	}
	if _, ok := parities[c.Parity]; !ok {
		errs = append(errs, fmt.Errorf("parity: is %q, expected none, even or odd (mark and space are not supported)", c.Parity))
	}
	if c.StopBits != 1 && c.StopBits != 2 {
		errs = append(errs, fmt.Errorf("stop_bits: is %d, expected 1 or 2 (1.5 is not supported)", c.StopBits))
	}
	if r := c.RS485; r != nil {
		for _, d := range []time.Duration{r.BeforeSend, r.AfterSend} {
			if d < 0 || d > 100*time.Millisecond || d%time.Millisecond != 0 {
				errs = append(errs, fmt.Errorf("rs485: is %v, expected whole milliseconds up to 100ms", d))
			}
		}
	}
	return errors.Join(errs...)
}

// setRate sets a rate outside POSIX' list (termios2 with BOTHER, ioctl_tty(2)).
func setRate(fd, baud int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS2)
	if err == nil {
		t.Cflag = t.Cflag&^unix.CBAUD | unix.BOTHER
		t.Ispeed, t.Ospeed = uint32(baud), uint32(baud)
		err = unix.IoctlSetTermios(fd, unix.TCSETS2, t)
	}
	if err == nil {
		t, err = unix.IoctlGetTermios(fd, unix.TCGETS2)
	}
	if err != nil {
		return fmt.Errorf("baud %d: %w", baud, err)
	}
	// The kernel takes what its divisor can do; up to 3 % off still works on the wire.
	if got := int(t.Ospeed); got*100 < baud*97 || got*100 > baud*103 {
		return fmt.Errorf("baud %d: the hardware can do no nearer than %d", baud, got)
	}
	return nil
}
