package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/logs"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

const (
	waiting   = 1024        // refusals that wait to be looked at
	window    = time.Minute // in which the same refusal is written once, and then once more with how often
	different = 500         // refusals told apart within a window; what is beyond is only counted
	maxText   = 500         // bytes of a name or a reason
)

// Refusal is an attempt that was refused.
type Refusal struct {
	What    string // what was attempted: "connect", "publish", "CreateThing"
	Name    string // on what: a client id, a topic, a path
	By      string // who, as far as that was proven
	Client  string // client id, where there is one
	Address string
	Err     error
}

type refusalEntry struct {
	At      time.Time `json:"at"`
	What    string    `json:"what"`
	Name    string    `json:"name,omitempty"`
	By      string    `json:"by,omitempty"`
	Client  string    `json:"client,omitempty"`
	Address string    `json:"address,omitempty"`
	Code    string    `json:"code,omitempty"`
	Why     string    `json:"why,omitempty"`
	Count   int       `json:"count"`
}

// Refuse takes a refusal and returns at once. It is written soon; one that comes again and
// again is written with its count.
func (l *Log) Refuse(r Refusal) {
	select {
	case l.in <- r:
	default:
		l.lost.Add(1)
		l.crowd.Add(1)
	}
}

// Run writes refusals until ctx ends, and then those that wait.
func (l *Log) Run(ctx context.Context, ready func()) error {
	ready()
	b := &book{seen: map[refusalEntry]int{}}
	timer := l.clk.NewTimer(window)
	defer timer.Stop()
	for {
		select {
		case r := <-l.in:
			l.note(b, r)
		case <-timer.C():
			l.sum(b)
			timer.Reset(window)
		case <-ctx.Done():
			for {
				select {
				case r := <-l.in:
					l.note(b, r)
				default:
					l.sum(b)
					return nil
				}
			}
		}
	}
}

// book holds the refusals of a window: how often each came again after it was written.
type book struct {
	seen   map[refusalEntry]int
	others int // that were too many to be told apart
}

func (l *Log) note(b *book, r Refusal) {
	e := refusalEntry{What: text(r.What), Name: text(r.Name), By: text(r.By), Client: text(r.Client), Address: r.Address}
	if r.Err != nil {
		e.Code, e.Why = fault.Of(r.Err).String(), text(r.Err.Error())
	}
	if n, again := b.seen[e]; again {
		b.seen[e] = n + 1
		return
	}
	if len(b.seen) >= different {
		b.others++
		l.crowd.Add(1)
		return
	}
	b.seen[e] = 0
	l.write(e, 1)
}

// sum ends a window.
func (l *Log) sum(b *book) {
	for _, e := range slices.SortedFunc(maps.Keys(b.seen), func(x, y refusalEntry) int { return cmp.Or(cmp.Compare(x.What, y.What), cmp.Compare(x.Name, y.Name)) }) {
		if n := b.seen[e]; n > 0 {
			l.write(e, n)
		}
	}
	if n := b.others + int(l.lost.Swap(0)); n > 0 {
		l.write(refusalEntry{What: "others", Why: "there were too many to write down each"}, n)
	}
	clear(b.seen)
	b.others = 0
}

func (l *Log) write(e refusalEntry, count int) {
	e.At, e.Count = l.clk.Now().UTC().Truncate(time.Millisecond), count
	doc, err := json.Marshal(e)
	if err != nil {
		panic("BUG: an entry that is not JSON: " + err.Error())
	}
	add := l.enter(Refused, e.At, doc)
	err = l.commit(func(u *store.Unit, emit func(mqtt.Message)) error {
		add(u, emit)
		return nil
	}, func(error) {})
	if err != nil {
		l.log.Warn("refusal could not be written down", "what", e.What, logs.Err(err))
	}
}

// text bounds a text of somebody else's.
func text(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
