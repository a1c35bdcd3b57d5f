package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidegate/gateway/fault"
	"tidegate/gateway/localapi/localclient"
)

// The resources of the registry are asked for as AWS IoT's API names them, and --json
// shows them so: what is written for `aws iot` reads it, too.

// resources are the commands for who may do what.
func resources(w *world) []*cobra.Command {
	return []*cobra.Command{enrollCmd(w), thingCmd(w), typeCmd(w), groupCmd(w), certCmd(w), policyCmd(w), operatorCmd(w), sessionCmd(w), templateCmd(w), authorizerCmd(w), shadowCmd(w), jobCmd(w)}
}

// epoch is a moment as the API writes it, in seconds.
type epoch float64

func (e epoch) String() string {
	if e == 0 {
		return "-"
	}
	return time.UnixMilli(int64(e * 1000)).Local().Format("2006-01-02 15:04:05")
}

// iot performs an operation and gives its answer.
func iot[T any](ctx context.Context, c *localclient.Client, method, path string, q url.Values, body any) (out T, err error) {
	return out, c.IoT(ctx, localclient.Request{Method: method, Path: path, Query: q, Body: body}, &out)
}

// order performs an operation whose answer says nothing.
func order(ctx context.Context, c *localclient.Client, method, path string, q url.Values, body any) error {
	return c.IoT(ctx, localclient.Request{Method: method, Path: path, Query: q, Body: body}, nil)
}

// all reads a listing to its end. member is what the pages keep their items in.
func all[T any](ctx context.Context, c *localclient.Client, method, path string, q url.Values, member string) ([]T, error) {
	items := []T{}
	ask := url.Values{"maxResults": {"250"}, "pageSize": {"250"}}
	for k, v := range q {
		ask[k] = v
	}
	for {
		page, err := iot[map[string]json.RawMessage](ctx, c, method, path, ask, nil)
		if err != nil {
			return nil, err
		}
		var some []T
		if err := json.Unmarshal(page[member], &some); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "the gateway's answer has no %s", member)
		}
		items = append(items, some...)
		var next, mark string
		json.Unmarshal(page["nextToken"], &next)  //nolint:errcheck // absent on the last page
		json.Unmarshal(page["nextMarker"], &mark) //nolint:errcheck // the same
		if next == "" && mark == "" {
			return items, nil
		}
		ask["nextToken"], ask["marker"] = []string{next}, []string{mark}
	}
}

// under makes a path of labels, which are escaped.
func under(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("/" + url.PathEscape(p))
	}
	return b.String()
}

// pairs reads flags of the form NAME=VALUE.
func pairs(flag string, texts []string) (map[string]string, error) {
	m := map[string]string{}
	for _, t := range texts {
		k, v, ok := strings.Cut(t, "=")
		if !ok || k == "" {
			return nil, misuse(fmt.Errorf("--%s is %q, expected NAME=VALUE", flag, t))
		}
		m[k] = v
	}
	return m, nil
}

// joined writes a map in the order of its names.
func joined(m map[string]string) string {
	var out []string
	for k, v := range m {
		out = append(out, k+"="+v)
	}
	if len(out) == 0 {
		return "-"
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// orDash shows that there is nothing.
func orDash(s ...string) string {
	if t := strings.Join(s, ", "); t != "" {
		return t
	}
	return "-"
}

// facts prints names and values, one a line.
func (a *asking) facts(kv ...string) {
	for i := 0; i+1 < len(kv); i += 2 {
		fmt.Fprintf(a.w.out, "%-15s%s\n", kv[i], kv[i+1])
	}
}

// yesFlag adds --yes to c, which asks before it destroys.
func (a *asking) yesFlag(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVarP(&a.yes, "yes", "y", false, "do not ask")
	return a.dataFlag(c)
}

// sure asks unless --yes was given.
func (a *asking) sure(question string, args ...any) error {
	if a.yes || confirm(a.w, fmt.Sprintf(question, args...)) {
		return nil
	}
	return fmt.Errorf("nothing was done")
}

// lastOf gives what stands behind the last slash of an ARN.
func lastOf(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }
