package localclient

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"
	"time"
)

// ShadowRef names a shadow.
type ShadowRef struct {
	Thing   string `json:"thing"`
	Name    string `json:"name,omitempty"` // empty for the classic one
	Version int64  `json:"version"`
	Delta   bool   `json:"delta"` // desired differs from reported
	// Changed is when it was last updated, to the second.
	Changed time.Time `json:"changed"`
}

// Shadow is a shadow as it is or was.
type Shadow struct {
	Thing   string          `json:"thing"`
	Name    string          `json:"name,omitempty"`
	Version int64           `json:"version,omitempty"` // 0: unknown
	State   json.RawMessage `json:"state"`
	Delta   json.RawMessage `json:"delta,omitempty"` // only as it is now
	// Of the change that made it so, as far as it is known:
	Changed *time.Time `json:"changed,omitempty"`
	By      string     `json:"by,omitempty"`
	From    string     `json:"from,omitempty"`
}

// ShadowChange is an entry of a shadow's past.
type ShadowChange struct {
	At      time.Time       `json:"at"`
	By      string          `json:"by"`
	From    string          `json:"from,omitempty"`
	Version int64           `json:"version"`
	Deleted bool            `json:"deleted,omitempty"`
	State   json.RawMessage `json:"state,omitempty"`
	Before  json.RawMessage `json:"before,omitempty"`
	Change  json.RawMessage `json:"change,omitempty"` // what makes one of the other when merged in; null removes
}

// File is content that the gateway keeps.
type File struct {
	Hash string `json:"hash"` // SHA-256
	Size int64  `json:"size"`
}

func shadowQuery(thing, name string) url.Values { return url.Values{"thing": {thing}, "name": {name}} }

// Shadows asks for the shadows of a thing, or with "" of all.
func (c *Client) Shadows(ctx context.Context, thing string) (ss []ShadowRef, err error) {
	return ss, c.get(ctx, "/v1/shadows", url.Values{"thing": {thing}}, &ss)
}

// Shadow asks for a shadow as it is, or as it was at a time that is not zero.
func (c *Client) Shadow(ctx context.Context, thing, name string, at time.Time) (s Shadow, err error) {
	q := shadowQuery(thing, name)
	if !at.IsZero() {
		q.Set("at", at.Format(time.RFC3339Nano))
	}
	return s, c.get(ctx, "/v1/shadow", q, &s)
}

// SetShadow sends an update request and gives the accepted document.
func (c *Client) SetShadow(ctx context.Context, thing, name string, request []byte) (accepted json.RawMessage, err error) {
	return accepted, c.do(ctx, "POST", "/v1/shadow", shadowQuery(thing, name), request, &accepted)
}

// RemoveShadow deletes a shadow.
func (c *Client) RemoveShadow(ctx context.Context, thing, name string) error {
	return c.do(ctx, "DELETE", "/v1/shadow", shadowQuery(thing, name), nil, nil)
}

// ShadowLog asks for the last max changes of a shadow since a time, oldest first; 0 for all that are known.
func (c *Client) ShadowLog(ctx context.Context, thing, name string, since time.Time, max int) (es []ShadowChange, err error) {
	q := shadowQuery(thing, name)
	q.Set("max", strconv.Itoa(max))
	if !since.IsZero() {
		q.Set("since", since.Format(time.RFC3339Nano))
	}
	return es, c.get(ctx, "/v1/shadow/log", q, &es)
}
