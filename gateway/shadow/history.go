package shadow

import (
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/jsondoc"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
)

// A shadow's past is what the journal has kept of the messages that tell of its changes:
// documents and the answer to a delete. They go through the same commit as the change, so
// the log is complete from its beginning on, unless it says that something is missing.

// Past calls fn for what a log of messages holds, oldest first, until fn returns false or
// the end is reached. Where records are missing run is nil and lost says how many.
type Past func(fn func(run *mqtt.Run, lost uint64) bool) error

// Entry is one change of a shadow.
type Entry struct {
	ID
	At        time.Time     // when it was made
	By        string        // who it was proven to be; empty for the gateway itself
	From      string        // the client or door it came through
	Version   int64         // after it; of a deletion the version that was deleted
	Deleted   bool          //
	State     jsondoc.Value // the state after it: desired and reported; no value when deleted
	Before    jsondoc.Value // the state before it; no value when there was no shadow
	Lost      uint64        // records that are missing between the entry before and this one
	hasBefore bool
}

// KeepFilters select the messages that a journal has to keep for a past.
func KeepFilters() []string {
	return []string{awstopic.Prefix + "things/+/shadow/update/documents", awstopic.Prefix + "things/+/shadow/name/+/update/documents",
		awstopic.Prefix + "things/+/shadow/delete/accepted", awstopic.Prefix + "things/+/shadow/name/+/delete/accepted"}
}

// Log calls fn for every change of a shadow that the past holds since a time, oldest
// first, until fn returns false.
func Log(past Past, id ID, since time.Time, fn func(Entry) bool) error {
	lost := uint64(0)
	documents, deleted := id.told(awstopic.Update, awstopic.Documents), id.told(awstopic.Delete, awstopic.Accepted)
	return past(func(run *mqtt.Run, gone uint64) bool {
		switch {
		case run == nil:
			lost += gone
			return true
		case run.Topic != documents && run.Topic != deleted || run.Origin != mqtt.Service:
			return true // who else speaks on these topics is not us
		case run.At.Before(since):
			lost = 0
			return true
		}
		for i := range run.Len() {
			e := Entry{ID: id, At: run.At, By: run.Principal, From: run.From, Deleted: run.Topic == deleted, Lost: lost}
			if !e.read(run.Payload(i)) {
				continue
			}
			lost = 0
			if !fn(e) {
				return false
			}
		}
		return true
	})
}

func (id ID) told(op awstopic.Op, reply awstopic.Reply) string {
	return awstopic.Topic{Service: awstopic.Shadow, Thing: id.Thing, Name: id.Name, Op: op, Reply: reply}.String()
}

// read takes a message apart.
func (e *Entry) read(payload []byte) bool {
	doc, err := jsondoc.Parse(payload, jsondoc.Options{})
	if err != nil {
		return false
	}
	version := doc.Get("version")
	if !e.Deleted {
		current := doc.Get("current")
		version = current.Get("version")
		if s := current.Get("state"); s != nil {
			e.State = *s
		}
		e.hasBefore = true
		if s := doc.Get("previous").Get("state"); s != nil {
			e.Before = *s
		}
	}
	n, ok := version.Int()
	e.Version = n
	return ok
}

// At gives a shadow as it was at a time, as the change that made it so. Where the past
// begins later but tells what was before, By, From and the version are unknown. It fails
// with NotFound when there was no such shadow, or Unavailable when nobody knows any more.
func (r *Room) At(db interface {
	Get(key string) ([]byte, error)
}, past Past, id ID, at time.Time) (Entry, error) {
	if err := id.check(); err != nil {
		return Entry{}, err
	}
	var last, next Entry
	err := Log(past, id, time.Time{}, func(e Entry) bool {
		if e.At.After(at) {
			next = e
			return false
		}
		last = e
		return true
	})
	missing := fault.New(fault.NotFound, "there was no such shadow at %s", at.Format(time.RFC3339))
	switch {
	case err != nil:
		return Entry{}, err
	case last.Version > 0 && last.Deleted:
		return Entry{}, missing
	case last.Version > 0:
		return last, nil
	case next.Version > 0 && next.hasBefore && next.Before.Kind() != jsondoc.None:
		return Entry{ID: id, State: next.Before}, nil
	case next.Version > 0 && next.hasBefore:
		return Entry{}, missing
	case next.Version > 0:
		return Entry{}, fault.New(fault.Unavailable, "the journal goes back to %s only", next.At.Format(time.RFC3339))
	}
	d, ok, err := r.Load(db, id)
	switch {
	case err != nil:
		return Entry{}, err
	case !ok:
		return Entry{}, missing
	case newest(&d.Desired, &d.Reported) > at.Unix():
		return Entry{}, fault.New(fault.Unavailable, "the journal has kept nothing of what the shadow was then")
	}
	return Entry{ID: id, Version: d.Version, State: d.State()}, nil
}

// State gives desired and reported as one object.
func (d *Document) State() jsondoc.Value {
	var m []jsondoc.Member
	for _, s := range []jsondoc.Member{{Key: sectionNames[0], Value: d.Desired}, {Key: sectionNames[1], Value: d.Reported}} {
		if s.Value.Kind() != jsondoc.None {
			m = append(m, s)
		}
	}
	return jsondoc.ObjectValue(m)
}

// newest gives the time of the youngest leaf.
func newest(values ...*jsondoc.Value) (at int64) {
	for _, v := range values {
		kids := v.Kids()
		if v.Kind() != jsondoc.Object && v.Kind() != jsondoc.Array {
			at = max(at, v.Mark)
		}
		for i := range kids {
			at = max(at, newest(&kids[i].Value))
		}
	}
	return at
}
