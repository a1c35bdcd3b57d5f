package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tidegate/gateway/localapi/localclient"
)

// shadowCmd keeps what is desired and reported of the things.
func shadowCmd(w *world) *cobra.Command {
	return group("shadow", "what is desired and reported of the things", shadowLs(w), shadowShow(w), shadowSet(w), shadowRm(w), shadowLog(w))
}

func shadowLs(w *world) *cobra.Command {
	a := &asking{w: w}
	return a.flags(&cobra.Command{Use: "ls [THING]", Short: "list shadows", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			thing := ""
			if len(args) > 0 {
				thing = args[0]
			}
			ss, err := a.client().Shadows(c.Context(), thing)
			if err != nil {
				return err
			}
			return a.print(ss, func() {
				var rows [][]string
				for _, s := range ss {
					delta := "-"
					if s.Delta {
						delta = "yes"
					}
					rows = append(rows, []string{s.Thing, orDash(s.Name), strconv.FormatInt(s.Version, 10), delta})
				}
				a.table("THING SHADOW VERSION DELTA", rows)
			})
		}})
}

// nameFlag adds --name.
func nameFlag(c *cobra.Command, name *string) *cobra.Command {
	c.Flags().StringVar(name, "name", "", "a named shadow's `NAME`; without it the classic one")
	return c
}

func shadowShow(w *world) *cobra.Command {
	a := &asking{w: w}
	var name, at string
	var watch bool
	c := nameFlag(a.flags(&cobra.Command{Use: "show THING", Short: "show a shadow, as it is or --at a time as it was", Args: cobra.ExactArgs(1),
		Long: `Show a shadow. --at tells what it was at a time, from what the journal has kept.
--watch shows it again whenever it changes, until interrupted.`,
		RunE: func(c *cobra.Command, args []string) error {
			when, err := since(at, time.Now())
			if err != nil {
				return err
			}
			cl := a.client()
			s, err := cl.Shadow(c.Context(), args[0], name, when)
			if err != nil && (!watch || c.Context().Err() != nil) {
				return err
			}
			if err == nil {
				if err := a.print(s, func() { a.shadow(s) }); err != nil || !watch {
					return err
				}
			}
			return a.watchShadow(c.Context(), cl, args[0], name)
		}}), &name)
	c.Flags().StringVar(&at, "at", "", "what it was at a time: so long ago as 90s, 1h or 2d, or a `TIME` as RFC 3339 has it")
	c.Flags().BoolVar(&watch, "watch", false, "go on showing it whenever it changes")
	c.MarkFlagsMutuallyExclusive("at", "watch")
	return c
}

// watchShadow shows a shadow whenever it changes, until interrupted.
func (a *asking) watchShadow(ctx context.Context, cl *localclient.Client, thing, name string) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return cl.Tail(ctx, shadowTopic(thing, name)+"/update/documents", time.Time{}, func(localclient.Message) error {
		s, err := cl.Shadow(ctx, thing, name, time.Time{})
		if err != nil {
			return err
		}
		return a.print(s, func() { fmt.Fprintln(a.w.out); a.shadow(s) })
	})
}

// shadowTopic is where the messages about a shadow are.
func shadowTopic(thing, name string) string {
	t := "$aws/things/" + thing + "/shadow"
	if name != "" {
		t += "/name/" + name
	}
	return t
}

// shadow prints one.
func (a *asking) shadow(s localclient.Shadow) {
	version := "unknown"
	if s.Version > 0 {
		version = strconv.FormatInt(s.Version, 10)
	}
	a.facts("version", version)
	if s.Changed != nil {
		a.facts("changed", s.Changed.Local().Format("2006-01-02 15:04:05"), "by", orDash(s.By), "from", orDash(s.From))
	}
	a.document("state", s.State)
	a.document("delta", s.Delta)
}

// document prints JSON below a name, if there is any.
func (a *asking) document(name string, b json.RawMessage) {
	if len(b) == 0 {
		return
	}
	var v any
	text := string(b)
	if json.Unmarshal(b, &v) == nil {
		if nice, err := json.MarshalIndent(json.RawMessage(b), "", "  "); err == nil {
			text = string(nice)
		}
	}
	fmt.Fprintf(a.w.out, "%s\n%s\n", name, text)
}

func shadowSet(w *world) *cobra.Command {
	a := &asking{w: w}
	var name, desired, reported string
	c := nameFlag(a.dataFlag(&cobra.Command{Use: "set THING [REQUEST]", Short: "change a shadow", Args: cobra.RangeArgs(1, 2),
		Long: `Change a shadow: by --desired or --reported and a JSON object that is merged in (null
removes), or by a whole update request, such as {"state":{"desired":{"on":true}}}. A
REQUEST of - is read from standard input.`,
		Example: `  tidegate shadow set pump1 --desired '{"speed":40}'`,
		RunE: func(c *cobra.Command, args []string) error {
			request, err := shadowRequest(w.in, args[1:], desired, reported)
			if err != nil {
				return err
			}
			accepted, err := a.client().SetShadow(c.Context(), args[0], name, request)
			if err == nil {
				fmt.Fprintln(w.out, string(accepted))
			}
			return err
		}}), &name)
	c.Flags().StringVar(&desired, "desired", "", "what to merge into desired, as `JSON`")
	c.Flags().StringVar(&reported, "reported", "", "what to merge into reported, as `JSON`")
	return c
}

func shadowRequest(in io.Reader, args []string, desired, reported string) ([]byte, error) {
	given := desired != "" || reported != ""
	switch {
	case given == (len(args) > 0):
		return nil, misuse(fmt.Errorf("set it to what? give --desired or --reported, or an update request"))
	case !given && args[0] == "-":
		return io.ReadAll(in)
	case !given:
		return []byte(args[0]), nil
	}
	state := map[string]json.RawMessage{}
	for section, text := range map[string]string{"desired": desired, "reported": reported} {
		if text == "" {
			continue
		}
		if !json.Valid([]byte(text)) {
			return nil, misuse(fmt.Errorf("--%s is %q, expected JSON", section, text))
		}
		state[section] = json.RawMessage(text)
	}
	return json.Marshal(map[string]any{"state": state})
}

func shadowRm(w *world) *cobra.Command {
	a := &asking{w: w}
	var name string
	return nameFlag(a.yesFlag(&cobra.Command{Use: "rm THING", Short: "delete a shadow", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.sure("Delete the shadow %s?", orName(args[0], name)); err != nil {
				return err
			}
			return a.client().RemoveShadow(c.Context(), args[0], name)
		}}), &name)
}

func orName(thing, name string) string {
	if name == "" {
		return "of " + thing
	}
	return name + " of " + thing
}

func shadowLog(w *world) *cobra.Command {
	a := &asking{w: w}
	var name, from string
	c := nameFlag(a.flags(&cobra.Command{Use: "log THING", Short: "tell who changed a shadow, when and to what", Args: cobra.ExactArgs(1),
		Long: `Tell the changes of a shadow, oldest first, as far back as the journal goes
(journal.history_bytes, journal.history_age).`,
		RunE: func(c *cobra.Command, args []string) error {
			start, err := since(from, time.Now())
			if err != nil {
				return err
			}
			es, err := a.client().ShadowLog(c.Context(), args[0], name, start)
			if err != nil {
				return err
			}
			return a.print(es, func() {
				var rows [][]string
				for _, e := range es {
					if e.Lost > 0 {
						rows = append(rows, []string{"#", "some changes may be missing here", "", ""})
					}
					what := string(e.State)
					if e.Deleted {
						what = "deleted"
					}
					rows = append(rows, []string{e.At.Local().Format("2006-01-02 15:04:05"), strconv.FormatInt(e.Version, 10), orDash(e.By), what})
				}
				a.table("WHEN VERSION BY STATE", rows)
				if len(rows) == 0 {
					fmt.Fprintln(w.errOut, "tidegate: the journal goes back no further; journal.history_bytes in the configuration keeps more of the past")
				}
			})
		}}), &name)
	c.Flags().StringVar(&from, "since", "", "only changes since `WHEN`: 90s, 1h, 2d or a time as RFC 3339 has it")
	return c
}
