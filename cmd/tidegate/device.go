package main

import (
	"github.com/spf13/cobra"

	"tidegate/gateway/localapi/localclient"
)

// deviceCmd looks at what is wired to the box.
func deviceCmd(w *world) *cobra.Command {
	ls := &asking{w: w}
	test := &asking{w: w}
	return group("device", "what is wired to the box",
		scanCmd(w),
		ls.flags(&cobra.Command{Use: "ls", Short: "show each device with its last readings", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				ds, err := ls.client().Devices(c.Context())
				if err != nil {
					return err
				}
				return ls.print(ds, func() { ls.devices(ds) })
			}}),
		test.flags(&cobra.Command{Use: "test NAME", Short: "read a device once, now", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				rs, err := test.client().TestDevice(c.Context(), args[0])
				if err != nil {
					return err
				}
				return test.print(rs, func() {
					var rows [][]string
					for _, r := range rs {
						rows = append(rows, []string{r.Point, string(r.Value), r.Unit, r.Quality})
					}
					test.table("POINT VALUE UNIT QUALITY", rows)
				})
			}}))
}

func (a *asking) devices(ds []localclient.Device) {
	var rows [][]string
	for _, d := range ds {
		state := d.State
		if d.Error != "" {
			state += ": " + d.Error
		}
		head := []string{d.Name, d.Profile, d.Bus, state}
		if len(d.Readings) == 0 {
			rows = append(rows, append(head, "-", "-", "-"))
		}
		for i, r := range d.Readings {
			if i > 0 {
				head = []string{"", "", "", ""}
			}
			value := string(r.Value)
			if r.Unit != "" {
				value += " " + r.Unit
			}
			rows = append(rows, append(head[:4:4], r.Point, value, r.Quality))
		}
	}
	a.table("DEVICE PROFILE BUS STATE POINT VALUE QUALITY", rows)
}
