package store

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// A chunk is how record blocks stand in Badger: a value of some ten KiB in the value log.
//
//	version u8 = 1 | first record number uvarint | blocks: count uvarint, length uvarint, data … | crc32c u32 of all before
//
// The numbers in a chunk are contiguous.
const chunkVersion = 1

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errChunk   = errors.New("chunk is damaged")
)

// chunker collects blocks until a chunk is full.
type chunker struct {
	buf   []byte
	first uint64
	next  uint64
}

func (c *chunker) add(first uint64, r Rec, sizeHint int) {
	if c.buf == nil {
		c.buf = make([]byte, 0, sizeHint+len(r.Data)+64)
		c.buf = append(c.buf, chunkVersion)
		c.buf = binary.AppendUvarint(c.buf, first)
		c.first = first
	}
	c.buf = binary.AppendUvarint(c.buf, uint64(r.Count))
	c.buf = binary.AppendUvarint(c.buf, uint64(len(r.Data)))
	c.buf = append(c.buf, r.Data...)
	c.next = first + uint64(r.Count)
}

// take gives the finished chunk and starts anew.
func (c *chunker) take() []byte {
	b := binary.BigEndian.AppendUint32(c.buf, crc32.Checksum(c.buf, castagnoli))
	c.buf = nil
	return b
}

// parseChunk gives the blocks of a chunk, which alias v, and the number of the first and behind the last.
func parseChunk(v []byte, dst []Rec) (recs []Rec, first, next uint64, err error) {
	if len(v) < 6 || v[0] != chunkVersion {
		return dst[:0], 0, 0, errChunk
	}
	body := v[:len(v)-4]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(v[len(v)-4:]) {
		return dst[:0], 0, 0, errChunk
	}
	r := reader{b: body[1:]}
	first = r.uvarint()
	next = first
	recs = dst[:0]
	for len(r.b) > 0 {
		rec := r.rec()
		recs = append(recs, rec)
		next += uint64(rec.Count)
	}
	if r.bad || first == 0 || next <= first {
		return dst[:0], 0, 0, errChunk
	}
	return recs, first, next, nil
}
