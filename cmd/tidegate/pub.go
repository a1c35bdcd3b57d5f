package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// pubCmd publishes one message and returns when the gateway has acknowledged it.
func pubCmd(w *world) *cobra.Command {
	a := &asking{w: w}
	var text string
	var qos uint8
	var retain bool
	c := a.dataFlag(&cobra.Command{Use: "pub TOPIC", Short: "publish a message, from -m or standard input", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if qos > 2 {
				return misuse(fmt.Errorf("--qos is %d, expected 0, 1 or 2", qos))
			}
			payload := []byte(text)
			if !c.Flags().Changed("message") {
				var err error
				if payload, err = io.ReadAll(w.in); err != nil {
					return fmt.Errorf("read standard input: %w", err)
				}
			}
			return a.client().Publish(c.Context(), args[0], qos, retain, payload)
		}})
	c.Flags().StringVarP(&text, "message", "m", "", "the payload, instead of standard input")
	c.Flags().Uint8VarP(&qos, "qos", "q", 0, "quality of service, 0, 1 or 2")
	c.Flags().BoolVarP(&retain, "retain", "r", false, "keep it for later subscribers")
	return c
}
