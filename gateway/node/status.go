package node

import (
	"errors"
	"syscall"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/journal"
	"tidegate/gateway/localapi/localclient"
	"tidegate/gateway/mqtt"
)

// status gathers what the rooms know of themselves.
func (n *Node) status() localclient.Status {
	j, st := n.journal.Stats(), n.store.Stats()
	s := localclient.Status{Version: n.Version, Dev: n.cfg.Dev, Data: n.cfg.Data, ARN: n.registry.Base(), Region: n.cfg.Account.Region, Vault: n.identity.Vault(), Listeners: n.ports.Addrs(), Clients: n.broker.Clients(),
		Journal: localclient.Journal{Next: j.Next, Bytes: j.Bytes, Losses: uint64(j.Ledger), Cursors: []localclient.Cursor{}},
		Store:   localclient.Store{Bytes: n.store.DiskBytes(), Full: st.Full != ""}}
	for _, c := range j.Cursors {
		s.Journal.Cursors = append(s.Journal.Cursors, localclient.Cursor{Name: c.Name, Next: c.Pos, Lag: c.Lag})
	}
	var fs syscall.Statfs_t
	if syscall.Statfs(n.cfg.Data, &fs) == nil {
		s.Store.Free = int64(fs.Bavail) * int64(fs.Bsize)
	}
	return s
}

func (n *Node) ledger(since time.Time, max int) []localclient.Loss {
	ls := []localclient.Loss{}
	for _, l := range n.journal.Ledger(since, max) {
		ls = append(ls, localclient.Loss{Queue: l.Name, From: l.From, To: l.To, Count: l.Count, At: l.At, Why: l.Why})
	}
	return ls
}

// history reads what the journal keeps, oldest first.
func (n *Node) history(fn func(run *mqtt.Run, lost uint64) bool) error {
	for r := n.journal.Reader(0); ; {
		_, run, ok, err := r.Next()
		var gap *journal.GapError
		switch {
		case errors.As(err, &gap):
			if !fn(nil, gap.To-gap.From+1) {
				return nil
			}
		case err != nil:
			return err
		case !ok || !fn(run, 0):
			return nil
		}
	}
}

// follow has fn called for every run that is delivered.
func (n *Node) follow(filter string, fn func(*mqtt.Run)) (cancel func(), err error) {
	if _, _, shared, _ := mqtt.SplitShare(filter); shared {
		return nil, fault.New(fault.Invalid, "a shared subscription cannot be followed")
	}
	return n.broker.Watch(filter, fn), nil
}
