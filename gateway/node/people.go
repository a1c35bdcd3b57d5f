package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tidegate/gateway/localapi/localclient"
	"tidegate/gateway/operators"
)

// people are the operators as the command line sees them. The file with the first one's
// key follows when that key is replaced.
type people struct {
	*operators.Operators
	file string // operator/credentials
}

func (n *Node) people() people {
	return people{n.operators, filepath.Join(n.cfg.Data, "operator", "credentials")}
}

// List gives the operators by name.
func (p people) List() []localclient.Operator {
	out := []localclient.Operator{}
	for _, o := range p.Operators.List() {
		v := localclient.Operator{Name: o.Name, Role: string(o.Role), Created: o.Created, Keys: []localclient.OperatorKey{}}
		for _, k := range o.Keys {
			v.Keys = append(v.Keys, localclient.OperatorKey{ID: k.ID, Created: k.Created})
		}
		out = append(out, v)
	}
	return out
}

// Create adds an operator.
func (p people) Create(name, role string) (localclient.Key, error) {
	k, err := p.Operators.Create(name, operators.Role(role))
	return localclient.Key{ID: k.ID, Secret: k.Secret}, err
}

// SetRole gives an operator another role.
func (p people) SetRole(name, role string) error {
	return p.Operators.SetRole(name, operators.Role(role))
}

// Rotate makes another key, with now in place of those there are.
func (p people) Rotate(name string, now bool) (localclient.Key, error) {
	kept := p.keeper() == name
	rotate := p.AddKey
	if now {
		rotate = p.ReplaceKeys
	}
	k, err := rotate(name)
	if err != nil {
		return localclient.Key{}, err
	}
	out := localclient.Key{ID: k.ID, Secret: k.Secret}
	if kept {
		if err := operators.WriteCredentials(p.file, k); err != nil {
			return out, err
		}
		out.File = p.file
	}
	return out, nil
}

// Revoke takes a key away.
func (p people) Revoke(name, id string) error {
	if err := p.RemoveKey(name, id); err != nil {
		return err
	}
	return p.forget()
}

// Remove takes an operator away.
func (p people) Remove(name string) error {
	if err := p.Operators.Remove(name); err != nil {
		return err
	}
	return p.forget()
}

// forget takes the file away when its key is of no use any more.
func (p people) forget() error {
	if p.keeper() != "" {
		return nil
	}
	if err := os.Remove(p.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// keeper is whose key stands in the file, "" for nobody's.
func (p people) keeper() string {
	b, err := os.ReadFile(p.file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if name, value, _ := strings.Cut(line, "="); strings.TrimSpace(name) == "aws_access_key_id" {
			return p.Name(strings.TrimSpace(value))
		}
	}
	return ""
}

// sessions lists the broker's sessions.
func (n *Node) sessions() []localclient.Session {
	out := []localclient.Session{}
	for _, s := range n.broker.Sessions() {
		v := localclient.Session{Client: s.ClientID, Principal: s.Principal, Version: 3, Connected: s.Connected, Address: s.Address, Since: s.Since, Persistent: s.Persistent,
			KeepAlive: int64(s.KeepAlive / time.Second), Subscriptions: []localclient.Subscription{}, Unacked: s.Unacked, Queued: s.Queued, QueuedBytes: s.QueuedBytes,
			Behind: s.Behind, Position: s.Position}
		if s.V5 {
			v.Version = 5
		}
		if s.Persistent && !s.Connected && !s.ExpiresNever {
			at := s.Since.Add(s.Expiry)
			v.Expires = &at
		}
		for _, f := range s.Subscriptions {
			v.Subscriptions = append(v.Subscriptions, localclient.Subscription{Filter: f.Filter, QoS: f.QoS})
		}
		for _, g := range s.Gaps {
			v.Lost += g.Count
			v.Gaps = append(v.Gaps, localclient.Gap{From: g.From, To: g.To, Count: g.Count, At: g.At, Why: g.Why})
		}
		out = append(out, v)
	}
	return out
}
