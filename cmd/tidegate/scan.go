package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidegate/devices"
	"tidegate/devices/manager"
	"tidegate/devices/scan"
	"tidegate/hw/board"
	"tidegate/hw/gpio"
	"tidegate/hw/i2c"
	"tidegate/hw/serial"
)

// port is a serial port, an I²C bus or a GPIO chip as scan shows it.
type port struct {
	Kind string `json:"kind"` // serial, i2c or gpio
	serial.Info
	UsedBy    []string        `json:"used_by,omitempty"`   // devices of the running gateway
	Adapter   string          `json:"adapter,omitempty"`   // i2c: as the kernel calls it
	Addresses []scan.Address  `json:"addresses,omitempty"` // i2c: who answers
	Problem   string          `json:"problem,omitempty"`   // i2c: why nobody was asked
	Label     string          `json:"label,omitempty"`     // gpio
	Lines     []gpio.LineInfo `json:"lines,omitempty"`     // gpio
}

// pins is where scan looks for I²C buses and digital lines.
type pins struct {
	buses func() ([]i2c.Info, error)
	open  func(node string) (*i2c.Bus, error)
	chips func() ([]gpio.Info, error)
}

// scanCmd looks for what is wired up. It needs no running gateway.
func scanCmd(w *world) *cobra.Command {
	a := &asking{w: w}
	o := scan.DefaultOptions()
	var probe, units string
	c := a.flags(&cobra.Command{Use: "scan", Short: "look for ports, sensors and lines, and with --probe for what is wired to one port", Args: cobra.NoArgs,
		Long: `List the serial ports of this machine, with the name that stays the same in whatever
socket an adapter is plugged, its I²C buses with the addresses that answer and the
built-in profiles of chips that are mostly there, and its GPIO chips with the lines that
are in use, and the devices of the running gateway on them.

Every I²C address that no driver of the kernel has is sent once, as i2cdetect does.

--probe PORT finds out what is wired to one port: it listens at several speeds for NMEA
0183, JSON and other lines, and if nobody speaks it asks Modbus RTU units for holding
register 0. That sends bytes to whatever is there. The port must not be in use, by a
running gateway neither.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if probe != "" {
				return a.probe(c, probe, units, o)
			}
			infos, err := serial.List()
			if err != nil {
				return err
			}
			used := a.used(c)
			ports := []port{}
			for _, i := range infos {
				ports = append(ports, port{Kind: "serial", Info: i, UsedBy: used[real(i.Name)]})
			}
			if len(ports) == 0 && !a.json {
				fmt.Fprintln(w.errOut, "tidegate: this machine has no serial port: plug an adapter in, or switch the one on the pins on")
			}
			more, err := pins{i2c.List, i2c.Open, gpio.List}.list(c.Context(), used)
			if err != nil {
				return err
			}
			ports = append(ports, more...)
			return a.print(ports, func() { a.ports(ports) })
		}})
	c.Flags().StringVar(&probe, "probe", "", "find out what is wired to `PORT`")
	c.Flags().IntSliceVar(&o.Bauds, "baud", o.Bauds, "speeds to try with --probe")
	c.Flags().StringVar(&units, "units", fmt.Sprintf("%d-%d", o.FirstUnit, o.LastUnit), "Modbus units to ask with --probe, `FIRST-LAST`")
	c.Flags().DurationVar(&o.Listen, "listen", o.Listen, "how long to listen at each speed with --probe")
	return c
}

// list gives the I²C buses, asking who is on them, and the GPIO chips.
func (p pins) list(ctx context.Context, used map[string][]string) (ports []port, err error) {
	buses, err := p.buses()
	if err != nil {
		return nil, err
	}
	for _, b := range buses {
		x := port{Kind: "i2c", Info: serial.Info{Name: b.Name}, Adapter: b.Adapter, UsedBy: used[b.Name]}
		bus, err := p.open(b.Name)
		if err == nil {
			x.Addresses, err = scan.Addresses(ctx, bus, b.Claimed)
			err = errors.Join(err, bus.Close())
		}
		if err != nil {
			x.Problem = err.Error()
		}
		ports = append(ports, x)
	}
	chips, err := p.chips()
	if err != nil {
		return nil, err
	}
	for _, c := range chips {
		x := port{Kind: "gpio", Info: serial.Info{Name: c.Name}, Label: c.Label, Lines: c.Lines, UsedBy: slices.Concat(used[c.Name], used[c.Label])}
		if gpio.IsHeader(c.Label) || len(chips) == 1 {
			x.UsedBy = append(x.UsedBy, used[""]...)
		}
		ports = append(ports, x)
	}
	return ports, nil
}

// ports prints what there is, a table for each kind.
func (a *asking) ports(ports []port) {
	rows := map[string][][]string{}
	for _, p := range ports {
		by := orDash(strings.Join(p.UsedBy, ", "))
		switch p.Kind {
		case "serial":
			what := strings.TrimSpace(p.Manufacturer + " " + p.Title)
			if p.Serial != "" {
				what += " " + p.Serial
			}
			rows[p.Kind] = append(rows[p.Kind], []string{p.Name, orDash(p.ByID), orDash(p.Driver), orDash(what), by})
		case "i2c":
			head := []string{p.Name, orDash(p.Adapter)}
			if p.Problem != "" || len(p.Addresses) == 0 {
				rows[p.Kind] = append(rows[p.Kind], append(head, "-", orDash(p.Problem), by))
			}
			for _, x := range p.Addresses {
				what := strings.Join(x.Profiles, ", ")
				if x.Driver != "" {
					what = "the kernel's driver " + x.Driver
				}
				rows[p.Kind] = append(rows[p.Kind], append(head[:2:2], x.Address, orDash(what), by))
				head, by = []string{"", ""}, ""
			}
		case "gpio":
			var busy []string
			for _, l := range p.Lines {
				if l.Used {
					name := l.Name
					if name == "" {
						name = strconv.Itoa(l.Number)
					}
					busy = append(busy, fmt.Sprintf("%s (%s)", name, orDash(l.Consumer)))
				}
			}
			rows[p.Kind] = append(rows[p.Kind], []string{p.Name, p.Label, strconv.Itoa(len(p.Lines)), orDash(strings.Join(busy, ", ")), by})
		}
	}
	for _, t := range []struct{ kind, heading string }{{"serial", "PORT STABLE-NAME DRIVER ADAPTER USED-BY"},
		{"i2c", "I2C-BUS ADAPTER ADDRESS PROFILES USED-BY"}, {"gpio", "GPIO-CHIP LABEL LINES IN-USE USED-BY"}} {
		if len(rows[t.kind]) > 0 {
			a.table(t.heading, rows[t.kind])
		}
	}
}

// probe finds out what is on one port.
func (a *asking) probe(c *cobra.Command, name, units string, o scan.Options) error {
	first, last, _ := strings.Cut(units, "-")
	if last == "" {
		last = first
	}
	var err1, err2 error
	o.FirstUnit, err1 = strconv.Atoi(first)
	o.LastUnit, err2 = strconv.Atoi(last)
	if err1 != nil || err2 != nil || o.FirstUnit < 1 || o.LastUnit > 247 || o.FirstUnit > o.LastUnit {
		return misuse(fmt.Errorf("--units is %q, expected numbers such as 1-32, from 1 to 247", units))
	}
	if o.Listen < 10*time.Millisecond || len(o.Bauds) == 0 {
		return misuse(errors.New("--listen and --baud must leave something to try"))
	}
	node, err := board.Detect().Resolve(name)
	if err != nil {
		return err
	}
	open := func(baud int, parity string) (devices.Port, error) {
		return serial.Open(serial.Config{Name: node, Baud: baud, Parity: parity})
	}
	found, err := scan.Probe(c.Context(), open, o, func(line string) { fmt.Fprintln(a.w.errOut, line) })
	if err != nil {
		return err
	}
	if found == nil {
		found = []scan.Found{}
	}
	if len(found) == 0 && !a.json {
		fmt.Fprintf(a.w.errOut, "tidegate: nothing answers on %s: look at power and wiring (A and B swapped?), or try other --baud and --units\n", name)
	}
	return a.print(found, func() {
		var rows [][]string
		for _, f := range found {
			unit := "-"
			if f.Unit > 0 {
				unit = strconv.Itoa(f.Unit)
			}
			rows = append(rows, []string{f.Protocol, strconv.Itoa(f.Baud), f.Parity, unit, f.Detail})
		}
		if len(rows) > 0 {
			a.table("PROTOCOL BAUD PARITY UNIT DETAIL", rows)
		}
	})
}

// used gives the devices of the running gateway by the node of their port, those on digital
// lines by the name of their chip; none when no
// gateway is running.
func (a *asking) used(c *cobra.Command) map[string][]string {
	by := map[string][]string{}
	ds, err := a.client().Devices(c.Context())
	if err != nil {
		return by
	}
	b := board.Detect()
	for _, d := range ds {
		bus := manager.Bus{Port: d.Port}
		if node, ok := bus.I2CBus(); ok {
			by[node] = append(by[node], d.Name)
		} else if chip, ok := bus.GPIOChip(); ok {
			by[chip] = append(by[chip], d.Name)
		} else if node, err := b.Resolve(d.Port); err == nil {
			by[real(node)] = append(by[real(node)], d.Name)
		}
	}
	return by
}

// real follows links such as those under /dev/serial/by-id.
func real(node string) string {
	if to, err := filepath.EvalSymlinks(node); err == nil {
		return to
	}
	return node
}
