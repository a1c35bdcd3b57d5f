package scan

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"tidegate/devices/profile"
	"tidegate/hw/i2c"
)

// Address is one that answers on an I²C bus, or that a driver of the kernel has.
type Address struct {
	Address  string   `json:"address"`            // 0x76
	Driver   string   `json:"driver,omitempty"`   // of the kernel, which has it; it was not asked
	Profiles []string `json:"profiles,omitempty"` // built-in profiles of chips that are mostly there
}

// Addresses asks who is on a bus, as i2cdetect does: every address that no driver of the
// kernel has is sent once, without data but for a byte that is read where an EEPROM may be.
// An error is the bus's, ErrStuck mostly; what was found before it is returned as well.
func Addresses(ctx context.Context, bus *i2c.Bus, claimed map[uint16]string) (found []Address, err error) {
	for a := i2c.First; a <= i2c.Last; a++ {
		f := Address{Address: fmt.Sprintf("0x%02x", a), Driver: claimed[a]}
		if f.Driver == "" {
			answers, err := bus.Probe(ctx, a)
			if errors.Is(err, i2c.ErrStuck) && len(found) > 0 {
				continue // it is one chip that holds its clock
			} else if err != nil {
				return found, err
			} else if !answers {
				continue
			}
			f.Profiles = likely(a)
		}
		found = append(found, f)
	}
	return found, nil
}

// likely names the built-in profiles of chips that can have that address.
func likely(a uint16) (names []string) {
	for _, name := range profile.Builtins() {
		if p, _ := profile.Builtin(name); p.Protocol == profile.I2C && slices.Contains(profile.Addresses(p.Address), int(a)) {
			names = append(names, name)
		}
	}
	return names
}
