package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"tidegate/gateway/fault"
	"tidegate/gateway/localapi/localclient"
)

// thing is one in answers.
type thing struct {
	Name       string            `json:"thingName"`
	ID         string            `json:"thingId,omitempty"`
	ARN        string            `json:"thingArn"`
	Type       string            `json:"thingTypeName,omitempty"`
	Attributes map[string]string `json:"attributes"`
	Version    int64             `json:"version"`
	Billing    string            `json:"billingGroupName,omitempty"`

	Groups       []string `json:"thingGroupNames,omitempty"`
	Certificates []held   `json:"certificates,omitempty"`
}

// held is a certificate with what it may do.
type held struct {
	ID       string   `json:"certificateId"`
	Status   string   `json:"status"`
	Policies []string `json:"policies"`
}

// attributes is how attributes are sent.
type attributes struct {
	Attributes map[string]string `json:"attributes"`
	Merge      bool              `json:"merge,omitempty"`
}

// thingCmd keeps the things.
func thingCmd(w *world) *cobra.Command {
	return group("thing", "the things that are known here", thingLs(w), thingShow(w), thingCreate(w), thingSet(w), thingImport(w), thingRm(w))
}

func thingLs(w *world) *cobra.Command {
	a := &asking{w: w}
	var kind, attr, query, in string
	c := a.flags(&cobra.Command{Use: "ls", Short: "list things", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ts, err := findThings(c.Context(), a.client(), kind, attr, query, in)
			if err != nil {
				return err
			}
			return a.print(ts, func() {
				var rows [][]string
				for _, t := range ts {
					rows = append(rows, []string{t.Name, orDash(t.Type), joined(t.Attributes)})
				}
				a.table("THING TYPE ATTRIBUTES", rows)
			})
		}})
	c.Flags().StringVar(&kind, "type", "", "only those of a `TYPE`")
	c.Flags().StringVar(&attr, "attr", "", "only those with an attribute, as `NAME=VALUE`")
	c.Flags().StringVar(&query, "query", "", "only those a fleet index `QUERY` finds, such as attributes.site:oslo")
	c.Flags().StringVar(&in, "group", "", "only those in a `GROUP` or in one below it")
	c.MarkFlagsMutuallyExclusive("query", "type")
	c.MarkFlagsMutuallyExclusive("query", "attr")
	c.MarkFlagsMutuallyExclusive("query", "group")
	c.MarkFlagsMutuallyExclusive("type", "group")
	c.MarkFlagsMutuallyExclusive("attr", "group")
	return c
}

func findThings(ctx context.Context, cl *localclient.Client, kind, attr, query, in string) ([]thing, error) {
	switch {
	case query != "":
		return searchThings(ctx, cl, query)
	case in != "":
		names, err := all[string](ctx, cl, "GET", under("thing-groups", in, "things"), url.Values{"recursive": {"true"}}, "things")
		ts := []thing{}
		for _, n := range names {
			t, err := iot[thing](ctx, cl, "GET", under("things", n), nil, nil)
			if err != nil {
				return nil, err
			}
			ts = append(ts, t)
		}
		return ts, err
	}
	q := url.Values{}
	if kind != "" {
		q.Set("thingTypeName", kind)
	}
	if attr != "" {
		m, err := pairs("attr", []string{attr})
		if err != nil {
			return nil, err
		}
		for k, v := range m {
			q.Set("attributeName", k)
			q.Set("attributeValue", v)
		}
	}
	return all[thing](ctx, cl, "GET", "/things", q, "things")
}

func searchThings(ctx context.Context, cl *localclient.Client, query string) ([]thing, error) {
	ts := []thing{}
	body := map[string]any{"queryString": query, "maxResults": 250}
	for {
		page, err := iot[struct {
			Things []thing `json:"things"`
			Next   string  `json:"nextToken"`
		}](ctx, cl, "POST", "/indices/search", nil, body)
		if err != nil {
			return nil, err
		}
		ts = append(ts, page.Things...)
		if page.Next == "" {
			return ts, nil
		}
		body["nextToken"] = page.Next
	}
}

// certificatesOf gives what a thing proves itself with.
func certificatesOf(ctx context.Context, cl *localclient.Client, name string) ([]held, error) {
	arns, err := all[string](ctx, cl, "GET", under("things", name, "principals"), nil, "principals")
	var out []held
	for _, arn := range arns {
		d, err := describeCert(ctx, cl, lastOf(arn))
		if err != nil {
			return nil, err
		}
		h := held{ID: d.ID, Status: d.Status, Policies: []string{}}
		ps, err := attachedTo(ctx, cl, arn)
		if err != nil {
			return nil, err
		}
		h.Policies = append(h.Policies, ps...)
		out = append(out, h)
	}
	return out, err
}

func thingShow(w *world) *cobra.Command {
	a := &asking{w: w}
	return a.flags(&cobra.Command{Use: "show NAME", Short: "show a thing with its groups and certificates", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, ctx := a.client(), c.Context()
			t, err := iot[thing](ctx, cl, "GET", under("things", args[0]), nil, nil)
			if err != nil {
				return err
			}
			gs, err := all[groupRef](ctx, cl, "GET", under("things", t.Name, "thing-groups"), nil, "thingGroups")
			if err != nil {
				return err
			}
			for _, g := range gs {
				t.Groups = append(t.Groups, g.Name)
			}
			if t.Certificates, err = certificatesOf(ctx, cl, t.Name); err != nil {
				return err
			}
			return a.print(t, func() {
				a.facts("name", t.Name, "arn", t.ARN, "type", orDash(t.Type), "attributes", joined(t.Attributes), "groups", orDash(t.Groups...),
					"billing group", orDash(t.Billing), "version", strconv.FormatInt(t.Version, 10))
				if len(t.Certificates) == 0 {
					a.facts("certificates", "-")
					return
				}
				var rows [][]string
				for _, h := range t.Certificates {
					rows = append(rows, []string{h.ID, h.Status, orDash(h.Policies...)})
				}
				fmt.Fprintln(w.out)
				a.table("CERTIFICATE STATUS POLICIES", rows)
			})
		}})
}

func thingCreate(w *world) *cobra.Command {
	a := &asking{w: w}
	var kind, billing string
	var attrs, groups []string
	c := a.dataFlag(&cobra.Command{Use: "create NAME", Short: "register a thing", Args: cobra.ExactArgs(1),
		Long: "Register a thing. `tidegate enroll` does so, too, and gives it a certificate.",
		RunE: func(c *cobra.Command, args []string) error {
			m, err := pairs("attr", attrs)
			if err != nil {
				return err
			}
			body := map[string]any{"attributePayload": attributes{Attributes: m}}
			if kind != "" {
				body["thingTypeName"] = kind
			}
			if billing != "" {
				body["billingGroupName"] = billing
			}
			cl := a.client()
			t, err := iot[thing](c.Context(), cl, "POST", under("things", args[0]), nil, body)
			if err == nil && len(groups) > 0 {
				err = regroup(c.Context(), cl, args[0], groups, nil)
			}
			if err == nil {
				fmt.Fprintln(w.out, t.ARN)
			}
			return err
		}})
	c.Flags().StringVar(&kind, "type", "", "its thing `TYPE`")
	c.Flags().StringArrayVar(&attrs, "attr", nil, "an attribute, as `NAME=VALUE`; may be repeated")
	c.Flags().StringArrayVar(&groups, "group", nil, "a `GROUP` to put it into; may be repeated")
	c.Flags().StringVar(&billing, "billing-group", "", "its billing `GROUP`")
	return c
}

// regroup puts a thing into groups and takes it out of others.
func regroup(ctx context.Context, cl *localclient.Client, name string, add, remove []string) error {
	return order(ctx, cl, "PUT", "/thing-groups/updateThingGroupsForThing", nil,
		map[string]any{"thingName": name, "thingGroupsToAdd": add, "thingGroupsToRemove": remove})
}

func thingSet(w *world) *cobra.Command {
	a := &asking{w: w}
	var kind string
	var noType bool
	var attrs, groups, ungroup []string
	c := a.dataFlag(&cobra.Command{Use: "set NAME", Short: "change a thing", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			m, err := pairs("attr", attrs)
			if err != nil {
				return err
			}
			if kind == "" && !noType && len(m)+len(groups)+len(ungroup) == 0 {
				return misuse(fmt.Errorf("set what? give at least one of --type, --no-type, --attr, --group, --ungroup"))
			}
			cl := a.client()
			if kind != "" || noType || len(m) > 0 {
				body := map[string]any{"removeThingType": noType}
				if kind != "" {
					body["thingTypeName"] = kind
				}
				if len(m) > 0 {
					body["attributePayload"] = attributes{m, true}
				}
				if err := order(c.Context(), cl, "PATCH", under("things", args[0]), nil, body); err != nil {
					return err
				}
			}
			if len(groups)+len(ungroup) > 0 {
				return regroup(c.Context(), cl, args[0], groups, ungroup)
			}
			return nil
		}})
	c.Flags().StringVar(&kind, "type", "", "its thing `TYPE`")
	c.Flags().BoolVar(&noType, "no-type", false, "take its type away")
	c.Flags().StringArrayVar(&attrs, "attr", nil, "an attribute, as `NAME=VALUE`; an empty value removes it; may be repeated")
	c.Flags().StringArrayVar(&groups, "group", nil, "a `GROUP` to put it into; may be repeated")
	c.Flags().StringArrayVar(&ungroup, "ungroup", nil, "a `GROUP` to take it out of; may be repeated")
	c.MarkFlagsMutuallyExclusive("type", "no-type")
	return c
}

func thingRm(w *world) *cobra.Command {
	a := &asking{w: w}
	var certs bool
	c := a.yesFlag(&cobra.Command{Use: "rm NAME...", Short: "remove things", Args: cobra.MinimumNArgs(1),
		Long: `Remove things. Their certificates are detached and stay, with what they may do; with
--certs those that no other thing has are removed, too, and their connections are cut.`,
		RunE: func(c *cobra.Command, args []string) error {
			for _, name := range args {
				if err := removeThing(c.Context(), a, name, certs); err != nil {
					return err
				}
			}
			return nil
		}})
	c.Flags().BoolVar(&certs, "certs", false, "remove their certificates, too")
	return c
}

func removeThing(ctx context.Context, a *asking, name string, certs bool) error {
	cl := a.client()
	arns, err := all[string](ctx, cl, "GET", under("things", name, "principals"), nil, "principals")
	if err != nil {
		return err
	}
	what := ""
	switch {
	case len(arns) > 0 && certs:
		what = fmt.Sprintf(" and its %d certificates", len(arns))
	case len(arns) > 0:
		what = fmt.Sprintf(" and detach its %d certificates, which stay valid", len(arns))
	}
	if err := a.sure("Remove the thing %s%s?", name, what); err != nil {
		return err
	}
	for _, arn := range arns {
		if err := attachThing(ctx, cl, "DELETE", name, arn); err != nil {
			return err
		}
		if !certs {
			continue
		}
		if err := removeCert(ctx, cl, lastOf(arn), false); err != nil && !fault.Is(err, fault.Conflict) { // another thing has it, too
			return err
		}
	}
	return order(ctx, cl, "DELETE", under("things", name), nil, nil)
}

// attachThing ties a principal to a thing (PUT) or unties it (DELETE).
func attachThing(ctx context.Context, cl *localclient.Client, method, name, principal string) error {
	return cl.IoT(ctx, localclient.Request{Method: method, Path: under("things", name, "principals"), Header: map[string]string{"x-amzn-principal": principal}}, nil)
}
