package harness

import (
	"context"
	"os"
	"syscall"

	"github.com/spf13/pflag"

	"tidegate/gateway/clock"
	"tidegate/gateway/logs"
	"tidegate/gateway/node"
)

// inProcess is a gateway that runs inside this process. Its command line and its exit code are those of `tidegate run`.
type inProcess struct {
	cancel context.CancelFunc
	done   chan struct{}
	exit   int
}

func startInProcess(out *output, args []string) (runner, error) {
	var f node.Flags
	set := pflag.NewFlagSet("run", pflag.ContinueOnError)
	f.Register(set)
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	cfg, err := node.LoadConfig(f, os.Getenv)
	if err != nil {
		return nil, err
	}
	log := logs.New(out, cfg.Log)
	ctx, cancel := context.WithCancel(context.Background())
	p := &inProcess{cancel: cancel, done: make(chan struct{})}
	n, err := node.Build(cfg, node.Deps{Clock: clock.System(), Log: log, Env: os.Getenv})
	if err != nil {
		cancel()
		return nil, err
	}
	go func() {
		defer close(p.done)
		if err := n.Run(ctx); err != nil {
			log.Error("gateway stopped", logs.Err(err))
			p.exit = 1
		}
	}()
	return p, nil
}

func (p *inProcess) signal(sig syscall.Signal) {
	if sig == syscall.SIGTERM || sig == syscall.SIGINT {
		p.cancel()
	}
}
func (p *inProcess) kill()                { p.cancel(); <-p.done }
func (p *inProcess) end() <-chan struct{} { return p.done }
func (p *inProcess) code() int            { return p.exit }
func (p *inProcess) pid() int             { return os.Getpid() }
