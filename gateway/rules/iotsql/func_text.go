package iotsql

import (
	"strings"
	"unicode/utf8"
)

// onText makes a function of one text. Null and Undefined have no text.
func onText(f func(string) string) func(*Input, []value) value {
	return func(in *Input, args []value) value {
		s, ok := in.toText(args[0])
		if !ok {
			return undef
		}
		return in.built(f(s))
	}
}

func lower(s string) string { return strings.ToLower(s) }

// upper is Java's: ß becomes SS.
func upper(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "ß", "ss")) }

const blank = " \t"

func trim(s string) string  { return strings.Trim(s, blank) }
func ltrim(s string) string { return strings.TrimLeft(s, blank) }
func rtrim(s string) string { return strings.TrimRight(s, blank) }

// texts converts two arguments.
func (in *Input) texts(a, b value) (x, y string, ok bool) {
	if x, ok = in.toText(a); !ok {
		return "", "", false
	}
	y, ok = in.toText(b)
	return x, y, ok
}

// pad adds spaces, up to 1000; it does not fill up to a width.
func pad(left bool) func(*Input, []value) value {
	return func(in *Input, args []value) value {
		s, ok := in.toText(args[0])
		if !ok {
			return undef
		}
		n, ok := args[1].toNumber()
		if !ok {
			return undef
		}
		spaces := strings.Repeat(" ", int(n.clamp(0, 1000)))
		if left {
			return in.built(spaces + s)
		}
		return in.built(s + spaces)
	}
}

func length(in *Input, args []value) value {
	s, ok := in.toText(args[0])
	if !ok {
		return undef
	}
	return intValue(int64(utf8.RuneCountInString(s)))
}

func numBytes(in *Input, args []value) value {
	s, ok := in.toText(args[0])
	if !ok {
		return undef
	}
	return intValue(int64(len(s)))
}

// indexOf gives the place of the first occurrence in characters, -1 when there is none.
func indexOf(in *Input, args []value) value {
	s, sub, ok := in.texts(args[0], args[1])
	if !ok {
		return undef
	}
	i := strings.Index(s, sub)
	if i > 0 {
		i = utf8.RuneCountInString(s[:i])
	}
	return intValue(int64(i))
}

// substring counts in characters from 0; to is exclusive. Places outside the text are
// brought back to its ends.
func substring(in *Input, args []value) value {
	s, ok := in.toText(args[0])
	if !ok {
		return undef
	}
	from, ok := args[1].toNumber()
	if !ok {
		return undef
	}
	size := int64(len(s)) // no less than its characters
	start, end := from.clamp(0, size), size
	if len(args) == 3 {
		to, ok := args[2].toNumber()
		if !ok {
			return undef
		}
		end = to.clamp(0, size)
	}
	if start >= end {
		return textValue("")
	}
	begin := runeOffset(s, start)
	return textValue(s[begin : begin+runeOffset(s[begin:], end-start)])
}

// runeOffset gives where character n of s begins, or its end.
func runeOffset(s string, n int64) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}

func replace(in *Input, args []value) value {
	s, find, ok := in.texts(args[0], args[1])
	if !ok {
		return undef
	}
	with, ok := in.toText(args[2])
	if !ok || !in.room(len(s)+strings.Count(s, find)*len(with)) {
		return undef
	}
	return in.built(strings.ReplaceAll(s, find, with))
}

func startsWith(in *Input, args []value) value {
	s, start, ok := in.texts(args[0], args[1])
	if !ok {
		return undef
	}
	return boolValue(strings.HasPrefix(s, start))
}

func endsWith(in *Input, args []value) value {
	s, end, ok := in.texts(args[0], args[1])
	if !ok {
		return undef
	}
	return boolValue(strings.HasSuffix(s, end))
}

// chr gives the ASCII character of a number; there are none outside 0 to 127.
func chr(_ *Input, args []value) value {
	n, ok := args[0].toNumber()
	if !ok {
		return undef
	}
	c := n.clamp(-1, 128)
	if c < 0 || c > 127 {
		return undef
	}
	return textValue(string(rune(c)))
}

// concat joins: with an array among its arguments to one array, into which arrays are
// spliced, else to a text when at least one is a String. One argument stays as it is.
func concat(in *Input, args []value) value {
	if len(args) == 0 {
		return undef
	}
	if len(args) == 1 {
		return args[0]
	}
	arrays, texts := false, false
	for _, a := range args {
		arrays = arrays || a.kind == array
		texts = texts || a.kind == text
	}
	switch {
	case arrays:
		var list []value
		for _, a := range args {
			if a.kind == array {
				list = append(list, in.elements(a)...)
			} else if a.kind != undefined {
				list = append(list, a)
			}
			if !in.spend(1) || len(list) > maxSteps {
				in.fail(errTooMuch)
				return undef
			}
		}
		in.spend(len(list))
		return arrayValue(list)
	case texts:
		var b strings.Builder
		for _, a := range args {
			s, ok := in.toText(a)
			if !ok || !in.room(b.Len()+len(s)) {
				return undef
			}
			b.WriteString(s)
		}
		return in.built(b.String())
	}
	return undef
}
