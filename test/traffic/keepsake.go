package traffic

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	"tidegate/test/rawmqtt"
)

// Keepsake does one acknowledged thing after the other that a gateway has to remember: it replaces and removes retained
// messages, subscribes and unsubscribes. What it was told holds; of the one thing whose answer is missing it may be
// either way.
type Keepsake struct {
	*visitor
	topic  string
	topics int

	mu     sync.Mutex // guards what follows
	step   uint64     // the thing being done, from 1 on
	answer uint64     // the last that was answered
}

// StartKeepsake starts one that follows the target and works on so many topics below topic.
func StartKeepsake(target *Target, clientID, topic string, topics int, pace time.Duration, blame func(format string, args ...any)) *Keepsake {
	k := &Keepsake{visitor: newVisitor(target, clientID, false, 0, 0, blame), topic: topic, topics: topics, step: 1}
	k.start(func(c *rawmqtt.Conn, _ bool) (settled, done bool) { return k.serve(c, pace), false })
	return k
}

// Step n works on topic n/2 mod topics: an even one on what it retains, an odd one on the subscription.
func (k *Keepsake) thing(n uint64) (topic int, retained bool) {
	return int(n / 2 % uint64(k.topics)), n%2 == 0
}

// rid says whether step n takes away: every third time a topic comes.
func (k *Keepsake) rid(n uint64) bool { return n/2/uint64(k.topics)%3 == 2 }

func (k *Keepsake) name(topic int) string { return fmt.Sprintf("%s/%d", k.topic, topic) }

func (k *Keepsake) serve(c *rawmqtt.Conn, pace time.Duration) (settled bool) {
	for settled = false; ; settled = true {
		k.mu.Lock()
		n := k.step
		k.mu.Unlock()
		topic, retained := k.thing(n)
		var out []byte
		want := byte(rawmqtt.Puback)
		switch {
		case retained && k.rid(n):
			out = rawmqtt.AppendPublish(nil, false, k.name(topic), nil, 1, id(n), rawmqtt.Retain)
		case retained:
			out = rawmqtt.AppendPublish(nil, false, k.name(topic), strconv.AppendUint(nil, n, 10), 1, id(n), rawmqtt.Retain)
		case k.rid(n):
			want = rawmqtt.Unsuback
			out = rawmqtt.AppendUnsubscribe(nil, false, id(n), k.name(topic)+"/sub")
		default:
			want = rawmqtt.Suback
			out = rawmqtt.AppendSubscribe(nil, false, id(n), 1, k.name(topic)+"/sub")
		}
		if _, err := c.Write(out); err != nil {
			return settled
		}
		for {
			p, err := c.Next()
			if err != nil {
				return settled
			}
			if p.Type == want {
				if p.ID != id(n) || p.Code >= 0x80 {
					k.blame("step %d was answered for packet %d with 0x%02x", n, p.ID, p.Code)
				}
				break
			}
		}
		k.mu.Lock()
		k.answer, k.step = n, n+1
		k.mu.Unlock()
		if !k.pause(pace) {
			return true
		}
	}
}

// Steps is how many things were done and answered.
func (k *Keepsake) Steps() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.answer
}

// may gives what a topic may hold: the step that last gave it something, 0 for nothing. Two values while an answer is
// missing.
func (k *Keepsake) may(topic int, retained bool) (values []uint64) {
	for _, last := range []uint64{k.answer, k.step} {
		value := uint64(0)
		for n := last; n > 0; n-- {
			if t, r := k.thing(n); t == topic && r == retained {
				if !k.rid(n) {
					value = n
				}
				break
			}
		}
		values = append(values, value)
	}
	return values
}

// Check compares what the gateway holds with what it said: kept are the retained messages by topic, and subs the filters
// of its session. It may be called while the target is away.
func (k *Keepsake) Check(kept map[string]string, subs map[string]bool) (wrong []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.topics {
		name := k.name(i)
		have, _ := strconv.ParseUint(kept[name], 10, 64)
		if may := k.may(i, true); have != may[0] && have != may[1] {
			wrong = append(wrong, fmt.Sprintf("%s retains %q, which is neither of %v, answered up to %d", name, kept[name], may, k.answer))
		}
		held := subs[name+"/sub"]
		if may := k.may(i, false); held != (may[0] != 0) && held != (may[1] != 0) {
			wrong = append(wrong, fmt.Sprintf("%s/sub: subscribed is %v, want either of %v, answered up to %d", name, held, may, k.answer))
		}
	}
	return wrong
}
