package broker

import (
	"sync/atomic"

	"tidegate/gateway/metrics"
)

// stats are the broker's counters.
type stats struct {
	received, sent                       atomic.Int64 // PUBLISHes
	packetsIn, answers                   atomic.Int64 // packets of any kind; those sent but PUBLISH
	bytesIn, bytesOut, sockets           atomic.Int64
	payloadIn, payloadOut                atomic.Int64 // bytes of PUBLISHes' payloads
	droppedQoS0, tooLarge, expired, shed atomic.Int64
	refused, held, gaps, cutOff, wills   atomic.Int64
	connects, connectRefused, turnedAway atomic.Int64
	halfSent, unheard, overRate          atomic.Int64
	sessionsExpired                      atomic.Int64
	behind, online, onlineMost           atomic.Int64 // gauges
}

// packets gives how many packets were sent.
func (st *stats) packets() int64 { return st.sent.Load() + st.answers.Load() }

// dropped gives how many messages clients did not get that were there to be had.
func (st *stats) dropped() int64 { return st.droppedQoS0.Load() + st.tooLarge.Load() + st.shed.Load() }

// came counts a client that is there now.
func (st *stats) came() {
	n := st.online.Add(1)
	for most := st.onlineMost.Load(); n > most && !st.onlineMost.CompareAndSwap(most, n); most = st.onlineMost.Load() {
	}
}

// Metrics registers the broker's numbers.
func (b *Broker) Metrics(m *metrics.Set) {
	count := func(name, help string, v *atomic.Int64, kv ...string) {
		m.Counter("tidegate_broker_"+name, help, func() float64 { return float64(v.Load()) }, kv...)
	}
	st := &b.stats
	count("received_total", "PUBLISHes taken from clients.", &st.received)
	count("sent_total", "PUBLISHes queued to be written to clients.", &st.sent)
	count("received_payload_bytes_total", "Bytes of payloads in PUBLISHes taken from clients.", &st.payloadIn)
	count("sent_payload_bytes_total", "Bytes of payloads in PUBLISHes to clients.", &st.payloadOut)
	count("received_packets_total", "Packets of any kind taken from clients.", &st.packetsIn)
	count("received_bytes_total", "Bytes read from clients.", &st.bytesIn)
	count("sent_bytes_total", "Bytes written to clients.", &st.bytesOut)
	count("accepted_total", "Connections that came to the broker.", &st.sockets)
	const dropped = "Messages that a client did not get, by reason."
	count("dropped_total", dropped, &st.droppedQoS0, "reason", "slow client")
	count("dropped_total", dropped, &st.tooLarge, "reason", "too large for the client")
	count("dropped_total", dropped, &st.expired, "reason", "expired")
	count("dropped_total", dropped, &st.shed, "reason", "session quota")
	count("dropped_total", dropped, &st.unheard, "reason", "the client that asked is gone")
	count("refused_total", "PUBLISHes that were not accepted from clients.", &st.refused)
	count("throttled_total", "Messages not taken because all clients together sent too many.", &st.overRate)
	count("held_total", "Times a client was not read from because too much of it was waiting.", &st.held)
	count("session_gaps_total", "Times a session did not get what it was to get: its quota, or the journal's.", &st.gaps)
	count("cut_off_total", "Clients disconnected because they did not keep up.", &st.cutOff)
	count("wills_total", "Wills published.", &st.wills)
	count("connects_total", "Clients let in.", &st.connects)
	count("connects_refused_total", "Clients not let in.", &st.connectRefused)
	count("half_sent_total", "Clients disconnected because read buffers with half a packet were too many.", &st.halfSent)
	count("turned_away_total", "Connections closed at once, because too many have not sent CONNECT.", &st.turnedAway)
	count("sessions_expired_total", "Sessions that ended while their client was away.", &st.sessionsExpired)
	gauge := func(name, help string, read func() int) {
		m.Gauge("tidegate_broker_"+name, help, func() float64 { return float64(read()) })
	}
	gauge("connections", "Open connections.", func() int { b.mu.Lock(); defer b.mu.Unlock(); return len(b.conns) })
	gauge("clients", "Clients that have been let in and are there.", func() int { return int(st.online.Load()) })
	gauge("sessions", "Sessions, connected or not.", func() int { b.mu.Lock(); defer b.mu.Unlock(); return len(b.sessions) })
	gauge("sessions_behind", "Sessions that have to read from the journal, or are away.", func() int { return int(st.behind.Load()) })
	gauge("retained", "Retained messages.", b.retained.len)
	gauge("subscriptions", "Subscriptions.", func() int { b.table.mu.RLock(); defer b.table.mu.RUnlock(); return b.table.subs.Len() })
	gauge("input_bytes", "Bytes of read buffers that wait for the rest of a packet.", func() int { return int(b.partial.Load()) })
	gauge("queue_bytes", "Bytes queued in memory for sessions whose window is full.", func() int { return int(b.queued.Load()) })
	gauge("output_bytes", "Bytes waiting to be written to clients that are slow.", func() int { return int(b.backlog.Load()) })
}
