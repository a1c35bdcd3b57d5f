package node

import (
	"encoding/json"
	"io"
	"slices"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/ingest"
	"tidegate/gateway/jobs/streams"
	"tidegate/gateway/jsondoc"
	"tidegate/gateway/localapi/localclient"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/reserved"
	"tidegate/gateway/shadow"
	"tidegate/gateway/store"
)

// shadowDesk is the shadow service as the command line sees it.
type shadowDesk struct {
	n      *Node
	room   *shadow.Room
	topics *reserved.Shadows
	road   *ingest.Road
}

// List gives the shadows of a thing, or all.
func (d shadowDesk) List(thing string) ([]localclient.ShadowRef, error) {
	list := []localclient.ShadowRef{}
	err := d.room.Each(d.n.store, thing, func(id shadow.ID, doc shadow.Document) bool {
		_, differs := doc.Delta()
		list = append(list, localclient.ShadowRef{Thing: id.Thing, Name: id.Name, Version: doc.Version, Delta: differs, Changed: time.Unix(doc.Updated, 0)})
		return true
	})
	return list, err
}

// Show gives a shadow as it is or was.
func (d shadowDesk) Show(thing, name string, at time.Time) (localclient.Shadow, error) {
	id := shadow.ID{Thing: thing, Name: name}
	s := localclient.Shadow{Thing: thing, Name: name}
	if !at.IsZero() {
		e, err := d.room.At(d.n.store, id, at)
		if err != nil {
			return s, err
		}
		s.Version, s.State, s.By, s.From = e.Version, raw(&e.State), e.By, e.From
		if !e.At.IsZero() {
			s.Changed = &e.At
		}
		return s, nil
	}
	doc, ok, err := d.room.Load(d.n.store, id)
	if err != nil {
		return s, err
	}
	if !ok {
		return s, fault.New(fault.NotFound, "%s has no such shadow", thing)
	}
	state := doc.State()
	s.Version, s.State = doc.Version, raw(&state)
	if delta, differs := doc.Delta(); differs {
		s.Delta = raw(&delta)
	}
	err = d.room.Log(d.n.store, id, func(e shadow.Entry) bool {
		if e.Version == doc.Version && !e.Deleted {
			s.Changed, s.By, s.From = &e.At, e.By, e.From
		}
		return e.Version > doc.Version
	})
	return s, err
}

// raw writes a value, nothing for no value.
func raw(v *jsondoc.Value) json.RawMessage {
	if v.Kind() == jsondoc.None {
		return nil
	}
	return jsondoc.Append(nil, v)
}

// Update sends an update request in somebody's name.
func (d shadowDesk) Update(thing, name string, request []byte, by string) ([]byte, error) {
	return d.topics.Do(d.road.Commit, reserved.Ask{ID: shadow.ID{Thing: thing, Name: name}, Request: request, Who: shadow.Who{By: by, From: "command line"}})
}

// Remove deletes a shadow in somebody's name.
func (d shadowDesk) Remove(thing, name, by string) error {
	_, err := d.topics.Do(d.road.Commit, reserved.Ask{ID: shadow.ID{Thing: thing, Name: name}, Delete: true, Who: shadow.Who{By: by, From: "command line"}})
	return err
}

// Log gives the last changes of a shadow since a time, oldest first.
func (d shadowDesk) Log(thing, name string, since time.Time, max int) ([]localclient.ShadowChange, error) {
	list := []localclient.ShadowChange{}
	err := d.room.Log(d.n.store, shadow.ID{Thing: thing, Name: name}, func(e shadow.Entry) bool {
		if e.At.Before(since) {
			return false
		}
		c := localclient.ShadowChange{At: e.At, By: e.By, From: e.From, Version: e.Version, Deleted: e.Deleted, State: raw(&e.State), Before: raw(&e.Before)}
		if change, differs := jsondoc.Undo(&e.Before, &e.State); differs && !e.Deleted {
			c.Change = raw(&change)
		}
		list = append(list, c)
		return len(list) != max
	})
	slices.Reverse(list)
	return list, err
}

// AddFile keeps content under the name of an object.
func (d shadowDesk) AddFile(bucket, key string, content io.Reader) (localclient.File, error) {
	b, err := d.n.keep(d.road, bucket, key, content)
	return localclient.File{Hash: b.Hash, Size: b.Size}, err
}

// keep adds a file and gives it a name.
func (n *Node) keep(road *ingest.Road, bucket, key string, content io.Reader) (streams.Blob, error) {
	b, err := n.work.files.Add(content)
	if err != nil {
		return b, err
	}
	done := make(chan error, 1)
	err = road.Commit(func(u *store.Unit, _ func(mqtt.Message)) error { return n.work.files.Name(u, bucket, key, b) }, func(err error) { done <- err })
	if err == nil {
		err = <-done
	}
	return b, err
}
