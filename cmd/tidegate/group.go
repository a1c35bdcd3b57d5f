package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tidegate/gateway/localapi/localclient"
)

// groupRef is a group in listings.
type groupRef struct {
	Name string `json:"groupName"`
	ARN  string `json:"groupArn"`
}

// thingGroup is a group in answers.
type thingGroup struct {
	Name       string `json:"thingGroupName"`
	ID         string `json:"thingGroupId"`
	ARN        string `json:"thingGroupArn"`
	Version    int64  `json:"version"`
	Properties struct {
		Description string      `json:"thingGroupDescription,omitempty"`
		Attributes  *attributes `json:"attributePayload,omitempty"`
	} `json:"thingGroupProperties"`
	Metadata struct {
		Parent  string     `json:"parentGroupName,omitempty"`
		Path    []groupRef `json:"rootToParentThingGroups,omitempty"`
		Created epoch      `json:"creationDate"`
	} `json:"thingGroupMetadata"`
	Query    string   `json:"queryString,omitempty"`
	Things   []string `json:"things"`
	Policies []string `json:"policies"`
}

// groupCmd keeps the groups of things.
func groupCmd(w *world) *cobra.Command {
	return group("group", "groups of things", groupLs(w), groupShow(w), groupCreate(w), groupSet(w), groupRm(w))
}

func groupLs(w *world) *cobra.Command {
	a := &asking{w: w}
	var parent string
	c := a.flags(&cobra.Command{Use: "ls", Short: "list groups", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			q := url.Values{}
			if parent != "" {
				q.Set("parentGroup", parent)
			}
			gs, err := all[groupRef](c.Context(), a.client(), "GET", "/thing-groups", q, "thingGroups")
			if err != nil {
				return err
			}
			return a.print(gs, func() {
				var rows [][]string
				for _, g := range gs {
					rows = append(rows, []string{g.Name, g.ARN})
				}
				a.table("GROUP ARN", rows)
			})
		}})
	c.Flags().StringVar(&parent, "parent", "", "only those below a `GROUP`")
	return c
}

func groupShow(w *world) *cobra.Command {
	a := &asking{w: w}
	return a.flags(&cobra.Command{Use: "show NAME", Short: "show a group with its things and policies", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, ctx := a.client(), c.Context()
			g, err := iot[thingGroup](ctx, cl, "GET", under("thing-groups", args[0]), nil, nil)
			if err != nil {
				return err
			}
			if g.Things, err = all[string](ctx, cl, "GET", under("thing-groups", g.Name, "things"), nil, "things"); err != nil {
				return err
			}
			if g.Query == "" { // a dynamic group cannot have any
				if g.Policies, err = attachedTo(ctx, cl, g.ARN); err != nil {
					return err
				}
			}
			return a.print(g, func() {
				var path []string
				for _, p := range g.Metadata.Path {
					path = append(path, p.Name)
				}
				attrs := map[string]string(nil)
				if g.Properties.Attributes != nil {
					attrs = g.Properties.Attributes.Attributes
				}
				a.facts("name", g.Name, "arn", g.ARN, "below", orDash(strings.Join(path, " / ")), "description", orDash(g.Properties.Description),
					"attributes", joined(attrs), "query", orDash(g.Query), "policies", orDash(g.Policies...), "version", strconv.FormatInt(g.Version, 10),
					"things", orDash(g.Things...))
			})
		}})
}

// groupBody makes what create and set send.
func groupBody(description string, attrs []string, merge bool) (map[string]any, error) {
	m, err := pairs("attr", attrs)
	if err != nil {
		return nil, err
	}
	p := map[string]any{}
	if description != "" {
		p["thingGroupDescription"] = description
	}
	if len(m) > 0 {
		p["attributePayload"] = attributes{m, merge}
	}
	return map[string]any{"thingGroupProperties": p}, nil
}

func groupCreate(w *world) *cobra.Command {
	a := &asking{w: w}
	var parent, query, description string
	var attrs []string
	c := a.dataFlag(&cobra.Command{Use: "create NAME", Short: "make a group", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			body, err := groupBody(description, attrs, false)
			if err != nil {
				return err
			}
			path := "thing-groups"
			if query != "" {
				path, body["queryString"] = "dynamic-thing-groups", query
			}
			if parent != "" {
				body["parentGroupName"] = parent
			}
			g, err := iot[thingGroup](c.Context(), a.client(), "POST", under(path, args[0]), nil, body)
			if err == nil {
				fmt.Fprintln(w.out, g.ARN)
			}
			return err
		}})
	c.Flags().StringVar(&parent, "parent", "", "the `GROUP` it is in")
	c.Flags().StringVar(&query, "query", "", "a fleet index `QUERY`: its things are those that are found")
	c.Flags().StringVar(&description, "description", "", "what it is, in `WORDS`")
	c.Flags().StringArrayVar(&attrs, "attr", nil, "an attribute, as `NAME=VALUE`; may be repeated")
	c.MarkFlagsMutuallyExclusive("parent", "query")
	return c
}

func groupSet(w *world) *cobra.Command {
	a := &asking{w: w}
	var query, description string
	var attrs, add, remove []string
	c := a.dataFlag(&cobra.Command{Use: "set NAME", Short: "change a group, or which things are in it", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if query == "" && description == "" && len(attrs)+len(add)+len(remove) == 0 {
				return misuse(fmt.Errorf("set what? give at least one of --add, --remove, --attr, --description, --query"))
			}
			body, err := groupBody(description, attrs, true)
			if err != nil {
				return err
			}
			cl, ctx := a.client(), c.Context()
			if query != "" || description != "" || len(attrs) > 0 {
				path := "thing-groups"
				if dynamic, err := isDynamic(ctx, cl, args[0]); err != nil {
					return err
				} else if dynamic {
					path = "dynamic-thing-groups"
				}
				if query != "" {
					body["queryString"] = query
				}
				if err := order(ctx, cl, "PATCH", under(path, args[0]), nil, body); err != nil {
					return err
				}
			}
			for _, t := range add {
				if err := regroup(ctx, cl, t, args, nil); err != nil {
					return err
				}
			}
			for _, t := range remove {
				if err := regroup(ctx, cl, t, nil, args); err != nil {
					return err
				}
			}
			return nil
		}})
	c.Flags().StringVar(&query, "query", "", "another fleet index `QUERY`, of a dynamic group")
	c.Flags().StringVar(&description, "description", "", "what it is, in `WORDS`")
	c.Flags().StringArrayVar(&attrs, "attr", nil, "an attribute, as `NAME=VALUE`; an empty value removes it; may be repeated")
	c.Flags().StringArrayVar(&add, "add", nil, "a `THING` to put into it; may be repeated")
	c.Flags().StringArrayVar(&remove, "remove", nil, "a `THING` to take out of it; may be repeated")
	return c
}

func isDynamic(ctx context.Context, cl *localclient.Client, name string) (bool, error) {
	g, err := iot[thingGroup](ctx, cl, "GET", under("thing-groups", name), nil, nil)
	return g.Query != "", err
}

func groupRm(w *world) *cobra.Command {
	a := &asking{w: w}
	return a.yesFlag(&cobra.Command{Use: "rm NAME", Short: "remove a group; its things stay", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl := a.client()
			dynamic, err := isDynamic(c.Context(), cl, args[0])
			if err != nil {
				return err
			}
			if err := a.sure("Remove the group %s? Its things stay.", args[0]); err != nil {
				return err
			}
			path := "thing-groups"
			if dynamic {
				path = "dynamic-thing-groups"
			}
			return order(c.Context(), cl, "DELETE", under(path, args[0]), nil, nil)
		}})
}
