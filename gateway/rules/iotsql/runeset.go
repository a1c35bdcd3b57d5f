package iotsql

import (
	"slices"
	"strings"
	"unicode"
)

// runeRange is the characters from lo to hi.
type runeRange struct{ lo, hi rune }

// runeSet is a set of characters as ranges. normal() makes them ascending and apart.
type runeSet []runeRange

func runes(pairs ...rune) runeSet {
	s := make(runeSet, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		s = append(s, runeRange{pairs[i], pairs[i+1]})
	}
	return s
}

func (s runeSet) normal() runeSet {
	s = slices.Clone(s)
	slices.SortFunc(s, func(a, b runeRange) int { return int(a.lo - b.lo) })
	out := s[:0]
	for _, r := range s {
		if n := len(out); n > 0 && r.lo <= out[n-1].hi+1 {
			out[n-1].hi = max(out[n-1].hi, r.hi)
		} else {
			out = append(out, r)
		}
	}
	return out
}

func (s runeSet) not() runeSet {
	var out runeSet
	next := rune(0)
	for _, r := range s.normal() {
		if r.lo > next {
			out = append(out, runeRange{next, r.lo - 1})
		}
		next = r.hi + 1
	}
	if next <= unicode.MaxRune {
		out = append(out, runeRange{next, unicode.MaxRune})
	}
	return out
}

func (s runeSet) and(o runeSet) runeSet { return append(s.not(), o.not()...).not() }

func (s runeSet) or(o runeSet) runeSet { return append(slices.Clone(s), o...) }

// fold adds the other case of every letter: of ASCII only, or of all of Unicode.
func (s runeSet) fold(all bool) runeSet {
	out := slices.Clone(s)
	for _, r := range s {
		if lo, hi := max(r.lo, 'a'), min(r.hi, 'z'); lo <= hi {
			out = append(out, runeRange{lo - 32, hi - 32})
		}
		if lo, hi := max(r.lo, 'A'), min(r.hi, 'Z'); lo <= hi {
			out = append(out, runeRange{lo + 32, hi + 32})
		}
		if all && r.hi-r.lo < 1024 {
			for c := r.lo; c <= r.hi; c++ {
				for f := unicode.SimpleFold(c); f != c; f = unicode.SimpleFold(f) {
					out = append(out, runeRange{f, f})
				}
			}
		}
	}
	return out
}

// appendClass writes the set as a character class.
func (s runeSet) appendClass(b *strings.Builder) {
	s = s.normal()
	if len(s) == 0 {
		b.WriteString("(?!)")
		return
	}
	b.WriteByte('[')
	for _, r := range s {
		appendInClass(b, r.lo)
		if r.hi > r.lo {
			if r.hi > r.lo+1 {
				b.WriteByte('-')
			}
			appendInClass(b, r.hi)
		}
	}
	b.WriteByte(']')
}

func appendInClass(b *strings.Builder, r rune) {
	if strings.ContainsRune(`\[]^-`, r) {
		b.WriteByte('\\')
	}
	b.WriteRune(r)
}

func tableSet(tables ...*unicode.RangeTable) runeSet {
	var s runeSet
	add := func(lo, hi, stride rune) {
		if stride == 1 {
			s = append(s, runeRange{lo, hi})
			return
		}
		for c := lo; c <= hi; c += stride {
			s = append(s, runeRange{c, c})
		}
	}
	for _, t := range tables {
		for _, r := range t.R16 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
		for _, r := range t.R32 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
	}
	return s
}

// What Java's Pattern means by its classes when UNICODE_CHARACTER_CLASS is off.
var (
	javaDigit      = runes('0', '9')
	javaSpace      = runes('\t', '\r', ' ', ' ')
	javaWord       = runes('0', '9', 'A', 'Z', '_', '_', 'a', 'z')
	javaHorizontal = runes('\t', '\t', ' ', ' ', 0xa0, 0xa0, 0x1680, 0x1680, 0x180e, 0x180e, 0x2000, 0x200a, 0x202f, 0x202f, 0x205f, 0x205f, 0x3000, 0x3000)
	javaVertical   = runes('\n', '\r', 0x85, 0x85, 0x2028, 0x2029)
	javaLineEnd    = runes('\n', '\n', '\r', '\r', 0x85, 0x85, 0x2028, 0x2029)
)

// javaProperty gives the set of \p{name}.
func javaProperty(name string) (runeSet, bool) {
	switch name {
	case "Lower":
		return runes('a', 'z'), true
	case "Upper":
		return runes('A', 'Z'), true
	case "ASCII":
		return runes(0, 0x7f), true
	case "Alpha":
		return runes('A', 'Z', 'a', 'z'), true
	case "Digit":
		return javaDigit, true
	case "Alnum":
		return runes('0', '9', 'A', 'Z', 'a', 'z'), true
	case "Punct":
		return runes('!', '/', ':', '@', '[', '`', '{', '~'), true
	case "Graph":
		return runes('!', '~'), true
	case "Print":
		return runes(' ', '~'), true
	case "Blank":
		return runes('\t', '\t', ' ', ' '), true
	case "Cntrl":
		return runes(0, 0x1f, 0x7f, 0x7f), true
	case "XDigit":
		return runes('0', '9', 'A', 'F', 'a', 'f'), true
	case "Space":
		return javaSpace, true
	case "L1":
		return runes(0, 0xff), true
	case "all":
		return runes(0, unicode.MaxRune), true
	case "LC":
		return tableSet(unicode.Lu, unicode.Ll, unicode.Lt), true
	case "javaLowerCase", "IsLowercase":
		return tableSet(unicode.Ll, unicode.Other_Lowercase), true
	case "javaUpperCase", "IsUppercase":
		return tableSet(unicode.Lu, unicode.Other_Uppercase), true
	case "javaWhitespace":
		return tableSet(unicode.Z).and(runes(0xa0, 0xa0, 0x2007, 0x2007, 0x202f, 0x202f).not()).or(runes('\t', '\r', 0x1c, 0x1f)), true
	case "javaLetter", "IsLetter":
		return tableSet(unicode.L), true
	case "javaDigit", "IsDigit":
		return tableSet(unicode.Nd), true
	case "javaLetterOrDigit":
		return tableSet(unicode.L, unicode.Nd), true
	case "javaAlphabetic", "IsAlphabetic":
		return tableSet(unicode.L, unicode.Nl, unicode.Other_Alphabetic), true
	case "IsPunctuation":
		return tableSet(unicode.P), true
	case "IsControl":
		return tableSet(unicode.Cc), true
	}
	if key, val, ok := strings.Cut(name, "="); ok {
		switch key {
		case "gc", "general_category":
			t, ok := unicode.Categories[val]
			return fromTable(t, ok)
		case "sc", "script":
			t, ok := unicode.Scripts[val]
			return fromTable(t, ok)
		}
		return nil, false
	}
	short := strings.TrimPrefix(name, "Is")
	if t, ok := unicode.Categories[short]; ok {
		return tableSet(t), true
	}
	if short == name {
		return nil, false
	}
	if t, ok := unicode.Scripts[short]; ok {
		return tableSet(t), true
	}
	t, ok := unicode.Properties[short]
	return fromTable(t, ok)
}

func fromTable(t *unicode.RangeTable, ok bool) (runeSet, bool) {
	if !ok {
		return nil, false
	}
	return tableSet(t), true
}
