package iotsql

import (
	"errors"
	"strconv"
	"strings"
	"unicode"
)

// errPattern is what a pattern that Java would refuse is refused with; nobody gets to
// see more than Undefined.
var errPattern = errors.New("iotsql: bad pattern")

const (
	maxPattern = 8 << 10 // characters
	maxGroups  = 100     // nesting
	maxRepeat  = 1 << 16
)

// regexFlags are the flags of Java's Pattern that change what an expression means.
type regexFlags struct{ fold, unicode, lines, multi, dotAll, comments bool }

// translator rewrites a pattern of java.util.regex.Pattern (JDK 11) for regexp2, which
// speaks .NET's dialect. Classes, case folding and line ends are written out, because the
// two mean different things by \d, \w, ., $ and (?i); what stays are the constructs they
// share. All capturing groups become unnamed ones, so that numbers count as in Java.
type translator struct {
	src    []rune
	at     int
	flags  regexFlags
	depth  int
	groups int
	names  map[string]int
}

// translate gives the rewritten pattern, the names of its groups, and, when the pattern is
// nothing but a text, that text.
func translate(pattern string) (out string, groups int, names map[string]int, literal string, err error) {
	t := &translator{src: []rune(unquote(pattern)), names: map[string]int{}}
	if len(t.src) > maxPattern {
		return "", 0, nil, "", errPattern
	}
	if !strings.ContainsAny(pattern, `\^$.|?*+()[]{}`) {
		literal = pattern
	}
	out, err = t.alternatives()
	if err == nil && t.at < len(t.src) {
		err = errPattern // a ) too many
	}
	return out, t.groups, t.names, literal, err
}

// unquote replaces \Q…\E by the escaped characters.
func unquote(p string) string {
	if !strings.Contains(p, `\Q`) {
		return p
	}
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if p[i] != '\\' || i+1 == len(p) {
			b.WriteByte(p[i])
			continue
		}
		if p[i+1] != 'Q' {
			b.WriteString(p[i : i+2])
			i++
			continue
		}
		quoted, rest, _ := strings.Cut(p[i+2:], `\E`)
		for _, r := range quoted {
			if r < unicode.MaxASCII && !isWord(byte(r)) {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
		}
		i = len(p) - len(rest) - 1
	}
	return b.String()
}

func (t *translator) peek() rune {
	if t.at < len(t.src) {
		return t.src[t.at]
	}
	return -1
}

func (t *translator) has(s string) bool {
	for i, r := range []rune(s) {
		if t.at+i >= len(t.src) || t.src[t.at+i] != r {
			return false
		}
	}
	return true
}

func (t *translator) take(s string) bool {
	if t.has(s) {
		t.at += len(s)
		return true
	}
	return false
}

// blanks skips white space and comments where the x flag is on.
func (t *translator) blanks() {
	for t.flags.comments && t.at < len(t.src) {
		switch c := t.src[t.at]; {
		case c == ' ' || c >= '\t' && c <= '\r':
			t.at++
		case c == '#':
			for t.at < len(t.src) && t.src[t.at] != '\n' && t.src[t.at] != '\r' {
				t.at++
			}
		default:
			return
		}
	}
}

// alternatives reads up to a closing parenthesis or the end. Flags that change in it
// change back behind it.
func (t *translator) alternatives() (string, error) {
	if t.depth++; t.depth > maxGroups {
		return "", errPattern
	}
	flags := t.flags
	defer func() { t.flags = flags; t.depth-- }()
	var b strings.Builder
	for {
		t.blanks()
		switch t.peek() {
		case -1, ')':
			return b.String(), nil
		case '|':
			t.at++
			b.WriteByte('|')
			continue
		}
		atom, repeats, err := t.atom()
		if err != nil {
			return "", err
		}
		if repeats {
			if atom, err = t.quantified(atom); err != nil {
				return "", err
			}
		}
		b.WriteString(atom)
	}
}

// quantified reads the quantifier behind an atom, if there is one.
func (t *translator) quantified(atom string) (string, error) {
	t.blanks()
	q := ""
	switch c := t.peek(); c {
	case '?', '*', '+':
		t.at++
		q = string(c)
	case '{':
		t.at++
		lo, ok := t.count()
		if !ok {
			return "", errPattern
		}
		q = "{" + strconv.Itoa(lo)
		if t.take(",") {
			q += ","
			if t.peek() != '}' {
				hi, ok := t.count()
				if !ok || hi < lo {
					return "", errPattern
				}
				q += strconv.Itoa(hi)
			}
		}
		if !t.take("}") {
			return "", errPattern
		}
		q += "}"
	default:
		return atom, nil
	}
	switch {
	case t.take("?"):
		q += "?"
	case t.take("+"): // possessive
		return "(?>" + atom + q + ")", nil
	}
	switch t.peek() {
	case '?', '*', '+':
		return "", errPattern
	case '{':
		return t.quantified("(?:" + atom + q + ")")
	}
	return atom + q, nil
}

func (t *translator) count() (int, bool) {
	start, n := t.at, 0
	for ; t.at < len(t.src) && t.src[t.at] >= '0' && t.src[t.at] <= '9'; t.at++ {
		if n = n*10 + int(t.src[t.at]-'0'); n > maxRepeat {
			return 0, false
		}
	}
	return n, t.at > start
}

func class(s runeSet) string {
	var b strings.Builder
	s.appendClass(&b)
	return b.String()
}

// literal is one character.
func (t *translator) literal(r rune) string {
	if t.flags.fold && (t.flags.unicode || r < unicode.MaxASCII) {
		if s := (runeSet{{r, r}}).fold(t.flags.unicode); len(s) > 1 {
			return class(s)
		}
	}
	if strings.ContainsRune(`\*+?|{}[]()^$.# `, r) {
		return `\` + string(r)
	}
	return string(r)
}

func (t *translator) lineEnds() runeSet {
	if t.flags.lines {
		return runes('\n', '\n')
	}
	return javaLineEnd
}

// Where a line ends: before a line end that is the last thing in the text, before any
// line end, and behind one. A carriage return and line feed are one line end.
const (
	atLastLine      = `(?:(?=(?:\r\n|[\r\x85\u2028\u2029])?\z)|(?<!\r)(?=\n\z))`
	atLineEnd       = `(?:(?=\r\n|[\r\x85\u2028\u2029]|\z)|(?<!\r)(?=\n))`
	atLineStart     = `(?:(?:\A|(?<=[\n\x85\u2028\u2029])|(?<=\r)(?!\n))(?!\z))`
	atLastUnixLine  = `(?=\n?\z)`
	atUnixLineEnd   = `(?=\n|\z)`
	atUnixLineStart = `(?:(?:\A|(?<=\n))(?!\z))`
	anyLineBreak    = `(?:\r\n|[\n-\r\x85\u2028\u2029])`
)

// atom reads one element; repeats says that a quantifier may follow.
func (t *translator) atom() (s string, repeats bool, err error) {
	c := t.src[t.at]
	t.at++
	pick := func(unix, other string) string {
		if t.flags.lines {
			return unix
		}
		return other
	}
	switch c {
	case '(':
		return t.group()
	case '[':
		set, err := t.class()
		return class(set), true, err
	case '.':
		if t.flags.dotAll {
			return class(runes(0, unicode.MaxRune)), true, nil
		}
		return class(t.lineEnds().not()), true, nil
	case '^':
		if t.flags.multi {
			return pick(atUnixLineStart, atLineStart), true, nil
		}
		return `\A`, true, nil
	case '$':
		if t.flags.multi {
			return pick(atUnixLineEnd, atLineEnd), true, nil
		}
		return pick(atLastUnixLine, atLastLine), true, nil
	case '*', '+', '?', '{':
		return "", false, errPattern
	case '\\':
		return t.escape()
	}
	return t.literal(c), true, nil
}

// group reads what follows an opening parenthesis.
func (t *translator) group() (s string, repeats bool, err error) {
	open := "("
	before := t.flags
	if t.take("?") {
		switch {
		case t.take("="):
			open = "(?="
		case t.take("!"):
			open = "(?!"
		case t.take("<="):
			open = "(?<="
		case t.take("<!"):
			open = "(?<!"
		case t.take(">"):
			open = "(?>"
		case t.take("<"):
			name, ok := t.groupName()
			if _, twice := t.names[name]; !ok || twice {
				return "", false, errPattern
			}
			t.groups++
			t.names[name] = t.groups
		default:
			more, err := t.setFlags()
			if err != nil || !more {
				return "", false, err // flags for the rest of the group around
			}
			open = "(?:"
		}
	} else {
		t.groups++
	}
	inner, err := t.alternatives()
	t.flags = before
	if err != nil {
		return "", false, err
	}
	if !t.take(")") {
		return "", false, errPattern
	}
	return open + inner + ")", true, nil
}

func (t *translator) groupName() (string, bool) {
	start := t.at
	for t.at < len(t.src) && t.src[t.at] < unicode.MaxASCII && isWord(byte(t.src[t.at])) && t.src[t.at] != '_' {
		t.at++
	}
	name := string(t.src[start:t.at])
	return name, name != "" && (name[0] < '0' || name[0] > '9') && t.take(">")
}

// setFlags reads flags up to a colon (more is true: a group follows) or a parenthesis.
func (t *translator) setFlags() (more bool, err error) {
	on := true
	for ; t.at < len(t.src); t.at++ {
		switch t.src[t.at] {
		case 'i':
			t.flags.fold = on
		case 'd':
			t.flags.lines = on
		case 'm':
			t.flags.multi = on
		case 's':
			t.flags.dotAll = on
		case 'u':
			t.flags.unicode = on
		case 'x':
			t.flags.comments = on
		case '-':
			if !on {
				return false, errPattern
			}
			on = false
		case ':':
			t.at++
			return true, nil
		case ')':
			t.at++
			return false, nil
		default: // U would make every class another one
			return false, errPattern
		}
	}
	return false, errPattern
}

// escape reads what follows a backslash outside a class.
func (t *translator) escape() (s string, repeats bool, err error) {
	c := t.peek()
	switch {
	case c >= '1' && c <= '9':
		t.at++
		n := int(c - '0')
		for d := t.peek(); d >= '0' && d <= '9' && n*10+int(d-'0') <= t.groups; d = t.peek() {
			n = n*10 + int(d-'0')
			t.at++
		}
		return t.reference(n), true, nil
	case c == 'k':
		t.at++
		if !t.take("<") {
			return "", false, errPattern
		}
		name, ok := t.groupName()
		n, known := t.names[name]
		if !ok || !known {
			return "", false, errPattern
		}
		return t.reference(n), true, nil
	}
	same := map[rune]string{'A': `\A`, 'z': `\z`, 'b': `\b`, 'B': `\B`, 'G': `\G`, 'R': anyLineBreak, 'Z': atLastLine}
	if out, ok := same[c]; ok {
		t.at++
		if c == 'b' && t.peek() == '{' {
			return "", false, errPattern
		}
		if c == 'Z' && t.flags.lines {
			out = atLastUnixLine
		}
		return out, true, nil
	}
	r, set, err := t.escaped()
	if err != nil {
		return "", false, err
	}
	if set != nil {
		return class(t.folded(set)), true, nil
	}
	return t.literal(r), true, nil
}

// reference is a group's text again; of a group that there is not it matches nothing.
func (t *translator) reference(n int) string {
	switch {
	case n > t.groups:
		return "(?!)"
	case t.flags.fold:
		return "(?i:\\k<" + strconv.Itoa(n) + ">)"
	}
	return "\\k<" + strconv.Itoa(n) + ">"
}

func (t *translator) folded(s runeSet) runeSet {
	if t.flags.fold {
		return s.fold(t.flags.unicode)
	}
	return s
}

// escaped reads an escape that may stand in a class or outside: a character, or a set.
func (t *translator) escaped() (r rune, set runeSet, err error) {
	c := t.peek()
	t.at++
	switch c {
	case 'd':
		return 0, javaDigit, nil
	case 'D':
		return 0, javaDigit.not(), nil
	case 's':
		return 0, javaSpace, nil
	case 'S':
		return 0, javaSpace.not(), nil
	case 'w':
		return 0, javaWord, nil
	case 'W':
		return 0, javaWord.not(), nil
	case 'h':
		return 0, javaHorizontal, nil
	case 'H':
		return 0, javaHorizontal.not(), nil
	case 'v':
		return 0, javaVertical, nil
	case 'V':
		return 0, javaVertical.not(), nil
	case 'p', 'P':
		set, err := t.property()
		if c == 'P' {
			set = set.not()
		}
		return 0, set, err
	case 't':
		return '\t', nil, nil
	case 'n':
		return '\n', nil, nil
	case 'r':
		return '\r', nil, nil
	case 'f':
		return '\f', nil, nil
	case 'a':
		return '\a', nil, nil
	case 'e':
		return 0x1b, nil, nil
	case 'c':
		if c = t.peek(); c < 0 {
			return 0, nil, errPattern
		}
		t.at++
		return c ^ 64, nil, nil
	case '0':
		return t.octal()
	case 'x':
		if t.take("{") {
			r, ok := t.hex(1, 6)
			if !ok || !t.take("}") || r > unicode.MaxRune {
				return 0, nil, errPattern
			}
			return r, nil, nil
		}
		r, ok := t.hex(2, 2)
		if !ok {
			return 0, nil, errPattern
		}
		return r, nil, nil
	case 'u':
		return t.utf16()
	}
	if c < 0 || c < unicode.MaxASCII && unicode.IsLetter(c) {
		return 0, nil, errPattern
	}
	return c, nil, nil
}

func (t *translator) utf16() (rune, runeSet, error) {
	r, ok := t.hex(4, 4)
	if !ok {
		return 0, nil, errPattern
	}
	if r >= 0xd800 && r < 0xdc00 && t.take(`\u`) {
		low, ok := t.hex(4, 4)
		if !ok || low < 0xdc00 || low > 0xdfff {
			return 0, nil, errPattern
		}
		r = (r-0xd800)<<10 | (low - 0xdc00) + 0x10000
	}
	if r >= 0xd800 && r <= 0xdfff {
		return 0, nil, errPattern
	}
	return r, nil, nil
}

// octal reads \0 with up to three digits, the largest being 377.
func (t *translator) octal() (rune, runeSet, error) {
	n, digits := rune(0), 0
	for ; digits < 3; digits++ {
		d := t.peek() - '0'
		if d < 0 || d > 7 || n*8+d > 0o377 {
			break
		}
		n = n*8 + d
		t.at++
	}
	if digits == 0 {
		return 0, nil, errPattern
	}
	return n, nil, nil
}

func (t *translator) hex(least, most int) (rune, bool) {
	n, digits := rune(0), 0
	for ; digits < most && t.at < len(t.src) && t.src[t.at] < unicode.MaxASCII; digits++ {
		d := hex4(string(t.src[t.at]))
		if d < 0 {
			break
		}
		n = n<<4 | d
		t.at++
	}
	return n, digits >= least
}

func (t *translator) property() (runeSet, error) {
	name := ""
	if t.take("{") {
		start := t.at
		for t.peek() != '}' {
			if t.at >= len(t.src) {
				return nil, errPattern
			}
			t.at++
		}
		name = string(t.src[start:t.at])
		t.at++
	} else if t.at < len(t.src) {
		name = string(t.src[t.at])
		t.at++
	}
	set, ok := javaProperty(name)
	if !ok {
		return nil, errPattern
	}
	return set, nil
}

// class reads a character class behind its opening bracket: unions, ranges, classes in
// classes, and && between them.
func (t *translator) class() (runeSet, error) {
	if t.depth++; t.depth > maxGroups {
		return nil, errPattern
	}
	defer func() { t.depth-- }()
	negated := t.take("^")
	var set, part runeSet
	var whole, started bool // whole: set holds what stands before the last &&
	for {
		t.blanks()
		c := t.peek()
		switch {
		case c < 0:
			return nil, errPattern
		case c == ']' && started:
			t.at++
			if whole {
				part = set.and(part)
			}
			if negated {
				part = part.not()
			}
			return part, nil
		case t.take("&&"):
			for t.take("&&") { // as in Java more of them mean nothing, nor one with nothing before it
			}
			if !started {
				continue
			}
			if whole {
				part = set.and(part)
			}
			if t.blanks(); t.peek() == ']' {
				continue // nothing behind it
			}
			set, part, whole = part, nil, true
			continue
		case c == '[':
			t.at++
			inner, err := t.class()
			if err != nil {
				return nil, err
			}
			part = part.or(inner)
		default:
			some, err := t.classRange()
			if err != nil {
				return nil, err
			}
			part = part.or(t.folded(some))
		}
		started = true
	}
}

// classChar reads one character or set of a class.
func (t *translator) classChar() (rune, runeSet, error) {
	c := t.src[t.at]
	t.at++
	if c == '\\' {
		return t.escaped()
	}
	return c, nil, nil
}

func (t *translator) classRange() (runeSet, error) {
	lo, set, err := t.classChar()
	if err != nil || set != nil {
		return set, err
	}
	t.blanks()
	if t.peek() != '-' || t.at+1 >= len(t.src) || t.src[t.at+1] == ']' || t.src[t.at+1] == '[' {
		return runes(lo, lo), nil
	}
	t.at++
	t.blanks()
	if t.at >= len(t.src) {
		return nil, errPattern
	}
	hi, set, err := t.classChar()
	if err != nil {
		return nil, err
	}
	if set != nil || hi < lo {
		return nil, errPattern
	}
	return runes(lo, hi), nil
}
