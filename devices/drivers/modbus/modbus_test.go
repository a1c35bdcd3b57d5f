package modbus_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidegate/devices"
	"tidegate/devices/devicestest"
	"tidegate/devices/drivers/modbus"
	"tidegate/devices/profile"
)

func reg(t profile.Table, address uint16) profile.Register {
	return profile.Register{Table: t, Address: address}
}

// heatPump has a point of every table and both ways to write.
func heatPump() *profile.Profile {
	return &profile.Profile{Protocol: profile.Modbus, Points: []profile.Point{
		{Name: "supply", Register: reg(profile.Input, 10), Type: "i16", Scale: 0.1, Unit: "°C"},
		{Name: "power", Register: reg(profile.Input, 12), Type: "f32", Order: "CDAB", Unit: "W"},
		{Name: "hours", Register: reg(profile.Input, 14), Type: "u32", Unit: "h"},
		{Name: "alarm", Register: reg(profile.Discrete, 3)},
		{Name: "pump", Register: reg(profile.Coil, 5), Writable: true, Safe: false},
		{Name: "setpoint", Register: reg(profile.Holding, 20), Type: "i16", Scale: 0.1, Unit: "°C", Writable: true, Min: -40, Max: 80, Safe: -2.5},
		{Name: "limit", Register: reg(profile.Holding, 30), Type: "f32", Writable: true},
		{Name: "label", Register: reg(profile.Holding, 40), Type: "string", Length: 4, Writable: true}}}
}

func TestAgainstAnIndependentSlave(t *testing.T) {
	link, wire := line(t, profile.Line{})
	s := startPeer(t, wire, 1, 17)
	boiler, other := device(t, link, 1, heatPump()), device(t, link, 17, heatPump())
	s.set(1, "ir", 10, 0xFFEC, 0, 0x0000, 0x42C9, 1, 2) // -2.0; 100.5 with the low word first; 65538
	s.set(1, "di", 3, 1)
	s.set(1, "hr", 20, 215)
	s.set(1, "hr", 40, 0x4162, 0x6300, 0, 0)
	s.set(17, "ir", 10, 333)
	got, err := boiler.Sample(t.Context(), nil)
	if want := `pump=false good; alarm=true good; setpoint=21.5 good; limit=0 good; label="Abc" good; supply=-2 good; power=100.5 good; hours=65538 good`; err != nil || values(got) != want {
		t.Errorf("got  %s, %v\nwant %s", values(got), err, want)
	}
	if got, err := other.SampleOf(t.Context(), []string{"supply"}, nil); err != nil || values(got) != "supply=33.3 good" {
		t.Errorf("unit 17: %s, %v", values(got), err)
	}
	for _, w := range []struct {
		point string
		v     devices.Value
		want  string // what is read back
		table string
		at, n int
		holds string // at the slave
	}{
		{"pump", devices.Bool(true), "true", "co", 4, 3, "0 1 0"},
		{"setpoint", devices.Float(-12.3), "-12.3", "hr", 19, 3, "0 65413 0"},
		{"setpoint", devices.Float(21.46), "21.5", "hr", 20, 1, "215"}, // the nearest step
		{"limit", devices.Float(-0.75), "-0.75", "hr", 30, 2, "48960 0"},
		{"label", devices.Text("Kessel"), `"Kessel"`, "hr", 40, 4, "19301 29555 25964 0"},
	} {
		got, err := boiler.Write(t.Context(), w.point, w.v)
		if err != nil || got.String() != w.want {
			t.Errorf("%s set to %v reads back as %v, %v", w.point, w.v, got, err)
		}
		if holds := s.get(1, w.table, w.at, w.n); holds != w.holds {
			t.Errorf("%s set to %v: the slave holds %s, want %s", w.point, w.v, holds, w.holds)
		}
	}
	if c := boiler.Counts(); c.Garbled+c.Silent+c.Refused+c.Retries != 0 || c.Good == 0 {
		t.Errorf("counts %+v", c)
	}
	if got, err := device(t, link, 2, heatPump()).Sample(t.Context(), nil); !errors.Is(err, devices.ErrSilent) || len(got) != 0 {
		t.Errorf("a unit that is not there: %v, %v", got, err)
	}
}

func TestDevicesThatWantTheFunctionsForSeveral(t *testing.T) {
	link, wire := line(t, profile.Line{})
	s := startPeer(t, wire, 1)
	p := heatPump()
	p.WriteMultiple = true
	d := device(t, link, 1, p)
	if v, err := d.Write(t.Context(), "pump", devices.Bool(true)); err != nil || v != devices.Bool(true) || s.get(1, "co", 5, 1) != "1" {
		t.Errorf("pump: %v, %v", v, err)
	}
	if v, err := d.Write(t.Context(), "setpoint", devices.Int(5)); err != nil || v != devices.Float(5) || s.get(1, "hr", 20, 1) != "50" {
		t.Errorf("setpoint: %v, %v", v, err)
	}
}

func TestARefusedBlockIsAskedForInPieces(t *testing.T) {
	link, wire := line(t, profile.Line{})
	s := startPeer(t, wire, 1) // has registers 0 to 199
	s.set(1, "hr", 190, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	p := &profile.Profile{Protocol: profile.Modbus}
	for _, at := range []uint16{190, 191, 198, 199, 200, 204} {
		p.Points = append(p.Points, profile.Point{Name: "r" + strconv.Itoa(int(at)), Register: reg(profile.Holding, at)})
	}
	d := device(t, link, 1, p)
	for i, asked := range []uint64{10, 6} { // the second time the plan is known
		before := d.Counts()
		got, err := d.Sample(t.Context(), nil)
		want := "r190=1 good; r191=2 good; r198=9 good; r199=10 good; r200=null bad; r204=null bad"
		if err != nil || values(got) != want {
			t.Errorf("got  %s, %v\nwant %s", values(got), err, want)
		}
		c := d.Counts()
		if n := c.Good + c.Refused - before.Good - before.Refused; n > asked {
			t.Errorf("round %d took %d questions, want at most %d", i+1, n, asked)
		}
	}
}

func TestNeighboursTravelTogether(t *testing.T) {
	link, wire := line(t, profile.Line{})
	var asked []string
	hear(t, wire, func(q []byte) []byte {
		n := int(q[4])<<8 | int(q[5])
		asked = append(asked, strconv.Itoa(int(q[1]))+" "+strconv.Itoa(int(q[2])<<8|int(q[3]))+"+"+strconv.Itoa(n))
		bytes := 2 * n
		if q[1] <= 2 {
			bytes = (n + 7) / 8
		}
		return frame(append([]byte{q[0], q[1], byte(bytes)}, make([]byte, bytes)...)...)
	})
	p := &profile.Profile{Protocol: profile.Modbus}
	add := func(name string, r profile.Register, kind string) {
		p.Points = append(p.Points, profile.Point{Name: name, Register: r, Type: kind})
	}
	for i := range uint16(130) { // more than one request can carry
		add("h"+strconv.Itoa(int(i)), reg(profile.Holding, 1000+i), "u16")
	}
	add("split", reg(profile.Holding, 1130), "u64") // stays in one piece
	add("near", reg(profile.Holding, 1140), "u16")  // 6 registers further
	add("far", reg(profile.Holding, 1150), "u16")   // 9 further
	add("c0", reg(profile.Coil, 0), "bool")
	add("c100", reg(profile.Coil, 100), "bool")
	add("c300", reg(profile.Coil, 300), "bool")
	d := device(t, link, 1, p)
	if got, err := d.Sample(t.Context(), nil); err != nil || len(got) != len(p.Points) {
		t.Errorf("%d readings, %v", len(got), err)
	}
	wire.Close()
	if got, want := strings.Join(asked, ", "), "1 0+101, 1 300+1, 3 1000+125, 3 1125+16, 3 1150+1"; got != want {
		t.Errorf("asked %s\nwant  %s", got, want)
	}
}

func TestUnitsOutOfRangeAndFramingsThatAreNone(t *testing.T) {
	link, _ := line(t, profile.Line{})
	for _, unit := range []int{0, 248, -1} {
		if _, err := link.Device(unit, heatPump()); err == nil || !strings.Contains(err.Error(), "expected 1 to 247") {
			t.Errorf("unit %d: %v", unit, err)
		}
	}
	if l, err := modbus.Attach(nil, profile.Line{Framing: "ascii"}); err == nil {
		l.Close()
		t.Error("ascii passed")
	}
}

func TestConformance(t *testing.T) {
	p := heatPump()
	where := map[string]struct {
		table string
		at, n int
	}{"pump": {"co", 5, 1}, "setpoint": {"hr", 20, 1}, "limit": {"hr", 30, 2}, "label": {"hr", 40, 4}}
	devicestest.Run(t, func(t *testing.T) devicestest.Rig {
		link, wire := line(t, profile.Line{Timeout: 200 * time.Millisecond, Retries: 1})
		s := startPeer(t, wire, 1)
		d := device(t, link, 1, p)
		return devicestest.Rig{
			Driver: d,
			Unplug: func() { wire.Close() },
			Mute:   s.mute,
			Values: map[string][2]devices.Value{"pump": {devices.Bool(false), devices.Bool(true)}, "setpoint": {devices.Float(-40), devices.Float(55.5)},
				"limit": {devices.Float(1.5), devices.Int(3)}, "label": {devices.Text(""), devices.Text("abcdefgh")}},
			Actual: func(point string) devices.Value {
				x := where[point]
				return decode(point, strings.Fields(s.get(1, x.table, x.at, x.n)))
			},
		}
	})
}

// BenchmarkSample asks an instant slave on a pty for one block of three points.
func BenchmarkSample(b *testing.B) {
	link, wire := line(b, profile.Line{})
	hear(b, wire, func(q []byte) []byte { return frame(1, 4, 12, 0, 215, 0, 0, 0, 0, 0x42, 0xC9, 0, 1, 0, 2) })
	p := heatPump()
	p.Points = p.Points[:3]
	d := device(b, link, 1, p)
	var rs []devices.Reading
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		var err error
		if rs, err = d.Sample(b.Context(), rs[:0]); err != nil {
			b.Fatal(err)
		}
	}
}
