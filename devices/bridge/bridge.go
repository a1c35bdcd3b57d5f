// Package bridge joins what is wired to the box to the road of messages: readings become
// messages, what a shadow desires becomes a write, and what the device then has is
// reported.
//
// A sample of one group is one message of QoS 1 (payload in message.go tells its form).
// For every thing with writable points the bridge follows the shadow: at the start, when
// the shadow changes, and when a device comes back, what is desired is written, each
// value once. What the device has, written or changed by hand, goes into reported. A
// value the device cannot take is not tried again until it is desired anew: it goes to
// the errors topic and is a note in the status, which stays healthy, since the gateway
// and the device do their work and whoever desired it is told; one that could not be delivered, as the
// cable is out, is tried again with growing pauses. Only the latest desired value of a
// point is ever written.
//
//	b := bridge.New(bridge.Deps{Devices: dm, Submit: road.Submit, Shadow: …, Watch: br.Watch, …}, cfg)
//	g.Add("bridge", b.Run)
//
// It keeps nothing: after a restart the shadow and the devices say what is.
package bridge

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/devices"
	"tidegate/devices/manager"
	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/logs"
	"tidegate/gateway/metrics"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/shadow"
)

// Devices is what the bridge needs of the manager.
type Devices interface {
	Next(ctx context.Context) (manager.Sample, error)
	Pending() (manager.Sample, bool)
	Writable() map[string][]devices.Point
	Write(ctx context.Context, thing, point string, v devices.Value) (devices.Value, error)
}

// Deps is what a bridge works with.
type Deps struct {
	Devices Devices
	Submit  func(m mqtt.Message, done func(error))                      // the road
	Shadow  func(thing string) (d shadow.Document, ok bool, err error)  // a thing's classic shadow as it stands
	Watch   func(filter string, fn func(run *mqtt.Run)) (cancel func()) // follows what is published
	Health  interface {
		Raise(code, text string)
		Note(code, text string)
		Clear(code string)
	}
	Miss  func(n uint64, why string) // enters samples that could not be kept into the ledger
	Clock clock.Clock
	Log   *slog.Logger
}

// Bridge is the bridge of all devices.
type Bridge struct {
	d         Deps
	cfg       Config
	slots     chan struct{} // one token for each message under way; full: the next waits
	followers map[string]*follower

	told, refused, written, rejected, reported atomic.Uint64
	refusing                                   atomic.Bool // the last message was not taken
}

// New makes the bridge of a valid configuration.
func New(d Deps, cfg Config) *Bridge {
	b := &Bridge{d: d, cfg: cfg, slots: make(chan struct{}, cfg.InFlight), followers: map[string]*follower{}}
	for thing, points := range d.Devices.Writable() {
		b.followers[thing] = newFollower(b, thing, points)
	}
	return b
}

// Run carries samples and follows shadows until ctx ends, and then what still waits.
func (b *Bridge) Run(ctx context.Context, ready func()) error {
	var wg sync.WaitGroup
	for _, f := range b.followers {
		cancel := f.watch()
		defer cancel()
		wg.Go(func() { f.run(ctx) })
	}
	ready()
	for {
		s, err := b.d.Devices.Next(ctx)
		if err != nil {
			break
		}
		b.tell(ctx, s)
	}
	wg.Wait()
	b.drain()
	return nil
}

// drain tells what waits and lets what is under way finish, for as long as a stop may take.
func (b *Bridge) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	for {
		s, ok := b.d.Devices.Pending()
		if !ok || ctx.Err() != nil {
			break
		}
		b.tell(ctx, s)
	}
	for range cap(b.slots) {
		select {
		case b.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
}

// tell makes the message of a sample and what it means for the shadow. While the road
// takes nothing it slows down, so that the queue behind keeps the newest of every point.
func (b *Bridge) tell(ctx context.Context, s manager.Sample) {
	if f := b.followers[s.Thing]; f != nil {
		f.seen(s)
	}
	if b.refusing.Load() {
		t := b.d.Clock.NewTimer(time.Second)
		select {
		case <-t.C():
		case <-ctx.Done():
			t.Stop()
		}
	}
	b.send(ctx, mqtt.Message{Topic: b.cfg.topic(&s), Payload: b.cfg.payload(&s), QoS: 1, From: s.Thing, Origin: mqtt.Device, At: s.At}, func(err error) {
		if err != nil {
			b.refused.Add(1)
			b.d.Miss(1, fault.Message(err))
		} else {
			b.told.Add(1)
		}
	})
}

// send submits a message once there is a slot for it. done is called once, with ctx's
// error when there was none.
func (b *Bridge) send(ctx context.Context, m mqtt.Message, done func(error)) {
	select {
	case b.slots <- struct{}{}:
	case <-ctx.Done():
		done(ctx.Err())
		return
	}
	b.d.Submit(m, func(err error) {
		<-b.slots
		if was := b.refusing.Swap(err != nil); err != nil {
			b.d.Health.Raise("readings-refused", "readings of the devices cannot be kept, the newest of each point wait: "+err.Error())
			if !was {
				b.d.Log.Warn("reading was not taken", logs.Topic, m.Topic, logs.Err(err))
			}
		} else if was {
			b.d.Health.Clear("readings-refused")
		}
		done(err)
	})
}

// Metrics registers what the bridge counts.
func (b *Bridge) Metrics(s *metrics.Set) {
	for _, c := range []struct {
		name, help string
		n          *atomic.Uint64
	}{
		{"tidegate_bridge_samples_total", "Samples of devices that became messages.", &b.told},
		{"tidegate_bridge_refused_total", "Samples whose message the road did not take.", &b.refused},
		{"tidegate_bridge_written_total", "Desired values that were written to a device.", &b.written},
		{"tidegate_bridge_rejected_total", "Desired values that a device could not take.", &b.rejected},
		{"tidegate_bridge_reported_total", "Updates of reported in shadows of devices.", &b.reported},
	} {
		s.Counter(c.name, c.help, func() float64 { return float64(c.n.Load()) })
	}
}
