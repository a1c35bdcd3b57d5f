package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"tidegate/gateway/clock"
	"tidegate/gateway/logs"
	"tidegate/gateway/node"
)

// runCmd runs the gateway in the foreground. SIGTERM and SIGINT drain it and end it
// with 0, a second one ends it at once; SIGHUP reads the configuration again.
func runCmd(w *world) *cobra.Command {
	var f node.Flags
	c := &cobra.Command{Use: "run", Short: "run the gateway in the foreground", Args: cobra.NoArgs,
		Long: `Run the gateway until SIGTERM or SIGINT, which let it finish what it has begun; a
second signal ends it at once. SIGHUP reads the configuration again, applies what can
change while it runs and says what needs a restart.

The configuration is put together from defaults, the file, environment variables
(TIDEGATE_LOG_LEVEL for log.level) and these flags; what comes later wins.`,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			context.AfterFunc(ctx, stop) // from here on a second signal ends the process at once
			cfg, err := node.LoadConfig(f, w.env)
			if err != nil {
				return misuse(err)
			}
			if f.Check {
				fmt.Fprintln(w.errOut, "tidegate: the configuration is good")
				return nil
			}
			log := logs.New(w.errOut, cfg.Log)
			n, err := node.Build(cfg, node.Deps{Clock: clock.System(), Log: log, Env: w.env, Version: build(),
				Tell: func(text string) { fmt.Fprintf(w.errOut, "\n%s\n", text) }})
			if err != nil {
				return err
			}
			hup := make(chan os.Signal, 1) // one request is as good as many
			signal.Notify(hup, syscall.SIGHUP)
			reloads := make(chan struct{})
			go func() {
				defer close(reloads)
				for range hup {
					if cfg, err := node.LoadConfig(f, w.env); err != nil {
						complain(w.errOut, err)
					} else {
						n.Reload(cfg)
					}
				}
			}()
			err = n.Run(ctx)
			signal.Stop(hup)
			close(hup)
			<-reloads
			if err != nil {
				log.Error("gateway stopped", logs.Err(err))
				return errSilent
			}
			return nil
		}}
	f.Register(c.Flags())
	return c
}
