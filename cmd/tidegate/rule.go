package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"tidegate/gateway/fault"
	"tidegate/gateway/localapi/localclient"
)

// ruleCmd looks at the rules. They come from the configuration, which SIGHUP reads again.
func ruleCmd(w *world) *cobra.Command {
	ls, show := &asking{w: w}, &asking{w: w}
	return group("rule", "what follows from messages",
		ls.flags(&cobra.Command{Use: "ls", Short: "list the rules of the configuration and what they have done", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				rs, err := ls.client().Rules(c.Context())
				if err != nil {
					return err
				}
				return ls.print(rs, func() {
					var rows [][]string
					for _, r := range rs {
						rows = append(rows, []string{r.Name, ruleState(r), strconv.FormatUint(r.Matched, 10), strconv.FormatUint(r.Passed, 10),
							strconv.FormatUint(r.Failed+r.ActionsFailed, 10), orDash(r.Topic)})
					}
					ls.table("RULE STATE MATCHED PASSED FAILED TOPIC", rows)
				})
			}}),
		show.flags(&cobra.Command{Use: "show NAME", Short: "show a rule", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				rs, err := show.client().Rules(c.Context())
				if err != nil {
					return err
				}
				i := slices.IndexFunc(rs, func(r localclient.Rule) bool { return r.Name == args[0] })
				if i < 0 {
					return fault.New(fault.NotFound, "no rule is called %q; `tidegate rule ls` lists them, and the configuration is where they are written", args[0])
				}
				return show.print(rs[i], func() { show.rule(rs[i]) })
			}}))
}

func ruleState(r localclient.Rule) string {
	if r.Disabled {
		return "disabled"
	}
	return "enabled"
}

func (a *asking) rule(r localclient.Rule) {
	a.facts("rule", r.Name, "description", orDash(r.Description), "state", ruleState(r), "statement", r.SQL)
	for _, what := range r.Actions {
		a.facts("action", what)
	}
	a.facts("error action", orDash(r.ErrorAction),
		"messages", fmt.Sprintf("%d looked at, %d selected, %d failed", r.Matched, r.Passed, r.Failed),
		"actions", fmt.Sprintf("%d taken, %d of them failed", r.Taken, r.ActionsFailed))
}
