package iotsql

import (
	"strconv"
	"strings"
	"time"
)

// jdkPattern is a compiled pattern of the JDK's java.time DateTimeFormatter (English, the
// SMART resolver), for parsing.
type jdkPattern struct {
	source string
	parts  []jdkPart
}

// jdkPart reads one element of s at position at: where it ends, or not ok.
type jdkPart struct {
	read     func(f *timeFields, s string, at int) (end int, ok bool)
	number   *jdkNumber // instead of read
	optional []jdkPart  // instead of both: […]
	width    int        // read takes this many digits and may share them with a number
}

// timeField is a number that a time pattern can read.
type timeField uint8

const (
	fieldYear timeField = iota
	fieldEraYear
	fieldEra
	fieldMonth
	fieldDay
	fieldYearDay
	fieldWeekday
	fieldHour
	fieldClockHour   // 1 to 24, and the SMART resolver takes 0
	fieldHourOfHalf  // 0 to 11
	fieldClockOfHalf // 1 to 12, and 0
	fieldHalf
	fieldMinute
	fieldSecond
	fieldNano
	fieldMilliOfDay
	fieldNanoOfDay
	timeFieldCount
)

var fieldRange = [timeFieldCount][2]int64{
	{-999_999_999, 999_999_999}, {1, 999_999_999}, {0, 1}, {1, 12}, {1, 31}, {1, 366}, {1, 7},
	{0, 24}, {0, 24}, {0, 11}, {0, 12}, {0, 1}, {0, 59}, {0, 59}, {0, 999_999_999},
	{0, 86_400_000 - 1}, {0, 86_400_000_000_000 - 1},
}

// timeFields is what was read.
type timeFields struct {
	has  [timeFieldCount]bool
	val  [timeFieldCount]int64
	zone *time.Location
}

// set notes a field; not ok when it contradicts what is there.
func (f *timeFields) set(field timeField, v int64) bool {
	if f.has[field] && f.val[field] != v {
		return false
	}
	f.has[field], f.val[field] = true, v
	return true
}

// signs says which signs a number may have in front.
type signs uint8

const (
	unsigned     signs = iota
	normalSign         // a minus
	exceedsWidth       // a plus exactly when there are more digits than least
)

// jdkNumber reads digits. Numbers that follow each other without anything between share
// the digits: those of fixed width behind the first take theirs from the end.
type jdkNumber struct {
	field       timeField
	least, most int
	sign        signs
	reserved    int // digits the numbers right behind need
	century     bool
}

func (n *jdkNumber) read(f *timeFields, s string, at int) (int, bool) {
	negative, positive := false, false
	if at < len(s) && (s[at] == '-' || s[at] == '+') {
		negative, positive = s[at] == '-', s[at] == '+'
		if n.sign == unsigned || positive && n.sign == normalSign {
			return 0, false
		}
		at++
	}
	end := min(digitsEnd(s, at), at+n.most+n.reserved)
	if n.reserved > 0 {
		end = max(at+n.least, end-n.reserved)
		if end > digitsEnd(s, at) {
			return 0, false
		}
	}
	if end = min(end, at+n.most); end-at < n.least {
		return 0, false
	}
	if n.sign == exceedsWidth && !negative && positive != (end-at > n.least) {
		return 0, false
	}
	v, err := strconv.ParseInt(s[at:end], 10, 64)
	if err != nil || negative && v == 0 {
		return 0, false
	}
	if negative {
		v = -v
	}
	if n.century {
		v += 2000
	}
	return end, f.set(n.field, v)
}

// compileJDK compiles a pattern; nil for one the JDK would refuse.
func compileJDK(pattern string) *jdkPattern {
	parts, rest := compileJDKParts(pattern, 0)
	if parts == nil || rest != "" {
		return nil
	}
	return &jdkPattern{source: pattern, parts: parts}
}

// compileJDKParts compiles up to the end, or to the ] that closes the section; parts is nil
// when the pattern is wrong.
func compileJDKParts(s string, depth int) (parts []jdkPart, rest string) {
	parts = []jdkPart{}
	var first *jdkNumber // of the numbers right in front, the one whose digits are shared
	for s != "" {
		switch s[0] {
		case '[':
			if depth == 16 {
				return nil, ""
			}
			inner, after := compileJDKParts(s[1:], depth+1)
			if inner == nil {
				return nil, ""
			}
			parts, s, first = append(parts, jdkPart{optional: inner}), after, nil
			continue
		case ']':
			if depth == 0 {
				return nil, ""
			}
			return parts, s[1:]
		case '{', '}', '#':
			return nil, ""
		}
		letters, literal, after, ok := patternToken(s)
		if !ok {
			return nil, ""
		}
		s = after
		part := jdkPart{read: func(_ *timeFields, s string, at int) (int, bool) {
			return at + len(literal), strings.HasPrefix(s[at:], literal)
		}}
		if letters != "" {
			if part = jdkLetters(letters[0], len(letters)); part.read == nil && part.number == nil {
				return nil, ""
			}
		}
		switch n := part.number; {
		case n == nil && part.width > 0 && first != nil:
			first.reserved += part.width
		case n == nil:
			first = nil
		case first != nil && n.least == n.most && n.sign == unsigned:
			first.reserved += n.most
		default:
			first = n
		}
		parts = append(parts, part)
	}
	return parts, ""
}

// jdkLetters compiles a run of n letters c; an empty part when they mean nothing.
func jdkLetters(c byte, n int) jdkPart {
	value := func(field timeField) jdkPart {
		switch n {
		case 1:
			return jdkPart{number: &jdkNumber{field: field, least: 1, most: 18, sign: normalSign}}
		case 2:
			return jdkPart{number: &jdkNumber{field: field, least: 2, most: 2}}
		}
		return jdkPart{}
	}
	switch c {
	case 'u', 'y':
		num := &jdkNumber{field: fieldYear, least: n, most: 18, sign: exceedsWidth}
		if c == 'y' {
			num.field = fieldEraYear
		}
		switch {
		case n == 2:
			num.most, num.sign, num.century = 2, unsigned, true
		case n < 4:
			num.sign = normalSign
		case n > 18:
			return jdkPart{}
		}
		return jdkPart{number: num}
	case 'M', 'L':
		switch n {
		case 3:
			return names(fieldMonth, 1, 12, func(i int) string { return time.Month(i).String()[:3] })
		case 4:
			return names(fieldMonth, 1, 12, func(i int) string { return time.Month(i).String() })
		}
		return value(fieldMonth)
	case 'd':
		return value(fieldDay)
	case 'D':
		switch n {
		case 1:
			return value(fieldYearDay)
		case 2, 3:
			return jdkPart{number: &jdkNumber{field: fieldYearDay, least: n, most: 3}}
		}
	case 'E':
		return weekday(n)
	case 'e': // in English the week begins on Sunday
		if n > 2 {
			return weekday(n)
		}
		p := value(fieldWeekday)
		num := p.number
		return jdkPart{read: func(f *timeFields, s string, at int) (int, bool) {
			var own timeFields
			end, ok := num.read(&own, s, at)
			v := own.val[fieldWeekday]
			return end, ok && v >= 1 && v <= 7 && f.set(fieldWeekday, (v+5)%7+1)
		}}
	case 'G':
		if n < 4 {
			return names(fieldEra, 0, 1, func(i int) string { return [...]string{"BC", "AD"}[i] })
		} else if n == 4 {
			return names(fieldEra, 0, 1, func(i int) string { return [...]string{"Before Christ", "Anno Domini"}[i] })
		}
	case 'a':
		if n == 1 {
			return names(fieldHalf, 0, 1, func(i int) string { return [...]string{"AM", "PM"}[i] })
		}
	case 'H':
		return value(fieldHour)
	case 'k':
		return value(fieldClockHour)
	case 'K':
		return value(fieldHourOfHalf)
	case 'h':
		return value(fieldClockOfHalf)
	case 'm':
		return value(fieldMinute)
	case 's':
		return value(fieldSecond)
	case 'S':
		if n <= 9 {
			return jdkPart{read: fraction(n), width: n}
		}
	case 'n', 'A', 'N':
		field := map[byte]timeField{'n': fieldNano, 'A': fieldMilliOfDay, 'N': fieldNanoOfDay}[c]
		if n <= 18 {
			return jdkPart{number: &jdkNumber{field: field, least: n, most: 18}}
		}
	case 'V', 'z', 'O', 'X', 'x', 'Z':
		return jdkPart{read: zoneReader(c, n)}
	}
	return jdkPart{}
}

func weekday(n int) jdkPart {
	switch {
	case n < 4:
		return names(fieldWeekday, 1, 7, func(i int) string { return time.Weekday(i % 7).String()[:3] })
	case n == 4:
		return names(fieldWeekday, 1, 7, func(i int) string { return time.Weekday(i % 7).String() })
	}
	return jdkPart{}
}

// names reads one of the names of a field's values from lo to hi.
func names(field timeField, lo, hi int, name func(int) string) jdkPart {
	return jdkPart{read: func(f *timeFields, s string, at int) (int, bool) {
		for i := lo; i <= hi; i++ {
			if w := name(i); strings.HasPrefix(s[at:], w) {
				return at + len(w), f.set(field, int64(i))
			}
		}
		return 0, false
	}}
}

// fraction reads n digits of a second's fraction.
func fraction(n int) func(*timeFields, string, int) (int, bool) {
	return func(f *timeFields, s string, at int) (int, bool) {
		end := at + n
		if digitsEnd(s, at) < end {
			return 0, false
		}
		v, _ := strconv.ParseInt(s[at:end], 10, 64)
		for range 9 - n {
			v *= 10
		}
		return end, f.set(fieldNano, v)
	}
}

// readAll reads s by parts from at on.
func readAll(parts []jdkPart, f *timeFields, s string, at int) (int, bool) {
	for _, p := range parts {
		ok := true
		switch {
		case p.optional != nil:
			try := *f
			if end, ok := readAll(p.optional, &try, s, at); ok {
				*f, at = try, end
			}
		case p.number != nil:
			at, ok = p.number.read(f, s, at)
		default:
			at, ok = p.read(f, s, at)
		}
		if !ok || at > len(s) {
			return 0, false
		}
	}
	return at, true
}

// parse reads a time. Without a zone it is UTC, without a time of day midnight.
func (p *jdkPattern) parse(s string) (time.Time, bool) {
	var f timeFields
	end, ok := readAll(p.parts, &f, s, 0)
	if !ok || end != len(s) {
		return time.Time{}, false
	}
	year, month, day, ok := f.date()
	if !ok {
		return time.Time{}, false
	}
	since, ok := f.time()
	if !ok {
		return time.Time{}, false
	}
	zone := f.zone
	if zone == nil {
		zone = time.UTC
	}
	return inZone(time.Date(int(year), time.Month(month), int(day), 0, 0, 0, 0, time.UTC).Add(since), zone), true
}

// date works out year, month and day, as the SMART resolver does: a day past the end of
// its month is the last one.
func (f *timeFields) date() (year, month, day int64, ok bool) {
	for i := range f.has {
		if f.has[i] && (f.val[i] < fieldRange[i][0] || f.val[i] > fieldRange[i][1]) {
			return 0, 0, 0, false
		}
	}
	year = f.val[fieldYear]
	switch {
	case f.has[fieldEraYear]:
		era := f.val[fieldEraYear]
		if f.has[fieldEra] && f.val[fieldEra] == 0 {
			era = 1 - era
		}
		if f.has[fieldYear] && era != year {
			return 0, 0, 0, false
		}
		year = era
	case !f.has[fieldYear]:
		return 0, 0, 0, false
	}
	if year > 1e8 || year < -1e8 { // milliseconds would not hold them
		return 0, 0, 0, false
	}
	switch {
	case f.has[fieldMonth] && f.has[fieldDay]:
		month, day = f.val[fieldMonth], f.val[fieldDay]
		last := time.Date(int(year), time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
		day = min(day, int64(last))
	case f.has[fieldYearDay]:
		t := time.Date(int(year), 1, int(f.val[fieldYearDay]), 0, 0, 0, 0, time.UTC)
		if t.Year() != int(year) {
			return 0, 0, 0, false
		}
		month, day = int64(t.Month()), int64(t.Day())
	default:
		return 0, 0, 0, false
	}
	t := time.Date(int(year), time.Month(month), int(day), 0, 0, 0, 0, time.UTC)
	return year, month, day, !f.has[fieldWeekday] || f.val[fieldWeekday] == int64(isoWeekday(t))
}

// time works out the time of day; hours without AM or PM that need it are refused, as are
// minutes without hours.
func (f *timeFields) time() (time.Duration, bool) {
	switch {
	case f.has[fieldNanoOfDay]:
		return time.Duration(f.val[fieldNanoOfDay]), true
	case f.has[fieldMilliOfDay]:
		return time.Duration(f.val[fieldMilliOfDay]) * time.Millisecond, true
	}
	hour, ok := f.val[fieldHour], f.has[fieldHour]
	if f.has[fieldClockHour] {
		h := f.val[fieldClockHour] % 24
		if ok && h != hour {
			return 0, false
		}
		hour, ok = h, true
	}
	half, hasHalf := f.val[fieldHourOfHalf], f.has[fieldHourOfHalf]
	if f.has[fieldClockOfHalf] {
		half, hasHalf = f.val[fieldClockOfHalf]%12, true
	}
	if hasHalf {
		h := half + 12*f.val[fieldHalf]
		if !f.has[fieldHalf] || ok && h != hour {
			return 0, false
		}
		hour, ok = h, true
	} else if f.has[fieldHalf] && ok && hour/12 != f.val[fieldHalf] {
		return 0, false
	}
	minute, second, nano := f.has[fieldMinute], f.has[fieldSecond], f.has[fieldNano]
	if !ok {
		return 0, !minute && !second && !nano
	}
	if (second || nano) && !minute || nano && !second {
		return 0, false
	}
	d := time.Duration(hour)*time.Hour + time.Duration(f.val[fieldMinute])*time.Minute +
		time.Duration(f.val[fieldSecond])*time.Second + time.Duration(f.val[fieldNano])
	return d, d <= 24*time.Hour && (hour < 24 || d == 24*time.Hour)
}

// inZone gives the instant of a wall clock reading (as UTC): the earlier one where the
// clock shows it twice, moved on by the gap where it never does.
func inZone(wall time.Time, zone *time.Location) time.Time {
	offset := func(t time.Time) time.Duration {
		_, s := t.In(zone).Zone()
		return time.Duration(s) * time.Second
	}
	before, after := offset(wall.Add(-24*time.Hour)), offset(wall.Add(24*time.Hour))
	if t := wall.Add(-after); before != after && offset(wall.Add(-before)) != before && offset(t) == after {
		return t
	}
	return wall.Add(-before)
}

// timeToEpoch is time_to_epoch(text, pattern): milliseconds.
func timeToEpoch(_ *compiler, t *term, args []expr) expr {
	compiled := memo(args[1], t.args[1], compileJDK, func(p *jdkPattern) string { return p.source })
	when := args[0]
	return func(in *Input) value {
		s, ok := in.toText(when(in))
		p := compiled(in)
		if !ok || p == nil || !in.spend(1) {
			return undef
		}
		at, ok := p.parse(s)
		if !ok {
			return undef
		}
		return intValue(at.UnixMilli())
	}
}
