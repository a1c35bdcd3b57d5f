package node

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"

	"tidegate/devices"
	"tidegate/devices/drivers/gpioline"
	"tidegate/devices/drivers/i2cdev"
	"tidegate/devices/drivers/modbus"
	"tidegate/devices/drivers/serialline"
	"tidegate/devices/manager"
	"tidegate/devices/profile"
	"tidegate/gateway/localapi/localclient"
	"tidegate/gateway/logs"
	"tidegate/hw/board"
	"tidegate/hw/board/simboard"
	"tidegate/hw/gpio"
	"tidegate/hw/i2c"
)

// protocols are the drivers there are.
var protocols = map[string]profile.Attach{
	profile.Modbus: modbus.Attach,
	profile.NMEA:   serialline.Attach,
	profile.JSON:   serialline.Attach,
	profile.CSV:    serialline.Attach,
	profile.I2C:    i2cdev.Attach,
	profile.GPIO:   gpioline.Attach,
}

// wire makes the manager of what is wired to the box, and with --dev the simulated
// field bus that it reads like a real one.
func (n *Node) wire() (err error) {
	host := manager.Host{Resolve: board.Detect().Resolve}
	if n.cfg.Dev {
		sim, err := simboard.Open(n.Clock)
		if err != nil {
			return err
		}
		n.group.OnStop("simulated ports", sim.Close)
		n.group.Add("simulated field bus", sim.Run)
		host = manager.Host{Resolve: either(sim.Resolve, host.Resolve), I2C: either(sim.OpenI2C, i2c.Open), GPIO: either(sim.OpenGPIO, gpio.Open)}
	}
	n.manager, err = manager.New(protocols, host, n.health, n.Clock, n.Log, n.cfg.Devices)
	return err
}

// registerWired has what is wired to the box be things. One that cannot be registered, as the
// disk is full, keeps nobody from reading it. The devices that --dev simulates unasked are left
// out: nobody wired them, and who tries things out begins with an empty registry.
func (n *Node) registerWired(ctx context.Context, ready func()) error {
	names := n.cfg.Devices.Things()
	if n.cfg.Dev && reflect.DeepEqual(n.cfg.Devices.Buses, manager.SimulatedConfig().Buses) {
		names = nil
	}
	if err := n.registry.Wired(names); err != nil {
		n.Log.Warn("wired devices are not all registered as things", logs.Err(err))
	}
	ready()
	<-ctx.Done()
	return nil
}

// either opens what is called sim: on the simulated board and the rest on the real one.
func either[T any](sim, real func(string) (T, error)) func(string) (T, error) {
	return func(name string) (T, error) {
		if strings.HasPrefix(name, "sim:") {
			return sim(name)
		}
		return real(name)
	}
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
