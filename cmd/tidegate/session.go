package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"tidegate/gateway/localapi/localclient"
)

// sessionCmd looks at the clients of the broker.
func sessionCmd(w *world) *cobra.Command {
	ls, show, rm := &asking{w: w}, &asking{w: w}, &asking{w: w}
	var away bool
	lsCmd := ls.flags(&cobra.Command{Use: "ls", Short: "list the clients that are connected, or away with a session", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ss, err := ls.client().Sessions(c.Context())
			if err != nil {
				return err
			}
			kept := []localclient.Session{}
			for _, s := range ss {
				if !away || !s.Connected {
					kept = append(kept, s)
				}
			}
			return ls.print(kept, func() {
				var rows [][]string
				for _, s := range kept {
					rows = append(rows, []string{s.Client, sessionState(s) + lost(s), ago(time.Now(), s.Since), orDash(s.Address), strconv.Itoa(len(s.Subscriptions)), short(s.Principal)})
				}
				ls.table("CLIENT STATE SINCE ADDRESS FILTERS PRINCIPAL", rows)
			})
		}})
	lsCmd.Flags().BoolVar(&away, "away", false, "only those that are away")
	return group("session", "the clients of the broker", lsCmd,
		show.flags(&cobra.Command{Use: "show CLIENT", Short: "show a client with its subscriptions", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				s, err := show.client().Session(c.Context(), args[0])
				if err != nil {
					return err
				}
				return show.print(s, func() { show.session(s) })
			}}),
		rm.yesFlag(&cobra.Command{Use: "rm CLIENT", Short: "disconnect a client and forget its session", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				if err := rm.sure("Disconnect %s and forget its subscriptions and what waits for it?", args[0]); err != nil {
					return err
				}
				return rm.client().EndSession(c.Context(), args[0])
			}}))
}

// lost tells in a word what a session did not get, empty when there is nothing.
func lost(s localclient.Session) string {
	switch {
	case len(s.Gaps) == 0:
		return ""
	case s.Lost == 0:
		return ", has a gap"
	}
	return fmt.Sprintf(", lost %d", s.Lost)
}

func sessionState(s localclient.Session) string {
	switch {
	case s.Connected && s.Behind:
		return "catching up"
	case s.Connected:
		return "connected"
	}
	return "away"
}

// short cuts the id of a certificate to what tells it apart.
func short(principal string) string {
	if len(principal) == 64 {
		return principal[:12] + "…"
	}
	return orDash(principal)
}

func (a *asking) session(s localclient.Session) {
	a.facts("client", s.Client, "principal", orDash(s.Principal), "state", sessionState(s)+" since "+s.Since.Local().Format("2006-01-02 15:04:05"),
		"address", orDash(s.Address), "MQTT", map[int]string{3: "3.1.1", 5: "5"}[s.Version], "keep alive", strconv.FormatInt(s.KeepAlive, 10)+" s")
	if s.Persistent {
		until := "for ever"
		if s.Expires != nil {
			until = "until " + s.Expires.Local().Format("2006-01-02 15:04:05")
		}
		a.facts("kept", until)
	}
	a.facts("waiting", fmt.Sprintf("%d sent and not acknowledged, %d in memory (%s)", s.Unacked, s.Queued, size(int64(s.QueuedBytes))))
	if s.Behind {
		a.facts("reads", "the journal from message "+strconv.FormatUint(s.Position, 10))
	}
	for _, g := range s.Gaps {
		count := fmt.Sprintf("%d messages", g.Count)
		if g.Count == 0 {
			count = fmt.Sprintf("at most %d messages", g.To-g.From+1)
		}
		a.facts("lost", fmt.Sprintf("%s, journal numbers %d to %d, %s: %s", count, g.From, g.To, g.At.Local().Format("2006-01-02 15:04:05"), g.Why))
	}
	for _, f := range s.Subscriptions {
		a.facts("subscription", fmt.Sprintf("%s at QoS %d", f.Filter, f.QoS))
	}
}
