package node

import (
	"context"
	"encoding/json"
	"strings"

	"tidegate/devices"
	"tidegate/devices/drivers/modbus"
	"tidegate/devices/drivers/serialline"
	"tidegate/devices/manager"
	"tidegate/devices/profile"
	"tidegate/gateway/localapi/localclient"
	"tidegate/hw/board"
	"tidegate/hw/board/simboard"
)

// protocols are the drivers there are.
var protocols = map[string]profile.Attach{
	profile.Modbus: modbus.Attach,
	profile.NMEA:   serialline.Attach,
	profile.JSON:   serialline.Attach,
	profile.CSV:    serialline.Attach,
}

// wire makes the manager of what is wired to the box, and with --dev the simulated
// field bus that it reads like a real one.
func (n *Node) wire() (err error) {
	resolve := board.Detect().Resolve
	if n.cfg.Dev {
		sim, err := simboard.Open(n.Clock)
		if err != nil {
			return err
		}
		n.group.OnStop("simulated ports", sim.Close)
		n.group.Add("simulated field bus", sim.Run)
		real := resolve
		resolve = func(port string) (string, error) {
			if strings.HasPrefix(port, "sim:") {
				return sim.Resolve(port)
			}
			return real(port)
		}
	}
	n.manager, err = manager.New(protocols, manager.Host{Resolve: resolve}, n.health, n.Clock, n.Log, n.cfg.Devices)
	return err
}

// devices gives every device with its last readings.
func (n *Node) devices() []localclient.Device {
	ds := []localclient.Device{}
	for _, s := range n.manager.Snapshot() {
		d := localclient.Device{Name: s.Name, Thing: s.Thing, Profile: s.Profile, Bus: s.Bus, Port: s.Port, State: s.State, Error: s.Problem,
			LastGood: s.LastGood, Readings: []localclient.Reading{}}
		for _, p := range s.Points {
			if p.At == nil {
				continue
			}
			d.Readings = append(d.Readings, localclient.Reading{Point: p.Name, Group: p.Group, Value: valueJSON(p.Value), Unit: string(p.Unit), Quality: p.Quality, At: *p.At})
		}
		ds = append(ds, d)
	}
	return ds
}

// testDevice reads a device now.
func (n *Node) testDevice(ctx context.Context, name string) ([]localclient.Reading, error) {
	rs, err := n.manager.Test(ctx, name)
	if err != nil {
		return nil, err
	}
	units := map[string]devices.Unit{}
	for _, s := range n.manager.Snapshot() {
		if s.Name == name {
			for _, p := range s.Points {
				units[p.Name] = p.Unit
			}
		}
	}
	out := []localclient.Reading{}
	for _, r := range rs {
		out = append(out, localclient.Reading{Point: r.Point, Value: valueJSON(r.Value), Unit: string(units[r.Point]), Quality: r.Quality.String(), At: r.At})
	}
	return out, nil
}

func valueJSON(v devices.Value) json.RawMessage { return v.AppendJSON(nil) }
