package shadow

import (
	"bytes"
	"encoding/binary"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/jsondoc"
)

// A shadow's past is a chain of notes in the store's trail, each made in the unit of its change. A note tells who made
// the change and when, and how to undo it: from the shadow as it is, Log walks back step by step. So a change costs what
// it changed, however large the document is, and the chain may be cut off anywhere at its old end.
//
//	1, version, version before (0: there was no shadow), flags (1 deleted) as uvarints,
//	milliseconds of the change, seconds of the change before (0: unknown or none) as varints,
//	by and from as uvarint length and text,
//	unless there was no shadow or nothing differs: the patch that undoes it, {"desired":…,"reported":…} with null for a
//	section that was not there, in the binary form of jsondoc with the seconds of the change before as its base
const (
	formNote    = 1
	noteDeleted = 1
)

// Entry is one change of a shadow.
type Entry struct {
	ID
	Who
	At      time.Time     // when it was made
	Version int64         // after it; of a deletion the version that was deleted
	Deleted bool          //
	State   jsondoc.Value // the state after it: desired and reported; no value when deleted

	Before        jsondoc.Value // the state before it; no value when there was no shadow
	VersionBefore int64         // 0 when there was no shadow
	TimeBefore    time.Time     // when the change before was made, to the second; zero when that is not known
}

// tell makes the note of a change; a next without a version is a deletion. The note is the caller's.
func (w *work) tell(old *record, next *Document, at time.Time, who Who) []byte {
	version, before, flags := next.Version, int64(0), uint64(0)
	if old.exists() {
		before = old.doc.Version
	}
	if version == 0 {
		version, flags = before, noteDeleted
	}
	b := append(w.note[:0], formNote)
	b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(version)), uint64(before))
	b = binary.AppendUvarint(b, flags)
	b = binary.AppendVarint(binary.AppendVarint(b, at.UnixMilli()), old.at)
	for _, s := range [2]string{who.By, who.From} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	if before > 0 {
		var patch [2]jsondoc.Member
		n := 0
		for i, s := range [2]struct{ now, was *jsondoc.Value }{{&next.Desired, &old.doc.Desired}, {&next.Reported, &old.doc.Reported}} {
			if p, differs := w.trees.Undo(s.now, s.was); differs {
				patch[n] = jsondoc.Member{Key: sectionNames[i], Value: p}
				n++
			}
		}
		if n > 0 {
			undo := jsondoc.ObjectValue(patch[:n])
			b = jsondoc.AppendBinary(b, &undo, old.at)
		}
	}
	w.note = b
	return bytes.Clone(b)
}

// entry takes a note apart; undo is no value when nothing has to be undone.
func entry(note []byte) (e Entry, undo jsondoc.Value, err error) {
	b := note
	bad := len(b) == 0 || b[0] != formNote
	number := func(read func([]byte) (int64, int)) int64 {
		v, n := read(b)
		if n <= 0 || bad {
			bad = true
			return 0
		}
		b = b[n:]
		return v
	}
	unsigned := func(b []byte) (int64, int) { v, n := binary.Uvarint(b); return int64(v), n }
	text := func() string {
		n := number(unsigned)
		if bad || n < 0 || n > int64(len(b)) {
			bad = true
			return ""
		}
		s := string(b[:n])
		b = b[n:]
		return s
	}
	if bad {
		return e, undo, errDamaged
	}
	b = b[1:]
	e.Version, e.VersionBefore = number(unsigned), number(unsigned)
	e.Deleted = number(unsigned)&noteDeleted != 0
	e.At = time.UnixMilli(number(binary.Varint))
	was := number(binary.Varint)
	if was != 0 {
		e.TimeBefore = time.Unix(was, 0)
	}
	e.By, e.From = text(), text()
	if bad || e.Version <= 0 || e.VersionBefore < 0 {
		return e, undo, errDamaged
	}
	if len(b) > 0 {
		var rest string
		if undo, rest, err = jsondoc.DecodeBinary(string(b), was); err != nil || rest != "" || undo.Kind() != jsondoc.Object {
			return e, undo, errDamaged
		}
	}
	return e, undo, nil
}

// Past is where the notes are; *store.Store is one.
type Past interface {
	Get(key string) ([]byte, error)
	Notes(key string, fn func(note []byte) bool) error
	Drain() error
}

// Log calls fn for every change of a shadow that is still known, the newest first, until fn returns false. A shadow
// that is gone has a past as well.
func (r *Room) Log(past Past, id ID, fn func(Entry) bool) error {
	if err := id.check(); err != nil {
		return err
	}
	key := id.key()
	rec, err := r.load(past, key, nil)
	if err != nil {
		return err
	}
	if err := past.Drain(); err != nil { // what was just read has its note on the disk
		return err
	}
	state := jsondoc.Value{}
	if rec.exists() {
		state = rec.doc.State()
	}
	first, want := true, rec.doc.Version
	if rec.gone {
		want-- // a grave counts on by one
	}
	var bad error
	err = past.Notes(key, func(note []byte) bool {
		e, undo, err := entry(note)
		if err != nil {
			bad = err
			return false
		}
		switch {
		case first && (e.Deleted == rec.exists() || want > 0 && e.Version != want):
			return true // made since it was read
		case !first && (e.Deleted != (state.Kind() == jsondoc.None) || !e.Deleted && e.Version != want):
			return false // the chain is broken: something is missing
		}
		first = false
		e.ID, e.State = id, state
		e.Before = e.before(&undo)
		state, want = e.Before, e.VersionBefore
		return fn(e)
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return fault.Wrap(fault.Internal, err, "the past of the shadow cannot be read")
	}
	return nil
}

// before gives the state before the change.
func (e *Entry) before(undo *jsondoc.Value) jsondoc.Value {
	switch {
	case e.VersionBefore == 0:
		return jsondoc.Value{}
	case undo.Kind() == jsondoc.None:
		if e.Deleted {
			return jsondoc.ObjectValue(nil)
		}
		return e.State
	case e.Deleted:
		none := jsondoc.ObjectValue(nil)
		return jsondoc.Merge(&none, undo)
	}
	return jsondoc.Merge(&e.State, undo)
}

// At gives a shadow as it was at a time, as the change that made it so. Where the past begins later but tells what was
// before, By and From are unknown. It fails with NotFound when there was no such shadow, or Unavailable when nobody
// knows any more.
func (r *Room) At(past Past, id ID, at time.Time) (found Entry, err error) {
	missing := fault.New(fault.NotFound, "there was no such shadow at %s", at.Format(time.RFC3339))
	if err := id.check(); err != nil {
		return Entry{}, err
	}
	var oldest Entry
	if err := r.Log(past, id, func(e Entry) bool {
		oldest = e
		return e.At.After(at)
	}); err != nil {
		return Entry{}, err
	}
	switch {
	case oldest.Version == 0: // no change is known: it is as it is since it was last changed, if there is any
		rec, err := r.load(past, id.key(), nil)
		switch {
		case err != nil:
			return Entry{}, err
		case !rec.exists():
			return Entry{}, missing
		case rec.at > at.Unix():
			return Entry{}, fault.New(fault.Unavailable, "the past of the shadow goes back to %s only", time.Unix(rec.at, 0).Format(time.RFC3339))
		}
		return Entry{ID: id, Version: rec.doc.Version, State: rec.doc.State(), At: time.Unix(rec.at, 0)}, nil
	case !oldest.At.After(at) && oldest.Deleted:
		return Entry{}, missing
	case !oldest.At.After(at):
		return oldest, nil
	case oldest.TimeBefore.After(at):
		return Entry{}, fault.New(fault.Unavailable, "the past of the shadow goes back to %s only", oldest.TimeBefore.Format(time.RFC3339))
	case oldest.VersionBefore == 0:
		return Entry{}, missing
	}
	return Entry{ID: id, Version: oldest.VersionBefore, State: oldest.Before, At: oldest.TimeBefore}, nil
}

// State gives desired and reported as one object.
func (d *Document) State() jsondoc.Value {
	var m []jsondoc.Member
	for _, s := range []jsondoc.Member{{Key: sectionNames[0], Value: d.Desired}, {Key: sectionNames[1], Value: d.Reported}} {
		if s.Value.Kind() != jsondoc.None {
			m = append(m, s)
		}
	}
	return jsondoc.ObjectValue(m)
}
