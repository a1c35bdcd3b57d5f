package store

import (
	"encoding/binary"
	"errors"

	"tidegate/gateway/store/commitlog"
)

// A commit is one entry of the log. Its payload, numbers as uvarints:
//
//	version u8 = 1 | first record number | number of blocks | number of writes |
//	blocks: count, length, data … |
//	writes: kind u8 (0 put, 1 delete, 2 note), key length, key, and but for a delete value length, value …
//
// The log's checksum, or the seal, covers it; the seal's additional data is the index.
const (
	entryVersion    = 1
	entryOverhead   = 1 + 3*binary.MaxVarintLen64
	maxRecOverhead  = binary.MaxVarintLen32 + binary.MaxVarintLen32
	maxOpOverhead   = 1 + 2*binary.MaxVarintLen32
	maxKeyLen       = 32 << 10 // Badger takes less than 64 KiB
	maxRecordsInRec = 1 << 20

	opPut  = 0
	opDel  = 1
	opNote = 2
)

var errEntry = errors.New("entry cannot be decoded")

// entry is a commit in memory.
type entry struct {
	index  uint64
	first  uint64 // number of the first record
	next   uint64 // number behind the last record
	ticket uint64 // of the last unit in it
	recs   []Rec  // in memory of the entry's own
	ops    []op
	bytes  int // what it counts for against the ring's bounds
}

// bytesOf gives an upper bound of the encoded size of units and ride.
func bytesOf(units []*Unit, ride []op) int {
	n := entryOverhead
	for _, u := range units {
		n += u.size
	}
	for i := range ride {
		n += len(ride[i].key) + len(ride[i].val) + maxOpOverhead
	}
	return n
}

// desk is where the committer writes entries. Small ones are what a quiet link makes thousands of a second, and a page or
// two of garbage for each would have the collector come several times as often.
type desk struct{ plain, sealed []byte }

// deskBytes is the largest entry that is written there; a larger one keeps the buffer it was written in.
const deskBytes = 64 << 10

// room gives an empty buffer for n bytes in whole pages, and whether it is the desk's and will be used again.
func (d *desk) room(buf *[]byte, n int) (b []byte, again bool) {
	n = (n + commitlog.PageSize - 1) / commitlog.PageSize * commitlog.PageSize
	if n > deskBytes {
		return make([]byte, commitlog.FrameHeader, n), false
	}
	if cap(*buf) < n {
		*buf = make([]byte, n)
	}
	return (*buf)[:commitlog.FrameHeader:n], true
}

// encode puts units and the writes that ride along into one entry that begins with record number first. It
// sets each unit's numbers. The payload stands at commitlog.FrameHeader of the buffer it returns, which d uses again.
func encode(d *desk, e *entry, units []*Unit, ride []op) []byte {
	b, again := d.room(&d.plain, commitlog.FrameHeader+bytesOf(units, ride))
	nrecs, nops, data := 0, len(ride), 0
	for _, u := range units {
		nrecs += len(u.recs)
		nops += len(u.ops)
		for i := range u.recs {
			data += len(u.recs[i].Data)
		}
	}
	var own []byte // of records, when b will be used again
	if again {
		own = make([]byte, 0, data)
	}
	b = append(b, entryVersion)
	b = binary.AppendUvarint(b, e.first)
	b = binary.AppendUvarint(b, uint64(nrecs))
	b = binary.AppendUvarint(b, uint64(nops))
	e.recs = make([]Rec, 0, nrecs)
	if nops > 0 {
		e.ops = make([]op, 0, nops)
	}
	next := e.first
	for _, u := range units {
		u.number = next
		u.first = u.first[:0]
		for i := range u.recs {
			r := &u.recs[i]
			u.first = append(u.first, next)
			next += uint64(r.Count)
			b = binary.AppendUvarint(b, uint64(r.Count))
			b = binary.AppendUvarint(b, uint64(len(r.Data)))
			b = append(b, r.Data...)
			if !again {
				own = b
			} else {
				own = append(own, r.Data...)
			}
			e.recs = append(e.recs, Rec{r.Count, own[len(own)-len(r.Data) : len(own) : len(own)]})
		}
		e.ops = append(e.ops, u.ops...)
		e.ticket = u.ticket
	}
	e.ops = append(e.ops, ride...)
	e.next = next
	for i := range e.ops {
		b = appendOp(b, &e.ops[i])
	}
	if e.bytes = len(b); !again {
		e.bytes = cap(b)
	}
	return b
}

func appendOp(b []byte, o *op) []byte {
	kind := byte(opPut)
	switch {
	case o.del:
		kind = opDel
	case o.note:
		kind = opNote
	}
	b = binary.AppendUvarint(append(b, kind), uint64(len(o.key)))
	b = append(b, o.key...)
	if !o.del {
		b = binary.AppendUvarint(b, uint64(len(o.val)))
		b = append(b, o.val...)
	}
	return b
}

// reader takes bytes apart; bad is set at the first thing that does not fit.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) rec() Rec {
	n := r.uvarint()
	if n == 0 || n > maxRecordsInRec {
		r.b, r.bad = nil, true
		return Rec{}
	}
	return Rec{uint32(n), r.bytes()}
}

// decode takes an entry's payload apart; the entry aliases it.
func decode(index uint64, payload []byte) (*entry, error) {
	r := reader{b: payload}
	if r.byte() != entryVersion {
		return nil, errEntry
	}
	e := &entry{index: index, first: r.uvarint(), bytes: len(payload)}
	nrecs, nops := r.uvarint(), r.uvarint()
	if e.first == 0 || nrecs > uint64(len(r.b)) || nops > uint64(len(r.b)) {
		return nil, errEntry
	}
	e.next = e.first
	for ; nrecs > 0 && !r.bad; nrecs-- {
		rec := r.rec()
		e.recs = append(e.recs, rec)
		e.next += uint64(rec.Count)
	}
	for ; nops > 0 && !r.bad; nops-- {
		kind := r.byte()
		o := op{key: string(r.bytes()), del: kind == opDel, note: kind == opNote}
		if kind > opNote {
			r.bad = true
		}
		if !o.del {
			o.val = r.bytes()
		}
		e.ops = append(e.ops, o)
	}
	if r.bad || len(r.b) > 0 || e.next < e.first {
		return nil, errEntry
	}
	return e, nil
}
