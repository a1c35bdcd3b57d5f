package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"tidegate/gateway/localapi/localclient"
)

// policyRef is a policy in listings.
type policyRef struct {
	Name string `json:"policyName"`
	ARN  string `json:"policyArn"`
}

// policyOut is a policy in answers.
type policyOut struct {
	policyRef
	Document string          `json:"policyDocument"`
	Default  string          `json:"defaultVersionId"`
	Modified epoch           `json:"lastModifiedDate"`
	Versions []policyVersion `json:"policyVersions"`
	Targets  []string        `json:"targets"`
}

type policyVersion struct {
	ID      string `json:"versionId"`
	Default bool   `json:"isDefaultVersion"`
	Created epoch  `json:"createDate"`
}

// policyCmd keeps the policies, which say what devices may do.
func policyCmd(w *world) *cobra.Command {
	return group("policy", "what devices may do", policyLs(w), policyShow(w), policyCreate(w), policySet(w), policyRm(w))
}

func policyLs(w *world) *cobra.Command {
	a := &asking{w: w}
	return a.flags(&cobra.Command{Use: "ls", Short: "list policies", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ps, err := all[policyRef](c.Context(), a.client(), "GET", "/policies", nil, "policies")
			if err != nil {
				return err
			}
			return a.print(ps, func() {
				var rows [][]string
				for _, p := range ps {
					rows = append(rows, []string{p.Name, p.ARN})
				}
				a.table("POLICY ARN", rows)
			})
		}})
}

func getPolicy(ctx context.Context, cl *localclient.Client, name string) (p policyOut, err error) {
	if p, err = iot[policyOut](ctx, cl, "GET", under("policies", name), nil, nil); err != nil {
		return p, err
	}
	vs, err := iot[policyOut](ctx, cl, "GET", under("policies", name, "version"), nil, nil)
	if err != nil {
		return p, err
	}
	p.Versions = vs.Versions
	p.Targets, err = all[string](ctx, cl, "POST", under("policy-targets", name), nil, "targets")
	return p, err
}

func policyShow(w *world) *cobra.Command {
	a := &asking{w: w}
	var version string
	c := a.flags(&cobra.Command{Use: "show NAME", Short: "show a policy, its versions and what it is attached to", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, ctx := a.client(), c.Context()
			p, err := getPolicy(ctx, cl, args[0])
			if err != nil {
				return err
			}
			if version != "" {
				v, err := iot[policyOut](ctx, cl, "GET", under("policies", args[0], "version", version), nil, nil)
				if err != nil {
					return err
				}
				p.Document = v.Document
			}
			return a.print(p, func() {
				a.facts("name", p.Name, "arn", p.ARN, "modified", p.Modified.String())
				for _, v := range p.Versions {
					word := v.ID + ", made " + v.Created.String()
					if v.Default {
						word += ", in force"
					}
					a.facts("version", word)
				}
				a.facts("attached to", orDash(p.Targets...))
				fmt.Fprintf(w.out, "\n%s\n", p.Document)
			})
		}})
	c.Flags().StringVar(&version, "version", "", "the document of a `VERSION` (default: the one in force)")
	return c
}

// document reads a policy document.
func (w *world) document(file string) (string, error) {
	if file == "-" {
		b, err := io.ReadAll(io.LimitReader(w.in, 1<<20))
		return string(b), err
	}
	b, err := os.ReadFile(file)
	return string(b), err
}

func policyCreate(w *world) *cobra.Command {
	a := &asking{w: w}
	var file string
	c := a.dataFlag(&cobra.Command{Use: "create NAME [FILE]", Short: "make a policy", Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 2 {
				file = args[1]
			}
			text, err := w.document(file)
			if err != nil {
				return err
			}
			p, err := iot[policyRef](c.Context(), a.client(), "POST", under("policies", args[0]), nil, map[string]any{"policyDocument": text})
			if err == nil {
				fmt.Fprintln(w.out, p.ARN)
			}
			return err
		}})
	c.Flags().StringVarP(&file, "document", "f", "-", "the policy document in a `FILE`, - for standard input")
	return c
}

// maxPolicyVersions is how many versions a policy can have.
const maxPolicyVersions = 5

func policySet(w *world) *cobra.Command {
	a := &asking{w: w}
	var file, version string
	var attach, detach []string
	c := a.dataFlag(&cobra.Command{Use: "set NAME [FILE]", Short: "change what a policy says, or what it is attached to", Args: cobra.RangeArgs(1, 2),
		Long: `Change what a policy says, or what it is attached to. A new document becomes the version
in force, for connected devices within a second; the oldest of five versions makes room
for it. --attach and --detach take the ARN of a certificate or of a thing group.`,
		RunE: func(c *cobra.Command, args []string) error {
			cl, ctx := a.client(), c.Context()
			if len(args) == 2 {
				file = args[1]
			}
			args = args[:1]
			if file == "" && version == "" && len(attach)+len(detach) == 0 {
				return misuse(fmt.Errorf("set what? give a FILE or at least one of --version, --attach, --detach"))
			}
			if file != "" {
				text, err := w.document(file)
				if err != nil {
					return err
				}
				if err := newPolicyVersion(ctx, cl, args[0], text); err != nil {
					return err
				}
			}
			if version != "" {
				if err := order(ctx, cl, "PATCH", under("policies", args[0], "version", version), nil, nil); err != nil {
					return err
				}
			}
			for _, t := range attach {
				if err := tie(ctx, cl, t, args, nil, nil, nil); err != nil {
					return err
				}
			}
			for _, t := range detach {
				if err := tie(ctx, cl, t, nil, args, nil, nil); err != nil {
					return err
				}
			}
			return nil
		}})
	c.Flags().StringVarP(&file, "document", "f", "", "another policy document in a `FILE`, - for standard input")
	c.Flags().StringVar(&version, "version", "", "the `VERSION` that is to be in force")
	c.Flags().StringArrayVar(&attach, "attach", nil, "`ARN` to attach it to; may be repeated")
	c.Flags().StringArrayVar(&detach, "detach", nil, "`ARN` to detach it from; may be repeated")
	c.MarkFlagsMutuallyExclusive("document", "version")
	return c
}

// newPolicyVersion gives a policy another document, in force at once.
func newPolicyVersion(ctx context.Context, cl *localclient.Client, name, text string) error {
	vs, err := iot[policyOut](ctx, cl, "GET", under("policies", name, "version"), nil, nil)
	if err != nil {
		return err
	}
	if n := len(vs.Versions); n >= maxPolicyVersions {
		oldest := vs.Versions[n-1]
		if oldest.Default {
			oldest = vs.Versions[n-2]
		}
		if err := order(ctx, cl, "DELETE", under("policies", name, "version", oldest.ID), nil, nil); err != nil {
			return err
		}
	}
	return order(ctx, cl, "POST", under("policies", name, "version"), url.Values{"setAsDefault": {"true"}}, map[string]any{"policyDocument": text})
}

func policyRm(w *world) *cobra.Command {
	a := &asking{w: w}
	return a.yesFlag(&cobra.Command{Use: "rm NAME", Short: "remove a policy, and take it off what it is attached to", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, ctx := a.client(), c.Context()
			p, err := getPolicy(ctx, cl, args[0])
			if err != nil {
				return err
			}
			what := ""
			if n := len(p.Targets); n > 0 {
				what = fmt.Sprintf(" and take it off %d certificates and groups", n)
			}
			if err := a.sure("Remove the policy %s%s?", p.Name, what); err != nil {
				return err
			}
			for _, t := range p.Targets {
				if err := tie(ctx, cl, t, nil, args, nil, nil); err != nil {
					return err
				}
			}
			for _, v := range p.Versions {
				if !v.Default {
					if err := order(ctx, cl, "DELETE", under("policies", p.Name, "version", v.ID), nil, nil); err != nil {
						return err
					}
				}
			}
			return order(ctx, cl, "DELETE", under("policies", p.Name), nil, nil)
		}})
}
