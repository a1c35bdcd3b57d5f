package commitlog

import (
	"encoding/binary"
	"hash/crc32"
)

// A file begins with a page that holds two copies of its header, at 0 and at 2048:
//
//	magic u32 | version u32 | file number u64 | index of the first entry u64 | file size u64 | crc32c u32 of these
//
// Frames follow, each at a multiple of PageSize, all integers little-endian:
//
//	payload length u32 | crc32c u32 of (file number, index, length, payload) | index u64 | payload | zeros
//
// The file number in the checksum makes whatever an earlier use of the file left behind invalid.
const (
	magic      = 0x474c4754 // "TGLG"
	version    = 1
	headerSize = 36
	headerCopy = 2048
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameSize gives what a payload of n bytes takes in a file.
func frameSize(n int) int64 {
	return (int64(n) + FrameHeader + PageSize - 1) / PageSize * PageSize
}

func checksum(number, index uint64, payload []byte) uint32 {
	var h [20]byte
	binary.LittleEndian.PutUint64(h[:], number)
	binary.LittleEndian.PutUint64(h[8:], index)
	binary.LittleEndian.PutUint32(h[16:], uint32(len(payload)))
	return crc32.Update(crc32.Checksum(h[:], castagnoli), castagnoli, payload)
}

// putFrame fills in the header of frame, whose payload stands at FrameHeader.
func putFrame(frame []byte, number, index uint64) {
	payload := frame[FrameHeader:]
	binary.LittleEndian.PutUint32(frame, uint32(len(payload)))
	binary.LittleEndian.PutUint32(frame[4:], checksum(number, index, payload))
	binary.LittleEndian.PutUint64(frame[8:], index)
}

// parseFrame gives index and payload of the frame at the beginning of b, which aliases b, and
// false when no valid frame of file number stands there.
func parseFrame(b []byte, number uint64) (index uint64, payload []byte, ok bool) {
	if len(b) < FrameHeader {
		return 0, nil, false
	}
	n := int64(binary.LittleEndian.Uint32(b))
	if n == 0 || n > int64(len(b)-FrameHeader) {
		return 0, nil, false
	}
	payload = b[FrameHeader : FrameHeader+n]
	index = binary.LittleEndian.Uint64(b[8:])
	return index, payload, checksum(number, index, payload) == binary.LittleEndian.Uint32(b[4:])
}

// header makes the first page of a file.
func header(number, first uint64, size int64) []byte {
	p := make([]byte, PageSize)
	binary.LittleEndian.PutUint32(p, magic)
	binary.LittleEndian.PutUint32(p[4:], version)
	binary.LittleEndian.PutUint64(p[8:], number)
	binary.LittleEndian.PutUint64(p[16:], first)
	binary.LittleEndian.PutUint64(p[24:], uint64(size))
	binary.LittleEndian.PutUint32(p[32:], crc32.Checksum(p[:32], castagnoli))
	copy(p[headerCopy:], p[:headerSize])
	return p
}

// parseHeader reads the first page of a file. number is 0 with ok for a file that was never used;
// ok is false when neither copy can be read. Of two good copies the greater number counts: the
// lesser one is what a torn write left.
func parseHeader(p []byte) (number uint64, size int64, ok bool) {
	blank := true
	for _, at := range []int{0, headerCopy} {
		h := p[at : at+headerSize]
		for _, b := range h {
			blank = blank && b == 0
		}
		if binary.LittleEndian.Uint32(h) != magic || crc32.Checksum(h[:32], castagnoli) != binary.LittleEndian.Uint32(h[32:]) {
			continue
		}
		if n := binary.LittleEndian.Uint64(h[8:]); n >= number {
			number, size = n, int64(binary.LittleEndian.Uint64(h[24:]))
		}
		ok = true
	}
	return number, size, ok || blank
}
