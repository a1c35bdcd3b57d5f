package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// versionCmd says what was built, from what and when.
func versionCmd(w *world) *cobra.Command {
	a := &asking{w: w}
	c := &cobra.Command{Use: "version", Short: "print version, commit and build date", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := build()
			return a.print(v, func() {
				fmt.Fprintf(w.out, "tidegate %s (commit %s, built %s, %s)\n", v.Version, v.Commit, v.Date, v.Go)
			})
		}}
	c.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return c
}
