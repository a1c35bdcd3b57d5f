// Package serial opens serial ports: reads that end with their context, writes that
// cannot hang, and a pulled cable that is noticed.
//
// It wraps github.com/tarm/serial, which sets up the line and moves the bytes, and no
// other package imports that. What the library leaves open was tried on ptys and is
// closed here:
//
//   - Close blocks while a Read waits, for ever when nothing comes. Ports are opened
//     with the shortest read timeout there is (100 ms), and Close waits for the reader.
//   - A timeout and a hang-up look the same, io.EOF, and after a hang-up Read returns at
//     once: 963,733 times in 300 ms. Here a port that hung up is told from a silent one
//     by poll(2), by answers that come too soon, and by its node being gone.
//   - Two programs can open one port and set it up under each other. Here it is taken
//     exclusively (TIOCEXCL, and flock, which root respects as well).
//   - Baud rates outside POSIX' list are refused by it; they are set here by termios2.
//
// Example:
//
//	p, err := serial.Open(serial.Config{Name: "/dev/ttyUSB0", Baud: 9600})
//	n, at, err := p.Read(ctx, buf) // ctx's error when nothing comes
//
// Package ptypair has the stand-in for tests: a real tty without hardware. A pty takes
// any speed and parity: it proves nothing about timing on the wire.
package serial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	tarm "github.com/tarm/serial"
	"golang.org/x/sys/unix"
)

// ErrGone says that the port hung up: unplugged, or the other end of a pty closed.
var ErrGone = errors.New("serial port hung up")

// ErrBusy says that another program has the port open.
var ErrBusy = errors.New("serial port in use by another program")

const (
	poll   = 100 * time.Millisecond // the library's read timeout, and how often a writer looks up
	look   = time.Second            // how often a reader makes sure that the node is still its port's
	soon   = poll / 2               // an empty read that is back sooner is no timeout
	chunk  = 256                    // bytes written at once: what fits after the output was flushed
	atOnce = 3                      // that many empty reads back too soon are a hang-up
)

// Port is an open serial port. One goroutine may read while another writes; further
// ones wait for their turn.
type Port struct {
	name string
	tty  *tarm.Port
	fd   int             // a second descriptor of the same tty, for ioctl and poll
	wake *os.File        // fd, with the runtime's poller: a thread that sleeps in poll(2) keeps the scheduler busy looking after it
	raw  syscall.RawConn // of wake
	dev  uint64          // what name pointed to when it was opened

	closed  atomic.Bool
	reading chan struct{} // holds one token: who has it may read
	writing chan struct{} // likewise
	once    sync.Once
	err     error // of closing
}

// Open opens and sets up the port. The error says what to do about it, and is
// fs.ErrNotExist when there is no such port, fs.ErrPermission when we may not,
// ErrBusy when another program has it, or a plain one for settings that the
// hardware or this package cannot do.
func Open(c Config) (*Port, error) {
	c = c.withDefaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	fd, err := unix.Open(c.Name, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, explain(c.Name, err)
	}
	tty, err := setUp(fd, c)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	wake := os.NewFile(uintptr(fd), c.Name)
	raw, err := wake.SyscallConn()
	if err == nil {
		err = wake.SetReadDeadline(time.Time{}) // fails where the poller cannot be used
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serial port %s cannot be waited for: %w", c.Name, err), tty.Close(), wake.Close())
	}
	p := &Port{name: c.Name, tty: tty, fd: fd, wake: wake, raw: raw, reading: make(chan struct{}, 1), writing: make(chan struct{}, 1)}
	p.dev, _ = device(c.Name)
	return p, nil
}

func setUp(fd int, c Config) (*tarm.Port, error) {
	if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
		return nil, fmt.Errorf("%s is no serial port", c.Name)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("%w: %s: end that program, or give it another port", ErrBusy, c.Name)
	}
	baud, odd := c.Baud, !standard[c.Baud]
	if odd {
		baud = 38400 // set up the rest, the true rate follows
	}
	tty, err := tarm.OpenPort(&tarm.Config{Name: c.Name, Baud: baud, ReadTimeout: poll, Size: byte(c.DataBits),
		Parity: parities[c.Parity], StopBits: tarm.StopBits(c.StopBits)})
	if err != nil {
		return nil, explain(c.Name, err)
	}
	if odd {
		err = setRate(fd, c.Baud)
	}
	if err == nil && c.RS485 != nil {
		err = setRS485(fd, c.RS485)
	}
	if err == nil && unix.IoctlSetInt(fd, unix.TIOCEXCL, 0) != nil {
		err = errors.New("cannot be taken exclusively")
	}
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) // what came at another speed is noise
	}
	if err != nil {
		tty.Close()
		return nil, fmt.Errorf("serial port %s: %w", c.Name, err)
	}
	return tty, nil
}

// explain turns the system's refusal into one that says what to do.
func explain(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV), errors.Is(err, unix.EIO):
		return fmt.Errorf("serial port %s is missing: plug it in, or choose one that is there: %w", name, fs.ErrNotExist)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("serial port %s may not be opened by this user: add it to the group dialout: %w", name, fs.ErrPermission)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: %s: end that program, or give it another port", ErrBusy, name)
	}
	return fmt.Errorf("serial port %s: %w", name, err)
}

// Name gives the name the port was opened by.
func (p *Port) Name() string { return p.name }

// Read waits until at least one byte has come, and returns how many are in b and when
// they arrived. It returns ctx's error when ctx ends first; no byte is lost by that. ErrGone says that the
// port hung up, fs.ErrClosed that it was closed.
func (p *Port) Read(ctx context.Context, b []byte) (n int, at time.Time, err error) {
	if err := take(ctx, p.reading); err != nil {
		return 0, at, err
	}
	defer func() { <-p.reading }()
	for fast := 0; ; {
		if err := p.usable(ctx); err != nil {
			return 0, at, err
		}
		began := time.Now()
		ready, hup := p.await(ctx)
		if ready || hup {
			n, err := p.tty.Read(b)
			if n > 0 {
				return n, time.Now(), nil
			}
			if err != nil && err != io.EOF {
				return 0, at, fmt.Errorf("%w: %s: %w", ErrGone, p.name, err)
			}
			if hup {
				return 0, at, fmt.Errorf("%w: %s was unplugged or its other end is gone", ErrGone, p.name)
			}
		}
		if ready && time.Since(began) < soon {
			if fast++; fast >= atOnce {
				return 0, at, fmt.Errorf("%w: %s reads as empty at once", ErrGone, p.name)
			}
			continue
		}
		fast = 0
		if dev, err := device(p.name); err != nil || dev != p.dev {
			return 0, at, fmt.Errorf("%w: %s was unplugged", ErrGone, p.name)
		}
	}
}

// Write sends all of b. When ctx ends first, what the port would not take is thrown
// away with what still waits in the system's buffer, and ctx's error is returned.
func (p *Port) Write(ctx context.Context, b []byte) error {
	if err := take(ctx, p.writing); err != nil {
		return err
	}
	defer func() { <-p.writing }()
	for len(b) > 0 {
		if err := p.usable(ctx); err != nil {
			p.flush(unix.TCOFLUSH)
			return err
		}
		ready, hup := p.wait(unix.POLLOUT, remaining(ctx))
		if hup {
			return fmt.Errorf("%w: %s was unplugged or its other end is gone", ErrGone, p.name)
		}
		if !ready {
			continue
		}
		// The descriptor blocks when less than this fits: flushing the output lets it go.
		flushed := make(chan struct{})
		stop := context.AfterFunc(ctx, func() { p.flush(unix.TCOFLUSH); close(flushed) })
		n, err := p.tty.Write(b[:min(len(b), chunk)])
		if !stop() {
			<-flushed // or it might meet a descriptor that was closed and is another file's by then
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrGone, p.name, err)
		}
		b = b[n:]
	}
	return nil
}

// Discard throws away what has come and was not read.
func (p *Port) Discard() error {
	if err := p.usable(context.Background()); err != nil {
		return err
	}
	if err := unix.IoctlSetInt(p.fd, unix.TCFLSH, unix.TCIFLUSH); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrGone, p.name, err)
	}
	return nil
}

// Close gives the port back, after a Read or Write under way has returned: a Read at
// once, a Write within 100 ms. It may be called twice.
func (p *Port) Close() error {
	p.once.Do(func() {
		p.closed.Store(true)
		p.flush(unix.TCOFLUSH)
		_ = p.wake.SetReadDeadline(past)
		p.reading <- struct{}{}
		p.writing <- struct{}{}
		_ = unix.IoctlSetInt(p.fd, unix.TIOCNXCL, 0) // fails on a port that is gone
		p.err = errors.Join(p.tty.Close(), p.wake.Close())
		<-p.reading
		<-p.writing
	})
	return p.err
}

// usable says why the port cannot be used now.
func (p *Port) usable(ctx context.Context) error {
	if p.closed.Load() {
		return fmt.Errorf("serial port %s: %w", p.name, fs.ErrClosed)
	}
	return ctx.Err()
}

var past = time.Unix(1, 0)

// await sleeps until there is something to read, the port hung up, ctx ends, or it is time
// to look at the node.
func (p *Port) await(ctx context.Context) (ready, hup bool) {
	end := time.Now().Add(look)
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	_ = p.wake.SetReadDeadline(end) // cannot fail: Open has tried
	defer context.AfterFunc(ctx, func() { _ = p.wake.SetReadDeadline(past) })()
	if p.closed.Load() {
		return false, false
	}
	_ = p.raw.Read(func(uintptr) bool { // its error is that of the deadline
		ready, hup = p.wait(unix.POLLIN, 0)
		return ready || hup
	})
	return ready, hup
}

// wait sleeps until the port is ready for the event, hung up, or d is over.
func (p *Port) wait(event int16, d time.Duration) (ready, hup bool) {
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: event}}
	n, err := unix.Poll(fds, int((d+time.Millisecond-1)/time.Millisecond))
	if err != nil || n == 0 { // a signal is no event: the caller looks at its context and comes back
		return false, false
	}
	return fds[0].Revents&event != 0, fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
}

func (p *Port) flush(queue int) { _ = unix.IoctlSetInt(p.fd, unix.TCFLSH, queue) } // a port that is gone has no queue

// take waits for the token of q or the end of ctx.
func take(ctx context.Context, q chan struct{}) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case q <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// remaining gives how long a wait may take: to ctx's deadline, at most poll.
func remaining(ctx context.Context) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return max(0, min(poll, time.Until(end)))
	}
	return poll
}

// device gives what the node behind name is, so that another one in its place is noticed.
func device(name string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	return uint64(st.Rdev), nil
}
