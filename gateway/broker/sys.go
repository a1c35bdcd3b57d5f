package broker

import (
	"maps"
	"math"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tidegate/gateway/mqtt"
)

// sysTopic is one topic by which the broker tells of itself, by the name and in the words
// of mosquitto(8).
type sysTopic struct {
	topic string
	value func(b *Broker) string
}

// sysLoad is a counter whose average a minute is told, over one, five and fifteen minutes.
type sysLoad struct {
	name string
	read func(st *stats) int64
}

// sysLoads are they. What a broker of others would count as dropped is what a slow client, a full
// session or a client with a small packet size did not get.
var sysLoads = [...]sysLoad{
	{"bytes/received", func(st *stats) int64 { return st.bytesIn.Load() }},
	{"bytes/sent", func(st *stats) int64 { return st.bytesOut.Load() }},
	{"connections", func(st *stats) int64 { return st.connects.Load() }},
	{"messages/received", func(st *stats) int64 { return st.packetsIn.Load() }},
	{"messages/sent", func(st *stats) int64 { return st.packets() }},
	{"publish/dropped", func(st *stats) int64 { return st.dropped() }},
	{"publish/received", func(st *stats) int64 { return st.received.Load() }},
	{"publish/sent", func(st *stats) int64 { return st.sent.Load() }},
	{"sockets", func(st *stats) int64 { return st.sockets.Load() }},
}

// sysSpans are the times that an average looks back over.
var sysSpans = [...]struct {
	name string
	over time.Duration
}{{"1min", time.Minute}, {"5min", 5 * time.Minute}, {"15min", 15 * time.Minute}}

// sys is the broker's account of itself. Nothing of it is written: a new subscriber gets the value
// of the moment as if it were retained, the others get what has changed once in an interval,
// with QoS 0. While nobody subscribes an interval costs a few dozen additions.
type sys struct {
	every   time.Duration // 0: there are no such topics
	version string
	started time.Time
	topics  []sysTopic

	// The sweep's own.
	gen    uint64 // of the routes when somebody was last looked for
	wanted bool   // and whether there was anybody
	told   map[string]string
	last   [len(sysLoads)]int64

	mu       sync.Mutex // guards what follows
	sampled  time.Time
	averages [len(sysLoads)][len(sysSpans)]float64
	heapMost uint64
}

func newSys(every time.Duration, version string, now time.Time) *sys {
	y := &sys{every: every, version: version, started: now, sampled: now, told: map[string]string{}}
	if every == 0 {
		return y
	}
	number := func(topic string, read func(b *Broker) int64) {
		y.topics = append(y.topics, sysTopic{mqtt.Sys + "broker/" + topic, func(b *Broker) string { return strconv.FormatInt(read(b), 10) }})
	}
	count := func(topic string, read func(st *stats) int64) {
		number(topic, func(b *Broker) int64 { return read(&b.stats) })
	}
	y.topics = append(y.topics,
		sysTopic{mqtt.Sys + "broker/version", func(*Broker) string { return "tidegate version " + version }},
		sysTopic{mqtt.Sys + "broker/uptime", func(b *Broker) string {
			return strconv.FormatInt(int64(b.clk.Now().Sub(y.started)/time.Second), 10) + " seconds"
		}})
	count("bytes/received", func(st *stats) int64 { return st.bytesIn.Load() })
	count("bytes/sent", func(st *stats) int64 { return st.bytesOut.Load() })
	online := func(st *stats) int64 { return st.online.Load() }
	count("clients/active", online) // mosquitto's older names are asked for, too
	count("clients/connected", online)
	away := func(b *Broker) int64 { return max(0, b.sessionCount()-b.stats.online.Load()) }
	number("clients/inactive", away)
	number("clients/disconnected", away)
	count("clients/expired", func(st *stats) int64 { return st.sessionsExpired.Load() })
	count("clients/maximum", func(st *stats) int64 { return st.onlineMost.Load() })
	number("clients/total", (*Broker).sessionCount)
	number("heap/current", func(*Broker) int64 { return int64(heapNow()) })
	number("heap/maximum", func(*Broker) int64 { return y.heapMax() })
	number("messages/inflight", (*Broker).inflight)
	count("messages/received", func(st *stats) int64 { return st.packetsIn.Load() })
	count("messages/sent", func(st *stats) int64 { return st.packets() })
	number("messages/stored", (*Broker).storedMessages)
	count("publish/bytes/received", func(st *stats) int64 { return st.payloadIn.Load() })
	count("publish/bytes/sent", func(st *stats) int64 { return st.payloadOut.Load() })
	count("publish/messages/dropped", func(st *stats) int64 { return st.dropped() })
	count("publish/messages/received", func(st *stats) int64 { return st.received.Load() })
	count("publish/messages/sent", func(st *stats) int64 { return st.sent.Load() })
	number("retained messages/count", func(b *Broker) int64 { return int64(b.retained.len()) })
	number("shared_subscriptions/count", (*Broker).sharedCount)
	number("store/messages/bytes", func(b *Broker) int64 { return b.jr.Stats().Bytes })
	number("store/messages/count", (*Broker).storedMessages)
	number("subscriptions/count", (*Broker).subscriptionCount)
	for i, l := range sysLoads {
		for k, span := range sysSpans {
			y.topics = append(y.topics, sysTopic{mqtt.Sys + "broker/load/" + l.name + "/" + span.name, func(*Broker) string {
				return strconv.FormatFloat(y.average(i, k), 'f', 2, 64)
			}})
		}
	}
	return y
}

// tick takes a sample when it is time, and tells who subscribes what has changed. The
// sweep calls it once a second.
func (y *sys) tick(b *Broker, now time.Time) {
	if y.every == 0 || now.Sub(y.sampled) < y.every {
		return
	}
	y.sample(b, now)
	if !y.listened(b) {
		return
	}
	var ob Outbox
	for i := range y.topics {
		t := &y.topics[i]
		r := b.Route(t.topic)
		if r.Targets == 0 {
			continue
		}
		v := t.value(b)
		if y.told[t.topic] == v {
			continue
		}
		y.told[t.topic] = v
		m := sysMessage(t.topic, v, now)
		b.tell(mqtt.NewRun(&m), r, &ob)
	}
	b.Flush(&ob)
}

// listened says whether anybody subscribes. It looks only when some subscription has changed.
func (y *sys) listened(b *Broker) bool {
	if gen := b.Gen(); gen != y.gen {
		y.gen, y.wanted = gen, false
		for i := range y.topics {
			y.wanted = y.wanted || b.Route(y.topics[i].topic).Targets > 0
		}
		if !y.wanted {
			clear(y.told)
		}
	}
	return y.wanted
}

// sample moves the averages on, as mosquitto and the kernel's load do.
func (y *sys) sample(b *Broker, now time.Time) {
	heap := heapNow()
	y.mu.Lock()
	defer y.mu.Unlock()
	y.heapMost = max(y.heapMost, heap)
	took := now.Sub(y.sampled)
	y.sampled = now
	for i, l := range sysLoads {
		n := l.read(&b.stats)
		rate := float64(n-y.last[i]) * float64(time.Minute) / float64(took)
		y.last[i] = n
		for k, span := range sysSpans {
			a := &y.averages[i][k]
			*a = rate + math.Exp(-float64(took)/float64(span.over))*(*a-rate)
		}
	}
}

func (y *sys) average(load, span int) float64 {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.averages[load][span]
}

func (y *sys) heapMax() int64 {
	y.mu.Lock()
	defer y.mu.Unlock()
	return int64(max(y.heapMost, heapNow()))
}

// match lists the topics that filter covers, as if they were retained.
func (y *sys) match(filter string, g grant) []retainedEntry {
	if !strings.HasPrefix(filter, mqtt.Sys) { // [MQTT-4.7.2-1]
		return nil
	}
	var list []retainedEntry
	for i := range y.topics {
		if mqtt.Match(filter, y.topics[i].topic) {
			list = append(list, retainedEntry{topic: y.topics[i].topic, filter: filter, grant: g})
		}
	}
	return list
}

// message gives what topic would tell now; ok is false when there is no such topic.
func (y *sys) message(b *Broker, topic string) (m mqtt.Message, ok bool) {
	for i := range y.topics {
		if t := &y.topics[i]; t.topic == topic {
			return sysMessage(topic, t.value(b), b.clk.Now()), true
		}
	}
	return mqtt.Message{}, false
}

func sysMessage(topic, value string, now time.Time) mqtt.Message {
	return mqtt.Message{Topic: topic, Payload: []byte(value), Retain: true, Origin: mqtt.Service, At: now}
}

// tell gives a run of the broker's own to everybody on r with QoS 0. It is Deliver for what
// is neither committed nor kept.
func (b *Broker) tell(run *mqtt.Run, r *Route, ob *Outbox) {
	f := newFan(run, 0)
	for i := range r.to {
		t := &r.to[i]
		if c := t.s.conn.Load(); c != nil && !t.none {
			c.offer(f.as(t.s.v5, 0, t.rap, t.ids), ob)
		}
	}
	for _, g := range r.groups {
		g.deliver(run, 0, ob)
	}
	f.free()
	for _, w := range r.watch {
		w.fn(run)
	}
}

func heapNow() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

func (b *Broker) sessionCount() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(len(b.sessions))
}

// subscriptionCount gives the subscriptions that are not shared.
func (b *Broker) subscriptionCount() int64 {
	b.table.mu.RLock()
	defer b.table.mu.RUnlock()
	return int64(b.table.subs.Len())
}

// sharedCount gives the memberships of shared subscriptions.
func (b *Broker) sharedCount() (n int64) {
	b.mu.Lock()
	groups := slices.Collect(maps.Values(b.groups))
	b.mu.Unlock()
	for _, g := range groups {
		g.mu.Lock()
		n += int64(len(g.members))
		g.mu.Unlock()
	}
	return n
}

// inflight gives the messages sent with QoS 1 or 2 and not acknowledged.
func (b *Broker) inflight() (n int64) {
	b.mu.Lock()
	all := slices.Collect(maps.Values(b.sessions))
	b.mu.Unlock()
	for _, s := range all {
		s.mu.Lock()
		n += int64(s.win.len() + len(s.out2) - s.done2)
		s.mu.Unlock()
	}
	return n
}

// storedMessages gives the messages kept: retained ones, and those that the furthest cursor has
// not passed.
func (b *Broker) storedMessages() int64 {
	lag := uint64(0)
	for _, c := range b.jr.Cursors() {
		lag = max(lag, c.Lag)
	}
	return int64(b.retained.len()) + int64(lag)
}
