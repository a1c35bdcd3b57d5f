package gpio_test

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"tidegate/hw/gpio"
	"tidegate/hw/gpio/gpiosim"
)

func open(t *testing.T) (*gpiosim.Kernel, *gpio.Chip) {
	t.Helper()
	sim := gpiosim.New("pinctrl-bcm2711", 28)
	c, err := gpio.OpenOf(sim, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), c.Close()); err != nil {
			t.Error(err)
		}
	})
	return sim, c
}

func take(t *testing.T, c *gpio.Chip, r gpio.Request) *gpio.Line {
	t.Helper()
	l, err := c.Take(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func level(t *testing.T, l *gpio.Line, want bool) {
	t.Helper()
	if got, err := l.Level(); err != nil || got != want {
		t.Errorf("level is %v, %v, want %v", got, err, want)
	}
}

func TestALevelIsReadAsItIsWired(t *testing.T) {
	sim, c := open(t)
	plain := take(t, c, gpio.Request{Line: "GPIO4"})
	pulled := take(t, c, gpio.Request{Line: "5", Pull: gpio.PullUp, ActiveLow: true})
	level(t, plain, false)
	level(t, pulled, false)
	sim.Drive(4, true)
	sim.Drive(5, false)
	level(t, plain, true)
	level(t, pulled, true)
	sim.Release(5)
	level(t, pulled, false)
}

func TestAnOutputIsDrivenAndReadBack(t *testing.T) {
	sim, c := open(t)
	for _, low := range []bool{false, true} {
		l := take(t, c, gpio.Request{Line: "GPIO27", Output: true, ActiveLow: low})
		for _, on := range []bool{true, false, true} {
			if err := l.Set(on); err != nil {
				t.Fatal(err)
			}
			level(t, l, on)
			if sim.Level(27) != (on != low) {
				t.Errorf("set to %v with active low %v the pin is %v", on, low, sim.Level(27))
			}
		}
		l.Close()
	}
}

// A relay must not drop out because the gateway is started again.
func TestAnOutputThatIsDrivenKeepsItsLevel(t *testing.T) {
	sim, c := open(t)
	l := take(t, c, gpio.Request{Line: "6", Output: true, ActiveLow: true, Safe: true})
	if sim.Level(6) {
		t.Error("a fresh output does not start with its safe value")
	}
	for _, on := range []bool{false, true} {
		if err := l.Set(on); err != nil {
			t.Fatal(err)
		}
		l.Close()
		l = take(t, c, gpio.Request{Line: "6", Output: true, ActiveLow: true})
		level(t, l, on)
		if sim.Level(6) == on {
			t.Errorf("the pin is %v", sim.Level(6))
		}
	}
}

func TestEdgesAreDatedAndCountedAlsoWhenTheyAreMissed(t *testing.T) {
	sim, c := open(t)
	l := take(t, c, gpio.Request{Line: "17", Edges: true, ActiveLow: true, Pull: gpio.PullUp})
	began := time.Now()
	sim.Drive(17, false)
	sim.Drive(17, true)
	for n, active := range []bool{true, false} {
		e, err := l.Next()
		if err != nil || e.Active != active || e.Count != uint32(n+1) || e.At.Before(began.Add(-time.Second)) || e.At.After(time.Now().Add(time.Second)) {
			t.Errorf("edge %d: %+v, %v", n, e, err)
		}
	}
	for range 50 { // 100 edges, of which the kernel keeps the last 16
		sim.Drive(17, false)
		sim.Drive(17, true)
	}
	var last gpio.Edge
	for n := range 16 {
		e, err := l.Next()
		if err != nil || e.Count != uint32(87+n) {
			t.Errorf("edge %+v, %v, want number %d", e, err, 87+n)
		}
		last = e
	}
	if last.Count != 102 {
		t.Errorf("%d edges, want 102", last.Count)
	}
}

func TestALevelThatBouncesCountsOnce(t *testing.T) {
	sim, c := open(t)
	l := take(t, c, gpio.Request{Line: "17", Edges: true, Debounce: 20 * time.Millisecond})
	for range 5 {
		sim.Drive(17, true)
		sim.Drive(17, false)
	}
	sim.Drive(17, true)
	if e, err := l.Next(); err != nil || !e.Active || e.Count != 1 {
		t.Errorf("%+v, %v, want one edge", e, err)
	}
	level(t, l, true)
}

func TestWhoWaitsForAnEdgeIsWoken(t *testing.T) {
	sim, c := open(t)
	for name, want := range map[string]error{"closed": os.ErrClosed, "unplugged": gpio.ErrGone} {
		l := take(t, c, gpio.Request{Line: "17", Edges: true})
		ended := make(chan error, 1) // holds the one answer
		go func() { _, err := l.Next(); ended <- err }()
		if name == "closed" {
			l.Close()
		} else {
			sim.Unplug()
			defer sim.Plug()
		}
		select {
		case err := <-ended:
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: still waits", name)
		}
		if name == "unplugged" {
			if _, err := l.Level(); !errors.Is(err, gpio.ErrGone) {
				t.Errorf("level: %v", err)
			}
			sim.Plug()
		}
	}
}

func TestWhatCannotBeTakenIsSaid(t *testing.T) {
	sim, c := open(t)
	sim.Occupy(8, "spi0 CS0")
	if _, err := c.Take(gpio.Request{Line: "GPIO8"}); !errors.Is(err, gpio.ErrBusy) || err.Error() != "line GPIO8 of gpiochip0 is in use by spi0 CS0" {
		t.Errorf("%v, want ErrBusy and by whom", err)
	}
	for _, name := range []string{"28", "GPIO99", "-1", ""} {
		if _, err := c.Take(gpio.Request{Line: name}); !errors.Is(err, gpio.ErrNoLine) || !strings.Contains(err.Error(), "only 0 to 27") {
			t.Errorf("%q: %v, want ErrNoLine", name, err)
		}
	}
	sim.Unplug()
	if _, err := c.Take(gpio.Request{Line: "4"}); !errors.Is(err, gpio.ErrGone) {
		t.Errorf("unplugged: %v", err)
	}
	c.Close()
	if _, err := c.Lines(); !errors.Is(err, gpio.ErrGone) {
		t.Errorf("closed: %v", err)
	}
}

func TestChipsAreFoundByNameLabelOrHeader(t *testing.T) {
	sim := gpiosim.New("pinctrl-rp1", 4)
	for _, name := range []string{"", "gpiochip0", "pinctrl-rp1", gpiosim.Node} {
		c, err := gpio.OpenOf(sim, name)
		if err != nil || c.Name() != "gpiochip0" {
			t.Errorf("%q: %v", name, err)
			continue
		}
		c.Close()
	}
	if _, err := gpio.OpenOf(sim, "gpiochip4"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), `no GPIO chip "gpiochip4", only gpiochip0 (pinctrl-rp1)`) {
		t.Errorf("%v", err)
	}
	other, err := gpio.OpenOf(gpiosim.New("some-expander", 4), "")
	if err != nil {
		t.Errorf("the only chip: %v", err)
	} else {
		other.Close()
	}
	sim.Occupy(2, "fan")
	found, err := gpio.ListOf(sim)
	if err != nil || len(found) != 1 || found[0].Label != "pinctrl-rp1" || len(found[0].Lines) != 4 || found[0].Lines[2] != (gpio.LineInfo{Number: 2, Name: "GPIO2", Used: true, Consumer: "fan"}) {
		t.Errorf("%+v, %v", found, err)
	}
	sim.Unplug()
	if _, err := gpio.OpenOf(sim, ""); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "no GPIO chip") {
		t.Errorf("none: %v", err)
	}
	if _, err := gpio.List(); err != nil {
		t.Errorf("this machine: %v", err)
	}
}
