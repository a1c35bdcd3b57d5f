package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tidegate/gateway/localapi/localclient"
)

// statusCmd shows the health of every part on one screen and exits with 1 when
// something is unhealthy.
func statusCmd(w *world) *cobra.Command {
	a := &asking{w: w}
	return a.flags(&cobra.Command{Use: "status", Short: "show how everything is; exit 1 when something is unhealthy", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.client().Status(c.Context())
			if err != nil {
				return err
			}
			if err := a.print(s, func() { a.screen(s) }); err != nil {
				return err
			}
			if !s.Healthy {
				return errSilent
			}
			return nil
		}})
}

func (a *asking) screen(s localclient.Status) {
	word := "healthy"
	switch {
	case s.Dead != "":
		word = "DEAD: " + s.Dead
	case !s.Ready:
		word = "starting or stopping"
	case !s.Healthy:
		word = "UNHEALTHY"
	}
	out := a.w.out
	fmt.Fprintf(out, "tidegate %s, pid %d, up %s: %s\n", s.Version.Version, s.PID, ago(s.Now, s.Started), word)
	for _, w := range s.Warnings {
		mark := '!'
		if w.Minor {
			mark = '-' // worth knowing, and no reason to be unhealthy
		}
		fmt.Fprintf(out, "%c %s (%s, %s)\n", mark, w.Text, w.Code, ago(s.Now, w.Since))
	}
	var ls []string
	for _, name := range slices.Sorted(maps.Keys(s.Listeners)) {
		ls = append(ls, name+" "+s.Listeners[name])
	}
	fmt.Fprintf(out, "\nlistening  %s\n", strings.Join(ls, ", "))
	fmt.Fprintf(out, "clients    %d connected\n", s.Clients)
	fmt.Fprintf(out, "data       %s: %s used, %s free\n", s.Data, size(s.Store.Bytes), size(s.Store.Free))
	fmt.Fprintf(out, "journal    %d messages so far, %s on disk, %d losses in the ledger\n", s.Journal.Next-1, size(s.Journal.Bytes), s.Journal.Losses)
	if s.Vault == "file" {
		fmt.Fprintln(out, "keys       software keys, in files of mode 0600: there is no TPM in use")
	} else {
		fmt.Fprintf(out, "keys       %s\n", s.Vault)
	}
	if !s.Clock {
		fmt.Fprintf(out, "clock      %s is not trusted: no time source has confirmed it\n", s.Now.Format("2006-01-02 15:04:05"))
	}
	if len(s.Upstreams) > 0 {
		fmt.Fprintln(out)
		a.upstreams(s.Upstreams)
	}
	if len(s.Devices) > 0 {
		fmt.Fprintln(out)
		a.devices(s.Devices)
	}
}
