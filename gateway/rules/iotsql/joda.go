package iotsql

import (
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	_ "time/tzdata" // the box may have no zone files
)

// jodaPattern is a compiled pattern of Joda-Time's DateTimeFormat, for printing.
type jodaPattern struct {
	source string
	parts  []func(dst []byte, t time.Time) []byte
}

// compileJoda compiles a pattern; nil for one that Joda would refuse.
func compileJoda(pattern string) *jodaPattern {
	p := &jodaPattern{source: pattern}
	for rest := pattern; rest != ""; {
		letters, text, after, ok := patternToken(rest)
		if !ok {
			return nil
		}
		rest = after
		if letters == "" {
			p.parts = append(p.parts, func(dst []byte, _ time.Time) []byte { return append(dst, text...) })
			continue
		}
		part := jodaPart(letters[0], len(letters))
		if part == nil {
			return nil
		}
		p.parts = append(p.parts, part)
	}
	return p
}

// patternToken takes the first token off a time pattern: a run of one letter, or text, in
// quotes or without. Two quotes are one. Both Joda and the JDK write patterns so.
func patternToken(s string) (letters, text, rest string, ok bool) {
	if isLetter(s[0]) {
		n := 1
		for n < len(s) && s[n] == s[0] {
			n++
		}
		return s[:n], "", s[n:], true
	}
	if s[0] != '\'' {
		return "", s[:1], s[1:], true
	}
	if strings.HasPrefix(s, "''") {
		return "", "'", s[2:], true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '\'' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		return "", b.String(), s[i+1:], true
	}
	return "", b.String(), "", false
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// padded writes n with at least width digits.
func padded(dst []byte, n, width int) []byte {
	if n < 0 {
		dst, n = append(dst, '-'), -n
	}
	s := strconv.Itoa(n)
	for i := len(s); i < width; i++ {
		dst = append(dst, '0')
	}
	return append(dst, s...)
}

func clockHour(h, n int) int {
	if h %= n; h == 0 {
		return n
	}
	return h
}

func eraYear(t time.Time) int {
	if y := t.Year(); y > 0 {
		return y
	}
	return 1 - t.Year()
}

func shortIf(short bool, s string) string {
	if short {
		return s[:3]
	}
	return s
}

func isoWeekday(t time.Time) int { return (int(t.Weekday())+6)%7 + 1 }

// jodaPart gives what prints a run of n letters c; nil when the letter means nothing.
func jodaPart(c byte, n int) func(dst []byte, t time.Time) []byte {
	number := func(f func(t time.Time) int) func([]byte, time.Time) []byte {
		return func(dst []byte, t time.Time) []byte { return padded(dst, f(t), n) }
	}
	words := func(f func(t time.Time) string) func([]byte, time.Time) []byte {
		return func(dst []byte, t time.Time) []byte { return append(dst, f(t)...) }
	}
	year := func(f func(t time.Time) int) func([]byte, time.Time) []byte {
		if n != 2 {
			return number(f)
		}
		return number(func(t time.Time) int { return (f(t)%100 + 100) % 100 })
	}
	switch c {
	case 'G':
		return words(func(t time.Time) string {
			if t.Year() > 0 {
				return "AD"
			}
			return "BC"
		})
	case 'C':
		return number(func(t time.Time) int { return eraYear(t) / 100 })
	case 'Y':
		return year(eraYear)
	case 'y':
		return year(time.Time.Year)
	case 'x':
		return year(func(t time.Time) int { y, _ := t.ISOWeek(); return y })
	case 'w':
		return number(func(t time.Time) int { _, w := t.ISOWeek(); return w })
	case 'e':
		return number(isoWeekday)
	case 'E':
		return words(func(t time.Time) string { return shortIf(n < 4, t.Weekday().String()) })
	case 'D':
		return number(time.Time.YearDay)
	case 'M':
		if n < 3 {
			return number(func(t time.Time) int { return int(t.Month()) })
		}
		return words(func(t time.Time) string { return shortIf(n < 4, t.Month().String()) })
	case 'd':
		return number(time.Time.Day)
	case 'a':
		return words(func(t time.Time) string {
			if t.Hour() < 12 {
				return "AM"
			}
			return "PM"
		})
	case 'K':
		return number(func(t time.Time) int { return t.Hour() % 12 })
	case 'h':
		return number(func(t time.Time) int { return clockHour(t.Hour(), 12) })
	case 'H':
		return number(time.Time.Hour)
	case 'k':
		return number(func(t time.Time) int { return clockHour(t.Hour(), 24) })
	case 'm':
		return number(time.Time.Minute)
	case 's':
		return number(time.Time.Second)
	case 'S':
		return func(dst []byte, t time.Time) []byte {
			digits := padded(nil, t.Nanosecond()/1e6, 3)
			for len(digits) < n {
				digits = append(digits, '0')
			}
			return append(dst, digits[:n]...)
		}
	case 'z':
		return words(func(t time.Time) string { return zoneName(t, n >= 4) })
	case 'Z':
		if n > 2 {
			return words(func(t time.Time) string { return t.Location().String() })
		}
		return words(func(t time.Time) string { return offsetText(t, n == 2) })
	}
	return nil
}

// offsetText gives a zone's offset as +0100 or +01:00.
func offsetText(t time.Time, colon bool) string {
	if colon {
		return t.Format("-07:00")
	}
	return t.Format("-0700")
}

// timeZone finds a zone by the ids Joda knows: those of the IANA database, and offsets
// such as +02:00.
func timeZone(id string) (*time.Location, bool) {
	switch id {
	case "UTC", "GMT", "UT", "Z", "Etc/UTC":
		if id == "GMT" {
			break
		}
		return time.UTC, true
	case "", "Local":
		return nil, false
	}
	if id[0] == '+' || id[0] == '-' {
		for _, layout := range [...]string{"-07:00", "-0700", "-07", "-07:00:00"} {
			if t, err := time.Parse(layout, id); err == nil {
				_, offset := t.Zone()
				if offset == 0 {
					return time.UTC, true
				}
				return time.FixedZone(id, offset), true
			}
		}
		return nil, false
	}
	l, err := time.LoadLocation(id)
	return l, err == nil
}

// maxEpoch is the largest time either way that is printed, in milliseconds: the year 9999
// on the one side and the same distance on the other.
const maxEpoch = 253_402_300_799_999

// parseTime is parse_time(pattern, milliseconds[, zone]), which prints a time.
func parseTime(_ *compiler, t *term, args []expr) expr {
	compiled := memo(args[0], t.args[0], compileJoda, func(p *jodaPattern) string { return p.source })
	millis := args[1]
	location := func(*Input) (*time.Location, bool) { return time.UTC, true }
	if len(args) == 3 {
		zone := args[2]
		var last atomic.Pointer[time.Location] // reading zone files costs
		location = func(in *Input) (*time.Location, bool) {
			v := zone(in)
			if v.kind != text {
				return nil, false
			}
			if l := last.Load(); l != nil && l.String() == v.str {
				return l, true
			}
			l, ok := timeZone(strings.Clone(v.str))
			if ok {
				last.Store(l)
			}
			return l, ok && in.spend(1000)
		}
	}
	return func(in *Input) value {
		p := compiled(in)
		n, ok := millis(in).toNumber()
		if p == nil || !ok {
			return undef
		}
		ms := n.clamp(-maxEpoch-1, maxEpoch+1)
		l, ok := location(in)
		if !ok || ms > maxEpoch || ms < -maxEpoch {
			return undef
		}
		var out []byte
		at := time.UnixMilli(ms).In(l)
		for _, part := range p.parts {
			if !in.room(len(out)) {
				return undef
			}
			out = part(out, at)
		}
		return in.built(string(out))
	}
}

// maxTimePattern bounds a time pattern, in bytes.
const maxTimePattern = 1 << 10

// memo compiles the text of an argument: now when it is a literal, else when it differs
// from the last one. nil stands for Undefined.
func memo[T any](arg expr, t *term, compile func(string) *T, source func(*T) string) func(in *Input) *T {
	if t.op == opLiteral {
		var p *T
		if t.val.kind == text && len(t.val.str) <= maxTimePattern {
			p = compile(t.val.str)
		}
		return func(*Input) *T { return p }
	}
	var last atomic.Pointer[T]
	return func(in *Input) *T {
		v := arg(in)
		if v.kind != text || len(v.str) > maxTimePattern {
			return nil
		}
		if p := last.Load(); p != nil && source(p) == v.str {
			return p
		}
		p := compile(strings.Clone(v.str))
		if p != nil && in.spend(len(v.str)) {
			last.Store(p)
		}
		return p
	}
}
