package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"

	"tidegate/devices/scan"
	"tidegate/gateway/clock"
	"tidegate/hw/board/simboard"
	"tidegate/hw/gpio"
	"tidegate/hw/i2c"
	"tidegate/hw/serial"
)

func TestScanFindsOutWhatIsWired(t *testing.T) {
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
	node, err := b.Resolve("sim:plc")
	if err != nil {
		t.Fatal(err)
	}
	probe := func(more ...string) (int, string, string) {
		return call(t, "", append([]string{"device", "scan", "--probe", node, "--baud", "9600", "--listen", "20ms"}, more...)...)
	}
	code, out, errOut := probe("--units", "1-2")
	if code != 0 || !strings.Contains(out, "modbus") || !strings.Contains(out, "holding register 0 is 450") || !strings.Contains(errOut, "asking Modbus units 1 to 2 at 9600 baud, parity none") {
		t.Errorf("exit %d, %q, %q", code, out, errOut)
	}
	var found []scan.Found
	if code, out, _ := probe("--units", "1", "--json"); code != 0 || json.Unmarshal([]byte(out), &found) != nil || len(found) != 1 || found[0].Unit != 1 {
		t.Errorf("exit %d, %q", code, out)
	}
	if code, out, errOut := probe("--units", "240-241"); code != 0 || out != "" || !strings.Contains(errOut, "nothing answers on "+node) {
		t.Errorf("nobody: exit %d, %q, %q", code, out, errOut)
	}

	for _, units := range []string{"0-4", "3-2", "1-248", "all", ""} {
		if code, _, errOut := probe("--units", units); code != 2 || !strings.Contains(errOut, "expected numbers such as 1-32, from 1 to 247") {
			t.Errorf("--units %s: exit %d, %q", units, code, errOut)
		}
	}
	if code, _, errOut := call(t, "", "device", "scan", "--probe", "/dev/null"); code != 1 || !strings.Contains(errOut, "/dev/null is no serial port") {
		t.Errorf("exit %d, %q", code, errOut)
	}

	// while somebody else has the port
	port, err := serial.Open(serial.Config{Name: node, Baud: 9600})
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	if code, _, errOut := probe(); code != 1 || !strings.Contains(errOut, "in use by another program") {
		t.Errorf("in use: exit %d, %q", code, errOut)
	}
}

func TestScanListsPortsWithoutAGateway(t *testing.T) {
	code, out, errOut := call(t, "", "device", "scan", "--data", t.TempDir())
	if code != 0 || !strings.HasPrefix(out+errOut, "PORT") && !strings.Contains(errOut, "this machine has no serial port") {
		t.Errorf("exit %d, %q, %q", code, out, errOut)
	}
	var ports []port
	if code, out, _ := call(t, "", "device", "scan", "--json", "--data", t.TempDir()); code != 0 || json.Unmarshal([]byte(out), &ports) != nil || ports == nil {
		t.Errorf("exit %d, %q", code, out)
	}
}

func TestScanShowsSensorsAndLines(t *testing.T) {
	b, err := simboard.Open(clock.System())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	b.Pins().Occupy(8, "spi0 CS0")
	nodes := []i2c.Info{{Name: simboard.I2CPort, Adapter: "simulated", Claimed: map[uint16]string{0x68: "rtc-ds1307"}}, {Name: "/dev/i2c-9", Adapter: "unplugged"}}
	ports, err := pins{func() ([]i2c.Info, error) { return nodes, nil }, b.OpenI2C, func() ([]gpio.Info, error) { return gpio.ListOf(b.Pins()) }}.
		list(t.Context(), map[string][]string{simboard.I2CPort: {"hall"}, "gpiochip0": {"panel"}, "pinctrl-sim": {"yard"}, "": {"hall"}})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	(&asking{w: &world{out: &out}}).ports(ports)
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{"I2C-BUS ADAPTER ADDRESS PROFILES USED-BY",
		"sim:i2c simulated 0x44 sht31 hall",
		"0x68 the kernel's driver rtc-ds1307",
		"0x76 bme280, bmp180, bmp280",
		`/dev/i2c-9 unplugged - simulated I²C bus "/dev/i2c-9" is not there, expected sim:i2c: file does not exist -`,
		"GPIO-CHIP LABEL LINES IN-USE USED-BY",
		"gpiochip0 pinctrl-sim 28 GPIO8 (spi0 CS0) panel, yard, hall"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	text, err := json.Marshal(ports)
	if err != nil || !strings.Contains(string(text), `"kind":"i2c","name":"sim:i2c","used_by":["hall"],"adapter":"simulated","addresses":[{"address":"0x44","profiles":["sht31"]}`) {
		t.Errorf("%s, %v", text, err)
	}
}
