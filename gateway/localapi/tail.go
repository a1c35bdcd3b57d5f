package localapi

import (
	"bufio"
	"encoding/json"
	"net/http"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"tidegate/gateway/fault"
	"tidegate/gateway/localapi/localclient"
	"tidegate/gateway/mqtt"
)

// tailBuffer is how many messages may wait for a reader of tail. When it is full the
// newest are left out, and the reader is told how many.
const tailBuffer = 4096

// stillThere is how often a tail that has nothing to say sends an empty message, so
// that a reader that is gone is noticed.
const stillThere = 15 * time.Second

// tail streams messages: first what the journal keeps, then what is delivered. What is
// in the journal and delivered at the moment of the change comes once.
func (a *API) tail(w http.ResponseWriter, r *http.Request) {
	filter := r.FormValue("filter")
	since, err := timeParam(r, "since")
	if err != nil {
		refuse(w, fault.New(fault.Invalid, "since must be a time as RFC 3339 has it"))
		return
	}
	if err := mqtt.ValidFilter(filter); err != nil {
		refuse(w, err)
		return
	}
	told := seen{from: a.Clock.Now().Add(-lateLive)} // before Follow: what came earlier does not come live
	live := make(chan localclient.Message, tailBuffer)
	var lost atomic.Uint64 // did not fit into live
	cancel, err := a.Follow(filter, func(run *mqtt.Run) {
		for i := range run.Len() {
			select {
			case live <- message(run, i):
			default:
				lost.Add(1)
			}
		}
	})
	if err != nil {
		refuse(w, err)
		return
	}
	defer cancel()

	w.Header().Set("Content-Type", "application/x-ndjson")
	out := bufio.NewWriterSize(w, 32<<10)
	enc, ctl := json.NewEncoder(out), http.NewResponseController(w)
	flush := func() bool { return out.Flush() == nil && ctl.Flush() == nil }
	enc.Encode(localclient.Message{}) // the subscription stands
	if !flush() {
		return
	}
	if !since.IsZero() {
		err := a.History(func(run *mqtt.Run, gone uint64) bool {
			switch {
			case r.Context().Err() != nil:
				return false
			case gone > 0:
				return enc.Encode(localclient.Message{Lost: gone}) == nil
			case run.At.Before(since) || !mqtt.Match(filter, run.Topic):
				return true
			}
			for i := range run.Len() {
				m := message(run, i)
				told.note(&m)
				if enc.Encode(m) != nil {
					return false
				}
			}
			return true
		})
		if err != nil {
			a.Log.Warn("the journal cannot be read for tail", "err", err)
		}
		told.end = a.Clock.Now()
		if !flush() {
			return
		}
	}
	tick := a.Clock.NewTimer(stillThere)
	defer tick.Stop()
	for {
		var m localclient.Message
		select {
		case m = <-live: // never empty for long when something was lost
			if told.again(&m) {
				continue
			}
			if n := lost.Swap(0); n > 0 && enc.Encode(localclient.Message{Lost: n}) != nil {
				return
			}
		case <-tick.C():
			tick.Reset(stillThere)
		case <-r.Context().Done():
			return
		case <-a.bye:
			return
		}
		if enc.Encode(m) != nil || len(live) == 0 && !flush() {
			return
		}
	}
}

// message copies message i of run into its JSON form.
func message(run *mqtt.Run, i int) localclient.Message {
	m := localclient.Message{Topic: run.Topic, QoS: run.QoS, Retain: run.Retain, From: run.From, Origin: run.Origin.String(), At: run.At}
	if p := run.Payload(i); utf8.Valid(p) {
		m.Payload = string(p)
	} else {
		m.Binary = append([]byte(nil), p...)
	}
	return m
}
