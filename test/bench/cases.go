package main

import (
	"time"
)

// Case is one row of what is measured.
type Case struct {
	Name  string
	Title string
	Unit  string
	Less  bool // less is better
	Goal  Goal
	Not   []string // peers it makes no sense for
	Alone bool     // no peer has anything like it
	Run   func(*Bench) Figures
}

// Goal is what the gateway's figure is held against: Factor times a peer's, or Factor itself when Peer is "".
type Goal struct {
	Peer   string
	Factor float64
}

// Figures are what a case found. "value" is the one that is compared.
type Figures map[string]float64

// Bench is one case on one broker.
type Bench struct {
	*stage
	Settings
	Case Case
	Name string // of the broker
}

const perCore = "thousand deliveries per broker core-second"

// The first ones are the issue of speed: how much a core does. Window 64 and more is what a busy link has on its way; 1 is the
// device that waits for each answer.
var cases = []Case{
	{Name: "fanin-qos0", Title: "fan-in 20→1, QoS 0, 256 B", Unit: perCore, Goal: Goal{"nats", 5},
		Run: throughput(Shape{Pubs: 20, Subs: 1, Size: 256, Window: 128})},
	{Name: "fanin-qos0-single", Title: "the same, one packet to a write", Unit: perCore, Goal: Goal{"nats", 1},
		Run: throughput(Shape{Pubs: 20, Subs: 1, Size: 256, Window: 128, OneByOne: true})},
	{Name: "fanin-qos1", Title: "fan-in 20→1, QoS 1, 256 B, 64 in flight each, on disk", Unit: perCore, Goal: Goal{"mosquitto", 8},
		Run: throughput(Shape{Pubs: 20, Subs: 1, QoS: 1, Size: 256, Window: 64, Persistent: true})},
	{Name: "fanin-qos1-memory", Title: "the same, nothing on disk", Unit: perCore, Goal: Goal{"mosquitto", 8},
		Run: throughput(Shape{Pubs: 20, Subs: 1, QoS: 1, Size: 256, Window: 64})},
	{Name: "fanin-qos1-one", Title: "fan-in 20→1, QoS 1, 256 B, one in flight each, on disk", Unit: perCore, Goal: Goal{"mosquitto", 1},
		Run: throughput(Shape{Pubs: 20, Subs: 1, QoS: 1, Size: 256, Window: 1, ByAck: true, Persistent: true})},
	{Name: "fanout-qos0", Title: "fan-out 1→100, QoS 0, 64 B", Unit: perCore, Goal: Goal{"nats", 2.5},
		Run: throughput(Shape{Pubs: 1, Subs: 100, Size: 64, Window: 64})},
	{Name: "fanout-qos1", Title: "fan-out 1→100, QoS 1, 64 B, on disk", Unit: perCore, Goal: Goal{"mosquitto", 10},
		Run: throughput(Shape{Pubs: 1, Subs: 100, QoS: 1, Size: 64, Window: 64, Persistent: true})},
	{Name: "pairs-qos0", Title: "100 pairs, QoS 0, 256 B", Unit: perCore, Goal: Goal{"nats", 4},
		Run: throughput(Shape{Pubs: 100, Subs: 100, Pairs: true, Size: 256, Window: 64})},
	{Name: "pairs-qos1", Title: "100 pairs, QoS 1, 256 B, 32 in flight each, on disk", Unit: perCore, Goal: Goal{"mosquitto", 7},
		Run: throughput(Shape{Pubs: 100, Subs: 100, Pairs: true, QoS: 1, Size: 256, Window: 32, Persistent: true})},
	{Name: "pairs-qos1-one", Title: "100 pairs, QoS 1, one in flight each, on disk", Unit: perCore, Goal: Goal{"mosquitto", 1},
		Run: throughput(Shape{Pubs: 100, Subs: 100, Pairs: true, QoS: 1, Size: 256, Window: 1, ByAck: true, Persistent: true})},

	{Name: "acks-64x1", Title: "PUBACKs that mean on disk, 64 publishers × 1 in flight", Unit: "thousand/s", Goal: Goal{"nats", 9}, Not: []string{"mosquitto", "mochi"},
		Run: acks(Shape{Pubs: 64, QoS: 1, Size: 256, Window: 1}, Start{SyncEach: true})},
	{Name: "acks-16xdeep", Title: "QoS 1 in, journal on, 16 publishers × 64 in flight, 256 B", Unit: "thousand/s", Goal: Goal{"", 60}, Not: []string{"mochi"},
		Run: acks(Shape{Pubs: 16, QoS: 1, Size: 256, Window: 64}, Start{})},
	{Name: "acks-slow-disk", Title: "the same with 5 ms added to each sync, 256 in flight in all", Unit: "thousand/s", Goal: Goal{"", 35}, Alone: true,
		Run: acks(Shape{Pubs: 16, QoS: 1, Size: 256, Window: 16}, Start{SyncDelay: 5 * time.Millisecond})},
	{Name: "one-in-flight", Title: "one publisher, one in flight, on disk: p50 above the raw sync of the disk", Unit: "µs", Less: true, Goal: Goal{"", 30}, Not: []string{"mosquitto", "mochi"},
		Run: oneInFlight(Start{SyncEach: true})},
	{Name: "one-slow-disk", Title: "the same with 5 ms added to each sync: p50", Unit: "µs", Less: true, Alone: true,
		Run: oneInFlight(Start{SyncDelay: 5 * time.Millisecond})},
	{Name: "p99-1k", Title: "p99 PUBACK at 1,000 msg/s QoS 1, on disk", Unit: "µs", Less: true,
		Run: paced(20, 1000, true, Start{})},
	{Name: "p99-1k-slow-disk", Title: "the same with 5 ms added to each sync", Unit: "µs", Less: true, Alone: true,
		Run: paced(20, 1000, true, Start{SyncDelay: 5 * time.Millisecond})},
	{Name: "p99-20k", Title: "p99 PUBACK at 20,000 msg/s QoS 1, nothing on disk", Unit: "µs", Less: true, Goal: Goal{"mosquitto", 1.5},
		Run: paced(20, 20000, false, Start{})},
	{Name: "p99-20k-disk", Title: "p99 PUBACK at 20,000 msg/s QoS 1, on disk, above the raw sync of the disk", Unit: "µs", Less: true, Goal: Goal{"", 1000}, Alone: true,
		Run: aboveSync(paced(20, 20000, true, Start{}))},

	{Name: "catch-up", Title: "a subscriber catching up on a queued million, 256 B", Unit: "thousand/s", Goal: Goal{"mosquitto", 1}, Not: []string{"mochi"},
		Run: catchUp},
	{Name: "bytes-10", Title: "bytes written per message at 10 msg/s, subscriber away", Unit: "B", Less: true, Not: []string{"mochi"},
		Run: bytesWritten(10, 25*time.Second, true)},
	{Name: "bytes-1k", Title: "bytes written per message at 1,000 msg/s, subscriber away", Unit: "B", Less: true, Not: []string{"mochi"},
		Run: bytesWritten(1000, 12*time.Second, true)},
	{Name: "bytes-10-live", Title: "bytes written per message at 10 msg/s, subscriber reading", Unit: "B", Less: true, Not: []string{"mochi"},
		Run: bytesWritten(10, 25*time.Second, false)},
	{Name: "bytes-1k-live", Title: "bytes written per message at 1,000 msg/s, subscriber reading", Unit: "B", Less: true, Not: []string{"mochi"},
		Run: bytesWritten(1000, 12*time.Second, false)},

	{Name: "idle-rss", Title: "memory when idle", Unit: "MB", Less: true, Goal: Goal{"", 40}, Run: idleRSS},
	{Name: "idle-conn", Title: "memory of an idle plain connection", Unit: "KB", Less: true, Goal: Goal{"", 6}, Run: idleConnections},
	{Name: "idle-conn-tls", Title: "memory of an idle connection over mutual TLS", Unit: "KB", Less: true, Goal: Goal{"", 25}, Run: idleSecure},
	{Name: "handshakes", Title: "mTLS P-256 handshakes with CONNECT", Unit: "per broker core-second", Goal: Goal{"mochi", 1}, Run: handshakes(false)},
	{Name: "handshakes-resumed", Title: "the same by clients that come back with a ticket", Unit: "per broker core-second", Goal: Goal{"mochi", 1}, Run: handshakes(true)},
	{Name: "binary", Title: "size of the stripped binary", Unit: "MB", Less: true, Goal: Goal{"", 35}, Alone: true, Run: binarySize},
}
