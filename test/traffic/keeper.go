package traffic

import (
	"math/rand/v2"
	"sync"
	"time"

	"tidegate/test/rawmqtt"
)

// KeeperOptions for StartKeeper.
type KeeperOptions struct {
	ClientID string
	Filter   string
	V5       bool
	// Stay is about how long it stays connected before it goes away for about Away; 0: it stays.
	Stay, Away time.Duration
	// Resume says that the session exists already, so that its absence is a loss.
	Resume bool
	Heard  func(payload []byte) // told of each message after the Tally
}

// Keeper is a persistent subscriber: it acknowledges what it has given to its Tally, loses its connection now and then, and
// expects to find its session each time it comes back.
type Keeper struct {
	o      KeeperOptions
	target *Target
	tally  *Tally
	stop   chan struct{}
	wg     sync.WaitGroup
	ready  chan struct{} // closed once it has subscribed
	once   sync.Once

	mu     sync.Mutex // guards what follows
	conn   *rawmqtt.Conn
	steady bool
}

// StartKeeper starts one that follows the target and returns at once.
func StartKeeper(target *Target, tally *Tally, o KeeperOptions) *Keeper {
	k := &Keeper{o: o, target: target, tally: tally, stop: make(chan struct{}), ready: make(chan struct{})}
	k.wg.Add(1)
	go func() { defer k.wg.Done(); k.run() }()
	return k
}

// Subscribed waits until the subscription stands, so that nothing acknowledged from now on may pass it by; false when it
// does not within a minute.
func (k *Keeper) Subscribed() bool {
	select {
	case <-k.ready:
		return true
	case <-time.After(time.Minute):
		return false
	}
}

// Steady makes it stay connected from now on.
func (k *Keeper) Steady() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.steady = true
}

// Stop ends it; its session stays.
func (k *Keeper) Stop() {
	close(k.stop)
	k.mu.Lock()
	if k.conn != nil {
		k.conn.Conn.Close()
	}
	k.mu.Unlock()
	k.wg.Wait()
}

func (k *Keeper) run() {
	known := k.o.Resume
	for {
		addr := k.target.wait(k.stop)
		if addr == "" {
			return
		}
		c, present, err := rawmqtt.Dial(addr, rawmqtt.Options{ClientID: k.o.ClientID, V5: k.o.V5, SessionExpiry: 86400, ReadBuffer: 512 << 10})
		if err != nil {
			if !k.pause(10 * time.Millisecond) {
				return
			}
			continue
		}
		if known && !present {
			k.tally.Blame("the session of %s is gone", k.o.ClientID)
		}
		if !known {
			if err := c.Subscribe(1, k.o.Filter); err != nil {
				c.Conn.Close()
				continue
			}
			known = true
		}
		k.once.Do(func() { close(k.ready) })
		k.mu.Lock()
		k.conn = c
		steady := k.steady
		k.mu.Unlock()
		if k.stopped() {
			c.Conn.Close()
			return
		}
		var leave *time.Timer
		if k.o.Stay > 0 && !steady {
			leave = time.AfterFunc(about(k.o.Stay), func() { c.Conn.Close() })
		}
		k.listen(c)
		c.Conn.Close()
		if leave != nil && !leave.Stop() && !k.pause(about(k.o.Away)) {
			return
		}
		if k.stopped() {
			return
		}
	}
}

func (k *Keeper) listen(c *rawmqtt.Conn) {
	var acks []byte
	for {
		p, err := c.Next()
		if err != nil {
			return
		}
		if p.Type == rawmqtt.Publish {
			k.tally.Take(p.Payload)
			if k.o.Heard != nil {
				k.o.Heard(p.Payload)
			}
			if p.QoS() != 1 {
				k.tally.Blame("%s: %.20q came with QoS %d", k.o.ClientID, p.Payload, p.QoS())
			}
			acks = rawmqtt.AppendAck(acks, rawmqtt.Puback, p.ID)
		}
		if len(acks) > 0 && !c.More() {
			if _, err := c.Write(acks); err != nil {
				return
			}
			acks = acks[:0]
		}
	}
}

func (k *Keeper) pause(d time.Duration) bool {
	select {
	case <-k.stop:
		return false
	case <-time.After(d):
		return true
	}
}

func (k *Keeper) stopped() bool {
	select {
	case <-k.stop:
		return true
	default:
		return false
	}
}

// about is somewhere between half and one and a half of d.
func about(d time.Duration) time.Duration { return d/2 + rand.N(d) }
