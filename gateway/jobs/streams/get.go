package streams

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"tidegate/gateway/fault"
)

// Bounds of requests (spec/ops.md §4.2).
const (
	minBlock   = 256
	maxBlock   = 131072
	maxOffset  = 98304
	maxCount   = 98304
	maxBitmap  = 12288  // bytes, exclusive
	maxAnswer  = 131072 // bytes of blocks in one answer
	maxToken   = 64
	maxRequest = 128 << 10
)

// Refusal is why a request of a device is refused, with the code of spec/ops.md §4.2. It
// is the cause of a *fault.Error.
type Refusal struct{ Code string }

func (r *Refusal) Error() string { return r.Code }

func refuse(code, format string, args ...any) error {
	c := fault.Invalid
	if code == "ResourceNotFound" {
		c = fault.NotFound
	}
	return fault.Wrap(c, &Refusal{code}, format, args...)
}

// Code gives the code under which a device hears of err.
func Code(err error) string {
	var r *Refusal
	switch {
	case errors.As(err, &r):
		return r.Code
	case fault.Is(err, fault.NotFound):
		return "ResourceNotFound"
	case fault.Is(err, fault.Invalid):
		return "InvalidRequest"
	}
	return "InternalError"
}

// Request asks for blocks of a file.
type Request struct {
	Version *int64 // of the stream; nil: any
	File    int64  // its id in the stream
	Block   int64  // bytes of a block
	Offset  int64  // number of the block that Count and Bitmap begin with
	Count   int64  // of blocks at most; 0: as many as one answer holds
	Bitmap  string // in hex, which of the blocks; "": all
}

// Block is one block of a file.
type Block struct {
	File, ID int64
	Data     []byte
}

// Blocks gives the blocks that were asked for, as far as they exist and fit into one
// answer. The error's code is Code's.
func (r *Room) Blocks(db interface {
	Get(key string) ([]byte, error)
}, stream string, q Request) ([]Block, error) {
	bits, err := q.check()
	if err != nil {
		return nil, err
	}
	s, err := r.Stream(db, stream)
	if err != nil {
		return nil, err
	}
	if q.Version != nil && *q.Version != s.Version {
		return nil, refuse("VersionMismatch", "the version of stream %s is %d", stream, s.Version)
	}
	for i := range s.Files {
		if int64(s.Files[i].ID) == q.File {
			return r.blocks(&s.Files[i], &q, bits)
		}
	}
	return nil, refuse("ResourceNotFound", "stream %s has no file %d", stream, q.File)
}

// check judges a request by itself and gives its bitmap.
func (q *Request) check() (bits []byte, err error) {
	switch {
	case q.File < 0 || q.File > 255:
		return nil, refuse("ResourceNotFound", "the file id must be 0 to 255")
	case q.Block < minBlock || q.Block > maxBlock:
		return nil, refuse("BlockSizeOutOfBounds", "the block size must be %d to %d", minBlock, maxBlock)
	case q.Offset < 0 || q.Offset > maxOffset:
		return nil, refuse("OffsetOutOfBounds", "the block offset must be 0 to %d", maxOffset)
	case q.Count < 0 || q.Count > maxCount:
		return nil, refuse("BlockCountLimitExceeded", "the number of blocks must be 0 to %d", maxCount)
	}
	if q.Count == 0 {
		q.Count = maxAnswer / q.Block
	}
	if q.Bitmap == "" {
		return nil, nil
	}
	text := strings.TrimPrefix(strings.TrimPrefix(q.Bitmap, "0x"), "0X")
	if len(text) >= 2*maxBitmap {
		return nil, refuse("BlockBitmapLimitExceeded", "the bitmap must have less than %d bytes", maxBitmap)
	}
	if bits, err = hex.DecodeString(text); err != nil {
		return nil, refuse("InvalidRequest", "the bitmap must be hex digits")
	}
	return bits, nil
}

// blocks reads a file.
func (r *Room) blocks(f *File, q *Request, bits []byte) ([]Block, error) {
	file, err := r.Read(f.Hash)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var list []Block
	total := int64(0)
	for i := int64(0); int64(len(list)) < q.Count; i++ {
		at := (q.Offset + i) * q.Block
		if at >= f.Size || bits != nil && i >= int64(len(bits))*8 {
			break
		}
		if bits != nil && bits[i/8]>>(i%8)&1 == 0 {
			continue
		}
		n := min(q.Block, f.Size-at)
		if total += n; total > maxAnswer {
			break
		}
		data := make([]byte, n)
		if _, err := file.ReadAt(data, at); err != nil && !errors.Is(err, io.EOF) {
			return nil, fault.Wrap(fault.Internal, fmt.Errorf("read %s: %w", f.Hash, err), "the file cannot be read")
		}
		list = append(list, Block{q.File, q.Offset + i, data})
	}
	if len(list) == 0 {
		return nil, refuse("ResourceNotFound", "the file has %d bytes and none of these blocks", f.Size)
	}
	return list, nil
}
