package shadow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"tidegate/gateway/clock"
	"tidegate/gateway/jsondoc"
	"tidegate/gateway/store"
)

// record is what the store keeps under a shadow's key:
//
//	shadow   1, version uvarint, seconds of the last update varint,
//	         which sections follow (1 desired, 2 reported), the sections in the
//	         binary form of jsondoc with that second as their base
//	grave    2, counter uvarint, seconds of the deletion varint (0: unknown)
//
// A grave keeps the version counter. graveKey makes it findable by its end.
type record struct {
	doc  Document // of a grave only Version, the counter
	gone bool
	at   int64 // epoch seconds of the last update, or of the deletion; of this 0 when the clock was not trusted
}

const (
	formShadow = 1
	formGrave  = 2

	hasDesired  = 1
	hasReported = 2
)

var errDamaged = errors.New("damaged shadow record")

// exists says whether there is a shadow; a record of nothing, or a grave, is none.
func (r *record) exists() bool { return r.doc.Version > 0 && !r.gone }

// counter gives the version that the next update counts on from.
func (r *record) counter(clk clock.Clock) int64 {
	if r.gone && r.at != 0 && clk.Trusted() && clk.Now().Unix() >= r.due() {
		return 0
	}
	return r.doc.Version
}

// due is when a grave may be forgotten, in epoch seconds; 0 when that is not known yet.
func (r *record) due() int64 {
	if r.at == 0 {
		return 0
	}
	return r.at + int64(graveTime.Seconds())
}

// graveKey is an entry without a value that leads to a grave in the order of their ends.
// No thing can have a name with an exclamation mark in it.
func graveKey(due int64, id ID) string {
	return fmt.Sprintf("%s%012d/%s/%s", gravesPrefix, due, id.Thing, id.Name)
}

const gravesPrefix = store.KeyShadow + "!gone/"

// encode makes the record of a shadow that was updated now and has the given size.
func encode(d *Document, now int64, size int) []byte {
	b := make([]byte, 0, size+size/4+24)
	b = binary.AppendUvarint(append(b, formShadow), uint64(d.Version))
	b = binary.AppendVarint(b, now)
	var has byte
	if d.Desired.Kind() != jsondoc.None {
		has |= hasDesired
	}
	if d.Reported.Kind() != jsondoc.None {
		has |= hasReported
	}
	b = append(b, has)
	if has&hasDesired != 0 {
		b = jsondoc.AppendBinary(b, &d.Desired, now)
	}
	if has&hasReported != 0 {
		b = jsondoc.AppendBinary(b, &d.Reported, now)
	}
	return b
}

func (r *record) encode() []byte {
	b := binary.AppendUvarint([]byte{formGrave}, uint64(r.doc.Version))
	return binary.AppendVarint(b, r.at)
}

func decode(b []byte, trees *jsondoc.Arena) (r record, err error) {
	if len(b) == 0 {
		return r, errDamaged
	}
	form, b := b[0], b[1:]
	version, n := binary.Uvarint(b)
	if n <= 0 || version == 0 || version > 1<<62 {
		return r, errDamaged
	}
	r.doc.Version, b = int64(version), b[n:]
	at, n := binary.Varint(b)
	if n <= 0 {
		return r, errDamaged
	}
	r.at, b = at, b[n:]
	if form == formGrave && len(b) == 0 {
		r.gone = true
		return r, nil
	}
	if form != formShadow || len(b) == 0 || b[0]&^(hasDesired|hasReported) != 0 {
		return r, errDamaged
	}
	has, rest := b[0], unsafe.String(unsafe.SliceData(b[1:]), len(b)-1) // a value of the store never changes
	if has&hasDesired != 0 {
		if r.doc.Desired, rest, err = trees.DecodeBinary(rest, at); err != nil || r.doc.Desired.Kind() != jsondoc.Object {
			return r, errDamaged
		}
	}
	if has&hasReported != 0 {
		if r.doc.Reported, rest, err = trees.DecodeBinary(rest, at); err != nil || r.doc.Reported.Kind() != jsondoc.Object {
			return r, errDamaged
		}
	}
	if rest != "" {
		return r, errDamaged
	}
	r.doc.Updated = at
	return r, nil
}
