package serial_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"tidegate/hw/serial"
	"tidegate/hw/serial/ptypair"
)

func open(t *testing.T) (*serial.Port, *ptypair.Pair) {
	t.Helper()
	pair, err := ptypair.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pair.Close() })
	port, err := serial.Open(serial.Config{Name: pair.Path, Baud: 115200})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { port.Close() })
	return port, pair
}

func TestBytesGoBothWaysAndAreDated(t *testing.T) {
	port, pair := open(t)
	sent := []byte("\x00\x11\x13\x03\n\r\xff$GPGGA") // nothing a terminal would interpret is lost
	began := time.Now()
	if _, err := pair.Write(sent); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for b := make([]byte, 64); len(got) < len(sent); {
		n, at, err := port.Read(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		if at.Before(began) || at.After(time.Now()) {
			t.Errorf("dated %v", at)
		}
		got = append(got, b[:n]...)
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("got %q, want %q", got, sent)
	}
	long := bytes.Repeat([]byte("0123456789"), 300)
	done := make(chan error, 1)
	go func() { done <- port.Write(t.Context(), long) }()
	back := make([]byte, len(long))
	if _, err := io.ReadFull(pair, back); err != nil || !bytes.Equal(back, long) {
		t.Errorf("the device got %d bytes, %v", len(back), err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestADeadlineIsKeptAndNoByteIsLostByIt(t *testing.T) {
	port, pair := open(t)
	b := make([]byte, 8)
	best := time.Hour // of five: the machine may be busy
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		began := time.Now()
		if _, _, err := port.Read(ctx, b); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("silence: %v, want DeadlineExceeded", err)
		}
		best = min(best, time.Since(began))
		cancel()
	}
	if best < 30*time.Millisecond || best > 90*time.Millisecond {
		t.Errorf("a deadline of 30ms took %v", best)
	}
	pair.Write([]byte("x"))
	if n, _, err := port.Read(t.Context(), b); n != 1 || b[0] != 'x' || err != nil {
		t.Errorf("after it: %q, %v", b[:n], err)
	}
}

func TestASilentPortCostsNoCPU(t *testing.T) {
	port, _ := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	before := cpu(t)
	if _, _, err := port.Read(ctx, make([]byte, 8)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if used := cpu(t) - before; used > 50*time.Millisecond {
		t.Errorf("500 ms of silence cost %v of CPU", used)
	}
}

func cpu(t *testing.T) time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

func TestAPulledCableIsNoticedByReadAndWrite(t *testing.T) {
	port, pair := open(t)
	failed := make(chan error, 1)
	go func() {
		_, _, err := port.Read(context.Background(), make([]byte, 8))
		failed <- err
	}()
	began := time.Now()
	time.AfterFunc(50*time.Millisecond, func() { pair.Close() }) // in mid-read
	if err := <-failed; !errors.Is(err, serial.ErrGone) {
		t.Errorf("read: %v, want ErrGone", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("noticed after %v", took)
	}
	if err := port.Write(t.Context(), []byte("x")); !errors.Is(err, serial.ErrGone) {
		t.Errorf("write: %v, want ErrGone", err)
	}
	before := cpu(t)
	for range 100 { // each says so at once
		if _, _, err := port.Read(t.Context(), make([]byte, 8)); !errors.Is(err, serial.ErrGone) {
			t.Fatalf("read again: %v, want ErrGone", err)
		}
	}
	if used := cpu(t) - before; used > 100*time.Millisecond {
		t.Errorf("asking 100 times cost %v of CPU", used)
	}
	if err := port.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestAnotherDeviceInThePlaceOfTheOldOneIsNoticed(t *testing.T) {
	one, err := ptypair.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	two, err := ptypair.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	name := filepath.Join(t.TempDir(), "ttySensor")
	if err := os.Symlink(one.Path, name); err != nil {
		t.Fatal(err)
	}
	port, err := serial.Open(serial.Config{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	if err := os.Symlink(two.Path, name+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
	if _, _, err := port.Read(t.Context(), make([]byte, 8)); !errors.Is(err, serial.ErrGone) {
		t.Errorf("read: %v, want ErrGone", err)
	}
}

func TestCloseDoesNotHangBehindAReader(t *testing.T) {
	port, _ := open(t)
	failed := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		close(started)
		_, _, err := port.Read(context.Background(), make([]byte, 8))
		failed <- err
	}()
	<-started
	began := time.Now()
	if err := port.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 500*time.Millisecond {
		t.Errorf("close took %v", took)
	}
	if err := <-failed; !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read: %v, want ErrClosed", err)
	}
	if err := port.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if err := port.Write(t.Context(), []byte("x")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("write: %v, want ErrClosed", err)
	}
}

func TestAWriteNobodyTakesEndsWithItsContext(t *testing.T) {
	port, _ := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := port.Write(ctx, make([]byte, 1<<20)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want DeadlineExceeded", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("took %v", took)
	}
}

func TestDiscardThrowsAwayWhatCame(t *testing.T) {
	port, pair := open(t)
	b := make([]byte, 8)
	pair.Write([]byte("old"))
	if n, _, err := port.Read(t.Context(), b[:1]); n != 1 || err != nil { // the rest has arrived as well
		t.Fatal(n, err)
	}
	if err := port.Discard(); err != nil {
		t.Fatal(err)
	}
	pair.Write([]byte("new"))
	if n, _, err := port.Read(t.Context(), b); !strings.HasPrefix("new", string(b[:n])) || err != nil {
		t.Errorf("got %q, %v", b[:n], err)
	}
}

func TestWhatCannotBeOpenedSaysWhy(t *testing.T) {
	pair, err := ptypair.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cfg  serial.Config
		is   error
		says string
	}{
		{serial.Config{Name: "/dev/ttyNotThere"}, fs.ErrNotExist, "/dev/ttyNotThere is missing: plug it in"},
		{serial.Config{Name: file}, nil, "is no serial port"},
		{serial.Config{}, nil, "port: missing"},
		{serial.Config{Name: pair.Path, Baud: 49}, nil, "baud: is 49, expected 50 to 4000000"},
		{serial.Config{Name: pair.Path, Parity: "mark"}, nil, "mark and space are not supported"},
		{serial.Config{Name: pair.Path, StopBits: 15}, nil, "1.5 is not supported"},
		{serial.Config{Name: pair.Path, DataBits: 9}, nil, "data_bits: is 9"},
		{serial.Config{Name: pair.Path, RS485: &serial.RS485{}}, nil, "cannot switch the direction"},
		{serial.Config{Name: pair.Path, RS485: &serial.RS485{AfterSend: time.Second}}, nil, "whole milliseconds up to 100ms"},
	} {
		p, err := serial.Open(c.cfg)
		if err == nil {
			p.Close()
			t.Errorf("%+v: opened", c.cfg)
			continue
		}
		if c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.says)
		}
	}
}

func TestAPortIsTakenByOneAlone(t *testing.T) {
	port, pair := open(t)
	if second, err := serial.Open(serial.Config{Name: pair.Path}); !errors.Is(err, serial.ErrBusy) {
		second.Close()
		t.Errorf("second open: %v, want ErrBusy", err)
	}
	port.Close()
	again, err := serial.Open(serial.Config{Name: pair.Path})
	if err != nil {
		t.Fatalf("after it was closed: %v", err)
	}
	again.Close()
}

func TestEveryLineSettingIsTaken(t *testing.T) {
	pair, err := ptypair.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	for _, c := range []serial.Config{
		{Baud: 1200, DataBits: 7, Parity: "even"},
		{Baud: 19200, Parity: "odd", StopBits: 2},
		{Baud: 4000000, Parity: "none"},
		{Baud: 250000}, {Baud: 31250}, // outside POSIX' list
	} {
		c.Name = pair.Path
		p, err := serial.Open(c)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if err := p.Write(t.Context(), []byte("x")); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		if _, err := io.ReadFull(pair, make([]byte, 1)); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		p.Close()
	}
}

func TestNothingIsLeftOpen(t *testing.T) {
	once := func() {
		pair, err := ptypair.Open()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []serial.Config{{Name: pair.Path}, {Name: pair.Path, RS485: &serial.RS485{}}, {Name: "/dev/null"}} {
			if p, err := serial.Open(c); err == nil {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				p.Read(ctx, make([]byte, 1))
				cancel()
				if c.Name == pair.Path {
					pair.Close()
				}
				p.Close()
			}
		}
		pair.Close()
	}
	once()
	files, goroutines := fds(t), runtime.NumGoroutine()
	for range 20 {
		once()
	}
	if now := fds(t); now > files {
		t.Errorf("%d files open, before %d", now, files)
	}
	// A goroutine that has been told to end needs its turn to do so.
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, before %d", runtime.NumGoroutine(), goroutines)
		}
	}
}

func fds(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
