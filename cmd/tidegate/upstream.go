package main

import (
	"bufio"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidegate/gateway/fault"
	"tidegate/gateway/localapi/localclient"
)

// upstreamCmd looks at the ways up.
func upstreamCmd(w *world) *cobra.Command {
	ls := &asking{w: w}
	show := &asking{w: w}
	rm := &asking{w: w}
	rmCmd := rm.yesFlag(&cobra.Command{Use: "rm NAME", Short: "give up what waits for an upstream that is no longer configured", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := rm.sure("Give up every message that waits for upstream %s?", args[0]); err != nil {
				return err
			}
			return rm.client().ForgetUpstream(c.Context(), args[0])
		}})
	return group("upstream", "where messages go up to",
		ls.flags(&cobra.Command{Use: "ls", Short: "show the state of each upstream", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				us, err := ls.client().Upstreams(c.Context())
				if err != nil {
					return err
				}
				return ls.print(us, func() { ls.upstreams(us) })
			}}),
		show.flags(&cobra.Command{Use: "show NAME", Short: "show an upstream with all its numbers", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				us, err := show.client().Upstreams(c.Context())
				if err != nil {
					return err
				}
				i := slices.IndexFunc(us, func(u localclient.Upstream) bool { return u.Name == args[0] })
				if i < 0 {
					return fault.New(fault.NotFound, "no upstream is called %q; `tidegate upstream ls` lists them", args[0])
				}
				return show.print(us[i], func() { show.upstream(us[i]) })
			}}), rmCmd)
}

func (a *asking) upstream(u localclient.Upstream) {
	a.facts("upstream", u.Name, "url", u.URL, "state", u.State+" since "+u.Since.Local().Format("2006-01-02 15:04:05"), "error", orDash(u.Error),
		"waiting", fmt.Sprintf("%d messages, %d of them sent and not acknowledged", u.Lag, u.InFlight),
		"sent", fmt.Sprintf("%d messages, %s", u.Sent, size(int64(u.BytesOut))),
		"received", fmt.Sprintf("%d messages, %s; %d could not be taken", u.Received, size(int64(u.BytesIn)), u.Dropped),
		"lost", fmt.Sprintf("%d messages that were gone before they could be sent", u.Lost),
		"connections", strconv.FormatUint(u.Connects, 10))
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
