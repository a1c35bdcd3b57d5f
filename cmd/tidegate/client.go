package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tidegate/gateway/localapi/localclient"
)

// asking is a command that asks the running gateway.
type asking struct {
	w    *world
	data string
	json bool
	yes  bool // --yes
}

// dataFlag adds --data to c.
func (a *asking) dataFlag(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&a.data, "data", "", "data `DIR` of the gateway (default: TIDEGATE_DATA, ./data if a gateway runs there, /var/lib/tidegate)")
	return c
}

// flags adds --data and --json to c.
func (a *asking) flags(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return a.dataFlag(c)
}

// folder is the data folder of the gateway that is meant.
func (a *asking) folder() string {
	switch {
	case a.data != "":
		return a.data
	case a.w.env("TIDEGATE_DATA") != "":
		return a.w.env("TIDEGATE_DATA")
	}
	if _, err := os.Stat(filepath.Join("data", localclient.Socket)); err == nil {
		return "data"
	}
	return "/var/lib/tidegate"
}

func (a *asking) client() *localclient.Client { return localclient.New(a.folder()) }

// print shows v as JSON if that was asked for, else by text.
func (a *asking) print(v any, text func()) error {
	if !a.json {
		text()
		return nil
	}
	enc := json.NewEncoder(a.w.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// table prints rows below a heading in columns.
func (a *asking) table(heading string, rows [][]string) {
	t := tabwriter.NewWriter(a.w.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(heading, " ", "\t"))
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	t.Flush()
}

// ago says how long before now t was.
func ago(now, t time.Time) string {
	d := now.Sub(t)
	switch {
	case t.IsZero():
		return "-"
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return d.Truncate(time.Second).String()
	case d < time.Hour:
		return strings.TrimSuffix(d.Truncate(time.Minute).String(), "0s")
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Truncate(time.Minute).String(), "0s")
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + "d"
}

// size writes a number of bytes with a unit.
func size(n int64) string {
	switch {
	case n < 10<<10:
		return strconv.FormatInt(n, 10) + " B"
	case n < 10<<20:
		return strconv.FormatInt(n>>10, 10) + " KiB"
	case n < 10<<30:
		return strconv.FormatInt(n>>20, 10) + " MiB"
	}
	return strconv.FormatInt(n>>30, 10) + " GiB"
}

// since reads a point in time: a duration before now such as 90s, 1h or 2d, or a time
// as RFC 3339 has it.
func since(s string, now time.Time) (time.Time, error) { return moment("--since", s, now) }

// moment is since for a flag of another name.
func moment(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 {
			return now.Add(-time.Duration(n * 24 * float64(time.Hour))), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, misuse(fmt.Errorf("%s is %q, expected a duration such as 90s, 1h or 2d, or a time such as 2026-05-01T12:00:00Z", flag, s))
}
