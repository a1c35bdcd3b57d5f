// Command tidegate is the gateway and everything an operator does with it.
//
//	tidegate run [--config FILE] [--data DIR] [--dev]   run the gateway
//	tidegate status [--json]                            how everything is
//	tidegate pub TOPIC, tidegate tail FILTER            send, and follow messages
//	tidegate device scan|ls|test, upstream ls, ledger   look closer
//	tidegate enroll THING                               make a device's key and certificate
//	tidegate thing|type|group|cert|policy ls|show|…     who is known and what they may do
//	tidegate rule ls|show                               what follows from messages
//	tidegate operator|session ls|show|…                 who administers, who is connected
//	tidegate template|authorizer ls|show|…              how devices and clients get in by themselves
//	tidegate recover                                    after the TPM was lost or cleared
//	tidegate env, version, completion
//
// Results go to standard output, everything else to standard error. It exits with 0
// when done, 1 when that failed (or something is unhealthy), 2 when it was called
// wrongly. This package has no logic of its own: one file for each verb, which asks
// the running gateway or starts it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"tidegate/gateway/fault"
	"tidegate/gateway/node"
)

func main() {
	os.Exit(dispatch(context.Background(), os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

// world is what a command may touch besides the network.
type world struct {
	env         func(string) string
	in          io.Reader
	out, errOut io.Writer
}

// errMisuse marks an error of whoever called, not of what was asked for.
var errMisuse = errors.New("misuse")

// errSilent ends a command with 1 when everything has been said.
var errSilent = errors.New("")

// dispatch runs one command line and returns its exit code. The end of ctx ends what
// runs for long.
func dispatch(ctx context.Context, args []string, env func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	w := &world{env, stdin, stdout, stderr}
	root := &cobra.Command{
		Use: "tidegate", Short: "An edge gateway: MQTT broker, wired sensors, rules, and a cloud that may be away",
		SilenceErrors: true, SilenceUsage: true,
	}
	started := false // past the parsing of flags and arguments
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(runCmd(w), statusCmd(w), pubCmd(w), tailCmd(w), deviceCmd(w), upstreamCmd(w), ledgerCmd(w), envCmd(w), versionCmd(w))
	root.AddCommand(resources(w)...)
	root.AddCommand(recoverCmd(w), ruleCmd(w), completionCmd(w))
	root.CompletionOptions.DisableDefaultCmd = true // it ends with 0 whatever the shell is called
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errSilent):
		return 1
	case started && !errors.Is(err, errMisuse):
		complain(stderr, err)
		return 1
	}
	if !started {
		use := cmd.UseLine()
		if cmd.HasAvailableSubCommands() {
			use = cmd.CommandPath() + " COMMAND"
		}
		err = fmt.Errorf("%s; expected `%s`, and `%s --help` tells more", strings.Join(strings.Fields(err.Error()), " "), use, cmd.CommandPath())
	}
	complain(stderr, err)
	return 2
}

// complain says what is wrong, each thing on one line.
func complain(stderr io.Writer, err error) {
	for _, e := range flatten(err) {
		text := e.Error()
		var f *fault.Error
		if errors.As(e, &f) && f == e {
			text = f.Msg // the cause is for logs
		}
		if text != errMisuse.Error() {
			fmt.Fprintln(stderr, "tidegate: "+strings.ReplaceAll(text, "\n", " "))
		}
	}
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	j, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range j.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}

// misuse makes err one of whoever called.
func misuse(err error) error { return errors.Join(err, errMisuse) }

// versionInfo is set by the linker; see the Makefile.
var version, commit, date string

// build gives what the linker and the Go tool know about this binary.
func build() node.Version { return node.BuildVersion(version, commit, date) }

// group makes a command that only has others below it.
func group(use, short string, below ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		var names []string
		for _, b := range c.Commands() {
			names = append(names, b.Name())
		}
		return misuse(fmt.Errorf("%s what? expected one of %s", c.CommandPath(), strings.Join(names, ", ")))
	}}
	c.AddCommand(below...)
	return c
}
