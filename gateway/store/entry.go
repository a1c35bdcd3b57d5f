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
	recs   []Rec  // into buf
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

// encode puts units and the writes that ride along into one entry that begins with record number first. It
// sets each unit's numbers. The payload stands at commitlog.FrameHeader of the buffer it returns.
func encode(e *entry, units []*Unit, ride []op) []byte {
	bound := commitlog.FrameHeader + bytesOf(units, ride)
	b := make([]byte, commitlog.FrameHeader, (bound+commitlog.PageSize-1)/commitlog.PageSize*commitlog.PageSize)
	nrecs, nops := 0, len(ride)
	for _, u := range units {
		nrecs += len(u.recs)
		nops += len(u.ops)
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
			at := len(b)
			b = append(b, r.Data...)
			e.recs = append(e.recs, Rec{r.Count, b[at:len(b):len(b)]})
		}
		e.ops = append(e.ops, u.ops...)
		e.ticket = u.ticket
	}
	e.ops = append(e.ops, ride...)
	e.next = next
	for i := range e.ops {
		b = appendOp(b, &e.ops[i])
	}
	e.bytes = cap(b)
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
