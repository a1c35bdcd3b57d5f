package journal

import (
	"encoding/binary"
	"errors"
	"time"

	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// A block is how a run stands in the journal; numbers as uvarints:
//
//	version u8 = 1 | flags u8 | origin u8 | hops u8 | received, microseconds since 1970, i64 little-endian |
//	from length, from | principal length, principal | [topic length, topic] | frames
//
// The topic stands in front only where the frames do not all carry it (MQTT 5 topic aliases). The frames fill
// the rest; they say themselves how long they are.
const (
	blockVersion = 1
	blockFixed   = 12

	flagV5     = 1 << 0
	flagQoS    = 3 << 1
	flagRetain = 1 << 3
	flagTopic  = 1 << 4 // the topic stands in the header
)

var errBlock = errors.New("journal: block cannot be decoded")

// Block makes the record block of a run. It copies: run is free when it returns.
func Block(run *mqtt.Run) store.Rec {
	return store.Rec{Count: uint32(run.Len()), Data: AppendBlock(make([]byte, 0, BlockSize(run)), run)}
}

// BlockSize gives an upper bound of what AppendBlock appends.
func BlockSize(run *mqtt.Run) int {
	return blockFixed + 3*binary.MaxVarintLen32 + len(run.From) + len(run.Principal) + len(run.Topic) + len(run.Buf)
}

// AppendBlock appends the record block of a run of at least one message to dst, for callers who keep their buffers.
// Such a block stands for run.Len() records.
func AppendBlock(dst []byte, run *mqtt.Run) []byte {
	flags := run.QoS << 1 & flagQoS
	if run.V5 {
		flags |= flagV5
	}
	if run.Retain {
		flags |= flagRetain
	}
	if !framesHaveTopic(run) {
		flags |= flagTopic
	}
	at := int64(0)
	if !run.At.IsZero() {
		at = run.At.UnixMicro()
	}
	dst = append(dst, blockVersion, flags, byte(run.Origin), run.Hops)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(at))
	dst = appendString(appendString(dst, run.From), run.Principal)
	if flags&flagTopic != 0 {
		dst = appendString(dst, run.Topic)
	}
	return append(dst, run.Buf[run.Frames[0].Start:]...)
}

// framesHaveTopic says whether every frame carries the run's topic: then it is as long.
func framesHaveTopic(run *mqtt.Run) bool {
	for i, f := range run.Frames {
		w, _ := mqtt.Header(run.Frame(i))
		if int(f.ID-f.Start)-w-2 != len(run.Topic) {
			return false
		}
	}
	return true
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decoder takes blocks apart and remembers the strings of the one before, which are usually the same.
type decoder struct{ from, principal, topic string }

func again(b []byte, last *string) string {
	if string(b) != *last {
		*last = string(b)
	}
	return *last
}

// decode fills run from a block of count records. run.Buf aliases data; run.Frames is used again.
func (d *decoder) decode(run *mqtt.Run, data []byte, count uint32) error {
	frames := run.Frames[:0]
	*run = mqtt.Run{}
	if len(data) < blockFixed || data[0] != blockVersion {
		return errBlock
	}
	flags := data[1]
	run.V5, run.Retain, run.QoS = flags&flagV5 != 0, flags&flagRetain != 0, flags&flagQoS>>1
	run.Origin, run.Hops = mqtt.Origin(data[2]), data[3]
	if at := int64(binary.LittleEndian.Uint64(data[4:])); at != 0 {
		run.At = time.UnixMicro(at)
	}
	rest := data[blockFixed:]
	var bad bool
	str := func() []byte {
		n, w := binary.Uvarint(rest)
		if w <= 0 || n > uint64(len(rest)-w) {
			bad = true
			return nil
		}
		s := rest[w : w+int(n)]
		rest = rest[w+int(n):]
		return s
	}
	from, principal := str(), str()
	var topic []byte
	if flags&flagTopic != 0 {
		topic = str()
	}
	if bad || run.QoS == 3 {
		return errBlock
	}
	run.Buf = rest[:len(rest):len(rest)]
	for at := 0; at < len(rest); {
		w, total := mqtt.Header(rest[at:])
		if w <= 0 || total > len(rest)-at || total < w+2 {
			return errBlock
		}
		n := int(binary.BigEndian.Uint16(rest[at+w:]))
		if w+2+n > total {
			return errBlock
		}
		if len(frames) == 0 && flags&flagTopic == 0 {
			topic = rest[at+w+2 : at+w+2+n]
		}
		frames = append(frames, mqtt.Frame{Start: uint32(at), ID: uint32(at + w + 2 + n)})
		at += total
	}
	if len(frames) == 0 || uint32(len(frames)) != count {
		return errBlock
	}
	run.Frames = frames
	run.From, run.Principal, run.Topic = again(from, &d.from), again(principal, &d.principal), again(topic, &d.topic)
	return nil
}

// ParseBlock gives the run that a record block holds. Its Buf aliases the block.
func ParseBlock(r store.Rec) (*mqtt.Run, error) {
	run := new(mqtt.Run)
	var d decoder
	if err := d.decode(run, r.Data, r.Count); err != nil {
		return nil, err
	}
	return run, nil
}
