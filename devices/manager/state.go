package manager

import (
	"time"

	"tidegate/devices"
	"tidegate/gateway/metrics"
)

// DeviceState is a device as it stands, in the form that is shown.
type DeviceState struct {
	Name     string         `json:"name"`
	Thing    string         `json:"thing"`
	Bus      string         `json:"bus"`
	Port     string         `json:"port"`
	Unit     int            `json:"unit,omitempty"`
	Profile  string         `json:"profile"`
	State    string         `json:"state"`             // one of the State constants
	Problem  string         `json:"problem,omitempty"` // in words
	LastGood *time.Time     `json:"lastGood,omitempty"`
	Counts   devices.Counts `json:"counts"`
	Points   []PointState   `json:"points"`
}

// PointState is a point with its last reading.
type PointState struct {
	Name     string        `json:"name"`
	Group    string        `json:"group"`
	Title    string        `json:"title,omitempty"`
	Unit     devices.Unit  `json:"unit,omitempty"`
	Writable bool          `json:"writable,omitempty"`
	Value    devices.Value `json:"value"`
	Quality  string        `json:"quality,omitempty"` // empty before the first reading
	At       *time.Time    `json:"at,omitempty"`
}

// Snapshot gives every device in the order of the configuration.
func (m *Manager) Snapshot() []DeviceState {
	all := make([]DeviceState, len(m.devices))
	for i, d := range m.devices {
		all[i] = d.snapshot()
	}
	return all
}

func (d *device) snapshot() DeviceState {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := DeviceState{Name: d.name, Thing: d.thing, Bus: d.bus.name, Port: d.bus.cfg.Port, Unit: d.cfg.Unit, Profile: d.cfg.Profile, State: d.state,
		Problem: d.problem, LastGood: moment(d.lastGood), Counts: d.total(), Points: make([]PointState, len(d.points))}
	for i, p := range d.points {
		s.Points[i] = PointState{Name: p.Name, Group: p.Group, Title: p.Title, Unit: p.Unit, Writable: p.Writable, Value: p.last.Value, At: moment(p.last.At)}
		if !p.last.At.IsZero() {
			s.Points[i].Quality = p.last.Quality.String()
		}
	}
	return s
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Round(time.Millisecond) // drops the monotonic part
	return &t
}

// readings gives the last reading of every point that has one.
func (d *device) readings() []devices.Reading {
	d.mu.Lock()
	defer d.mu.Unlock()
	var rs []devices.Reading
	for _, p := range d.points {
		if !p.last.At.IsZero() {
			rs = append(rs, p.last)
		}
	}
	return rs
}

func (d *device) heardAt() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lastGood
}

// Metrics registers what the manager counts.
func (m *Manager) Metrics(s *metrics.Set) {
	s.Counter("tidegate_device_readings_total", "Readings taken from all devices.", func() float64 { return float64(m.readings.Load()) })
	s.Counter("tidegate_device_queue_replaced_total", "Readings that made room for newer ones before they were told.", func() float64 {
		_, n := m.queue.stats()
		return float64(n)
	})
	s.Gauge("tidegate_device_queue_waiting", "Readings on their way to be told.", func() float64 {
		n, _ := m.queue.stats()
		return float64(n)
	})
	for _, d := range m.devices {
		s.Gauge("tidegate_device_up", "1 while a device gives good answers.", func() float64 {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.state == StateGood {
				return 1
			}
			return 0
		}, "device", d.name, "bus", d.bus.name)
		for kind, read := range map[string]func(c devices.Counts) uint64{
			"good": func(c devices.Counts) uint64 { return c.Good }, "ignored": func(c devices.Counts) uint64 { return c.Ignored },
			"garbled": func(c devices.Counts) uint64 { return c.Garbled }, "silent": func(c devices.Counts) uint64 { return c.Silent },
			"refused": func(c devices.Counts) uint64 { return c.Refused }, "retried": func(c devices.Counts) uint64 { return c.Retries }} {
			s.Counter("tidegate_device_answers_total", "Answers and lines of a device, by what became of them.",
				func() float64 { return float64(read(d.now())) }, "device", d.name, "bus", d.bus.name, "result", kind)
		}
	}
}
