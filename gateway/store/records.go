package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sort"

	"github.com/dgraph-io/badger/v4"
)

// HoleError says that records From to To are not there. Reading goes on behind them.
type HoleError struct {
	From, To uint64
	Err      error // why, when it is damage; nil: they were dropped, or never kept
}

func (e *HoleError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("records %d to %d cannot be read: %v", e.From, e.To, e.Err)
	}
	return fmt.Sprintf("records %d to %d are not kept any more", e.From, e.To)
}

func (e *HoleError) Unwrap() error { return e.Err }

// Records reads record blocks in order: those committed last from memory, older ones from Badger. It belongs to one
// goroutine and holds no resources but the memory of a chunk.
type Records struct {
	s     *Store
	pos   uint64 // the number wanted next
	recs  []Rec  // where it reads at the moment
	i     int
	first uint64 // number of recs[i]
	spare []Rec
}

// Records gives a reader that begins with the record numbered from; 0 means the oldest there is.
func (s *Store) Records(from uint64) *Records {
	if from == 0 {
		from = s.Oldest()
	}
	return &Records{s: s, pos: from}
}

// Oldest gives the number of the oldest record that can be read.
func (s *Store) Oldest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.segs) > 0 {
		return s.segs[0].ID
	}
	return s.firstInRing()
}

// Pos gives the number that Next will begin with.
func (r *Records) Pos() uint64 { return r.pos }

// Next gives the block that holds the record at Pos, with the number of its first record, and moves behind it. It
// never waits: ok is false when everything committed has been read. err is a *HoleError, told once per
// hole, or an error of the disk. The block may be kept, but not changed.
func (r *Records) Next() (first uint64, rec Rec, ok bool, err error) {
	if r.i >= len(r.recs) {
		if ok, err := r.find(); !ok || err != nil {
			return 0, Rec{}, false, err
		}
	}
	first, rec = r.first, r.recs[r.i]
	r.i++
	r.first += uint64(rec.Count)
	r.pos = r.first
	return first, rec, true, nil
}

// find sets recs and i to the block that holds pos.
func (r *Records) find() (bool, error) {
	s := r.s
	r.recs, r.i = nil, 0
	for {
		s.mu.Lock()
		if r.pos >= s.next {
			s.mu.Unlock()
			return false, nil
		}
		inRing := s.firstInRing()
		if r.pos >= inRing {
			i := sort.Search(len(s.ring), func(i int) bool { return s.ring[i].next > r.pos })
			e := s.ring[i]
			s.mu.Unlock()
			if e.first > r.pos { // a hole between entries: damage of the log
				return false, r.hole(e.first-1, nil)
			}
			return true, r.enter(e.recs, e.first)
		}
		i := sort.Search(len(s.segs), func(i int) bool { return s.segs[i].Last >= r.pos })
		if i == len(s.segs) {
			s.mu.Unlock()
			return false, r.hole(inRing-1, nil)
		}
		g := s.segs[i]
		s.mu.Unlock()
		if g.ID > r.pos {
			return false, r.hole(g.ID-1, nil)
		}
		recs, first, err := r.chunk(&g)
		if errors.Is(err, errGone) { // the segment went in the meantime
			s.mu.Lock()
			still := sort.Search(len(s.segs), func(i int) bool { return s.segs[i].Last >= r.pos })
			same := still < len(s.segs) && s.segs[still].ID == g.ID
			s.mu.Unlock()
			if !same {
				continue
			}
			return false, r.hole(g.Last, errors.New("its chunk is missing"))
		}
		if err != nil {
			return false, err
		}
		return true, r.enter(recs, first)
	}
}

// hole moves behind last and tells.
func (r *Records) hole(last uint64, err error) error {
	h := &HoleError{From: r.pos, To: last, Err: err}
	r.pos = last + 1
	return h
}

func (r *Records) enter(recs []Rec, first uint64) error {
	i := 0
	for first+uint64(recs[i].Count) <= r.pos {
		first += uint64(recs[i].Count)
		i++
	}
	r.recs, r.i, r.first = recs, i, first
	return nil
}

var errGone = errors.New("no chunk holds it")

// chunk reads the chunk of segment g that holds pos: usually one begins right there, else the one with the
// greatest number below. Chunks cut again by a replay may overlap older ones; their contents agree.
func (r *Records) chunk(g *Segment) (recs []Rec, first uint64, err error) {
	err = r.s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(chunkKey(g.ID, r.pos))
		begin := r.pos
		if errors.Is(err, badger.ErrKeyNotFound) {
			opt := badger.IteratorOptions{Reverse: true, Prefix: chunkPrefix(g.ID)}
			it := txn.NewIterator(opt)
			defer r.s.closeIterator(it)
			it.Seek(chunkKey(g.ID, r.pos))
			if !it.ValidForPrefix(chunkPrefix(g.ID)) {
				return r.behind(txn, g, nil)
			}
			item, err = it.Item(), nil
			begin = binary.BigEndian.Uint64(item.Key()[len(prefixChunk)+8:])
		}
		if err != nil {
			return err
		}
		val, err := item.ValueCopy(nil)
		if err != nil {
			return r.behind(txn, g, err)
		}
		var next uint64
		recs, first, next, err = parseChunk(val, r.spare)
		if err != nil || first != begin {
			return r.behind(txn, g, errChunk)
		}
		if next <= r.pos {
			return r.behind(txn, g, nil)
		}
		return nil
	})
	if err == nil {
		r.spare = recs
	}
	return recs, first, err
}

// behind makes the hole that reaches from pos to the next chunk in g, or to the segment's end.
func (r *Records) behind(txn *badger.Txn, g *Segment, why error) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: chunkPrefix(g.ID)})
	defer r.s.closeIterator(it)
	it.Seek(chunkKey(g.ID, r.pos+1))
	if it.ValidForPrefix(chunkPrefix(g.ID)) {
		next := binary.BigEndian.Uint64(it.Item().Key()[len(prefixChunk)+8:])
		return r.hole(next-1, why)
	}
	if why == nil {
		return errGone
	}
	return r.hole(g.Last, why)
}
