package profile

import (
	"cmp"
	"maps"
	"slices"

	"tidegate/devices"
)

// Builtin gives a copy of the built-in profile of that name.
func Builtin(name string) (Profile, bool) {
	make, ok := builtin[name]
	if !ok {
		return Profile{}, false
	}
	return make(), true
}

// Builtins lists the names of the built-in profiles in order, those of serial devices first.
func Builtins() []string {
	names := slices.Sorted(maps.Keys(builtin))
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(onBoard(a), onBoard(b)) })
	return names
}

func onBoard(name string) int {
	if p := builtin[name](); p.Protocol == I2C || p.Protocol == GPIO {
		return 1
	}
	return 0
}

var builtin = map[string]func() Profile{
	"nmea0183":       func() Profile { return Profile{Title: "NMEA 0183 talker", Protocol: NMEA} },
	"eastron-sdm120": sdm120,
	"pzem-004t":      pzem004t,
	"xy-md02":        xymd02,
	"relay-8":        relay8,
	"bme280":         climate("bme280", "Bosch BME280 climate sensor", 0x76),
	"bmp280":         climate("bmp280", "Bosch BMP280 pressure sensor", 0x76),
	"bmp180":         climate("bmp180", "Bosch BMP180 pressure sensor", 0x77),
	"sht31":          sht31,
	"ads1115":        ads1115,
	"tmp102":         tmp102,
	"sim-plc":        simPLC,
	"sim-weather":    simWeather,
}

func at(t Table, address uint16) Register { return Register{Table: t, Address: address} }

// sdm120 is by "Eastron SDM120 Modbus Protocol V2.4": floats in input registers, high word first.
func sdm120() Profile {
	f := func(name string, address uint16, unit devices.Unit, group string) Point {
		return Point{Name: name, Register: at(Input, address), Type: "f32", Unit: unit, Group: group}
	}
	return Profile{Title: "Eastron SDM120 energy meter", Protocol: Modbus, Points: []Point{
		f("voltage", 0, devices.Volt, "power"), f("current", 6, devices.Ampere, "power"), f("power", 12, devices.Watt, "power"),
		f("apparent_power", 18, devices.VoltAmpere, "power"), f("reactive_power", 24, devices.VAReactive, "power"),
		f("power_factor", 30, "", "power"), f("frequency", 70, devices.Hertz, "power"),
		f("energy_import", 72, devices.KiloWattH, "energy"), f("energy_export", 74, devices.KiloWattH, "energy"),
		f("energy_total", 342, devices.KiloWattH, "energy")}}
}

// pzem004t is by Peacefair's "PZEM-004T V3.0 user manual": low word first.
func pzem004t() Profile {
	return Profile{Title: "Peacefair PZEM-004T v3 energy meter", Protocol: Modbus, Points: []Point{
		{Name: "voltage", Register: at(Input, 0), Scale: 0.1, Unit: devices.Volt, Group: "power"},
		{Name: "current", Register: at(Input, 1), Type: "u32", Order: "CDAB", Scale: 0.001, Unit: devices.Ampere, Group: "power"},
		{Name: "power", Register: at(Input, 3), Type: "u32", Order: "CDAB", Scale: 0.1, Unit: devices.Watt, Group: "power"},
		{Name: "energy", Register: at(Input, 5), Type: "u32", Order: "CDAB", Unit: devices.WattHour, Group: "energy"},
		{Name: "frequency", Register: at(Input, 7), Scale: 0.1, Unit: devices.Hertz, Group: "power"},
		{Name: "power_factor", Register: at(Input, 8), Scale: 0.01, Group: "power"}}}
}

// xymd02 is by the leaflet that comes with the sensor.
func xymd02() Profile {
	return Profile{Title: "XY-MD02 temperature and humidity sensor (SHT20)", Protocol: Modbus, Group: "climate", Points: []Point{
		{Name: "temperature", Register: at(Input, 1), Type: "i16", Scale: 0.1, Unit: devices.Celsius},
		{Name: "humidity", Register: at(Input, 2), Scale: 0.1, Unit: devices.Percent}}}
}

// relay8 is what the common 8-channel RS-485 relay boards have: coils 0 to 7.
func relay8() Profile {
	p := Profile{Title: "8-channel relay board", Protocol: Modbus, Group: "relays"}
	for i := range uint16(8) {
		p.Points = append(p.Points, Point{Name: "relay" + string(rune('1'+i)), Register: at(Coil, i), Writable: true, Safe: false})
	}
	return p
}

// simPLC is the Modbus device of the simulated field bus (hw/board/simboard).
func simPLC() Profile {
	return Profile{Title: "Simulated pump controller", Protocol: Modbus, Group: "process", Points: []Point{
		{Name: "pump", Title: "Pump relay", Register: at(Coil, 0), Writable: true, Safe: false, Group: "control"},
		{Name: "setpoint", Title: "Temperature wanted", Register: at(Holding, 0), Type: "i16", Scale: 0.1, Unit: devices.Celsius,
			Writable: true, Min: 5, Max: 80, Group: "control"},
		{Name: "temperature", Register: at(Input, 0), Type: "i16", Scale: 0.1, Unit: devices.Celsius},
		{Name: "pressure", Register: at(Input, 1), Type: "f32", Unit: devices.Bar},
		{Name: "flow", Register: at(Input, 3), Scale: 0.01, Unit: devices.LitrePerS},
		{Name: "running_hours", Register: at(Input, 4), Type: "u32", Unit: "h"},
		{Name: "door_open", Register: at(Discrete, 0), OnChange: true, Group: "control"}}}
}

// simWeather is the JSON sensor of the simulated field bus.
func simWeather() Profile {
	return Profile{Title: "Simulated weather sensor", Protocol: JSON, Group: "air", Points: []Point{
		{Name: "temperature", Path: "temp", Unit: devices.Celsius},
		{Name: "humidity", Path: "hum", Unit: devices.Percent},
		{Name: "pressure", Path: "baro.hpa", Unit: devices.HectoPascal}}}
}
