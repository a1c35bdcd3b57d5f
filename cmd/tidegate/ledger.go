package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// ledgerCmd tells what could not be kept.
func ledgerCmd(w *world) *cobra.Command {
	a := &asking{w: w}
	var from string
	var max int
	c := a.flags(&cobra.Command{Use: "ledger", Short: "tell which messages were lost, when and why", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			start, err := since(from, time.Now())
			if err != nil {
				return err
			}
			if max < 1 {
				return misuse(fmt.Errorf("--max is %d, expected a number above 0", max))
			}
			ls, err := a.client().Ledger(c.Context(), start, max)
			if err != nil {
				return err
			}
			return a.print(ls, func() {
				var rows [][]string
				for _, l := range ls {
					rows = append(rows, []string{l.At.Local().Format("2006-01-02 15:04:05"), l.Queue, strconv.FormatUint(l.From, 10),
						strconv.FormatUint(l.To, 10), strconv.FormatUint(l.Count, 10), l.Why})
				}
				a.table("WHEN QUEUE FROM TO MESSAGES WHY", rows)
			})
		}})
	c.Flags().StringVar(&from, "since", "", "only since `WHEN`: 90s, 1h, 2d or a time as RFC 3339 has it")
	c.Flags().IntVar(&max, "max", 1000, "at most `N` entries, the newest")
	return c
}
