package iotsql

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// tokenKind is the kind of a token.
type tokenKind uint8

const (
	tokEnd tokenKind = iota
	tokName
	tokVar // @name
	tokNumber
	tokString
	tokSymbol
)

// token is one word of a statement. at and end are byte offsets into the source.
type token struct {
	kind    tokenKind
	text    string // a string's value, a variable's name without @, else the source text
	at, end int
}

// is says whether the token is the symbol s.
func (t token) is(s string) bool { return t.kind == tokSymbol && t.text == s }

// word says whether the token is the keyword w (upper case), in any case.
func (t token) word(w string) bool {
	return t.kind == tokName && len(t.text) == len(w) && strings.EqualFold(t.text, w)
}

// describe names the token in an error.
func (t token) describe() string {
	switch t.kind {
	case tokEnd:
		return "the end"
	case tokString:
		return "a string"
	case tokVar:
		return "@" + short(t.text)
	}
	return short(t.text)
}

func short(s string) string {
	if len(s) <= 40 {
		return s
	}
	return strings.ToValidUTF8(s[:40], "") + "…"
}

type lexer struct {
	src string
	at  int
}

// symbols, the longer ones first.
var symbols = [...]string{"<>", "!=", ">=", "<=", "=", ">", "<", "+", "-", "*", "/", "%", "(", ")", "[", "]", "{", "}", ",", ".", ":"}

// next reads the next token.
func (l *lexer) next() (token, *SyntaxError) {
	for l.at < len(l.src) && strings.IndexByte(" \t\r\n\f\v", l.src[l.at]) >= 0 {
		l.at++
	}
	start := l.at
	if start == len(l.src) {
		return token{kind: tokEnd, at: start, end: start}, nil
	}
	c := l.src[start]
	switch {
	case c == '\'' || c == '"':
		return l.str(c)
	case c >= '0' && c <= '9':
		return l.number()
	case c == '@':
		l.at++
		for l.at < len(l.src) && isWord(l.src[l.at]) {
			l.at++
		}
		name := l.src[start+1 : l.at]
		if name == "" || len(name) > 64 {
			return token{}, l.fail(start, "a variable is @ and 1 to 64 letters, digits or _")
		}
		return token{tokVar, name, start, l.at}, nil
	}
	if r, size := utf8.DecodeRuneInString(l.src[start:]); isNameStart(r) {
		for {
			l.at += size
			r, size = utf8.DecodeRuneInString(l.src[l.at:])
			if size == 0 || !isNameStart(r) && !unicode.IsDigit(r) {
				return token{tokName, l.src[start:l.at], start, l.at}, nil
			}
		}
	}
	for _, s := range symbols {
		if strings.HasPrefix(l.src[start:], s) {
			l.at += len(s)
			return token{tokSymbol, s, start, l.at}, nil
		}
	}
	r, _ := utf8.DecodeRuneInString(l.src[start:])
	return token{}, l.fail(start, "the character %q means nothing here", r)
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func isNameStart(r rune) bool { return r == '_' || unicode.IsLetter(r) }

// str reads a string. Both kinds of quotes make a string; a doubled quote stands for one.
func (l *lexer) str(quote byte) (token, *SyntaxError) {
	start := l.at
	var b strings.Builder
	from := start + 1
	for i := from; ; {
		n := strings.IndexByte(l.src[i:], quote)
		if n < 0 {
			return token{}, l.fail(start, "the string that begins here has no closing %c", quote)
		}
		i += n
		if i+1 < len(l.src) && l.src[i+1] == quote {
			b.WriteString(l.src[from : i+1])
			i += 2
			from = i
			continue
		}
		l.at = i + 1
		if b.Len() == 0 {
			return token{tokString, l.src[from:i], start, l.at}, nil
		}
		b.WriteString(l.src[from:i])
		return token{tokString, b.String(), start, l.at}, nil
	}
}

func (l *lexer) number() (token, *SyntaxError) {
	start := l.at
	i := digitsEnd(l.src, start)
	if i < len(l.src) && l.src[i] == '.' {
		end := digitsEnd(l.src, i+1)
		if end == i+1 {
			return token{}, l.fail(i, "a decimal point needs digits behind it")
		}
		i = end
	}
	if i < len(l.src) && l.src[i]|0x20 == 'e' {
		e := i + 1
		if e < len(l.src) && (l.src[e] == '-' || l.src[e] == '+') {
			e++
		}
		end := digitsEnd(l.src, e)
		if end == e {
			return token{}, l.fail(i, "an exponent needs digits")
		}
		i = end
	}
	if r, size := utf8.DecodeRuneInString(l.src[i:]); size > 0 && isNameStart(r) {
		return token{}, l.fail(start, "a name cannot begin with a digit; for such a key write get(object, \"key\")")
	}
	l.at = i
	return token{tokNumber, l.src[start:i], start, i}, nil
}

// filter reads a topic filter without quotes, up to the next space.
func (l *lexer) filter(from int) token {
	end := from
	for end < len(l.src) && strings.IndexByte(" \t\r\n", l.src[end]) < 0 {
		end++
	}
	l.at = end
	return token{tokString, l.src[from:end], from, end}
}

func (l *lexer) fail(at int, format string, args ...any) *SyntaxError {
	return syntaxError(l.src, at, format, args...)
}
