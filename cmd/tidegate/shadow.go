package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/signal"
	"strconv"
	"strings"
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
	var watch bool
	c := a.flags(&cobra.Command{Use: "ls [THING]", Short: "list shadows", Args: cobra.MaximumNArgs(1),
		Long: `List shadows: their version, whether desired differs from reported, and when they were
last changed. --watch goes on with a line for each change, until interrupted.`,
		RunE: func(c *cobra.Command, args []string) error {
			thing := ""
			if len(args) > 0 {
				thing = args[0]
			}
			ss, err := a.client().Shadows(c.Context(), thing)
			if err != nil {
				return err
			}
			if err := a.print(ss, func() {
				var rows [][]string
				for _, s := range ss {
					rows = append(rows, []string{s.Thing, orDash(s.Name), strconv.FormatInt(s.Version, 10), yesOrDash(s.Delta), ago(time.Now(), s.Changed)})
				}
				a.table("THING SHADOW VERSION DELTA CHANGED", rows)
			}); err != nil || !watch {
				return err
			}
			return a.watchShadows(c.Context(), a.client(), cmp.Or(thing, "+"), func(t shadowEvent) error {
				return a.print(t, func() {
					what := "version " + strconv.FormatInt(t.Version, 10)
					if t.Deleted {
						what = "deleted"
					}
					fmt.Fprintf(a.w.out, "%s  %s  %s  %s\n", t.At.Local().Format("15:04:05"), t.Thing, orDash(t.Name), what)
				})
			})
		}})
	c.Flags().BoolVar(&watch, "watch", false, "go on with a line for each change")
	return c
}

func yesOrDash(b bool) string {
	if b {
		return "yes"
	}
	return "-"
}

// shadowEvent is what has happened to a shadow.
type shadowEvent struct {
	At      time.Time `json:"at"`
	Thing   string    `json:"thing"`
	Name    string    `json:"name,omitempty"`
	Version int64     `json:"version"`
	Deleted bool      `json:"deleted,omitempty"`
}

// watchShadows calls fn for what happens to the shadows of a thing, + for all, until interrupted.
func (a *asking) watchShadows(ctx context.Context, cl *localclient.Client, thing string, fn func(shadowEvent) error) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return cl.Tail(ctx, "$aws/things/"+thing+"/shadow/#", time.Time{}, func(m localclient.Message) error {
		_, rest, _ := strings.Cut(m.Topic, "/things/")
		thing, rest, _ := strings.Cut(rest, "/shadow/")
		e := shadowEvent{At: m.At, Thing: thing}
		if rest, named := strings.CutPrefix(rest, "name/"); named {
			e.Name, _, _ = strings.Cut(rest, "/")
		}
		var doc struct {
			Version int64
			Current struct{ Version int64 }
		}
		switch {
		case m.Origin != "service" || json.Unmarshal(m.Bytes(), &doc) != nil:
			return nil
		case strings.HasSuffix(rest, "update/documents"):
			e.Version = doc.Current.Version
		case strings.HasSuffix(rest, "delete/accepted"):
			e.Version, e.Deleted = doc.Version, true
		default:
			return nil
		}
		return fn(e)
	})
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
		Long: `Show a shadow. --at tells what it was at a time; the past goes back as far as "shadow log" does.
--watch shows it again whenever it changes, until interrupted.`,
		RunE: func(c *cobra.Command, args []string) error {
			when, err := moment("--at", at, time.Now())
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
	return a.watchShadows(ctx, cl, thing, func(e shadowEvent) error {
		if e.Name != name {
			return nil
		}
		if e.Deleted {
			return a.print(e, func() { fmt.Fprintf(a.w.out, "\ndeleted        %s\n", e.At.Local().Format("2006-01-02 15:04:05")) })
		}
		s, err := cl.Shadow(ctx, thing, name, time.Time{})
		if err != nil { // deleted meanwhile: that is told next
			return nil
		}
		return a.print(s, func() { fmt.Fprintln(a.w.out); a.shadow(s) })
	})
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
	var version int64
	c := nameFlag(a.dataFlag(&cobra.Command{Use: "set THING [REQUEST]", Short: "change a shadow", Args: cobra.RangeArgs(1, 2),
		Long: `Change a shadow: by --desired or --reported and a JSON object that is merged in (null
removes), or by a whole update request, such as {"state":{"desired":{"on":true}}}. A
REQUEST of - is read from standard input. With --if-version it is changed only while it
has that version. What was accepted is printed.`,
		Example: `  tidegate shadow set pump1 --desired '{"speed":40}'`,
		RunE: func(c *cobra.Command, args []string) error {
			request, err := shadowRequest(w.in, args[1:], desired, reported, version)
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
	c.Flags().Int64Var(&version, "if-version", -1, "only if this is its `VERSION`")
	return c
}

func shadowRequest(in io.Reader, args []string, desired, reported string, version int64) ([]byte, error) {
	given := desired != "" || reported != ""
	switch {
	case given == (len(args) > 0):
		return nil, misuse(fmt.Errorf("set it to what? give --desired or --reported, or an update request"))
	case !given && version >= 0:
		return nil, misuse(fmt.Errorf("--if-version goes with --desired and --reported; an update request has \"version\" itself"))
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
	request := map[string]any{"state": state}
	if version >= 0 {
		request["version"] = version
	}
	return json.Marshal(request)
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
	var most int
	c := nameFlag(a.flags(&cobra.Command{Use: "log THING", Short: "tell who changed a shadow, when and what", Args: cobra.ExactArgs(1),
		Long: `Tell the last changes of a shadow, oldest first: when, by whom (a certificate, an operator,
a user), through which client or door, and what was changed (null: removed). The past of
all shadows together is kept up to store.trail_bytes; the oldest goes first.`,
		RunE: func(c *cobra.Command, args []string) error {
			start, err := since(from, time.Now())
			if err != nil {
				return err
			}
			if most < 0 {
				return misuse(fmt.Errorf("--max is %d, expected 0 or more", most))
			}
			es, err := a.client().ShadowLog(c.Context(), args[0], name, start, most)
			if err != nil {
				return err
			}
			return a.print(es, func() {
				var rows [][]string
				for _, e := range es {
					what := string(e.Change)
					switch {
					case e.Deleted:
						what = "deleted"
					case what == "":
						what = "nothing"
					}
					rows = append(rows, []string{e.At.Local().Format("2006-01-02 15:04:05"), strconv.FormatInt(e.Version, 10), orDash(e.By), orDash(e.From), what})
				}
				a.table("WHEN VERSION BY FROM CHANGE", rows)
				switch {
				case len(rows) == 0:
					fmt.Fprintln(w.errOut, "tidegate: no change is known; store.trail_bytes in the configuration says how much of the past is kept")
				case len(rows) == most:
					fmt.Fprintf(w.errOut, "tidegate: these are the last %d; --max 0 tells all that are known\n", most)
				}
			})
		}}), &name)
	c.Flags().StringVar(&from, "since", "", "only changes since `WHEN`: 90s, 1h, 2d or a time as RFC 3339 has it")
	c.Flags().IntVar(&most, "max", 100, "at most the last `N` changes; 0: all that are known")
	return c
}
