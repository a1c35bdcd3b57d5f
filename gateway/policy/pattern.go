package policy

import (
	"bytes"
	"unicode/utf8"
)

// pattern is a text with wildcards, cut at its stars. Matching takes the
// segments one after the other, each at the leftmost place it fits; what was
// taken is never given back, so there is no backtracking however many stars
// there are. A segment without '?' is looked for with bytes.Index; one with '?'
// costs at most its length at each place.
type pattern struct {
	segments []segment
	star     []bool // star[i]: a star stands before segments[i]; the last entry, behind the last segment
	never    bool   // holds a variable that has no value: matches nothing
}

// segment is a run of literals with single-character wildcards between them:
// literals[0] ? literals[1] ? … A run without '?' has one literal.
type segment struct {
	literals [][]byte
	size     int // bytes of the literals, the least a match takes is size + len(literals)-1
}

// builder collects a pattern from its parts.
type builder struct {
	p       pattern
	current [][]byte
	started bool // the current segment has something in it
	star    bool // a star stands before the current segment
}

func (b *builder) literal(s string) {
	if s == "" {
		return
	}
	if len(b.current) == 0 {
		b.current = append(b.current, nil)
	}
	last := len(b.current) - 1
	b.current[last] = append(b.current[last], s...)
	b.started = true
}

func (b *builder) one() {
	if len(b.current) == 0 {
		b.current = append(b.current, nil)
	}
	b.current = append(b.current, nil)
	b.started = true
}

func (b *builder) any() {
	if b.started {
		b.flush()
	}
	b.star = true
}

func (b *builder) flush() {
	s := segment{literals: b.current}
	for _, l := range b.current {
		s.size += len(l)
	}
	b.p.segments = append(b.p.segments, s)
	b.p.star = append(b.p.star, b.star)
	b.current, b.started, b.star = nil, false, false
}

func (b *builder) done() pattern {
	if b.started {
		b.flush()
	}
	b.p.star = append(b.p.star, b.star)
	return b.p
}

// compilePattern cuts a text in which only '*' and '?' are special.
func compilePattern(text string) pattern {
	var b builder
	b.wild(text)
	return b.done()
}

// wild adds text with its wildcards.
func (b *builder) wild(text string) {
	start := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '*':
			b.literal(text[start:i])
			b.any()
			start = i + 1
		case '?':
			b.literal(text[start:i])
			b.one()
			start = i + 1
		}
	}
	b.literal(text[start:])
}

// match says whether the whole of text fits the pattern.
func (p *pattern) match(text []byte) bool {
	if p.never {
		return false
	}
	n := len(p.segments)
	if n == 0 { // "" or "*"
		return p.star[0] || len(text) == 0
	}
	first := 0
	if !p.star[0] {
		end := p.segments[0].at(text)
		if end < 0 {
			return false
		}
		text, first = text[end:], 1
		if n == 1 {
			return p.star[1] || len(text) == 0
		}
	}
	last := n
	if !p.star[n] { // the last segment stands at the end
		last--
		start := p.segments[last].atEnd(text)
		if start < 0 {
			return false
		}
		text = text[:start]
	}
	for i := first; i < last; i++ {
		end := p.segments[i].find(text)
		if end < 0 {
			return false
		}
		text = text[end:]
	}
	return true
}

// at matches the segment at the start of text and returns where it ends, or -1.
func (s *segment) at(text []byte) int {
	pos := 0
	for i, l := range s.literals {
		if i > 0 {
			if pos >= len(text) {
				return -1
			}
			if text[pos] < utf8.RuneSelf {
				pos++
			} else {
				_, size := utf8.DecodeRune(text[pos:])
				pos += size
			}
		}
		if !bytes.HasPrefix(text[pos:], l) {
			return -1
		}
		pos += len(l)
	}
	return pos
}

// find matches the segment at the leftmost place in text and returns where it
// ends, or -1.
func (s *segment) find(text []byte) int {
	if len(s.literals) == 1 {
		i := bytes.Index(text, s.literals[0])
		if i < 0 {
			return -1
		}
		return i + len(s.literals[0])
	}
	least := s.size + len(s.literals) - 1
	for i := 0; i+least <= len(text); i++ {
		if first := s.literals[0]; len(first) > 0 {
			j := bytes.Index(text[i:], first)
			if j < 0 {
				return -1
			}
			i += j
		} else if !utf8.RuneStart(text[i]) {
			continue // '?' takes whole characters
		}
		if end := s.at(text[i:]); end >= 0 {
			return i + end
		}
	}
	return -1
}

// atEnd matches the segment at the end of text and returns where it starts, or
// -1. It walks back as many characters as the segment takes.
func (s *segment) atEnd(text []byte) int {
	start := len(text)
	for i := len(s.literals) - 1; i >= 0; i-- {
		l := s.literals[i]
		if !bytes.HasSuffix(text[:start], l) {
			return -1
		}
		start -= len(l)
		if i > 0 {
			if start == 0 {
				return -1
			}
			_, size := utf8.DecodeLastRune(text[:start])
			start -= size
		}
	}
	return start
}
