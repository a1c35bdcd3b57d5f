package profile

import (
	"time"

	"tidegate/devices"
)

// climate is of Bosch's sensors: BST-BME280-DS002, BST-BMP280-DS001, BST-BMP180-DS000. All
// listen at 0x77, and most breakout boards of the first two at 0x76.
func climate(chip, title string, address int) func() Profile {
	return func() Profile {
		p := Profile{Title: title, Protocol: I2C, Group: "climate", Address: address, Chip: chip}
		for _, q := range Chips[chip] {
			unit := map[string]devices.Unit{"temperature": devices.Celsius, "pressure": devices.HectoPascal, "humidity": devices.Percent}[q]
			p.Points = append(p.Points, Point{Name: q, Quantity: q, Unit: unit})
		}
		return p
	}
}

// sht31 is by Sensirion's "Datasheet SHT3x-DIS" 6: single shot, high repeatability, no clock
// stretching (4.3, 15 ms), conversion of 4.13. Of SHT30 and SHT35, too.
func sht31() Profile {
	const command, wait = Bytes("\x24\x00"), 16 * time.Millisecond
	return Profile{Title: "Sensirion SHT3x temperature and humidity sensor", Protocol: I2C, Group: "climate", Address: 0x44, Check: Sensirion, Points: []Point{
		{Name: "temperature", Command: command, Wait: wait, Scale: 175.0 / 65535, Offset: -45, Unit: devices.Celsius},
		{Name: "humidity", Command: command, Wait: wait, At: 3, Scale: 100.0 / 65535, Unit: devices.Percent}}}
}

// ads1115 is by "ADS111x", SBAS444E, 8.1: one conversion of each input against ground,
// ±4.096 V, 128 a second. Of ADS1113 and ADS1114 the first input alone.
func ads1115() Profile {
	p := Profile{Title: "ADS1115 analog inputs", Protocol: I2C, Group: "analog", Address: 0x48}
	for i := range byte(4) {
		p.Points = append(p.Points, Point{Name: "a" + string(rune('0'+i)), Command: Bytes([]byte{0x01, 0xC3 + i<<4, 0x83}), Wait: 9 * time.Millisecond,
			Read: "\x00", Type: "i16", Scale: 0.000125, Unit: devices.Volt})
	}
	return p
}

// tmp102 is by "TMP102", SBOS397H, 7.5: twelve bits at the top of register 0.
func tmp102() Profile {
	return Profile{Title: "TMP102 temperature sensor", Protocol: I2C, Group: "climate", Address: 0x48, Points: []Point{
		{Name: "temperature", Read: "\x00", Type: "i16", Shift: 4, Scale: 0.0625, Unit: devices.Celsius}}}
}

// Addresses gives those that the chips of a built-in profile can be set to by a pin, by the
// one it has when none is given (the datasheets named above).
func Addresses(usual int) []int {
	switch usual {
	case 0x76, 0x77:
		return []int{0x76, 0x77}
	case 0x44:
		return []int{0x44, 0x45}
	case 0x48:
		return []int{0x48, 0x49, 0x4A, 0x4B}
	}
	return []int{usual}
}
