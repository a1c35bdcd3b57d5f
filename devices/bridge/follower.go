package bridge

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"tidegate/devices"
	"tidegate/devices/manager"
	"tidegate/gateway/fault"
	"tidegate/gateway/jsondoc"
	"tidegate/gateway/logs"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
)

const (
	writeWithin = 10 * time.Second // for one write, waiting for the bus included
	minRetry    = time.Second
	maxRetry    = 30 * time.Second
)

// follower keeps the writable points of one thing and its shadow together.
type follower struct {
	b      *Bridge
	thing  string
	points []devices.Point
	wake   chan struct{} // holds one token: the shadow or the device has changed

	mu     sync.Mutex                 // guards what follows; nothing is called while it is held
	actual map[string]devices.Reading // what the device has, as far as that is known to be good
	shown  map[string]devices.Value   // what reported says, as far as we know
	sent   map[string]report          // what was reported last
	under  int                        // reports under way
	again  map[string]bool            // points of a device that has come back: what is desired counts anew
}

// report is a value that was reported, and when.
type report struct {
	value devices.Value
	at    time.Time
}

// wish is a desired value, by which the follower knows whether it has dealt with it.
type wish struct {
	text string // as JSON
	mark int64  // when it was desired, in epoch seconds
}

func newFollower(b *Bridge, thing string, points []devices.Point) *follower {
	return &follower{b: b, thing: thing, points: points, wake: make(chan struct{}, 1), actual: map[string]devices.Reading{},
		shown: map[string]devices.Value{}, sent: map[string]report{}, again: map[string]bool{}}
}

func (f *follower) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// watch has the shadow's changes wake the follower.
func (f *follower) watch() (cancel func()) {
	delta := awstopic.Topic{Service: awstopic.Shadow, Thing: f.thing, Op: awstopic.Update, Reply: awstopic.Delta}
	gone := awstopic.Topic{Service: awstopic.Shadow, Thing: f.thing, Op: awstopic.Delete, Reply: awstopic.Accepted}
	one := f.b.d.Watch(delta.String(), func(*mqtt.Run) { f.nudge() })
	two := f.b.d.Watch(gone.String(), func(*mqtt.Run) { f.nudge() })
	return func() { one(); two() }
}

// seen takes what the device says.
func (f *follower) seen(s manager.Sample) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, r := range s.Readings {
		if !s.Points[i].Writable {
			continue
		}
		was := f.actual[r.Point]
		if r.At.Before(was.At) {
			continue // waited in the queue while a write overtook it
		}
		f.actual[r.Point] = r
		good := r.Quality == devices.Good || r.Quality == devices.Uncertain
		if good && was.Quality != devices.Good && was.Quality != devices.Uncertain { // also when it is heard of for the first time
			f.again[r.Point] = true
			f.nudge()
		}
		if v, known := f.shown[r.Point]; good && (!known || !v.Equal(r.Value)) {
			f.nudge()
		}
	}
}

// run follows the shadow until ctx ends.
func (f *follower) run(ctx context.Context) {
	dealt := map[string]wish{}      // what is done with, well or not
	warned := map[string]bool{}     // points with a health warning
	retry := map[string]time.Time{} // when a wish that could not be delivered is tried again
	pause := map[string]time.Duration{}
	for {
		doc, ok, err := f.b.d.Shadow(f.thing)
		if err != nil {
			f.b.d.Log.Warn("shadow cannot be read", logs.Thing, f.thing, logs.Err(err))
		}
		if !ok || err != nil {
			doc.Desired, doc.Reported = jsondoc.Value{}, jsondoc.Value{}
		}
		f.learn(&doc.Reported, err == nil)
		next := time.Time{}
		for i := range f.points {
			p := &f.points[i]
			leaf := doc.Desired.Get(p.Name)
			if f.isBack(p.Name) {
				delete(dealt, p.Name)
				delete(retry, p.Name)
				delete(pause, p.Name)
			}
			if leaf == nil {
				delete(dealt, p.Name)
				delete(retry, p.Name)
				f.forgive(p.Name, warned)
				continue
			}
			w := wish{text: string(jsondoc.Append(nil, leaf)), mark: leaf.Mark}
			if dealt[p.Name] == w {
				continue
			}
			now := f.b.d.Clock.Now()
			if at := retry[p.Name]; at.After(now) {
				next = sooner(next, at)
				continue
			}
			err := f.grant(ctx, p, leaf)
			if ctx.Err() != nil {
				return
			}
			switch code := fault.Of(err); {
			case err == nil:
				dealt[p.Name] = w
				delete(retry, p.Name)
				delete(pause, p.Name)
				f.forgive(p.Name, warned)
			case code == fault.Unavailable || code == fault.Timeout:
				pause[p.Name] = min(max(2*pause[p.Name], minRetry), maxRetry)
				retry[p.Name] = now.Add(pause[p.Name])
				next = sooner(next, retry[p.Name])
			default:
				dealt[p.Name] = w
				delete(retry, p.Name)
				f.reject(ctx, p, w.text, err)
				warned[p.Name] = true
			}
		}
		if at := f.report(ctx); !at.IsZero() {
			next = sooner(next, at)
		}
		if !f.rest(ctx, next) {
			return
		}
	}
}

// rest waits for something to have changed or the time of the next retry.
func (f *follower) rest(ctx context.Context, next time.Time) bool {
	var due <-chan time.Time
	if !next.IsZero() {
		t := f.b.d.Clock.NewTimer(max(0, next.Sub(f.b.d.Clock.Now())))
		defer t.Stop()
		due = t.C()
	}
	select {
	case <-ctx.Done():
		return false
	case <-f.wake:
	case <-due:
	}
	return true
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// learn takes what reported says, unless reports are under way that would change it.
func (f *follower) learn(reported *jsondoc.Value, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.under > 0 || !known {
		return
	}
	clear(f.shown)
	for i := range f.points {
		if leaf := reported.Get(f.points[i].Name); leaf != nil {
			if v, err := convert(leaf); err == nil {
				f.shown[f.points[i].Name] = v
			}
		}
	}
}

func (f *follower) isBack(point string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	back := f.again[point]
	delete(f.again, point)
	return back
}

// grant writes one desired value.
func (f *follower) grant(ctx context.Context, p *devices.Point, leaf *jsondoc.Value) error {
	v, err := convert(leaf)
	if err != nil {
		return fault.New(fault.Invalid, "%s cannot be set to %s", p.Name, leaf.Kind())
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	now, err := f.b.d.Devices.Write(ctx, f.thing, p.Name, v)
	if err != nil {
		return err
	}
	f.b.written.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.actual[p.Name] = devices.Reading{Point: p.Name, Value: now, At: f.b.d.Clock.Now(), Quality: devices.Good}
	return nil
}

// convert makes a device's value of a leaf of a shadow.
func convert(leaf *jsondoc.Value) (devices.Value, error) {
	switch leaf.Kind() {
	case jsondoc.Bool:
		return devices.Bool(leaf.Text() == "true"), nil
	case jsondoc.Number:
		return devices.ParseNumber(leaf.Text())
	case jsondoc.String:
		return devices.Text(leaf.Text()), nil
	}
	return devices.Value{}, errors.New("not one value")
}

// reject tells that a desired value cannot be.
func (f *follower) reject(ctx context.Context, p *devices.Point, desired string, err error) {
	f.b.rejected.Add(1)
	f.mu.Lock()
	value := f.actual[p.Name].Value
	f.mu.Unlock()
	text := fault.Message(err)
	f.b.d.Health.Note("desired-refused/"+f.thing+"."+p.Name, "what the shadow of "+f.thing+" desires cannot be: "+text)
	f.b.d.Log.Warn("desired value cannot be set", logs.Thing, f.thing, logs.Point, p.Name, logs.Error, text)
	now := f.b.d.Clock.Now()
	f.b.send(ctx, mqtt.Message{Topic: strings.ReplaceAll(f.b.cfg.Errors, "{thing}", f.thing), QoS: 1, From: f.thing, Origin: mqtt.Device, At: now,
		Payload: f.b.cfg.refusal(now, f.thing, p.Name, desired, value, fault.Of(err).String(), text)}, func(error) {})
}

func (f *follower) forgive(point string, warned map[string]bool) {
	if warned[point] {
		delete(warned, point)
		f.b.d.Health.Clear("desired-refused/" + f.thing + "." + point)
	}
}

// report puts into reported what the device has and reported does not say. What did not
// get there, as the shadow is too large or somebody else keeps changing it, is reported
// again after a while: again is then when.
func (f *follower) report(ctx context.Context) (again time.Time) {
	doc, again := f.difference()
	if doc == nil {
		return again
	}
	topic := awstopic.Topic{Service: awstopic.Shadow, Thing: f.thing, Op: awstopic.Update}
	f.b.send(ctx, mqtt.Message{Topic: topic.String(), Payload: doc, QoS: 1, From: f.thing, Origin: mqtt.Device, At: f.b.d.Clock.Now()}, func(err error) {
		f.mu.Lock()
		f.under--
		f.mu.Unlock()
		if err == nil {
			f.b.reported.Add(1)
		}
		f.nudge() // to see what reported says now
	})
	return again
}

// difference makes the update, nil when there is none to be sent now.
func (f *follower) difference() (doc []byte, again time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.b.d.Clock.Now()
	for i := range f.points {
		name := f.points[i].Name
		r := f.actual[name]
		if r.Quality != devices.Good && r.Quality != devices.Uncertain {
			continue
		}
		if v, known := f.shown[name]; known && v.Equal(r.Value) {
			continue
		}
		if last := f.sent[name]; last.value.Equal(r.Value) && now.Sub(last.at) < maxRetry {
			again = sooner(again, last.at.Add(maxRetry))
			continue
		}
		if doc == nil {
			doc = append(doc, `{"state":{"reported":{`...)
		} else {
			doc = append(doc, ',')
		}
		doc = append(devices.AppendQuoted(doc, name), ':')
		doc = r.Value.AppendJSON(doc)
		f.shown[name], f.sent[name] = r.Value, report{r.Value, now}
	}
	if doc != nil {
		f.under++
		doc = append(doc, `}}}`...)
	}
	return doc, again
}
