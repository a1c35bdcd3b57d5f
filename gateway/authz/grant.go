package authz

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/policy"
)

// customEnd is the disconnectReason of a connection whose authorizer's word has ended.
const customEnd = "CUSTOMAUTH_TTL_EXPIRATION"

// grant is what an authorizer has granted to one connection, or to HTTPS requests with
// the same credentials.
type grant struct {
	a          *Authz
	authorizer string
	creds      Credentials // kept to ask again
	ctx        policy.Context

	mu      sync.Mutex // guards what follows
	id      string
	texts   []string
	docs    []*policy.Document
	claims  map[string][]string
	end     time.Time // of the connection
	refresh time.Time // when to ask again; zero: never
	asking  bool
}

// obtain asks the authorizer for the first time.
func (g *grant) obtain() error {
	now := g.a.clk.Now()
	ans, err := g.ask()
	if err != nil {
		return err
	}
	g.id, g.end = ans.PrincipalID, now.Add(ans.DisconnectAfter)
	g.take(ans, now)
	return nil
}

func (g *grant) ask() (*Answer, error) {
	c := g.creds
	c.Authorizer = g.authorizer
	ans, err := g.a.Judge(context.Background(), &c) // functions have a time limit of their own
	if err == nil && !ans.Authenticated {
		err = fault.New(fault.Unauthorized, "the authorizer %s does not know the client", g.authorizer)
	}
	return ans, err
}

// take makes an answer the one in force. The caller holds mu, or nobody else has g.
func (g *grant) take(ans *Answer, now time.Time) {
	g.texts, g.docs, g.claims, g.refresh = ans.Documents, ans.docs, ans.claims, time.Time{}
	if ans.RefreshAfter > 0 {
		g.refresh = now.Add(ans.RefreshAfter)
	}
	if !ans.expires.IsZero() && ans.expires.Before(g.end) {
		g.end = ans.expires
	}
}

// principal gives the client that the grant is for.
func (g *grant) principal() *Principal {
	return &Principal{a: g.a, name: g.id, ctx: g.ctx, grant: g, docs: func(c *policy.Context) ([]*policy.Document, bool) {
		g.mu.Lock()
		defer g.mu.Unlock()
		c.Unattachable = true // a thing is believed by its name
		if c.ClientID != "" {
			if t, _ := g.a.reg.Stands(g.id, c.ClientID); t != nil {
				c.Thing = thingOf(t, false)
			}
		}
		c.Extra = g.claims
		return g.docs, g.a.clk.Now().Before(g.end)
	}}
}

// Until says when the connection of p ends, zero for never: credentials of a role and a
// custom authorizer's word last for a time. The broker asks about once a second as long as a client is connected,
// and that is what has the authorizer asked again when it is due.
func (p *Principal) Until() (at time.Time, event string) {
	g := p.grant
	if p.role != nil {
		return p.role.until()
	}
	if g == nil {
		return time.Time{}, ""
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.a.clk.Now()
	if !g.refresh.IsZero() && !g.asking && !now.Before(g.refresh) && now.Before(g.end) {
		g.asking = true
		g.a.asking.Go(func() { g.again(p, now) })
	}
	return g.end, customEnd
}

// again asks the authorizer with what the client showed at first. Whoever is not let in
// again, or without an answer, is disconnected.
func (g *grant) again(p *Principal, now time.Time) {
	ans, err := g.ask()
	g.mu.Lock()
	g.asking = false
	if err != nil || ans.PrincipalID != g.id {
		g.end, g.refresh = now, time.Time{}
		g.mu.Unlock()
		p.cache.Store(nil)
		return
	}
	texts, claims := g.texts, g.claims
	g.take(ans, now)
	same := slices.Equal(texts, g.texts) && maps.EqualFunc(claims, g.claims, slices.Equal)
	g.mu.Unlock()
	p.cache.Store(nil)
	if !same {
		g.a.touch()
	}
}

// Wait returns when no authorizer is being asked again.
func (a *Authz) Wait() { a.asking.Wait() }

// maxCached bounds the answers kept for HTTPS.
const maxCached = 1024

// cached gives an answer that still holds.
func (a *Authz) cached(key string) *grant {
	a.cacheMu.Lock()
	defer a.cacheMu.Unlock()
	g := a.cache[key]
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := a.clk.Now()
	if !now.Before(g.end) || !g.refresh.IsZero() && !now.Before(g.refresh) {
		delete(a.cache, key)
		return nil
	}
	return g
}

// keep keeps an answer; when there are too many, all go.
func (a *Authz) keep(key string, g *grant) {
	a.cacheMu.Lock()
	defer a.cacheMu.Unlock()
	if a.cache == nil || len(a.cache) >= maxCached {
		a.cache = map[string]*grant{}
	}
	a.cache[key] = g
}
