package modbus_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"math/big"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/devices"
	"tidegate/devices/drivers/modbus"
	"tidegate/devices/profile"
	"tidegate/hw/serial"
	"tidegate/hw/serial/ptypair"
)

// line is what most tests talk over: a serial port whose other end is a pty held by the test.
func line(t testing.TB, l profile.Line) (profile.Link, *ptypair.Pair) {
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
	link, err := modbus.Attach(port, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { link.Close() })
	return link, pair
}

func device(t testing.TB, link profile.Link, unit int, p *profile.Profile) *modbus.Driver {
	t.Helper()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	d, err := link.Device(unit, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d.(*modbus.Driver)
}

// peer is a slave served by pymodbus behind a wire of two ptys.
type peer struct {
	t    testing.TB
	wire *ptypair.Pair // our end: what we write here the gateway reads
	far  *ptypair.Pair
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	end  func()
}

// startPeer lays the wire and starts the slave with these units on it.
func startPeer(t testing.TB, wire *ptypair.Pair, units ...int) *peer {
	t.Helper()
	far, err := ptypair.Open()
	if err != nil {
		t.Fatal(err)
	}
	argv := []string{"testdata/rtuslave.py", far.Path}
	for _, u := range units {
		argv = append(argv, strconv.Itoa(u))
	}
	p := &peer{t: t, wire: wire, far: far, cmd: exec.Command("/usr/bin/python3", argv...)}
	var said strings.Builder
	p.cmd.Stderr = &said
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("the Modbus slave needs Debian's python3: %v", err)
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { io.Copy(far, wire) })
	pumps.Go(func() { io.Copy(wire, far) })
	p.end = sync.OnceFunc(func() {
		p.in.Close()
		io.Copy(io.Discard, p.out)
		p.cmd.Wait()
		far.Close()
		wire.Close()
		pumps.Wait()
	})
	t.Cleanup(p.end)
	if s, err := p.out.ReadString('\n'); s != "ready\n" {
		p.end()
		t.Fatalf("the Modbus slave needs Debian's python3-pymodbus and python3-serial-asyncio: %v\n%s", err, said.String())
	}
	return p
}

func (p *peer) command(format string, args ...any) string {
	p.t.Helper()
	fmt.Fprintf(p.in, format+"\n", args...)
	s, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatalf("the Modbus slave says nothing: %v", err)
	}
	return strings.TrimSpace(s)
}

func (p *peer) set(unit int, table string, address int, values ...int) {
	p.t.Helper()
	p.command("set %d %s %d %s", unit, table, address, strings.Trim(fmt.Sprint(values), "[]"))
}

func (p *peer) get(unit int, table string, address, n int) string {
	p.t.Helper()
	return p.command("get %d %s %d %d", unit, table, address, n)
}

// mute cuts the wire behind the gateway's port, which stays.
func (p *peer) mute() { p.far.Close() }

// values gives readings as point=value quality.
func values(rs []devices.Reading) string {
	var b strings.Builder
	for _, r := range rs {
		fmt.Fprintf(&b, "%s=%v %v; ", r.Point, r.Value, r.Quality)
	}
	return strings.TrimSuffix(b.String(), "; ")
}

// hear answers every question that comes over pair with what answer makes of it; nil is silence.
func hear(t testing.TB, pair *ptypair.Pair, answer func(question []byte) []byte) {
	var done sync.WaitGroup
	done.Go(func() {
		b := make([]byte, 512)
		have := 0
		for {
			n, err := pair.Read(b[have:])
			if err != nil {
				return
			}
			have += n
			for have >= 8 {
				size := 8
				if b[1] == 15 || b[1] == 16 {
					size = 9 + int(b[6])
				}
				if have < size {
					break
				}
				q := append([]byte(nil), b[:size]...)
				have = copy(b, b[size:have])
				if a := answer(q); a != nil {
					pair.SetDeadline(time.Now().Add(time.Second))
					pair.Write(a)
					pair.SetDeadline(time.Time{})
				}
			}
		}
	})
	t.Cleanup(func() { pair.Close(); done.Wait() })
}

// frame adds the checksum, written apart from the driver's: MODBUS over Serial Line 1.02, 6.2.2.
func frame(b ...byte) []byte {
	reg := 0xFFFF
	for _, c := range b {
		reg ^= int(c)
		for i := 0; i < 8; i++ {
			odd := reg % 2
			reg /= 2
			if odd == 1 {
				reg ^= 0xA001
			}
		}
	}
	return append(append([]byte(nil), b...), byte(reg%256), byte(reg/256))
}

// decode reads what the slave holds for a point of the heat pump, apart from the driver.
func decode(point string, fields []string) devices.Value {
	w := make([]uint16, len(fields))
	for i, f := range fields {
		n, _ := strconv.ParseUint(f, 10, 16)
		w[i] = uint16(n)
	}
	switch point {
	case "pump":
		return devices.Bool(w[0] == 1)
	case "setpoint":
		return devices.Rat(big.NewRat(int64(int16(w[0])), 10))
	case "limit":
		return devices.Float(float64(math.Float32frombits(uint32(w[0])<<16 | uint32(w[1]))))
	}
	var b []byte
	for _, x := range w {
		b = append(b, byte(x>>8), byte(x))
	}
	return devices.Text(string(bytes.TrimRight(b, "\x00")))
}
