package traffic

import (
	"sync"
	"time"

	"tidegate/test/rawmqtt"
)

// visitor is a client with a session that outlives its connections: it follows a target, comes back whenever its connection
// is lost, loses it on purpose now and then, and complains when its session is not there any more.
type visitor struct {
	o          rawmqtt.Options
	stay, away time.Duration // about how long it stays connected before it goes away for about away; stay 0: it stays
	target     *Target
	blame      func(format string, args ...any)
	stop       chan struct{}
	wg         sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conn   *rawmqtt.Conn
	steady bool
}

func newVisitor(target *Target, id string, v5 bool, stay, away time.Duration, blame func(string, ...any)) *visitor {
	return &visitor{o: rawmqtt.Options{ClientID: id, V5: v5, SessionExpiry: 86400, ReadBuffer: 512 << 10}, stay: stay, away: away, target: target, blame: blame, stop: make(chan struct{})}
}

// start has serve called with each connection, fresh until serve has said once that the session is as it should be; it
// ends when serve says that there is nothing more to do.
func (v *visitor) start(serve func(c *rawmqtt.Conn, fresh bool) (settled, done bool)) {
	v.wg.Add(1)
	go func() {
		defer v.wg.Done()
		v.run(serve)
	}()
}

func (v *visitor) run(serve func(c *rawmqtt.Conn, fresh bool) (settled, done bool)) {
	known := false
	for {
		addr := v.target.wait(v.stop)
		if addr == "" {
			return
		}
		c, present, err := rawmqtt.Dial(addr, v.o)
		if err != nil {
			if !v.pause(10 * time.Millisecond) {
				return
			}
			continue
		}
		if known && !present {
			v.blame("the session of %s is gone", v.o.ClientID)
		}
		v.mu.Lock()
		v.conn = c
		var leave *time.Timer
		if v.stay > 0 && !v.steady {
			leave = time.AfterFunc(about(v.stay), func() { c.Conn.Close() })
		}
		v.mu.Unlock()
		done := v.stopped()
		if !done {
			var settled bool
			settled, done = serve(c, !known)
			known = known || settled
		}
		c.Conn.Close()
		if left := leave != nil && !leave.Stop(); done || v.stopped() || left && !v.pause(about(v.away)) {
			return
		}
	}
}

// Steady makes it stay connected from now on.
func (v *visitor) Steady() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.steady = true
}

// Stop ends it; its session stays.
func (v *visitor) Stop() {
	close(v.stop)
	v.mu.Lock()
	if v.conn != nil {
		v.conn.Conn.Close()
	}
	v.mu.Unlock()
	v.wg.Wait()
}

func (v *visitor) pause(d time.Duration) bool {
	select {
	case <-v.stop:
		return false
	case <-time.After(d):
		return true
	}
}

func (v *visitor) stopped() bool {
	select {
	case <-v.stop:
		return true
	default:
		return false
	}
}
