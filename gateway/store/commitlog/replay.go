package commitlog

import (
	"errors"
	"fmt"
	"sort"
)

// Damage is something that Replay found wrong.
type Damage struct {
	From, To uint64 // entries that are missing; 0, 0 when none is known to be
	What     string // for an operator
	Pages    bool   // pages that cannot be read: the entries that are missing for it are told of as well
}

// Report is what Replay found.
type Report struct {
	First, Last uint64 // least and greatest index in the log, also of entries at or below from; 0: none
	Damage      []Damage
}

// Replay gives every entry with an index above from to fn, in order, and reports what is missing between
// them. payload is gone when fn returns. A batch that was torn at the very end is no damage: nobody was told
// that it had been kept. It must be called once, before Append; an error of fn ends it.
//
// Appending goes on in a fresh file, never behind a torn tail.
func (l *Log) Replay(from uint64, fn func(index uint64, payload []byte) error) (Report, error) {
	var rep Report
	l.nameBroken(&rep)
	used := make([]*segment, 0, len(l.ring))
	for _, s := range l.ring {
		if s.short > 0 {
			rep.Damage = append(rep.Damage, Damage{What: fmt.Sprintf("log file %s was cut short by %d bytes", s.name, s.short)})
		}
		if s.number > 0 {
			used = append(used, s)
			l.number = max(l.number, s.number+1)
		}
	}
	sort.Slice(used, func(a, b int) bool { return used[a].number < used[b].number })
	want := from + 1
	seen := uint64(0)
	var buf []byte
	for _, s := range used {
		if int64(len(buf)) < s.size {
			buf = make([]byte, s.size)
		}
		err := l.scan(s, buf[:s.size], &rep, func(index uint64, payload []byte) error {
			if index <= seen { // cannot be: indices ascend
				rep.Damage = append(rep.Damage, Damage{What: fmt.Sprintf("log file %s repeats entry %d", s.name, index)})
				return nil
			}
			seen = index
			if rep.First == 0 {
				rep.First = index
			}
			rep.Last = index
			s.last = index
			if index < want {
				return nil
			}
			if index > want {
				rep.Damage = append(rep.Damage, Damage{From: want, To: index - 1,
					What: fmt.Sprintf("entries %d to %d of the commit log cannot be read", want, index-1)})
			}
			want = index + 1
			return fn(index, payload)
		})
		if err != nil {
			return rep, err
		}
	}
	for _, s := range l.ring { // what could not be named or read stays until everything else has been released
		if s.broken || s.number > 0 && s.last == 0 {
			s.last = max(s.last, rep.Last)
		}
	}
	l.cur = nil
	l.Free(from)
	return rep, nil
}

// scan gives every valid frame of s. Behind a hole it goes on looking page by page.
func (l *Log) scan(s *segment, b []byte, rep *Report, fn func(index uint64, payload []byte) error) error {
	if lost := readSome(s.f, b, 0); lost > 0 {
		rep.Damage = append(rep.Damage, Damage{What: fmt.Sprintf("%d pages of log file %s cannot be read", lost, s.name), Pages: true})
	}
	for at := int64(PageSize); at < int64(len(b)); {
		index, payload, ok := parseFrame(b[at:], s.number)
		if !ok {
			at += PageSize
			continue
		}
		if err := fn(index, payload[:len(payload):len(payload)]); err != nil {
			return err
		}
		at += frameSize(len(payload))
	}
	return nil
}

var errFound = errors.New("found")

// nameBroken finds the numbers of files whose headers cannot be read: one of the numbers that are missing
// between the others, or the next one, makes their frames valid.
func (l *Log) nameBroken(rep *Report) {
	taken := map[uint64]bool{}
	greatest := uint64(0)
	for _, s := range l.ring {
		taken[s.number] = true
		greatest = max(greatest, s.number)
	}
	for _, s := range l.ring {
		// A header that reads as zeros may be a lost one as well: with anything behind it, it is.
		if s.number > 0 || !s.broken && !l.anyFrame(s) {
			continue
		}
		buf := make([]byte, s.size)
		for n := greatest + uint64(len(l.ring)); n > 0 && n+uint64(2*len(l.ring)) > greatest; n-- {
			if taken[n] {
				continue
			}
			s.number = n
			if err := l.scan(s, buf, &Report{}, func(uint64, []byte) error { return errFound }); err != nil {
				break
			}
			s.number = 0
		}
		switch {
		case s.number > 0:
			taken[s.number], s.broken = true, false
			rep.Damage = append(rep.Damage, Damage{What: fmt.Sprintf("the header of log file %s cannot be read; its entries could", s.name)})
		case s.broken: // else a power cut has torn the first entry and left the header out: nothing was acknowledged
			rep.Damage = append(rep.Damage, Damage{What: fmt.Sprintf("the header of log file %s cannot be read, nor any entry in it", s.name)})
		}
	}
}

// anyFrame looks cheaply whether the page behind the header holds anything.
func (l *Log) anyFrame(s *segment) bool {
	var page [PageSize]byte
	readSome(s.f, page[:], PageSize)
	for _, b := range page {
		if b != 0 {
			return true
		}
	}
	return false
}
