package scan_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/devices"
	"tidegate/devices/scan"
	"tidegate/gateway/clock"
	"tidegate/hw/board/simboard"
	"tidegate/hw/serial"
)

// Every simulated port is found out: two that speak by themselves, and a Modbus slave among units that are not there.
func TestWhatIsWiredIsFoundOut(t *testing.T) {
	b, err := simboard.Open(clock.System())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.Run(ctx, func() {}); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait(); b.Close() })
	for name, want := range map[string]scan.Found{
		"sim:gps":     {Protocol: "nmea", Baud: 9600, Parity: "none", Detail: "$"},
		"sim:weather": {Protocol: "json", Baud: 9600, Parity: "none", Detail: "{"},
		"sim:plc":     {Protocol: "modbus", Baud: 9600, Parity: "none", Unit: 1, Detail: "holding register 0 is 450"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node, err := b.Resolve(name)
			if err != nil {
				t.Fatal(err)
			}
			open := func(baud int, parity string) (devices.Port, error) {
				return serial.Open(serial.Config{Name: node, Baud: baud, Parity: parity})
			}
			o := scan.Options{Bauds: []int{9600}, Parities: []string{"none", "even"}, FirstUnit: 1, LastUnit: 3, Listen: 3 * time.Second, Answer: 100 * time.Millisecond}
			if name == "sim:plc" {
				o.Listen = 100 * time.Millisecond
			}
			var tried []string
			found, err := scan.Probe(t.Context(), open, o, func(s string) { tried = append(tried, s) })
			if err != nil || len(found) != 1 || len(tried) == 0 {
				t.Fatalf("found %+v, %v", found, err)
			}
			if f := found[0]; !strings.HasPrefix(f.Detail, want.Detail) {
				t.Errorf("detail %q", f.Detail)
			} else if f.Detail = want.Detail; f != want {
				t.Errorf("got %+v, want %+v", f, want)
			}
		})
	}
}

func TestAPortThatIsMissingOrSilent(t *testing.T) {
	o := scan.Options{Bauds: []int{9600, 19200}, Parities: []string{"none"}, FirstUnit: 1, LastUnit: 2, Listen: 20 * time.Millisecond, Answer: 20 * time.Millisecond}
	_, err := scan.Probe(t.Context(), func(baud int, parity string) (devices.Port, error) {
		return serial.Open(serial.Config{Name: "/dev/not-there", Baud: baud, Parity: parity})
	}, o, nil)
	if err == nil || !strings.Contains(err.Error(), "is missing: plug it in") {
		t.Errorf("missing: %v", err)
	}
	found, err := scan.Probe(t.Context(), func(int, string) (devices.Port, error) { return line(""), nil }, o, nil)
	if err != nil || found != nil {
		t.Errorf("silent: %+v, %v", found, err)
	}
	for said, protocol := range map[string]string{"12.5,60\r\n12.6,61\r\n": "csv", "hello\r\nworld\r\n": "text", "\x80\xfe\x00\x80\xff": "bytes"} {
		found, err := scan.Probe(t.Context(), func(int, string) (devices.Port, error) { return line(said), nil }, o, nil)
		if err != nil || len(found) != 1 || found[0].Protocol != protocol {
			t.Errorf("%q: %+v, %v", said, found, err)
		}
	}
}

// line is a port that says one thing again and again, or nothing.
type line string

func (l line) Read(ctx context.Context, b []byte) (int, time.Time, error) {
	if l == "" {
		<-ctx.Done()
		return 0, time.Time{}, ctx.Err()
	}
	return copy(b, strings.Repeat(string(l), len(b)/len(l)+1)), time.Now(), nil
}
func (line) Write(context.Context, []byte) error { return nil }
func (line) Discard() error                      { return nil }
func (line) Close() error                        { return nil }
