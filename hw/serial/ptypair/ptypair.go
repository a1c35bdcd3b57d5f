// Package ptypair makes serial lines without hardware: a pseudo-terminal whose one end
// is a tty that serial.Open takes, and whose other end is held by the caller, who plays
// the device.
//
//	pair, err := ptypair.Open()
//	port, err := serial.Open(serial.Config{Name: pair.Path})
//	pair.Write([]byte("$GPGGA,…\r\n")) // the device speaks
//	pair.Close()                        // the cable is pulled: port hangs up
//
// Neither speed nor parity mean anything on a pty.
package ptypair

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Pair is one line. Read and Write are the device's side and may be called concurrently.
type Pair struct {
	Path string // the tty to be opened: /dev/pts/7

	master *os.File
	tty    *os.File // keeps the line up while nobody has it open: without, the device's Read fails with EIO
	once   sync.Once
	err    error
}

// Open makes a line, raw (no echo, no line editing) from the start.
func Open() (*Pair, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	master := os.NewFile(uintptr(fd), "/dev/ptmx") // not blocking: deadlines work
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		master.Close()
		return nil, fmt.Errorf("set up pty: %w", err)
	}
	p := &Pair{Path: fmt.Sprintf("/dev/pts/%d", n), master: master}
	if p.tty, err = os.OpenFile(p.Path, os.O_RDWR|unix.O_NOCTTY, 0); err == nil {
		err = raw(p.tty)
	}
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("set up %s: %w", p.Path, err)
	}
	return p, nil
}

func raw(f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = c.Control(func(fd uintptr) {
		var t *unix.Termios
		if t, set = unix.IoctlGetTermios(int(fd), unix.TCGETS); set != nil {
			return
		}
		t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
		t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8 | unix.CREAD | unix.CLOCAL
		t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
		set = unix.IoctlSetTermios(int(fd), unix.TCSETS, t)
	})
	return errors.Join(err, set)
}

// Read takes what was written to the tty; os.ErrDeadlineExceeded after the deadline,
// os.ErrClosed once the pair is closed.
func (p *Pair) Read(b []byte) (int, error) { return p.master.Read(b) }

// Write sends to whoever reads the tty. It waits while 4 KiB are unread.
func (p *Pair) Write(b []byte) (int, error) { return p.master.Write(b) }

// SetDeadline limits Read and Write; the zero time lifts it.
func (p *Pair) SetDeadline(t time.Time) error { return p.master.SetDeadline(t) }

// Close pulls the cable: whoever has the tty open sees it hang up, and the node is
// gone. It may be called twice.
func (p *Pair) Close() error {
	p.once.Do(func() {
		p.err = p.master.Close()
		if p.tty != nil {
			p.err = errors.Join(p.err, p.tty.Close())
		}
	})
	return p.err
}
