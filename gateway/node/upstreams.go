package node

import (
	"context"
	"fmt"
	"strings"

	"tidegate/gateway/fault"
	"tidegate/gateway/localapi/localclient"
	"tidegate/gateway/store"
	"tidegate/sync/uplink"
)

// createCursors makes the upstreams' cursors, and says which are left of upstreams
// that are gone: what waits for them is kept until somebody decides.
func (n *Node) createCursors(ctx context.Context, ready func()) error {
	known := map[string]bool{}
	for _, up := range n.uplinks {
		known[up.Name()] = true
		if err := up.Create(); err != nil {
			return fmt.Errorf("create the cursor of upstream %s: %w", up.Name(), err)
		}
	}
	for _, c := range n.journal.Cursors() {
		if name, ok := strings.CutPrefix(c.Name, uplink.CursorPrefix); ok && !known[name] {
			n.health.Raise("upstream-gone/"+name, fmt.Sprintf("%d messages wait for upstream %s, which is no longer configured; configure it, or `tidegate upstream rm %s` gives them up",
				c.Lag, name, name))
		}
	}
	ready()
	<-ctx.Done()
	return nil
}

// forgetUpstream drops the cursor of an upstream that is not configured.
func (n *Node) forgetUpstream(name string) error {
	for _, up := range n.uplinks {
		if up.Name() == name {
			return fault.New(fault.Conflict, "upstream %s is configured; take it out of the configuration and restart first", name)
		}
	}
	if _, ok := n.journal.Cursor(uplink.CursorPrefix + name); !ok {
		return fault.New(fault.NotFound, "no upstream is called %q", name)
	}
	if err := n.store.Wait(func(u *store.Unit) error { n.journal.Drop(u, uplink.CursorPrefix+name); return nil }); err != nil {
		return err
	}
	n.health.Clear("upstream-gone/" + name)
	return nil
}

func (n *Node) upstreams() []localclient.Upstream {
	us := []localclient.Upstream{}
	for _, u := range n.uplinks {
		us = append(us, upstreamOf(u.Status()))
	}
	return us
}

func upstreamOf(s uplink.Status) localclient.Upstream {
	u := localclient.Upstream{Name: s.Name, URL: s.URL, State: s.State, Since: s.Since, Lag: s.Lag, InFlight: s.InFlight, Sent: s.Sent,
		Received: s.Received, Dropped: s.Dropped, Lost: s.Lost, Connects: s.Connects, BytesOut: s.BytesOut, BytesIn: s.BytesIn}
	if s.Err != nil {
		u.Error = s.Err.Error()
	}
	return u
}
