package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidegate/devices"
	"tidegate/devices/scan"
	"tidegate/hw/board"
	"tidegate/hw/serial"
)

// port is a serial port as scan shows it.
type port struct {
	serial.Info
	UsedBy []string `json:"used_by,omitempty"` // devices of the running gateway
}

// scanCmd looks for what is wired up. It needs no running gateway.
func scanCmd(w *world) *cobra.Command {
	a := &asking{w: w}
	o := scan.DefaultOptions()
	var probe, units string
	c := a.flags(&cobra.Command{Use: "scan", Short: "look for serial ports, and with --probe for what is wired to one", Args: cobra.NoArgs,
		Long: `List the serial ports of this machine, with the name that stays the same in whatever
socket an adapter is plugged, and the devices of the running gateway on them.

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
				ports = append(ports, port{i, used[real(i.Name)]})
			}
			if len(ports) == 0 && !a.json {
				fmt.Fprintln(w.errOut, "tidegate: this machine has no serial port: plug an adapter in, or switch the one on the pins on")
			}
			return a.print(ports, func() {
				var rows [][]string
				for _, p := range ports {
					what := strings.TrimSpace(p.Manufacturer + " " + p.Title)
					if p.Serial != "" {
						what += " " + p.Serial
					}
					rows = append(rows, []string{p.Name, orDash(p.ByID), orDash(p.Driver), orDash(what), orDash(strings.Join(p.UsedBy, ", "))})
				}
				if len(rows) > 0 {
					a.table("PORT STABLE-NAME DRIVER ADAPTER USED-BY", rows)
				}
			})
		}})
	c.Flags().StringVar(&probe, "probe", "", "find out what is wired to `PORT`")
	c.Flags().IntSliceVar(&o.Bauds, "baud", o.Bauds, "speeds to try with --probe")
	c.Flags().StringVar(&units, "units", fmt.Sprintf("%d-%d", o.FirstUnit, o.LastUnit), "Modbus units to ask with --probe, `FIRST-LAST`")
	c.Flags().DurationVar(&o.Listen, "listen", o.Listen, "how long to listen at each speed with --probe")
	return c
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

// used gives the devices of the running gateway by the node of their port; none when no
// gateway is running.
func (a *asking) used(c *cobra.Command) map[string][]string {
	by := map[string][]string{}
	ds, err := a.client().Devices(c.Context())
	if err != nil {
		return by
	}
	b := board.Detect()
	for _, d := range ds {
		if node, err := b.Resolve(d.Port); err == nil {
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
