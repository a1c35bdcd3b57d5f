package harness

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Wire is a serial cable: two ptys whose ends are joined, so that each side opens a device node of its own. It can go
// silent, damage what travels, and be unplugged.
type Wire struct {
	A, B string // device nodes
	tb   TB
	wg   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	ends   [2]*pty
	mangle func(fromA bool, b []byte) []byte
}

// NewWire lays a cable; it goes with the test.
func NewWire(tb TB) *Wire {
	tb.Helper()
	w := &Wire{tb: tb}
	var err error
	for i, name := range []*string{&w.A, &w.B} {
		if w.ends[i], err = openPty(); err != nil {
			tb.Fatalf("harness: pty: %v", err)
		}
		*name = w.ends[i].name
	}
	w.wg.Add(2)
	go w.carry(true)
	go w.carry(false)
	tb.Cleanup(w.Unplug)
	return w
}

// Mangle passes what travels through f from now on: what f returns comes out (nil: nothing). A nil f carries everything as
// it is.
func (w *Wire) Mangle(f func(fromA bool, b []byte) []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mangle = f
}

// Unplug takes the cable away: both nodes vanish and whoever has one open sees a hang-up. It may be called twice.
func (w *Wire) Unplug() {
	w.mu.Lock()
	for _, e := range w.ends {
		e.Close()
	}
	w.mu.Unlock()
	w.wg.Wait()
}

func (w *Wire) carry(fromA bool) {
	defer w.wg.Done()
	src, dst := w.ends[0], w.ends[1]
	if !fromA {
		src, dst = dst, src
	}
	buf := make([]byte, 4096)
	for {
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		b := buf[:n]
		w.mu.Lock()
		if w.mangle != nil {
			b = w.mangle(fromA, b)
		}
		w.mu.Unlock()
		if _, err := dst.Write(b); err != nil {
			return
		}
	}
}

// Talk is a wire whose far end is the test itself.
type Talk struct {
	Name string // device node
	end  *pty
}

// NewTalk opens a pty; what the test writes comes out of the node.
func NewTalk(tb TB) *Talk {
	tb.Helper()
	p, err := openPty()
	if err != nil {
		tb.Fatalf("harness: pty: %v", err)
	}
	t := &Talk{Name: p.name, end: p}
	tb.Cleanup(func() { t.Close() })
	return t
}

// Write says b on the wire. When nobody reads and the kernel's buffer (4 KiB) is full it waits, at most Patience.
func (t *Talk) Write(b []byte) (int, error) {
	t.end.SetWriteDeadline(time.Now().Add(Patience))
	return t.end.Write(b)
}

// Read hears what the other side says.
func (t *Talk) Read(b []byte) (int, error) { return t.end.Read(b) }

// Close hangs up. It may be called twice.
func (t *Talk) Close() error { return t.end.Close() }

// pty is the master of a pseudo terminal in raw mode. It keeps the node open itself, so that it sees no hang-up before
// somebody has opened the node, or between two who do.
type pty struct {
	*os.File
	name string
	hold int
}

func openPty() (*pty, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	p := &pty{File: os.NewFile(uintptr(fd), "/dev/ptmx"), hold: -1}
	n, err := 0, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	if err == nil {
		n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
	}
	if err == nil {
		p.name = fmt.Sprintf("/dev/pts/%d", n)
		p.hold, err = unix.Open(p.name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	}
	var t *unix.Termios
	if err == nil {
		t, err = unix.IoctlGetTermios(p.hold, unix.TCGETS)
	}
	if err == nil {
		t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
		t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8 | unix.CREAD | unix.CLOCAL
		err = unix.IoctlSetTermios(p.hold, unix.TCSETS, t)
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Close hangs up; it may be called twice.
func (p *pty) Close() error {
	if err := p.File.Close(); err != nil || p.hold < 0 {
		return err // closed before
	}
	return unix.Close(p.hold)
}
