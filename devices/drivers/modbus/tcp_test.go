package modbus_test

import (
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"sync"
	"testing"
	"time"

	independent "github.com/simonvetter/modbus"

	"tidegate/devices"
	"tidegate/devices/drivers/modbus"
	"tidegate/devices/profile"
	"tidegate/hw/netline"
)

// plant is what the independent server serves.
type plant struct {
	mu       sync.Mutex
	coils    [100]bool
	holdings [100]uint16
}

func (p *plant) HandleCoils(r *independent.CoilsRequest) ([]bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if int(r.Addr)+int(r.Quantity) > len(p.coils) {
		return nil, independent.ErrIllegalDataAddress
	}
	if r.IsWrite {
		copy(p.coils[r.Addr:], r.Args)
	}
	return append([]bool(nil), p.coils[r.Addr:r.Addr+r.Quantity]...), nil
}

func (p *plant) HandleDiscreteInputs(*independent.DiscreteInputsRequest) ([]bool, error) {
	return nil, independent.ErrIllegalFunction
}

func (p *plant) HandleHoldingRegisters(r *independent.HoldingRegistersRequest) ([]uint16, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if int(r.Addr)+int(r.Quantity) > len(p.holdings) {
		return nil, independent.ErrIllegalDataAddress
	}
	if r.IsWrite {
		copy(p.holdings[r.Addr:], r.Args)
	}
	return append([]uint16(nil), p.holdings[r.Addr:r.Addr+r.Quantity]...), nil
}

func (p *plant) HandleInputRegisters(*independent.InputRegistersRequest) ([]uint16, error) {
	return nil, independent.ErrServerDeviceBusy
}

func dial(t *testing.T, address string) profile.Link {
	t.Helper()
	conn, err := netline.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	link, err := modbus.Attach(conn, profile.Line{Framing: "tcp", Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { link.Close() })
	return link
}

func TestTCPAgainstAnIndependentServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	ln.Close() // the server opens it by itself
	s, err := independent.NewServer(&independent.ServerConfiguration{URL: "tcp://" + address, Timeout: time.Minute, MaxClients: 2,
		Logger: log.New(io.Discard, "", 0)}, &plant{holdings: [100]uint16{20: 215}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	p := &profile.Profile{Protocol: profile.Modbus, Points: []profile.Point{
		{Name: "pump", Register: reg(profile.Coil, 5), Writable: true}, {Name: "setpoint", Register: reg(profile.Holding, 20), Scale: 0.1, Writable: true},
		{Name: "none", Register: reg(profile.Holding, 100)}, {Name: "busy", Register: reg(profile.Input, 0)}, {Name: "no", Register: reg(profile.Discrete, 0)}}}
	d := device(t, dial(t, address), 255, p)
	got, err := d.Sample(t.Context(), nil)
	if want := "pump=false good; no=null bad; setpoint=21.5 good; none=null bad; busy=null bad"; err != nil || values(got) != want {
		t.Errorf("got  %s, %v\nwant %s", values(got), err, want)
	}
	if v, err := d.Write(t.Context(), "pump", devices.Bool(true)); err != nil || v != devices.Bool(true) {
		t.Errorf("pump: %v, %v", v, err)
	}
	if v, err := d.Write(t.Context(), "setpoint", devices.Float(30)); err != nil || !v.Equal(devices.Int(30)) {
		t.Errorf("setpoint: %v, %v", v, err)
	}
}

func TestTCPTellsLateAnswersApartAndGivesUpOnWhatIsNoModbus(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		q := make([]byte, 12)
		for n := 0; ; n++ {
			if _, err := io.ReadFull(conn, q); err != nil {
				return
			}
			a := append([]byte(nil), q[0], q[1], 0, 0, 0, 5, q[6], 3, 2, 0, byte(n))
			old := append([]byte(nil), a...)
			binary.BigEndian.PutUint16(old, binary.BigEndian.Uint16(q)-1)
			old[10] = 99
			switch n {
			case 0: // an answer to the question before, and this one's in two pieces
				conn.Write(append(old, a[:4]...))
				conn.Write(a[4:])
			case 1: // nothing but an old one: asked again
				conn.Write(old)
			case 2:
				conn.Write(a)
			default:
				conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			}
		}
	})
	defer done.Wait()
	defer ln.Close()
	link := dial(t, ln.Addr().String())
	defer link.Close()
	d := device(t, link, 1, one())
	for _, want := range []string{"x=0 good", "x=2 good"} {
		if got, err := d.Sample(t.Context(), nil); err != nil || values(got) != want {
			t.Errorf("got %s, %v; want %s", values(got), err, want)
		}
	}
	if _, err := d.Sample(t.Context(), nil); !errors.Is(err, devices.ErrGone) {
		t.Errorf("what is no Modbus: %v, want ErrGone", err)
	}
}
