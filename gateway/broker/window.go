package broker

import (
	"encoding/binary"

	"tidegate/gateway/mqtt"
)

// Packet ids 1 to ids1 are QoS 1's, given in turn; those above are QoS 2's, which have to
// outlive a restart. A client cannot tell.
const (
	ids1      = 0xBFFF
	maxWindow = 16384 // places in the window at most; QoS 2 has as many ids
)

// window is the QoS 1 messages sent and not acknowledged, in the order they were sent. The
// i-th has packet id i mod ids1 + 1, so that an acknowledgement is found by arithmetic.
type window struct {
	head, tail uint64
	slots      []uint64        // ring of a power of two: journal number, top bit when acknowledged
	kept       map[uint64]kept // by place, for those that cannot be read from the journal
}

const ackedBit = 1 << 63

// kept is a message that must be sent again from memory, or belongs to a group.
type kept struct {
	frame []byte
	idAt  uint32
	h     handle
}

func (w *window) len() int { return int(w.tail - w.head) }

func (w *window) push(seq uint64) {
	if int(w.tail-w.head) == len(w.slots) {
		n := make([]uint64, max(16, 2*len(w.slots)))
		for i := w.head; i < w.tail; i++ {
			n[i&uint64(len(n)-1)] = w.slots[i&uint64(len(w.slots)-1)]
		}
		w.slots = n
	}
	w.slots[w.tail&uint64(len(w.slots)-1)] = seq
	w.tail++
}

// keep adds to the message pushed last what push has no place for.
func (w *window) keep(frame []byte, idAt uint32, h handle) {
	if w.kept == nil {
		w.kept = map[uint64]kept{}
	}
	w.kept[w.tail-1] = kept{frame, idAt, h}
}

// lastID gives the packet id of the message pushed last.
func (w *window) lastID() uint16 { return w.id(w.tail - 1) }

func (w *window) id(i uint64) uint16 { return uint16(i%ids1) + 1 }

func (w *window) seq(i uint64) uint64 { return w.slots[i&uint64(len(w.slots)-1)] &^ ackedBit }

func (w *window) isAcked(i uint64) bool { return w.slots[i&uint64(len(w.slots)-1)]&ackedBit != 0 }

// ack marks the message with packet id as acknowledged and gives what was kept of it; ok
// is false when there is none such.
func (w *window) ack(id uint16) (k kept, ok bool) {
	if id == 0 || id > ids1 || w.head == w.tail {
		return k, false
	}
	d := (uint64(id) - 1 + ids1 - w.head%ids1) % ids1
	i := w.head + d
	if i >= w.tail || w.isAcked(i) {
		return k, false
	}
	w.slots[i&uint64(len(w.slots)-1)] |= ackedBit
	if w.kept != nil {
		k = w.kept[i]
		delete(w.kept, i)
	}
	for w.head < w.tail && w.isAcked(w.head) {
		w.head++
	}
	if w.head == w.tail && len(w.slots) > 1024 {
		w.slots = nil // after a burst
	}
	return k, true
}

// low gives the first journal number that is not acknowledged, 0 when there is none.
func (w *window) low() uint64 {
	for i := w.head; i < w.tail; i++ {
		if !w.isAcked(i) && w.seq(i) != 0 {
			return w.seq(i)
		}
	}
	return 0
}

// backlog is messages in memory that wait for room in the window, oldest first.
type backlog struct {
	buf   []byte
	items []queued
	at    int
}

// queued is one message of a backlog.
type queued struct {
	start, id uint32 // in buf
	qos       byte
	seq       uint64 // journal number, 0 when it has none
	after     uint64 // it came after the journal's messages below this number
	expires   int64  // unix ms, 0: never
}

func (it *queued) expired(now int64) bool { return it.expires != 0 && it.expires <= now }

func (q *backlog) empty() bool { return q.at == len(q.items) }

// size gives the bytes waiting.
func (q *backlog) size() int {
	if q.empty() {
		return 0
	}
	return len(q.buf) - int(q.items[q.at].start)
}

// add appends messages of v from the k-th on. The run as it came tells when they expire,
// which concerns receivers of either version.
func (q *backlog) add(v, came *mqtt.Run, k int, first, after uint64) {
	from := v.Frames[k].Start
	off := uint32(len(q.buf)) - from
	q.buf = append(q.buf, v.Buf[from:]...)
	for i, f := range v.Frames[k:] {
		seq := uint64(0)
		if first != 0 {
			seq = first + uint64(k+i)
		}
		expires := int64(0)
		if came.V5 {
			if x := expiryOf(came.RawProps(k + i)); x != nil {
				expires = came.At.UnixMilli() + 1000*int64(binary.BigEndian.Uint32(x))
			}
		}
		q.items = append(q.items, queued{f.Start + off, f.ID + off, v.QoS, seq, after, expires})
	}
}

func (q *backlog) frame(i int) []byte {
	end := len(q.buf)
	if i+1 < len(q.items) {
		end = int(q.items[i+1].start)
	}
	return q.buf[q.items[i].start:end]
}

// fresh gives message i with what is left of its expiry ([MQTT-3.3.2-6]).
func (q *backlog) fresh(i int, v5 bool, now int64) []byte {
	f, it := q.frame(i), &q.items[i]
	if v5 && it.expires != 0 {
		b := f[it.id-it.start+2:]
		n, w := mqtt.Varint(b)
		if x := expiryOf(b[w : w+n]); x != nil {
			binary.BigEndian.PutUint32(x, uint32((it.expires-now+999)/1000))
		}
	}
	return f
}

// alike gives how many messages at the front are QoS 1 and may go now, at most n.
func (q *backlog) alike(n int, pending bool, pos uint64, now int64) int {
	for k := 0; k < n; k++ {
		if i := q.at + k; i == len(q.items) || q.items[i].qos != 1 || pending && q.items[i].after > pos || q.items[i].expired(now) {
			return k
		}
	}
	return n
}

// pop takes n messages off the front.
func (q *backlog) pop(n int) {
	q.at += n
	switch {
	case q.empty():
		q.reset()
	case q.at > len(q.items)/2: // a queue that never runs empty
		off := q.items[q.at].start
		q.buf = q.buf[:copy(q.buf, q.buf[off:])]
		q.items = q.items[:copy(q.items, q.items[q.at:])]
		for i := range q.items {
			q.items[i].start -= off
			q.items[i].id -= off
		}
		q.at = 0
	}
}

func (q *backlog) reset() {
	if cap(q.buf) > keepOutput {
		*q = backlog{}
		return
	}
	clear(q.items)
	q.buf, q.items, q.at = q.buf[:0], q.items[:0], 0
}

// low gives the first journal number waiting, 0 when there is none.
func (q *backlog) low() uint64 {
	for i := q.at; i < len(q.items); i++ {
		if q.items[i].seq != 0 {
			return q.items[i].seq
		}
	}
	return 0
}

// dropJournalled takes out what can be read from the journal again, and says how much that is.
func (q *backlog) dropJournalled() (msgs, bytes int) {
	var left backlog
	for i := q.at; i < len(q.items); i++ {
		if q.items[i].seq != 0 {
			msgs, bytes = msgs+1, bytes+len(q.frame(i))
		}
		if it := q.items[i]; it.seq == 0 {
			f := q.frame(i)
			it.id += uint32(len(left.buf)) - it.start
			it.start = uint32(len(left.buf))
			left.buf = append(left.buf, f...)
			left.items = append(left.items, it)
		}
	}
	*q = left
	return msgs, bytes
}
