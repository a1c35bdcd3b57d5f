package main

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidegate/gateway/localapi/localclient"
)

// upstreamCmd looks at the ways up.
func upstreamCmd(w *world) *cobra.Command {
	ls := &asking{w: w}
	rm := &asking{w: w}
	var yes bool
	rmCmd := rm.dataFlag(&cobra.Command{Use: "rm NAME", Short: "give up what waits for an upstream that is no longer configured", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if !yes && !confirm(w, fmt.Sprintf("Give up every message that waits for upstream %s?", args[0])) {
				return fmt.Errorf("nothing was done")
			}
			return rm.client().ForgetUpstream(c.Context(), args[0])
		}})
	rmCmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return group("upstream", "where messages go up to",
		ls.flags(&cobra.Command{Use: "ls", Short: "show the state of each upstream", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				us, err := ls.client().Upstreams(c.Context())
				if err != nil {
					return err
				}
				return ls.print(us, func() { ls.upstreams(us) })
			}}), rmCmd)
}

// confirm asks on standard error and takes y or yes from standard input.
func confirm(w *world, question string) bool {
	fmt.Fprint(w.errOut, question+" [y/N] ")
	answer, _ := bufio.NewReader(w.in).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

func (a *asking) upstreams(us []localclient.Upstream) {
	var rows [][]string
	for _, u := range us {
		state := u.State
		if u.Error != "" {
			state += ": " + u.Error
		}
		rows = append(rows, []string{u.Name, u.URL, strconv.FormatUint(u.Sent, 10), strconv.FormatUint(u.Lag, 10),
			strconv.FormatUint(u.Received, 10), strconv.FormatUint(u.Lost, 10), ago(time.Now(), u.Since), state})
	}
	a.table("UPSTREAM URL SENT WAITING RECEIVED LOST SINCE STATE", rows)
}
