package store

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// The trail is what units noted besides what they wrote: a past that is nice to have, of bounded size, the oldest
// going first. A note travels in its unit's entry and nowhere else until the applier comes, which packs what it finds
// into chunks; so a note costs its own bytes once in the log and once, many together, in a value file.
//
// A chunk's key is prefixTrail and a number that counts up; its value:
//
//	version u8 = 1 | notes: key length uvarint, key, note length uvarint, note … | crc32c u32 of all before
//
// keyTrail holds which chunks there are. Chunks outside of that are what a crash between two transactions has left;
// they are written again.
const trailVersion = 1

// trail says which chunks of notes there are.
type trail struct {
	first, next uint64 // chunk numbers
	bytes       int64  // of them all
}

func (t *trail) encode() []byte {
	return binary.BigEndian.AppendUint64(append(u64(t.first), u64(t.next)...), uint64(t.bytes))
}

// load takes what keyTrail holds; anything else than encode made is an empty trail.
func (t *trail) load(v []byte) {
	if len(v) == 24 {
		*t = trail{binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:]), int64(binary.BigEndian.Uint64(v[16:]))}
	}
	if t.first > t.next || t.bytes < 0 {
		*t = trail{}
	}
}

// readTrail finds out at the start what there is.
func (s *Store) readTrail(txn *badger.Txn) error {
	item, err := txn.Get(keyTrail)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return item.Value(func(v []byte) error { s.trail.load(v); return nil })
}

// applyTrail writes the notes of entries as chunks and gives the trail as it is then, and which chunks are too many: they
// go with the transaction that makes the apply count.
func (s *Store) applyTrail(w *writer, entries []*entry) (t trail, gone [][]byte, err error) {
	s.mu.Lock()
	t = s.trail
	s.mu.Unlock()
	if s.cfg.TrailBytes < 0 {
		return t, nil, nil
	}
	var buf []byte
	flush := func() error {
		if len(buf) == 0 {
			return nil
		}
		buf = binary.LittleEndian.AppendUint32(buf, crc32.Checksum(buf, castagnoli))
		err := w.set(trailKey(t.next), buf)
		t.next++
		t.bytes += int64(len(buf))
		buf = nil
		return err
	}
	for _, e := range entries {
		for i := range e.ops {
			o := &e.ops[i]
			if !o.note {
				continue
			}
			if len(buf) > 0 && len(buf)+len(o.key)+len(o.val) > chunkBytes {
				if err := flush(); err != nil {
					return t, nil, err
				}
			}
			if buf == nil {
				buf = append(make([]byte, 0, 512), trailVersion)
			}
			buf = append(binary.AppendUvarint(buf, uint64(len(o.key))), o.key...)
			buf = append(binary.AppendUvarint(buf, uint64(len(o.val))), o.val...)
		}
	}
	if err := flush(); err != nil {
		return t, nil, err
	}
	return t, s.cutTrail(&t), nil
}

// cutTrail takes the oldest chunks off t until it is as small as it has to be, and gives their keys.
func (s *Store) cutTrail(t *trail) (gone [][]byte) {
	for t.bytes > s.cfg.TrailBytes && t.first < t.next {
		key := trailKey(t.first)
		t.first++
		gone = append(gone, key)
		if err := s.db.View(func(txn *badger.Txn) error {
			item, err := txn.Get(key)
			if err == nil {
				t.bytes -= item.ValueSize()
				s.stale += item.ValueSize()
			}
			return err
		}); err != nil {
			s.log.Warn("a piece of the trail is not there", "err", err)
		}
	}
	if t.first == t.next {
		t.bytes = 0
	}
	return gone
}

// Notes calls fn for the notes under key, the newest first, until fn returns false or there are no older ones. What is
// submitted but not yet committed is not seen; Drain sees to that. The note must not be changed. Where the trail is
// damaged it ends, and the log tells.
func (s *Store) Notes(key string, fn func(note []byte) bool) error {
	s.mu.Lock()
	t := s.trail
	var fresh []*entry
	for _, e := range s.ring {
		if e.index > s.applied {
			fresh = append(fresh, e)
		}
	}
	s.mu.Unlock()
	for _, e := range slices.Backward(fresh) {
		for i := range slices.Backward(e.ops) {
			if o := &e.ops[i]; o.note && o.key == key && !fn(o.val) {
				return nil
			}
		}
	}
	return s.db.View(func(txn *badger.Txn) error {
		var found [][]byte
		for n := t.next; n > t.first; n-- {
			item, err := txn.Get(trailKey(n - 1))
			if err == nil {
				err = item.Value(func(v []byte) (err error) { found, err = notesIn(v, key, found[:0]); return err })
			}
			if err != nil {
				s.mu.Lock()
				dropped := n-1 < s.trail.first // in the meantime
				s.mu.Unlock()
				if !dropped {
					s.log.Error("the trail is damaged", "err", err)
				}
				return nil
			}
			for _, note := range slices.Backward(found) {
				if !fn(note) {
					return nil
				}
			}
		}
		return nil
	})
}

// notesIn appends the notes under key that a chunk holds, in order. They do not alias it.
func notesIn(chunk []byte, key string, found [][]byte) ([][]byte, error) {
	if len(chunk) < 5 || chunk[0] != trailVersion {
		return nil, errChunk
	}
	body := chunk[:len(chunk)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(chunk[len(body):]) {
		return nil, errChunk
	}
	r := reader{b: body[1:]}
	for len(r.b) > 0 {
		k := r.bytes()
		note := r.bytes()
		if r.bad {
			return nil, errChunk
		}
		if string(k) == key {
			found = append(found, slices.Clone(note))
		}
	}
	return found, nil
}

func trailKey(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte(prefixTrail), n) }
