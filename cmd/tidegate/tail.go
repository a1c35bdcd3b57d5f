package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tidegate/gateway/localapi/localclient"
)

// tailCmd follows messages until it is interrupted.
func tailCmd(w *world) *cobra.Command {
	a := &asking{w: w}
	var from string
	var count int
	c := a.flags(&cobra.Command{Use: "tail FILTER", Short: "follow messages; --since reads the journal first", Args: cobra.ExactArgs(1),
		Long: `Follow the messages that match FILTER until interrupted. --since first tells those the
journal has kept: what somebody durable (a session that was away, an upstream, the
history) is still interested in. With --json each message is one line.`,
		RunE: func(c *cobra.Command, args []string) error {
			start, err := since(from, time.Now())
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			out := bufio.NewWriter(w.out)
			enc := json.NewEncoder(out)
			left, enough := count, errors.New("enough")
			err = a.client().Tail(ctx, args[0], start, func(m localclient.Message) error {
				switch {
				case a.json:
					enc.Encode(m)
				case m.Lost > 0:
					fmt.Fprintf(out, "# %d messages are missing here\n", m.Lost)
				default:
					fmt.Fprintf(out, "%s %s %s\n", m.At.Local().Format("15:04:05.000"), m.Topic, show(&m))
				}
				if err := out.Flush(); err != nil {
					return enough // nobody reads us any more
				}
				if left--; m.Lost == 0 && left == 0 {
					return enough
				}
				return nil
			})
			if errors.Is(err, enough) {
				return nil
			}
			return err
		}})
	c.Flags().StringVar(&from, "since", "", "first what the journal has kept since `WHEN`: 90s, 1h, 2d or a time as RFC 3339 has it")
	c.Flags().IntVarP(&count, "count", "n", 0, "stop after `N` messages")
	return c
}

// show gives a payload for a terminal: text as it is, without control characters,
// anything else as hex.
func show(m *localclient.Message) string {
	b := m.Bytes()
	if m.Binary != nil {
		const most = 64
		if len(b) > most {
			return fmt.Sprintf("%x… (%d bytes)", b[:most], len(b))
		}
		return fmt.Sprintf("%x", b)
	}
	for i, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			b[i] = ' '
		}
	}
	return string(b)
}
