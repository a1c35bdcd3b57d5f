package awstopic

import "strings"

// entry is one topic of the table, its alternatives chosen.
type entry struct {
	dir    int
	topic  Topic    // what the pattern itself says
	fields []byte   // which field each placeholder fills, in order
	text   []string // what stands around the placeholders: one more than fields
}

// node is a level of the tree all entries make.
type node struct {
	literal map[string]*node
	prefix  string // a level that begins so and goes on, see prefixed
	next    *node
	any     *node  // a placeholder of one level
	end     *entry // the topic that ends here
	rest    *entry // the one whose last placeholder takes this level and all behind it
}

var root, entries = grow()

// key names an entry for building: the fields a caller fills in by choice, and which
// others a topic of that kind has.
type key struct {
	service Service
	op      Op
	reply   Reply
	format  Format
	named   bool
	rest    bool
}

func (t *Topic) key() key {
	return key{t.Service, t.Op, t.Reply, t.Format, t.Name != "", t.Rest != ""}
}

// grow makes the tree and the index of the table.
func grow() (*node, map[key]*entry) {
	top, index := &node{}, map[key]*entry{}
	for _, row := range table {
		for _, e := range expand(row.pattern) {
			e.dir, e.topic.Service = row.dir, row.service
			e.plant(top, index)
		}
	}
	return top, index
}

type choice struct {
	pattern string
	topic   Topic
}

// expand writes out the alternatives of a pattern.
func expand(pattern string) []*entry {
	open := []choice{{pattern: strings.ReplaceAll(pattern, "<f>", "<f:json,cbor>")}}
	var done []*entry
	for len(open) > 0 {
		c := open[0]
		open = open[1:]
		before, behind, more := strings.Cut(c.pattern, "<")
		if !more {
			if c.topic.Op == "" && strings.HasSuffix(c.pattern, "jobs/{*}") {
				c.topic.Op = Unknown
			} else if strings.Contains(c.pattern, "notify-namespace-") {
				c.topic.Op = Notify
			}
			done = append(done, &entry{topic: c.topic, text: []string{c.pattern}})
			continue
		}
		list, behind, _ := strings.Cut(behind, ">")
		what, words, _ := strings.Cut(list, ":")
		for _, w := range strings.Split(words, ",") {
			next := choice{before + w + behind, c.topic}
			switch what {
			case "op":
				next.topic.Op = Op(w)
			case "re":
				next.topic.Reply = Reply(w)
			case "f":
				next.topic.Format = Format(w)
			}
			open = append(open, next)
		}
	}
	return done
}

// plant puts the entry into the tree and the index and takes its pattern apart.
func (e *entry) plant(n *node, index map[key]*entry) {
	pattern := e.text[0]
	k := e.topic.key()
	e.text = []string{Prefix}
	piece := func(s string) { e.text[len(e.text)-1] += s }
	for i, level := range strings.Split(pattern, "/") {
		if i > 0 {
			piece("/")
		}
		at := strings.IndexByte(level, '{')
		if at < 0 {
			piece(level)
			n = n.child(level)
			continue
		}
		piece(level[:at])
		f := level[at+1]
		e.fields = append(e.fields, f)
		e.text = append(e.text, "")
		k.named = k.named || f == 'n'
		k.rest = k.rest || f == '*' || f == 'r'
		switch {
		case f == '*':
			n.rest = e
		case at > 0:
			if n.next == nil {
				n.prefix, n.next = level[:at], &node{}
			}
			n = n.next
		default:
			if n.any == nil {
				n.any = &node{}
			}
			n = n.any
		}
	}
	if !strings.HasSuffix(pattern, "{*}") {
		n.end = e
	}
	if index[k] != nil {
		panic("BUG: awstopic: two topics are alike: " + pattern)
	}
	index[k] = e
}

func (n *node) child(level string) *node {
	if n.literal == nil {
		n.literal = map[string]*node{}
	}
	if n.literal[level] == nil {
		n.literal[level] = &node{}
	}
	return n.literal[level]
}

// names are the levels that placeholders took, in order.
type names [4]string

// find looks a topic up.
func find(topic string) (*entry, names) {
	var got names
	rest, ok := strings.CutPrefix(topic, Prefix)
	if !ok || rest == "" {
		return nil, got
	}
	return root.find(rest, true, 0, &got), got
}

// find looks up what is left of a topic below n; more is false when nothing is, not
// even an empty level. n names have been taken so far.
func (n *node) find(rest string, more bool, taken int, got *names) *entry {
	if !more {
		return n.end
	}
	level, behind, more := strings.Cut(rest, "/")
	if c := n.literal[level]; c != nil {
		if e := c.find(behind, more, taken, got); e != nil {
			return e
		}
	}
	if n.next != nil && len(level) > len(n.prefix) && strings.HasPrefix(level, n.prefix) {
		if e := n.next.find(behind, more, taken+1, got); e != nil {
			got[taken] = level[len(n.prefix):]
			return e
		}
	}
	if n.any != nil && level != "" {
		if e := n.any.find(behind, more, taken+1, got); e != nil {
			got[taken] = level
			return e
		}
	}
	if n.rest != nil && rest != "" {
		got[taken] = rest
		return n.rest
	}
	return nil
}

// subscribable says whether filter, the part of one below n, can match a topic that is
// delivered to clients.
func (n *node) subscribable(filter string) bool {
	if filter == "#" {
		return n.anySubscribable()
	}
	if n.rest != nil && n.rest.dir&sub != 0 {
		return true
	}
	level, behind, more := strings.Cut(filter, "/")
	try := func(c *node) bool {
		switch {
		case c == nil:
			return false
		case more:
			return c.subscribable(behind)
		}
		return c.end != nil && c.end.dir&sub != 0
	}
	if level == "+" {
		for _, c := range n.literal {
			if try(c) {
				return true
			}
		}
		return try(n.next) || try(n.any)
	}
	return try(n.literal[level]) || level != "" && try(n.any) ||
		len(level) > len(n.prefix) && strings.HasPrefix(level, n.prefix) && try(n.next)
}

func (n *node) anySubscribable() bool {
	if n == nil {
		return false
	}
	for _, e := range []*entry{n.end, n.rest} {
		if e != nil && e.dir&sub != 0 {
			return true
		}
	}
	for _, c := range n.literal {
		if c.anySubscribable() {
			return true
		}
	}
	return n.next.anySubscribable() || n.any.anySubscribable()
}
