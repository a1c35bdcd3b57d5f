package indexquery

import "strings"

// node is a part of a query.
type node interface{ match(Document) bool }

type (
	andNode  []node
	orNode   []node
	notNode  struct{ node }
	allNode  struct{}
	existing struct{ field string }
)

func (n andNode) match(d Document) bool {
	for _, e := range n {
		if !e.match(d) {
			return false
		}
	}
	return true
}

func (n orNode) match(d Document) bool {
	for _, e := range n {
		if e.match(d) {
			return true
		}
	}
	return false
}

func (n notNode) match(d Document) bool  { return !n.node.match(d) }
func (allNode) match(Document) bool      { return true }
func (n existing) match(d Document) bool { return len(d.Values(n.field)) > 0 }

// anyValue asks the values of a field, or all of them without a field.
func anyValue(d Document, field string, ok func(Value) bool) bool {
	if field != "" {
		for _, v := range d.Values(field) {
			if ok(v) {
				return true
			}
		}
		return false
	}
	found := false
	d.Each(func(v Value) bool {
		found = ok(v)
		return !found
	})
	return found
}

// termNode looks for a word, a word with wildcards, consecutive words, or a
// number.
type termNode struct {
	field  string
	words  []string
	glob   []rune
	number float64
	isNum  bool
}

// node makes what a term asks of a field.
func (t *term) node(field string) node {
	if t.star() {
		if field == "" {
			return allNode{}
		}
		return existing{field}
	}
	n := &termNode{field: field, glob: t.glob, words: strings.Fields(strings.ToLower(t.text))}
	n.number, n.isNum = t.number()
	return n
}

func (n *termNode) match(d Document) bool { return anyValue(d, n.field, n.fits) }

func (n *termNode) fits(v Value) bool {
	if n.isNum && v.isNum {
		return v.number == n.number
	}
	if n.glob == nil && len(n.words) == 1 && len(v.text) <= len(n.words[0]) {
		return v.text == n.words[0] // there is no room for another word
	}
	words := strings.Fields(v.text)
	if n.glob != nil {
		for _, w := range words {
			if globMatch(n.glob, []rune(w)) {
				return true
			}
		}
		return false
	}
	if len(n.words) == 0 {
		return len(words) == 0
	}
	for i := 0; i+len(n.words) <= len(words); i++ {
		hit := true
		for j, w := range n.words {
			if words[i+j] != w {
				hit = false
				break
			}
		}
		if hit {
			return true
		}
	}
	return false
}

// globMatch compares a word with a pattern. Only the last run is given back, so
// the work is at most the product of the lengths.
func globMatch(p, s []rune) bool {
	i, j, star, mark := 0, 0, -1, 0
	for j < len(s) {
		switch {
		case i < len(p) && p[i] == anyRun:
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == anyOne || p[i] == s[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i] == anyRun {
		i++
	}
	return i == len(p)
}

// rangeNode asks for a value between two bounds: by number when the bounds are
// numbers, else by text.
type rangeNode struct {
	field             string
	low, high         bound
	openLow, openHigh bool
	lowIn, highIn     bool
	numeric           bool
}

type bound struct {
	text   string
	number float64
}

func (n *rangeNode) match(d Document) bool { return anyValue(d, n.field, n.fits) }

func (n *rangeNode) fits(v Value) bool {
	if n.numeric {
		if !v.isNum {
			return false
		}
		return (n.openLow || v.number > n.low.number || n.lowIn && v.number == n.low.number) &&
			(n.openHigh || v.number < n.high.number || n.highIn && v.number == n.high.number)
	}
	for _, w := range strings.Fields(v.text) {
		if (n.openLow || w > n.low.text || n.lowIn && w == n.low.text) &&
			(n.openHigh || w < n.high.text || n.highIn && w == n.high.text) {
			return true
		}
	}
	return false
}
